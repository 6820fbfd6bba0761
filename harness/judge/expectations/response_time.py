"""Quantiles of the latency, counted from the intended start, against limits."""

from __future__ import annotations

import numpy as np

from harness.history.history import Window
from harness.history.table import Requests, Times
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS, LONGER, Case
from harness.judge.rows import Heading, Row, against, finding, measure, nothing
from harness.judge.statistics import FEWEST_BLOCKS, Interval, blocks, bootstrap_quantile, quantile, quantile_interval
from harness.judge.verdict import Finding, Outcome
from harness.model.expectations import EACH, ResponseTime
from harness.model.parts import DurationLimit

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

NEEDED = {"p50": FEWEST_REQUESTS, "p95": 72, "p99": 368}
"""With fewer requests nothing bounds the quantile above."""


def judge_response_time(name: str, expected: ResponseTime, case: Case) -> Finding:
    """The interval of each quantile against its limits; requests that failed or never ended count with what they took."""
    during = expected.during or "fault"
    limits = {quantile: getattr(expected, quantile) for quantile in QUANTILES}
    asked: dict[str, DurationLimit] = {quantile: limit for quantile, limit in limits.items() if limit is not None}
    of = "each journey" if expected.journey == EACH else expected.journey or "all requests"
    told = words.several([f"{quantile} {_limits(limit)}" for quantile, limit in asked.items()])
    heading = Heading(name, "response_time", f"response time of {of} during {during}", told)
    window = case.window(during)
    if hidden := case.hidden(during):
        return nothing(heading, f"only {hidden}", LONGER)
    if window is None:
        return nothing(heading, f"no window {during} was recorded")
    journeys: list[str | None] = [expected.journey]
    if expected.journey == EACH:
        journeys = [*sorted({*case.experiment.system.journeys, *case.groups(window)})]
    rows = [
        row
        for journey in journeys
        for quantile, limit in asked.items()
        for row in _rows((journey, case.group(journey, window)), quantile, limit, (case, window, during))
    ]
    return finding(case, heading, rows)


def _limits(limit: DurationLimit) -> str:
    most = [f"at most {words.seconds(limit.max)}"] if limit.max is not None else []
    least = [f"at least {words.seconds(limit.min)}"] if limit.min is not None else []
    return " and ".join([*most, *least])


def _rows(subject: tuple[str | None, Requests], name: str, limit: DurationLimit, place: tuple[Case, Window, str]) -> list[Row]:
    (journey, group), (case, window, during) = subject, place
    label = f"{journey} {name}" if journey else name
    if len(group) < NEEDED[name]:
        told = f"{words.count(len(group), 'request')} in {during}, at least {NEEDED[name]} are needed"
        return [Row(label, Outcome.INCONCLUSIVE, told, told, case.more(during, len(group), NEEDED[name]))]
    waited = case.waited(group)
    interval = interval_of(group.due, waited, window, QUANTILES[name])
    observed = quantile(np.sort(waited), QUANTILES[name])
    rows = []
    for bound, line in (("max", limit.max), ("min", limit.min)):
        if line is not None:
            outcome = against(interval, line, "max" if bound == "max" else "min")
            seen = f"{label} {words.seconds(observed)} of {len(group)} requests"
            shown = measure("seconds", observed, interval, line, "max" if bound == "max" else "min")
            rows.append(
                Row(label, outcome, seen, *_advice(outcome, label, (case, during, len(group))), shown, case.slowest(group))
            )
    return rows


def interval_of(due: Times, waited: Times, window: Window, share: float) -> Interval:
    """The wider of two intervals: requests that wait in one queue are not independent, and a few blocks are not much."""
    parts = blocks(window.elapsed(due), waited, window.seconds)
    interval = quantile_interval(np.sort(waited), share)
    return interval.hull(bootstrap_quantile(parts, share)) if len(parts) >= FEWEST_BLOCKS else interval


def _advice(outcome: Outcome, label: str, place: tuple[Case, str, int]) -> tuple[str, str]:
    case, during, have = place
    if outcome is Outcome.FAILED:
        return f"{label} is surely outside its limit", "look up the traces below in the services' logs"
    if outcome is Outcome.INCONCLUSIVE:
        return f"the interval of {label} lies across the limit", case.more(during, have, have * 2)
    return "", ""
