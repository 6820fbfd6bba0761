"""Rows: the parts that findings are made of, one for each journey, quantile or witness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from harness.history.requests import Request
from harness.judge.case import MOST_EXAMPLES, Case
from harness.judge.statistics import Interval, finite, holm
from harness.judge.verdict import Finding, Measure, Outcome, Unit, overall
from harness.model.expectations import Method


@dataclass(frozen=True, slots=True)
class Row:
    """One part of a finding: what was seen of `subject`, and how it came out.

    `limit` stands for that of the heading where it is the row's own; `line` says the same as `seen`, with
    everything. `examples` are requests that show it.
    """

    subject: str
    outcome: Outcome
    seen: str
    why: str = ""
    advice: str = ""
    measure: Measure | None = None
    examples: tuple[Request, ...] = ()
    limit: str = ""
    line: str = ""
    p: float | None = None
    """How sure it is that the limit was not kept, as a p-value; None where nothing of the kind was asked."""


def against(interval: Interval, limit: float, bound: Literal["max", "min"]) -> Outcome:
    """Inside with both ends: passed. Outside with both: failed. Across the limit: nobody can say."""
    low, high = (interval.low, interval.high) if bound == "max" else (-interval.high, -interval.low)
    line = limit if bound == "max" else -limit
    if high <= line + 1e-12:
        return Outcome.PASSED
    return Outcome.FAILED if low > line + 1e-12 else Outcome.INCONCLUSIVE


def surely_outside(rows: Sequence[Row]) -> list[Row]:
    """The rows, where only what is outside though several were looked at stays failed: by Holm's step-down.

    Each by itself is outside by chance in 1 of 40, so among a dozen journeys and quantiles one easily is. What passed needs
    no such care: each must be inside by itself.
    """
    tested = [row.p for row in rows if row.p is not None]
    largest = holm(tested)
    return [
        replace(
            row,
            outcome=Outcome.INCONCLUSIVE,
            why=f"{row.seen} is outside by itself, but one of {len(tested)} comparisons easily is by chance",
            advice="repeat it: raise load.rate, rounds, or the phase",
        )
        if row.outcome is Outcome.FAILED and row.p is not None and row.p > largest
        else row
        for row in rows
    ]


def told(limit: str, method: Method) -> str:
    """A limit in words; one that is compared with nothing but what was observed says so."""
    return f"{limit} ({method})" if method == "point" else limit


def measure(unit: Unit, observed: float, interval: Interval, limit: float, bound: Literal["max", "min"]) -> Measure:
    """A measure of an interval whose ends may be unbounded."""
    return Measure(unit, finite(observed), finite(interval.low), finite(interval.high), limit, bound)


def strain(found: Measure | None) -> float:
    """How near what was observed comes to its limit, or how far it goes beyond; picks the worst among equals."""
    if found is None or found.observed is None:
        return 0.0
    if found.bound == "max":
        return found.observed / max(found.limit, 1e-9)
    return found.limit / max(found.observed, 1e-9)


def worst_of(rows: Iterable[Row]) -> Row:
    """The row that decides; of those that failed one by errors, for these nothing but the system makes."""
    return max(rows, key=lambda row: (row.outcome, _failed_by_errors(row), _strain_of(row), _width(row.measure)))


def _strain_of(row: Row) -> float:
    """That of a row that is undecided for want of anything observed outweighs all that is within, and not what is beyond."""
    unknown = row.outcome is Outcome.INCONCLUSIVE and (row.measure is None or row.measure.observed is None)
    return 1 + 1e-9 if unknown else strain(row.measure)


def _failed_by_errors(row: Row) -> bool:
    return row.outcome is Outcome.FAILED and row.measure is not None and row.measure.unit in ("share", "points")


def _width(found: Measure | None) -> float:
    """How much an interval leaves open."""
    if found is None or found.observed is None:
        return 0.0
    return inf if found.low is None or found.high is None else found.high - found.low


@dataclass(frozen=True, slots=True)
class Heading:
    """What a finding says whatever came out."""

    id: str
    kind: str
    title: str
    limit: str = ""
    source: str = ""


def nothing(heading: Heading, why: str, advice: str = "") -> Finding:
    """The finding of somebody who saw nothing."""
    return Finding(
        heading.id, heading.kind, heading.title, Outcome.INCONCLUSIVE, why, heading.limit, heading.source, why, advice
    )


def finding(case: Case, heading: Heading, rows: Sequence[Row], *, aside: Iterable[str] = ()) -> Finding:
    """Add rows up: the worst decides, all are told, requests and log lines are added where one failed."""
    if not rows:
        return nothing(heading, "there was nothing to judge")
    worst = worst_of(rows)
    lines = [row for row in rows if row.line or len(rows) > 1]
    failed = [_line(row) for row in lines if row.outcome is Outcome.FAILED]
    others = [_line(row) for row in lines if row.outcome is not Outcome.FAILED]
    return Finding(
        heading.id,
        heading.kind,
        heading.title,
        overall(row.outcome for row in rows),
        worst.seen,
        worst.limit or heading.limit,
        heading.source,
        worst.why,
        worst.advice,
        worst.measure,
        (*failed, *(_of_the_failed(case, rows) if worst.outcome is Outcome.FAILED else ()), *others, *aside),
    )


def _line(row: Row) -> str:
    return f"{row.subject}: {row.line or row.seen}"


def _of_the_failed(case: Case, rows: Sequence[Row]) -> Iterator[str]:
    shown = [request for row in rows if row.outcome is Outcome.FAILED for request in row.examples]
    yield from (case.example(request) for request in shown[:MOST_EXAMPLES])
    yield from (f"{exit.service} ended by itself ({exit.how}): {line}" for exit in case.exits for line in exit.log[-5:])
