"""What a fault does to a service that is a process: to that process, and to all that descends from it.

A container has one fate, and so has such a family: it is frozen, killed or ended as a whole. Before a signal that
must reach everybody, all are frozen, again and again until no new member is found: so nobody escapes by a fork.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

from harness.errors import ServiceFaultFailed
from harness.runtime.ending import EndProcessGroup, Process, end_process_groups, family_of, process_table, started_at

DEED_SECONDS = 5.0
"""How long the kernel may take to freeze, wake or kill a family."""

STOP_SECONDS = 10.0
"""How long a service may take to end when it is asked to, as Docker gives it."""

LOOK_EVERY = 0.02
STANDING = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


NOBODY = EndProcessGroup(-1, -1, "nobody")
"""The family of a service that was not started yet."""


def leader_of(name: str, pid: int, end_with: int) -> EndProcessGroup:
    """The family of a service's process that was started just now: later its number may be somebody else's.

    Of one that has ended already, what is left of its session.
    """
    started = started_at(pid)
    return EndProcessGroup(pid, -1 if started is None else started, name, end_with)


def freeze(leader: EndProcessGroup) -> None:
    """Return when nobody of the family runs any more."""
    _repeat(leader, signal.SIGSTOP, lambda family: all(map(_stands_still, family)), "stand still")


def thaw(leader: EndProcessGroup) -> None:
    """Return when everybody of the family goes on."""
    _repeat(leader, signal.SIGCONT, lambda family: not any(map(_stands_still, family)), "go on")


def kill(leader: EndProcessGroup) -> None:
    """Return when nobody of the family is left."""
    freeze(leader)
    _repeat(leader, signal.SIGKILL, lambda family: not family, "be gone")


def end(leader: EndProcessGroup) -> None:
    """Ask the family to end, by the signal it has for that; what is left after a while is killed."""
    left = end_process_groups((leader,), STOP_SECONDS)
    if left:
        raise ServiceFaultFailed(f"{leader.name}: expected it to end, found it {left[leader]}")


def is_frozen(leader: EndProcessGroup) -> bool:
    """Whether the whole family stands still; one that has nobody does not."""
    family = family_of(leader, process_table())
    return bool(family) and all(map(_stands_still, family))


def stands_still(pid: int) -> bool:
    """Whether a process was stopped by a signal. One that a debugger holds is its user's business."""
    try:
        return pid > 0 and psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def _repeat(leader: EndProcessGroup, number: int, is_done: Callable[[Iterable[Process]], bool], wish: str) -> None:
    """Send it to everybody until it is done, and nobody new is found."""
    until = time.monotonic() + DEED_SECONDS
    known = family_of(leader, process_table())
    while True:
        for process in known:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        family = family_of(leader, process_table(), known)
        if is_done(family) and _pids(family) <= _pids(known):
            return
        if time.monotonic() > until:
            left = ", ".join(map(str, sorted(_pids(family))))
            raise ServiceFaultFailed(f"{leader.name}: expected its processes to {wish} within {DEED_SECONDS:g} s, found {left}")
        known = family
        time.sleep(LOOK_EVERY)


def _pids(family: Iterable[Process]) -> set[int]:
    return {process.pid for process in family}


def _stands_still(process: Process) -> bool:
    try:
        return psutil.Process(process.pid).status() in STANDING
    except psutil.Error:
        return False
