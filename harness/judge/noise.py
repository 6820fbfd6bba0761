"""What other programs on the machine do to a comparison: latencies of a busy machine are nobody's fault.

Where others were busier in the window judged than in the baseline, what was slower proves nothing, while what
held all the same holds. Where they were busier in the baseline, it is the other way round: the damage may hide.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from harness.history.events import MachineSeen
from harness.history.history import Window
from harness.judge import words
from harness.judge.case import Case
from harness.judge.verdict import Finding, Outcome
from harness.model.expectations import BlastRadius, ErrorRate, ExpectationItem, Fallback, Invariant, Recovery, ResponseTime
from harness.model.load import PHASES

MOST_SHIFT = 0.3
"""By how much of the whole machine the share of other programs may differ between the windows compared."""

CROWDED = 0.6
"""The share of the machine from which on others leave too little for a system to be quick, however busy they were before."""

LATENCIES = ("ratio", "seconds")
"""The units of what a busy machine changes; it makes requests late, and seldom makes them fail."""


def foreign_share(case: Case, window: Window) -> float | None:
    """The share of the machine used by programs that have no part in the run; None where it was not sampled."""
    seen = [one.others / one.cores for one in case.history.of(MachineSeen) if window.holds(one.at)]
    return sum(seen) / len(seen) if seen else None


def doubted(found: Finding, item: ExpectationItem, case: Case) -> Finding:
    """The finding, undecided where noise alone may have decided it."""
    phase = _phase_of(item)
    before, during = (_share_in(case, name) for name in ("baseline", phase or "baseline"))
    if phase is None or before is None or during is None:
        return found
    late = found.measure is None or found.measure.unit in LATENCIES
    busier = during - before > MOST_SHIFT or during > CROWDED
    blamed = found.outcome is Outcome.FAILED and busier and late
    hidden = found.outcome is Outcome.PASSED and before - during > MOST_SHIFT and item.response_time is None
    if not blamed and not hidden:
        return found
    measured = f"measured as {found.outcome.word}: {found.why or found.seen}"
    why = f"other programs used {words.share(during)} of the machine in the {phase}, {words.share(before)} in the baseline"
    return replace(
        found,
        outcome=Outcome.INCONCLUSIVE,
        why=f"{why}: {'too much to be quick' if blamed and during > CROWDED else 'too different to compare'}",
        advice="run it again when nothing else is going on",
        details=(measured, *found.details),
    )


def _share_in(case: Case, phase: str) -> float | None:
    window = case.judged(phase)
    return foreign_share(case, window) if window is not None else None


def _phase_of(item: ExpectationItem) -> str | None:
    """The phase whose latencies an expectation judges; None where it judges none."""
    expected = item.expectation
    match expected:
        case BlastRadius():
            return "fault"
        case Recovery():
            return "recovery"
        case ResponseTime():
            return expected.during if expected.during in PHASES else "fault"
        case ErrorRate() | Fallback() | Invariant():
            return None
        case _:
            assert_never(expected)
