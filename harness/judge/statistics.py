"""Intervals: what a number that was observed allows to be said of the number behind it.

All are two-sided at 95 % where nothing else is said, and the same to the last bit on every machine.

- The share of a whole: Wilson's score interval (Wilson 1927; Brown, Cai, DasGupta, Statistical Science 16, 2001, eq. 4).
- The difference of two shares: Newcombe's hybrid of two score intervals (Newcombe, Statistics in Medicine 17, 1998,
  873-890, method 10). With no hit on either side its upper end is z^2 / (n + z^2).
- A quantile: order statistics (David, Nagaraja, Order Statistics, 2003, section 7.1), which takes requests as
  independent, and the block bootstrap, which does not.
- A quantile in one window against another: percentile interval of the block bootstrap (Kuensch, Annals of Statistics 17,
  1989; Efron, Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3) on blocks of 2 s. Neighbouring requests
  wait in the same queues: drawn one by one they would look many times more certain than they are.
- Several at once: Holm's step-down (Scandinavian Journal of Statistics 6, 1979) on p-values. The p-value of an interval
  against a limit is the level at which it would just touch the limit, so that 0.05 stands for 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import permutations
from math import ceil, erfc, exp, inf, isinf, lgamma, log, sqrt
from random import Random
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float64]

Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""
TAIL = 0.025
ALPHA = 2 * TAIL
FARTHEST_Z = 12.0
"""No p-value is told smaller than that of so many standard deviations, 1e-33."""

Bound: TypeAlias = Literal["max", "min"]

BLOCK_SECONDS = 2.0
NEARLY_A_BLOCK = 0.05
"""What a stretch may lack to count as a block: recorded windows end some milliseconds off the plan."""
FEWEST_BLOCKS = 4
"""Fewer blocks than this show too little of how much neighbouring stretches differ."""
RESAMPLES = 1000
SEED = 20_261_120
"""The bootstrap draws the same blocks each time, so that judging again gives the same bytes."""

SHORTEST = 1e-6
"""No latency counts as shorter than a microsecond, so that a ratio is always a number."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`; an end that nothing bounds is infinite."""

    low: float
    high: float

    def hull(self, other: Interval) -> Interval:
        """The smallest interval around both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))


NOWHERE = Interval(inf, -inf)


def point(value: float) -> Interval:
    """What was observed, as an interval of no width."""
    return Interval(value, value)


@dataclass(frozen=True, slots=True)
class Change:
    """How a quantile of a second window stands to that of a first: `ratio` and `difference`, each with its interval.

    `ratios` and `differences` are those of the resamples that the intervals were read from.
    """

    first: float
    second: float
    ratio: Interval
    difference: Interval
    ratios: Values = field(default_factory=lambda: np.empty(0), compare=False, repr=False)
    differences: Values = field(default_factory=lambda: np.empty(0), compare=False, repr=False)

    @property
    def times(self) -> float:
        """The observed ratio."""
        return self.second / max(self.first, SHORTEST)

    @property
    def plus(self) -> float:
        """The observed difference."""
        return self.second - self.first


def wilson(hits: float, of: float, z: float = Z) -> Interval:
    """The interval of a share; everything is possible where nothing was seen."""
    if of == 0:
        return Interval(0.0, 1.0)
    share, weight = hits / of, z * z / of
    middle = (share + weight / 2) / (1 + weight)
    reach = z / (1 + weight) * sqrt(share * (1 - share) / of + weight / (4 * of))
    return Interval(0.0 if hits == 0 else max(0.0, middle - reach), 1.0 if hits == of else min(1.0, middle + reach))


def newcombe(first: tuple[float, float], second: tuple[float, float], z: float = Z) -> Interval:
    """The interval of the second share less the first; each is given as hits and of how many."""
    (share_1, range_1), (share_2, range_2) = ((hits / of if of else 0.5, wilson(hits, of, z)) for hits, of in (first, second))
    difference = share_2 - share_1
    return Interval(
        difference - sqrt((share_2 - range_2.low) ** 2 + (range_1.high - share_1) ** 2),
        difference + sqrt((range_2.high - share_2) ** 2 + (share_1 - range_1.low) ** 2),
    )


def p_value(interval_at: Callable[[float], Interval], limit: float, bound: Bound) -> float:
    """The level at which an interval just touches a limit; 1 where it does at any.

    `interval_at` gives the interval of so many standard deviations, the wider the more. A limit that is a `max` is outside
    where the whole interval lies above it.
    """

    def clear(z: float) -> bool:
        interval = interval_at(z)
        return interval.low > limit if bound == "max" else interval.high < limit

    low, high = 0.0, FARTHEST_Z
    if not clear(low):
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if clear(middle) else (low, middle)
    return erfc(low / sqrt(2))


def p_of_resamples(values: Values, limit: float, bound: Bound) -> float:
    """The same for the percentile interval of a bootstrap.

    What not one resample shows, the tail of a normal distribution with their mean and spread tells: RESAMPLES of them
    cannot be surer than 2 in RESAMPLES, and with many journeys that is too little to be sure of anything. Where the spread
    is wide that tail says no more, and it takes more resamples (`needs_more_resamples`).
    """
    within = int((values <= limit).sum() if bound == "max" else (values >= limit).sum())
    seen = min(1.0, 2 * (within + 1) / (len(values) + 1))
    if within:
        return seen
    spread = float(values.std())
    away = abs(float(values.mean()) - limit) / spread if spread > 0 else FARTHEST_Z
    return min(seen, erfc(min(away, FARTHEST_Z) / sqrt(2)))


def resamples_among(comparisons: int) -> int:
    """So many that, where not one of them is within a limit, one of so many comparisons may be sure: Holm's first step."""
    return max(RESAMPLES, ceil(2 * comparisons / ALPHA))


