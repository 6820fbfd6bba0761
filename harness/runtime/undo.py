"""Undo as data: how to take back each deed, on disk before the deed is done.

The journal is a file of JSON lines in the run's folder. Several processes append to it, and any of them can
do what is left in it: the harness at the end of a run, the guardian when the harness is gone, a later
command when both are.

The order: first every proxy is healed and every control group removed, since a fault that is left on does harm for as
long as anything else takes; then all processes are ended, all at once, since they do not wait for each other; then containers
are removed, since one of those processes may have been making them; then folders
are removed, since processes write into them until their end. Within one kind the newest comes first. A
proxy engine that would not heal, and a control group that would not go, is asked again when the processes have been
ended: one that is gone holds no fault any more.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, assert_never
from urllib.parse import urlsplit

from harness.history.events import UndoDone, UndoFailed
from harness.history.store import append_line, read_lines
from harness.runtime.ending import EndProcessGroup, end_process_groups, free_shared_memory, kill_dwellers, started_at

__all__ = [
    "EndProcessGroup",
    "RemoveControlGroup",
    "RemoveFolder",
    "RemoveProject",
    "RestoreProxies",
    "Undo",
    "UndoJournal",
    "Undone",
    "describe",
    "make_run_folder",
]

HEAL_SECONDS = 1.0
"""How long a proxy engine may take to heal everything."""

REMOVE_TRIES = 5
"""Whoever was killed in a folder may write into it once more."""

FOLDER_PREFIX = "chaos-"
OWNER = ".harness"
"""In such a folder, a file with the number of the process that made it, and when that was started."""


@dataclass(frozen=True, slots=True)
class RestoreProxies:
    """Heal everything on the proxy engine whose control API is at this URL. One that is gone holds no fault."""

    control: str


@dataclass(frozen=True, slots=True)
class RemoveFolder:
    """Remove a folder of the run, with whoever still works in it; only one named `chaos-…` among the temporary files."""

    path: str


@dataclass(frozen=True, slots=True)
class RemoveProject:
    """Remove the containers, networks and volumes of a run from the Docker engine at `host`.

    `certificates` is the folder of DOCKER_CERT_PATH where that engine is reached by TLS.
    """

    project: str
    host: str
    certificates: str


@dataclass(frozen=True, slots=True)
class RemoveControlGroup:
    """Remove a control group of the run, with the limits in it; who is in it goes back to the group at `back`."""

    path: str
    back: str


Undo: TypeAlias = EndProcessGroup | RestoreProxies | RemoveProject | RemoveFolder | RemoveControlGroup
KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in Undo.__args__}
U = TypeVar("U", bound=Undo)


def describe(undo: Undo) -> str:
    """The undo in words, as the history tells it."""
    match undo:
        case EndProcessGroup(pid=pid, name=name):
            return f"end {name} (pid {pid})"
        case RestoreProxies(control=control):
            return f"heal every proxy of {control}"
        case RemoveProject(project=project, host=host):
            return f"remove the containers, networks and volumes of {project} at {host}"
        case RemoveFolder(path=path):
            return f"remove {path}"
        case RemoveControlGroup(path=path):
            return f"remove the control group {path}"
        case _:
            assert_never(undo)


@dataclass(frozen=True, slots=True)
class Undone:
    """What came of undoing everything."""

    done: int
    failed: int


class UndoJournal:
    """The undos of one run, in a file that several processes share; none of them need be there at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def before(self, undo: Undo) -> str:
        """Write down how to take back what is about to be done; the answer names it for `done`."""
        name = uuid.uuid4().hex
        append_line(self.descriptor, {"id": name, "undo": type(undo).__name__, **asdict(undo)})
        return name

    def before_start_of(self, name: str, first_signal: int) -> bytes:
        """The line of an EndProcessGroup up to `pid` and `started`, which only the process itself can fill in.

        It appends `"pid":…,"started":…}` and a line end to this, and writes it with one write to `descriptor`.
        """
        known = {"id": uuid.uuid4().hex, "undo": EndProcessGroup.__name__, "name": name, "signal": int(first_signal)}
        return json.dumps(known).removesuffix("}").encode() + b', "pid": '

    def done(self, name: str) -> None:
        """What this undo would take back has been taken back by other means."""
        append_line(self.descriptor, {"done": name})

    def left(self) -> dict[str, Undo]:
        """What is still to be undone, newest first."""
        return left_in(self.path)

    def undo_all(self, record: Callable[[UndoDone | UndoFailed], None], by: str = "harness") -> Undone:
        """Do everything that is left, whatever fails on the way; what failed stays in the journal."""
        done = failed = 0
        left = self.left()
        for name, reason in _carry_out(left).items():
            if reason is None:
                self.done(name)
                done += 1
                record(UndoDone(time.time(), describe(left[name]), by))
            else:
                failed += 1
                record(UndoFailed(time.time(), describe(left[name]), reason, by))
        return Undone(done, failed)

    def close(self) -> None:
        """Nothing more is written by this process."""
        os.close(self.descriptor)


