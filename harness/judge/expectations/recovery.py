"""After healing every journey is as it was in the baseline, soon enough, and stays so.

Recovery is a time, not a comparison: the first moment from which, for `hold`, no stretch of two seconds of any
journey is surely worse than the baseline by more than the margins. What follows must then bear that out.
A system recovered, or it did so late, or never: the load goes on, the fault is gone, and it does not come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Literal

import numpy as np

from harness.history.events import FaultBegan, FaultEnded
from harness.history.history import Window
from harness.history.requests import Request
from harness.history.table import NONE, Mask, Requests, Times
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS, MOST_EXAMPLES, Case
from harness.judge.rows import Heading, Row, finding, nothing, told
from harness.judge.statistics import BLOCK_SECONDS
from harness.judge.usual import Usual, together
from harness.judge.verdict import Comeback, Finding, Measure, Outcome
from harness.model.expectations import Recovery
from harness.model.load import GUARD_SECONDS

STEP_SECONDS = 0.5
"""Stretches overlap: one begins this long after the other."""

PAUSE_SECONDS = 0.5
"""Single bad requests right after healing belong to it as long as no longer pause parts them."""

A_MOMENT = 0.001
"""The last bad request itself was still spent."""

FEWEST_AFTERWARDS = 20
"""With fewer requests of a journey nothing bears out that it is well again."""

METASTABLE = "the load went on, the fault was gone, and the system did not come back"


def stretches_in(seconds: float) -> int:
    """How many stretches there are in so many seconds."""
    return max(0, int((seconds - BLOCK_SECONDS + 1e-6) / STEP_SECONDS) + 1)


@dataclass(frozen=True)
class Stretches:
    """A window in stretches of two seconds, and in which of them any journey was worse than it usually is."""

    case: Case
    usual: dict[str, Usual]
    window: Window

    @cached_property
    def begins(self) -> Times:
        """When each begins."""
        return np.arange(stretches_in(self.window.seconds), dtype=np.float64) * STEP_SECONDS + self.window.begin

    @cached_property
    def bad(self) -> Mask:
        """Which were worse."""
        groups = self.case.groups(self.window)
        found = [was.troubled(groups.get(journey, NONE), self.begins, BLOCK_SECONDS) for journey, was in self.usual.items()]
        return together(found, len(self.begins))

    def trouble(self, window: Window) -> tuple[str, tuple[Request, ...]]:
        """What was worse in one of them, and the requests that show it."""
        groups = self.case.groups(window)
        found = [(journey, *was.trouble(groups.get(journey, NONE))) for journey, was in self.usual.items()]
        troubles = words.several([f"{journey}: {trouble}" for journey, trouble, _ in found if trouble])
        return troubles, tuple(sorted((request for _, _, bad in found for request in bad), key=lambda request: request.due))

    def by(self, window: Window) -> Literal["errors", "latency"]:
        """What was worse in a window in which something was."""
        groups = self.case.groups(window)
        return "errors" if any(was.fails(groups.get(journey, NONE)) for journey, was in self.usual.items()) else "latency"

    def stretch(self, place: int) -> Window:
        """One of them."""
        begin = float(self.begins[place])
        return Window(begin, begin + BLOCK_SECONDS)

    def first_good(self, needed: int) -> int | None:
        """The first from which so many in a row are good."""
        passed = np.concatenate([[0], np.cumsum(self.bad)])
        runs = np.flatnonzero(passed[needed:] == passed[: max(0, len(passed) - needed)])
        return int(runs[0]) if len(runs) else None

    @property
    def last_bad(self) -> int | None:
        """The last that was worse."""
        places = np.flatnonzero(self.bad)
        return int(places[-1]) if len(places) else None


@dataclass(frozen=True)
class After:
    """All that is asked about one healing."""

    expected: Recovery
    began: float
    healed: float
    until: float
    stretches: Stretches

    @property
    def case(self) -> Case:
        """The run."""
        return self.stretches.case

    @property
    def usual(self) -> dict[str, Usual]:
        """Every journey as it was."""
        return self.stretches.usual

    @cached_property
    def first(self) -> int | None:
        """The first stretch from which it held."""
        return self.stretches.first_good(_needed(self.expected.hold))

    @property
    def detected(self) -> float | None:
        """How long after the fault began the first two seconds ended in which a journey was surely worse."""
        since = Stretches(self.case, self.usual, Window(self.began, self.until))
        places = np.flatnonzero(since.bad)
        return float(since.begins[places[0]]) + BLOCK_SECONDS - self.began if len(places) else None

    def comeback(self, word: Literal["recovered", "late", "never"], seconds: float | None, last: Window | None) -> Comeback:
        """What the recovery was like, if it took so long; `last` is the last window in which anything was worse."""
        until = self.healed + seconds + A_MOMENT if seconds is not None else self.until
        spent = self.case.history.due_in(Window(self.began, until))
        took = round(seconds, 3) if seconds is not None else None
        detected = self.detected
        seen = round(detected, 3) if detected is not None else None
        by = self.stretches.by(last) if last is not None else "nothing"
        return Comeback(word, seen, took, int((~spent.ok).sum()), len(spent), by)


def judge_recovery(name: str, expected: Recovery, case: Case) -> Finding:
    """The time from healing to the begin of the first stretch that is, and stays, as the baseline was."""
    limit = told(f"within {words.seconds(expected.within)}", expected.method)
    heading = Heading(name, "recovery", "recovery", limit)
    after = _after(heading, expected, case)
    if isinstance(after, Finding):
        return after
    rows, comeback = _judged(after)
    found = finding(case, heading, rows, aside=_told(comeback) if comeback is not None else ())
    return replace(found, comeback=comeback)


def _after(heading: Heading, expected: Recovery, case: Case) -> After | Finding:
    """What there is to judge; a finding of nothing where something is missing."""
    began = min((began.at for began in case.history.of(FaultBegan)), default=None)
    healed = max((ended.at for ended in case.history.of(FaultEnded)), default=None)
    baseline, recovery = case.judged("baseline"), case.judged("recovery")
    if healed is None and not case.experiment.faults:
        return nothing(heading, "nothing was injected, so there was nothing to recover from", "take it out, or add a fault")
    if healed is None:
        return nothing(heading, "no healing was recorded")
    if baseline is None or recovery is None:
        missing = "baseline" if baseline is None else "recovery"
        return nothing(heading, f"no {missing} phase longer than its guards was recorded")
    margins, method = case.experiment.margins, expected.method
    window, groups = Window(healed, recovery.end), case.groups(baseline)
    among = max(1, stretches_in(window.seconds) * len(groups))
    usual = {journey: Usual(case, group, margins, method, among) for journey, group in groups.items()}
    if sum(len(journey.group) for journey in usual.values()) < FEWEST_REQUESTS:
        return nothing(
            heading, "the baseline holds too few requests to compare with", case.more("baseline", 1, FEWEST_REQUESTS)
        )
    stretches = Stretches(case, usual, window)
    return After(expected, began if began is not None else healed, healed, recovery.end, stretches)


def _judged(after: After) -> tuple[list[Row], Comeback | None]:
    if after.first is None:
        return _not_seen(after)
    stretches, expected = after.stretches, after.expected
    seconds = _moment(after, after.first) - after.healed
    before = stretches.stretch(after.first - 1) if after.first > 0 else None
    if seconds > expected.within:
        return [_late(after, seconds, before)], after.comeback("late", seconds, before)
    shown = Measure("seconds", seconds, seconds, seconds, expected.within, "max")
    row = Row("time", Outcome.PASSED, f"recovered {words.moment(seconds)} after healing", measure=shown)
    window = Window(float(stretches.begins[after.first]), after.until)
    rows = [row, *(row for journey, was in after.usual.items() for row in _borne_out(journey, was, after.case, window))]
    if all(row.outcome is not Outcome.FAILED for row in rows):
        return rows, after.comeback("recovered", seconds, before)
    return rows, _relapsed(after, window)


def _late(after: After, seconds: float, before: Window | None) -> Row:
    """All was well, and stayed so, later than it was to be; `before` is the last stretch that was worse, if one was."""
    shown = Measure("seconds", seconds, seconds, seconds, after.expected.within, "max")
    trouble = after.stretches.trouble(before)[0] if before is not None else "single requests that failed"
    why = f"it took {words.moment(seconds)}; last was {trouble}"
    return _failed(after, f"late: {words.moment(seconds)} after healing", why, (shown, before))


def _needed(hold: float) -> int:
    """How many stretches, each half a second after the other, fill the time to hold."""
    return max(1, ceil((hold - BLOCK_SECONDS) / STEP_SECONDS) + 1)


def _moment(after: After, first: int) -> float:
    """When the last bad request was due: stretches are two seconds long, requests come more often."""
    if first > 0:
        _, bad = after.stretches.trouble(after.stretches.stretch(first - 1))
        return bad[-1].due if bad else float(after.stretches.begins[first])
    moment = after.healed
    due = after.case.history.due_in(Window(after.healed, after.healed + BLOCK_SECONDS))
    for at in map(float, due.due[_are_bad(due)]):
        if at - moment > PAUSE_SECONDS:
            break
        moment = at
    return moment


def _are_bad(group: Requests) -> Mask:
    """Which failed, or were still answered by a fallback."""
    return ~group.ok | group.marked


def _not_seen(after: After) -> tuple[list[Row], Comeback | None]:
    """No stretch was seen to be good for long enough: was that the system, or did the phase end too early?"""
    stretches, expected = after.stretches, after.expected
    last = stretches.last_bad
    in_time = int(expected.within / STEP_SECONDS) + 1
    if last is None or last < in_time - 1 or len(stretches.begins) < in_time:
        total = expected.within + expected.hold + BLOCK_SECONDS
        advice = f"raise phases.recovery to {ceil(total + GUARD_SECONDS)}s"
        why = f"the recovery ended before anything could be seen to hold for {words.seconds(expected.hold)}"
        return [Row("time", Outcome.INCONCLUSIVE, why, why, advice)], None
    before = stretches.stretch(last)
    trouble, _ = stretches.trouble(before)
    lasted = words.moment(before.begin - after.healed)
    if last == len(stretches.begins) - 1:
        shown = Measure("seconds", None, None, None, expected.within, "max")
        why = f"{lasted} after healing still {trouble}: {METASTABLE} (metastable)"
        return [_failed(after, f"never: {METASTABLE}", why, (shown, before))], after.comeback("never", None, before)
    seconds = _moment(after, last + 1) - after.healed
    why = f"{lasted} after healing still {trouble}; that it was well after that was watched for too short a time"
    shown = Measure("seconds", seconds, seconds, None, expected.within, "max")
    row = _failed(after, f"late: {words.moment(seconds)} after healing", why, (shown, before))
    return [row], after.comeback("late", seconds, before)


def _failed(after: After, seen: str, why: str, shown: tuple[Measure, Window | None]) -> Row:
    """Not in time; the requests that show it are those of the last stretch that was worse."""
    measured, last = shown
    bad = after.stretches.trouble(last)[1] if last is not None else ()
    advice = "see what was still in the way after healing"
    return Row("time", Outcome.FAILED, seen, why, advice, measured, tuple(bad[-MOST_EXAMPLES:]))


def _relapsed(after: After, since: Window) -> Comeback:
    """It had recovered, and did not stay so: late where its last stretches were good, never where they were not."""
    stretches = after.stretches
    last = stretches.last_bad
    if last is None or after.first is None or last < after.first:
        return after.comeback("never", None, since)
    if last == len(stretches.begins) - 1:
        return after.comeback("never", None, stretches.stretch(last))
    return after.comeback("late", _moment(after, last + 1) - after.healed, stretches.stretch(last))


def _told(comeback: Comeback) -> Iterator[str]:
    """What else a reader asks of a recovery."""
    if comeback.detected is None:
        yield "detected: no two seconds were surely worse than the baseline"
    else:
        yield f"detected: {words.moment(comeback.detected)} after the fault began, the first two seconds had been surely worse"
    until = "all was well again" if comeback.recovered is not None else "the recovery ended"
    yield f"errors spent: {comeback.errors} of {words.count(comeback.requests, 'request')}, from the fault on until {until}"


def _borne_out(journey: str, was: Usual, case: Case, after: Window) -> Sequence[Row]:
    """What of a journey followed the moment of recovery; a row only where it does not bear the recovery out."""
    group = case.groups(after).get(journey, NONE)
    trouble, bad = was.trouble(group)
    if trouble:
        why = f"{journey} did not stay as it was: {trouble}"
        return [
            Row(journey, Outcome.FAILED, trouble, why, "see what came back after healing", examples=tuple(bad[:MOST_EXAMPLES]))
        ]
    if len(was.group) < FEWEST_AFTERWARDS:
        why = f"{words.count(len(was.group), 'request')} of {journey} in the baseline, at least {FEWEST_AFTERWARDS} are needed"
        return [Row(journey, Outcome.INCONCLUSIVE, why, why, case.more("baseline", len(was.group), FEWEST_AFTERWARDS, journey))]
    if len(group) < FEWEST_AFTERWARDS:
        why = f"{words.count(len(group), 'request')} of {journey} afterwards, at least {FEWEST_AFTERWARDS} are needed"
        return [Row(journey, Outcome.INCONCLUSIVE, why, why, case.more("recovery", len(group), FEWEST_AFTERWARDS, journey))]
    share = float((~group.ok).mean())
    if share > was.errors:
        why = f"{words.share(share)} of {journey} failed afterwards, too few to say whether that is usual"
        return [Row(journey, Outcome.INCONCLUSIVE, why, why, case.more("recovery", len(group), 2 * len(group), journey))]
    return []
