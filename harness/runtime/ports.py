"""What the driver needs of the world, as narrow ports; each has a contract suite under tests/contract.

All ports are called from the driver's threads and may block, but never longer than they say.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.history.events import EdgeSeen, Event, RunHalted
from harness.history.requests import Request
from harness.plan.plan import Arrivals, ProxyState, ServiceChange


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProxyMade:
    """One proxy to make: where it listens, and what it forwards to."""

    name: str
    listen: Address
    upstream: Address


class Launch(Protocol):
    """Starts a process so that it can be ended by somebody else, whatever becomes of the harness."""

    def __call__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        folder: Path | None = None,
        pass_fds: Sequence[int] = (),
        uid: int | None = None,
        end_with: int = signal.SIGTERM,
    ) -> subprocess.Popen[bytes]:
        """Start `argv` in a session of its own; its output is appended to `log`, its standard input is empty.

        How to end it is on disk before the program runs. `environment` is all it gets. `uid` is the user
        to run as, with no group but that user's own; None for whoever runs the harness. `end_with` is the
        signal that asks this program to end. Raises CouldNotRun where the program cannot be started.
        """
        ...


class Proxies(Protocol):
    """The proxies on the edges. Every call ends within 5 s, or raises ProxyError."""

    def create(self, proxies: Sequence[ProxyMade]) -> None:
        """Make these proxies, enabled and without toxics; return once they accept connections."""
        ...

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        """Bring a proxy into a state and return what was read back; once this returns, new connections meet it.

        Doing it twice changes nothing the second time. Raises ProxyError where the engine does not take it.
        """
        ...

    def read(self, proxy: str) -> ProxyState:
        """The state of a proxy, asked of the engine."""
        ...

    def heal_all(self) -> None:
        """Bring every proxy of this engine into the clean state."""
        ...

    def seen(self) -> Sequence[EdgeSeen]:
        """What the engine has counted on every proxy since it was made; empty where it cannot tell."""
        ...

    def version(self) -> str:
        """The engine's name and version."""
        ...


class Services(Protocol):
    """The system under test, between `start` and `stop`."""

    def start(self) -> None:
        """Start every service and return when all are ready; raises ServiceNotReady, with everything started still known."""
        ...

    def exited(self) -> Sequence[Event]:
        """A ServiceExited for each service that ended by itself since the last call."""
        ...

    def address(self, service: str) -> Address:
        """Where a service listens, past every proxy: for the harness's own questions."""
        ...

    def database_url(self, service: str, database: str) -> str:
        """How the harness itself reaches a database of a service, past every proxy."""
        ...

    def strike(self, change: ServiceChange) -> dict[str, Any]:
        """Do to a service what a fault says, and return the state read back (see `harness.plan.services`).

        A limit that is on is changed by another strike; what was there before the first is what it is relieved to.
        Raises ServiceFaultFailed where it could not be done. Returns once it is done; what is
        asked to end and does not is killed, so that takes 15 s at most.
        """
        ...

    def relieve(self, change: ServiceChange) -> dict[str, Any]:
        """Take it back and return the state read back; twice is once. Does not wait until the service is ready again."""
        ...

    def log_tail(self, service: str, lines: int = 20) -> tuple[str, ...]:
        """The last lines the service wrote."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """A system that stands: what the driver acts on.

    `way_in` is the URL that the load enters by. `listening` tells where a probe reaches each proxy, by its name;
    `probe_source` what probes bind to, so that they can be told from traffic. `detour`: they are reached through
    other proxies, at which a refusal shows as a close.
    """

    proxies: Proxies
    services: Services
    way_in: str
    listening: Mapping[str, Address]
    probe_source: str | None
    detour: bool = False


class Runtime(Protocol):
    """What a system is brought up on: processes of this machine, or containers."""

    def bring_up(self) -> Standing:
        """Bring up engine, proxies and services, in an order in which no service meets a missing proxy.

        How to take each down is in the journal before it is there. Raises Stopped where the run was asked to end.
        """
        ...

    def processes(self) -> Mapping[str, Sequence[int]]:
        """The processes of this run on this machine, but for the load, by what they count as: proxies, system."""
        ...

    def let_go(self) -> None:
        """The run is over: what happens to services from now on is the undoing, and nobody's business."""
        ...

    def collect(self) -> None:
        """After everything was undone: let go of what this process held."""
        ...


class Load(Protocol):
    """The load, a process of its own between `start` and `stop`."""

    def start(self, arrivals: Arrivals, entry: str, marks: dict[str, Any], records: Path) -> None:
        """Start the load process and return when its users wait for the first arrival.

        `entry` is the URL of the way in, `marks` the markers of fallbacks by name (header or JSON path, and
        value), `records` the file that it appends to. Raises InvalidLocustfile or LoadError, with the
        traceback of the user's file where that is the reason.
        """
        ...

    def go(self, at: float) -> None:
        """Let the first request be due at this time (seconds since the epoch)."""
        ...

    def stop(self) -> None:
        """No further arrival; return when the process is gone, having recorded what was open. Within 2 x timeout + 5 s."""
        ...

    def ended_early(self) -> str | None:
        """Why the load process ended before it was told to, or None."""
        ...


class Watch(Protocol):
    """Sees everything while it happens."""

    def see_event(self, event: Event) -> None:
        """An event or sample was recorded."""
        ...

    def see_requests(self, requests: Sequence[Request]) -> None:
        """Requests were recorded."""
        ...


class Gate(Watch, Protocol):
    """A watch that is asked where a judgement is needed while the run goes on."""

    def halt_before_injection(self) -> str | None:
        """Asked once in each round, when its baseline is over: why nothing must be injected, or None."""
        ...

    def stop_condition_met(self, at: float) -> RunHalted | None:
        """Asked several times a second while the load is on: the event that says which stop condition is met, or None."""
        ...

    def unsteady(self, at: float) -> str:
        """Asked again and again in a warm-up that ends when the system is steady: what is not, empty where all is."""
        ...

    def reason_to_lengthen(self, phase: str, ends: float) -> str:
        """Asked a second before a phase `ends`, where windows may be lengthened: why this one should be, or nothing.

        It goes on being shown what happens meanwhile, from other threads; an answer that comes too late is not waited for.
        """
        ...
