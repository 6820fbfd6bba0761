"""The judge's intervals against SciPy, and what must hold of them whatever the numbers."""

from __future__ import annotations

from math import inf
from random import Random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from harness.judge.statistics import (
    ALPHA,
    FARTHEST_Z,
    RESAMPLES,
    Z,
    blocks,
    bootstrap_changes,
    enough_for,
    middle,
    newcombe,
    p_of_quantile,
    p_of_resamples,
    p_value,
    quantile,
    quantile_interval,
    resampled_quantile,
    wilson,
)


def shares():
    return some.integers(1, 5000).flatmap(lambda of: some.tuples(some.integers(0, of), some.just(of)))


@given(shares())
def test_the_interval_of_a_share_is_that_of_scipy(share):
    hits, of = share

    found = wilson(hits, of)

    expected = stats.binomtest(hits, of).proportion_ci(method="wilson")
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_of_nothing_every_share_is_possible():
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe 1998, table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/10
        ((48, 80), (56, 70), 0.0524, 0.3339),
        ((3, 10), (9, 10), 0.1705, 0.8090),
        ((0, 10), (10, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(first, second, low, high):
    found = newcombe(first, second)

    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


@given(some.integers(1, 100_000), some.integers(1, 100_000))
def test_without_an_error_on_either_side_only_the_second_number_bounds_the_rise(first, second):
    assert newcombe((0, first), (0, second)).high == pytest.approx(Z**2 / (second + Z**2))


@pytest.mark.parametrize(("margin", "requests"), [(0.01, 381), (0.03, 125), (0.05, 73)])
def test_it_takes_so_many_requests_to_show_a_margin(margin, requests):
    assert enough_for(margin) == requests
    assert newcombe((0, requests), (0, requests)).high <= margin < newcombe((0, requests), (0, requests - 1)).high


@given(shares(), shares(), some.data())
def test_more_hits_in_the_second_window_never_lower_the_interval(first, second, data):
    hits, of = second
    more = data.draw(some.integers(hits, of))

    fewer_hits, more_hits = newcombe(first, (hits, of)), newcombe(first, (more, of))

    assert more_hits.high >= fewer_hits.high - 1e-12
    assert more_hits.low >= fewer_hits.low - 1e-12


@given(some.lists(some.floats(0, 10), min_size=1, max_size=400), some.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_the_smallest_value_that_enough_values_do_not_exceed(values, share):
    expected = numpy.quantile(values, share, method="inverted_cdf")

    assert quantile(sorted(values), share) == expected


@given(some.integers(1, 3000), some.sampled_from([0.5, 0.95, 0.99]))
def test_the_interval_of_a_quantile_holds_it_in_95_of_100_windows(size, share):
    found = quantile_interval(range(1, size + 1), share)

    behind = stats.binom(size, share)
    misses_low = 0.0 if found.low == -inf else behind.cdf(found.low - 1)
    misses_high = 0.0 if found.high == inf else behind.sf(found.high - 1)
    assert misses_low <= 0.025 + 1e-9
    assert misses_high <= 0.025 + 1e-9


@pytest.mark.parametrize(("share", "fewest"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_so_few_values_do_not_bound_a_quantile_above(share, fewest):
    assert quantile_interval(range(fewest - 1), share).high == inf
    assert quantile_interval(range(fewest), share).high < inf


def window(seed: int, *, scale: float = 1.0, seconds: float = 16.0, rate: int = 30):
    random = Random(seed)
    values = [(number / rate, scale * random.lognormvariate(-4, 0.5)) for number in range(int(seconds * rate))]
    elapsed, found = zip(*values, strict=True)
    return blocks(numpy.array(elapsed), numpy.array(found), seconds)


def test_blocks_keep_every_value_and_the_remainder_goes_to_the_last():
    found = blocks(numpy.array([0.0, 0.5, 2.0, 4.9]), numpy.array([3.0, 1.0, 2.0, 4.0]), 5.0)

    assert [list(block) for block in found] == [[1.0, 3.0], [2.0, 4.0]]


def test_the_bootstrap_of_a_ratio_is_that_of_scipy():
    first, second = window(1), window(2, scale=1.5)

    def ratio(places_1, places_2):
        old = numpy.concatenate([first[int(place)] for place in places_1])
        new = numpy.concatenate([second[int(place)] for place in places_2])
        return numpy.quantile(new, 0.95, method="inverted_cdf") / numpy.quantile(old, 0.95, method="inverted_cdf")

    places = numpy.arange(8)
    expected = stats.bootstrap(
        (places, places), ratio, vectorized=False, method="percentile", n_resamples=2000, rng=numpy.random.default_rng(1)
    ).confidence_interval
    (found,) = bootstrap_changes(first, second, (0.95,))

    assert found.ratio.low == pytest.approx(expected.low, rel=0.06)
    assert found.ratio.high == pytest.approx(expected.high, rel=0.06)


def test_the_bootstrap_of_a_difference_and_of_one_window_is_that_of_scipy():
    first, second = window(1), window(2, scale=1.5)
    places, draws = numpy.arange(8), {"vectorized": False, "method": "percentile", "n_resamples": 2000}

    def p95(blocks, drawn):
        return numpy.quantile(numpy.concatenate([blocks[int(place)] for place in drawn]), 0.95, method="inverted_cdf")

    by_difference = stats.bootstrap(
        (places, places), lambda old, new: p95(second, new) - p95(first, old), **draws, rng=numpy.random.default_rng(1)
    ).confidence_interval
    by_one = stats.bootstrap((places,), lambda drawn: p95(first, drawn), **draws, rng=numpy.random.default_rng(1))
    (found,) = bootstrap_changes(first, second, (0.95,))
    alone = middle(resampled_quantile(first, 0.95))

    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(by_difference), rel=0.15, abs=1e-3)
    assert (alone.low, alone.high) == pytest.approx(tuple(by_one.confidence_interval), rel=0.06)


@given(shares(), some.floats(0.001, 0.999))
def test_the_p_value_of_a_share_is_that_of_the_score_test(share, limit):
    hits, of = share
    z = (hits / of - limit) / (limit * (1 - limit) / of) ** 0.5

    found = p_value(lambda width: wilson(hits, of, width), limit, "max")

    expected = 2 * stats.norm.sf(z) if z > 0 else 1.0
    assert found == pytest.approx(max(expected, 2 * stats.norm.sf(FARTHEST_Z)), rel=1e-6, abs=1e-30)


@given(shares(), shares(), some.floats(-0.5, 0.9), some.sampled_from(["max", "min"]))
def test_an_interval_is_outside_exactly_where_its_p_value_is_small(first, second, limit, bound):
    interval = newcombe(first, second)
    outside = interval.low > limit if bound == "max" else interval.high < limit
    p = p_value(lambda width: newcombe(first, second, width), limit, bound)

    if abs(p - ALPHA) > 1e-9:
        assert outside == (p < ALPHA)
    if 1e-12 < p < 1:
        touching = newcombe(first, second, stats.norm.isf(p / 2))
        assert (touching.low if bound == "max" else touching.high) == pytest.approx(limit, abs=1e-6)


@given(
    some.lists(some.integers(0, 40).map(float), min_size=1, max_size=300),
    some.sampled_from([0.5, 0.95, 0.99]),
    some.integers(-1, 41),
    some.sampled_from(["max", "min"]),
)
def test_a_quantile_is_outside_exactly_where_its_p_value_is_small(values, share, limit, bound):
    ordered = numpy.sort(values)
    interval = quantile_interval(ordered, share)

    found = p_of_quantile(ordered, share, float(limit), bound)

    behind = stats.binom(len(values), share)
    under, over = (ordered <= limit).sum(), (ordered < limit).sum()
    expected = 2 * (behind.cdf(under) if bound == "max" else behind.sf(over - 1))
    assert (found < ALPHA) == (interval.low > limit if bound == "max" else interval.high < limit)
    assert found == pytest.approx(expected, abs=1e-12) or min(found, expected) > 0.5


def test_the_p_value_of_resamples_is_their_share_and_beyond_them_the_tail_of_a_normal_distribution():
    resampled = numpy.sort(numpy.random.default_rng(1).normal(2.0, 0.1, RESAMPLES))

    among = p_of_resamples(resampled, 1.85, "max")
    beyond = p_of_resamples(resampled, 1.4, "max")

    assert among == pytest.approx(2 * stats.norm.cdf(-1.5), rel=0.3)
    assert beyond == pytest.approx(2 * stats.norm.sf(6.0), rel=3.0)
    assert p_of_resamples(resampled, 2.5, "max") == 1.0
    assert p_of_resamples(resampled, 2.15, "min") == pytest.approx(among, rel=0.5)
    assert p_of_resamples(numpy.full(RESAMPLES, 3.0), 1.0, "max") < 1e-30
    for limit in numpy.linspace(1.7, 1.9, 41):
        assert (p_of_resamples(resampled, limit, "max") < ALPHA) == (middle(resampled).low > limit)


def test_a_window_is_found_to_be_as_much_slower_as_it_was_made():
    p50, p95 = bootstrap_changes(window(1), window(2, scale=3.0), (0.5, 0.95))

    assert p50.ratio.low < 3.0 < p50.ratio.high
    assert p95.ratio.low < 3.0 < p95.ratio.high
    assert p50.difference.low < p50.plus < p50.difference.high
    assert p50.times == pytest.approx(3.0, rel=0.2)


def test_the_same_windows_give_the_same_intervals_to_the_last_bit():
    assert bootstrap_changes(window(1), window(2), (0.5, 0.95)) == bootstrap_changes(window(1), window(2), (0.5, 0.95))
    assert middle(resampled_quantile(window(1), 0.95)) == middle(resampled_quantile(window(1), 0.95))


def test_the_bootstrap_draws_what_it_always_drew():
    """The drawing must not change with the machine or the version of Python: these are from the first day."""
    first = tuple(tuple(sorted((37 * number * step) % 1009 + 1.0 for step in range(1, 40))) for number in range(1, 9))
    second = tuple(tuple(sorted((53 * number * step) % 1013 + 1.0 for step in range(1, 40))) for number in range(1, 9))

    (found,) = bootstrap_changes(first, second, (0.95,))

    assert (found.first, found.second) == (963.0, 955.0)
    assert (found.difference.low, found.difference.high) == (-16.0, 6.0)


def test_a_window_without_values_is_refused_rather_than_drawn_from_for_ever():
    with pytest.raises(ValueError, match="found an empty one"):
        middle(resampled_quantile(((), ()), 0.5))


def test_an_empty_block_is_silence_and_not_a_value():
    found = middle(resampled_quantile(((), (1.0,), (2.0,), (3.0,)), 0.5))

    assert 1.0 <= found.low <= found.high <= 3.0
