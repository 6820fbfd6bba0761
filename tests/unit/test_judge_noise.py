"""What shows the machine or the load rather than the system decides nothing, and its seconds are told."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from harness.history.events import MachineSeen
from harness.history.history import History, Window
from harness.judge.case import Case
from harness.judge.doubts import Doubt, drift, foreign_shift, load_doubts
from harness.judge.evidence import load_arrived
from harness.judge.judge import judge, judge_expectation
from harness.judge.noise import doubted
from harness.judge.verdict import Outcome, Verdict
from harness.judge.words import stretches
from harness.model.load import Phases
from tests.histories.building import BEGAN, Damage, Story, broken, expectation, tell
from tests.histories.rounds import tell_rounds
from tests.histories.shop import INVARIANT


def busy_in(history: History, *phases: str) -> History:
    """The history on a machine of two cores of which others use nearly both in these phases."""
    return busy_while(history, *[history.phases[phase] for phase in phases])


def busy_while(history: History, *windows: Window) -> History:
    """The history on a machine of two cores of which others use nearly both in these windows."""
    events = [
        replace(event, others=1.8 if any(window.holds(event.at) for window in windows) else 0.1, cores=2)
        if isinstance(event, MachineSeen)
        else event
        for event in history.events
    ]
    return History(history.plan, events, history.requests, history.notes)


def outcome(verdict: Verdict, kind: str) -> Outcome:
    return next(finding.outcome for finding in verdict.expectations if finding.kind == kind)


PLAIN = Story()
SLOW = Story().with_damage(Damage("browse", 25.0, 45.0, later=0.4))
BROKEN = Story().with_damage(Damage("browse", 25.0, 45.0, outcome="http_5xx"))


def test_what_was_slower_on_a_busier_machine_decides_nothing():
    assert outcome(judge(tell(SLOW)), "blast_radius") is Outcome.FAILED

    found = judge(busy_in(tell(SLOW), "fault"))

    finding = next(finding for finding in found.expectations if finding.kind == "blast_radius")
    assert finding.outcome is Outcome.INCONCLUSIVE
    assert "too much to be quick" in finding.why
    assert finding.details[0].startswith("measured as failed")


def test_what_failed_on_a_busier_machine_failed():
    assert outcome(judge(busy_in(tell(BROKEN), "fault")), "blast_radius") is Outcome.FAILED


def test_what_failed_by_errors_failed_though_it_was_slower_too():
    timed_out = tell(Story().with_damage(Damage("browse", 25.0, 45.0, outcome="timeout_read", later=4.0)))
    slow_elsewhere = tell(BROKEN.with_damage(Damage("read order", 25.0, 45.0, later=4.0)))

    for history in (timed_out, slow_elsewhere):
        found = next(one for one in judge(busy_in(history, "fault")).expectations if one.kind == "blast_radius")
        assert found.outcome is Outcome.FAILED
        assert found.why.startswith("browse fails more often")


def test_what_held_on_a_busier_machine_held():
    assert judge(busy_in(tell(Story()), "fault")).word == "passed"
    assert judge(busy_in(tell(Story()), "recovery")).word == "passed"


def test_what_held_against_a_baseline_on_a_busier_machine_decides_nothing():
    found = judge(busy_in(tell(Story()), "baseline"))

    assert outcome(found, "blast_radius") is Outcome.INCONCLUSIVE
    assert outcome(found, "recovery") is Outcome.INCONCLUSIVE
    assert outcome(found, "fallback") is Outcome.PASSED


def test_who_did_not_get_quick_again_on_a_busier_machine_is_not_accused():
    slow_after = tell(Story().with_damage(Damage("place order", 45.0, 65.0, later=0.4)))
    assert outcome(judge(slow_after), "recovery") is Outcome.FAILED

    assert outcome(judge(busy_in(slow_after, "recovery")), "recovery") is Outcome.INCONCLUSIVE


def test_who_did_not_come_back_failed_on_a_busier_machine_too_where_it_failed_by_errors():
    down_after = tell(Story().with_damage(broken("place order", 45.0, 66.0)))

    assert outcome(judge(busy_in(down_after, "recovery")), "recovery") is Outcome.FAILED


def test_one_round_on_a_busier_machine_leaves_open_what_its_requests_have_made():
    slow_once = tell_rounds(PLAIN, SLOW, PLAIN)
    assert outcome(judge(slow_once), "blast_radius") is Outcome.FAILED

    found = judge(busy_while(slow_once, slow_once.phases["fault"].parts[1]))

    finding = next(finding for finding in found.expectations if finding.kind == "blast_radius")
    assert finding.outcome is Outcome.INCONCLUSIVE
    assert finding.why.endswith("too much to be quick, from 87 s to 103 s")


def test_one_baseline_on_a_busier_machine_leaves_open_what_held_against_it():
    history = tell_rounds(PLAIN, PLAIN, PLAIN)

    found = judge(busy_while(history, history.phases["baseline"].parts[2]))

    assert outcome(found, "blast_radius") is Outcome.INCONCLUSIVE


def test_on_a_machine_that_others_filled_all_the_time_nobody_is_accused_of_being_slow():
    found = judge(busy_in(tell(SLOW), "baseline", "fault", "recovery"))

    assert outcome(found, "blast_radius") is Outcome.INCONCLUSIVE
    assert outcome(judge(busy_in(tell(BROKEN), "baseline", "fault", "recovery")), "blast_radius") is Outcome.FAILED


def test_a_run_cut_off_within_the_guards_of_its_baseline_is_judged_all_the_same():
    quick = expectation("response_time", during="warmup", p95={"max": "1ms"})

    found = judge(with_machine(tell(Story(expect=(quick,), cut_off=6.0)), "warmup", others=1.8, cores=2))

    assert found.expectations[0].outcome is Outcome.INCONCLUSIVE


# every rule: a history that trips it, and its clean twin


def with_machine(history: History, phase: str, **parts: float) -> History:
    """The history with other samples of the machine in a phase."""
    window = history.phases[phase]
    events = [
        replace(event, **parts) if isinstance(event, MachineSeen) and window.holds(event.at) else event
        for event in history.events
    ]
    return History(history.plan, events, history.requests, history.notes)


def standing_still(history: History, begin: float, end: float) -> History:
    """The history of a load in which nothing came up between two moments, and nothing was said of it."""
    spared = [request for request in history.requests if not BEGAN + begin <= request.due < BEGAN + end]
    notes = [{**note, "requests": len(spared)} if note.get("load") == "finished" else note for note in history.notes]
    return History(history.plan, history.events, spared, notes)


RULES = {
    "generator lag": (
        lambda: tell(PLAIN.with_damage(Damage("*", 31.0, 34.0, lag=0.4))),
        lambda: tell(PLAIN.with_damage(Damage("*", 31.0, 34.0, lag=0.08))),
        "fault",
        "requests in the fault were sent late (p99 0.4 s, at most 0.1 s): the machine was busy, from 31 s to 34 s",
    ),
    "users exhausted": (
        lambda: tell(PLAIN.with_damage(broken("*", 30.0, 32.0, outcome="dropped"))),
        lambda: tell(PLAIN.with_damage(broken("*", 30.0, 30.2, outcome="dropped"))),
        "fault",
        "the 480 users ran out: 12.5 % of the requests in the fault found none free to send them, from 30 s to 32 s",
    ),
    "a baseline that drifts": (
        lambda: tell(PLAIN.with_damage(Damage("browse", 15.0, 25.0, later=0.4))),
        lambda: tell(PLAIN.with_damage(Damage("browse", 15.0, 25.0, later=0.04))),
        "baseline",
        "the baseline was not steady: in its second half browse p50 0.41 s, more than 59 ms, from 15 s to 23 s",
    ),
    "a baseline that settles": (
        lambda: tell(PLAIN.with_damage(broken("read order", 5.0, 15.0, share=0.2))),
        lambda: tell(PLAIN.with_damage(broken("read order", 5.0, 15.0, share=0.005))),
        "baseline",
        "the baseline was not steady: in its first half read order",
    ),
    "other programs": (
        lambda: with_machine(tell(PLAIN), "fault", others=0.9, cores=2),
        lambda: with_machine(tell(PLAIN), "fault", others=0.6, cores=2),
        "fault",
        "other programs used 45.0 % of the machine in the fault, 5.0 % in the baseline: too different to compare, "
        "from 27 s to 43 s",
    ),
    "a machine that is full": (
        lambda: with_machine(tell(PLAIN), "fault", others=1.3, cores=2),
        lambda: with_machine(tell(PLAIN), "fault", others=0.6, cores=2),
        "fault",
        "too much to be quick, from 27 s to 43 s",
    ),
    "a schedule not achieved": (
        lambda: standing_still(tell(PLAIN), 30.0, 33.0),
        lambda: standing_still(tell(PLAIN), 30.0, 30.2),
        "fault",
        "the schedule was not kept in the fault: 1040 of 1280 planned requests came up, from 30 s to 33 s",
    ),
}


def doubts_of(case: Case, phase: str) -> tuple[Doubt, ...]:
    """Everything that speaks against the recorded window of a phase, as the scenario's own margins see it."""
    window = case.judged(phase)
    assert window is not None
    drifts = drift(case, case.experiment.margins) if phase == "baseline" else foreign_shift(case, phase, window)
    return (*load_doubts(case, phase, window), *drifts)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_what_was_planted_with_its_seconds(rule):
    planted, _, phase, told = RULES[rule]

    found = [doubt.told for doubt in doubts_of(Case(planted()), phase)]

    assert any(told in one for one in found), found


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_says_anything_of_the_clean_twin(rule):
    _, twin, _, _ = RULES[rule]
    case = Case(twin())

    assert [doubts_of(case, phase) for phase in ("baseline", "fault", "recovery")] == [(), (), ()]


