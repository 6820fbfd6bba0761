"""Faults that come and go, or last for a moment: what is judged is that in which they were on."""

from __future__ import annotations

from typing import Any

import pytest

from harness.history.events import FaultBegan, FaultEnded
from harness.history.history import History, Window, together
from harness.judge.case import Case
from harness.judge.expectations.blast_radius import judge_blast_radius
from harness.judge.expectations.error_rate import judge_error_rate
from harness.judge.expectations.response_time import judge_response_time
from harness.judge.verdict import Finding, Outcome
from harness.model.expectations import BlastRadius, ErrorRate, ResponseTime
from tests.histories.building import BEGAN, Damage, Story, fault, tell

Turns = tuple[tuple[float, float], ...]

EDGE = "order -> shipping"
IN_THE_GUARDS: Turns = ((25.0, 26.8), (43.0, 44.8))
APART: Turns = ((25.0, 30.0), (40.0, 45.0))


def case_of(*turns: Turns, damaged: Turns | None = None, **damage: Any) -> Case:
    """The faults f1, f2, … were on at these times, and while the first was, browsing was damaged."""
    hurt = tuple(Damage("browse", begin, end, **damage) for begin, end in damaged or turns[0]) if damage else ()
    base = tell(Story(faults=(fault("outage", id="f1", edge=EDGE),), damage=hurt))
    events = [event for event in base.events if not isinstance(event, FaultBegan | FaultEnded)]
    for number, windows in enumerate(turns, 1):
        for begin, end in windows:
            told = (f"f{number}", "outage", EDGE, {"enabled": False}, {"enabled": False})
            events.append(FaultBegan(BEGAN + begin, BEGAN + begin, *told))
            events.append(FaultEnded(BEGAN + end, BEGAN + end, *told))
    return Case(History(base.plan, events, base.requests, base.notes))


def errors(case: Case, during: str = "fault") -> Finding:
    return judge_error_rate("e", ErrorRate.model_validate({"journey": "browse", "during": during, "max": "30%"}), case)


def radius(case: Case) -> Finding:
    said = {"may_degrade": ["place order"], "may_fail": ["track shipment"], "worse_by": {}}
    return judge_blast_radius("b", BlastRadius.model_validate(said), case)


def times(case: Case, during: str = "fault") -> Finding:
    said = {"journey": "browse", "during": during, "p50": {"max": "300ms"}}
    return judge_response_time("t", ResponseTime.model_validate(said), case)


BROKEN: dict[str, Any] = {"outcome": "http_5xx"}


@pytest.mark.parametrize("judge", [errors, radius, times])
def test_where_a_fault_was_on_in_the_guards_alone_nothing_is_said_of_it(judge: Any) -> None:
    found = judge(case_of(IN_THE_GUARDS, **BROKEN))

    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.why == "only 0 s of the 3.6 s that f1 was on lie between the guards of the fault phase"
    assert found.advice


def test_a_short_fault_beside_a_long_one_must_be_seen_too() -> None:
    assert "that f2 was on" in errors(case_of(((25.0, 45.0),), ((25.0, 26.5),))).why
    assert "that f2 was on" not in errors(case_of(((25.0, 45.0),), ((30.0, 31.5),))).why


@pytest.mark.parametrize("judge", [errors, radius])
def test_what_lies_between_two_windows_waters_nothing_down(judge: Any) -> None:
    half = case_of(APART, **BROKEN, share=0.5)

    assert judge(half).outcome is Outcome.FAILED


def test_what_lies_between_two_windows_is_not_slow() -> None:
    assert times(case_of(APART, later=1.0)).outcome is Outcome.FAILED
    assert times(case_of(APART, damaged=((30.0, 40.0),), later=1.0)).outcome is not Outcome.FAILED


def test_damage_between_two_windows_is_none_of_the_faults() -> None:
    between = case_of(APART, damaged=((30.5, 39.5),), **BROKEN)

    assert "0.0 %" in errors(between).seen
    assert "0.0 %" in errors(between, "f1").seen


def test_during_a_fault_means_all_the_time_that_it_was_on() -> None:
    found = errors(case_of(IN_THE_GUARDS, **BROKEN), "f1")

    assert found.outcome is Outcome.FAILED
    assert "100.0 %" in found.seen


def test_of_what_was_in_flight_at_any_healing_nothing_is_said() -> None:
    case = case_of(APART)
    window = case.window("f1")
    assert window is not None
    due = [request for request in case.history.due_in(window) if case.journey_of(request) == "browse"]
    late = [one._replace(end=one.end + 12.0, outcome="http_5xx") if one.due < BEGAN + 30 else one for one in due]
    slow = Case(History(case.history.plan, case.history.events, late, case.history.notes))

    assert "0.0 %" in errors(slow, "f1").seen


@pytest.mark.parametrize(
    ("turns", "judged"),
    [
        (((25.0, 45.0),), (27.0, 43.0)),
        (((28.0, 45.0),), (30.0, 43.0)),
        (((25.0, 38.0),), (27.0, 36.0)),
        (((30.0, 36.0),), (32.0, 34.0)),
    ],
)
def test_a_fault_that_was_on_once_is_judged_between_guards_of_its_own(turns: Turns, judged: tuple[float, float]) -> None:
    case = case_of(turns)

    assert case.judged("fault") == Window(BEGAN + judged[0], BEGAN + judged[1])
    assert case.hidden("fault") == ""


def test_windows_that_touch_or_overlap_are_one() -> None:
    assert together([Window(3, 5), Window(1, 3), Window(4, 9)]) == Window(1, 9)
    assert together([]) is None
    assert together([Window(6, 8), Window(1, 3)]) == Window(1, 8, (Window(1, 3), Window(6, 8)))


def test_time_passes_in_what_counts_of_a_window() -> None:
    window = Window(1, 8, (Window(1, 3), Window(6, 8)))

    assert [window.elapsed(at) for at in (1, 2, 3, 5, 6, 7.5)] == [0, 1, 2, 2, 2, 3.5]
    assert [window.holds(at) for at in (0, 1, 3, 5, 6, 8)] == [False, True, False, False, True, False]
    assert window.seconds == 4
    assert window.shared(Window(2, 7)) == (Window(2, 3), Window(6, 7))
