"""Undo as data: how to take back each deed, on disk before the deed is done.

The journal is a file of JSON lines in the run's folder. Several processes append to it, and any of them can
do what is left in it: the harness at the end of a run, the guardian when the harness is gone, a later
command when both are.

The order: first every proxy is healed, every control group removed and every container relieved, since a fault that is
left on does harm for as long as anything else takes; then all processes are ended, all at once, since they do not wait
for each other; then containers are removed, since one of those processes may have been making them; then folders are
removed, since processes write into them until their end. Within one kind the newest comes first. A proxy engine that
would not heal, and a control group that would not go, is asked again when the processes have been ended: one that is
gone holds no fault any more.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeAlias, TypeVar, assert_never
from urllib.parse import urlsplit

from harness.errors import CannotRecord, CouldNotRun
from harness.history.events import UndoDone, UndoFailed
from harness.history.shapes import Misfit, fitting
from harness.history.store import append_line, read_lines
from harness.runtime.ending import (
    GRACE_SECONDS,
    KILL_SECONDS,
    EndProcessGroup,
    end_process_groups,
    free_shared_memory,
    kill_dwellers,
    started_at,
)

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

GROUP_SECONDS = 10.0
"""How long a control group, or a folder, may take to be gone."""

PROCESSES_SECONDS = GRACE_SECONDS + KILL_SECONDS + 5.0
PROJECT_SECONDS = 90.0
RELIEF_SECONDS = 5.0
"""Beyond what each may take by itself: whatever hangs, the rest is undone."""

START_SECONDS = 2.0
"""How long a start that is under way is waited for."""

REMOVE_TRIES = 5
"""Whoever was killed in a folder may write into it once more."""

FOLDER_PREFIX = "chaos-"
OWNER = ".harness"
"""In such a folder, a file with the number of the process that made it, when that was started, and its machine's name."""


