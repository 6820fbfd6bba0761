"""The driver and its windows: rounds, a warm-up that ends when the system is steady, windows that are lengthened."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from harness.history.events import (
    EdgeProbed,
    Event,
    FaultBegan,
    FaultEnded,
    LoadBegan,
    LoadEnded,
    PhaseBegan,
    PhaseEnded,
    PhaseMoved,
    RunHalted,
)
from harness.model.resolving import resolve
from harness.plan.plan import CLEAN, Plan, WatchBite
from harness.plan.planning import plan_of
from harness.runtime.driver import Halt
from tests.systems import SCENARIO, write_system
from tests.unit.test_driver import OpenGate, Stand, quick

TWICE = SCENARIO + "rounds: 2\n"
EDGE = "order -> shipping"


def begun(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.phase, event.round) for event in events if isinstance(event, PhaseBegan)]


def ends(events: list[Event]) -> dict[tuple[str, int], float]:
    """When each phase ended, in seconds since the load began."""
    load = next(event for event in events if isinstance(event, LoadBegan))
    return {(event.phase, event.round): event.at - load.at for event in events if isinstance(event, PhaseEnded)}


def test_every_round_goes_through_its_phases_and_faults_and_the_load_ends_after_the_last(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path, TWICE))

    stand.drive()

    events = stand.recorded()
    in_round = ["baseline", "fault", "recovery"]
    assert begun(events) == [("warmup", 1), *((name, 1) for name in in_round), *((name, 2) for name in in_round)]
    faults = [type(event) for event in events if isinstance(event, FaultBegan | FaultEnded)]
    assert faults == [FaultBegan, FaultEnded, FaultBegan, FaultEnded]
    assert isinstance(events[-1], LoadEnded)
    assert [type(event) for event in events].count(LoadEnded) == 1
    assert set(stand.proxies.states.values()) == {CLEAN}


def test_every_round_asks_before_it_injects(tmp_path: Path) -> None:
    stand = Stand(tmp_path, quick(tmp_path, TWICE))
    asked: list[float] = []

    def halt_the_second_time() -> str | None:
        asked.append(time.time())
        return "not healthy any more" if len(asked) == 2 else None

    stand.gate.halt_before_injection = halt_the_second_time  # type: ignore[method-assign]
    with pytest.raises(Halt, match="not healthy any more"):
        stand.drive()

    assert len([event for event in stand.recorded() if isinstance(event, FaultBegan)]) == 1


def test_every_round_looks_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtime.driver.AFTER_BEGIN", 0.0)
    monkeypatch.setattr("harness.runtime.driver.AFTER_HEAL", 0.0)
    plan = quick(tmp_path, TWICE)
    bites = tuple(
        WatchBite(fault="outage-1", proxy=EDGE, protocol="http", round=number, at=at + 0.05, again=at + 0.22)
        for number, at in ((1, 0.25), (2, 0.85))
    )
    stand = Stand(tmp_path, plan.model_copy(update={"observations": bites}))

    stand.drive()

    events = stand.recorded()
    second = next(event.at for event in events if isinstance(event, PhaseBegan) and event.round == 2)
    probes = [event for event in events if isinstance(event, EdgeProbed)]
    assert [probe.moment for probe in sorted(probes, key=lambda probe: probe.at) if probe.at < second] == [
        "before",
        "during",
        "after",
    ]
    assert sorted(probe.moment for probe in probes) == ["after", "after", "before", "before", "during", "during"]


# the warm-up


def warming(folder: Path) -> Plan:
    """A plan whose warm-up lasts for a second at most."""
    plan = quick(folder, SCENARIO + "phases: {warmup: {until: steady, at_most: 100s}}\n")
    assert plan.phases[0].until == 1.0
    return plan


def test_a_warm_up_ends_as_soon_as_the_system_is_steady_and_everything_follows(tmp_path: Path) -> None:
    stand = Stand(tmp_path, warming(tmp_path))

    stand.drive()

    events = stand.recorded()
    (moved,) = (event for event in events if isinstance(event, PhaseMoved))
    assert (moved.phase, moved.reason) == ("warmup", "every journey was steady")
    assert -1.0 <= moved.seconds < -0.5
    assert ends(events)["warmup", 1] == pytest.approx(1.0 + moved.seconds, abs=0.4)
    assert ends(events)["recovery", 1] - ends(events)["warmup", 1] == pytest.approx(0.6, abs=0.4)


def test_the_gate_is_asked_until_it_is(tmp_path: Path) -> None:
    stand = Stand(tmp_path, warming(tmp_path))
    stand.gate.restless = ["the p95 of browse was from 10 ms to 300 ms"]

    stand.drive()

    events = stand.recorded()
    (moved,) = (event for event in events if isinstance(event, PhaseMoved))
    assert stand.gate.restless == []
    assert -0.6 < moved.seconds <= 0.0, "it is asked again after half a second"


def test_a_system_that_is_never_steady_is_not_hurt_and_it_is_said_why(tmp_path: Path) -> None:
    stand = Stand(tmp_path, warming(tmp_path))
    stand.gate.restless = ["the p95 of browse was from 10 ms to 300 ms"] * 20

    with pytest.raises(Halt):
        stand.drive()

    events = stand.recorded()
    (halted,) = (event for event in events if isinstance(event, RunHalted))
    assert halted.reason == (
        "the system was not steady after 1 s of warm-up, so nothing was injected: the p95 of browse was from 10 ms to 300 ms"
    )
    assert begun(events) == [("warmup", 1)]
    assert isinstance(events[-1], LoadEnded)


# windows that are lengthened


def long_enough(folder: Path, scenario: str) -> Plan:
    """A plan whose phases last a little longer than the time before their end at which is asked."""
    resolved = resolve(write_system(folder, scenario=scenario), environ={})
    plan = plan_of(resolved.experiment, resolved.queries)

    def sooner(at: float) -> float:
        return (at - 5.0) * 0.06 + 0.1 if at > 0 else 0.0

    return plan.model_copy(
        update={
            "phases": tuple(p.model_copy(update={"at": sooner(p.at), "until": sooner(p.until)}) for p in plan.phases),
            "steps": tuple(s.model_copy(update={"at": sooner(s.at)}) for s in plan.steps),
            "observations": (),
        }
    )


@pytest.mark.parametrize("phase", ["baseline", "fault", "recovery"])
def test_a_window_that_is_void_or_undecided_is_lengthened_once_and_everything_follows(tmp_path: Path, phase: str) -> None:
    stand = Stand(tmp_path, long_enough(tmp_path, SCENARIO + "extend: 1s\n"))
    stand.gate.too_short = {phase: "the machine was busy"}

    stand.drive()

    events = stand.recorded()
    assert [(event.phase, event.seconds, event.reason) for event in events if isinstance(event, PhaseMoved)] == [
        (phase, 1.0, "the machine was busy")
    ]
    order = ["warmup", "baseline", "fault", "recovery"]
    planned = {"warmup": 0.1, "baseline": 1.3, "fault": 2.5, "recovery": 3.7}
    later = order[order.index(phase) :]
    assert ends(events) == {
        (name, 1): pytest.approx(planned[name] + (1.0 if name in later else 0.0), abs=0.45) for name in order
    }
    healed = next(event for event in events if isinstance(event, FaultEnded))
    recovery = next(event for event in events if isinstance(event, PhaseBegan) and event.phase == "recovery")
    assert 0 <= healed.asked_at - recovery.at < 0.45, "what heals at the end of a phase heals at its later end"


class SlowGate(OpenGate):
    """Would lengthen every phase it is asked of, and takes longer to say so than there is."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.is_over = threading.Event()

    def reason_to_lengthen(self, phase: str, ends: float) -> str:
        self.asked.append(phase)
        self.is_over.wait(10.0)
        return "undecided"


