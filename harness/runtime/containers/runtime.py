"""A system brought up as containers, with a container of proxies on every edge."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from harness.errors import CouldNotRun
from harness.history.events import NameUnknown
from harness.history.store import LOGS
from harness.model.compose import Compose
from harness.model.edges import CLIENT
from harness.model.experiment import System
from harness.plan.plan import Begin, Plan, WatchBite, WatchCounter, WatchInvariant
from harness.runtime.containers.blackholes import Blackholes, check, cuts_networks, filter_for
from harness.runtime.containers.complaints import Taken
from harness.runtime.containers.compose import compose_config
from harness.runtime.containers.engine import told_of
from harness.runtime.containers.images import engine_container
from harness.runtime.containers.names import NameResponder
from harness.runtime.containers.removal import empty_project, project_of
from harness.runtime.containers.rewrite import CONTROL, PROXIES, Asked, Rewritten, Wanted, detour_to, rewrite
from harness.runtime.containers.seen_edges import SeenEdges
from harness.runtime.containers.services import ContainerSystem, DockerServices
from harness.runtime.containers.subnets import Subnets, free_blocks
from harness.runtime.containers.surroundings import check_reached, free_ports, taken_networks
from harness.runtime.containers.watch import EngineGuardian
from harness.runtime.ports import Address, Standing
from harness.runtime.processes import JournaledLaunch
from harness.runtime.proxies.supervised import Engine, SupervisedEngine
from harness.runtime.proxies.token import make_token_file, token_in
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from harness.runtime.recorder import Recorder, now
from harness.runtime.services.waiting import tail_of
from harness.runtime.setting import Setting
from harness.runtime.stopping import Stop
from harness.runtime.undo import PROJECT_SECONDS, RemoveProject, RestoreProxies, UndoJournal, make_run_folder

TRIES = 3
"""How often a run is brought up where addresses or ports were taken meanwhile."""

READING_SECONDS = 120.0
"""How long Compose may take to read its files, and the engine to tell which addresses are taken."""

SETTING_UP_SECONDS = 60.0
"""How long it may take to get to know the proxies, once their container stands."""

WELL_KNOWN_DATABASE = 5432


@dataclass(frozen=True, slots=True)
class _Way:
    """One attempt's addresses: where the engine publishes, and which networks are used."""

    rewritten: Rewritten
    control: Address

    def at(self, name: str) -> Address:
        """Where a published proxy is reached."""
        return Address(self.control.host, self.rewritten.published[name])


