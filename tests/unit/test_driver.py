"""The driver follows its plan; whatever ends it early, every fault that is on is healed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LoadError, ProxyError, ServiceFaultFailed
from harness.history.events import (
    EdgeProbed,
    Event,
    FaultBegan,
    FaultEnded,
    FaultRefused,
    InvariantAsked,
    LoadBegan,
    LoadEnded,
    PhaseBegan,
    PhaseEnded,
    RunHalted,
)
from harness.history.requests import Request
from harness.history.store import RunFolder, read_events
from harness.model.resolving import resolve
from harness.plan.plan import CLEAN, Arrivals, Asking, Plan, ProxyState, ServiceChange, WatchBite, WatchInvariant
from harness.plan.planning import plan_of
from harness.plan.services import relieved, struck
from harness.runtime.driver import Driver, Halt, World
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.probes.bite import Look
from harness.runtime.recorder import Recorder, RequestTail
from harness.runtime.sampler import MachineWatch, Sampler
from harness.runtime.stopping import Stop, Stopped
from tests.contract.memory_proxies import MemoryProxies
from tests.systems import SCENARIO, write_system

NOWHERE = Address("127.0.0.1", 9)
EDGE = "order -> shipping"


class StillSystem:
    """Services that are there and do nothing, but for being struck; `refuses` are deeds, or reliefs, that cannot be done."""

    def __init__(self) -> None:
        self.struck: list[ServiceChange] = []
        self.refuses: set[str] = set()

    def strike(self, change: ServiceChange) -> dict[str, Any]:
        self.struck.append(change)
        if "strike" in self.refuses:
            raise ServiceFaultFailed(f"{change.deed} of {change.service}: half done")
        return {**struck(change), "restarted": True}

    def relieve(self, change: ServiceChange) -> dict[str, Any]:
        if "relieve" in self.refuses:
            raise ServiceFaultFailed(f"{change.deed} of {change.service}: it does not come back")
        self.struck = [other for other in self.struck if other != change]
        return relieved(change)

    def start(self) -> None: ...

    def exited(self) -> Sequence[Event]:
        return ()

    def address(self, service: str) -> Address:
        return NOWHERE

    def database_url(self, service: str, database: str) -> str:
        return f"postgresql://nobody@{NOWHERE}/{database}"

    def log_tail(self, service: str, lines: int = 20) -> tuple[str, ...]:
        return ()


class ToldLoad:
    """A load that remembers what it was told; `dies` is what it says of its early end from then on."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.dies: str | None = None

    def start(self, arrivals: Arrivals, entry: str, marks: dict[str, Any], records: Path) -> None:
        self.told.append("start")

    def go(self, at: float) -> None:
        self.told.append("go")

    def stop(self) -> None:
        self.told.append("stop")

    def ended_early(self) -> str | None:
        return self.dies


class OpenGate:
    """Lets everything through, unless it was given a reason.

    `restless` is what it says of the warm-up, one after the other; `too_short` what it says of a phase, once;
    `met` the stop condition that is met from then on.
    """

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason
        self.restless: list[str] = []
        self.too_short: dict[str, str] = {}
        self.met: RunHalted | None = None
        self.events: list[Event] = []

    def see_event(self, event: Event) -> None:
        self.events.append(event)

    def see_requests(self, requests: Sequence[Request]) -> None: ...

    def halt_before_injection(self) -> str | None:
        return self.reason

    def stop_condition_met(self, at: float) -> RunHalted | None:
        return self.met

    def unsteady(self, at: float) -> str:
        return self.restless.pop(0) if self.restless else ""

    def reason_to_lengthen(self, phase: str, ends: float) -> str:
        return self.too_short.pop(phase, "")


class Stand:
    """A driver with everything it needs, at a hundredth of the time a plan says."""

    def __init__(self, folder: Path, plan: Plan, gate: OpenGate | None = None) -> None:
        self.gate = gate or OpenGate()
        self.proxies = MemoryProxies()
        names = [proxy.name for proxy in plan.proxies]
        self.proxies.create(
            [ProxyMade(name, Address("127.0.0.1", 20_000 + index), NOWHERE) for index, name in enumerate(names)]
        )
        self.load = ToldLoad()
        self.stop = Stop()
        self.run = RunFolder(folder / "run")
        self.recorder = Recorder(self.run, self.gate)
        self.services = services = StillSystem()
        world = World(self.proxies, services, self.load, dict.fromkeys(names, NOWHERE), None)
        sampler = Sampler(self.recorder, self.proxies, services, [])
        self.driver = Driver(plan, world, self.recorder, self.stop, sampler)

    def drive(self) -> None:
        try:
            self.driver.drive()
        finally:
            self.driver.heal()
            self.driver.close()

    def recorded(self) -> list[Event]:
        return [event for event in read_events(self.run.path) if type(event).__name__ != "EdgeSeen"]


