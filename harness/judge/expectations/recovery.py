"""After healing every journey is as it was in the baseline, soon enough, and stays so.

Recovery is a time, not a comparison: the first moment from which, for `hold`, no stretch of two seconds of any
journey is surely worse than the baseline by more than the margins. What follows must then bear that out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from harness.history.events import FaultEnded
from harness.history.history import Window
from harness.history.requests import Request
from harness.history.table import NONE, Mask, Requests
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS, MOST_EXAMPLES, Case
from harness.judge.rows import Heading, Row, finding, nothing
from harness.judge.statistics import BLOCK_SECONDS
from harness.judge.usual import Usual
from harness.judge.verdict import Finding, Measure, Outcome
from harness.model.expectations import Recovery
from harness.model.load import GUARD_SECONDS

STEP_SECONDS = 0.5
"""Stretches overlap: one begins this long after the other."""

PAUSE_SECONDS = 0.5
"""Single bad requests right after healing belong to it as long as no longer pause parts them."""

FEWEST_AFTERWARDS = 20
"""With fewer requests of a journey nothing bears out that it is well again."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Two seconds after healing; `trouble` says who was surely worse and how, `bad` are the requests that show it."""

    begin: float
    trouble: str
    bad: tuple[Request, ...]


def judge_recovery(name: str, expected: Recovery, case: Case) -> Finding:
    """The time from healing to the begin of the first stretch that is, and stays, as the baseline was."""
    heading = Heading(name, "recovery", "recovery", f"within {words.seconds(expected.within)}")
    healed = max((ended.at for ended in case.history.of(FaultEnded)), default=None)
    baseline, recovery = case.judged("baseline"), case.judged("recovery")
    if healed is None and not case.experiment.faults:
        return nothing(heading, "nothing was injected, so there was nothing to recover from", "take it out, or add a fault")
    if healed is None:
        return nothing(heading, "no healing was recorded")
    if baseline is None or recovery is None:
        missing = "baseline" if baseline is None else "recovery"
        return nothing(heading, f"no {missing} phase longer than its guards was recorded")
    usual = {journey: Usual(case, group, case.experiment.margins) for journey, group in case.groups(baseline).items()}
    if sum(len(journey.group) for journey in usual.values()) < FEWEST_REQUESTS:
        return nothing(
            heading, "the baseline holds too few requests to compare with", case.more("baseline", 1, FEWEST_REQUESTS)
        )
    stretches = _stretches(case, usual, Window(healed, recovery.end))
    first = _first_good(stretches, _needed(expected.hold))
    if first is None:
        return finding(case, heading, [_never(stretches, expected)])
    seconds = _moment(case, stretches, first, healed) - healed
    rows = [_in_time(seconds, expected, stretches[:first])]
    if rows[0].outcome is Outcome.PASSED:
        after = Window(stretches[first].begin, recovery.end)
        rows += [row for journey, was in usual.items() for row in _borne_out(journey, was, case, after)]
    return finding(case, heading, rows)


def _stretches(case: Case, usual: dict[str, Usual], window: Window) -> list[Stretch]:
    found: list[Stretch] = []
    while (begin := window.begin + STEP_SECONDS * len(found)) + BLOCK_SECONDS <= window.end + 1e-6:
        groups = case.groups(Window(begin, begin + BLOCK_SECONDS))
        troubles = [(journey, *was.trouble(groups.get(journey, NONE))) for journey, was in usual.items()]
        told = words.several([f"{journey}: {trouble}" for journey, trouble, _ in troubles if trouble])
        bad = sorted((request for _, _, bad in troubles for request in bad), key=lambda request: request.due)
        found.append(Stretch(begin, told, tuple(bad)))
    return found


def _needed(hold: float) -> int:
    """How many stretches, each half a second after the other, fill the time to hold."""
    return max(1, ceil((hold - BLOCK_SECONDS) / STEP_SECONDS) + 1)


def _first_good(stretches: Sequence[Stretch], needed: int) -> int | None:
    for first in range(len(stretches) - needed + 1):
        if not any(stretch.trouble for stretch in stretches[first : first + needed]):
            return first
    return None


