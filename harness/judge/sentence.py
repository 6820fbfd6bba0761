"""The answer in one sentence with figures, made of the findings."""

from __future__ import annotations

from collections.abc import Sequence

from harness.history.events import GuardianActed, LoadBegan, RunEnded, RunFailed, RunHalted, RunInterrupted
from harness.history.history import History
from harness.judge import words
from harness.judge.case import Case
from harness.judge.verdict import Finding, Outcome, Word


def sentence_of(case: Case, word: Word, missing: Sequence[Finding], expectations: Sequence[Finding]) -> str:
    """What a person would say who is asked how it went; `missing` is the evidence that is not there."""
    match word:
        case "passed":
            return _passed(case, expectations)
        case "failed":
            return _closed(_injected(case, _failed(expectations)))
        case "inconclusive":
            if not missing and not case.history.of(RunEnded):
                return "Nothing can be concluded: the run did not come to its end, and nobody told what became of it."
            return _closed(_injected(case, _inconclusive(missing, expectations)))
        case "halted":
            halt = case.history.of(RunHalted)[0]
            when = f" {_when(case, halt.at)}" if halt.condition else ""
            return _closed(f"The run was halted{when}: {halt.reason}")
        case "interrupted":
            event = case.history.of(RunInterrupted)[0]
            return f"The run was {event.how}, {_when(case, event.at)}; what is told is what had been seen by then."
        case "error":
            return _closed(_error(case.history))


def _error(history: History) -> str:
    """What kept the run from its own end: an error, or the end of the harness."""
    failures = history.of(RunFailed)
    if not failures:
        acts = history.of(GuardianActed)
        why = acts[0].why or "the harness was gone"
        return f"the run did not come to its end: {why}; {', then '.join(map(_undone, acts))}"
    who = "The harness itself failed" if failures[0].defect else "The run could not go on"
    return f"{who}: {failures[0].reason}"


def _undone(act: GuardianActed) -> str:
    if act.failed:
        return f"{act.who} could not do {act.failed} of {words.count(act.undone + act.failed, 'undo')}"
    return f"{act.who} healed and took everything down"


def _when(case: Case, at: float) -> str:
    """When it was; before there was any load, `history.began` stands for the beginning of the run."""
    if not case.history.of(LoadBegan):
        return "while the system came up"
    since = case.since_load(at)
    return f"{since:.0f} s after the load began" if since >= 0 else "before the load began"


def _closed(text: str) -> str:
    text = text.strip().split("\n")[0].rstrip(".:; ")
    return f"{text[:1].upper()}{text[1:]}."


def _passed(case: Case, expectations: Sequence[Finding]) -> str:
    order = ("fallback", "error_rate", "response_time", "blast_radius", "invariant", "recovery")
    found = sorted(expectations, key=lambda finding: order.index(finding.kind))
    clauses = [_clause(finding) for finding in found if not finding.known] or ["nothing failed that was not known"]
    told = clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])}, and {clauses[-1]}"
    known = [finding.known for finding in expectations if finding.known]
    if known:
        told += f"; {words.count(len(known), 'known failure')} ({words.several(known)})"
    return _closed(_injected(case, told))


def _injected(case: Case, told: str) -> str:
    """The answer, and before it that nothing was injected where the scenario says so with `faults: []`."""
    return told if case.experiment.faults else f"nothing was injected: {told}"


def _clause(finding: Finding) -> str:
    """What one expectation that passed adds to the answer."""
    match finding.kind:
        case "fallback":
            observed = finding.measure.observed if finding.measure is not None else None
            name = finding.title.removeprefix("fallback ")
            return f"{words.share(observed or 0.0)} of {finding.source} were answered by {name}"
        case "blast_radius":
            named = finding.title.partition("stays with ")[2]
            return f"the damage stayed with {named}" if named else "no journey was hurt"
        case "recovery":
            return f"all was well again {finding.seen.removeprefix('recovered ')}"
        case "invariant":
            return f"the data settled: {finding.title}"
        case _:
            return finding.seen


def _failed(expectations: Sequence[Finding]) -> str:
    failed = [finding for finding in expectations if finding.counts_as is Outcome.FAILED]
    first = failed[0]
    others = f" ({words.count(len(failed) - 1, 'more expectation')} failed)" if len(failed) > 1 else ""
    why = first.why or first.seen
    return f"{first.title}: {why}{others}"


def _inconclusive(missing: Sequence[Finding], expectations: Sequence[Finding]) -> str:
    if missing:
        return f"nothing can be concluded: {missing[0].why or missing[0].seen}"
    open_ones = [finding for finding in expectations if finding.outcome is Outcome.INCONCLUSIVE]
    if not open_ones:
        return "nothing was expected, so nothing was shown"
    first = open_ones[0]
    return (
        f"{len(open_ones)} of {len(expectations)} expectations could not be decided: {first.title}: {first.why or first.seen}"
    )