def needs_more_resamples(p: float, comparisons: int) -> bool:
    """Whether RESAMPLES of which not one is within the limit are too few to be sure among so many comparisons."""
    return ALPHA / comparisons < p <= 2 / (RESAMPLES + 1)


def p_of_quantile(ordered: Values, share: float, limit: float, bound: Bound) -> float:
    """The same for the interval of a quantile from order statistics."""
    if bound == "max":
        return min(1.0, 2 * _at_most(int(np.searchsorted(ordered, limit, "right")), len(ordered), share))
    # so many or more lie under the limit: so few or fewer do not
    above = len(ordered) - int(np.searchsorted(ordered, limit, "left"))
    return min(1.0, 2 * _at_most(above, len(ordered), 1 - share))


def _at_most(hits: int, of: int, share: float) -> float:
    """The chance of so many hits or fewer; 1 where that is no less than is to be expected, which is sure enough here."""
    if hits >= of * share:
        return 1.0
    least = max(0, int(of * share - FAR * sqrt(of)))
    return sum(_chance(number, of, share) for number in range(least, hits + 1))


def _chance(hits: int, of: int, share: float) -> float:
    """The chance of exactly so many hits."""
    ways = lgamma(of + 1) - lgamma(hits + 1) - lgamma(of - hits + 1)
    return exp(ways + hits * log(share) + (of - hits) * log(1 - share))


def holm(p_values: Iterable[float]) -> float:
    """The largest p-value that still counts as significant among all of these together; -1 where none does."""
    ordered, largest = sorted(p_values), -1.0
    for place, p in enumerate(ordered):
        if p > ALPHA / (len(ordered) - place):
            break
        largest = p
    return largest


def z_among(comparisons: int) -> float:
    """How many standard errors the first of so many comparisons must be outside by, for Holm's test."""
    return NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, comparisons)))


def enough_for(limit: float) -> int:
    """How many requests without one hit show that a share, or the rise of a share, is at most `limit`."""
    return ceil(Z * Z * (1 - limit) / limit) if limit > 0 else 0


def quantile(ordered: Sequence[float] | Values, share: float) -> float:
    """The smallest value that at least this share of the values does not exceed: one that was observed."""
    return float(ordered[rank(len(ordered), share)])


def rank(size: int, share: float) -> int:
    """The place of a quantile among `size` ordered values; the margin keeps 0.95 x 20 from becoming 19.000000000000004."""
    return max(0, min(size, ceil(share * size - 1e-9)) - 1)


FAR = 5.0
"""So many times the root of their number below what is to be expected there are fewer hits with a chance below 1e-21."""


@lru_cache(maxsize=4096)
def _ranks(size: int, share: float, tail: float) -> tuple[int, int]:
    """Between which order statistics, counted from 1, a quantile lies; 0 and size + 1 stand for no bound."""
    low, high, below = 0, size + 1, 0.0
    for hits in range(max(0, int(size * share - FAR * sqrt(size))), size + 1):
        below += _chance(hits, size, share)
        if below <= tail:
            low = hits + 1
        if below >= 1 - tail:
            high = hits + 1
            break
    return min(low, size), high


def quantile_interval(ordered: Sequence[float] | Values, share: float, tail: float = TAIL) -> Interval:
    """The interval of a quantile from order statistics; an end that so few values do not bound is infinite."""
    low, high = _ranks(len(ordered), share, tail)
    return Interval(float(ordered[low - 1]) if low >= 1 else -inf, float(ordered[high - 1]) if high <= len(ordered) else inf)


Blocks: TypeAlias = tuple[Values, ...]
"""The values of a window, in stretches of `BLOCK_SECONDS`, each stretch in order."""

MOST_STEPS = 8192
"""A window with more different values is drawn from in as many steps: a quantile is placed to a hundredth of a percent."""

AT_ONCE = 50
"""Resamples that are held in memory together."""


