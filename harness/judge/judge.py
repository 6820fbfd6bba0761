"""From a history to its verdict: evidence first, then every expectation, then the word they add up to.

A pure function: the same history gives the same verdict, byte for byte, on any machine, in any year.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from typing import assert_never

from harness.history.events import (
    FaultBegan,
    FaultEnded,
    GuardianActed,
    RunBegan,
    RunEnded,
    RunFailed,
    RunHalted,
    RunInterrupted,
)
from harness.history.history import History
from harness.judge.case import Case
from harness.judge.conditions import halt_by_condition, how_near
from harness.judge.evidence import gather, load_came_whole, of_a_round
from harness.judge.expectations.blast_radius import judge_blast_radius
from harness.judge.expectations.error_rate import judge_error_rate
from harness.judge.expectations.fallback import judge_fallback
from harness.judge.expectations.invariant import held_from, judge_invariant
from harness.judge.expectations.recovery import judge_recovery
from harness.judge.expectations.response_time import judge_response_time
from harness.judge.journeys import journeys_of
from harness.judge.known import day_of, laid_over
from harness.judge.noise import doubted
from harness.judge.proofs import left_behind
from harness.judge.rounds import of_rounds
from harness.judge.sentence import sentence_of
from harness.judge.verdict import EXIT_CODES, LEFT_BEHIND, TERMINATED, Finding, Outcome, Verdict, Word, overall
from harness.judge.warnings import warnings_of
from harness.model.expectations import (
    BlastRadius,
    ErrorRate,
    ExpectationItem,
    Fallback,
    Invariant,
    Recovery,
    ResponseTime,
)

OF_THE_RUN = frozenset({"engine", "wedge", "load"})
ALWAYS = OF_THE_RUN | {"baseline"}
OF_THE_FAULT = ALWAYS | {"set", "bit", "met"}
OF_THE_HEALING = OF_THE_FAULT | {"healed"}
"""Where there are several rounds, everything rests on these: one begins with what the one before has left."""


def judge(history: History) -> Verdict:
    """Judge what was recorded of a run, whole or cut off."""
    case = Case(history)
    evidence = gather(case)
    bearing = _bearing(case, evidence)
    expectations = tuple(_expectation(case, item, bearing) for item in case.experiment.expect)
    word = word_of(history, evidence, expectations)
    left = left_behind(history)
    began = history.of(RunBegan)
    return Verdict(
        run=began[0].run if began else "",
        scenario=case.experiment.name,
        question=case.experiment.question,
        word=word,
        sentence=sentence_of(case, word, missing_of(case, evidence), expectations),
        exit_code=LEFT_BEHIND if left else exit_code_of(word, history),
        evidence=evidence,
        expectations=expectations,
        journeys=journeys_of(case),
        marks=tuple(sorted(_marks(case, expectations), key=lambda mark: mark[1])),
        left_behind=left,
        warnings=warnings_of(case),
        halted_by=halt.condition if (halt := halt_by_condition(history)) is not None else "",
        stop_conditions=tuple(how_near(case)),
    )


def word_of(history: History, evidence: Sequence[Finding], expectations: Sequence[Finding]) -> Word:
    """The one word. What ended the run comes first; a run that just stops is inconclusive for lack of evidence.

    A halt before any fault that no stop condition asked for means that the baseline was not healthy: evidence is missing.
    """
    if history.of(RunInterrupted):
        return "interrupted"
    if any(isinstance(event, RunFailed | GuardianActed) for event in history.events):
        return "error"
    if halt_by_condition(history) or (history.of(RunHalted) and not halted_before_any_fault(history)):
        return "halted"
    if not expectations:
        return "inconclusive"
    match overall(finding.counts_as for finding in (*evidence, *expectations)):
        case Outcome.PASSED:
            return "passed" if history.of(RunEnded) else "inconclusive"
        case Outcome.INCONCLUSIVE:
            return "inconclusive"
        case Outcome.FAILED:
            return "failed"


def halted_before_any_fault(history: History) -> bool:
    """Whether a baseline was found unhealthy while the run went on: before any fault of the round that it ended in."""
    last = history.rounds[-1].begin
    halted = bool(history.of(RunHalted)) and halt_by_condition(history) is None
    return halted and not any(event.at >= last for event in history.of(FaultBegan))


def exit_code_of(word: Word, history: History) -> int:
    """The exit code of a word; a run that was asked to end by another signal than Ctrl-C has its own."""
    if word == "interrupted" and history.of(RunInterrupted)[0].signal != "SIGINT":
        return TERMINATED
    return EXIT_CODES[word]


def _bearing(case: Case, evidence: Sequence[Finding]) -> Sequence[Finding]:
    """The evidence that expectations rest on: what was not as planned of the load in one window is weighed there, as noise."""
    return [proof for proof in evidence if proof.kind != "load"] if load_came_whole(case) else evidence


def _expectation(case: Case, item: ExpectationItem, evidence: Sequence[Finding]) -> Finding:
    if item.recovery is not None and case.experiment.rounds > 1:
        found = _worst_recovery(case, item, evidence)
    else:
        found = _resting(case, item, evidence)
    known = next((entry for entry in case.experiment.known if entry.expect == item.id), None)
    return laid_over(found, known, day_of(case.history))


def _resting(case: Case, item: ExpectationItem, evidence: Sequence[Finding]) -> Finding:
    """An expectation, undecided where the evidence is missing that it rests on."""
    return _on(doubted(judge_expectation(case, item), item, case), item, case, evidence)


def _on(found: Finding, item: ExpectationItem, case: Case, evidence: Sequence[Finding]) -> Finding:
    rests = rests_on(item) if case.experiment.rounds == 1 else OF_THE_HEALING
    missing = next((proof for proof in missing_of(case, evidence) if proof.kind in rests), None)
    return weakened(found, missing) if missing is not None else found


def _worst_recovery(case: Case, item: ExpectationItem, evidence: Sequence[Finding]) -> Finding:
    """The recovery of each round from its own faults, against its own baseline; the worst counts.

    A system that did not come back in one round has failed, whatever became of the rounds after it.
    """
    of_the_run = [proof for proof in evidence if proof.kind in OF_THE_RUN]
    own = [_resting(turn, item, (*of_the_run, *of_a_round(turn))) for turn in case.rounds]
    found = of_rounds(own)
    return _on(found, item, case, evidence) if found.outcome is Outcome.PASSED else found


def missing_of(case: Case, evidence: Sequence[Finding]) -> list[Finding]:
    """The evidence that is not there; first what may have caused the rest."""
    missing = [proof for proof in evidence if proof.outcome is not Outcome.PASSED]
    if halted_before_any_fault(case.history):
        missing.sort(key=lambda proof: proof.kind != "baseline")
    return missing


def judge_expectation(case: Case, item: ExpectationItem) -> Finding:
    """One expectation by itself, whatever the evidence."""
    name, expected = str(item.id or item.kind), item.expectation
    match expected:
        case ErrorRate():
            return judge_error_rate(name, expected, case)
        case ResponseTime():
            return judge_response_time(name, expected, case)
        case BlastRadius():
            return judge_blast_radius(name, expected, case)
        case Fallback():
            return judge_fallback(name, expected, case)
        case Recovery():
            return judge_recovery(name, expected, case)
        case Invariant():
            return judge_invariant(name, expected, case)
        case _:
            assert_never(expected)


def rests_on(item: ExpectationItem) -> frozenset[str]:
    """The evidence without which an expectation says nothing, whatever was measured."""
    expected = item.expectation
    match expected:
        case ErrorRate() | ResponseTime():
            if expected.during in ("warmup", "baseline"):
                return ALWAYS
            return OF_THE_HEALING if expected.during in ("recovery", "drain") else OF_THE_FAULT
        case BlastRadius():
            return OF_THE_FAULT
        case Fallback() | Recovery() | Invariant():
            return OF_THE_HEALING
        case _:
            assert_never(expected)


def weakened(found: Finding, missing: Finding) -> Finding:
    """A finding that rests on evidence that is not there: what was measured stays, and decides nothing."""
    measured = f"measured as {found.outcome.word}: {found.why or found.seen}"
    why = f"evidence is missing ({missing.kind}): {missing.why}"
    return replace(found, outcome=Outcome.INCONCLUSIVE, why=why, advice=missing.advice, details=(measured, *found.details))


def _marks(case: Case, expectations: Sequence[Finding]) -> Iterator[tuple[str, float]]:
    """Moments worth a dot on the time axis, in seconds since the load began."""
    began = min((event.at for event in case.history.of(FaultBegan)), default=None)
    healed = max((event.at for event in case.history.of(FaultEnded)), default=None) if case.experiment.rounds == 1 else None
    under_fault = case.history.requests.between([(began if began is not None else inf, inf)])
    for label, shown in (("first fallback", under_fault.marked), ("first failing request", ~under_fault.ok)):
        if shown.any():
            yield label, round(case.since_load(float(under_fault.end[shown].min())), 3)
    for finding in expectations:
        if finding.kind == "recovery" and healed is not None and finding.measure and finding.measure.observed is not None:
            yield "good again", round(case.since_load(healed) + finding.measure.observed, 3)
            break
    for item in case.experiment.expect:
        held = held_from(item.invariant.name, case) if item.invariant is not None else None
        if held is not None:
            yield "invariant held", round(case.since_load(held), 3)