def test_an_answer_that_comes_too_late_is_not_waited_for_and_nobody_is_asked_again(tmp_path: Path) -> None:
    gate = SlowGate()
    stand = Stand(tmp_path, long_enough(tmp_path, SCENARIO + "extend: 1s\n"), gate)

    try:
        stand.drive()
    finally:
        gate.is_over.set()

    events = stand.recorded()
    assert gate.asked == ["baseline"]
    assert not [event for event in events if isinstance(event, PhaseMoved)]
    planned = {"warmup": 0.1, "baseline": 1.3, "fault": 2.5, "recovery": 3.7}
    assert ends(events) == {(name, 1): pytest.approx(at, abs=0.45) for name, at in planned.items()}


def test_a_judge_that_breaks_while_it_is_asked_is_a_defect_of_the_harness(tmp_path: Path) -> None:
    class BrokenGate(OpenGate):
        def reason_to_lengthen(self, phase: str, ends: float) -> str:
            raise ZeroDivisionError

    stand = Stand(tmp_path, long_enough(tmp_path, SCENARIO + "extend: 1s\n"), BrokenGate())

    with pytest.raises(ZeroDivisionError):
        stand.drive()


def test_where_windows_are_not_lengthened_nobody_is_asked(tmp_path: Path) -> None:
    stand = Stand(tmp_path, long_enough(tmp_path, SCENARIO + "extend: 0s\n"), OpenGate())
    stand.gate.too_short = {"baseline": "the machine was busy"}

    stand.drive()

    assert not [event for event in stand.recorded() if isinstance(event, PhaseMoved)]
    assert stand.gate.too_short


def test_a_fault_phase_in_which_a_fault_ends_before_is_not_lengthened(tmp_path: Path) -> None:
    scenario = SCENARIO.replace("outage: {service: shipping}", "outage: {service: shipping}\n    for: 10s")
    stand = Stand(tmp_path, long_enough(tmp_path, scenario + "extend: 1s\n"))
    stand.gate.too_short = {"fault": "undecided"}

    stand.drive()

    assert stand.gate.too_short == {"fault": "undecided"}, "more of it would be more time without the fault"
