"""Whether a run was worth judging: what must be known before any expectation says something.

The load arrived as planned, the baseline was healthy, each fault was set, bit, met traffic, and was healed.
What is missing here makes every expectation that rests on it inconclusive: silence never passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.history.events import FaultBegan, LoadBegan, LoadEnded, RunFailed, RunHalted, RunInterrupted, ServiceExited
from harness.history.history import Window
from harness.judge import words
from harness.judge.blows import blows_of
from harness.judge.case import FEWEST_REQUESTS, Case
from harness.judge.conditions import halt_by_condition
from harness.judge.doubts import LEAST_LOAD, arrivals_planned, fewest_of, lag, load_doubts, machine_seen
from harness.judge.engine import engine_stood
from harness.judge.expectations.error_rate import judge_error_rate
from harness.judge.expectations.response_time import judge_response_time
from harness.judge.proofs import bit, healed, met, was_set
from harness.judge.rounds import in_every_round
from harness.judge.service_proofs import evidence_of_services, together
from harness.judge.strikes import Strike, strikes_of
from harness.judge.verdict import Finding, Outcome
from harness.judge.warnings import kept_back
from harness.judge.wedges import nothing_wedged
from harness.model.expectations import ErrorRate, ResponseTime

JUDGED = ("baseline", "fault", "recovery")


def gather(case: Case) -> tuple[Finding, ...]:
    """All evidence there is, in the order in which a run produces it; what one round proves, each must prove."""
    return (*of_the_run(case), *in_every_round(case, of_a_round))


def of_the_run(case: Case) -> tuple[Finding, ...]:
    """What must be so from its begin to its end."""
    return (*engine_stood(case), *nothing_wedged(case), load_arrived(case))


def of_a_round(case: Case) -> tuple[Finding, ...]:
    """What a round proves; without a fault, that its baseline was healthy."""
    strikes, blows = strikes_of(case), blows_of(case)
    found = (baseline_healthy(case),)
    if not strikes and not blows and not case.experiment.faults:
        return found
    if not blows:
        return (*found, *_of_edges(case, strikes))
    on_services = evidence_of_services(case, blows)
    return (*found, *(map(together, _of_edges(case, strikes), on_services) if strikes else on_services))


def _of_edges(case: Case, strikes: Sequence[Strike]) -> tuple[Finding, ...]:
    return was_set(strikes), bit(case, strikes), met(case, strikes), healed(case, strikes)


def _evidence(kind: str, title: str, seen: str, missing: tuple[str, str] | None, details: tuple[str, ...] = ()) -> Finding:
    outcome = Outcome.PASSED if missing is None else Outcome.INCONCLUSIVE
    why, advice = missing or ("", "")
    return Finding(kind, kind, title, outcome, why or seen, why=why, advice=advice, details=details)


# load


def load_arrived(case: Case) -> Finding:
    """The load was sent as planned and in time. How it was answered is not its business."""
    problems = list(_load_problems(case))
    windows = {phase: window for phase in JUDGED if (window := case.inside(phase)) is not None}
    details = tuple(f"{phase}: {_window_seen(case, window)}" for phase, window in windows.items())
    return _evidence("load", "load arrived", _load_seen(case, windows), problems[0] if problems else None, details)


def _load_seen(case: Case, windows: dict[str, Window]) -> str:
    seconds = sum(window.seconds for window in windows.values())
    sent = sum(case.history.due_in(window).sent for window in windows.values())
    told = f"{sent / seconds:.1f}" if seconds else "0"
    late = words.seconds(max((lag(case.history.due_in(window)) for window in windows.values()), default=0.0))
    if case.experiment.load.course is None:
        return f"{told} per s (closed model), lag p99 {late}"
    planned = sum(arrivals_planned(case, window) for window in windows.values())
    return f"{told}/{planned / seconds if seconds else 0:.4g} per s, lag p99 {late}"


def _window_seen(case: Case, window: Window) -> str:
    due = case.history.due_in(window)
    dropped = len(due) - due.sent
    lost = f", {dropped} not sent" if dropped else ""
    machine = machine_seen(case, window)
    told = f"{words.count(len(due), 'request')}, lag p99 {words.seconds(lag(due))}{lost}"
    return f"{told}; {machine}" if machine else told


def load_came_whole(case: Case) -> bool:
    """Whether what is missing of the load, if anything, is missing in some windows alone."""
    return not [*_ending_problems(case), *_number_problems(case)]


def _load_problems(case: Case) -> Iterator[tuple[str, str]]:
    yield from _ending_problems(case)
    yield from _number_problems(case)
    for phase in JUDGED:
        if getattr(case.experiment.phases, phase) > 0:
            yield from _window_problems(case, phase)


def _ending_problems(case: Case) -> Iterator[tuple[str, str]]:
    ended = case.history.of(LoadEnded)
    halt = halt_by_condition(case.history)
    halts = case.history.of(RunHalted)
    if halt is not None:
        cut = words.moment(case.since_load(halt.at))
        told = f"stop condition {halt.condition} halted the run {cut} after the load began"
        yield told, "what was measured until then is told with each expectation"
    elif case.history.of(LoadBegan) and halts:
        yield f"the run was halted {words.moment(case.since_load(halts[0].at))} after the load began", "see why it was halted"
    elif not case.history.of(LoadBegan):
        yield "the load never began", "see the log of the load process"
    elif not ended:
        cut = words.moment(case.since_load(case.history.ended))
        yield f"the history ends while the load was on: the run was cut off after {cut}", "run it again"
    elif not ended[-1].finished:
        why = ended[-1].detail or "no reason is known"
        if any(isinstance(event, RunInterrupted | RunFailed) for event in case.history.events):
            yield why, "run it again"
        else:
            yield f"the load ended by itself: {why}", "see the log of the load process"


def _number_problems(case: Case) -> Iterator[tuple[str, str]]:
    finished = [note for note in case.history.notes if note.get("load") == "finished"]
    records = len(case.history.requests)
    if len(finished) < case.experiment.load.processes:
        yield _unfinished(len(finished), case.experiment.load.processes), "see the log of the load process"
        return
    said = Counter[str]()
    for note in finished:
        said.update({key: value for key, value in note.items() if isinstance(value, int)})
    planned = _planned(case)
    scheduled = said.get("scheduled", 0)
    if planned is not None and scheduled < planned[1]:
        yield f"{scheduled} of {planned[0]:.0f} planned requests were scheduled", "run it on a machine that is less busy"
    written = said.get("requests", scheduled) + said.get("dropped", 0)
    if records < written:
        yield f"{written - records} of {written} requests left no record", "see the log of the load process"
    idle = said.get("silent", 0)
    if idle > (1 - LEAST_LOAD) * scheduled:
        yield f"{idle} of {scheduled} arrivals sent no request: their task made none", "see the tasks of the locustfile"


def _unfinished(finished: int, processes: int) -> str:
    if processes == 1:
        return "the load process did not say that it finished"
    return f"{finished} of {processes} load processes said that they finished"


def _planned(case: Case) -> tuple[float, float] | None:
    """How many arrivals were planned and how few are enough; None in the closed model, which plans none."""
    course = case.experiment.load.course
    under_load = [float(phase["until"]) for phase in case.history.plan.get("phases", ()) if phase["name"] != "drain"]
    if course is None or not under_load:
        return None
    number = course.arrivals_by(max(under_load) + case.history.moved)
    return number, fewest_of(case, number, deviations=3) - 1e-6


def _window_problems(case: Case, phase: str) -> Iterator[tuple[str, str]]:
    window = case.inside(phase)
    if window is None:
        yield f"no {phase} phase longer than its guards was recorded", f"see why the run ended before its {phase}"
        return
    due = case.history.due_in(window)
    if len(due) < FEWEST_REQUESTS:
        told = f"{words.count(len(due), 'request')} in the {phase}, at least {FEWEST_REQUESTS} are needed"
        yield told, case.more(phase, len(due), FEWEST_REQUESTS)
    else:
        yield from ((doubt.told, doubt.advice) for doubt in load_doubts(case, phase, window))


# baseline


def baseline_healthy(case: Case) -> Finding:
    """What must hold before anything is injected did hold."""
    window = case.judged("baseline")
    findings = [_steady(case, str(item.id or item.kind), item.expectation) for item in case.experiment.steady_state]
    details = tuple(f"{finding.title}: {finding.seen}, {finding.limit}" for finding in findings)
    seen = words.several([finding.seen for finding in findings])
    missing = _unhealthy(case, window, findings)
    return _evidence("baseline", "baseline was healthy", seen, missing, (*details, *_exit_lines(case)))


def _unhealthy(case: Case, window: Window | None, findings: list[Finding]) -> tuple[str, str] | None:
    exit = _exit_before_fault(case)
    if exit is not None:
        return f"{exit.service} ended by itself before any fault ({exit.how})", f"see the log of {exit.service}"
    halted = case.history.of(RunHalted)
    if window is None:
        told = halted[0].reason if halted else "no baseline longer than its guards was recorded"
        return told, "see why the run ended before it"
    requests = len(case.history.due_in(window))
    if requests < FEWEST_REQUESTS:
        told = f"{words.count(requests, 'request')} in the baseline, at least {FEWEST_REQUESTS} are needed"
        return told, case.more("baseline", requests, FEWEST_REQUESTS)
    worst = max((finding for finding in findings if not _is_steady(finding)), key=lambda finding: finding.outcome, default=None)
    if worst is not None:
        return f"{worst.seen}, {worst.limit}: {worst.why}", "; ".join(kept_back(case)) or worst.advice
    if halted and not case.history.of(FaultBegan):
        return halted[0].reason, "run it again when the system is healthy"
    return None


def _steady(case: Case, name: str, expected: ErrorRate | ResponseTime) -> Finding:
    in_baseline = expected.model_copy(update={"during": "baseline"})
    if isinstance(in_baseline, ErrorRate):
        return judge_error_rate(name, in_baseline, case)
    return judge_response_time(name, in_baseline, case)


def _is_steady(finding: Finding) -> bool:
    """What was observed is within the limit. That it surely is need not be shown: the comparisons with the baseline
    carry its uncertainty themselves, and a hundred requests without an error cannot show less than 3.7 %.
    """
    if finding.outcome is not Outcome.INCONCLUSIVE or finding.measure is None or finding.measure.observed is None:
        return finding.outcome is Outcome.PASSED
    observed, limit = finding.measure.observed, finding.measure.limit
    return observed <= limit if finding.measure.bound == "max" else observed >= limit


def _exit_before_fault(case: Case) -> ServiceExited | None:
    """A service that ended in the baseline says nothing about the fault; later it may be what the fault did."""
    baseline = case.history.phases.get("baseline")
    return next((exit for exit in case.exits if baseline is None or exit.at <= baseline.end), None)


def _exit_lines(case: Case) -> Iterator[str]:
    for exit in case.exits:
        at = words.moment(case.since_load(exit.at))
        yield f"{exit.service} ended by itself at {at} ({exit.how})"
        yield from (f"{exit.service}: {line}" for line in exit.log[-5:])
