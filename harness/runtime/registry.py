"""The runs of this machine: who is running, and what did not come to its end.

One small JSON file a run, in a folder of the user's own. It is written before anything of the run is started, and removed
when everything is undone and told. As long as its harness or its guardian lives, the file is locked: so an entry without a
lock belongs to a run that left something behind. The kernel gives the lock back however they end, and tells of it in every
container that sees the file, where a process's number would say nothing. A file rather than a service: it has to be readable
when everything else is gone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import CouldNotRun, HarnessError
from harness.history.drafts import draft_of
from harness.history.store import UNDO
from harness.runtime.ending import started_at
from harness.runtime.locks import is_held
from harness.runtime.undo import left_in

if TYPE_CHECKING:
    from harness.runtime.containers.engine import DockerEngine

STATE_DIR = "CHAOS_STATE_DIR"
RUNS = "runs"
LOCK = ".lock"
LOCK_SECONDS = 30.0
ENTRY = ".json"
ABORT = ".abort"
"""What ends the name of the file by which somebody asks for a run's end."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A run that was begun and is not over, or left something.

    `pid` and `started` (clock ticks since boot, 0 where the system does not tell) are those of its harness, `host` the name
    of the machine, or container, it runs on, `temporary` where its temporary folders are. `project` is what its containers
    are labelled with, at the Docker engine `engine` (as in DOCKER_HOST) that is asked with `certificates` (a folder, "" for
    none); all three are "" for local processes. `shares` names what no other run can use meanwhile.
    """

    run: str
    folder: str
    pid: int
    started: int
    host: str
    temporary: str
    project: str = ""
    engine: str = ""
    certificates: str = ""
    shares: tuple[str, ...] = ()


_locks: dict[str, int] = {}
"""The entries of the runs of this process, open and locked, by the runs' names."""


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this user's runs are known: CHAOS_STATE_DIR, or a folder where the user's state belongs."""
    if environ.get(STATE_DIR):
        return Path(environ[STATE_DIR]).absolute()
    state = environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(state).expanduser().absolute() / "chaos-harness"
    except RuntimeError as error:
        raise CouldNotRun(f"expected a home folder, found none ({error}); set {STATE_DIR} to a folder of your own") from error


def runs_folder() -> Path:
    """The folder of the registry, for its user alone; it is there when this returns."""
    folder = state_folder() / RUNS
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise CouldNotRun(
            f"{folder}: expected a folder that runs can be noted in, found: {error.strerror}; "
            f"set {STATE_DIR} to one that can be written to"
        ) from error
    return folder


def register(folder: Path, *, project: str = "", at: DockerEngine | None = None, shares: Collection[str] = ()) -> Registered:
    """Note a run that is about to begin, of this process, its `project` at this engine; refused where another one has what it
    would share.
    """
    own = Registered(
        run=folder.name,
        folder=str(folder.resolve()),
        pid=os.getpid(),
        started=started_at(os.getpid()) or 0,
        host=socket.gethostname(),
        temporary=str(Path(tempfile.gettempdir()).resolve()),
        project=project,
        engine="" if at is None else at.host,
        certificates="" if at is None else at.certificates,
        shares=tuple(sorted(set(shares))),
    )
    with alone(LOCK, LOCK_SECONDS, "another run that begins"):
        _refuse_shared(own)
        _write(own)
    return own


def _refuse_shared(own: Registered) -> None:
    """What processes share has a name on their own machine; what containers share names the engine that it is at."""
    for other in runs():
        is_met = other.host == own.host or other.project
        both = sorted(set(own.shares) & set(other.shares)) if is_met else ()
        if both:
            raise CouldNotRun(f"expected {', '.join(both)} for this run alone, found it in use by {_who(other)}")


def _who(other: Registered) -> str:
    if is_alive(other):
        return f"the run {other.run} ({whereabouts(other)}); wait for its end, or end it: chaos abort {other.run}"
    if is_here(other):
        return f"the run {other.run}, which is gone and has left something; remove that: chaos gc"
    return f"the run {other.run}, which {how_to_clear(other)}"


def whereabouts(entry: Registered) -> str:
    """The process that a run is, for people."""
    return f"pid {entry.pid}" if is_here(entry) else f"pid {entry.pid} on {entry.host}"


def how_to_clear(entry: Registered) -> str:
    """What is known of a run of another machine, or container, that nobody here sees alive, and what to do, for people."""
    return (
        f"is gone, or its lock is not seen from here; what it left is removed by chaos gc on {entry.host}; "
        f"where that is no more, as a container that has ended, remove {_entry_of(entry.run)}"
    )


@contextmanager
def alone(lock: str, seconds: float, others: str) -> Iterator[None]:
    """Nobody else has this lock of the registry meanwhile; the kernel gives it back however a process ends.

    It is waited for, for so many seconds; `others` says in words who may have it.
    """
    path, until = runs_folder() / lock, time.monotonic() + seconds
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CouldNotRun(f"{path}: expected a file that can be locked, found: {error.strerror}") from error
    try:
        while not _is_locked(descriptor):
            if time.monotonic() > until:
                raise CouldNotRun(f"{path}: expected it to be free, found {others} at it for {seconds:g} s")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # not every file system has locks
        raise CouldNotRun(
            f"{runs_folder()}: expected files that can be locked, found: {error.strerror}; "
            f"set {STATE_DIR} to a folder of a local file system"
        ) from error
    return True


def _write(own: Registered) -> None:
    """Nobody ever sees it without its lock."""
    path = _entry_of(own.run)
    try:
        with draft_of(path) as draft:
            _locks[own.run] = os.open(draft, os.O_WRONLY | os.O_CLOEXEC)
            with open(_locks[own.run], "w", encoding="utf-8", closefd=False) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(json.dumps(asdict(own)) + "\n")
    except OSError as error:
        unlock(own.run)
        raise CouldNotRun(f"{path}: expected to note the run, found: {error.strerror}") from error


def _entry_of(run: str) -> Path:
    return runs_folder() / f"{run}{ENTRY}"


def locks_of(run: str) -> list[int]:
    """The descriptor by which this process holds a run's lock, for its guardian to hold it too; none where it does not."""
    return [_locks[run]] if run in _locks else []