@pytest.mark.parametrize(
    ("begin", "undecided"),
    [
        (15.0, {"blast_radius", "fallback", "recovery"}),
        (35.0, {"blast_radius", "fallback", "invariant"}),
        (55.0, {"fallback", "recovery"}),
    ],
    ids=["baseline", "fault", "recovery"],
)
def test_a_late_load_leaves_open_what_rests_on_that_window(begin, undecided):
    late = Case(tell(PLAIN.with_damage(Damage("*", begin, begin + 3.0, lag=0.4))))

    found = {item.kind: doubted(judge_expectation(late, item), item, late) for item in late.experiment.expect}

    assert {kind for kind, finding in found.items() if finding.outcome is Outcome.INCONCLUSIVE} == undecided
    assert all(f"from {begin:.0f} s to {begin + 3:.0f} s" in found[kind].why for kind in undecided)


LATE_UNDER_THE_FAULT = Damage("*", 35.0, 38.0, lag=0.4)


def test_data_that_were_wrong_to_the_end_are_wrong_though_the_load_was_late():
    wrong = replace(PLAIN, asked=((0.5, 12.0, 480), (8.0, 12.0, 480)))

    assert outcome(judge(tell(wrong.with_damage(LATE_UNDER_THE_FAULT))), "invariant") is Outcome.FAILED


