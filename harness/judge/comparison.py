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
from harness.judge.statistics import (
    FEWEST_BLOCKS,
    Blocks,
    Change,
    Interval,
    Values,
    blocks,
    blocks_of,
    bootstrap_changes,
    needs_more_resamples,
    newcombe,
    p_of_resamples,
    p_value,
    point,
    point_changes,
    resamples_among,
)
from harness.judge.verdict import Outcome
from harness.model.expectations import Margins, MarginWords, Method
from harness.model.parts import LatencyMargin

Quantile = Literal["p50", "p95"]
SHARES: dict[Quantile, float] = {"p50": 0.5, "p95": 0.95}


def margins_of(words: MarginWords | Margins, otherwise: Margins) -> Margins:
    """Margins with nothing left out."""
    said = {name: getattr(words, name) for name in Margins.model_fields}
    return otherwise.model_copy(update={name: value for name, value in said.items() if value is not None})


def blocks_in(window: Window, due: Values, values: Values) -> Blocks:
    """The values of a window in blocks, none of which lies across two pieces of it.

    Only where that leaves too few, or pieces that hold none, as of a fault that flaps, are they put together.
    """
    whole = [blocks_of(piece.seconds) for piece in window.pieces]
    if min(whole) == 0 or sum(whole) < FEWEST_BLOCKS:
        return blocks(window.elapsed(due), values, window.seconds)
    found: list[Values] = []
    for piece in window.pieces:
        inside = (piece.begin <= due) & (due < piece.end)
        found += blocks(due[inside] - piece.begin, values[inside], piece.seconds)
    return tuple(found)


@dataclass(frozen=True)
class Comparison:
    """One journey in two windows; its part in a finding of so many comparisons."""

    case: Case
    journey: str
    windows: tuple[Window, Window]
    method: Method = "interval"
    comparisons: int = 1

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
        before, after = self.failed
        rise = after[0] / max(after[1], 1) - before[0] / max(before[1], 1)
        return rise, point(rise) if self.method == "point" else newcombe(before, after)

    @cached_property
    def failed(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """How many requests failed and of how many, before and after."""
        before, after = ((int((~group.ok).sum()), len(group)) for group in self.groups)
        return before, after

    def p_of_errors(self, margin: float) -> float:
        """How sure it is that they rose by more than the margin, as a p-value."""
        return p_value(lambda z: newcombe(*self.failed, z), margin, "max")

    @cached_property
    def _blocks(self) -> tuple[Blocks, Blocks]:
        before, after = (
            blocks_in(window, group.due, self.case.waited(group))
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
        changes = point_changes if self.method == "point" else bootstrap_changes
        found: Sequence[Change] = changes(*self._blocks, tuple(SHARES.values()))
        return dict(zip(SHARES, found, strict=True))

    @cached_property
    def _surer(self) -> dict[Quantile, Change]:
        """The same of as many resamples as it takes to be sure of one among all comparisons."""
        found = bootstrap_changes(*self._blocks, tuple(SHARES.values()), resamples_among(self.comparisons))
        return dict(zip(SHARES, found, strict=True))

    def p_of_slower(self, name: Quantile, allowed: LatencyMargin) -> float:
        """How sure it is that a quantile rose by more than the margin, as a p-value."""
        p = p_of_slower(self.changes[name], allowed)
        return p_of_slower(self._surer[name], allowed) if needs_more_resamples(p, self.comparisons) else p


def slower(change: Change, allowed: LatencyMargin) -> Outcome:
    """Within if either part of the margin surely holds, outside if surely none does."""
    parts = []
    if allowed.relative is not None:
        parts.append(against(change.ratio, 1 + allowed.relative, "max"))
    if allowed.absolute is not None:
        parts.append(against(change.difference, allowed.absolute, "max"))
    return min(parts, default=Outcome.INCONCLUSIVE)


def p_of_slower(change: Change, allowed: LatencyMargin) -> float:
    """How sure it is that neither part of the margin holds, as a p-value: no surer than of the less sure one."""
    parts = []
    if allowed.relative is not None:
        parts.append(p_of_resamples(change.ratios, 1 + allowed.relative, "max"))
    if allowed.absolute is not None:
        parts.append(p_of_resamples(change.differences, allowed.absolute, "max"))
    return max(parts, default=1.0)