@dataclass(frozen=True, slots=True)
class RestoreProxies:
    """Heal everything on the proxy engine whose control API is at this URL. One that is gone holds no fault.

    `token_file` holds what the engine asks of whoever changes something, "" where it asks nothing.
    """

    control: str
    token_file: str = ""


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
        end_last_line(path)
        self.descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._starting = Lock()
        self._sealed = False

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

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Something is started by this process meanwhile; refused once everything is being undone."""
        with self._starting:
            if self._sealed:
                raise CouldNotRun("nothing more is started: the run is being undone")
            yield

    def seal(self) -> None:
        """Nothing more is started by this process: a thread that nobody waits for any more may still want to."""
        self._sealed = True
        if self._starting.acquire(timeout=START_SECONDS):  # one that is under way is on disk when it is over
            self._starting.release()

    def done(self, name: str) -> None:
        """What this undo would take back has been taken back by other means."""
        append_line(self.descriptor, {"done": name})

    def left(self) -> dict[str, Undo]:
        """What is still to be undone, newest first."""
        return left_in(self.path)

    def undo_all(self, record: Callable[[UndoDone | UndoFailed], None], by: str = "harness") -> Undone:
        """Do everything that is left, whatever fails on the way; what failed stays in the journal."""
        self.seal()
        left, failed, unrecorded = self.left(), 0, list[Exception]()
        for name, reason in _carry_out(left):
            now, what = time.time(), describe(left[name])
            failed += reason is not None
            if reason is None:
                with suppress(CannotRecord):  # on a disk that is full it stays in the journal: undoing twice is undoing once
                    self.done(name)
            try:
                record(UndoDone(now, what, by) if reason is None else UndoFailed(now, what, reason, by))
            except Exception as error:  # raised when everything is undone
                unrecorded.append(error)
        if unrecorded:
            raise unrecorded[0]
        return Undone(len(left) - failed, failed)

    def close(self) -> None:
        """Nothing more is written by this process."""
        os.close(self.descriptor)


def end_last_line(path: Path) -> None:
    """End a line that somebody was killed in, so that it spoils no other one."""
    with suppress(FileNotFoundError):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                os.write(file, b"\n")
        finally:
            os.close(file)


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
    return [reason for _, reason in _carry_out({str(number): undo for number, undo in enumerate(undos)}) if reason]


def make_run_folder(journal: UndoJournal) -> Path:
    """A folder for the temporary files of one run, which goes with the run.

    Other users may pass through it, since a database that is run for root is run by one of them, but not look.
    """
    folder = Path(tempfile.gettempdir()).resolve() / f"{FOLDER_PREFIX}{uuid.uuid4().hex[:12]}"
    journal.before(RemoveFolder(str(folder)))
    folder.mkdir(mode=0o700)
    (folder / OWNER).write_text(f"{os.getpid()} {started_at(os.getpid()) or 0} {socket.gethostname()}", encoding="utf-8")
    folder.chmod(0o711)
    return folder


def _undo_from_data(data: dict[str, Any]) -> Undo | None:
    kind = KINDS.get(str(data.get("undo")))
    if kind is None or "id" not in data or not data.keys() <= {"id", "undo", *(part.name for part in fields(kind))}:
        return None
    try:
        undo: Undo = kind(**fitting(kind, data))
    except Misfit:
        return None  # somebody damaged it: what it would have undone nobody can tell
    return undo if not isinstance(undo, EndProcessGroup) or _can_be_ended(undo) else None


def _can_be_ended(group: EndProcessGroup) -> bool:
    return group.pid > 1 and group.signal in signal.valid_signals()


def _of(left: Mapping[str, Undo], kind: type[U]) -> dict[str, U]:
    return {name: undo for name, undo in left.items() if isinstance(undo, kind)}


Outcome: TypeAlias = tuple[str, str | None]
"""The name of an undo, and why it failed; None where it did not."""


def _carry_out(left: Mapping[str, Undo]) -> Iterator[Outcome]:
    """Do all of them, and tell of each when it is done, or given up."""
    engines, groups = _of(left, RestoreProxies), _of(left, RemoveControlGroup)
    undone = set()
    for name, reason in chain(_each(engines, _restore, 2 * HEAL_SECONDS), _each(groups, _remove_group, GROUP_SECONDS)):
        if reason is None:
            undone.add(name)
            yield name, None
    for project in _of(left, RemoveProject).values():
        _within(RELIEF_SECONDS, partial(_relieve, project))
    yield from _end(_of(left, EndProcessGroup))
    yield from _each(_of(left, RemoveProject), _remove_project, PROJECT_SECONDS)
    yield from _each(_without(engines, undone), _restore, 2 * HEAL_SECONDS)
    yield from _each(_without(groups, undone), _remove_group, GROUP_SECONDS)
    yield from _each(_of(left, RemoveFolder), _remove, GROUP_SECONDS)


def longest(left: Mapping[str, Undo]) -> float:
    """For how many seconds `undo_all` may be at it."""
    engines, groups, folders = _of(left, RestoreProxies), _of(left, RemoveControlGroup), _of(left, RemoveFolder)
    small = 4 * HEAL_SECONDS * len(engines) + GROUP_SECONDS * (2 * len(groups) + len(folders))
    return START_SECONDS + small + PROCESSES_SECONDS + (RELIEF_SECONDS + PROJECT_SECONDS) * len(_of(left, RemoveProject))


def _without(undos: Mapping[str, U], undone: set[str]) -> dict[str, U]:
    return {name: undo for name, undo in undos.items() if name not in undone}


def _each(undos: Mapping[str, U], deed: Callable[[U], str | None], seconds: float) -> Iterator[Outcome]:
    for name, undo in undos.items():
        yield name, _within(seconds, partial(deed, undo))


def _within(seconds: float, deed: Callable[[], str | None]) -> str | None:
    """What it answers, or that it does not: what hangs is left behind, and keeps nothing else from being undone."""
    answers: list[str | None] = []

    def answer() -> None:
        try:
            answers.append(deed())
        except Exception as error:  # the next undo is done all the same
            answers.append(f"{type(error).__name__}: {error}")

    worker = Thread(target=answer, daemon=True, name="undo")
    worker.start()
    worker.join(seconds)
    return answers[0] if answers else f"expected its end within {seconds:g} s, found it at work"


def _end(groups: Mapping[str, EndProcessGroup]) -> Iterator[Outcome]:
    still_there: dict[EndProcessGroup, str] = {}

    def end() -> None:
        still_there.update(end_process_groups(tuple(groups.values())))

    why_not = _within(PROCESSES_SECONDS, end) if groups else None
    yield from ((name, why_not or still_there.get(group)) for name, group in groups.items())


def _restore(engine: RestoreProxies) -> str | None:
    from http.client import HTTPException

    from harness.runtime.bounded import BoundedConnection

    control = urlsplit(engine.control)
    connection = BoundedConnection(control.hostname or "", control.port, timeout=HEAL_SECONDS)
    try:
        connection.request("POST", "/reset", headers={"Content-Length": "0", **_proof(engine.token_file)})
        status = connection.getresponse().status
    except ConnectionRefusedError:
        return None
    except (OSError, HTTPException) as error:
        return f"expected POST {engine.control}/reset to be answered within {HEAL_SECONDS:g} s, found {error!r}"
    finally:
        connection.close()
    return None if status < 300 else f"expected POST {engine.control}/reset to heal, found status {status}"


def _proof(token_file: str) -> dict[str, str]:
    if not token_file:
        return {}
    try:
        return {"Authorization": f"Bearer {Path(token_file).read_text(encoding='ascii')}"}
    except (OSError, ValueError):  # its folder is gone, and with it the engine
        return {}


def _relieve(undo: RemoveProject) -> None:
    from harness.runtime.containers.removal import relieve_project

    relieve_project(undo.project, undo.host, undo.certificates)


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