def test_data_that_were_right_too_late_decide_nothing_where_the_load_was_late():
    slow = replace(
        PLAIN,
        asked=((0.5, 12.0, 480), (9.0, 0.0, 480)),
        expect=(expectation("invariant", name=INVARIANT, within="5s", hold="5s"),),
    )
    assert outcome(judge(tell(slow)), "invariant") is Outcome.FAILED

    assert outcome(judge(tell(slow.with_damage(LATE_UNDER_THE_FAULT))), "invariant") is Outcome.INCONCLUSIVE


def with_silent(history: History, share: float) -> History:
    """The history of a load that says that so many of its arrivals sent no request."""
    notes = [
        {**note, "silent": round(share * note["scheduled"])} if note.get("load") == "finished" else note
        for note in history.notes
    ]
    return History(history.plan, history.events, history.requests, notes)


def test_arrivals_without_a_request_hide_no_load_that_stood_still():
    long = Phases(warmup="5s", baseline="200s", fault="20s", recovery="200s", drain="15s")  # type: ignore[arg-type]
    story = Story(phases=long, faults=(), damage=())

    still = Case(with_silent(standing_still(tell(story), 210.0, 214.0), 0.019))
    (doubt,) = doubts_of(still, "fault")

    assert "960 of 1280 planned requests came up" in doubt.why
    assert "tasks that sent none" in doubt.advice
    assert doubts_of(Case(with_silent(standing_still(tell(story), 210.0, 210.3), 0.019)), "fault") == ()


