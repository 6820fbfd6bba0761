"""When arrivals are due."""

from __future__ import annotations

from itertools import islice, pairwise, takewhile
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.rates import course_of
from harness.runtime.load.arrivals import arrival_offsets

STAGES = st.lists(st.tuples(st.floats(0.5, 60), st.one_of(st.just(0.0), st.floats(0.2, 15))), min_size=1, max_size=5)


def first(number: int, rate: float, kind: str, seed: int) -> list[float]:
    return list(islice(arrival_offsets(course_of(rate, ()), kind, seed), number))


def test_uniform_arrivals_do_not_drift() -> None:
    offsets = first(80 * 3600 + 1, 80.0, "uniform", 1)

    assert offsets[0] == 0.0
    assert offsets[-1] == 3600.0
    assert offsets[1] == 0.0125


def test_poisson_arrivals_keep_the_rate_and_vary_as_poisson_arrivals_do() -> None:
    offsets = first(50_001, 100.0, "poisson", 1)
    gaps = [later - earlier for earlier, later in pairwise(offsets)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)

    assert offsets[0] == 0.0
    assert 0.98 < mean * 100 < 1.02
    assert 0.95 < variance / mean**2 < 1.05  # that of an exponential distribution is 1


def test_poisson_arrivals_are_those_of_the_seed() -> None:
    one, again, other = (first(20, 50.0, "poisson", seed) for seed in (3, 3, 4))

    assert one == again
    assert one != other


def test_a_ramp_makes_half_of_what_its_end_would_and_then_holds_on() -> None:
    course = course_of(20.0, [(20.0, 10.0), (20.0, 30.0)])

    assert course.arrivals_by(5.0) == pytest.approx(25.0)
    assert course.arrivals_by(10.0) == pytest.approx(100.0)
    assert course.arrivals_by(40.0) == pytest.approx(700.0)
    assert course.arrivals_by(50.0) == pytest.approx(900.0)
    assert course.moment_of(25.0) == pytest.approx(5.0)


def test_a_stage_over_no_time_is_a_jump() -> None:
    course = course_of(40.0, [(10.0, 0.0), (10.0, 4.0), (40.0, 0.0)])

    assert [course.arrivals_by(at) for at in (2.0, 4.0, 5.0)] == [20.0, 40.0, 80.0]


@given(STAGES, st.floats(0, 80))
def test_as_many_uniform_arrivals_are_due_as_the_rate_makes(stages: list[tuple[float, float]], seconds: float) -> None:
    course = course_of(1.0, stages)

    due = list(takewhile(lambda offset: offset < seconds, arrival_offsets(course, "uniform", 1)))

    planned = course.arrivals_by(seconds)
    assert len(due) in {ceil(planned - 1e-6), ceil(planned + 1e-6)}
    assert due == sorted(due)


@given(STAGES, st.floats(0, 1000))
def test_the_moment_of_an_arrival_is_where_the_rate_has_made_it(stages: list[tuple[float, float]], number: float) -> None:
    course = course_of(1.0, stages)

    assert course.arrivals_by(course.moment_of(number)) == pytest.approx(number, rel=1e-9, abs=1e-9)


@given(STAGES, st.floats(0, 60), st.floats(0, 60))
def test_what_two_windows_make_is_what_both_together_make(stages: list[tuple[float, float]], one: float, other: float) -> None:
    course, (early, late) = course_of(1.0, stages), sorted((one, other))

    steps = [early + (late - early) * number / 2000 for number in range(2001)]
    rates = [(course.arrivals_by(b) - course.arrivals_by(a)) for a, b in pairwise(steps)]
    assert sum(rates) == pytest.approx(course.arrivals_by(late) - course.arrivals_by(early), rel=1e-6, abs=1e-6)
    assert all(rate >= -1e-9 for rate in rates)


def test_poisson_arrivals_of_a_ramp_follow_it() -> None:
    course = course_of(400.0, [(400.0, 100.0)])

    due = list(takewhile(lambda offset: offset < 100.0, arrival_offsets(course, "poisson", 5)))

    assert len(due) == pytest.approx(20_000, abs=4 * 20_000**0.5)
    assert sum(offset < 50.0 for offset in due) == pytest.approx(5_000, abs=4 * 5_000**0.5)
