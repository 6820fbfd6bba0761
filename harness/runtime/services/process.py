"""One service as a process: brought up, looked after while the run goes on, struck by faults and relieved of them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Lock
from typing import Any, Protocol, assert_never

from harness.errors import CouldNotRun, ServiceFaultFailed
from harness.history.events import Event, ServiceChanged, ServiceExited
from harness.model.faults import Deed
from harness.runtime.ending import EndProcessGroup
from harness.runtime.ports import Launch
from harness.runtime.services.deeds import DEED_SECONDS, end, freeze, is_frozen, kill, leader_of, thaw
from harness.runtime.services.restarting import FIRST_PAUSE, Restarts
from harness.runtime.services.spot import Spot
from harness.runtime.services.waiting import how_it_ended, tail_of

LOG_LINES = 20


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
    launch: Launch
    tell: Callable[[Event], None]
    started: Flag = field(default_factory=Flag)
    ready: Flag = field(default_factory=Flag)
    _process: subprocess.Popen[bytes] | None = None
    _born: float = 0.0
    _told_exit: bool = False
    _kept_down: bool = False
    _at_it: Any = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """The service's name."""
        return self.spot.service

    @property
    def _pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def _family(self) -> EndProcessGroup:
        return leader_of(self.name, self._pid, self.runnable.end_with)

    def start(self) -> int:
        """Start its process, the first time or again; its number."""
        self._process = self.runnable.start(self.launch)
        self._born = time.monotonic()
        self._kept_down = self._told_exit = False
        return self._process.pid

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

        One that something is being done to just now is left for the next time.
        """
        if not self._at_it.acquire(blocking=False):
            return ()
        try:
            found = self.exit()
            self._keep_up()
            return found
        finally:
            self._at_it.release()

    def strike(self, deed: Deed) -> dict[str, Any]:
        """Do it, and read back what has become of the service."""
        with self._alone(deed):
            before = self._pid
            if (ended := self.has_ended()) is not None:
                raise ServiceFaultFailed(f"expected it to run, found that it has ended: {ended}")
            self._do(deed)
            return {**self._state(), "restarted": self._pid != before or self.has_ended() is not None}

    def relieve(self, deed: Deed) -> dict[str, Any]:
        """Take it back, and read back what has become of the service."""
        with self._alone(deed):
            match deed:
                case "pause":
                    if is_frozen(self._family):
                        thaw(self._family)
                        self._tell("unpause")
                case "kill" | "stop" | "restart" | "crash":
                    if self._kept_down:
                        self._start_again()
                case "cpu" | "memory" | "disconnect":
                    pass
                case "crash_loop" | "scale":
                    raise ServiceFaultFailed("it cannot be done yet")
                case _:
                    assert_never(deed)
            return self._state()

    @contextmanager
    def _alone(self, deed: Deed) -> Iterator[None]:
        with self._at_it:
            try:
                yield
            except (OSError, CouldNotRun, subprocess.SubprocessError) as error:
                raise ServiceFaultFailed(f"{deed} of {self.name}: {error}") from error

    def _do(self, deed: Deed) -> None:
        match deed:
            case "pause":
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
            case "cpu" | "memory" | "disconnect":
                raise ServiceFaultFailed("it needs containers, and found a process of this machine")
            case "crash_loop" | "scale":
                raise ServiceFaultFailed("it cannot be done yet")
            case _:
                assert_never(deed)

    def _take_down(self, deed: Callable[[EndProcessGroup], None]) -> None:
        """End it so that nobody wonders, and nobody starts it again before it is relieved."""
        self._kept_down = self._told_exit = True
        deed(self._family)
        if self._process is not None:
            self._tell("die", how_it_ended(self._process.wait(DEED_SECONDS)))

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

    def _state(self) -> dict[str, Any]:
        """What is read back: of its process, and of all that descends from it."""
        return {"running": self.has_ended() is None, "paused": is_frozen(self._family)}

    def _tell(self, what: str, detail: str = "") -> None:
        self.tell(ServiceChanged(time.time(), self.name, str(self._pid), what, detail))