def test_a_drift_of_a_journey_that_may_fail_leaves_the_blast_radius_decided():
    found = judge(tell(PLAIN.with_damage(Damage("track shipment", 15.0, 25.0, later=0.4))))

    assert outcome(found, "blast_radius") is Outcome.PASSED
    assert outcome(found, "recovery") is Outcome.INCONCLUSIVE


SETTLING = PLAIN.with_damage(Damage("browse", 6.9, 11.0, later=0.5))
"""The first quarter of the baseline is slow."""


def test_a_drift_within_the_baseline_of_each_round_is_found():
    hidden = SETTLING.with_damage(Damage("browse", 25.0, 45.0, share=0.3, later=0.4))

    found = next(one for one in judge(tell_rounds(hidden, hidden)).expectations if one.kind == "blast_radius")

    assert found.outcome is Outcome.INCONCLUSIVE
    assert "in each round's first half browse p95" in found.why


def test_what_the_baseline_of_one_round_of_many_suffered_is_no_drift_of_the_whole():
    assert outcome(judge(tell_rounds(SETTLING, *[PLAIN] * 9)), "blast_radius") is Outcome.PASSED


def test_the_load_says_what_the_machine_was_doing_in_each_window():
    told = load_arrived(Case(with_machine(tell(PLAIN), "fault", others=0.6, cores=2, pressure=0.25))).details

    assert told[0].endswith(
        "of one core load 4.0 %, harness 3.0 %, proxies 6.0 %, system 31.0 %, other programs used 5.0 % of the machine, "
        "load average 0.6"
    )
    assert told[1].endswith(
        "other programs used 30.0 % of the machine, load average 0.6, somebody waited for a core 25.0 % of the time"
    )


@given(some.sets(some.integers(0, 200), min_size=1).map(sorted))
def test_stretches_tell_of_every_second_in_few_words(seconds):
    told = stretches(seconds)

    assert told.startswith(f"from {seconds[0]} s")
    assert told.count("from") <= 3
    assert " more time" in told or told.endswith(f"to {seconds[-1] + 1} s")


def test_a_failure_in_the_fault_stands_though_the_load_was_late_in_the_recovery():
    late_afterwards = Damage("*", 55.0, 58.0, lag=0.4)

    found = judge(tell(BROKEN.with_damage(late_afterwards)))

    assert outcome(found, "blast_radius") is Outcome.FAILED
    assert outcome(found, "recovery") is Outcome.INCONCLUSIVE
    assert found.word == "failed"
    assert judge(tell(Story().with_damage(late_afterwards))).word == "inconclusive"


def test_a_load_that_did_not_come_whole_decides_nothing_at_all():
    history = tell(BROKEN)
    lost = History(history.plan, history.events, history.requests[:-400], history.notes)

    found = judge(lost)

    assert found.word == "inconclusive"
    assert all("400 of 5200 requests left no record" in finding.why for finding in found.expectations)


@settings(max_examples=15)
@given(some.floats(27.0, 40.0), some.floats(0.5, 6.0), some.floats(0.15, 2.0))
def test_the_seconds_told_are_those_in_which_requests_were_late(begin, lasts, lag):
    end = min(begin + lasts, 43.0)
    case = Case(tell(PLAIN.with_damage(Damage("*", begin, end, lag=lag))))

    (doubt,) = doubts_of(case, "fault")

    assert set(range(ceil(begin), int(end))) <= set(doubt.seconds) <= set(range(int(begin), ceil(end)))
