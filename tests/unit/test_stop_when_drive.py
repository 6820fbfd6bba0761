"""A drive that a stop condition halts: healed before anything else, told then, and the load is ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.history.events import Event, FaultBegan, FaultEnded, FaultRefused, LoadEnded, PhaseEnded, RunHalted
from harness.plan.plan import CLEAN, Plan
from harness.runtime.driver import Halt
from tests.systems import SCENARIO
from tests.unit.test_driver import EDGE, OpenGate, Stand, names, quick


class WatchfulGate(OpenGate):
    """Says that a stop condition is met from the first event of a kind on, whenever it is asked."""

    def __init__(self, since: type[Event]) -> None:
        super().__init__()
        self.since = since

    def stop_condition_met(self, at: float) -> RunHalted | None:
        is_met = any(isinstance(event, self.since) for event in self.events)
        return RunHalted(at, "too many failed", condition="limit") if is_met else None


def lasting(folder: Path, scenario: str = SCENARIO) -> Plan:
    """A plan whose fault lasts for a minute."""
    plan = quick(folder, scenario)
    last = plan.phases[-1].model_copy(update={"at": 50.0, "until": 60.0})
    last_but_one = plan.phases[-2].model_copy(update={"until": 50.0})
    steps = tuple(step.model_copy(update={"at": 50.0}) if step.verb == "heal" else step for step in plan.steps)
    return plan.model_copy(update={"phases": (*plan.phases[:-2], last_but_one, last), "steps": steps})


def test_what_is_on_is_healed_then_it_is_told_then_the_load_is_ended(tmp_path: Path) -> None:
    stand = Stand(tmp_path, lasting(tmp_path), WatchfulGate(FaultBegan))

    with pytest.raises(Halt, match="too many failed"):
        stand.drive()

    events = names([event for event in stand.gate.events if type(event).__name__ != "EdgeSeen"])
    assert events[events.index("FaultBegan") :] == [
        "FaultBegan",
        "FaultEnded",
        "RunHalted",
        "PhaseEnded fault",
        "LoadEnded",
    ]
    assert set(stand.proxies.states.values()) == {CLEAN}
    assert stand.load.told == ["go", "stop"]


def test_it_is_healed_within_a_second_of_the_decision(tmp_path: Path) -> None:
    stand = Stand(tmp_path, lasting(tmp_path), WatchfulGate(FaultBegan))

    began = time.time()
    with pytest.raises(Halt):
        stand.drive()

    (halted,) = (event for event in stand.recorded() if isinstance(event, RunHalted))
    (healed,) = (event for event in stand.recorded() if isinstance(event, FaultEnded))
    assert began < halted.at <= healed.asked_at <= healed.at < halted.at + 1.0
    assert halted.condition == "limit"


def test_a_proxy_that_cannot_be_healed_keeps_the_run_from_nothing_else(tmp_path: Path) -> None:
    stand = Stand(tmp_path, lasting(tmp_path, SCENARIO.replace("service: shipping", "from: order")), WatchfulGate(FaultBegan))
    stand.gate.see_event = lambda event: _break(stand, event)  # type: ignore[method-assign]

    with pytest.raises(Halt):
        stand.drive()

    events = [event for event in stand.gate.events if type(event).__name__ != "EdgeSeen"]
    assert [event.proxy for event in events if isinstance(event, FaultRefused)] == [EDGE]
    assert len([event for event in events if isinstance(event, FaultEnded)]) == 2, "those of the other edges"
    assert [type(event) for event in events][-3:] == [RunHalted, PhaseEnded, LoadEnded]


def _break(stand: Stand, event: Event) -> None:
    """The engine is lost for one edge once every fault is on."""
    stand.gate.events.append(event)
    if sum(isinstance(seen, FaultBegan) for seen in stand.gate.events) == 3:
        stand.proxies.broken = {EDGE}


def test_once_the_load_is_off_nobody_is_asked(tmp_path: Path) -> None:
    gate = WatchfulGate(LoadEnded)
    stand = Stand(tmp_path, quick(tmp_path, SCENARIO + "phases: {drain: 20s}\n"), gate)

    stand.drive()

    assert gate.stop_condition_met(0.0) is not None
    assert not [event for event in gate.events if isinstance(event, RunHalted)]
