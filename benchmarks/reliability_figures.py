"""What the trials add up to: what was wrong with each, shares with their intervals, times, growth. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np

from harness.judge.statistics import wilson
from harness.judge.verdict import EXIT_CODES, INVALID, LEFT_BEHIND, TERMINATED

Row = Mapping[str, Any]
"""What came of one trial, with what was ordered: a line of the state file."""

NOT_PASSED = {*EXIT_CODES.values(), LEFT_BEHIND, TERMINATED} - {EXIT_CODES["passed"]}
INTERRUPTED = {"SIGINT": EXIT_CODES["interrupted"], "SIGTERM": TERMINATED, "SIGHUP": TERMINATED}
NUMBERS = {"SIGINT": 2, "SIGTERM": 15, "SIGHUP": 1}
REPORTS = ("verdict.json", "report.html", "junit.xml", "summary.md")
HEALED_WITHIN = 2.0
"""Seconds after the lease in which a guardian has healed; it is at work at once where the harness is gone."""

HEALED_BY_ENGINE = 10.0
"""As many for the guardian at a Docker engine, which lets the other one go first."""

HEALED_AFTER_SIGNAL = 5.0
NOTHING = 1e-9
LEFT_OUT = 20
"""The first runs of a series: what is loaded once is loaded in them."""


def problems_of(row: Row) -> list[str]:
    """Everything that should not have come of a trial, in sentences; nothing of how long it took."""
    if row.get("too_late"):
        return []
    found = [f"left behind: {what}" for what in row["left"]]
    found += [f"still on: {what}" for what in row["faults"]]
    if row["ended"] is None:
        found.append("the harness did not end")
    if row["traceback"]:
        found.append(f"a traceback: {row['traceback'].strip().splitlines()[-1]}")
    if row["struck"]:
        found += _JUDGING[row["kind"]](row)
    return found


def _of_killed(row: Row) -> list[str]:
    """Until everything was down, what was recorded is not all: it passes nothing. Afterwards the run is whole."""
    if row["judged"] is None:
        return [] if row["struck"] == "starting" else ["there is no folder of a run"]
    allowed = set(NOT_PASSED)
    if "RunEnded" in row["events"]:
        allowed.add(EXIT_CODES["passed"])
    if row["struck"] == "starting":
        allowed.add(INVALID)
    if row["judged"] in allowed:
        return []
    return [f"judged as {row['word']!r} (exit code {row['judged']}) though it was killed while {row['struck']}"]


def _of_guardian(row: Row) -> list[str]:
    """Without it the run ends; where everything is being undone already, it may end as it would have."""
    if row["struck"] not in ("bringing up", "baseline", "fault", "recovery"):
        return []
    found = []
    if row["code"] != EXIT_CODES["error"] or row["word"] != "error":
        found.append(f"the guardian was killed while {row['struck']}, and the run ended as {row['word']!r} ({row['code']})")
    if not any("guardian" in reason for reason in row["reasons"]):
        found.append("nothing says that the guardian was gone")
    return found


def _of_interrupted(row: Row) -> list[str]:
    found = []
    if row["code"] not in _right_codes(row):
        names = ", ".join(name for name, _ in row["signals"])
        found.append(f"{names} while {row['struck']} ended with exit code {row['code']}")
    missing = sorted(set(REPORTS) - set(row["reports"]))
    if "RunBegan" in row["events"] and missing:
        found.append(f"no {', '.join(missing)}")
    return found


def _right_codes(row: Row) -> set[int]:
    """That of the first signal; before there is a run, also what a process that a signal ends comes to.

    Once everything is down the run is whole: it may be told as what it was.
    """
    first = row["signals"][0][0]
    right = {INTERRUPTED[first]}
    if row["struck"] == "starting" and row["judged"] is None:
        right.add(128 + NUMBERS[first])
    if row["struck"] == "reporting" and row["judged"] is not None:
        right.add(row["judged"])
    return right


_JUDGING = {
    "kills": _of_killed,
    "stops": _of_killed,
    "jobs": _of_killed,
    "guardians": _of_guardian,
    "interrupts": _of_interrupted,
}


def limit_of(row: Row) -> float:
    """Within how many seconds everything has to be healed."""
    if row["kind"] in ("kills", "stops", "jobs"):
        return float(row["lease"]) + (HEALED_BY_ENGINE if row["kind"] == "jobs" else HEALED_WITHIN)
    return HEALED_AFTER_SIGNAL + (float(row["lease"]) if row["kind"] == "guardians" else 0.0)


# figures


def share(hits: int, of: int) -> str:
    """So many of so many, with what that says of all: at 95 %, for none by the rule of three."""
    if of == 0:
        return "none tried"
    if hits == 0:
        return f"0 of {of} (at most {min(100.0, 300 / of):.1f} %)"
    interval = wilson(hits, of)
    return f"{hits} of {of} [{100 * interval.low:.1f}, {100 * interval.high:.1f} %]"


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that so large a part does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(part * len(ordered)) - 1)]


def times(values: Sequence[float | None]) -> str:
    """p50, p99 and the longest, in seconds; what never came counts as never."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    told = " / ".join(f"{value:.1f}" for value in (quantile(known, 0.5), quantile(known, 0.99), max(known)))
    return told + (f"; {len(values) - len(known)} never" if len(known) < len(values) else "")