def blocks_of(seconds: float) -> int:
    """How many whole stretches there are in so many seconds."""
    return int(seconds / BLOCK_SECONDS + NEARLY_A_BLOCK)


def blocks(elapsed: Values, values: Values, seconds: float) -> Blocks:
    """Put values into the stretches of a window of so many `seconds`, `elapsed` of which had passed at each.

    A remainder belongs to the last whole stretch.
    """
    number = max(1, blocks_of(seconds))
    place = np.minimum((elapsed / BLOCK_SECONDS).astype(np.intp), number - 1)
    return tuple(np.sort(values[place == stretch]) for stretch in range(number))


def _resampled(window: Blocks, shares: Sequence[float], resamples: int, seed: int = SEED) -> Values:
    """The quantiles of each resample of the blocks: a row for each of them, a column for each share.

    How often each block is drawn, times how often each value stands in it, is how often the value is drawn: whole
    numbers, so that the quantiles are the same in whatever order a machine adds.
    """
    if not any(map(len, window)):
        raise ValueError("expected a window with values in it, found an empty one")
    steps, held = _steps(window)
    random = Random(seed)  # noqa: S311 - which blocks are drawn is no secret, and must be the same every time
    number = len(window)
    found: list[Values] = []
    while sum(map(len, found)) < resamples:
        drawn = [[int(random.random() * number) for _ in range(number)] for _ in range(AT_ONCE)]
        times = np.array([np.bincount(places, minlength=number) for places in drawn], dtype=np.float64)
        passed = np.cumsum(times @ held, axis=1)
        passed = passed[passed[:, -1] > 0]
        ranks = [np.maximum(np.ceil(share * passed[:, -1] - 1e-9), 1) for share in shares]
        found.append(np.stack([steps[(passed < rank[:, None]).sum(axis=1)] for rank in ranks], axis=1))
    resampled: Values = np.concatenate(found)[:resamples]
    return resampled


def _steps(window: Blocks) -> tuple[Values, Values]:
    """The different values of a window in order, neighbours as one where they are too many; how often each block holds each."""
    ordered = np.sort(np.concatenate(window))
    steps = np.unique(ordered)
    if len(steps) > MOST_STEPS:
        steps = np.unique(ordered[np.linspace(0, len(ordered) - 1, MOST_STEPS).astype(np.intp)])
    held = [np.bincount(np.searchsorted(steps, block), minlength=len(steps)) for block in window]
    return steps, np.array(held, dtype=np.float64)


def middle(values: Values) -> Interval:
    """The percentile interval of resamples."""
    ordered = np.sort(values)
    outside = int(TAIL * len(ordered)) - 1
    return Interval(float(ordered[outside]), float(ordered[-1 - outside]))


def resampled_quantile(window: Blocks, share: float, resamples: int = RESAMPLES) -> Values:
    """The quantile in each of so many windows made of blocks of this one."""
    return _resampled(window, (share,), resamples)[:, 0]


def bootstrap_changes(first: Blocks, second: Blocks, shares: Sequence[float], resamples: int = RESAMPLES) -> list[Change]:
    """How each of these quantiles of the second window stands to that of the first."""
    before = _resampled(first, shares, resamples)
    after = _resampled(second, shares, resamples, SEED + 1)
    return _changes(point_changes(first, second, shares), before, after)


def every_change(windows: Sequence[Blocks], shares: Sequence[float]) -> Iterator[list[Change]]:
    """`bootstrap_changes` from each window to each other, in the order of `permutations`; each is drawn from but once."""
    before, after = ([_resampled(window, shares, RESAMPLES, seed) for window in windows] for seed in (SEED, SEED + 1))
    for one, other in permutations(range(len(windows)), 2):
        yield _changes(point_changes(windows[one], windows[other], shares), before[one], after[other])


def _changes(observed: Sequence[Change], before: Values, after: Values) -> list[Change]:
    ratios, differences = after / np.maximum(before, SHORTEST), after - before
    return [
        replace(
            change,
            ratio=middle(ratios[:, place]),
            difference=middle(differences[:, place]),
            ratios=ratios[:, place],
            differences=differences[:, place],
        )
        for place, change in enumerate(observed)
    ]


def point_changes(first: Blocks, second: Blocks, shares: Sequence[float]) -> list[Change]:
    """The same as it was observed, and nothing about how sure that is: intervals of no width."""
    all_first, all_second = (np.sort(np.concatenate(window)) for window in (first, second))
    changes = [Change(quantile(all_first, share), quantile(all_second, share), NOWHERE, NOWHERE) for share in shares]
    return [replace(change, ratio=point(change.times), difference=point(change.plus)) for change in changes]


def finite(value: float) -> float | None:
    """A number that can be written down; None for an end that nothing bounds."""
    return None if isinf(value) else value
