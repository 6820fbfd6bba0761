"""What may be left of runs that no registry knows any more: temporary folders, control groups, projects at the Docker engine.

Each is told by the undo that would remove it. Whose it is, a folder says itself; the rest is nobody's where no run that is
registered, and none that has a guardian at work, has it in its journal.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import CouldNotRun, HarnessError
from harness.history.store import UNDO
from harness.runtime.ending import PROC, EndProcessGroup, process_table, started_at
from harness.runtime.locks import is_held
from harness.runtime.services.control_groups import MEMBERS, PREFIX, CannotLimit, home_of
from harness.runtime.services.limits import KINDS
from harness.runtime.undo import (
    FOLDER_PREFIX,
    OWNER,
    RemoveControlGroup,
    RemoveFolder,
    RemoveProject,
    Undo,
    left_in,
)
from harness.runtime.undoing import said_by_owner

if TYPE_CHECKING:
    from harness.runtime.containers.engine import DockerEngine

GROUP_SECONDS = 60.0
"""How old a control group is that is empty and nobody's: one may be made and have nobody in it yet."""

PEER = struct.Struct("iII")
"""What the kernel tells of who listens at a socket: process, user, group."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What belongs to runs that are known: each takes its own back, or has it taken back by its journal."""

    folders: frozenset[str]
    groups: frozenset[str]
    projects: frozenset[str]

    @classmethod
    def of(cls, runs: Iterable[Path], projects: Iterable[str]) -> Claims:
        """Those of the runs in these folders, and these projects."""
        undos = [undo for folder in runs for undo in _left_of(folder)]
        return cls(
            frozenset(undo.path for undo in undos if isinstance(undo, RemoveFolder)),
            frozenset(undo.path for undo in undos if isinstance(undo, RemoveControlGroup)),
            frozenset([*projects, *(undo.project for undo in undos if isinstance(undo, RemoveProject))]),
        )

    def have(self, undo: Undo) -> bool:
        """Whether somebody has what this would remove."""
        match undo:
            case RemoveFolder(path=path):
                return path in self.folders
            case RemoveControlGroup(path=path):
                return path in self.groups
            case RemoveProject(project=project):
                return project in self.projects
            case _:
                return False


def _left_of(folder: Path) -> list[Undo]:
    """What a run has, by its journal; nothing where that is another user's, or nobody can read it."""
    with suppress(HarnessError, OSError):
        return list(left_in(folder / UNDO).values())
    return []


def stray_folders(places: Iterable[str]) -> list[Undo]:
    """The temporary folders of this user, in these places, whose makers are gone; one that does not say whose it is, is no
    run's.
    """
    found: set[Path] = set()
    for place in places:
        with suppress(OSError, RuntimeError):  # what nobody can look into
            found |= set(Path(place).resolve().glob(f"{FOLDER_PREFIX}*"))
    return [RemoveFolder(str(path)) for path in sorted(found) if _is_stray(path)]


def _is_stray(path: Path) -> bool:
    try:
        pid, started, host = said_by_owner(path).split()
        is_gone = started_at(int(pid)) != int(started) and not is_held(path / OWNER)
        return host == socket.gethostname() and is_gone
    except (OSError, ValueError, OverflowError):
        return False


def places_in_use() -> set[str]:
    """Where there are folders, called as those of runs, that somebody has its output go to."""
    found = set()
    for process in process_table().values():
        with suppress(OSError):
            output = (PROC / str(process.pid) / "fd" / "1").readlink()
            found |= {str(folder.parent) for folder in output.parents if folder.name.startswith(FOLDER_PREFIX)}
    return found


def writers_into(folder: Path) -> Iterator[EndProcessGroup]:
    """Who has its output go into a folder, which may be removed by now: what a run started, and nobody who only reads."""
    for process in process_table().values():
        with suppress(OSError):
            here = PROC / str(process.pid)
            if any(str((here / "fd" / number).readlink()).startswith(f"{folder}/") for number in ("1", "2")):
                name = (here / "comm").read_text(encoding="utf-8", errors="replace").strip()
                yield EndProcessGroup(process.pid, process.started, name)


def stray_groups() -> list[Undo]:
    """The control groups of runs that nobody is in, and that were made a while ago."""
    found: dict[str, Undo] = {}
    for kind in KINDS:
        with suppress(CannotLimit, OSError):
            home = home_of(kind)
            for path in sorted(home.folder.glob(f"{PREFIX}*")):
                if _is_empty(path):
                    found[str(path)] = RemoveControlGroup(str(path), str(home.back))
    return list(found.values())


def _is_empty(path: Path) -> bool:
    try:
        return not (path / MEMBERS).read_text(encoding="ascii").strip() and time.time() - path.stat().st_mtime > GROUP_SECONDS
    except (OSError, ValueError):
        return False


def stray_projects(environ: Mapping[str, str], note: Callable[[str], object]) -> list[Undo]:
    """What any run has at the Docker engine of this machine; told where none was asked, and what is not this machine's.

    In a container that was handed the engine's socket, as jobs of CI often are, what other jobs run is not seen.
    """
    from harness.runtime.containers.engine import find_engine, told_of

    try:
        engine = find_engine(environ)
        with told_of(engine.host), closing(engine.client()) as client:
            guarded, others = _projects_at(client)
            is_seen = engine.is_here and _is_this_machine(engine, client)
    except (CouldNotRun, OSError) as why:
        note(f"containers, networks and volumes were not looked for: {why}")
        return []
    for project in guarded:
        note(f"{project} is left to its guardian at {engine.host}, which is at work")
    if others and not is_seen:
        note(
            f"at {engine.host} there is {', '.join(others)}: what no run of this machine, or of this container, registered may "
            f"be another's; where it is nobody's, call chaos gc on the engine's machine"
        )
        return []
    return [RemoveProject(project, engine.host, engine.certificates) for project in others]


def _is_this_machine(engine: DockerEngine, client: Any) -> bool:
    """Whether the engine runs where this process does, and not outside of the container that this process is in.

    With the network of its machine a container has the machine's name, too.
    """
    return client.info().get("Name") == socket.gethostname() and listener_at(engine.host.removeprefix("unix://")) != 0


def listener_at(path: str) -> int:
    """The process that listens at a socket of this machine, by its number here; 0 where it is outside of this container."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(path)
        return int(PEER.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[0])


def _projects_at(client: Any) -> tuple[list[str], list[str]]:
    """The projects of runs at an engine: those whose guardian there is at work, and the others."""
    from harness.runtime.containers.removal import GUARDIAN_LABEL, projects_at

    guardians = client.api.containers(filters={"label": GUARDIAN_LABEL, "status": "running"})
    guarded = {one["Labels"][GUARDIAN_LABEL] for one in guardians}
    there = projects_at(client)
    return [name for name in there if name in guarded], [name for name in there if name not in guarded]
