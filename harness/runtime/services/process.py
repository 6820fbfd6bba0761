"""One service as a process: brought up, looked after while the run goes on, struck by faults and relieved of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Lock
from typing import Any, Protocol, assert_never

from harness.errors import CouldNotRun, ServiceFaultFailed
from harness.history.events import Event, ServiceChanged, ServiceExited, WedgeNoticed
from harness.plan.plan import ServiceChange
from harness.runtime.ending import EndProcessGroup, family_of, process_table
from harness.runtime.ports import Launch
from harness.runtime.services.control_groups import Kind
from harness.runtime.services.deeds import (
    DEED_SECONDS,
    NOBODY,
    STOP_SECONDS,
    end,
    freeze,
    is_frozen,
    kill,
    leader_of,
    stands_still,
    thaw,
)
from harness.runtime.services.limits import Limits
from harness.runtime.services.looping import Loop
from harness.runtime.services.restarting import FIRST_PAUSE, Restarts
from harness.runtime.services.spot import Spot
from harness.runtime.services.waiting import how_it_ended, tail_of

LOG_LINES = 20
DYING_SECONDS = 0.5
"""How long the kernel may take to be done with a process that it killed."""

LOOK_EVERY = 0.1
"""How often a service that lives for a while is looked at, which may end before it is killed."""

STOOD_STILL = "it stood still (SIGSTOP), although no fault paused it, and was woken (SIGCONT)"
WOULD_NOT_END = f"it did not end within {STOP_SECONDS:g} s of {{asked}}, and was killed: what was tried is a kill, and no stop"

NEVER_ON_A_PROCESS = "it needs containers, and found a process of this machine"


class Runnable(Protocol):
    """One service, as it can be started and looked at. `end_with` is the signal that asks it to end."""

    @property
    def end_with(self) -> int: ...

    def start(self, launch: Launch) -> subprocess.Popen[bytes]:
        """Start its process; again, in the same place and with the same environment."""
        ...

    def why_not_ready(self) -> str | None:
        """One look at it: why it is not ready yet, None when it is."""
        ...


@dataclass(slots=True)
class ServiceProcess:
    """One service. `started` and `ready` tell how far it has come up.

    What is done to it after that, by faults or by its restart policy, is done by one thread at a time.
    """

    spot: Spot
    runnable: Runnable
    patience: float
    restarts: Restarts
    limits: Limits
    launch: Launch
    tell: Callable[[Event], None]
    started: Flag = field(default_factory=Flag)
    ready: Flag = field(default_factory=Flag)
    _process: subprocess.Popen[bytes] | None = None
    _family: EndProcessGroup = NOBODY
    _born: float = 0.0
    _told_exit: bool = False
    _kept_down: bool = False
    _paused: bool = False
    _loop: Loop | None = None
    _at_it: Any = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """The service's name."""
        return self.spot.service

    @property
    def _pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> int:
        """Start its process, the first time or again; its number."""
        process = self.runnable.start(self.launch)
        self._family = leader_of(self.name, process.pid, self.runnable.end_with)
        self._process = process
        self._born = time.monotonic()
        self._kept_down = self._told_exit = False
        self.limits.see_born(self._members)
        return process.pid

    def _members(self) -> set[int]:
        return {process.pid for process in family_of(self._family, process_table())}

    def has_ended(self) -> str | None:
        """How its process ended, in words; None while it runs."""
        status = self._process.poll() if self._process is not None else None
        return None if status is None else how_it_ended(status)

    def exit(self) -> Sequence[ServiceExited]:
        """That its process ended by itself, once."""
        how = self.has_ended()
        if how is None or self._told_exit:
            return ()
        self._told_exit = True
        return (ServiceExited(time.time(), self.name, how, tail_of(self.spot.log, LOG_LINES)),)

    def look_after(self) -> Sequence[ServiceExited]:
        """See whether it ended by itself, and start it again where its restart policy says so.

        One that something is being done to just now is left for the next time. One that ends while a limit is on, or while
        it is being killed again and again, is told as what the fault made of it.
        """
        if not self._at_it.acquire(blocking=False):
            return ()
        try:
            if self._loop is not None:
                return ()
            self._wake_up()
            found = self.exit()
            if found and self.limits.are_on:
                self._tell("die", found[0].how)
            self._keep_up()
            return () if self.limits.are_on else found
        finally:
            self._at_it.release()

    def _wake_up(self) -> None:
        """One that stands still, although no fault made it, is told, and goes on."""
        if not self._paused and self.has_ended() is None and stands_still(self._pid):
            thaw(self._family)
            self.tell(WedgeNoticed(time.time(), self.name, STOOD_STILL))

    def strike(self, change: ServiceChange) -> dict[str, Any]:
        """Do it, and read back what has become of the service."""
        with self._alone(change):
            before = self._pid
            if (ended := self.has_ended()) is not None and not self._is_varied(change):
                raise ServiceFaultFailed(f"expected it to run, found that it has ended: {ended}")
            self._do(change)
            return {**self._state(change), "restarted": self._pid != before or self.has_ended() is not None}

    def relieve(self, change: ServiceChange) -> dict[str, Any]:
        """Take it back, and read back what has become of the service."""
        broken = self._end_loop() if change.deed == "crash_loop" else None
        with self._alone(change):
            match change.deed:
                case "pause":
                    if is_frozen(self._family):
                        thaw(self._family)
                        self._tell("unpause")
                    self._paused = False
                case "kill" | "stop" | "restart" | "crash" | "crash_loop":
                    if self._kept_down:
                        self._start_again()
                case "cpu" | "memory":
                    self._lift(change.deed)
                case "disconnect" | "scale":
                    pass
                case _:
                    assert_never(change.deed)
            if broken is not None:
                raise ServiceFaultFailed(f"it was not killed again to the end: {broken}")
            return self._state(change)

    @contextmanager
    def _alone(self, change: ServiceChange) -> Iterator[None]:
        with self._at_it:
            try:
                yield
            except (OSError, CouldNotRun, ServiceFaultFailed, subprocess.SubprocessError) as error:
                raise ServiceFaultFailed(f"{change.deed} of {self.name}: {error}") from error

    def _do(self, change: ServiceChange) -> None:  # noqa: C901 - a line or two for each deed
        match change.deed:
            case "pause":
                self._paused = True
                freeze(self._family)
                self._tell("pause")
            case "kill":
                self._tell("kill")
                self._take_down(kill)
            case "stop":
                self._take_down(end)
                self._tell("stop")
            case "restart":
                self._take_down(end)
                self._tell("stop")
                self._start_again()
                self._tell("restart")
            case "crash":
                self._take_down(kill)
                if self.restarts.wanted(-signal.SIGKILL):
                    time.sleep(FIRST_PAUSE)
                    self._start_again()
            case "crash_loop":
                self._begin_loop(change.lives or 0.0)
            case "cpu":
                self._limit("cpu", change.cores or 0.0, os.cpu_count() or 1, "processors")
            case "memory":
                self._limit("memory", change.bytes or 0, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "bytes")
            case "disconnect" | "scale":
                raise ServiceFaultFailed(NEVER_ON_A_PROCESS)
            case _:
                assert_never(change.deed)

    # killed again and again

    def _begin_loop(self, lives: float) -> None:
        self._take_down(kill)
        due = time.monotonic() + self._pause_until_start()

        def turn() -> float:
            nonlocal due
            with self._at_it:
                if self._kept_down:
                    if (left := due - time.monotonic()) > 0:
                        return left
                    self._start_again()
                    self.restarts.count()
                lived = time.monotonic() - self._born
                if self.has_ended() is None and lived < lives:
                    return min(lives - lived, LOOK_EVERY)
                self.restarts.see_running(lived)
                self._take_down(kill)
                due = time.monotonic() + self._pause_until_start()
                return due - time.monotonic()

        self._loop = Loop(self.name, turn)
        self._loop.begin()

    def _pause_until_start(self) -> float:
        """That of its restart policy; where it has none, or has given up, somebody else starts it as soon."""
        return self.restarts.pause if self.restarts.wanted(-signal.SIGKILL) else FIRST_PAUSE

    def _end_loop(self) -> Exception | None:
        """Nobody kills it any more; why it was not killed to the end, where it was not."""
        loop = self._loop
        if loop is None:
            return None
        loop.end()
        self._loop = None
        return loop.failure

    # limits

    def _is_varied(self, change: ServiceChange) -> bool:
        """Whether a limit that is on is to be another one: it may have been the end of the service."""
        return change.deed in ("cpu", "memory") and self.limits.are_on

    def _limit(self, kind: Kind, value: float, there: float, unit: str) -> None:
        if value >= there:
            raise ServiceFaultFailed(f"expected a limit below the {there:g} {unit} that it has, found {value:g}")
        self.limits.put_on(kind, value, self._members)
        self._tell("update")

    def _lift(self, kind: Kind) -> None:
        """Tell what the limit did, and start what it was the end of."""
        was_on = self.limits.are_on
        counted = self.limits.lift(kind)
        if counted.throttled:
            self._tell("throttled", f"{counted.throttled} periods")
        if counted.refused or counted.killed:
            killed = f", {counted.killed} of its processes killed" if counted.killed else ""
            self._tell("pressed", f"{counted.refused} times at its limit{killed}")
        if counted.killed and self._process is not None:
            with suppress(subprocess.TimeoutExpired):  # who was killed a moment ago may seem to run still
                self._process.wait(DYING_SECONDS)
        if was_on and self.has_ended() is not None:
            kill(self._family)
            self._start_again()

    def _take_down(self, deed: Callable[[EndProcessGroup], None]) -> None:
        """End it so that nobody wonders, and nobody starts it again before it is relieved."""
        self._kept_down = self._told_exit = True
        deed(self._family)
        if self._process is not None:
            status = self._process.wait(DEED_SECONDS)
            self._tell("die", how_it_ended(status))
            if deed is end and status == -signal.SIGKILL:
                asked = signal.Signals(self.runnable.end_with).name
                self.tell(WedgeNoticed(time.time(), self.name, WOULD_NOT_END.format(asked=asked)))

    def _start_again(self) -> None:
        self.start()
        self._tell("start")

    def _keep_up(self) -> None:
        """Do what the Compose file's `restart:` says, once the service has come up for the first time."""
        if self._process is None or self._kept_down or not self.ready.is_set():
            return
        status = self._process.poll()
        if status is None:
            self.restarts.see_running(time.monotonic() - self._born)
        elif self.restarts.wanted(status) and self.restarts.is_due():
            kill(self._family)
            self._start_again()
            self.restarts.count()

    def _state(self, change: ServiceChange) -> dict[str, Any]:
        """What is read back: of its process, and of all that descends from it; of its limits, that of the deed."""
        state: dict[str, Any] = {"running": self.has_ended() is None, "paused": is_frozen(self._family)}
        match change.deed:
            case "crash_loop":
                state["looping"] = self._loop is not None and self._loop.is_at_work
            case "cpu":
                limit = self.limits.of("cpu")
                state |= {"cores": limit, "limited": limit is not None}
            case "memory":
                limit = self.limits.of("memory")
                state |= {"bytes": limit, "limited": limit is not None}
        return state

    def _tell(self, what: str, detail: str = "") -> None:
        self.tell(ServiceChanged(time.time(), self.name, str(self._pid), what, detail))
