"""What must hold in every round: each is judged by itself, and the worst of them counts, by its number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.judge import words
from harness.judge.case import Case
from harness.judge.rows import strain
from harness.judge.verdict import Finding, Outcome


def in_every_round(case: Case, gather: Callable[[Case], tuple[Finding, ...]]) -> tuple[Finding, ...]:
    """Evidence of each kind over all rounds; where a planned round was not recorded, none of it is there."""
    if case.experiment.rounds == 1:
        return gather(case)
    kinds: dict[str, list[Finding]] = {}
    for turn in case.rounds:
        for finding in gather(turn):
            kinds.setdefault(finding.kind, []).append(finding)
    return tuple(_all_there(case, of_rounds(found)) for found in kinds.values())


def _all_there(case: Case, found: Finding) -> Finding:
    """Fewer rounds than were planned show less than was asked for."""
    recorded, planned = len(case.history.rounds), case.experiment.rounds
    if found.outcome is not Outcome.PASSED or recorded >= planned:
        return found
    told = f"only {recorded} of {words.count(planned, 'round')} {'was' if recorded == 1 else 'were'} recorded"
    return replace(found, outcome=Outcome.INCONCLUSIVE, seen=told, why=told, advice="see why the run ended before its end")


def of_rounds(found: Sequence[Finding]) -> Finding:
    """One finding for each round, as one: the worst decides, and says its round; each is told."""
    if len(found) == 1:
        return found[0]
    number, worst = max(enumerate(found, 1), key=lambda one: (one[1].outcome, strain(one[1].measure), -one[0]))
    told = tuple(line for turn, one in enumerate(found, 1) for line in _lines(turn, one))
    if worst.outcome is Outcome.PASSED:
        which = "worst of" if worst.measure is not None else "first of"
        return replace(worst, seen=f"{worst.seen} ({which} {len(found)} rounds)", details=told)
    why = f"round {number}: {worst.why}" if worst.why else ""
    return replace(worst, seen=f"round {number}: {worst.seen}", why=why, details=told)


def _lines(number: int, found: Finding) -> list[str]:
    return [f"round {number}: {line}" for line in (found.seen, *found.details)]
