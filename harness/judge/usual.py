"""How a journey usually is, and whether some of its requests, or whole stretches of them, are worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.history.table import NONE, Mask, Requests, Times
from harness.judge import words
from harness.judge.case import Case
from harness.judge.statistics import TAIL, quantile, quantile_interval, rank, wilson, z_among
from harness.model.expectations import Margins, Method
from harness.model.parts import LatencyMargin

Counts = tuple[int, int, tuple[int, ...]]
"""Of some requests: how many they are, how many failed, and how many took longer than each line."""


@dataclass(frozen=True)
class Usual:
    """One journey as it was in the baseline, and the lines beyond which a request or a stretch is worse.

    Worse it is surely, with its interval beyond a line: of 95 %, or so wide that of `among` stretches that are as usual
    not one is in 95 of 100 runs. By the method `point` it is where what was observed is.
    """

    case: Case
    group: Requests
    margins: Margins
    method: Method = "interval"
    among: int = 1

    @cached_property
    def errors(self) -> float:
        """The share of failed requests that is still as usual."""
        return float((~self.group.ok).mean()) + self.margins.error_rate

    @cached_property
    def _z(self) -> float:
        return z_among(self.among)

    @cached_property
    def _waited(self) -> Times:
        return np.sort(self.case.waited(self.group))

    def _line(self, share: float, allowed: LatencyMargin) -> float:
        usual = quantile(self._waited, share)
        return max(usual * (1 + (allowed.relative or 0.0)), usual + (allowed.absolute or 0.0))

    @cached_property
    def lines(self) -> tuple[tuple[str, float, float], ...]:
        """Each judged quantile with the latency that is still as usual."""
        return (("p50", 0.5, self._line(0.5, self.margins.p50)), ("p95", 0.95, self._line(0.95, self.margins.p95)))

    def trouble(self, group: Requests) -> tuple[str, Requests]:
        """How these requests are worse than usual, and which of them show it; empty where they are not."""
        took = self.case.waited(group)
        slow = tuple(took > line for _, _, line in self.lines)
        failed = group.at(~group.ok)
        place = self._worse((len(group), len(failed), tuple(int(mask.sum()) for mask in slow)))
        if place is None:
            return "", NONE
        if place == 0:
            return f"{len(failed)} of {words.count(len(group), 'request')} failed", failed
        name, share, line = self.lines[place - 1]
        told = f"{name} {words.seconds(quantile(np.sort(took), share))}, more than {words.seconds(line)}"
        return told, group.at(slow[place - 1])

    def fails(self, group: Requests) -> bool:
        """Whether these requests are worse than usual by their errors."""
        return self._worse((len(group), int((~group.ok).sum()), ())) == 0

    def troubled(self, group: Requests, begins: Times, seconds: float) -> Mask:
        """In which stretches of so many `seconds` these requests are worse than usual.

        What stands in each is counted from sums that run along the requests, so that an hour takes no longer than its
        number of stretches.
        """
        first, last = np.searchsorted(group.due, begins), np.searchsorted(group.due, begins + seconds)
        took = self.case.waited(group)
        failed, *slow = (_within(mask, first, last) for mask in (~group.ok, *(took > line for _, _, line in self.lines)))
        found = [
            self._worse((int(number), int(bad), tuple(map(int, over)))) is not None
            for number, bad, *over in zip(last - first, failed, *slow, strict=True)
        ]
        return np.array(found, dtype=np.bool_)

    def _worse(self, counts: Counts) -> int | None:
        """By what such requests are worse: 0 errors, then the lines in order; None where by nothing."""
        number, failed, slow = counts
        if number == 0:
            return None
        share = failed / number if self.method == "point" else wilson(failed, number, self._z).low
        if share > self.errors:
            return 0
        for place, (over, (_, at, _)) in enumerate(zip(slow, self.lines, strict=False), 1):
            if number - over <= self._place(number, at):
                return place
        return None

    def _place(self, number: int, share: float) -> float:
        """Where among so many ordered latencies the one stands that must be beyond a line, counted from 0."""
        if self.method == "point":
            return rank(number, share)
        return quantile_interval(range(number), share, TAIL / self.among).low


def _within(mask: Mask, first: NDArray[np.intp], last: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many of some requests are in each stretch, from the first on and before the last."""
    passed = np.concatenate([[0], np.cumsum(mask)])
    found: NDArray[np.intp] = passed[last] - passed[first]
    return found


def together(masks: Sequence[Mask], size: int) -> Mask:
    """Where any of several masks holds."""
    found: Mask = np.logical_or.reduce(masks) if masks else np.zeros(size, dtype=np.bool_)
    return found
