"""One run in the world: bring up, drive, and take everything down again, whatever happens in between."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import HarnessError, InvalidInput
from harness.history.events import RunBegan, RunEnded, RunFailed, RunInterrupted, SystemReady
from harness.history.store import REQUESTS, UNDO
from harness.model.compose import Compose
from harness.model.edges import CLIENT
from harness.model.system import FallbackDeclared, LocalService
from harness.plan.plan import Plan, PlannedProxy, WatchCounter
from harness.runtime.driver import Driver, Halt, World
from harness.runtime.guardian import start_guardian
from harness.runtime.load.locust import LocustLoad
from harness.runtime.ports import Address, Proxies, ProxyMade
from harness.runtime.processes import JournaledLaunch
from harness.runtime.proxies.starting import StartedEngine, start_embedded
from harness.runtime.recorder import Recorder, RequestTail, now
from harness.runtime.sampler import MachineWatch, Sampler
from harness.runtime.services.addresses import RunAddresses
from harness.runtime.services.local import LocalServices, LocalSystem, listening_ports
from harness.runtime.stopping import Stop, Stopped
from harness.runtime.undo import EndProcessGroup, RestoreProxies, UndoJournal, make_run_folder

GROUPS = {"proxy engine": "proxies", "load": "load"}
"""What the processes that are no services are called, and what they count as."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run needs beside its plan: how the system runs here.

    `overrides` are variables laid over a service's environment, by service (a planted defect, `--env`);
    `why` says why this runtime was taken, `command` how to run the same again.
    """

    run: str
    compose: Compose
    local: Mapping[str, LocalService]
    folder: Path
    locustfile: Path
    why: str
    command: str
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def carry_out(plan: Plan, setting: Setting, recorder: Recorder, stop: Stop) -> None:
    """Do what the plan says; everything that was started is undone when this returns or raises.

    What could not go on is in the history as RunFailed. Raised is only what is no matter of the system:
    InvalidInput, and defects of the harness.
    """
    journal = UndoJournal(recorder.folder.path / UNDO)
    guardian = start_guardian(recorder.folder.path)
    run = _LocalRun(plan, setting, recorder, stop, journal)
    try:
        recorder.record(_run_began(plan, setting))
        _tell_how_it_ended(run.bring_up_and_drive, recorder)
    finally:
        run.let_go()
        journal.undo_all(recorder.record)
        run.collect()
        recorder.record(RunEnded(now()))
        guardian.dismiss()
        journal.close()


def _tell_how_it_ended(deed: Callable[[], None], recorder: Recorder) -> None:
    """Do it, and record why it ended early, where it did."""
    try:
        deed()
    except Halt:
        return
    except Stopped as stopped:
        recorder.record(RunInterrupted(now(), str(stopped)))
    except HarnessError as error:
        recorder.record(RunFailed(now(), str(error)))
        if isinstance(error, InvalidInput):
            raise
    except Exception:
        recorder.record(RunFailed(now(), traceback.format_exc(), defect=True))
        raise


def _run_began(plan: Plan, setting: Setting) -> RunBegan:
    versions = {"chaos-harness": __version__, "python": platform.python_version()}
    for package in ("locust", "uvloop"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    engine = f"embedded {__version__}"
    name, seed = plan.experiment.name, plan.experiment.seed
    return RunBegan(now(), setting.run, name, "local", engine, setting.why, seed, versions, setting.command)


class _LocalRun:
    """The parts of one run on local processes, as far as they have come up."""

    def __init__(self, plan: Plan, setting: Setting, recorder: Recorder, stop: Stop, journal: UndoJournal) -> None:
        self._plan, self._setting, self._recorder, self._stop = plan, setting, recorder, stop
        self._journal = journal
        self._launch = JournaledLaunch(journal)
        self._addresses: RunAddresses | None = None
        self._engine: StartedEngine | None = None
        self._driver: Driver | None = None
        self._sampler: Sampler | None = None

    def bring_up_and_drive(self) -> None:
        """Engine and proxies first, then the services, then the load; then the plan."""
        began = time.monotonic()
        addresses = self._addresses = RunAddresses.claim()
        system = self._local_system(addresses)
        engine = self._start_engine(addresses)
        engine.create(_proxies_to_make(self._plan, system, addresses))
        services = LocalServices(system, self._launch, self._recorder.record, self._recorder.folder.log_file)
        self._stop.wait_for(services.start, services.give_up)
        load = LocustLoad(self._launch, self._setting.locustfile.parent, self._recorder.folder.log_file("load"))
        records = self._recorder.folder.path / REQUESTS
        arrivals = self._plan.load.model_copy(update={"locustfile": str(self._setting.locustfile)})
        entry = next(proxy.name for proxy in self._plan.proxies if proxy.caller == CLIENT)
        way_in, marks = f"http://{system.proxies[entry]}", _marks(self._plan)
        self._stop.wait_for(lambda: load.start(arrivals, way_in, marks, records), lambda: None)
        self._recorder.record(SystemReady(now(), time.monotonic() - began))
        world = World(engine, services, load, dict(system.proxies), addresses.probe_source)
        counters = [seen for seen in self._plan.observations if isinstance(seen, WatchCounter)]
        self._sampler = Sampler(self._recorder, engine, services, counters)
        self._driver = Driver(self._plan, world, self._recorder, self._stop, self._sampler)
        self._sampler.begin(RequestTail(records), MachineWatch(self._groups))
        self._driver.drive()

    def let_go(self) -> None:
        """Heal what is on, first of all; then end the looking."""
        if self._driver is not None:
            self._driver.heal()
            self._driver.close()
        if self._sampler is not None:
            self._sampler.end()

    def collect(self) -> None:
        """After the undo: give back the addresses, and take note of the processes that ended."""
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
        )

    def _start_engine(self, addresses: RunAddresses) -> Proxies:
        self._journal.before(RestoreProxies(addresses.control_url))
        log = self._recorder.folder.log_file("proxies")
        self._engine = start_embedded(self._launch, addresses.control, log, addresses.probe_source)
        return self._engine.engine

    def _groups(self) -> Mapping[str, Sequence[int]]:
        """The processes of this run by what they are, for telling who uses the machine."""
        groups: dict[str, list[int]] = {"proxies": [], "load": [], "system": []}
        for undo in self._journal.left().values():
            if isinstance(undo, EndProcessGroup):
                groups[GROUPS.get(undo.name, "system")].append(undo.pid)
        return groups


def _proxies_to_make(plan: Plan, system: LocalSystem, addresses: RunAddresses) -> list[ProxyMade]:
    return [ProxyMade(proxy.name, addresses.edge(proxy.name, proxy.port), _upstream(proxy, system)) for proxy in plan.proxies]


def _upstream(proxy: PlannedProxy, system: LocalSystem) -> Address:
    """Where the callee listens: on its own port, or on the one the edge names where that is another."""
    own = system.addresses[proxy.callee]
    shown = listening_ports(system.compose, system.local, system.edges)[proxy.callee]
    return own if proxy.port == shown else Address(own.host, proxy.port)


def _marks(plan: Plan) -> dict[str, Any]:
    """The markers of the declared fallbacks, by name, as the load looks for them."""
    declared: Mapping[str, FallbackDeclared] = plan.experiment.system.fallbacks
    return {name: fallback.marker.model_dump(mode="json", exclude_none=True) for name, fallback in declared.items()}
