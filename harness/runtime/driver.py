"""Drives one run along its plan: phases, faults at their times, observations.

The driver decides nothing. What is asked of the world goes through the ports; what was seen goes to the
recorder; a signal or a halt ends the drive early, and every fault that is on is healed before anything else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from typing import TypeAlias

from harness.errors import HarnessError, LoadError, ProxyError, ServiceFaultFailed
from harness.history.events import (
    DETOUR,
    EdgeProbed,
    FaultBegan,
    FaultEnded,
    FaultRefused,
    FaultVaried,
    InvariantAsked,
    LoadBegan,
    LoadEnded,
    PhaseBegan,
    PhaseEnded,
    PhaseMoved,
    RunHalted,
)
from harness.model.load import IN_ROUNDS
from harness.plan.observations import AFTER_BEGIN, AFTER_HEAL
from harness.plan.plan import (
    CLEAN,
    Asking,
    Begin,
    Heal,
    Plan,
    PlannedPhase,
    ProxyState,
    ServiceChange,
    Step,
    Vary,
    WatchBite,
    WatchInvariant,
)
from harness.plan.services import relieved, struck
from harness.runtime.ports import Address, Load, Proxies, Services
from harness.runtime.probes.bite import look
from harness.runtime.probes.sql import ask
from harness.runtime.recorder import Recorder, now
from harness.runtime.sampler import Sampler
from harness.runtime.stopping import Stop

LEAD = 0.2
"""Seconds between telling the load when to begin and that moment."""

SHORTEST_PATIENCE = 0.5
"""Seconds that a probe waits in any case, also where the baseline is nearly over."""

BEFORE_THE_END = 1.0
"""Seconds before the end of a phase at which is asked whether it is too short: within its guard."""

ANSWERED_BEFORE = 0.1
"""Seconds before the end of a phase by which the answer must have come, so that it ends when it is to."""

ANSWER_EVERY = 0.02
ASK_EVERY = 0.5
LOOK_EVERY = 0.25
"""How often a probe looks again whether a service that was struck is there again."""

CHANGE_SECONDS = 30.0
"""How long one change of one proxy or service may take: an engine may have to be started again."""

ASKING_SECONDS = 30.0
"""How long it may take to judge a whole baseline."""

LOAD_STOP_SECONDS = 10.0
"""How long the load may take to end, beyond two of its timeouts."""

Deed: TypeAlias = Callable[[], None]


class Halt(Exception):
    """A watch asked the run to end early."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything a drive acts on. `listening`, `probe_source` and `detour` are as in `Standing`."""

    proxies: Proxies
    services: Services
    load: Load
    listening: Mapping[str, Address]
    probe_source: str | None
    detour: bool = False