def unlock(run: str) -> None:
    """This process is no more what keeps a run alive."""
    if run in _locks:
        os.close(_locks.pop(run))


def runs() -> tuple[Registered, ...]:
    """Every run that is noted, the oldest first. What is no entry, or is being removed just now, is none."""
    found = (_read(path) for path in sorted(runs_folder().glob(f"*{ENTRY}")))
    return tuple(entry for entry in found if entry is not None)


def unreadable() -> tuple[Path, ...]:
    """What is called as an entry and cannot be read as one: cut off when a machine ended, damaged, or another version's."""
    found = [path for path in sorted(runs_folder().glob(f"*{ENTRY}")) if _read(path) is None]
    return tuple(path for path in found if os.path.lexists(path))  # none that was removed just now


def is_said_elsewhere(entry: Path) -> bool:
    """Whether an entry that cannot be read, as another version's, tells at least that it is another machine's."""
    data = _content_of(entry)
    return isinstance(data, dict) and data.get("host", socket.gethostname()) != socket.gethostname()


def is_registered(run: str) -> bool:
    """Whether a run is noted."""
    return _entry_of(run).exists()


def _content_of(path: Path) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _read(path: Path) -> Registered | None:
    data = _content_of(path)
    if not isinstance(data, dict) or data.get("run") != path.name.removesuffix(ENTRY):
        return None
    return _entry_from(data)


def _entry_from(data: Mapping[str, Any]) -> Registered | None:
    """What a later version notes beside it is left out."""
    numbers, shares = ("pid", "started"), data.get("shares")
    texts = {part.name for part in fields(Registered)} - {*numbers, "shares"}
    if not all(isinstance(data.get(name), str) for name in texts) or not isinstance(shares, list):
        return None
    if not all(type(data.get(name)) is int and data[name] >= 0 for name in numbers):
        return None
    folder = Path(data["folder"])
    if folder.name != data["run"]:
        return None
    if not all(Path(path).is_absolute() and _can_be_looked_for(path) for path in (data["folder"], data["temporary"])):
        return None
    given = {part.name: data[part.name] for part in fields(Registered)}
    return Registered(**{**given, "shares": tuple(map(str, shares))})


def _can_be_looked_for(path: str) -> bool:
    """Whether anything can have this path: none is too long, or holds a NUL."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    except ValueError:
        return False
    return True


def is_here(entry: Registered) -> bool:
    """Whether it runs on this machine, or did: a home folder may be that of several."""
    return entry.host == socket.gethostname()


def is_alive(entry: Registered) -> bool:
    """Whether its harness or its guardian is there, wherever they are; where nobody can say, it is."""
    return is_held(_entry_of(entry.run))


def leave(folder: Path) -> bool:
    """Take the run in `folder` out of the registry, where nothing of it is left to undo; whether it is out. In any case it is
    over, as far as this process is concerned.
    """
    try:
        return folder.is_dir() and not left_in(folder / UNDO) and forget(folder.name)
    except (HarnessError, OSError):  # nobody can tell what is left
        return False
    finally:
        unlock(folder.name)


def forget(run: str) -> bool:
    """Take a run out of the registry, whatever it left; one that is not in it stays out. Whether it is out."""
    try:
        for kind in (ABORT, ENTRY):
            (runs_folder() / f"{run}{kind}").unlink(missing_ok=True)
    except (OSError, CouldNotRun):  # it stays, and is found by whoever clears up
        return False
    finally:
        unlock(run)  # last: an entry without a lock is one of a run that left something
    return True
