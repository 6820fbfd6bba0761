"""A statement about the data holds once the load is off, and goes on holding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.history.events import InvariantAsked
from harness.judge import words
from harness.judge.case import Case
from harness.judge.rows import Heading, Row, finding, nothing
from harness.judge.verdict import Finding, Measure, Outcome
from harness.model.expectations import Invariant

LONGEST_PAUSE = 6.0
"""A longer time without an answer breaks a stretch in which it held: nobody looked."""

NEARLY = 0.9
"""A stretch of this much of `hold` counts: asking takes time, and nobody asks again once it is over."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch in which it held, in seconds since the drain began."""

    begin: float
    end: float


def judge_invariant(name: str, expected: Invariant, case: Case) -> Finding:
    """First the rows looked at, then from when on it held, and for how long."""
    declared = case.experiment.system.invariants.get(expected.name)
    drain = case.history.phases.get("drain")
    heading = Heading(name, "invariant", expected.name)
    if declared is None:
        return nothing(heading, f"the system declares no invariant {expected.name}")
    if drain is None:
        return nothing(heading, "no drain was recorded, so it was never asked", "give the scenario a drain: phases.drain")
    within = expected.within if expected.within is not None else case.experiment.phases.drain
    heading = Heading(name, "invariant", expected.name, f"within {words.seconds(within)}, for {words.seconds(expected.hold)}")
    answers = [asked for asked in case.history.of(InvariantAsked) if asked.invariant == expected.name]
    answered = [asked for asked in answers if asked.value is not None]
    if not answered:
        reason = next((asked.detail for asked in answers if asked.detail), "it was never asked")
        return nothing(heading, f"could not be asked: {reason}", "see the log of the database")
    last = answered[-1]
    shown = Measure("rows", last.value, last.value, last.value, float(declared.equals), "max")
    stretch = _held(answers, declared.equals, drain.begin)
    if stretch is None and last.value == declared.equals:
        return nothing(
            heading, f"held, and then could not be asked any more: {answers[-1].detail}", "see the log of the database"
        )
    if stretch is None:
        return finding(case, heading, [_violated(last, declared.equals, drain.begin, shown)])
    row = _long_enough(stretch, within, expected.hold, shown) or _enough_rows(last, declared.over.min, (case, stretch, shown))
    return finding(case, heading, [row])


def held_from(name: str, case: Case) -> float | None:
    """When it began to hold for good; None where it did not."""
    declared = case.experiment.system.invariants.get(name)
    answers = [asked for asked in case.history.of(InvariantAsked) if asked.invariant == name]
    stretch = _held(answers, declared.equals, 0.0) if declared is not None else None
    return stretch.begin if stretch is not None else None


def _held(answers: Sequence[InvariantAsked], equals: float, drain: float) -> Stretch | None:
    """The last stretch in which every answer was the right one; none where the last answer was not."""
    begin: float | None = None
    end = 0.0
    for asked in answers:
        if asked.value != equals or (begin is not None and asked.at - end > LONGEST_PAUSE):
            begin = None
        if asked.value == equals:
            begin, end = begin if begin is not None else asked.at, asked.at
    return Stretch(begin - drain, end - drain) if begin is not None else None


def _violated(last: InvariantAsked, equals: float, drain: float, shown: Measure) -> Row:
    seen = f"{last.value:g} instead of {equals:g}, {words.moment(last.at - drain)} after the load"
    over = f" among {words.count(last.over, 'row')}" if last.over is not None else ""
    why = f"{last.value:g}{over}, still {words.moment(last.at - drain)} after the load was off"
    return Row("value", Outcome.FAILED, seen, why, "ask the database for the rows that violate it", shown)


def _long_enough(stretch: Stretch, within: float, hold: float, shown: Measure) -> Row | None:
    """What is wrong with when it held, or None."""
    since = f"held from {words.moment(stretch.begin)} after the load on"
    if stretch.begin > within:
        return Row(
            "time", Outcome.FAILED, since, f"it {since}, not within {words.seconds(within)}", "see what took so long", shown
        )
    if stretch.end - stretch.begin < NEARLY * hold:
        held = f"{since}, seen for {words.moment(stretch.end - stretch.begin)}"
        advice = f"raise phases.drain, so that it can be seen to hold for {words.seconds(hold)}"
        return Row("time", Outcome.INCONCLUSIVE, held, f"it {held}; {words.seconds(hold)} are needed", advice, shown)
    return None


def _enough_rows(last: InvariantAsked, least: int, seen: tuple[Case, Stretch, Measure]) -> Row:
    case, stretch, shown = seen
    if last.over is None:
        told = "the query does not say how many rows it looked at"
        return Row("rows", Outcome.INCONCLUSIVE, told, told, "let it give a second column: the number of rows looked at")
    if last.over < least:
        told = f"{words.count(last.over, 'row')} looked at, at least {least} are needed"
        return Row("rows", Outcome.INCONCLUSIVE, told, told, case.more("fault", last.over, least))
    held = f"held {words.moment(stretch.begin)} after the load, over {words.count(last.over, 'row')}"
    return Row("value", Outcome.PASSED, held, measure=shown)
