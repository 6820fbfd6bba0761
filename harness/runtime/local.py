"""A system brought up as processes of this machine, with the embedded engine on its edges."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import CouldNotRun
from harness.model.edges import CLIENT
from harness.plan.plan import Plan, PlannedProxy
from harness.runtime.load.locust import LOAD
from harness.runtime.ports import Address, ProxyMade, Standing
from harness.runtime.processes import JournaledLaunch
from harness.runtime.proxies.starting import PROXY_ENGINE, READY_WITHIN, StartedEngine, start_embedded
from harness.runtime.proxies.supervised import LOG_LINES, SupervisedEngine
from harness.runtime.proxies.token import make_token_file
from harness.runtime.recorder import Recorder
from harness.runtime.services.addresses import RunAddresses, listen_on
from harness.runtime.services.local import LocalServices, LocalSystem, listening_ports
from harness.runtime.services.waiting import tail_of
from harness.runtime.setting import Setting
from harness.runtime.stopping import Stop
from harness.runtime.undo import EndProcessGroup, RestoreProxies, UndoJournal, make_run_folder


class LocalRuntime:
    """The port `Runtime`, by processes of this machine."""

    def __init__(self, plan: Plan, setting: Setting, recorder: Recorder, stop: Stop, journal: UndoJournal) -> None:
        self._plan, self._setting, self._recorder, self._stop = plan, setting, recorder, stop
        self._journal = journal
        self._launch = JournaledLaunch(journal)
        self._addresses: RunAddresses | None = None
        self._engine: StartedEngine | None = None
        self._proxies: SupervisedEngine | None = None

    def bring_up(self) -> Standing:
        """Engine and proxies first, then the services."""
        addresses = self._addresses = RunAddresses.claim()
        system = self._local_system(addresses)
        engine = self._start_engine(addresses, make_token_file(system.temporary))
        engine.begin(_proxies_to_make(self._plan, system, addresses))
        recorder = self._recorder
        services = LocalServices(system, self._launch, recorder.record, recorder.log_file, remember=self._journal.before)
        self._stop.wait_for(services.start, services.give_up)
        entry = next(proxy.name for proxy in self._plan.proxies if proxy.caller == CLIENT)
        return Standing(engine, services, f"http://{system.proxies[entry]}", dict(system.proxies), addresses.probe_source)

    def processes(self) -> Mapping[str, Sequence[int]]:
        """The processes of this run by what they are, for telling who uses the machine."""
        own = [undo for undo in self._journal.left().values() if isinstance(undo, EndProcessGroup) and undo.name != LOAD]
        return {
            "proxies": [undo.pid for undo in own if undo.name == PROXY_ENGINE],
            "system": [undo.pid for undo in own if undo.name != PROXY_ENGINE],
        }

    def let_go(self) -> None:
        """Look after the engine no more: it is to end."""
        if self._proxies is not None:
            self._proxies.close()

    def collect(self) -> None:
        """Give back the addresses, and take note of the processes that ended."""
        if self._engine is not None:
            self._engine.stop()
        if self._addresses is not None:
            self._addresses.close()
        self._launch.collect()

    def _local_system(self, addresses: RunAddresses) -> LocalSystem:
        setting, edges = self._setting, self._plan.experiment.system.edges
        ports = listening_ports(setting.compose, setting.local, edges)
        return LocalSystem(
            compose=setting.compose,
            local=setting.local,
            edges=edges,
            proxies={proxy.name: addresses.edge(proxy.name, proxy.port) for proxy in self._plan.proxies},
            addresses={name: addresses.service(name, port) for name, port in ports.items()},
            folder=setting.folder,
            temporary=make_run_folder(self._journal),
            overrides=setting.overrides,
            limited={change.service for step in self._plan.steps for change in step.services if change.deed == "memory"},
        )

    def _start_engine(self, addresses: RunAddresses, token_file: Path) -> SupervisedEngine:
        self._journal.before(RestoreProxies(addresses.control_url, str(token_file)))
        log = self._recorder.log_file("proxies")
        self._stop.busy(2 * READY_WITHIN)
        first = self._engine = start_embedded(self._launch, addresses.control, log, addresses.probe_source, token_file)

        def restart() -> Address:
            """Where it was: another process, since the one that is there may stand still."""
            if self._engine is not None:
                self._engine.kill()
            self._engine = start_embedded(self._launch, _listen_again(first.control), log, addresses.probe_source, token_file)
            return self._engine.control

        self._proxies = SupervisedEngine(
            first.control,
            engine_at=lambda _control: (self._engine or first).engine,
            restart=restart,
            record=self._recorder.record,
            log_tail=lambda: tail_of(log, LOG_LINES),
        )
        return self._proxies


def _listen_again(control: Address) -> socket.socket:
    try:
        return listen_on(control)
    except OSError as error:
        raise CouldNotRun(f"expected to listen on {control} again, found: {error}") from error


def _proxies_to_make(plan: Plan, system: LocalSystem, addresses: RunAddresses) -> list[ProxyMade]:
    return [ProxyMade(proxy.name, addresses.edge(proxy.name, proxy.port), _upstream(proxy, system)) for proxy in plan.proxies]


def _upstream(proxy: PlannedProxy, system: LocalSystem) -> Address:
    """Where the callee listens: on its own port, or on the one the edge names where that is another."""
    own = system.addresses[proxy.callee]
    shown = listening_ports(system.compose, system.local, system.edges)[proxy.callee]
    return own if proxy.port == shown else Address(own.host, proxy.port)
