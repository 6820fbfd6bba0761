"""Undoing: what each undo takes, in which order, and how long at most.

First every proxy is healed, every control group removed and every container relieved, since a fault that is
left on does harm for as long as anything else takes; then all processes are ended, all at once, since they do not wait
for each other; then containers are removed, since one of those processes may have been making them; then folders are
removed, since processes write into them until their end. Within one kind the newest comes first. A proxy engine that
would not heal, and a control group that would not go, is asked again when the processes have been ended: one that is
gone holds no fault any more.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

from harness.runtime.ending import (
    GRACE_SECONDS,
    KILL_SECONDS,
    EndProcessGroup,
    end_process_groups,
    free_shared_memory,
    kill_dwellers,
)
from harness.runtime.undo_kinds import (
    FOLDER_PREFIX,
    OWNER,
    RemoveControlGroup,
    RemoveFolder,
    RemoveProject,
    RestoreProxies,
    Undo,
)

HEAL_SECONDS = 1.0
"""How long a proxy engine may take to heal everything."""

GROUP_SECONDS = 10.0
"""How long a control group, or a folder, may take to be gone."""

PROCESSES_SECONDS = GRACE_SECONDS + KILL_SECONDS + 5.0
PROJECT_SECONDS = 90.0
RELIEF_SECONDS = 5.0
"""Beyond what each may take by itself: whatever hangs, the rest is undone."""

REMOVE_TRIES = 5
"""Whoever was killed in a folder may write into it once more."""

LONGEST_OWNER = 1024
"""Bytes; longer than any name of a machine."""

U = TypeVar("U", bound=Undo)
Outcome: TypeAlias = tuple[str, str | None]
"""The name of an undo, and why it failed; None where it did not."""


def carry_out(left: Mapping[str, Undo]) -> Iterator[Outcome]:
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


def undo_now(undos: Sequence[Undo]) -> list[str]:
    """Undo what no journal tells of; why some of it is left."""
    return [reason for _, reason in carry_out({str(number): undo for number, undo in enumerate(undos)}) if reason]


def longest(left: Mapping[str, Undo]) -> float:
    """For how many seconds all of them may take at most."""
    engines, groups, folders = _of(left, RestoreProxies), _of(left, RemoveControlGroup), _of(left, RemoveFolder)
    small = 4 * HEAL_SECONDS * len(engines) + GROUP_SECONDS * (2 * len(groups) + len(folders))
    return small + PROCESSES_SECONDS + (RELIEF_SECONDS + PROJECT_SECONDS) * len(_of(left, RemoveProject))


def _of(left: Mapping[str, Undo], kind: type[U]) -> dict[str, U]:
    return {name: undo for name, undo in left.items() if isinstance(undo, kind)}


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


def _temporary() -> Path:
    return Path(tempfile.gettempdir()).resolve()


def _may_go(folder: Path) -> bool:
    """Whether it is a run's: among the temporary files, or, where the run had others, because it says so, or is gone."""
    if folder.is_symlink() or not folder.name.startswith(FOLDER_PREFIX):
        return False
    try:
        return folder.parent.resolve() == _temporary() or bool(said_by_owner(folder))
    except (OSError, ValueError):
        return not folder.exists()


def said_by_owner(folder: Path) -> str:
    """What the maker of a folder wrote into it, where that is this user; "" where it was somebody else, and for whatever is no
    plain file: a pipe is not waited for, and no link is followed.
    """
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        return ""
    descriptor = os.open(folder / OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        return os.read(descriptor, LONGEST_OWNER).decode("utf-8") if is_own else ""
    finally:
        os.close(descriptor)


def _remove(undo: RemoveFolder) -> str | None:
    folder = Path(undo.path)
    if not _may_go(folder):
        named = f"expected a folder {FOLDER_PREFIX}… in {_temporary()}, or one with a file {OWNER} of this user's"
        return f"{named}; nothing else is ever removed"
    reason = "expected it to be gone, found it again"
    for _ in range(REMOVE_TRIES):
        kill_dwellers(folder)
        free_shared_memory(folder)
        try:
            shutil.rmtree(folder)
        except OSError as error:  # that a file is missing, too: somebody else removed one that is in it
            reason = str(error)
        if not folder.exists():
            return None
        time.sleep(0.05)
    return reason