class DockerRuntime:
    """The port `Runtime`, by containers of a Docker engine."""

    def __init__(self, plan: Plan, setting: Setting, recorder: Recorder, stop: Stop, journal: UndoJournal) -> None:
        assert setting.docker is not None
        self._plan, self._setting, self._recorder, self._stop = plan, setting, recorder, stop
        self._journal, self._docker = journal, setting.docker
        self._launch = JournaledLaunch(journal)
        self._project = project_of(setting.run)
        self._services: DockerServices | None = None
        self._folder = Path()
        self._token_file: Path | None = None
        self._token = ""
        self._unknown: dict[str, list[str]] = {}
        self._healing = ""
        self._names: NameResponder | None = None
        self._engine: SupervisedEngine | None = None
        undo = self._undo = RemoveProject(self._project, self._docker.host, self._docker.certificates)
        self._guardian = EngineGuardian(
            undo, self._docker, recorder.folder.path, lease=setting.lease, stop=stop, record=recorder.record
        )

    def bring_up(self) -> Standing:
        """Everything by one `docker compose up`: the proxies first, since all services wait for them."""
        folder = self._folder = make_run_folder(self._journal)
        if self._is_embedded:
            self._token_file = make_token_file(folder)
            self._token = token_in(self._token_file)
        self._journal.before(self._undo)
        self._guardian.begin()
        self._stop.busy(READING_SECONDS)
        config = compose_config(self._setting.compose_files, os.environ, self._project)
        with told_of(self._docker.host):
            standing = self._stand_somewhere(config, folder)
        self._guardian.wait_until_known()
        return standing

    def _stand_somewhere(self, config: Mapping[str, Any], folder: Path) -> Standing:
        """With addresses and ports that nobody has; with others, where somebody took them meanwhile."""
        client = self._docker.client()
        blocks = free_blocks(taken_networks(client, is_here=self._docker.is_here), self._project)
        client.close()
        for attempt in range(TRIES):
            way = self._named_way(config, next(blocks))
            try:
                return self._stand(way, folder)
            except Taken:
                if attempt == TRIES - 1:
                    raise
                self._start_over()
        raise CouldNotRun("expected free addresses and ports for a run, found none")

    def processes(self) -> Mapping[str, Sequence[int]]:
        """The containers' processes, where they run on this machine."""
        return self._services.processes() if self._services is not None else {}

    def let_go(self) -> None:
        """Look and listen no more."""
        self._guardian.let_go()
        if self._engine is not None:
            self._engine.close()
        if self._services is not None:
            self._services.close()

    def collect(self) -> None:
        """Answer for names no more, and take note of the processes that ended."""
        self._guardian.close()
        self._close_names()
        self._launch.collect()

    def _close_names(self) -> None:
        if self._names is not None:
            self._names.close()
            self._names = None

    def _start_over(self) -> None:
        """Nothing of this attempt is kept; its port may be somebody else's, who must not be told to heal."""
        self._stop.busy(PROJECT_SECONDS)
        self._journal.done(self._healing)
        self._close_names()
        if self._services is not None:
            self._services.close()
        why_left = empty_project(self._project, self._docker.host, self._docker.certificates)
        if why_left is not None:
            raise CouldNotRun(why_left)

    # what is to be brought up

    def _named_way(self, config: Mapping[str, Any], block: IPv4Network) -> _Way:
        """With answers for names that nobody has, where this process may give them."""
        if self._docker.is_here:
            way = self._way(config, block, answers_names=True)
            try:
                self._names = NameResponder(way.rewritten.name_servers, self._name_asked)
            except OSError:
                pass
            else:
                return way
        return self._way(config, block, answers_names=False)

    def _name_asked(self, service: str, name: str) -> None:
        if service == PROXIES:  # they asked for a service that is down
            return
        self._unknown.setdefault(service, []).append(name)
        self._recorder.record(NameUnknown(now(), service, name))

    def _hint(self, service: str) -> str:
        """What a service may miss here that it has elsewhere: a dependency that nobody declared, or the outside."""
        return undeclared(service, self._unknown.get(service, ()), self._setting.compose, self._plan.experiment.system)

    def _way(self, config: Mapping[str, Any], block: IPv4Network, *, answers_names: bool) -> _Way:
        asked = asked_of(self._plan, self._setting)
        probed = self._probed_from_elsewhere()
        ports = free_ports(self._docker, 2 + len(asked) + len(probed))
        system = self._plan.experiment.system
        wanted = Wanted(
            project=self._project,
            compose=self._setting.compose,
            proxies=self._plan.proxies,
            engine=engine_container(self._setting.engine, self._folder, self._token),
            subnets=Subnets(block),
            published_on=self._docker.published_on,
            host_ports=ports,
            asked=asked,
            interpose=system.interpose,
            unproxied=system.unproxied,
            egress=system.egress,
            overrides=self._setting.overrides,
            limited=_limited(self._plan),
            answers_names=answers_names,
            probed=probed,
        )
        rewritten = rewrite(config, wanted)
        return _Way(rewritten, Address(self._docker.published_on, rewritten.published[CONTROL]))

    def _stand(self, way: _Way, folder: Path) -> Standing:
        self._healing = self._journal.before(RestoreProxies(f"http://{way.control}", str(self._token_file or "")))
        edges = SeenEdges(way.rewritten.networks, [proxy.name for proxy in self._plan.proxies])
        system = ContainerSystem(
            engine=self._docker,
            project=self._project,
            model=_written(folder / "compose.json", way.rewritten.model),
            services=tuple(self._setting.compose.services),
            asked={asked: way.at(asked.proxy) for asked in asked_of(self._plan, self._setting)},
            environments=self._environments(),
            called={edge.callee for edge in self._plan.experiment.system.edges},
        )
        control = ToxiproxyEngine(way.control, f"{LOGS}/proxies.log", self._token)
        log_file = self._recorder.log_file
        services = self._services = DockerServices(
            system,
            self._launch,
            self._recorder.record,
            log_file,
            listen=edges.read_log,
            hint=self._hint,
            ask_proxies=control.version,
        )
        self._stop.wait_for(services.start, services.give_up)
        self._stop.busy(SETTING_UP_SECONDS)
        check_reached(self._docker, way.control)
        engine = self._engine = self._supervised(way.control, services, edges)
        engine.begin(way.rewritten.proxies)
        entry = next(proxy.name for proxy in self._plan.proxies if proxy.caller == CLIENT and not proxy.spare)
        listening = {made.name: made.listen for made in way.rewritten.proxies} | {
            name: way.at(detour_to(name) if detour_to(name) in way.rewritten.published else name)
            for name in self._probed_from_elsewhere()
        }
        return Standing(engine, services, f"http://{way.at(entry)}", listening, None, detour=not self._docker.is_here)

    def _probed_from_elsewhere(self) -> tuple[str, ...]:
        """The edges that are probed and whose networks are those of another machine."""
        if self._docker.is_here:
            return ()
        return tuple(dict.fromkeys(seen.proxy for seen in self._plan.observations if isinstance(seen, WatchBite)))

    def _supervised(self, control: Address, services: DockerServices, edges: SeenEdges) -> SupervisedEngine:
        log = self._recorder.log_file("proxies")

        def restart() -> Address:
            services.restart_proxies()
            return control

        def engine_at(address: Address) -> Engine:
            engine = ToxiproxyEngine(address, f"{LOGS}/{log.name}", self._token)
            return self._with_networks(engine, services) if cuts_networks(self._plan, engine_can=self._is_embedded) else engine

        return SupervisedEngine(
            control,
            engine_at=engine_at,
            restart=restart,
            record=self._recorder.record,
            counted=(lambda: edges.seen(now(), services.pid_of_proxies())) if self._setting.engine == "toxiproxy" else None,
            log_tail=lambda: tail_of(log, 10),
        )

    def _with_networks(self, engine: ToxiproxyEngine, services: DockerServices) -> Engine:
        """With what is done before the proxies: in the network namespace of their container as it is now."""
        container = services.project.containers(PROXIES)[0]
        packets = filter_for(self._docker, services.project.client, container, has_python=self._is_embedded)
        check(packets)
        return Blackholes(engine, packets, engine_can=self._is_embedded)

    @property
    def _is_embedded(self) -> bool:
        return self._setting.engine == "embedded"

    def _environments(self) -> dict[str, dict[str, str]]:
        overrides = self._setting.overrides
        return {
            name: service.environment | dict(overrides.get(name, {}))
            for name, service in self._setting.compose.services.items()
        }