def quick(folder: Path, scenario: str = SCENARIO) -> Plan:
    """The plan of the small system, a hundred times as fast."""
    resolved = resolve(write_system(folder, scenario=scenario), environ={})
    plan = plan_of(resolved.experiment, resolved.queries)
    return plan.model_copy(
        update={
            "phases": tuple(p.model_copy(update={"at": p.at / 100, "until": p.until / 100}) for p in plan.phases),
            "steps": tuple(s.model_copy(update={"at": s.at / 100}) for s in plan.steps),
            "observations": tuple(
                o.model_copy(update={"at": o.at / 100, "until": o.until / 100, "hold": o.hold / 100})
                if isinstance(o, WatchInvariant)
                else o
                for o in plan.observations
                if not isinstance(o, WatchBite)
            ),
        }
    )


def names(events: Sequence[Event]) -> list[str]:
    def name(event: Event) -> str:
        if isinstance(event, PhaseBegan | PhaseEnded):
            return f"{type(event).__name__} {event.phase}"
        return type(event).__name__

    return [name(event) for event in events]


def test_everything_happens_in_the_planned_order(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path))

    stand.drive()

    assert names(stand.recorded()) == [
        "LoadBegan",
        "PhaseBegan warmup",
        "PhaseEnded warmup",
        "PhaseBegan baseline",
        "PhaseEnded baseline",
        "PhaseBegan fault",
        "FaultBegan",
        "PhaseEnded fault",
        "PhaseBegan recovery",
        "FaultEnded",
        "PhaseEnded recovery",
        "LoadEnded",
    ]
    assert stand.load.told == ["go", "stop"]
    assert set(stand.proxies.states.values()) == {CLEAN}


def test_events_carry_what_was_asked_and_what_was_found_and_when(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path))

    stand.drive()

    load = next(event for event in stand.recorded() if isinstance(event, LoadBegan))
    began = next(event for event in stand.recorded() if isinstance(event, FaultBegan))
    ended = next(event for event in stand.recorded() if isinstance(event, FaultEnded))
    assert (began.fault, began.proxy, began.asked) == ("outage-1", EDGE, {"enabled": False, "toxics": []})
    assert began.found == began.asked
    assert began.asked_at <= began.at
    assert 0.25 <= began.at - load.at < 2
    assert ended.found == {"enabled": True, "toxics": []}


@pytest.mark.parametrize("moment", [0.05, 0.35], ids=["in the baseline", "in the fault"])
def test_an_interrupt_heals_and_ends(tmp_path: Path, moment: float) -> None:
    plan = quick(tmp_path)
    stand = Stand(
        tmp_path,
        plan.model_copy(
            update={
                "phases": (*plan.phases[:-1], plan.phases[-1].model_copy(update={"until": 60})),
                "steps": (plan.steps[0], plan.steps[1].model_copy(update={"at": 30})),
            }
        ),
    )
    threading.Timer(0.2 + moment, stand.stop.ask, ("SIGINT",)).start()

    with pytest.raises(Stopped, match="SIGINT"):
        stand.drive()

    assert set(stand.proxies.states.values()) == {CLEAN}
    assert names(stand.recorded()).count("FaultBegan") == names(stand.recorded()).count("FaultEnded")


def test_a_baseline_that_is_not_healthy_ends_the_run_before_anything_is_injected(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path), OpenGate("30 % of 100 requests failed"))

    with pytest.raises(Halt):
        stand.drive()

    events = stand.recorded()
    assert [event.reason for event in events if isinstance(event, RunHalted)] == ["30 % of 100 requests failed"]
    assert not any(isinstance(event, FaultBegan) for event in events)


def test_a_load_that_dies_ends_the_run(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path))
    stand.load.dies = "Locust ended with signal SIGKILL"

    with pytest.raises(LoadError, match="SIGKILL"):
        stand.drive()

    (ended,) = (event for event in stand.recorded() if isinstance(event, LoadEnded))
    assert (ended.finished, ended.detail) == (False, "Locust ended with signal SIGKILL")


def test_a_fault_that_the_engine_does_not_take_ends_the_run(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path))
    stand.proxies.broken = {EDGE}

    with pytest.raises(ProxyError, match="does not answer"):
        stand.drive()

    refused = [event.proxy for event in stand.recorded() if isinstance(event, FaultRefused)]
    assert refused == [EDGE, EDGE], "to take the fault, and to be healed of what it may have taken"


