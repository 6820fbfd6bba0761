"""What must hold of every verdict, whatever happened."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as some

from harness.history.history import History
from harness.history.requests import Request
from harness.judge.case import Case
from harness.judge.judge import judge, judge_expectation
from harness.judge.verdict import Outcome, Verdict, verdict_to_json
from tests.histories.building import BEGAN, EXPECTED, FALLBACK, Damage, Story, broken, expectation, tell
from tests.histories.shop import JOURNEYS, WEIGHTS

SLOW = settings(max_examples=8, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

EVERY_KIND = (
    *EXPECTED,
    expectation("error_rate", max="10%"),
    expectation("error_rate", id="errors-each", max="10%", journey="each", during="recovery"),
    expectation("response_time", p95={"max": "1s"}),
    expectation("response_time", id="orders-time", journey="place order", during="outage-1", p50={"max": "1s"}),
    expectation("error_rate", id="errors-point", max="1%", journey="each", method="point"),
    expectation("response_time", id="time-point", journey="each", p95={"max": "50ms"}, method="point"),
    expectation("blast_radius", id="blast-point", worse_by={"error_rate": "1%", "p50": "20%", "p95": "40%"}, method="point"),
)

damages = some.builds(
    Damage,
    journey=some.sampled_from([*WEIGHTS, "*"]),
    begin=some.floats(0, 60),
    end=some.floats(5, 65),
    share=some.sampled_from([0.003, 0.02, 0.05, 0.3, 1.0]),
    outcome=some.sampled_from(["ok", "http_5xx", "refused", "timeout_read", "unfinished", "dropped"]),
    slower=some.sampled_from([1.0, 1.5, 3.0]),
    later=some.sampled_from([0.0, 0.05, 2.0]),
    lag=some.sampled_from([0.0, 0.0, 0.2]),
    mark=some.sampled_from(["", "", FALLBACK]),
)
stories = some.builds(
    lambda own, more, changes: replace(Story(rate=40.0, expect=EVERY_KIND), damage=(*own, *more), **changes),
    some.sampled_from([Story().damage, ()]),
    some.lists(damages, max_size=3),
    some.sampled_from(
        [{}, {"withheld": True}, {"cut_off": 40.0}, {"counted": None}, {"rate": 12.0}, {"unused": ("order -> shipping",)}]
    ),
)


@SLOW
@given(stories)
def test_judging_twice_gives_the_same_bytes(story):
    assert verdict_to_json(judge(tell(story))) == verdict_to_json(judge(tell(story)))


@SLOW
@given(stories)
def test_a_run_passes_only_if_all_evidence_and_every_expectation_did_and_says_why_where_not(story):
    found = judge(tell(story))

    findings = (*found.evidence, *found.expectations)
    assert (found.word == "passed") == ({finding.outcome for finding in findings} == {Outcome.PASSED})
    assert (found.exit_code == 0) == (found.word == "passed")
    assert all(finding.seen for finding in findings)
    assert [(finding.why != "") for finding in findings] == [finding.outcome is not Outcome.PASSED for finding in findings]


def outcomes_of(verdict: Verdict) -> dict[str, Outcome]:
    return {finding.id: finding.outcome for finding in verdict.expectations}


def spoilt(history: History, spoil: list[bool]) -> History:
    """The same history with some more requests failed, at the same times, without their marks."""
    bad = [
        request._replace(outcome="http_5xx", status=503, marks=()) if is_bad and request.ok else request
        for request, is_bad in zip(history.requests, spoil * (len(history.requests) // len(spoil) + 1), strict=False)
    ]
    return History(history.plan, history.events, bad, history.notes)


@SLOW
@given(stories, some.lists(some.booleans(), min_size=1, max_size=40))
def test_more_bad_requests_never_turn_failed_into_passed(story, spoil):
    """Spoiling every phase alike can hide a difference, so only what met the fault and came after it is spoilt."""
    history = tell(replace(story, counted=None))
    window = slice(sum(request.due < BEGAN + 25.0 for request in history.requests), None)
    later = spoilt(History(history.plan, history.events, history.requests[window], ()), spoil)
    worse = History(history.plan, history.events, [*history.requests[: window.start], *later.requests], history.notes)

    before, after = outcomes_of(judge(history)), outcomes_of(judge(worse))

    assert [name for name in before if before[name] is Outcome.FAILED and after[name] is Outcome.PASSED] == []


RENAMED = {name: f"journey {number}" for number, name in enumerate(reversed([*JOURNEYS]))}


def renamed(history: History) -> History:
    """The same history of a system whose journeys have other plain names."""
    text = json.dumps(history.plan)
    for name, other in RENAMED.items():
        text = text.replace(f'"{name}"', f'"{other}"')
    return History(json.loads(text), history.events, history.requests, history.notes)


@SLOW
@given(stories)
def test_renaming_journeys_changes_nothing(story):
    history = tell(story)

    original, other = judge(history), judge(renamed(history))

    assert outcomes_of(original) == outcomes_of(other)
    assert (original.word, original.exit_code, original.marks) == (other.word, other.exit_code, other.marks)
    felt = {RENAMED.get(row.journey, row.journey): (row.felt, row.phases) for row in original.journeys}
    assert felt == {row.journey: (row.felt, row.phases) for row in other.journeys}


@cache
def clean() -> History:
    return tell(Story(expect=EVERY_KIND))


def without(history: History, begin: float, end: float) -> Case:
    """The history without a single request that was due in a stretch."""
    kept: list[Request] = [request for request in history.requests if not begin <= request.due - BEGAN < end]
    return Case(History(history.plan, history.events, kept, history.notes))


@pytest.mark.parametrize("item", [item for item in EVERY_KIND if item.kind != "invariant"], ids=lambda item: item.id)
def test_without_a_single_request_nothing_passes(item):
    case = without(clean(), 0.0, 1000.0)

    assert judge_expectation(case, item).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("item", [item for item in EVERY_KIND if item.kind != "invariant"], ids=lambda item: item.id)
def test_silence_in_the_window_that_counts_never_passes(item):
    during = {"recovery-1": (45.0, 65.0), "errors-each": (45.0, 65.0)}.get(str(item.id), (25.0, 45.0))

    assert judge_expectation(without(clean(), *during), item).outcome is Outcome.INCONCLUSIVE


@SLOW
@given(some.floats(0, 60), some.floats(1, 20))
def test_a_gap_in_the_load_never_passes_unnoticed(begin, length):
    gone = [request for request in clean().requests if begin <= request.due - BEGAN < begin + length]
    assume(len(gone) > 0)

    found = judge(without(clean(), begin, begin + length).history)

    assert found.word == "inconclusive"
    assert "left no record" in found.evidence[0].why


@SLOW
@given(some.sampled_from([*WEIGHTS]), some.floats(0.35, 1.0), some.integers(0, 50))
def test_a_journey_that_never_recovers_is_found(journey, share, seed):
    story = replace(Story(seed=seed), damage=(*Story().damage, broken(journey, 45.0, 65.0, share=share)))

    found = outcomes_of(judge(tell(story)))

    assert found["recovery-1"] is Outcome.FAILED


@SLOW
@given(some.sampled_from(["browse", "read order"]), some.floats(0.3, 1.0), some.integers(0, 50))
def test_damage_to_a_journey_that_must_not_be_hurt_is_found(journey, share, seed):
    story = replace(Story(seed=seed), damage=(*Story().damage, broken(journey, share=share)))

    found = outcomes_of(judge(tell(story)))

    assert found["blast_radius-1"] is Outcome.FAILED