def asked_of(plan: Plan, setting: Setting) -> tuple[Asked, ...]:
    """What the harness itself asks: the services of expected counters and invariants, on the port each shows."""
    services = {seen.service for seen in plan.observations if isinstance(seen, WatchCounter)}
    databases = {seen.service for seen in plan.observations if isinstance(seen, WatchInvariant)}
    return tuple(
        Asked(name, _port_of(name, plan, setting, WELL_KNOWN_DATABASE if name in databases else 0))
        for name in sorted(services | databases)
    )


def _port_of(service: str, plan: Plan, setting: Setting, otherwise: int) -> int:
    shown = setting.compose.services[service].ports
    edges = [edge.port for edge in plan.experiment.system.edges if edge.callee == service]
    ports = [*shown, *edges, *([otherwise] if otherwise else [])]
    if not ports:
        raise CouldNotRun(
            f"service {service}: expected a port at which its metrics or data can be asked for, found none; "
            f"show it in the Compose file (expose:)"
        )
    return ports[0]


def undeclared(service: str, unknown: Sequence[str], compose: Compose, system: System) -> str:
    """Why a service that does not come up may not find another: names that it asked for, or else what it depends on."""
    if service not in compose.services or system.interpose == "faulted":
        return ""
    known = {edge.callee for edge in (*system.edges, *system.unproxied) if edge.caller == service}
    missing = [name for name in unknown if name in compose.services] or [
        name for name in compose.services[service].depends_on if name not in known and name not in unknown
    ]
    outside = [name for name in unknown if name not in compose.services]
    hints = []
    if missing:
        edges = ", ".join(f"{service} -> {name}:PORT" for name in missing)
        asked = "it asked for" if missing[0] in unknown else "it depends on"
        hints.append(f"{asked} {', '.join(missing)}, to which no edge is known; where it calls there, write edges: [{edges}]")
    if outside:
        hints.append(f"it asked for {', '.join(outside)}, and has no way out; where it needs one, write egress: [{service}]")
    return "; ".join(hints) + (" in system.yaml" if hints else "")


def _limited(plan: Plan) -> set[str]:
    steps = (step for step in plan.steps if isinstance(step, Begin))
    return {change.service for step in steps for change in step.services if change.deed in ("cpu", "memory")}


def _written(path: Path, model: Mapping[str, Any]) -> Path:
    """The model in a file that nobody else reads: it holds what the services' environment holds."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(model, indent=1), encoding="utf-8")
    return path


__all__ = ["PROXIES", "DockerRuntime", "asked_of"]
