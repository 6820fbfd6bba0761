"""How a journey usually is, and whether some of its requests are surely worse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from harness.judge import words
from harness.judge.case import Case, Group
from harness.judge.statistics import quantile, quantile_interval, wilson
from harness.model.expectations import Margins
from harness.model.parts import LatencyMargin


@dataclass(frozen=True)
class Usual:
    """One journey as it was in the baseline, and the lines beyond which a request or a stretch is worse."""

    case: Case
    group: Group
    margins: Margins

    @cached_property
    def errors(self) -> float:
        """The share of failed requests that is still as usual."""
        return sum(not request.ok for request in self.group) / len(self.group) + self.margins.error_rate

    @cached_property
    def _waited(self) -> list[float]:
        return sorted(self.case.waited(request) for request in self.group)

    def _line(self, share: float, allowed: LatencyMargin) -> float:
        usual = quantile(self._waited, share)
        return max(usual * (1 + (allowed.relative or 0.0)), usual + (allowed.absolute or 0.0))

    @cached_property
    def lines(self) -> tuple[tuple[str, float, float], ...]:
        """Each judged quantile with the latency that is still as usual."""
        return (("p50", 0.5, self._line(0.5, self.margins.p50)), ("p95", 0.95, self._line(0.95, self.margins.p95)))

    def trouble(self, group: Group) -> tuple[str, Group]:
        """How these requests are surely worse than usual, and which of them show it; empty where they are not."""
        failed = tuple(request for request in group if not request.ok)
        if wilson(len(failed), len(group)).low > self.errors:
            return f"{len(failed)} of {words.count(len(group), 'request')} failed", failed
        waited = sorted(self.case.waited(request) for request in group)
        for name, share, line in self.lines:
            if waited and quantile_interval(waited, share).low > line:
                slow = tuple(request for request in group if self.case.waited(request) > line)
                return f"{name} {words.seconds(quantile(waited, share))}, more than {words.seconds(line)}", slow
        return "", ()