def row_of(name: str, rows: Sequence[Row]) -> str:
    """A row of the table: one series of trials. What `chaos gc` removed is told apart, and was never all gone by itself."""
    hit = [row for row in rows if row["struck"]]
    sick = [row for row in hit if row["on"] or row["seen"]]
    left = sum(bool(row["left"] or row["faults"]) for row in hit)
    wrong = sum(bool(problems_of(row)) for row in hit)
    late = sum(row["healed"] is None or row["healed"] > limit_of(row) for row in sick)
    cleared = sum(bool(row["cleared"]) for row in hit)
    cells = [name, len(hit), share(left, len(hit)), cleared, share(wrong, len(hit)), len(sick), share(late, len(sick))]
    cells += [times([max(row["seen"].values(), default=0.0) for row in sick]), times([row["healed"] for row in sick])]
    cells += [times([row["gone"] for row in hit if not row["cleared"]])]
    return f"| {' | '.join(str(cell) for cell in cells)} |"


HEAD = (
    "| struck | trials | something left | an entry left for `gc` | anything wrong | with a fault on | of these healed late "
    "| fault last seen, s: p50 / p99 / max | healed, s | all gone, s |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much something grew with each run, with its 95 % interval, and where it began."""

    first: float
    slope: float
    low: float
    high: float
    runs: int

    @property
    def is_certain(self) -> bool:
        """Whether it grew, by more than chance and the rounding of the computer."""
        return self.low >= NOTHING

    def line(self, name: str, unit: str) -> str:
        """A row of the table."""
        slope, low, high, over = (_plain(value) for value in (self.slope, self.low, self.high, self.slope * self.runs))
        return f"| {name} | {self.first:.4g}{unit} | {slope}{unit} [{low}, {high}] | {over}{unit} in {self.runs} runs |"


def _plain(value: float) -> str:
    """What is nothing but for the rounding of the computer is nothing."""
    return f"{value:+.2g}" if abs(value) >= NOTHING else "0"


GROWTH_HEAD = "| | after the first | for each run | over the series |\n|---|--:|--:|--:|"


def growth_of(values: Sequence[float], left_out: int = LEFT_OUT) -> Growth:
    """A straight line through a series, by least squares, but for the first values of it.

    The interval takes the residuals for independent of each other; memory comes in steps, so it is narrower than it should be.
    """
    from scipy import stats

    counted = np.asarray(values[left_out:], dtype=float)
    if len(counted) < 3:
        raise ValueError(f"expected at least {left_out + 3} runs, found {len(values)}")
    at = np.arange(len(counted), dtype=float)
    slope, start = np.polyfit(at, counted, 1)
    residuals = counted - (start + slope * at)
    spread = sqrt(float((residuals**2).sum()) / (len(counted) - 2) / float(((at - at.mean()) ** 2).sum()))
    reach = float(stats.t.ppf(0.975, len(counted) - 2)) * spread
    return Growth(float(counted[0]), float(slope), float(slope - reach), float(slope + reach), len(counted))