def left_in(path: Path) -> dict[str, Undo]:
    """What a journal says is still to be undone, newest first. Kinds of a later version are left to it."""
    found: dict[str, Undo] = {}
    for data in read_lines(path):
        if "done" in data:
            found.pop(str(data["done"]), None)
        elif (undo := _undo_from_data(data)) is not None:
            found[str(data["id"])] = undo
    return dict(reversed(found.items()))


def undo_now(undos: Sequence[Undo]) -> list[str]:
    """Undo what no journal tells of; why some of it is left."""
    return [reason for reason in _carry_out({str(number): undo for number, undo in enumerate(undos)}).values() if reason]


def make_run_folder(journal: UndoJournal) -> Path:
    """A folder for the temporary files of one run, which goes with the run.

    Other users may pass through it, since a database that is run for root is run by one of them, but not look.
    """
    folder = Path(tempfile.gettempdir()).resolve() / f"{FOLDER_PREFIX}{uuid.uuid4().hex[:12]}"
    journal.before(RemoveFolder(str(folder)))
    folder.mkdir(mode=0o700)
    (folder / OWNER).write_text(f"{os.getpid()} {started_at(os.getpid()) or 0}", encoding="ascii")
    folder.chmod(0o711)
    return folder


def _undo_from_data(data: dict[str, Any]) -> Undo | None:
    kind = KINDS.get(str(data.get("undo")))
    if kind is None or data.keys() != {"id", "undo", *(part.name for part in fields(kind))}:
        return None
    undo: Undo = kind(**{part.name: data[part.name] for part in fields(kind)})
    return undo


def _of(left: Mapping[str, Undo], kind: type[U]) -> dict[str, U]:
    return {name: undo for name, undo in left.items() if isinstance(undo, kind)}


def _carry_out(left: Mapping[str, Undo]) -> dict[str, str | None]:
    """Why each undo failed, None where it did not."""
    outcome: dict[str, str | None] = {}
    engines, groups = _of(left, RestoreProxies), _of(left, RemoveControlGroup)
    outcome.update({name: _restore(engine) for name, engine in engines.items()})
    outcome.update({name: _remove_group(group) for name, group in groups.items()})
    outcome.update(_end(_of(left, EndProcessGroup)))
    outcome.update({name: _remove_project(project) for name, project in _of(left, RemoveProject).items()})
    outcome.update({name: _restore(engine) for name, engine in engines.items() if outcome[name] is not None})
    outcome.update({name: _remove_group(group) for name, group in groups.items() if outcome[name] is not None})
    outcome.update({name: _remove(folder) for name, folder in _of(left, RemoveFolder).items()})
    return outcome


def _end(groups: Mapping[str, EndProcessGroup]) -> dict[str, str | None]:
    if not groups:
        return {}
    try:
        still_there = end_process_groups(tuple(groups.values()))
    except (OSError, ValueError) as error:
        return {name: f"the process table could not be read: {error}" for name in groups}
    return {name: still_there.get(group) for name, group in groups.items()}


def _restore(engine: RestoreProxies) -> str | None:
    from http.client import HTTPException

    from harness.runtime.bounded import BoundedConnection

    control = urlsplit(engine.control)
    connection = BoundedConnection(control.hostname or "", control.port, timeout=HEAL_SECONDS)
    try:
        connection.request("POST", "/reset", headers={"Content-Length": "0"})
        status = connection.getresponse().status
    except ConnectionRefusedError:
        return None
    except (OSError, HTTPException) as error:
        return f"expected POST {engine.control}/reset to be answered within {HEAL_SECONDS:g} s, found {error!r}"
    finally:
        connection.close()
    return None if status < 300 else f"expected POST {engine.control}/reset to heal, found status {status}"


def _remove_project(undo: RemoveProject) -> str | None:
    from harness.runtime.containers.removal import remove_project

    return remove_project(undo.project, undo.host, undo.certificates)


def _remove_group(undo: RemoveControlGroup) -> str | None:
    from harness.runtime.services.control_groups import remove_group

    return remove_group(undo.path, undo.back)


def _remove(undo: RemoveFolder) -> str | None:
    folder = Path(undo.path)
    temporary = Path(tempfile.gettempdir()).resolve()
    if folder.is_symlink() or folder.parent.resolve() != temporary or not folder.name.startswith(FOLDER_PREFIX):
        return f"expected a folder {FOLDER_PREFIX}… in {temporary}; nothing else is ever removed"
    for _ in range(REMOVE_TRIES):
        kill_dwellers(folder)
        free_shared_memory(folder)
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = str(error)
            time.sleep(0.05)
    return reason
