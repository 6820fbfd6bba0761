"""How one journey did in one window against another: errors, and two quantiles of the latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from harness.history.history import Window
from harness.history.table import Requests
from harness.judge.case import Case
from harness.judge.rows import against
from harness.judge.statistics import FEWEST_BLOCKS, Blocks, Change, Interval, blocks, bootstrap_changes, newcombe
from harness.judge.verdict import Outcome
from harness.model.expectations import Margins, MarginWords
from harness.model.parts import LatencyMargin

Quantile = Literal["p50", "p95"]
SHARES: dict[Quantile, float] = {"p50": 0.5, "p95": 0.95}


def margins_of(words: MarginWords | Margins, otherwise: Margins) -> Margins:
    """Margins with nothing left out."""
    said = {name: getattr(words, name) for name in Margins.model_fields}
    return otherwise.model_copy(update={name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True)
class Comparison:
    """One journey in two windows."""

    case: Case
    journey: str
    windows: tuple[Window, Window]

    @cached_property
    def groups(self) -> tuple[Requests, Requests]:
        """Its requests before, and after."""
        before, after = (self.case.group(self.journey, window) for window in self.windows)
        return before, after

    @property
    def numbers(self) -> tuple[int, int]:
        """How many requests before, and after."""
        before, after = self.groups
        return len(before), len(after)

    @cached_property
    def errors(self) -> tuple[float, Interval]:
        """By how much the share of failed requests rose."""
        before, after = ((int((~group.ok).sum()), len(group)) for group in self.groups)
        rise = after[0] / max(after[1], 1) - before[0] / max(before[1], 1)
        return rise, newcombe(before, after)

    @cached_property
    def _blocks(self) -> tuple[Blocks, Blocks]:
        before, after = (
            blocks(window.elapsed(group.due), self.case.waited(group), window.seconds)
            for group, window in zip(self.groups, self.windows, strict=True)
        )
        return before, after

    @property
    def has_blocks(self) -> bool:
        """Whether both windows are long enough to tell how much neighbouring stretches differ."""
        return min(len(part) for part in self._blocks) >= FEWEST_BLOCKS

    @cached_property
    def changes(self) -> dict[Quantile, Change]:
        """By how much each quantile rose."""
        found: Sequence[Change] = bootstrap_changes(*self._blocks, tuple(SHARES.values()))
        return dict(zip(SHARES, found, strict=True))


def slower(change: Change, allowed: LatencyMargin) -> Outcome:
    """Within if either part of the margin surely holds, outside if surely none does."""
    parts = []
    if allowed.relative is not None:
        parts.append(against(change.ratio, 1 + allowed.relative, "max"))
    if allowed.absolute is not None:
        parts.append(against(change.difference, allowed.absolute, "max"))
    return min(parts, default=Outcome.INCONCLUSIVE)
