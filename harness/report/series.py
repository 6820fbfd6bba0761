"""Requests over time: the dots that are drawn of them, and what they add up to in each stretch of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10

from harness.history.requests import Request
from harness.report.summary import ANSWERS, Answer, Summary, answer_of

MOST_STRETCHES = 100
"""Stretches the run is cut into at most; they last 1, 2, 5, 10 … seconds."""

FEWEST_FOR_QUANTILES = 5

STRIDES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200, 14400)

LEAST_LATENCY = 0.0001
"""A logarithmic axis needs an end; nothing that passes a network is quicker."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One request as it is drawn."""

    at: float
    latency: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class Stretch:
    """What the requests due in one stretch of the run add up to; quantiles are None where there were too few."""

    begin: float
    end: float
    answered: int
    fallback: int
    failed: int
    p50: float | None
    p95: float | None

    def count(self, answer: Answer) -> int:
        """How many had this outcome."""
        return {"answered": self.answered, "fallback": self.fallback, "failed": self.failed}[answer]

    @property
    def requests(self) -> int:
        """How many were due."""
        return self.answered + self.fallback + self.failed


def dot_of(summary: Summary, request: Request) -> Dot:
    """Where a request stands in the picture; one that never ended waited at least as long as its client would have."""
    waited = request.latency
    if request.outcome in ("unfinished", "dropped"):
        waited = max(waited, summary.experiment.load.timeout)
    return Dot(summary.since(request.due), max(LEAST_LATENCY, waited), answer_of(request))


def sample(dots: Sequence[Dot], budget: int) -> list[Dot]:
    """At most `budget` dots that look like all of them.

    Those that did not go well and the slowest hundredth stay first of all; the others are thinned evenly
    over time. Only where those alone are too many are they thinned as well.
    """
    if len(dots) <= budget:
        return list(dots)
    slow = sorted(dot.latency for dot in dots)[ceil(len(dots) * 0.99) - 1]
    kept = [dot for dot in dots if dot.answer == "failed" or dot.latency >= slow]
    rest = [dot for dot in dots if not (dot.answer == "failed" or dot.latency >= slow)]
    kept = _thinned(kept, budget * 3 // 4)
    return kept + _thinned(rest, budget - len(kept))


def _thinned(dots: list[Dot], budget: int) -> list[Dot]:
    if len(dots) <= budget:
        return dots
    return [dots[number * len(dots) // budget] for number in range(budget)]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of an ordered sample does not exceed, between two neighbours by proportion."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def stride_for(seconds: float) -> int:
    """How long each stretch of a run lasts, so that there are not too many."""
    return next((stride for stride in STRIDES if seconds / stride <= MOST_STRETCHES), ceil(seconds / MOST_STRETCHES))


def stretches(dots: Sequence[Dot]) -> list[Stretch]:
    """The run cut into even stretches, from its begin to the last request, those without a request too."""
    if not dots:
        return []
    stride = stride_for(max(dot.at for dot in dots) + 1)
    buckets: dict[int, list[Dot]] = {}
    for dot in dots:
        buckets.setdefault(max(0, int(dot.at // stride)), []).append(dot)
    return [_stretch(number * stride, stride, buckets.get(number, [])) for number in range(max(buckets) + 1)]


def _stretch(begin: int, stride: int, dots: list[Dot]) -> Stretch:
    counts = {answer: sum(dot.answer == answer for dot in dots) for answer in ANSWERS}
    ordered = sorted(dot.latency for dot in dots)
    enough = len(ordered) >= FEWEST_FOR_QUANTILES
    return Stretch(
        begin,
        begin + stride,
        counts["answered"],
        counts["fallback"],
        counts["failed"],
        quantile(ordered, 0.5) if enough else None,
        quantile(ordered, 0.95) if enough else None,
    )


@dataclass(frozen=True, slots=True)
class LogScale:
    """Latency to height, by decades: `low` at the bottom, `high` at the top."""

    low: float
    high: float
    top: float
    bottom: float

    def y(self, value: float) -> float:
        """The height of a value; values outside stand at the edge."""
        share = (log10(min(max(value, self.low), self.high)) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return self.bottom - share * (self.bottom - self.top)

    @property
    def ticks(self) -> list[float]:
        """1, 3, 10, 30 …, or decades alone where these would stand too close."""
        steps = [factor * 10.0**power for power in range(-4, 4) for factor in (1, 3)]
        inside = [step for step in steps if self.low * 0.999 <= step <= self.high * 1.001]
        close = (self.bottom - self.top) / max(1, len(inside)) < 22
        return [step for step in inside if f"{step:e}".startswith("1")] if close else inside


def log_scale(dots: Sequence[Dot], top: float, bottom: float) -> LogScale:
    """A scale on which every request has its place, with a little air."""
    values = [dot.latency for dot in dots] or [0.001, 0.1]
    return LogScale(min(values) * 0.8, max(max(values) * 1.25, min(values) * 8), top, bottom)
