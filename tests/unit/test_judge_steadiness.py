"""A warm-up is over when the last stretches of every journey differ by no more than the margins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.history.events import MachineSeen
from harness.judge.case import Case
from harness.judge.live import LiveJudge
from harness.judge.steadiness import SPAN, unsteady
from tests.histories.building import BEGAN, Damage, Story, broken, tell

STEADY = Story()


def found(story: Story, at: float = 15.0) -> str:
    return unsteady(Case(tell(replace(story, cut_off=at + 0.5))), BEGAN + at)


def test_a_system_of_which_nothing_changes_is_steady():
    assert found(STEADY) == ""


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (Damage("browse", 13.0, 15.0, later=0.4), "the p50 of browse was from "),
        (Damage("browse", 13.0, 15.0, share=0.2, later=0.4), "the p95 of browse was from "),
        (Damage("browse", 9.0, 11.0, later=0.4), "the p50 of browse was from "),
        (broken("browse", 11.0, 13.0, share=0.5), "of browse failed"),
    ],
)
def test_a_journey_that_changes_by_more_than_its_margin_is_not(damage: Damage, why: str):
    assert why in found(STEADY.with_damage(damage))


@pytest.mark.parametrize("damage", [Damage("browse", 5.0, 8.9, later=0.4), Damage("*", 0.0, 60.0, later=2.0)])
def test_what_was_before_is_over_and_what_is_slow_all_the_time_is_steady(damage: Damage):
    assert found(STEADY.with_damage(damage)) == ""


def test_a_failing_system_that_fails_alike_is_steady_and_is_judged_later():
    assert found(STEADY.with_damage(broken("*", 0.0, 60.0))) == ""


@pytest.mark.parametrize("at", [0.0, 1.5, SPAN - 0.01])
def test_before_there_are_so_many_stretches_nothing_is_steady(at: float):
    assert found(STEADY, at) == "less than 6 s of the load have been answered"


def test_journeys_with_few_requests_are_asked_together():
    thin = replace(STEADY, rate=6.0)

    assert found(thin) == ""
    assert "all requests" in found(thin.with_damage(Damage("*", 13.0, 15.0, later=0.4)))


def test_of_a_load_with_next_to_no_requests_nobody_can_say():
    assert found(replace(STEADY, rate=1.0)) == "fewer than 5 requests came up in 2 s"


def watching(story: Story, until: float, **said: object) -> LiveJudge:
    """A judge who has seen the story up to a moment, of an experiment of which more is said."""
    history = tell(replace(story, cut_off=until))
    live = LiveJudge({**history.plan, "experiment": {**history.plan["experiment"], **said}})
    for event in history.events:
        live.see_event(event)
    live.see_requests(history.requests)
    return live


WARMING = replace(STEADY, damage=(), phases=STEADY.phases.model_copy(update={"warmup": 60.0}))


def test_the_live_judge_sees_a_warm_up_become_steady():
    cold = WARMING.with_damage(Damage("*", 0.0, 10.0, later=0.6))

    assert "the p50 of " in watching(cold, 13.0, warmup_until="steady").unsteady(BEGAN + 13.0)
    assert watching(cold, 18.0, warmup_until="steady").unsteady(BEGAN + 18.0) == ""


def test_of_a_long_warm_up_it_keeps_the_last_seconds_alone():
    live = watching(WARMING, 50.0, warmup_until="steady")
    live.unsteady(BEGAN + 50.0)

    assert live.so_far.requests.due.min() >= BEGAN + 50.0 - SPAN - 1.0 - 5.0, "and those that may still be answered"
    assert live.unsteady(BEGAN + 50.0) == "", "it may be asked again"


def asked_of(story: Story, at: float) -> str:
    """What a judge says in a warm-up who has seen what was answered until then."""
    history = tell(story)
    live = LiveJudge({**history.plan, "experiment": {**history.plan["experiment"], "warmup_until": "steady"}})
    for event in history.events:
        if event.at <= BEGAN + at:
            live.see_event(event)
    live.see_requests(history.requests.at(history.requests.end < BEGAN + at))
    return live.unsteady(BEGAN + at)


@pytest.mark.parametrize("later", [1.0, 2.0, 3.0, 4.9])
@pytest.mark.parametrize("at", [20.0, 27.5, 40.0])
def test_slow_answers_that_are_still_open_do_not_make_a_system_unsteady(later: float, at: float):
    """The last seconds hold the quick ones alone: the slow ones have not been answered yet."""
    mixed = replace(WARMING, rate=240.0).with_damage(Damage("*", 0.0, 99.0, share=0.2, later=later))

    assert asked_of(mixed, at) == ""


def test_answers_that_were_slow_before_are_not_waited_for():
    cold = WARMING.with_damage(Damage("*", 0.0, 2.0, later=4.0))

    assert asked_of(cold, 8.0) == "less than 6 s of the load have been answered"
    assert asked_of(cold, 14.0) == ""


# what is too short


def lengthened(story: Story, phase: str, until: float, **said: object) -> str:
    return watching(story, until, extend=30.0, **said).reason_to_lengthen(phase, BEGAN + until + 1.0)


@pytest.mark.parametrize(("phase", "until"), [("baseline", 24.0), ("fault", 44.0), ("recovery", 64.0)])
def test_where_all_is_known_no_window_is_lengthened(phase: str, until: float):
    assert lengthened(STEADY, phase, until) == ""


LAGGING = Damage("*", 30.0, 34.0, lag=0.5)
UNDECIDED = broken("browse", share=0.05)
SHORT = replace(STEADY, phases=STEADY.phases.model_copy(update={"recovery": 12.0}))
LATE = SHORT.with_damage(broken("place order", 45.0, 52.5))


@pytest.mark.parametrize(
    ("story", "phase", "until", "why"),
    [
        (STEADY.with_damage(broken("*", 10.0, 20.0, share=0.03)), "baseline", 24.0, "1 %"),
        (replace(STEADY, rate=1.0), "baseline", 24.0, "16 requests in the baseline, at least 30 are needed"),
        (replace(STEADY, rate=1.8), "recovery", 64.0, "requests in the recovery, at least 30 are needed"),
        (STEADY.with_damage(Damage("*", 10.0, 12.0, lag=0.5)), "baseline", 24.0, "were sent late"),
        (STEADY.with_damage(LAGGING), "fault", 44.0, "requests in the fault were sent late"),
        (STEADY.with_damage(UNDECIDED), "fault", 44.0, "blast radius"),
        (LATE, "recovery", 56.0, "recovery: the recovery ended before"),
    ],
)
def test_what_is_void_or_undecided_is_a_reason_to_lengthen(story: Story, phase: str, until: float, why: str):
    assert why in lengthened(story, phase, until)


def busy(begin: float, end: float) -> tuple[MachineSeen, ...]:
    """Other programs take all of the machine."""
    seconds = range(int(begin), int(end))
    return tuple(MachineSeen(BEGAN + at + 0.7, 0.03, 0.06, 0.04, 0.31, 9.0, 9.6) for at in seconds for _ in range(3))


def test_other_programs_are_a_reason_only_where_they_may_have_decided():
    crowded = replace(STEADY, extra=busy(27.0, 43.0))
    slow = crowded.with_damage(Damage("browse", 25.0, 45.0, later=0.4))

    assert lengthened(crowded, "fault", 44.0) == ""
    assert "other programs used" in lengthened(slow, "fault", 44.0)


def test_what_has_surely_failed_is_no_reason_to_lengthen():
    assert lengthened(STEADY.with_damage(broken("browse", 25.0, 45.0, share=0.5)), "fault", 44.0) == ""


def test_calls_that_are_still_open_are_no_reason_to_lengthen():
    hanging = STEADY.with_damage(Damage("place order", 25.0, 45.0, later=4.5))

    assert lengthened(hanging, "fault", 44.0) == ""


def patient(timeout: str) -> dict[str, object]:
    """What an experiment says of a client that waits for so long."""
    return {"load": {**tell(STEADY).plan["experiment"]["load"], "timeout": timeout}}


@pytest.mark.parametrize("timeout", ["5s", "15s", "30s"])
def test_however_long_a_client_would_wait_only_what_is_undecided_is_lengthened(timeout: str):
    assert lengthened(STEADY, "fault", 44.0, **patient(timeout)) == ""
    assert "blast radius" in lengthened(STEADY.with_damage(UNDECIDED), "fault", 44.0, **patient(timeout))


@pytest.mark.parametrize(("timeout", "later"), [("15s", 14.5), ("30s", 29.5)])
def test_of_a_fault_phase_of_which_most_may_still_be_open_nothing_can_be_asked(timeout: str, later: float):
    hanging = STEADY.with_damage(Damage("place order", 25.0, 45.0, later=later))

    assert lengthened(hanging, "fault", 44.0, **patient(timeout)) == ""


def test_of_a_round_that_is_not_the_last_only_what_it_decides_alone_is_a_reason():
    assert lengthened(STEADY.with_damage(UNDECIDED), "fault", 44.0, rounds=2) == ""
    assert "recovery: " in lengthened(LATE, "recovery", 56.0, rounds=2)