class Driver:
    """One drive. `drive` returns when the plan is done, and raises Halt, Stopped or a HarnessError when it is not."""

    def __init__(self, plan: Plan, world: World, recorder: Recorder, stop: Stop, sampler: Sampler) -> None:
        self._plan, self._world, self._recorder = plan, world, recorder
        self._stop, self._sampler = stop, sampler
        self._phase: PlannedPhase | None = None
        self._active: dict[tuple[str, str], str] = {}
        self._changed: dict[str, float] = {}
        self._struck: dict[tuple[str, str], tuple[str, ServiceChange]] = {}
        self._pool = ThreadPoolExecutor(64, thread_name_prefix="probe")
        self._probes: list[Future[None]] = []
        self._asking: list[Future[None]] = []
        self._over = threading.Event()
        self._load_on = False
        self._began = 0.0
        self._was_too_slow = False
        self._moved = 0.0
        """By how many seconds everything that is still planned was moved."""

    def drive(self) -> None:
        """Follow the plan from the first request to the end of the last phase."""
        self._began = now() + LEAD
        self._world.load.go(self._began)
        self._load_on = True
        self._stop.wait_until(self._began)
        self._recorder.record(LoadBegan(self._began, self._plan.load.rate, self._plan.load.users))
        for at, deed in self._deeds():
            self._wait(self._when(at))
            deed()
        self._await_the_end()
        self._end_phase()
        self._stop.wait_for(self._await_looks, self._over.set)

    def _await_looks(self) -> None:
        for looking in (*self._probes, *self._asking):
            looking.result()

    def heal(self) -> None:
        """Take away every fault that is on. Called when a drive ended, however it ended; twice is once."""
        with ExitStack() as healing:  # told, whatever healing raises
            healing.callback(self._tell_that_load_was_cut)
            self._heal_all()

    def _heal_all(self) -> None:
        with ExitStack() as healing:  # each is healed, whatever another raises; the last one named goes first: what is quick
            for fault, service in reversed(self._struck):
                healing.callback(self._relieve_or_record, fault, service)
            for fault, proxy in reversed(self._active):
                healing.callback(self._put_clean, fault, proxy)

    def _tell_that_load_was_cut(self) -> None:
        if self._load_on:
            self._load_on = False
            self._recorder.record(LoadEnded(now(), False, "the run was ended before its load was"))

    def close(self) -> None:
        """Let go of what the drive held."""
        self._over.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # the timeline

    def _when(self, planned: float) -> float:
        """When something is due that was planned for so many seconds after the load began."""
        return self._began + planned + self._moved

    def _deeds(self) -> list[tuple[float, Deed]]:
        """Everything to do, in order: phases change before faults do, faults before anybody looks."""
        deeds: list[tuple[float, int, Deed]] = []
        for phase in self._plan.phases:
            deeds.append((phase.at, 0, partial(self._begin_phase, phase)))
            if phase.name == "warmup" and self._plan.experiment.warmup_until:
                deeds.append((phase.at, 1, partial(self._warm_up, phase)))
            elif self._may_be_lengthened(phase):
                deeds.append((phase.until - BEFORE_THE_END, 2, partial(self._lengthen, phase)))
        for step in self._plan.steps:
            deeds.append((step.at, 1, partial(self._take, step)))
        for seen in self._plan.observations:
            if isinstance(seen, WatchBite):
                baseline = self._plan.phase("baseline", seen.round)
                deeds.append(((baseline.at + baseline.until) / 2, 2, partial(self._probe, seen, "before", 0.0)))
                deeds.append((seen.at, 2, partial(self._probe, seen, "during", AFTER_BEGIN)))
                deeds.append((seen.again, 2, partial(self._probe, seen, "after", AFTER_HEAL)))
            elif isinstance(seen, WatchInvariant):
                deeds.append((seen.at, 2, partial(self._watch_invariant, seen)))
        return [(at, deed) for at, _, deed in sorted(deeds, key=lambda entry: entry[:2])]

    def _wait(self, at: float) -> None:
        """Wait for a moment; a load that ends by itself ends the run."""
        while (left := at - time.time()) > 0:
            self._stop.wait_until(time.time() + min(left, 0.25))
            self._check_load()
            self._sampler.check()
            self._check_conditions()
        self._stop.check()

    def _await_the_end(self) -> None:
        """The end of the last phase; a drain ends as soon as every invariant has held for long enough."""
        end = self._when(self._plan.seconds)
        while now() < end and not (self._asking and all(asking.done() for asking in self._asking)):
            self._wait(min(end, now() + 0.1))

    def _check_load(self) -> None:
        if not self._load_on:
            return
        reason = self._world.load.ended_early()
        if reason is not None:
            self._load_on = False
            self._recorder.record(LoadEnded(now(), False, reason))
            raise LoadError(reason)

    def _check_conditions(self) -> None:
        """A stop condition that is met ends the run: what is on is healed first, then it is told, then the load is ended."""
        met = self._recorder.stop_condition_met() if self._load_on else None
        if met is not None:
            self._heal_all()
            self._recorder.record(met)
            self._end_phase()
            self._end_load()
            raise Halt(met.reason)

    def _begin_phase(self, phase: PlannedPhase) -> None:
        self._end_phase()
        if phase.name == "fault" and self._plan.steps:
            self._ask_before_injection()
        if phase.name == "drain":
            self._end_load()
        self._phase = phase
        self._recorder.record(PhaseBegan(now(), phase.name, phase.round))

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._recorder.record(PhaseEnded(now(), self._phase.name, self._phase.round))
            if self._phase == self._plan.phases[-1]:
                self._end_load()
            self._phase = None

    def _end_load(self) -> None:
        if self._load_on:
            self._load_on = False
            self._stop.busy(2 * self._plan.load.timeout + LOAD_STOP_SECONDS)
            self._world.load.stop()
            reason = self._world.load.ended_early()
            self._recorder.record(LoadEnded(now(), reason is None, reason or ""))

    def _ask_before_injection(self) -> None:
        self._stop.busy(ASKING_SECONDS)
        reason = self._recorder.reason_to_halt()
        if reason is not None:
            self._recorder.record(RunHalted(now(), reason))
            self._end_load()
            raise Halt(reason)

    # phases that end early, or late

    def _warm_up(self, phase: PlannedPhase) -> None:
        """Wait until the system is steady; one that is not in time is not hurt."""
        while why := self._recorder.unsteady():
            if now() >= self._when(phase.until):
                took = phase.until - phase.at
                reason = f"the system was not steady after {took:g} s of warm-up, so nothing was injected: {why}"
                self._recorder.record(RunHalted(now(), reason))
                self._end_load()
                raise Halt(reason)
            self._wait(min(now() + ASK_EVERY, self._when(phase.until)))
        self._move(phase, min(0.0, now() - self._when(phase.until)), "every journey was steady")

    def _may_be_lengthened(self, phase: PlannedPhase) -> bool:
        """Whether windows may be lengthened, and this one can be; a twin must not come to what it comes to any better.

        Not a fault phase in which a fault is healed before its end: more of it would be more time without that fault.
        """
        heals = [step.at for step in self._plan.steps if isinstance(step, Heal) and step.round == phase.round]
        lasting = all(at >= phase.until - 1e-6 for at in heals)
        wanted = bool(self._plan.experiment.extend) and self._plan.twin is None
        return wanted and phase.name in IN_ROUNDS and (phase.name != "fault" or lasting)

    def _lengthen(self, phase: PlannedPhase) -> None:
        """Once: a window that is void or undecided then stays so.

        What is planned waits for no answer. Where one did not come in time it is not asked again: more is to be asked of.
        """
        if self._was_too_slow:
            return
        ends = self._when(phase.until)
        asking = self._pool.submit(self._recorder.reason_to_lengthen, phase.name, ends)
        while not asking.done() and now() < ends - ANSWERED_BEFORE:
            self._wait(now() + ANSWER_EVERY)
        self._was_too_slow = not asking.done()
        if not self._was_too_slow and (reason := asking.result()):
            self._move(phase, self._plan.experiment.extend or 0.0, reason)

    def _move(self, phase: PlannedPhase, seconds: float, reason: str) -> None:
        self._moved += seconds
        self._recorder.record(PhaseMoved(now(), phase.name, round(seconds, 3), reason, phase.round))

    # faults

    def _take(self, step: Step) -> None:
        self._stop.busy(CHANGE_SECONDS)
        self._sampler.look_at_edges()
        if isinstance(step, Heal):
            for change in step.changes:
                self._heal_one(step, change.proxy, change.state)
            for blow in step.services:
                self._relieve(step.fault, step.kind, blow)
        else:
            for change in step.changes:
                self._put(step, change.proxy, change.state)
            for blow in step.services:
                self._strike(step, blow)
        self._changed |= dict.fromkeys((step.fault, *(change.proxy for change in step.changes)), now())

    def _put(self, step: Begin | Vary, proxy: str, state: ProxyState) -> None:
        """It counts as on before it is: what was half set is healed too."""
        self._stop.check()
        self._stop.busy(CHANGE_SECONDS)
        asked_at = now()
        self._active[step.fault, proxy] = step.kind
        try:
            found = self._world.proxies.put(proxy, state)
        except ProxyError as error:
            self._recorder.record(FaultRefused(now(), step.fault, proxy, str(error)))
            raise
        event = FaultBegan if isinstance(step, Begin) else FaultVaried
        self._recorder.record(event(now(), asked_at, step.fault, step.kind, proxy, _data(state), _data(found)))

    def _heal_one(self, step: Heal, proxy: str, state: ProxyState) -> None:
        self._stop.busy(CHANGE_SECONDS)
        asked_at = now()
        found = self._world.proxies.put(proxy, state)
        self._active.pop((step.fault, proxy), None)
        self._recorder.record(FaultEnded(now(), asked_at, step.fault, step.kind, proxy, _data(state), _data(found)))

    def _put_clean(self, fault: str, proxy: str) -> None:
        self._stop.busy(CHANGE_SECONDS)
        asked_at = now()
        kind = self._active.pop((fault, proxy))
        try:
            found = self._world.proxies.put(proxy, CLEAN)
        except Exception as error:
            self._recorder.record(FaultRefused(now(), fault, proxy, _why(error)))
            return
        self._recorder.record(FaultEnded(now(), asked_at, fault, kind, proxy, _data(CLEAN), _data(found)))

    def _strike(self, step: Begin | Vary, change: ServiceChange) -> None:
        """It counts as struck before it is: half a deed is taken back too."""
        self._stop.check()
        self._stop.busy(CHANGE_SECONDS)
        asked_at = now()
        self._struck[step.fault, change.service] = step.kind, change
        try:
            found = self._world.services.strike(change)
        except ServiceFaultFailed as error:
            self._recorder.record(FaultRefused(now(), step.fault, "", str(error), change.service))
            raise
        asked = struck(change)
        event = FaultBegan if isinstance(step, Begin) else FaultVaried
        self._recorder.record(event(now(), asked_at, step.fault, step.kind, "", asked, found, change.service))

    def _relieve(self, fault: str, kind: str, change: ServiceChange) -> None:
        self._stop.busy(CHANGE_SECONDS)
        asked_at = now()
        found = self._world.services.relieve(change)
        self._struck.pop((fault, change.service), None)
        self._recorder.record(FaultEnded(now(), asked_at, fault, kind, "", relieved(change), found, change.service))

    def _relieve_or_record(self, fault: str, service: str) -> None:
        kind, change = self._struck[fault, service]
        try:
            self._relieve(fault, kind, change)
        except Exception as error:
            self._struck.pop((fault, service), None)
            self._recorder.record(FaultRefused(now(), fault, "", _why(error), service))

    # observations

    def _probe(self, seen: WatchBite, moment: str, after: float) -> None:
        """Look now; or a little later, where the change that is looked for took its time and was made just now."""
        again_and_again = self._look_until_answered if seen.service and moment == "after" else self._look_around
        look_at = again_and_again if moment != "before" else self._look
        changed = max(self._changed.get(name, 0.0) for name in (seen.fault, seen.proxy))
        due = max(now(), changed + after) if after else now()
        self._probes.append(self._pool.submit(look_at, seen, moment, due))

    def _look(self, seen: WatchBite, moment: str, at: float) -> None:
        """Once, in the baseline: whatever is waited for, it is over before anything is injected."""
        left = self._when(self._plan.phase("baseline", seen.round).until) - now() - AFTER_HEAL
        patience = min(seen.asking.patience, max(SHORTEST_PATIENCE, left))
        asking = seen.asking.model_copy(update={"patience": patience, "stays": min(seen.asking.stays, patience)})
        if not self._over.wait(max(0.0, at - now())):
            self._look_and_record(seen, moment, asking)

    def _look_around(self, seen: WatchBite, moment: str, at: float) -> None:
        """As often as is asked for, as far as the time allows; afterwards in the same way, to see what is left."""
        asking = seen.asking
        for number in range(asking.connections):
            if self._over.wait(max(0.0, at - now())):
                return
            if number and now() >= min(at + asking.within, self._next_round(seen)):
                return
            if self._look_and_record(seen, moment, asking) != "answered" and asking.stops:
                return

    def _look_and_record(self, seen: WatchBite, moment: str, asking: Asking, detail: str = "") -> str:
        """Each look is recorded: what it puts on its edge is none of the caller's."""
        began = now()
        found = look(self._world.listening[seen.proxy], seen.protocol, asking, source=self._world.probe_source)
        told = detail or found.detail or (DETOUR if self._world.detour else "")
        self._recorder.record(EdgeProbed(began, seen.fault, seen.proxy, moment, **{**asdict(found), "detail": told}))
        return found.outcome

    def _look_until_answered(self, seen: WatchBite, moment: str, at: float) -> None:
        """A service that was struck needs time to come up. The last look decides."""
        self._over.wait(max(0.0, at - now()))
        number, outcome = 1, self._look_and_record(seen, moment, Asking())
        while outcome != "answered" and now() < self._round_ends(seen) and not self._over.wait(LOOK_EVERY):
            number += 1
            detail = f"look {number}, {now() - at:.1f} s after the first was due"
            outcome = self._look_and_record(seen, moment, Asking(), detail)

    def _round_ends(self, seen: WatchBite) -> float:
        return self._when(self._plan.phase("recovery", seen.round).until)

    def _next_round(self, seen: WatchBite) -> float:
        """When the round begins after that which is looked at: its looks are its own."""
        is_last = seen.round == self._plan.experiment.rounds
        return inf if is_last else self._round_ends(seen)

    def _watch_invariant(self, seen: WatchInvariant) -> None:
        """Ask until it has held for long enough, or the time is over; the phases go on meanwhile."""
        self._asking.append(self._pool.submit(self._ask_until_held, seen))

    def _ask_until_held(self, seen: WatchInvariant) -> None:
        url = self._world.services.database_url(seen.service, seen.database)
        until = self._when(seen.until)
        held_since: float | None = None
        while now() < until and not self._over.is_set():
            began = now()
            answer = ask(url, seen.query)
            self._recorder.record(InvariantAsked(began, seen.invariant, answer.value, answer.over, answer.detail))
            held_since = (held_since or began) if answer.value == seen.equals else None
            if held_since is not None and now() - held_since >= seen.hold:
                return
            self._over.wait(max(0.0, began + ASK_EVERY - now()))


def _data(state: ProxyState) -> dict[str, object]:
    return state.model_dump(mode="json")


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
