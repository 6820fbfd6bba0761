"""One run in the world: bring up, drive, and take everything down again, whatever happens in between."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harness import __version__
from harness.errors import HarnessError, InvalidInput
from harness.history.events import RunBegan, RunEnded, RunFailed, RunInterrupted, SystemReady
from harness.history.store import REQUESTS, UNDO
from harness.model.load import IN_ROUNDS
from harness.model.system import FallbackDeclared
from harness.plan.plan import Plan, WatchCounter
from harness.plan.twins import NOT_APPLIED
from harness.runtime.containers.images import TOXIPROXY_VERSION
from harness.runtime.containers.runtime import DockerRuntime
from harness.runtime.driver import CHANGE_SECONDS, Driver, Halt, World
from harness.runtime.guardian import Guardian, start_guardian
from harness.runtime.load.locust import LOAD, LocustLoad
from harness.runtime.load.remote import JOIN_SECONDS
from harness.runtime.local import LocalRuntime
from harness.runtime.ports import Runtime
from harness.runtime.processes import JournaledLaunch
from harness.runtime.recorder import Recorder, RequestTail, now
from harness.runtime.sabotage import UntouchedProxies, UntouchedServices
from harness.runtime.sampler import MachineWatch, Sampler
from harness.runtime.setting import Setting
from harness.runtime.stopping import Stop, Stopped
from harness.runtime.undo import START_SECONDS, EndProcessGroup, UndoJournal, make_run_folder
from harness.runtime.undoing import PROJECT_SECONDS, longest

UP_SECONDS = 90.0
"""How long a service may take to come up at most, and all that is no service together."""

DOCKER_UP_SECONDS = 1800.0
"""As long for all containers in addition: images may have to be fetched and built first."""

SLACK_SECONDS = 60.0
LET_GO_SECONDS = 60.0
COLLECT_SECONDS = 15.0
DOWN_SECONDS = 120.0
"""As long as all of that but the healing, before it is known what is to be undone."""


def carry_out(plan: Plan, setting: Setting, recorder: Recorder, stop: Stop) -> None:
    """Do what the plan says; everything that was started is undone when this returns or raises.

    What could not go on is in the history as RunFailed. Raised is only what is no matter of the system:
    InvalidInput, and defects of the harness.
    """
    stop.begin()
    guardian = start_guardian(recorder.folder.path, stop, setting.lease)
    journal = UndoJournal(recorder.folder.path / UNDO)
    watched = _Watched(guardian, stop, plan, setting)
    run = _Run(plan, setting, recorder, stop, journal)
    try:
        recorder.record(_run_began(plan, setting))
        _tell_how_it_ended(partial(run.bring_up_and_drive, watched), recorder)
    finally:
        watched.taking_down()
        try:
            _tell_how_it_ended(run.let_go, recorder)
        finally:
            _undo(run, journal, recorder, watched)


def _undo(run: _Run, journal: UndoJournal, recorder: Recorder, watched: _Watched) -> None:
    """Undo everything; once that is over the guardian is dismissed, whatever else goes wrong. Else the rest is left to it."""
    try:
        watched.undoing(journal)
        journal.undo_all(recorder.record)
        with ExitStack() as ending:
            ending.callback(watched.over)
            ending.callback(lambda: recorder.record(RunEnded(now())))
            _tell_how_it_ended(run.collect, recorder)
    finally:
        journal.close()


class _Watched:
    """How long each part of a run may take at most: a run that takes longer is ended by its guardian."""

    def __init__(self, guardian: Guardian, stop: Stop, plan: Plan, setting: Setting) -> None:
        self._guardian, self._stop, self._plan = guardian, stop, plan
        self._coming_up = UP_SECONDS * (1 + len(setting.compose.services))
        self._coming_up += DOCKER_UP_SECONDS if setting.docker is not None else 0.0
        self._coming_up += JOIN_SECONDS if plan.load.bind is not None else 0.0
        self._healing = CHANGE_SECONDS * (1 + sum(len(step.changes) + len(step.services) for step in plan.steps))
        self._taking_down = self._healing + DOWN_SECONDS + (PROJECT_SECONDS if setting.docker is not None else 0.0)
        self._end_in(self._coming_up)

    def _end_in(self, seconds: float) -> None:
        self._guardian.end_by(now() + seconds + self._taking_down)

    def driving(self) -> None:
        """The system stands, and the plan begins."""
        self._end_in(longest_drive(self._plan))

    def taking_down(self) -> None:
        """Whatever comes now is the end."""
        self._end_in(0.0)

    def undoing(self, journal: UndoJournal) -> None:
        """Nothing but the undoing is left."""
        seconds = 2 * START_SECONDS + longest(journal.left()) + COLLECT_SECONDS
        self._stop.busy(seconds)
        self._guardian.end_by(now() + seconds)

    def over(self) -> None:
        """Nothing is left that anybody would have to undo."""
        self._stop.over()
        self._guardian.dismiss()


def longest_drive(plan: Plan) -> float:
    """For how many seconds a plan may be at it: with every window lengthened, and every change slow."""
    lengthened = (plan.experiment.extend or 0.0) * len(IN_ROUNDS) * plan.experiment.rounds
    changes = sum(len(step.changes) + len(step.services) for step in plan.steps)
    return plan.seconds + lengthened + CHANGE_SECONDS * changes + 2 * plan.load.timeout + SLACK_SECONDS


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
    runtime, engine = "local", f"embedded {__version__}"
    if setting.docker is not None:
        runtime = "docker"
        versions |= {"docker": setting.docker.version, "docker compose": setting.docker.compose}
        engine = f"Toxiproxy {TOXIPROXY_VERSION}" if setting.engine == "toxiproxy" else engine
    name, seed, warnings = plan.experiment.name, plan.experiment.seed, setting.warnings
    return RunBegan(now(), setting.run, name, runtime, engine, setting.why, seed, versions, setting.command, warnings)


def _runtime_for(plan: Plan, setting: Setting, recorder: Recorder, stop: Stop, journal: UndoJournal) -> Runtime:
    if setting.docker is None:
        return LocalRuntime(plan, setting, recorder, stop, journal)
    return DockerRuntime(plan, setting, recorder, stop, journal)


class _Run:
    """The parts of one run, as far as they have come up."""

    def __init__(self, plan: Plan, setting: Setting, recorder: Recorder, stop: Stop, journal: UndoJournal) -> None:
        self._plan, self._setting, self._recorder, self._stop = plan, setting, recorder, stop
        self._journal = journal
        self._launch = JournaledLaunch(journal)
        self._runtime = _runtime_for(plan, setting, recorder, stop, journal)
        self._driver: Driver | None = None
        self._sampler: Sampler | None = None

    def bring_up_and_drive(self, watched: _Watched) -> None:
        """The system first, then the load; then the plan."""
        self._stop.check()
        self._recorder.begin_logs(make_run_folder(self._journal))
        began = time.monotonic()
        standing = self._runtime.bring_up()
        load = LocustLoad(self._launch, self._setting.locustfile.parent, self._recorder.log_file("load"), self._recorder.known)
        records = self._recorder.folder.path / REQUESTS
        arrivals = self._plan.load.model_copy(update={"locustfile": str(self._setting.locustfile)})
        self._stop.wait_for(lambda: load.start(arrivals, standing.way_in, _marks(self._plan), records), lambda: None)
        self._recorder.record(SystemReady(now(), time.monotonic() - began))
        watched.driving()
        proxies, services = standing.proxies, standing.services
        if self._plan.twin == NOT_APPLIED:
            proxies, services = UntouchedProxies(proxies), UntouchedServices(services)
        world = World(proxies, services, load, standing.listening, standing.probe_source, standing.detour)
        counters = [seen for seen in self._plan.observations if isinstance(seen, WatchCounter)]
        self._sampler = Sampler(self._recorder, standing.proxies, standing.services, counters)
        self._driver = Driver(self._plan, world, self._recorder, self._stop, self._sampler)
        self._sampler.begin(RequestTail(records), MachineWatch(self._processes))
        self._driver.drive()

    def _processes(self) -> Mapping[str, Sequence[int]]:
        left = self._journal.left().values()
        load = [undo.pid for undo in left if isinstance(undo, EndProcessGroup) and undo.name == LOAD]
        return {**self._runtime.processes(), "load": load}

    def let_go(self) -> None:
        """Heal what is on, first of all; then end the looking."""
        with ExitStack() as letting_go:  # each is done, whatever another raises
            letting_go.callback(self._runtime.let_go)
            if self._sampler is not None:
                letting_go.callback(self._sampler.end)
            letting_go.callback(self._stop.busy, LET_GO_SECONDS)
            if self._driver is not None:
                letting_go.callback(self._driver.close)
                letting_go.callback(self._driver.heal)

    def collect(self) -> None:
        """After the undo: let go of what is held here."""
        with ExitStack() as collecting:
            collecting.callback(self._launch.collect)
            collecting.callback(self._recorder.end_logs)
            collecting.callback(self._runtime.collect)


def _marks(plan: Plan) -> dict[str, Any]:
    """The markers of the declared fallbacks, by name, as the load looks for them."""
    declared: Mapping[str, FallbackDeclared] = plan.experiment.system.fallbacks
    return {name: fallback.marker.model_dump(mode="json", exclude_none=True) for name, fallback in declared.items()}
