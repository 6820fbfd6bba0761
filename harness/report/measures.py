"""The little picture beside an expectation: allowed zone, limit, 95 % interval, what was observed."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.verdict import Measure
from harness.report.wording import amount, interval, limit

WIDTH = 220.0
INSET = 5.0


@dataclass(frozen=True, slots=True)
class Gauge:
    """The picture as places from left to right; None where there is nothing to draw."""

    zone: tuple[float, float]
    limit: float
    span: tuple[float, float] | None
    dot: float | None
    words: str


def gauge(measure: Measure) -> Gauge:
    """Where everything stands, on a scale that shows both the limit and what was observed."""
    low, high = _domain(measure)

    def x(value: float) -> float:
        return round(INSET + (min(max(value, low), high) - low) / (high - low) * (WIDTH - 2 * INSET), 1)

    zone = (x(low), x(measure.limit)) if measure.bound == "max" else (x(measure.limit), x(high))
    known = measure.low is not None or measure.high is not None
    ends = (low if measure.low is None else measure.low, high if measure.high is None else measure.high)
    span = (x(ends[0]), x(ends[1])) if known else None
    return Gauge(zone, x(measure.limit), span, None if measure.observed is None else x(measure.observed), in_words(measure))


def _domain(measure: Measure) -> tuple[float, float]:
    seen = [value for value in (measure.observed, measure.low, measure.high) if value is not None]
    if measure.bound == "min" and measure.unit == "share":
        return 0.0, 1.0
    low = min([0.0, measure.limit, *seen])
    furthest = max([measure.limit * (2.0 if measure.unit in ("share", "points") else 1.25), *[value * 1.08 for value in seen]])
    if measure.unit == "share":
        furthest = min(furthest, 1.0)
    return low, furthest if furthest > low else low + 1.0


def in_words(measure: Measure) -> str:
    """What the picture shows, for those who do not see it."""
    seen = "nothing observed" if measure.observed is None else f"observed {amount(measure, measure.observed)}"
    between = interval(measure)
    return f"{seen}{f', 95 % interval {between}' if between else ''}, limit {limit(measure)}"
