"""What noise leaves of a finding: an expectation that rests on a window in doubt is inconclusive, with reason and seconds.

The load was not sent as planned: nothing in that window is judged. The baseline was not itself from one half to the
other: nothing is compared with it.

Other programs are weighed, for they only ever make requests late: where they were busier in the window judged than in
the baseline, what was slower proves nothing, while what held all the same holds. Where they were busier in the baseline,
it is the other way round: the damage may hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from harness.history.history import Window
from harness.judge.case import Case
from harness.judge.comparison import margins_of
from harness.judge.doubts import Doubt, busier, drift, load_doubts, quieter
from harness.judge.verdict import Finding, Outcome
from harness.model.expectations import BlastRadius, ErrorRate, ExpectationItem, Fallback, Invariant, Recovery, ResponseTime
from harness.model.load import PHASES

LATENCIES = ("ratio", "seconds")
"""The units of what a busy machine changes; it makes requests late, and seldom makes them fail."""


def windows_of(item: ExpectationItem, case: Case) -> dict[str, Window]:
    """The recorded windows that an expectation rests on, by the phase they belong to."""
    expected = item.expectation
    match expected:
        case BlastRadius():
            phases = ["baseline", "fault"]
        case Recovery():
            phases = ["baseline", "recovery"]
        case Fallback():
            phases = ["baseline", "fault", "recovery"]
        case Invariant():
            phases = ["fault"]
        case ErrorRate() | ResponseTime():
            during = expected.during or "fault"
            window = case.window(during)
            return {during if during in PHASES else "fault": window} if window is not None else {}
        case _:
            assert_never(expected)
    return {phase: window for phase in phases if (window := case.judged(phase)) is not None}


def doubted(found: Finding, item: ExpectationItem, case: Case) -> Finding:
    """The finding, undecided where something other than the system may have decided it."""
    if _broke_data(found):
        return found
    windows = windows_of(item, case)
    doubts = [doubt for phase, window in windows.items() for doubt in load_doubts(case, phase, window)]
    doubts += [*_drift_under(item, case), *_foreign_under(found, item, case, windows)]
    if not doubts:
        return found
    measured = f"measured as {found.outcome.word}: {found.why or found.seen}"
    further = [doubt.told for doubt in doubts[1:]]
    return replace(
        found,
        outcome=Outcome.INCONCLUSIVE,
        why=doubts[0].told,
        advice=doubts[0].advice,
        details=(measured, *further, *found.details),
    )


def _broke_data(found: Finding) -> bool:
    """Whether data were wrong to the end: no load makes them so, whenever it was sent, and however much of it."""
    shown = found.measure if found.kind == "invariant" and found.outcome is Outcome.FAILED else None
    return shown is not None and shown.observed != shown.limit


def _drift_under(item: ExpectationItem, case: Case) -> tuple[Doubt, ...]:
    """A drift of the baseline, where an expectation compares with it."""
    expected = item.expectation
    margins = case.experiment.margins
    if isinstance(expected, BlastRadius):
        return drift(case, margins_of(expected.worse_by, margins), [case.plain(name) for name in expected.may_fail])
    return drift(case, margins) if isinstance(expected, Recovery) else ()


def _foreign_under(found: Finding, item: ExpectationItem, case: Case, windows: Mapping[str, Window]) -> tuple[Doubt, ...]:
    """Other programs, where they may have made what was found: late where it failed, hidden where it passed."""
    if not isinstance(item.expectation, BlastRadius | Recovery | ResponseTime):
        return ()
    phase = next((name for name in windows if name != "baseline"), "baseline")
    if phase not in windows:
        return ()
    late = found.measure is None or found.measure.unit in LATENCIES
    late = late and (found.comeback is None or found.comeback.by == "latency")
    if found.outcome is Outcome.FAILED and late:
        return tuple(busier(case, phase, windows[phase]))
    if found.outcome is Outcome.PASSED and not isinstance(item.expectation, ResponseTime):
        return tuple(quieter(case, phase, windows[phase]))
    return ()
