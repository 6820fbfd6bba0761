"""The system under test as processes on loopback: what the Compose file says, without containers.

Each service runs in a session of its own, started through the journal. Everything starts in parallel, but for
what `depends_on` orders. Ending them is the journal's: whoever undoes it takes the system down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from threading import Event as Flag
from threading import Lock
from typing import Any

from harness.errors import CouldNotRun, InvalidInput, ServiceFaultFailed, ServiceNotReady
from harness.history.events import Event, ServiceReady, ServiceStarted
from harness.model.compose import Compose
from harness.model.edges import Edge
from harness.model.system import LocalService
from harness.plan.plan import ServiceChange
from harness.runtime.ports import Address, Launch
from harness.runtime.services.command import Command, HealthCheckHere, arguments_of
from harness.runtime.services.credentials import credentials_for, url_of
from harness.runtime.services.environment import Surroundings, environment_of
from harness.runtime.services.limits import Limits, Remember
from harness.runtime.services.postgresql import Postgresql, contents_of
from harness.runtime.services.process import Runnable, ServiceProcess
from harness.runtime.services.redis import Redis, redis_passwords
from harness.runtime.services.restarting import Restarts
from harness.runtime.services.spot import Spot
from harness.runtime.services.waiting import listening_outside, tail_of

READY_SECONDS = 30.0
"""How long a service may take to become ready, where its health check does not ask for more."""

LONGEST_READY_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.03
WELL_KNOWN_PORTS = {"postgresql": 5432, "redis": 6379}


@dataclass(frozen=True, slots=True)
class LocalSystem:
    """What is run, and where.

    `addresses` are the services' own, `proxies` those where the proxy of each edge listens, by the edge's name.
    `folder` is that of system.yaml, `temporary` the run's own. `overrides` are variables laid over a service's
    environment (a planted defect, `--env`), before it is rewritten. `limited` are services whose memory is going to be
    limited: it is counted from their first start on.
    """

    compose: Compose
    local: Mapping[str, LocalService]
    edges: Sequence[Edge]
    proxies: Mapping[str, Address]
    addresses: Mapping[str, Address]
    folder: Path
    temporary: Path
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    limited: Collection[str] = ()

    def variables(self, service: str) -> dict[str, str]:
        """The environment of a service as written, with what is laid over it."""
        return self.compose.services[service].environment | dict(self.overrides.get(service, {}))

    def way_to_run(self, service: str) -> LocalService:
        """What `local:` says about a service."""
        if service not in self.local:
            raise InvalidInput(
                f"system.yaml: expected under local: how {service} runs without containers, found nothing; write such as\n"
                f"  local:\n"
                f'    {service}: {{command: "{{python}} -m {service} --host {{host}} --port {{port}}", ready: /health}}\n'
                f"or, for a PostgreSQL or Redis server, {service}: {{provided: postgresql}}"
            )
        return self.local[service]


def listening_ports(compose: Compose, local: Mapping[str, LocalService], edges: Sequence[Edge]) -> dict[str, int]:
    """The port each service listens on: what the Compose file shows, what `local:` says, or what an edge leads to."""
    ports = {}
    for name, service in compose.services.items():
        way = local.get(name)
        told = [*service.ports, *([way.port] if way is not None and way.port else [])]
        told += [WELL_KNOWN_PORTS[way.provided]] if way is not None and way.provided else []
        told += [edge.port for edge in edges if edge.callee == name]
        if not told:
            raise InvalidInput(
                f"service {name}: expected a port that it listens on, found none; "
                f"show it in the Compose file (expose:), or write port: under local: {name}:"
            )
        ports[name] = told[0]
    return ports


class _GivenUp(Exception):
    """Another service failed, or nobody waits any more."""


class LocalServices:
    """The port `Services`, by processes on this machine.

    `patience` is how long a service may take to become ready where its health check does not ask for more. `remember` is
    told how to remove each control group, before there is one.
    """

    def __init__(
        self,
        system: LocalSystem,
        launch: Launch,
        record: Callable[[Event], None],
        log_file: Callable[[str], Path],
        patience: float = READY_SECONDS,
        *,
        remember: Remember,
    ) -> None:
        self._system, self._launch, self._record, self._log_file = system, launch, record, log_file
        self._patience, self._remember = patience, remember
        self._services: dict[str, ServiceProcess] = {}
        self._given_up = Flag()
        self._failures: list[Exception] = []
        self._lock = Lock()

    def start(self) -> None:
        """Start every service and return when all are ready; raises what went wrong first."""
        names = self._in_order()
        ports = listening_ports(self._system.compose, self._system.local, self._system.edges)
        self._services = {name: self._prepare(name, ports) for name in names}
        with ThreadPoolExecutor(max_workers=max(1, len(names)), thread_name_prefix="service") as pool:
            futures = [pool.submit(self._bring_up_or_fail, service) for service in self._services.values()]
            try:
                wait(futures)
            except BaseException:
                self.give_up()
                raise
        if self._failures:
            raise self._failures[0]
        if self._given_up.is_set():
            raise CouldNotRun("the system was still coming up when the run was ended")

    def give_up(self) -> None:
        """Nobody waits for `start` any more: it raises soon. May be called from a signal handler."""
        self._given_up.set()

    def exited(self) -> Sequence[Event]:
        """A ServiceExited for each service that ended by itself since the last call.

        Who ended and has a restart policy is started again here: this is called about once a second, and only while
        the run goes on. One that a fault is being done to is left for the next call.
        """
        return tuple(event for service in self._services.values() for event in service.look_after())

    def address(self, service: str) -> Address:
        """Where a service listens, past every proxy."""
        return self._system.addresses[service]

    def database_url(self, service: str, database: str) -> str:
        """How the harness reaches a database: by its own role where it provides the server, else by that of a service."""
        known = self._services.get(service)
        if known is not None and isinstance(known.runnable, Postgresql):
            return known.runnable.database_url(database)
        url = url_of(service, database, self.address(service), self._environments())
        if url is not None:
            return url
        raise InvalidInput(
            f"expected to know how to reach the database {database} of {service}, found no way: it is not "
            f"provided: postgresql, and no service has a URL that leads to that database"
        )

    def strike(self, change: ServiceChange) -> dict[str, Any]:
        """Do to a service what a fault says."""
        return self._struck(change).strike(change)

    def relieve(self, change: ServiceChange) -> dict[str, Any]:
        """Take it back."""
        return self._struck(change).relieve(change)

    def _struck(self, change: ServiceChange) -> ServiceProcess:
        if change.service not in self._services:
            raise ServiceFaultFailed(f"{change.deed} of {change.service}: expected a service that was started, found none")
        return self._services[change.service]

    def log_tail(self, service: str, lines: int = 20) -> tuple[str, ...]:
        """The last lines the service wrote."""
        return tail_of(self._log_file(service), lines)

    # what is to be started

    def _in_order(self) -> tuple[str, ...]:
        services = self._system.compose.services
        waits = {name: set(service.depends_on) for name, service in services.items()}
        for name, others in waits.items():
            if unknown := sorted(others - services.keys()):
                raise InvalidInput(f"service {name}: expected depends_on to name services, found {', '.join(unknown)}")
        try:
            return tuple(TopologicalSorter(waits).static_order())
        except CycleError as error:
            raise InvalidInput(
                f"expected services that can wait for each other, found a circle: {' -> '.join(error.args[1])}"
            ) from error

    def _environments(self) -> dict[str, dict[str, str]]:
        return {name: self._system.variables(name) for name in self._system.compose.services}

    def _prepare(self, name: str, ports: Mapping[str, int]) -> ServiceProcess:
        way = self._system.way_to_run(name)
        spot = Spot(name, self._system.addresses[name], self._log_file(name), self._system.temporary / f"{name}.service")
        if way.provided is not None:
            return self._process(spot, self._provided(way, spot), self._patience)
        return self._by_command(way, spot, ports)

    def _provided(self, way: LocalService, spot: Spot) -> Runnable:
        found = credentials_for(spot.service, self._environments())
        if way.provided == "redis":
            return Redis(spot, redis_passwords(spot.service, found))
        contents = contents_of(spot.service, way.databases, self._system.variables(spot.service), found)
        return Postgresql(spot, contents)

    def _by_command(self, way: LocalService, spot: Spot, ports: Mapping[str, int]) -> ServiceProcess:
        system, name = self._system, spot.service
        around = Surroundings(ports, system.edges, system.proxies, system.folder)
        environment = environment_of(name, system.variables(name), around)
        check = system.compose.services[name].healthcheck
        here = (
            HealthCheckHere(spot, check, ports[name], environment, system.folder, self._launch) if check is not None else None
        )
        argv = arguments_of(name, way.command or "", spot.address.host, spot.address.port)
        patience = self._patience
        if check is not None:
            patience = max(patience, min(LONGEST_READY_SECONDS, check.start_period + check.retries * check.interval))
        return self._process(spot, Command(spot, argv, environment, system.folder, way.ready, here), patience)

    def _process(self, spot: Spot, runnable: Runnable, patience: float) -> ServiceProcess:
        restarts = Restarts(self._system.compose.services[spot.service].restart)
        limits = Limits(spot.service, self._remember, counted_from_birth=spot.service in self._system.limited)
        return ServiceProcess(spot, runnable, patience, restarts, limits, self._launch, self._tell)

    # bringing up, each service in a thread

    def _bring_up_or_fail(self, service: ServiceProcess) -> None:
        try:
            self._bring_up(service)
        except _GivenUp:
            pass
        except Exception as error:
            with self._lock:
                self._failures.append(error)
            self._given_up.set()

    def _bring_up(self, service: ServiceProcess) -> None:
        for name, condition in self._system.compose.services[service.name].depends_on.items():
            other = self._services[name]
            self._wait_for(other.started if condition == "service_started" else other.ready)
        began = time.monotonic()
        pid = service.start()
        self._tell(ServiceStarted(time.time(), service.name, pid, str(service.spot.address)))
        service.started.set()
        self._wait_until_ready(service, began + service.patience)
        if outside := listening_outside(pid):
            raise CouldNotRun(
                f"service {service.name} listens at {', '.join(outside)}, where others on the network reach it; expected "
                f"loopback alone: let its command listen at {{host}} and {{port}}"
            )
        self._tell(ServiceReady(time.time(), service.name, time.monotonic() - began))
        service.ready.set()

    def _wait_for(self, flag: Flag) -> None:
        while not flag.wait(LOOK_EVERY_SECONDS):
            self._check_given_up()

    def _check_given_up(self) -> None:
        if self._given_up.is_set():
            raise _GivenUp

    def _wait_until_ready(self, service: ServiceProcess, deadline: float) -> None:
        while (why_not := service.runnable.why_not_ready()) is not None:
            ended = service.has_ended()
            if ended is not None:
                for event in service.exit():
                    self._tell(event)
                raise ServiceNotReady(service.name, f"it ended before it was ready: {ended}", self.log_tail(service.name))
            if time.monotonic() > deadline:
                reason = f"it was not ready after {service.patience:g} s: {why_not}"
                raise ServiceNotReady(service.name, reason, self.log_tail(service.name))
            self._given_up.wait(LOOK_EVERY_SECONDS)
            self._check_given_up()

    def _tell(self, event: Event) -> None:
        with self._lock:
            self._record(event)