def test_of_two_proxies_the_one_that_was_set_is_healed_when_the_other_fails(tmp_path: Path) -> None:
    plan = quick(tmp_path, SCENARIO.replace("service: shipping", "from: order"))
    stand = Stand(tmp_path, plan)
    stand.proxies.broken = {"order -> redis"}

    with pytest.raises(ProxyError):
        stand.drive()

    assert set(stand.proxies.states.values()) == {CLEAN}


def test_a_fault_that_was_half_set_is_healed(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path))
    whole = stand.proxies.put

    def half(proxy: str, state: ProxyState) -> ProxyState:
        found = whole(proxy, state)
        if state != CLEAN:
            raise ProxyError(f"{proxy}: only the first toxic was added")
        return found

    stand.proxies.put = half  # type: ignore[method-assign]
    with pytest.raises(ProxyError, match="only the first"):
        stand.drive()

    assert set(stand.proxies.states.values()) == {CLEAN}
    assert [event.proxy for event in stand.recorded() if isinstance(event, FaultEnded)] == [EDGE]


def test_a_healing_that_fails_is_recorded_and_does_not_stop_the_others(tmp_path: Path) -> None:
    plan = quick(tmp_path, SCENARIO.replace("service: shipping", "from: order"))
    without_heal = plan.model_copy(update={"steps": plan.steps[:1]})
    stand = Stand(tmp_path, without_heal)

    original = stand.driver.heal

    def break_then_heal() -> None:
        stand.proxies.broken = {"order -> postgres"}
        original()

    stand.driver.heal = break_then_heal  # type: ignore[method-assign]
    stand.drive()

    assert [event.proxy for event in stand.recorded() if isinstance(event, FaultRefused)] == ["order -> postgres"]
    assert {name for name, state in stand.proxies.states.items() if state != CLEAN} == {"order -> postgres"}


def test_an_invariant_is_asked_in_the_drain_with_the_load_off(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path, SCENARIO + "  - invariant: every order is shipped\n"))

    stand.drive()

    events = stand.recorded()
    asked = next(event for event in events if isinstance(event, InvariantAsked))
    ended = next(event for event in events if isinstance(event, LoadEnded))
    assert asked.at >= ended.at
    assert asked.value is None
    assert asked.detail


def test_a_proxy_is_probed_before_during_and_after_the_fault(tmp_path: Path) -> None:
    plan = quick(tmp_path)
    bite = WatchBite(fault="outage-1", proxy=EDGE, protocol="http")
    stand = Stand(tmp_path, plan.model_copy(update={"observations": (bite,)}))
    began = time.monotonic()

    stand.drive()

    probes = [event for event in stand.recorded() if isinstance(event, EdgeProbed)]
    assert sorted(probe.moment for probe in probes) == ["after", "before", "during"]
    assert {probe.outcome for probe in probes} == {"refused"}
    assert time.monotonic() - began < 10


def test_what_keeps_a_sample_from_being_recorded_ends_the_run(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path))
    sampler = stand.driver._sampler

    def full() -> Sequence[Event]:
        raise OSError(28, "No space left on device")

    stand.proxies.seen = full  # type: ignore[method-assign]
    sampler._recorder = stand.recorder
    sampler.begin(RequestTail(tmp_path / "none"), MachineWatch(dict))

    try:
        with pytest.raises(OSError, match="No space left"):
            stand.drive()
    finally:
        sampler.end()


def test_an_engine_that_did_not_answer_once_ends_nothing(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path))
    looks: list[float] = []

    def silent() -> Sequence[Event]:
        looks.append(time.monotonic())
        raise ProxyError("it did not answer within 2 s")

    stand.proxies.seen = silent  # type: ignore[method-assign]
    stand.drive()

    assert looks
    assert names(stand.recorded())[-1] == "LoadEnded"


# faults on services themselves

PAUSE = SCENARIO.replace("outage: {service: shipping}", "pause: {service: shipping}")
PAUSED = ServiceChange(service="shipping", deed="pause")


def test_a_service_is_struck_and_relieved_and_both_are_recorded_as_asked_and_found(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path, PAUSE))

    stand.drive()

    began = next(event for event in stand.recorded() if isinstance(event, FaultBegan))
    ended = next(event for event in stand.recorded() if isinstance(event, FaultEnded))
    assert (began.fault, began.kind, began.proxy, began.service) == ("pause-1", "pause", "", "shipping")
    assert began.asked == {"running": True, "paused": True}
    assert began.found == {"running": True, "paused": True, "restarted": True}
    assert (ended.proxy, ended.service, ended.asked) == ("", "shipping", {"running": True, "paused": False})
    assert began.asked_at <= began.at <= ended.asked_at <= ended.at
    assert stand.services.struck == []
    assert set(stand.proxies.states.values()) == {CLEAN}


