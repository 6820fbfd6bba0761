"""Ending processes together with everything that descends from them.

A signal to a process group does not reach all of it: PostgreSQL's backends, for one, each open a session
of their own. So the gentle signal goes to the session that was started, whoever descends from it is
watched, and what is left when the grace is over is killed one by one. Everything is ended at once, so that
ten processes take no longer than one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GRACE_SECONDS = 3.0
"""From the gentle signal to SIGKILL; short enough for a guardian to be done in under 10 s."""

KILL_SECONDS = 2.0
"""How long the kernel may take to end what was killed."""

SHARED_MEMORY_LINE = 6
IPC_RMID = 0

PROC = Path("/proc")
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class EndProcessGroup:
    """End the process `pid` that leads a session, and all that descends from it: `signal` first, then SIGKILL.

    `started` is the start of that process in clock ticks since boot, so that another process that was given
    the same number later is never touched; 0 where the system does not tell.
    """

    pid: int
    started: int
    name: str
    signal: int = signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Process:
    """One living process, as the process table shows it."""

    pid: int
    parent: int
    group: int
    session: int
    started: int


Table = Mapping[int, Process]


def signal_name(number: int) -> str:
    """What a signal is called; its number where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def process_table() -> Table:
    """Every living process by its number. One that has ended and only waits to be collected is not living."""
    found = _from_proc() if (PROC / "self/stat").exists() else _from_ps()
    return {process.pid: process for process in found}


def _from_proc() -> Iterable[Process]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                process = parse_stat((entry / "stat").read_bytes())
                if process is not None:
                    yield process


def parse_stat(line: bytes) -> Process | None:
    """One line of /proc/<pid>/stat. The program's name in it may hold anything, so what follows its last ')' counts."""
    pid = int(line.partition(b" ")[0])
    state, *numbers = line.rpartition(b")")[2].split()
    if state in {b"Z", b"X"}:
        return None
    return Process(pid, int(numbers[0]), int(numbers[1]), int(numbers[2]), int(numbers[18]))


def _from_ps() -> Iterable[Process]:
    listing = subprocess.run(["/bin/ps", "-axo", "pid=,ppid=,pgid=,stat="], capture_output=True, check=True).stdout
    for pid, parent, group, state in (line.split(None, 3) for line in listing.splitlines()):
        if not state.startswith(b"Z"):
            with suppress(ProcessLookupError, PermissionError):
                yield Process(int(pid), int(parent), int(group), os.getsid(int(pid)), 0)


def started_at(pid: int) -> int | None:
    """When a living process was started, in clock ticks since boot, 0 where the system does not tell; None for no process."""
    if not (PROC / "self/stat").exists():
        process = process_table().get(pid)
        return process.started if process is not None else None
    try:
        process = parse_stat((PROC / str(pid) / "stat").read_bytes())
    except OSError:
        return None
    return process.started if process is not None else None


def family_of(leader: EndProcessGroup, table: Table, known: Iterable[Process] = ()) -> set[Process]:
    """Who belongs to the leader: its session, its descendants, and those of `known` who still live.

    While a session has members its number is not given away. So where the number now belongs to a process that
    started at another time, nobody of that session is left; nor where its members started before the leader did.
    """
    family = {process for process in known if _lives(process, table)}
    first = table.get(leader.pid)
    if first is None or first.started == leader.started:
        led = (process for process in table.values() if _is_led_by(process, leader))
        family |= {process for process in led if process.started >= leader.started}
    return _with_descendants(family, table)


def _is_led_by(process: Process, leader: EndProcessGroup) -> bool:
    return leader.pid in (process.session, process.group, process.pid)


def _lives(process: Process, table: Table) -> bool:
    now = table.get(process.pid)
    return now is not None and now.started == process.started


def _with_descendants(family: set[Process], table: Table) -> set[Process]:
    pids = {process.pid for process in family}
    while more := {process for process in table.values() if process.parent in pids and process.pid not in pids}:
        family |= more
        pids |= {process.pid for process in more}
    return {table[pid] for pid in pids}


class _Ending:
    """One family on its way out."""

    def __init__(self, leader: EndProcessGroup, table: Table) -> None:
        self.leader = leader
        self.left = family_of(leader, table)
        self._asked: set[int] = set()

    def ask(self) -> None:
        """Ask the session to end; whoever has a session of its own is asked by its parent, who knows how, while it has one."""
        session = {process for process in self.left if _is_led_by(process, self.leader)}
        number = self.leader.signal if session else signal.SIGTERM
        for process in session or self.left:
            if process.pid not in self._asked:
                self._asked.add(process.pid)
                _send(process, number)
                _send(process, signal.SIGCONT)

    def kill(self) -> None:
        """Ask no more."""
        for process in self.left:
            _send(process, signal.SIGKILL)

    def look(self, table: Table) -> bool:
        """Whether anybody is left."""
        self.left = family_of(self.leader, table, self.left)
        return bool(self.left)


def _send(process: Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)


def end_process_groups(leaders: Sequence[EndProcessGroup], grace: float = GRACE_SECONDS) -> dict[EndProcessGroup, str]:
    """End all of them and everything that descends from them, at once; tells for each that is left why."""
    table = process_table()
    left: Sequence[_Ending] = [_Ending(leader, table) for leader in leaders]
    left = _repeat(_Ending.ask, left, grace)
    left = _repeat(_Ending.kill, left, KILL_SECONDS)
    return {ending.leader: f"still there after SIGKILL: pid {_numbers(ending.left)}" for ending in left}


def _repeat(deed: Callable[[_Ending], None], endings: Sequence[_Ending], seconds: float) -> Sequence[_Ending]:
    """Do it until nobody is left or the time is over; new members of a family are met by the next round."""
    until = time.monotonic() + seconds
    while endings:
        for ending in endings:
            deed(ending)
        time.sleep(POLL_SECONDS)
        table = process_table()
        endings = [ending for ending in endings if ending.look(table)]
        if time.monotonic() >= until:
            break
    return endings


def _numbers(processes: Iterable[Process]) -> str:
    return ", ".join(str(process.pid) for process in sorted(processes, key=lambda process: process.pid))


def kill_dwellers(folder: Path) -> None:
    """Kill whoever has `folder`, or a folder in it, as its working folder.

    This finds what no family tree shows any more: the backends of a database whose first process was killed.
    """
    inside = f"{folder}/"
    for process in process_table().values():
        with suppress(OSError):
            if f"{(PROC / str(process.pid) / 'cwd').readlink()}/".startswith(inside):
                _send(process, signal.SIGKILL)


def free_shared_memory(folder: Path) -> None:
    """Give back the shared memory of a PostgreSQL server in `folder` that was killed before it could do so.

    The lock file that it left tells the memory's key and number; where they no longer belong together, it is gone.
    """
    for lock in folder.glob("*/data/postmaster.pid"):
        with suppress(OSError, ValueError, IndexError):
            key, number = map(int, lock.read_text().splitlines()[SHARED_MEMORY_LINE].split())
            libc = ctypes.CDLL(None)
            if libc.shmget(ctypes.c_int(key), ctypes.c_size_t(0), 0) == number:
                libc.shmctl(number, IPC_RMID, None)
