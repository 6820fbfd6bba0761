"""Compared as points: what was observed alone decides, labelled; and several at once: outside is called with more care."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as some

from harness.history.history import Window
from harness.judge.case import Case
from harness.judge.expectations.response_time import Timed
from harness.judge.judge import judge_expectation
from harness.judge.rows import Row, surely_outside
from harness.judge.statistics import ALPHA, holm
from harness.judge.verdict import Finding, Outcome
from tests.histories.building import Damage, Story, broken, expectation, tell

PASSED, INCONCLUSIVE, FAILED = Outcome.PASSED, Outcome.INCONCLUSIVE, Outcome.FAILED
QUIET = replace(Story(), damage=())


@cache
def case(story: Story) -> Case:
    return Case(tell(story))


def judged(story: Story, item: Any) -> Finding:
    return judge_expectation(case(story), item)


A_FEW_BROKEN = QUIET.with_damage(broken("browse", share=0.05))
A_FEW_LATE = QUIET.with_damage(Damage("browse", 25.0, 45.0, 0.05, later=0.2))
SLIGHTLY_SLOWER = QUIET.with_damage(Damage("browse", 25.0, 45.0, slower=1.6))
STRICT = {"worse_by": {"error_rate": "5%", "p50": "50%", "p95": "100%"}}

POINTS = [
    ("error_rate", {"max": "2%"}, A_FEW_BROKEN, INCONCLUSIVE, FAILED),
    ("error_rate", {"max": "3%"}, A_FEW_BROKEN, INCONCLUSIVE, PASSED),
    ("error_rate", {"max": "3%", "journey": "each"}, replace(QUIET, rate=20.0), INCONCLUSIVE, PASSED),
    ("response_time", {"journey": "browse", "p95": {"max": "50ms"}}, A_FEW_LATE, INCONCLUSIVE, FAILED),
    ("response_time", {"p99": {"max": "1s"}}, replace(QUIET, rate=10.0), INCONCLUSIVE, PASSED),
    ("blast_radius", {}, replace(QUIET, rate=30.0), INCONCLUSIVE, PASSED),
    ("blast_radius", STRICT, SLIGHTLY_SLOWER, INCONCLUSIVE, FAILED),
    ("blast_radius", {}, QUIET.with_damage(broken("browse", share=0.3)), FAILED, FAILED),
]


@pytest.mark.parametrize(("kind", "words", "story", "surely", "as_points"), POINTS)
def test_what_an_interval_leaves_open_a_point_decides(
    kind: str, words: dict[str, Any], story: Story, surely: Outcome, as_points: Outcome
) -> None:
    by_interval = judged(story, expectation(kind, **words))
    by_point = judged(story, expectation(kind, **words, method="point"))

    assert (by_interval.outcome, by_point.outcome) == (surely, as_points)
    assert by_point.limit.endswith("(point)")
    assert "point)" not in by_interval.limit
    assert "surely" not in by_point.why
    assert by_point.measure is not None
    assert by_point.measure.low == by_point.measure.observed == by_point.measure.high


@pytest.mark.parametrize(
    ("kind", "words", "told"),
    [
        ("error_rate", {"max": "1%"}, "at least 30 are needed"),
        ("response_time", {"p50": {"max": "1s"}}, "at least 30 are needed"),
        ("response_time", {"p99": {"max": "1s"}}, "at least 100 are needed"),
        ("blast_radius", {}, "30 are needed"),
    ],
)
def test_a_point_of_too_few_requests_decides_nothing(kind: str, words: dict[str, Any], told: str) -> None:
    found = judged(replace(QUIET, rate=1.5), expectation(kind, **words, method="point"))

    assert found.outcome is INCONCLUSIVE
    assert told in found.why


def rows(*p_values: float | None) -> list[Row]:
    return [
        Row(f"journey {number}", FAILED if p is not None and p <= ALPHA else PASSED, f"journey {number} ×2", p=p)
        for number, p in enumerate(p_values)
    ]


def test_one_of_many_that_is_only_just_outside_is_no_failure() -> None:
    alone, among = surely_outside(rows(0.04)), surely_outside(rows(0.04, *[1.0] * 11))

    assert alone[0].outcome is FAILED
    assert among[0].outcome is INCONCLUSIVE
    assert among[0].why == "journey 0 ×2 is outside by itself, but one of 12 comparisons easily is by chance"
    assert among[0].advice


def test_one_of_many_that_is_far_outside_stays_a_failure() -> None:
    assert [row.outcome for row in surely_outside(rows(0.001, *[1.0] * 11))] == [FAILED] + [PASSED] * 11


@pytest.mark.parametrize("hiccup", [0.05, 0.3])
def test_one_of_many_that_is_far_outside_fails_though_its_spread_is_wide(hiccup: float) -> None:
    """Its baseline's p95 hangs on two seconds, so that the tail of a normal distribution reaches down to the limit."""
    hiccups = (Damage("GET /3", at, at + 1.2, later=hiccup) for at in (9.0, 17.0))
    slow = Damage("GET /3", 25.0, 45.0, 0.3, later=3.0)
    weights = tuple((f"GET /{number}", 1.0) for number in range(10))
    story = replace(QUIET, rate=150.0, users=2000, weights=weights, damage=(*hiccups, slow))

    found = judged(story, expectation("blast_radius"))

    assert found.outcome is FAILED
    assert "GET /3 p95 went from " in found.why


@pytest.mark.parametrize("comparisons", [1, 25, 26, 30, 100, 300])
def test_a_quantile_of_which_no_resample_is_within_its_limit_may_be_sure_among_many(comparisons: int) -> None:
    """A third take 3 s, and in two of eight stretches 300 s: no p95 is near 1 s, and they are far from each other."""
    due = numpy.arange(320) * 0.05
    waited = numpy.where(numpy.arange(320) % 3 == 0, numpy.where(due < 4.0, 300.0, 3.0), 0.01)

    timed = Timed(waited, due, Window(0.0, 16.0), 0.95, comparisons)

    assert timed.p(1.0, "max") <= ALPHA / comparisons
    assert timed.interval.low > 1.0


def test_what_was_not_compared_weighs_nothing() -> None:
    assert surely_outside(rows(0.04, None, None, None))[0].outcome is FAILED


def by_closed_testing(p_values: list[float]) -> set[int]:
    """Which are rejected where each subset of them must be, at the level that its size leaves: what Holm's shortcut equals."""
    every = range(len(p_values))
    subsets = [set(subset) for size in range(1, len(p_values) + 1) for subset in combinations(every, size)]
    return {
        one
        for one in every
        if all(min(p_values[other] for other in subset) <= ALPHA / len(subset) for subset in subsets if one in subset)
    }


@given(some.lists(some.sampled_from([0.0, 0.005, 0.008, 0.0125, 0.02, 0.025, 0.04, 0.05, 0.3]), min_size=1, max_size=6))
def test_holm_rejects_what_closed_testing_rejects(p_values: list[float]) -> None:
    largest = holm(p_values)

    assert {place for place, p in enumerate(p_values) if p <= largest} == by_closed_testing(p_values)


def test_a_journey_among_many_that_is_far_slower_is_still_found() -> None:
    weights = tuple((f"GET /page/{number}", 0.05) for number in range(20))
    story = replace(Story(rate=400.0, users=2400), weights=weights, damage=(Damage("GET /page/7", 25.0, 45.0, later=0.4),))

    found = judged(story, expectation("blast_radius", may_fail=["browse", "place order", "read order", "track shipment"]))

    assert found.outcome is FAILED
    assert found.why.startswith("GET /page/7 p50 went from")
