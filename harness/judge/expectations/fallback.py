"""A declared fallback answers its journeys while the fault lasts, and neither before nor after.

Three witnesses are heard: the marker in the answers, the service's own counter, and the wire, where a real
answer may have passed all the same. A fallback passes on the word of two that agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Literal, TypeAlias

from harness.history.events import CounterRead, FaultBegan, FaultVaried
from harness.history.history import Window
from harness.history.table import NONE, Mask, Requests
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS, MOST_EXAMPLES, Case
from harness.judge.edges import EdgeCounts
from harness.judge.rows import Heading, Row, against, finding, measure, nothing
from harness.judge.states import answers_pass, is_clean
from harness.judge.statistics import Interval, enough_for, wilson
from harness.judge.verdict import Finding, Outcome
from harness.model.expectations import Fallback
from harness.model.faults import FaultItem
from harness.model.parts import ShareLimit
from harness.model.system import FallbackDeclared

STRAY = 0.01
"""Where surely more than this share fired without a fault, the fallback is broken; less is not clear."""

TOLERANCE, TOLERATED = 0.1, 5
"""By how much two counts of the same thing may differ: clients give up, samples come once a second."""


Windows: TypeAlias = tuple[Window, ...]


READ_LATE = 4.0
"""Seconds in which a counter is read again, though one reading be late: of what is marked later it tells nothing."""


class Word(Enum):
    """What a witness says."""

    AGREES = "agrees"
    SILENT = "cannot tell"
    CONTRADICTS = "contradicts"
    LOST = "was lost"


def judge_fallback(name: str, expected: Fallback, case: Case) -> Finding:
    """Share of marked answers under the fault, none before and none after, and a second witness."""
    least, most = expected.share.min, expected.share.max
    limits = [f"at least {words.limit_share(least)}"] if least is not None else []
    limits += [f"at most {words.limit_share(most)}"] if most is not None else []
    limit = " and ".join(limits)
    declared = case.experiment.system.fallbacks.get(expected.name)
    item = case.fault(expected.fault)
    windows = case.history.windows.get(item.id, ()) if item is not None and item.id is not None else ()
    group = case.under_fault(declared.journeys, windows) if declared is not None else NONE
    source = f"{words.count(len(group), 'request')} of {words.several(declared.journeys)}" if declared is not None else ""
    heading = Heading(name, "fallback", f"fallback {expected.name}", limit, source)
    if declared is None:
        return nothing(heading, f"the system declares no fallback {expected.name}")
    if not case.experiment.faults:
        return nothing(heading, "nothing was injected under which it could have fired", "take it out, or add a fault")
    if item is None or not windows:
        return nothing(heading, "no fault was recorded under which it could have fired", "name the fault with fault:")
    fired = group.bears(expected.name) & group.ok
    rows = [_share(expected, declared, (case, group, fired))]
    rows += [_control(expected.name, declared, phase, case) for phase in ("baseline", "recovery")]
    if len(group) >= FEWEST_REQUESTS:
        rows.append(_witnesses(expected.name, declared, (case, item, windows), (len(group), int(fired.sum()))))
    return finding(case, heading, rows)


def _share(expected: Fallback, declared: FallbackDeclared, seen: tuple[Case, Requests, Mask]) -> Row:
    """How many of the requests that met the fault were answered, and by the fallback."""
    case, group, fired = seen
    marked = int(fired.sum())
    journeys = words.several(declared.journeys)
    if len(group) < FEWEST_REQUESTS:
        told = f"{words.count(len(group), 'request')} of {journeys} met the fault, at least {FEWEST_REQUESTS} are needed"
        return Row("marker", Outcome.INCONCLUSIVE, told, told, case.more("fault", len(group), FEWEST_REQUESTS))
    interval, observed = wilson(marked, len(group)), marked / len(group)
    outcome, limit, bound = max(_judged(interval, expected.share), key=lambda found: found[0])
    why, advice = "", ""
    if outcome is Outcome.FAILED:
        why = f"{len(group) - marked} of {len(group)} requests of {journeys} were not answered by it while the fault lasted"
        advice = f"see what became of the requests below, and why {expected.name} did not answer them"
    elif outcome is Outcome.INCONCLUSIVE:
        why = "the interval lies across the limit"
        advice = case.more("fault", len(group), max(2 * len(group), enough_for(1 - limit)))
    others = tuple(group.at(~fired)[:MOST_EXAMPLES])
    seen_in_words = f"{words.share(observed)} of {len(group)} requests {words.span(interval.low, interval.high)}"
    shown = measure("share", observed, interval, limit, bound)
    return Row("marker", outcome, seen_in_words, why, advice, shown, others)


def _judged(interval: Interval, share: ShareLimit) -> Iterator[tuple[Outcome, float, Literal["min", "max"]]]:
    if share.min is not None:
        yield against(interval, share.min, "min"), share.min, "min"
    if share.max is not None:
        yield against(interval, share.max, "max"), share.max, "max"


def _control(name: str, declared: FallbackDeclared, phase: str, case: Case) -> Row:
    """No fallback without a fault: not in the baseline, and not any more in the recovery."""
    subject = "before the fault" if phase == "baseline" else "after healing"
    window = case.judged(phase)
    wanted = {case.plain(journey) for journey in declared.journeys}
    due = case.history.due_in(window) if window is not None else NONE
    group = due.at(due.of(lambda request: case.plain(request) in wanted))
    stray = tuple(group.at(group.bears(name)))
    if len(group) < FEWEST_REQUESTS:
        told = f"{words.count(len(group), 'request')} in the {phase}, at least {FEWEST_REQUESTS} are needed"
        return Row(subject, Outcome.INCONCLUSIVE, told, told, case.more(phase, len(group), FEWEST_REQUESTS))
    seen = f"fired in {len(stray)} of {len(group)} requests"
    if not stray:
        return Row(subject, Outcome.PASSED, seen)
    if wilson(len(stray), len(group)).low > STRAY:
        what = "it fired without a fault" if phase == "baseline" else "a sticky fallback: it went on firing after healing"
        return Row(
            subject, Outcome.FAILED, f"{what}, in {len(stray)} of {len(group)} requests", what, _ask(phase), examples=stray
        )
    return Row(subject, Outcome.INCONCLUSIVE, seen, f"it {seen} {subject}: too few to say that it is broken", _ask(phase))


def _ask(phase: str) -> str:
    return (
        "see why it fired: nothing was broken then" if phase == "baseline" else "see what keeps its breaker open after healing"
    )


def _witnesses(name: str, declared: FallbackDeclared, place: tuple[Case, FaultItem, Windows], seen: tuple[int, int]) -> Row:
    """A marker alone may lie: the counter or the wire must say the same, and neither may say otherwise."""
    case, item, windows = place
    counter, of_counter = _counter(name, declared, case)
    wire, of_wire = _wire(declared, item, (case, windows), seen)
    told = f"counter {counter.value}: {of_counter}; wire {wire.value}: {of_wire}"
    if counter is Word.CONTRADICTS:
        return Row(
            "witnesses", Outcome.FAILED, told, f"marker and counter disagree: {of_counter}", "see which of the two is wrong"
        )
    if wire is Word.CONTRADICTS:
        advice = "see whether it looks at what its dependency answered"
        return Row("witnesses", Outcome.FAILED, told, f"a lying fallback: {of_wire}", advice)
    if counter is Word.LOST:
        return Row("witnesses", Outcome.INCONCLUSIVE, told, of_counter, "see why the service did not show it any more")
    agreeing = [witness for witness, word in (("counter", counter), ("wire", wire)) if word is Word.AGREES]
    if not agreeing:
        advice = "declare a counter for it, or let the service show it on /metrics"
        return Row("witnesses", Outcome.INCONCLUSIVE, told, f"the marker alone says so: {of_counter}; {of_wire}", advice)
    return Row("witnesses", Outcome.PASSED, f"marker and {' and '.join(agreeing)} agree ({of_counter}; {of_wire})")


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERATED + TOLERANCE * max(one, other)


def _counter(name: str, declared: FallbackDeclared, case: Case) -> tuple[Word, str]:
    """The service's own count over the whole run against all answers that bore the marker."""
    if declared.counter is None:
        return Word.SILENT, "it has no counter"
    reads = [read for read in case.history.of(CounterRead) if read.fallback == name]
    values = [read.value for read in reads if read.value is not None]
    if not values:
        detail = next((read.detail for read in reads if read.detail), "never asked")
        return Word.SILENT, f"the counter of {declared.counter.service} could not be read ({detail})"
    last = max(read.at for read in reads if read.value is not None)
    marked = case.history.requests.bears(name)
    if bool((case.history.requests.end[marked] > last + READ_LATE).any()):
        detail = next((read.detail for read in reads if read.at > last and read.detail), "not asked any more")
        at = words.moment(case.since_load(last))
        return Word.LOST, f"the counter of {declared.counter.service} could not be read any more after {at} ({detail})"
    first = values[0] if reads[0].value is not None else 0.0
    moved = sum(max(0.0, new - old) if new >= old else new for old, new in zip([first, *values], values, strict=False))
    marks, early = int(marked.sum()), int((case.history.requests.end[marked] <= last).sum())
    told = f"{declared.counter.service} counted {moved:g}, {words.count(marks, 'answer')} bore the marker"
    told += f", {early} of them by its last reading" if early < marks else ""
    heard = min(max(moved, early), marks)
    if not _close(moved, heard):
        return Word.CONTRADICTS, told
    if 2 * heard < marks:
        return Word.LOST, f"most was marked after the last reading that came: {told}"
    return Word.AGREES, told