def _moment(case: Case, stretches: Sequence[Stretch], first: int, healed: float) -> float:
    """When the last bad request was due: stretches are two seconds long, requests come more often."""
    if first > 0:
        bad = stretches[first - 1].bad
        return bad[-1].due if bad else stretches[first].begin
    moment = healed
    due = case.history.due_in(Window(healed, healed + BLOCK_SECONDS))
    for at in map(float, due.due[_are_bad(due)]):
        if at - moment > PAUSE_SECONDS:
            break
        moment = at
    return moment


def _are_bad(group: Requests) -> Mask:
    """Which failed, or were still answered by a fallback."""
    return ~group.ok | group.marked


def _in_time(seconds: float, expected: Recovery, before: Sequence[Stretch]) -> Row:
    seen = f"{words.moment(seconds)} after healing"
    shown = Measure("seconds", seconds, seconds, seconds, expected.within, "max")
    if seconds <= expected.within:
        return Row("time", Outcome.PASSED, seen, measure=shown)
    why = f"it took {words.moment(seconds)}; last was {before[-1].trouble}"
    return Row("time", Outcome.FAILED, seen, why, "see what was still in the way after healing", shown, _last(before))


def _last(stretches: Sequence[Stretch]) -> tuple[Request, ...]:
    return next((stretch.bad[-MOST_EXAMPLES:] for stretch in reversed(stretches) if stretch.bad), ())


def _never(stretches: Sequence[Stretch], expected: Recovery) -> Row:
    """No stretch was seen to be good for long enough: was that the system, or did the phase end too early?"""
    last_chance = int(expected.within / STEP_SECONDS) + 1
    needed = _needed(expected.hold)
    open_chances = [
        begin
        for begin in range(min(last_chance, len(stretches) + 1))
        if not any(stretch.trouble for stretch in stretches[begin : begin + needed])
    ]
    total = expected.within + expected.hold + BLOCK_SECONDS
    if open_chances or len(stretches) < last_chance:
        advice = f"raise phases.recovery to {ceil(total + GUARD_SECONDS)}s"
        told = f"the recovery ended before anything could be seen to hold for {words.seconds(expected.hold)}"
        return Row("time", Outcome.INCONCLUSIVE, told, told, advice)
    worst = next(stretch for stretch in reversed(stretches) if stretch.trouble)
    after = words.moment(worst.begin - stretches[0].begin)
    why = f"{after} after healing still {worst.trouble}"
    shown = Measure("seconds", None, None, None, expected.within, "max")
    return Row(
        "time",
        Outcome.FAILED,
        f"not within {words.seconds(expected.within)}",
        why,
        "see what was still in the way",
        shown,
        _last(stretches),
    )


def _borne_out(journey: str, was: Usual, case: Case, after: Window) -> list[Row]:
    """What of a journey followed the moment of recovery; a row only where it does not bear the recovery out."""
    group = case.groups(after).get(journey, NONE)
    trouble, bad = was.trouble(group)
    if trouble:
        why = f"{journey} did not stay as it was: {trouble}"
        return [
            Row(journey, Outcome.FAILED, trouble, why, "see what came back after healing", examples=tuple(bad[:MOST_EXAMPLES]))
        ]
    if len(was.group) < FEWEST_AFTERWARDS:
        told = f"{words.count(len(was.group), 'request')} of {journey} in the baseline, at least {FEWEST_AFTERWARDS} are needed"
        return [Row(journey, Outcome.INCONCLUSIVE, told, told, case.more("baseline", len(was.group), FEWEST_AFTERWARDS))]
    if len(group) < FEWEST_AFTERWARDS:
        told = f"{words.count(len(group), 'request')} of {journey} afterwards, at least {FEWEST_AFTERWARDS} are needed"
        return [Row(journey, Outcome.INCONCLUSIVE, told, told, case.more("recovery", len(group), FEWEST_AFTERWARDS))]
    share = float((~group.ok).mean())
    if share > was.errors:
        told = f"{words.share(share)} of {journey} failed afterwards, too few to say whether that is usual"
        return [Row(journey, Outcome.INCONCLUSIVE, told, told, case.more("recovery", len(group), 2 * len(group)))]
    return []
