"""Quantiles of the latency, counted from the intended start, against limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.history.history import Window
from harness.history.table import Requests, Times
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS, LONGER, Case
from harness.judge.comparison import blocks_in
from harness.judge.rows import Heading, Row, against, finding, measure, nothing, surely_outside, told
from harness.judge.statistics import (
    FEWEST_BLOCKS,
    Blocks,
    Bound,
    Interval,
    middle,
    needs_more_resamples,
    p_of_quantile,
    p_of_resamples,
    point,
    quantile,
    quantile_interval,
    resampled_quantile,
    resamples_among,
)
from harness.judge.verdict import Finding, Outcome
from harness.model.expectations import EACH, Method, ResponseTime
from harness.model.parts import DurationLimit

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

NEEDED: dict[Method, dict[str, int]] = {
    "interval": {"p50": FEWEST_REQUESTS, "p95": 72, "p99": 368},
    "point": {"p50": FEWEST_REQUESTS, "p95": FEWEST_REQUESTS, "p99": 100},
}
"""With fewer requests nothing bounds the quantile above; or, as a point, it is only the largest of them."""


def judge_response_time(name: str, expected: ResponseTime, case: Case) -> Finding:
    """The interval of each quantile against its limits; requests that failed or never ended count with what they took."""
    during = expected.during or "fault"
    limits = {quantile: getattr(expected, quantile) for quantile in QUANTILES}
    asked: dict[str, DurationLimit] = {quantile: limit for quantile, limit in limits.items() if limit is not None}
    of = "each journey" if expected.journey == EACH else expected.journey or "all requests"
    limit = words.several([f"{quantile} {_limits(limit)}" for quantile, limit in asked.items()])
    heading = Heading(name, "response_time", f"response time of {of} during {during}", told(limit, expected.method))
    window = case.window(during)
    if hidden := case.hidden(during):
        return nothing(heading, f"only {hidden}", LONGER)
    if window is None:
        return nothing(heading, f"no window {during} was recorded")
    journeys: list[str | None] = [expected.journey]
    if expected.journey == EACH:
        journeys = [*sorted({*case.experiment.system.journeys, *case.groups(window)})]
    place, number = (case, window, during), len(journeys) * sum(1 for limit in asked.values() for _ in _bounds(limit))
    rows = [
        row
        for journey in journeys
        for asked_of in asked.items()
        for row in _rows((journey, case.group(journey, window)), asked_of, place, expected.method, number)
    ]
    return finding(case, heading, surely_outside(rows))


def _limits(limit: DurationLimit) -> str:
    most = [f"at most {words.seconds(limit.max)}"] if limit.max is not None else []
    least = [f"at least {words.seconds(limit.min)}"] if limit.min is not None else []
    return " and ".join([*most, *least])


def _rows(
    subject: tuple[str | None, Requests],
    asked: tuple[str, DurationLimit],
    place: tuple[Case, Window, str],
    method: Method,
    comparisons: int,
) -> list[Row]:
    (journey, group), (name, limit), (case, window, during) = subject, asked, place
    label = f"{journey} {name}" if journey else name
    needed = NEEDED[method][name]
    if len(group) < needed:
        few = f"{words.count(len(group), 'request')} in {during}, at least {needed} are needed"
        return [Row(label, Outcome.INCONCLUSIVE, few, few, case.more(during, len(group), needed, journey))]
    timed = Timed(case.waited(group), group.due, window, QUANTILES[name], comparisons)
    interval = timed.interval if method == "interval" else point(timed.observed)
    seen = f"{label} {words.seconds(timed.observed)} of {len(group)} requests"
    rows = []
    for bound, line in _bounds(limit):
        outcome = against(interval, line, bound)
        advice = _advice(outcome, label, (case, during, len(group)), method)
        p = timed.p(line, bound) if method == "interval" else None
        shown = measure("seconds", timed.observed, interval, line, bound)
        rows.append(Row(label, outcome, seen, *advice, shown, case.slowest(group), p=p))
    return rows


def _bounds(limit: DurationLimit) -> Iterator[tuple[Bound, float]]:
    if limit.max is not None:
        yield "max", limit.max
    if limit.min is not None:
        yield "min", limit.min


@dataclass(frozen=True)
class Timed:
    """A quantile of the latencies of a window; its part in a finding of so many comparisons."""

    waited: Times
    due: Times
    window: Window
    share: float
    comparisons: int = 1

    @cached_property
    def _ordered(self) -> Times:
        return np.sort(self.waited)

    @property
    def observed(self) -> float:
        """What was seen."""
        return quantile(self._ordered, self.share)

    @cached_property
    def _blocks(self) -> Blocks:
        return blocks_in(self.window, self.due, self.waited)

    @cached_property
    def _resampled(self) -> Times | None:
        """The quantile in resamples of the window's blocks; None where it has too few of them."""
        return resampled_quantile(self._blocks, self.share) if len(self._blocks) >= FEWEST_BLOCKS else None

    @cached_property
    def _surer(self) -> Times:
        """As many of them as it takes to be sure of one among all comparisons."""
        return resampled_quantile(self._blocks, self.share, resamples_among(self.comparisons))

    @property
    def interval(self) -> Interval:
        """The wider of two intervals: requests that wait in one queue are not independent, and a few blocks are not much."""
        interval = quantile_interval(self._ordered, self.share)
        return interval if self._resampled is None else interval.hull(middle(self._resampled))

    def p(self, limit: float, bound: Bound) -> float:
        """How sure it is that the limit was not kept, as a p-value: no surer than of the wider interval."""
        alone = p_of_quantile(self._ordered, self.share, limit, bound)
        if self._resampled is None:
            return alone
        p = p_of_resamples(self._resampled, limit, bound)
        if needs_more_resamples(p, self.comparisons):
            p = p_of_resamples(self._surer, limit, bound)
        return max(alone, p)


def _advice(outcome: Outcome, label: str, place: tuple[Case, str, int], method: Method) -> tuple[str, str]:
    case, during, have = place
    if outcome is Outcome.FAILED:
        sure = "surely " if method == "interval" else ""
        return f"{label} is {sure}outside its limit", "look up the traces below in the services' logs"
    if outcome is Outcome.INCONCLUSIVE:
        return f"the interval of {label} lies across the limit", case.more(during, have, have * 2)
    return "", ""
