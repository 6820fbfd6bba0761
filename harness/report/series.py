"""Requests over time: the dots that are drawn of them, and what they add up to in each stretch of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log10

import numpy as np
from numpy.typing import NDArray

from harness.history.table import Mask, Requests, Times
from harness.report.summary import ANSWERS, Answer, Summary

MOST_STRETCHES = 100
"""Stretches the run is cut into at most; they last 1, 2, 5, 10 … seconds."""

FEWEST_FOR_QUANTILES = 5

STRIDES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200, 14400)

LEAST_LATENCY = 0.0001
"""A logarithmic axis needs an end; nothing that passes a network is quicker."""


@dataclass(frozen=True, eq=False, slots=True)
class Dots:
    """Requests as they are drawn, in the order in which they were due: when, how long, and which of ANSWERS."""

    at: Times
    latency: Times
    answer: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.at)

    def chosen(self, which: Mask | NDArray[np.intp]) -> Dots:
        """Some of them."""
        return Dots(self.at[which], self.latency[which], self.answer[which])

    def of(self, answer: Answer) -> Mask:
        """Which had this outcome."""
        found: Mask = self.answer == ANSWERS.index(answer)
        return found


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


def dots_of(summary: Summary, requests: Requests) -> Dots:
    """Where requests stand in the picture; one that never ended waited at least as long as its client would have."""
    waited = np.where(requests.never_ended, np.maximum(requests.latency, summary.experiment.load.timeout), requests.latency)
    answered, fallback, failed = (ANSWERS.index(answer) for answer in ("answered", "fallback", "failed"))
    answer = np.where(requests.ok, np.where(requests.marked, fallback, answered), failed).astype(np.uint8)
    return Dots(requests.due - summary.history.began, np.maximum(LEAST_LATENCY, waited), answer)


def sample(dots: Dots, budget: int) -> Dots:
    """At most `budget` dots that look like all of them.

    Those that did not go well and the slowest hundredth stay first of all; the others are thinned evenly
    over time. Only where those alone are too many are they thinned as well.
    """
    if len(dots) <= budget:
        return dots
    rank = ceil(len(dots) * 0.99) - 1
    telling = dots.of("failed") | (dots.latency >= np.partition(dots.latency, rank)[rank])
    kept = _thinned(np.flatnonzero(telling), budget * 3 // 4)
    return dots.chosen(np.concatenate([kept, _thinned(np.flatnonzero(~telling), budget - len(kept))]))


def _thinned(places: NDArray[np.intp], budget: int) -> NDArray[np.intp]:
    if len(places) <= budget:
        return places
    return places[np.arange(budget) * len(places) // budget]


def quantile(ordered: Sequence[float] | Times, share: float) -> float:
    """The value that this share of an ordered sample does not exceed, between two neighbours by proportion."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


def stride_for(seconds: float) -> int:
    """How long each stretch of a run lasts, so that there are not too many."""
    return next((stride for stride in STRIDES if seconds / stride <= MOST_STRETCHES), ceil(seconds / MOST_STRETCHES))


def stretches(dots: Dots) -> list[Stretch]:
    """The run cut into even stretches, from its begin to the last request, those without a request too."""
    if not len(dots):
        return []
    stride = stride_for(float(dots.at.max()) + 1)
    number = np.maximum(0, dots.at // stride).astype(np.intp)
    borders = np.searchsorted(number, np.arange(number[-1] + 2))
    return [
        _stretch(place * stride, stride, dots.chosen(np.arange(begin, end)))
        for place, (begin, end) in enumerate(pairwise(borders))
    ]


def _stretch(begin: int, stride: int, dots: Dots) -> Stretch:
    ordered = np.sort(dots.latency)
    enough = len(ordered) >= FEWEST_FOR_QUANTILES
    answered, fallback, failed = map(int, np.bincount(dots.answer, minlength=len(ANSWERS)))
    return Stretch(
        begin,
        begin + stride,
        answered,
        fallback,
        failed,
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


def log_scale(dots: Dots, top: float, bottom: float) -> LogScale:
    """A scale on which every request has its place, with a little air."""
    least, most = (float(dots.latency.min()), float(dots.latency.max())) if len(dots) else (0.001, 0.1)
    return LogScale(least * 0.8, max(most * 1.25, least * 8), top, bottom)
