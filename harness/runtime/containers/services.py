"""The system under test as containers, brought up by Compose and spoken to by the Docker SDK."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from harness.errors import CouldNotRun, InvalidInput, ProxyError, ServiceNotReady
from harness.history.events import Event, ServiceChanged, ServiceExited, ServiceReady, ServiceStarted
from harness.history.store import LOGS
from harness.plan.plan import ServiceChange
from harness.runtime.containers import complaints
from harness.runtime.containers.compose import build_command, up_command
from harness.runtime.containers.deeds import Deeds
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.containers.project import Project, Seen, how_ended
from harness.runtime.containers.pulse import EnginePulse
from harness.runtime.containers.rewrite import PROXIES, Asked
from harness.runtime.containers.streams import ContainerEvent, EventStream, LogFollower
from harness.runtime.ports import Address, Launch
from harness.runtime.services.credentials import url_of
from harness.runtime.services.waiting import tail_of

READY_SECONDS = 60.0
"""How long the last services may take to become ready once every container was started."""

LOOK_EVERY = 0.2

STALLED_SECONDS = 180.0
"""How long nothing may become of any container while Compose waits for one: a job that ends, a health check that passes."""

TELLS_LATE = 1.0
"""What an engine tells so soon after a fault was taken back may still be of the fault."""

SETTLED_SECONDS = 2.0
"""How long a service without a health check has to run until it counts as ready: what exits at boot does so soon, but an
interpreter on a busy machine takes more than a second to get there."""


@dataclass(frozen=True, slots=True)
class ContainerSystem:
    """What is brought up: the rewritten model's file, and what the harness asks of it.

    `asked` tells where the harness reaches what it asks; `environments` what each service finds in its environment;
    `called` are services that others, or the load, call.
    """

    engine: DockerEngine
    project: str
    model: Path
    services: Sequence[str]
    asked: Mapping[Asked, Address]
    environments: Mapping[str, Mapping[str, str]]
    called: Collection[str] = ()


class DockerServices:
    """The port `Services`, by containers. `listen` is given each line that the container of the proxies writes, `hint`
    says what else may keep a service from coming up, `ask_proxies` raises ProxyError until the proxies are there.
    """

    def __init__(
        self,
        system: ContainerSystem,
        launch: Launch,
        record: Callable[[Event], None],
        log_file: Callable[[str], Path],
        *,
        listen: Callable[[bytes], None] = lambda _line: None,
        hint: Callable[[str], str] = lambda _service: "",
        ask_proxies: Callable[[], object] = lambda: None,
    ) -> None:
        self._system, self._launch, self._record, self._log_file = system, launch, record, log_file
        self._hint, self._ask_proxies = hint, ask_proxies
        self._client = system.engine.client()
        self.project = Project(self._client, system.project)
        self._deeds = Deeds(self.project, is_here=system.engine.is_here, tell=self._tell)
        self._events = EventStream(system.engine.client(), system.project, self._on_event)
        self._logs = LogFollower(
            system.engine.client(), self._log_name, lambda who, line: listen(line) if who == PROXIES else None
        )
        self._pulse = EnginePulse(system.engine, record)
        self._state = _State()
        self._given_up = threading.Event()

    def start(self) -> None:
        """Bring everything up and return when all is ready; raises what went wrong, or Taken where it is worth another try."""
        self._pulse.begin()
        self._events.begin()
        model, project = self._system.model, self._system.project
        if self._is_anything_built():
            self._compose(build_command(model), complaints.of_a_build)
        self._compose(up_command(project, model, PROXIES), self._why_not_up)
        self._wait_for_proxies()
        self._compose(up_command(project, model), self._why_not_up)
        self._wait_until_ready()
        self._state.standing.set()
        self._check_nobody_failed()  # what ended before this is seen here, what ends after it is told by `exited`

    def give_up(self) -> None:
        """Nobody waits for `start` any more: it raises soon."""
        self._given_up.set()

    def close(self) -> None:
        """Look and listen no more."""
        self._pulse.end()
        self._deeds.close()
        self._events.end()

    def exited(self) -> Sequence[Event]:
        """A ServiceExited for each service that ended by itself since the last call."""
        self._pulse.check()
        if self._events.failure is not None:
            raise CouldNotRun(f"what becomes of the containers cannot be followed any more: {self._events.failure}")
        found = []
        while self._state.exits:
            event = self._state.exits.popleft()
            found.append(ServiceExited(event.at, event.service, event.detail, self.log_tail(event.service)))
        return tuple(found)

    def address(self, service: str) -> Address:
        """Where the harness reaches a service, past every edge."""
        found = next((address for asked, address in self._system.asked.items() if asked.service == service), None)
        if found is None:
            raise InvalidInput(f"expected to know how to reach {service}, found no port that it shows")
        return found

    def database_url(self, service: str, database: str) -> str:
        """How the harness reaches a database of a service: as one of the services that use it."""
        url = url_of(service, database, self.address(service), self._system.environments)
        if url is None:
            raise InvalidInput(
                f"expected to know how to reach the database {database} of {service}, found no way: "
                f"no service has a URL with a user and a password that leads to that database"
            )
        return url

    def strike(self, change: ServiceChange) -> dict[str, Any]:
        """Do to a service what a fault says, and return the state read back."""
        self._state.struck[change.service] = inf
        return self._deeds.strike(change)

    def relieve(self, change: ServiceChange) -> dict[str, Any]:
        """Take it back and return the state read back."""
        try:
            return self._deeds.relieve(change)
        finally:
            self._state.struck[change.service] = time.time() + TELLS_LATE

    def log_tail(self, service: str, lines: int = 20) -> tuple[str, ...]:
        """The last lines the service wrote."""
        return tail_of(self._log_file(service), lines)

    def processes(self) -> Mapping[str, Sequence[int]]:
        """The first process of each container on this machine; none where they run elsewhere."""
        if not self._system.engine.is_here:
            return {}
        groups: dict[str, list[int]] = {"proxies": [], "system": []}
        for (service, _), pid in list(self._state.pids.items()):
            groups["proxies" if service == PROXIES else "system"].append(pid)
        return groups

    def restart_proxies(self) -> None:
        """Start the container of the proxies again, whatever state it is in; its ports stay where they are."""
        from docker.errors import DockerException

        try:
            for container in self.project.containers(PROXIES):
                container.restart(timeout=0)
        except (DockerException, OSError) as error:
            raise CouldNotRun(f"the container of the proxies could not be restarted: {error}") from error

    def pid_of_proxies(self) -> int | None:
        """The process of the proxies on this machine; None where it runs elsewhere."""
        found = [pid for (service, _), pid in list(self._state.pids.items()) if service == PROXIES]
        return found[-1] if found and self._system.engine.is_here else None

    # what the engine tells

    def _tell(self, service: str, instance: str, what: str, detail: str) -> None:
        self._record(ServiceChanged(time.time(), service, instance, what, detail))

    def _log_name(self, service: str) -> Path:
        return self._log_file("proxies" if service == PROXIES else service)

    def _on_event(self, event: ContainerEvent) -> None:
        state = self._state
        state.last_event = time.monotonic()
        if event.what == "start":
            self._logs.follow(event.container, event.service, event.engine_time - 0.5 if event.engine_time else event.at)
            state.began[event.container] = event.at
            pid = self._pid_of(event)
            if not state.standing.is_set() and event.service != PROXIES:
                self._record(ServiceStarted(event.at, event.service, pid, event.name))
        elif event.what == "die":
            state.pids.pop((event.service, event.container), None)
        if event.service == PROXIES:
            return
        if event.what == "health_status":
            self._tell_ready(event)
        elif state.standing.is_set():
            self._record(ServiceChanged(event.at, event.service, event.name, event.what, event.detail))
            done = event.detail == how_ended(0) and event.service not in self._system.called
            if event.what == "die" and event.at > state.struck.get(event.service, 0.0) and not done:
                state.exits.append(event)

    def _tell_ready(self, event: ContainerEvent) -> None:
        if event.detail == "healthy" and not self._state.standing.is_set():
            seconds = event.at - self._state.began.get(event.container, event.at)
            self._record(ServiceReady(event.at, event.service, seconds))

    def _pid_of(self, event: ContainerEvent) -> int:
        import requests
        from docker.errors import DockerException

        try:
            pid = int(self._client.api.inspect_container(event.container)["State"]["Pid"])
        except (DockerException, requests.RequestException, OSError, KeyError, ValueError):
            return 0
        if pid:
            self._state.pids[event.service, event.container] = pid
        return pid

    # bringing up

    def _compose(self, command: Sequence[str], why_not: Callable[[str], CouldNotRun]) -> None:
        """Run Compose to its end; where it fails, raise what `why_not` makes of what it said."""
        log = self._log_file("compose")
        written = log.stat().st_size if log.exists() else 0
        self._check_given_up()
        environment = self._system.engine.environment()
        process = self._launch("docker compose", command, environment=environment, log=log, folder=self._system.model.parent)
        while process.poll() is None:
            try:
                self._check_given_up()
                self._check_stalled()
            except BaseException:
                process.terminate()
                raise
            time.sleep(LOOK_EVERY / 4)
        if process.returncode != 0:
            with log.open("rb") as said:
                said.seek(written)
                error = why_not(said.read().decode("utf-8", "replace"))
            raise error if isinstance(error, ServiceNotReady) else complaints.with_log(error, f"{LOGS}/{log.name}")

    def _check_given_up(self) -> None:
        if self._given_up.is_set():
            raise CouldNotRun("the system was still coming up when the run was ended")
        self._pulse.check()

    def _check_stalled(self) -> None:
        """Raise where services have been started, and for long nothing has become of any."""
        last = self._state.last_event
        if last is not None and time.monotonic() - last > STALLED_SECONDS:
            found = [seen for seen in self.project.look() if seen.service != PROXIES]
            starting = [seen for seen in found if seen.health == "starting"]
            at_work = [seen for seen in found if seen.state == "running" and not seen.health]
            raise self._not_ready((starting + at_work + found)[0], f"others wait for it, and for {STALLED_SECONDS:g} s ")

    def _wait_for_proxies(self) -> None:
        """Until every proxy is there: the engine's API answers when it has made them."""
        until = time.monotonic() + READY_SECONDS
        while True:
            self._check_nobody_failed()
            self._check_given_up()
            try:
                self._ask_proxies()
            except ProxyError:
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK_EVERY / 4)
            else:
                return

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + READY_SECONDS
        while True:
            found = self._check_nobody_failed()
            waiting = [seen for seen in found if seen.why_not_ready is not None]
            if not waiting and all(self._is_settled(seen) for seen in found):
                return
            if waiting and time.monotonic() > until:
                raise self._not_ready(waiting[0], f"after {READY_SECONDS:g} s ")
            self._given_up.wait(LOOK_EVERY)
            self._check_given_up()

    def _check_nobody_failed(self) -> Sequence[Seen]:
        """All containers, of which none has failed."""
        found = self.project.look()
        failed = next((seen for seen in found if seen.has_failed or self._left_its_callers(seen)), None)
        if failed is not None:
            raise self._not_ready(failed)
        return found

    def _left_its_callers(self, seen: Seen) -> bool:
        """Whether one that others call has ended, however well: it is no job that was done."""
        return seen.state == "exited" and seen.service in self._system.called

    def _is_settled(self, seen: Seen) -> bool:
        """Whether one that says nothing of its health has run for a while."""
        if seen.health or seen.state != "running":
            return True
        return time.time() > self._state.began.setdefault(seen.id, time.time()) + SETTLED_SECONDS

    def _not_ready(self, seen: Seen, after: str = "") -> ServiceNotReady:
        log = self.project.log_tail(seen.id)
        if seen.exit_code is not None:
            self._record(ServiceExited(time.time(), seen.service, how_ended(seen.exit_code), log))
        reason = f"{after}{seen.why_not_ready or 'it has not ended'}"
        hint = self._hint(seen.service)
        reason += f"; {hint}" if hint else ""
        return ServiceNotReady(seen.service, reason, (*log, *self._health_tail(seen)))

    def _health_tail(self, seen: Seen) -> tuple[str, ...]:
        """What the last health check said, where there is one."""
        health = self._client.api.inspect_container(seen.id)["State"].get("Health") or {}
        said = [str(check.get("Output", "")).strip() for check in (health.get("Log") or [])[-1:]]
        return tuple(f"health check: {line}" for text in said if text for line in text.splitlines()[-3:])

    def _why_not_up(self, said: str) -> CouldNotRun:
        """The reason, from the containers where one of them is it, else from Compose's own words."""
        engine = self._system.engine
        complaint = complaints.of_the_engine(said, engine.host, engine.published_on)
        if complaint is not None:
            return complaint
        found = self.project.look()
        failed = next((seen for seen in found if seen.has_failed and seen.service != PROXIES), None)
        if failed is not None:
            return self._not_ready(failed)
        complaint = complaints.of_images(said, self._images())
        if complaint is not None:
            return complaint
        proxies = next((seen for seen in found if seen.service == PROXIES and seen.why_not_ready), None)
        return self._not_ready(proxies) if proxies is not None else complaints.of_nothing_known(said)

    def _is_anything_built(self) -> bool:
        services = json.loads(self._system.model.read_text(encoding="utf-8"))["services"]
        return any("build" in service for service in services.values())

    def _images(self) -> dict[str, str]:
        services = json.loads(self._system.model.read_text(encoding="utf-8"))["services"]
        return {name: str(service.get("image", "")) for name, service in services.items()}


@dataclass(slots=True)
class _State:
    """What is known of the containers; written by the thread that follows the engine's events."""

    standing: threading.Event = field(default_factory=threading.Event)
    began: dict[str, float] = field(default_factory=dict)
    pids: dict[tuple[str, str], int] = field(default_factory=dict)
    exits: deque[ContainerEvent] = field(default_factory=deque)
    struck: dict[str, float] = field(default_factory=dict)
    last_event: float | None = None
