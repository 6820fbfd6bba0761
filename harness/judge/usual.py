"""How a journey usually is, and whether some of its requests are surely worse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.history.table import NONE, Requests, Times
from harness.judge import words
from harness.judge.case import Case
from harness.judge.statistics import quantile, quantile_interval, wilson
from harness.model.expectations import Margins
from harness.model.parts import LatencyMargin


@dataclass(frozen=True)
class Usual:
    """One journey as it was in the baseline, and the lines beyond which a request or a stretch is worse."""

    case: Case
    group: Requests
    margins: Margins

    @cached_property
    def errors(self) -> float:
        """The share of failed requests that is still as usual."""
        return float((~self.group.ok).mean()) + self.margins.error_rate

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
        """How these requests are surely worse than usual, and which of them show it; empty where they are not."""
        failed = group.at(~group.ok)
        if wilson(len(failed), len(group)).low > self.errors:
            return f"{len(failed)} of {words.count(len(group), 'request')} failed", failed
        took = self.case.waited(group)
        waited = np.sort(took)
        for name, share, line in self.lines:
            if group and quantile_interval(waited, share).low > line:
                told = f"{name} {words.seconds(quantile(waited, share))}, more than {words.seconds(line)}"
                return told, group.at(took > line)
        return "", NONE