def forever(plan: Plan) -> Plan:
    """The same plan, in which nothing is healed before half a minute is over."""
    return plan.model_copy(
        update={
            "phases": (*plan.phases[:-1], plan.phases[-1].model_copy(update={"until": 60})),
            "steps": (plan.steps[0], plan.steps[1].model_copy(update={"at": 30})),
        }
    )


def test_an_interrupt_relieves_the_service(tmp_path: Path) -> None:
    stand = Stand(tmp_path, forever(quick(tmp_path, PAUSE)))
    threading.Timer(0.55, stand.stop.ask, ("SIGINT",)).start()

    with pytest.raises(Stopped, match="SIGINT"):
        stand.drive()

    assert stand.services.struck == []
    assert names(stand.recorded()).count("FaultBegan") == names(stand.recorded()).count("FaultEnded") == 1


def test_a_service_that_cannot_be_struck_ends_the_run_and_what_was_half_done_is_taken_back(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path, PAUSE))
    stand.services.refuses = {"strike"}

    with pytest.raises(ServiceFaultFailed, match="half done"):
        stand.drive()

    refused = [event for event in stand.recorded() if isinstance(event, FaultRefused)]
    assert [(event.proxy, event.service, event.reason) for event in refused] == [
        ("", "shipping", "pause of shipping: half done")
    ]
    assert not any(isinstance(event, FaultBegan) for event in stand.recorded())
    assert stand.services.struck == []


def test_a_service_that_does_not_come_back_ends_the_run_and_is_recorded(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path, PAUSE))
    stand.services.refuses = {"relieve"}

    with pytest.raises(ServiceFaultFailed, match="does not come back"):
        stand.drive()

    assert [event.reason for event in stand.recorded() if isinstance(event, FaultRefused)] == [
        "pause of shipping: it does not come back"
    ]
    assert stand.services.struck == [PAUSED]


def test_a_service_that_does_not_come_back_does_not_keep_the_proxies_from_being_healed(tmp_path: Path) -> None:
    faults = "  - {id: a, outage: {edge: gateway -> order}}\n  - {id: b, pause: {service: shipping}}\n"
    scenario = SCENARIO.replace("  - outage: {service: shipping}\n", faults)
    plan = quick(tmp_path, scenario.replace("fallback: shipping-deferred", "fallback: {name: shipping-deferred, fault: a}"))
    stand = Stand(tmp_path, plan.model_copy(update={"steps": plan.steps[:2]}))
    stand.services.refuses = {"relieve"}

    stand.drive()

    assert set(stand.proxies.states.values()) == {CLEAN}
    assert [event.service for event in stand.recorded() if isinstance(event, FaultRefused)] == ["shipping"]


def test_whatever_a_healing_raises_the_others_are_healed_all_the_same(tmp_path: Path) -> None:
    faults = "  - {id: a, outage: {edge: gateway -> order}}\n  - {id: b, pause: {service: shipping}}\n"
    scenario = SCENARIO.replace("  - outage: {service: shipping}\n", faults)
    plan = quick(tmp_path, scenario.replace("fallback: shipping-deferred", "fallback: {name: shipping-deferred, fault: a}"))
    stand = Stand(tmp_path, plan.model_copy(update={"steps": plan.steps[:2]}))

    def broken(*_given: object) -> Any:
        raise ZeroDivisionError("a defect")

    stand.services.relieve = broken  # type: ignore[method-assign]
    original = stand.driver.heal

    def break_then_heal() -> None:
        stand.proxies.put = broken  # type: ignore[method-assign]
        original()

    stand.driver.heal = break_then_heal  # type: ignore[method-assign]
    stand.drive()

    refused = [(event.proxy, event.service, event.reason) for event in stand.recorded() if isinstance(event, FaultRefused)]
    assert refused == [
        ("gateway -> order", "", "ZeroDivisionError: a defect"),  # edges first: that is quick
        ("", "shipping", "ZeroDivisionError: a defect"),
    ]


class SlowToReturn:
    """Stands in for the probe: a service that is answered again from its `comes`th look after the healing on."""

    def __init__(self, comes: int) -> None:
        self.looks, self.comes = 0, comes

    def __call__(self, address: Address, protocol: str, asking: Asking, *, source: str | None) -> Look:
        self.looks += 1
        return Look("answered" if self.looks >= self.comes else "closed", 0.001)