UNANSWERING = ("kill", "stop", "pause", "disconnect")
"""Faults on a service itself during which nobody is answered by it."""


LATE = ("latency", "http_delay", "bandwidth", "cpu")
"""Faults under which answers come late."""


def _wire(declared: FallbackDeclared, item: FaultItem, place: tuple[Case, Windows], seen: tuple[int, int]) -> tuple[Word, str]:
    """Whether real answers passed on the edge while the marker said that none came."""
    case, windows = place
    callee = next((edge.callee for edge in case.experiment.system.edges if edge.name == declared.for_), "")
    changes: list[FaultBegan | FaultVaried] = [*case.history.of(FaultBegan), *case.history.of(FaultVaried)]
    of_it = [change for change in changes if change.fault == item.id]
    states = [change.asked for change in of_it if change.proxy == declared.for_]
    behind = any(change.service == callee for change in of_it)
    if not behind and all(map(is_clean, states)):
        return Word.SILENT, f"the fault was not on {declared.for_}"
    if any(map(answers_pass, states)) or (behind and item.kind not in UNANSWERING):
        how = "late answers" if item.kind in LATE else "answers"
        return Word.SILENT, f"{how} pass on {declared.for_} all the same"
    traffic = EdgeCounts(case.history).during_all(declared.for_, windows)
    if traffic is None or traffic.answered is None:
        return Word.SILENT, f"answers on {declared.for_} could not be counted"
    of, marked = seen
    told = f"{words.count(traffic.answered, 'answer')} passed on {declared.for_}"
    if traffic.answered > of - marked and not _close(traffic.answered, of - marked):
        return Word.CONTRADICTS, f"{told}, and yet {marked} of {of} requests bore the marker"
    return Word.AGREES, told
