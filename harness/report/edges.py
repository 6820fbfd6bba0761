"""What the proxies counted on every edge, before the fault and while it lasted; what nobody can count is said, not nought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.history.events import EdgeSeen
from harness.history.history import Window
from harness.judge.edges import EdgeCounts, Traffic
from harness.report.summary import Summary
from harness.report.wording import thousands

NOT_SEEN = "not seen"
NO_PROXY = "no proxy"

COUNTED = ("requests", "connections", "turned away", "packets")


@dataclass(frozen=True, slots=True)
class EdgeRow:
    """One edge: for each thing counted, what was seen in the baseline and while the faults were on, as it is shown."""

    edge: str
    struck: bool
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class EdgeTable:
    """All edges, the struck ones first; `counted` are the columns, `cannot` says why something was not seen."""

    counted: tuple[str, ...]
    rows: tuple[EdgeRow, ...]
    cannot: tuple[str, ...]


def edge_table(summary: Summary) -> EdgeTable:
    """The table; without rows where no proxy was ever looked at."""
    samples = summary.history.of(EdgeSeen)
    if not samples:
        return EdgeTable((), (), ())
    counts = EdgeCounts(summary.history)
    baseline = summary.history.phases.get("baseline")
    windows = (baseline.pieces if baseline is not None else (), _struck(summary))
    struck = {strike.proxy for strike in summary.strikes}
    shown = [0, 1, 2, *([3] if any(sample.packets is not None for sample in samples) else [])]
    rows = [
        EdgeRow(edge.name, edge.name in struck, tuple(_cells(counts, edge.name, windows)[number] for number in shown))
        for edge in summary.experiment.system.edges
    ]
    rows += [EdgeRow(edge.name, False, ((NO_PROXY, NO_PROXY),) * len(shown)) for edge in summary.experiment.system.unproxied]
    cannot = tuple(dict.fromkeys(sample.cannot for sample in samples if sample.cannot))
    return EdgeTable(tuple(COUNTED[number] for number in shown), tuple(sorted(rows, key=lambda row: not row.struck)), cannot)


def _struck(summary: Summary) -> tuple[Window, ...]:
    """In each round from the first fault on to the last off; the fault phase where none was."""
    found, began = [], summary.history.began
    on = [Window(begin + began, end + began) for begin, end in summary.struck_time]
    for turn in summary.history.turns:
        if turn.phase == "fault":
            within = [part for window in on for part in window.shared(turn.window)]
            found.append(Window(within[0].begin, within[-1].end) if within else turn.window)
    return tuple(found)


def _cells(counts: EdgeCounts, edge: str, windows: tuple[Sequence[Window], Sequence[Window]]) -> tuple[tuple[str, str], ...]:
    seen = [counts.during_all(edge, window) for window in windows]
    before, during = (_numbers(traffic) for traffic in seen)
    return tuple(zip(before, during, strict=True))


def _numbers(traffic: Traffic | None) -> tuple[str, ...]:
    """In the order of what is counted."""
    if traffic is None:
        return (NOT_SEEN,) * len(COUNTED)
    numbers = (traffic.requests, traffic.accepted, traffic.refused, traffic.packets)
    return tuple(NOT_SEEN if number is None else thousands(number) for number in numbers)