def watched(plan: Plan) -> Plan:
    bite = WatchBite(fault="pause-1", proxy=EDGE, protocol="http", service="shipping", sees=("silent",))
    longer = (*plan.phases[:-1], plan.phases[-1].model_copy(update={"until": plan.phases[-1].until + 1.5}))
    return plan.model_copy(update={"observations": (bite,), "phases": longer})


def test_after_healing_a_service_is_looked_at_until_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtime.driver.look", SlowToReturn(comes=5))
    stand = Stand(tmp_path, watched(quick(tmp_path, PAUSE)))

    stand.drive()

    probes = {event.moment: event for event in stand.recorded() if isinstance(event, EdgeProbed)}
    assert sorted(probes) == ["after", "before", "during"]
    assert (probes["before"].outcome, probes["during"].outcome) == ("closed", "closed")
    assert probes["after"].outcome == "answered"
    assert probes["after"].detail.startswith("look 3, ")
    after = [event for event in stand.recorded() if isinstance(event, EdgeProbed) and event.moment == "after"]
    assert [event.outcome for event in after] == ["closed", "closed", "answered"]  # each look put something on the edge


def test_a_service_that_does_not_answer_again_is_told_as_it_was_seen_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runtime.driver.look", SlowToReturn(comes=1000))
    stand = Stand(tmp_path, watched(quick(tmp_path, PAUSE)))
    began = time.monotonic()

    stand.drive()

    after = [event for event in stand.recorded() if isinstance(event, EdgeProbed) and event.moment == "after"]
    assert len(after) > 1
    assert {event.outcome for event in after} == {"closed"}
    assert time.monotonic() - began < 15


class Looks:
    """Stands in for the probe: to whoever asks as it was said it shows the outcomes in turn, to others an answer.

    At a hundredth of the time the looks before, during and after a fault overlap: which is which shows in how they ask.
    """

    def __init__(self, asking: Asking, *outcomes: str) -> None:
        self.asking, self.outcomes = asking, list(outcomes)
        self.asked: list[Asking] = []

    def __call__(self, address: Address, protocol: str, asking: Asking, *, source: str | None) -> Look:
        self.asked.append(asking)
        outcome = self.outcomes.pop(0) if asking == self.asking and self.outcomes else "answered"
        return Look(outcome, 0.001, times=(0.001,), sent=5, got=7)  # type: ignore[arg-type]


def looked_at(folder: Path, asking: Asking) -> Stand:
    """A drive in which one edge is looked at, twice as long in the fault phase as it takes."""
    plan = quick(folder)
    fault = next(phase for phase in plan.phases if phase.name == "fault")
    bite = WatchBite(fault="outage-1", proxy=EDGE, protocol="http", at=fault.at, again=plan.seconds, asking=asking)
    return Stand(folder, plan.model_copy(update={"observations": (bite,)}))


def during(stand: Stand) -> list[EdgeProbed]:
    return [event for event in stand.recorded() if isinstance(event, EdgeProbed) and event.moment == "during"]


@pytest.mark.parametrize(("stops", "looks"), [(True, 3), (False, 6)])
def test_while_a_fault_lasts_it_looks_until_a_share_was_struck_or_as_often_as_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: bool, looks: int
) -> None:
    asking = Asking(connections=6, within=30.0, stops=stops, times=2, patience=3.0)
    seen = Looks(asking, "answered", "answered", "reset")
    monkeypatch.setattr("harness.runtime.driver.look", seen)
    monkeypatch.setattr("harness.runtime.driver.AFTER_BEGIN", 0.0)
    stand = looked_at(tmp_path, asking)

    stand.drive()

    assert [probe.outcome for probe in during(stand)] == ["answered", "answered", "reset", *["answered"] * 3][:looks]
    assert (during(stand)[0].times, during(stand)[0].sent, during(stand)[0].got) == ((0.001,), 5, 7)
    assert seen.asked.count(asking) == looks + 6  # afterwards in the same way: what is left of it would be seen


def test_looks_for_a_share_end_with_the_time_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(connections=40, within=0.0)
    monkeypatch.setattr("harness.runtime.driver.look", Looks(asking))
    stand = looked_at(tmp_path, asking)

    stand.drive()

    assert len(during(stand)) == 1


def test_before_the_fault_it_looks_in_the_same_way_and_no_longer_than_the_baseline_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(patience=10.0, stays=9.0, times=5, volume=100, closes=True, connections=7)
    seen = Looks(asking)
    monkeypatch.setattr("harness.runtime.driver.look", seen)

    looked_at(tmp_path, asking).drive()

    assert seen.asked.count(asking.model_copy(update={"patience": 0.5, "stays": 0.5})) == 1
