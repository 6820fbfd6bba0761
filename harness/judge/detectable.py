"""How small an effect so many requests show: formulas of numbers alone.

- Shares: the least number of failed requests with which Wilson's or Newcombe's interval lies outside the limit is looked
  up; the share that brings about so many with a chance of 90 % is the upper end of Wilson's own interval around it, taken
  at 90 % on one side. The baseline is taken to be without errors.
- Quantiles of the latency: the standard error of a quantile's logarithm is taken to be SPREAD / sqrt(requests). How many
  standard errors the limit must be exceeded by is that of the interval plus that of 90 %.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, floor, inf, sqrt
from statistics import NormalDist

from harness.judge.statistics import newcombe, wilson
from harness.model.parts import LatencyMargin

POWER = 0.9
Z_POWER = NormalDist().inv_cdf(POWER)
Z_BOTH = NormalDist().inv_cdf(1 - (1 - POWER) / 2)
"""Where two parts of a margin must both be exceeded, each with a chance of 95 %."""

SPREAD = {"p50": 1.5, "p95": 2.2, "p99": 4.0}
"""The standard error of the logarithm of a quantile, times the root of the number of requests.

For independent lognormal latencies with a sigma of 0.5 it is 0.63, 1.06 and 1.87. Measured between the halves of the
baselines of 46 unchanged runs on two busy cores it was 0.35 to 1.6 for p50 and 1.8 to 4.2 for p95, most of that drift, of
which the interval that has to be cleared knows nothing. That of p99 was not measured: twice the theoretical value is taken,
as of p95.
"""

LARGEST_LOG = 20.0
"""No effect is told larger than so many powers of e."""


def _least(number: int, holds: Callable[[int], bool]) -> int | None:
    """The least whole number up to this one for which something holds that then goes on holding."""
    if not holds(number):
        return None
    low, high = -1, number
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def seen_rise(before: float, after: float, margin: float, z: float) -> float:
    """The smallest share of errors, on a baseline without any, that is called outside a margin in 90 of 100 runs."""
    first, second = floor(before), floor(after)
    hits = _least(second, lambda hits: newcombe((0, first), (hits, second), z).low > margin) if second else None
    return wilson(hits, second, Z_POWER).high if hits is not None else inf


def seen_share(number: float, limit: float, z: float) -> float:
    """The smallest share of errors that is called more than the limit in 90 of 100 runs."""
    of = floor(number)
    hits = _least(of, lambda hits: wilson(hits, of, z).low > limit) if of else None
    return wilson(hits, of, Z_POWER).high if hits is not None else inf


def borne_share(number: float, is_inside: Callable[[int], bool]) -> float | None:
    """The largest share of errors that is called inside in 90 of 100 runs; None where not even none at all is."""
    of = floor(number)
    first_not = _least(of, lambda hits: not is_inside(hits))
    if of == 0 or first_not == 0:
        return None
    return 1.0 if first_not is None else wilson(first_not - 1, of, Z_POWER).low


def apart(numbers: tuple[float, ...], quantile: str, z: float) -> float:
    """How many times its limit a quantile must be to be called outside in 90 of 100 runs; `numbers` of each window."""
    return exp((z + Z_POWER) * _error(numbers, quantile))


def apart_by_both(numbers: tuple[float, float], quantile: str, z: float, allowed: LatencyMargin) -> float:
    """The same for a margin of a relative and an absolute part, both of which must be exceeded that many times.

    Where both are exceeded by as much, the difference of the quantiles is less certain than their ratio: its relative
    error is that of one quantile times sqrt(r^2 + 1) / (r - 1), r being the ratio.
    """
    if allowed.relative is None or allowed.absolute is None:
        return apart(numbers, quantile, z)
    error = _error(numbers, quantile)
    ratio = (1 + allowed.relative) * exp((z + Z_BOTH) * error)
    wider = max(1.0, sqrt((ratio**2 + 1) / 2) / (ratio - 1)) if ratio > 1 else inf
    return exp(min((z + Z_BOTH) * error * wider, LARGEST_LOG))


def _error(numbers: tuple[float, ...], quantile: str) -> float:
    """The standard error of the logarithm of a quantile, or of the ratio of two."""
    return SPREAD[quantile] * sqrt(sum(1 / max(number, 1.0) for number in numbers))
