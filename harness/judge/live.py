"""The judge while a run goes on: says whether the system is warm, whether anything may be injected, what is too short,
and whether it must be halted.

It sees what the history will hold, and asks the same questions of it as the judge will at the end, so that
the two never disagree. It implements the port `Watch` that the runtime owns, without knowing the runtime. Of the
requests it keeps those of the baseline alone, in columns, until it was asked: a run may last for hours. Where the
warm-up ends when the system is steady it keeps its last seconds too, and all where windows are lengthened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import inf
from typing import Any

import numpy as np

from harness.history.events import EdgeSeen, Event, PhaseBegan, PhaseEnded, RunHalted
from harness.history.history import History
from harness.history.requests import Request
from harness.history.table import Requests, joined, requests_of
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS, Case
from harness.judge.conditions import Conditions
from harness.judge.doubts import drift, fewest_arrivals, load_doubts
from harness.judge.evidence import baseline_healthy
from harness.judge.judge import judge_expectation
from harness.judge.noise import doubted
from harness.judge.steadiness import SPAN, unsteady
from harness.judge.verdict import Outcome
from harness.model.expectations import ExpectationItem
from harness.model.experiment import Experiment


class LiveJudge:
    """Watches one run. `plan` is the plan as plain data, as it begins the run's folder."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = dict(plan)
        self._events: list[Event] = []
        self._requests: list[Requests] = []
        experiment = self._plan.get("experiment") or {}
        self._keeps_all = bool(experiment.get("extend"))
        self._from = self._first = -inf if experiment.get("warmup_until") else inf
        self._conditions = Conditions(Experiment.model_validate(experiment)) if experiment.get("stop_when") else None

    def see_event(self, event: Event) -> None:
        """An event or sample was recorded; a baseline that begins makes those before it a matter of the past.

        What the proxies count, every second and on every edge, is asked of only where windows are lengthened.
        """
        if self._conditions is not None:
            self._conditions.see_event(event)
        if isinstance(event, EdgeSeen) and not self._keeps_all:
            return
        self._events.append(event)
        if isinstance(event, PhaseBegan) and event.phase == "baseline":
            self._from = event.at
            self._first = event.at if event.round == 1 else self._first
            self._forget()

    def see_requests(self, requests: Sequence[Request]) -> None:
        """Requests were recorded; what only tells one from another is not kept."""
        seen = requests_of(requests)
        if self._conditions is not None:
            self._conditions.see_requests(seen)
        kept = seen.at(seen.due >= self._since)
        if kept:
            self._requests.append(replace(kept, trace=np.zeros(len(kept), dtype="S1")))
        if self._keeps_all and sum(map(len, self._requests)) > MOST_KEPT:
            self._keeps_all = False
            self._forget()

    @property
    def _since(self) -> float:
        """From when on requests are kept: the baseline that is to be asked of, or the first where all are."""
        return self._first if self._keeps_all else self._from

    @property
    def so_far(self) -> History:
        """The history as far as it has come, with the requests that are kept."""
        return History(self._plan, self._events, joined(self._requests))

    def halt_before_injection(self) -> str | None:
        """Asked when a baseline is over: why nothing must be injected, or None."""
        found = baseline_healthy(Case(self.so_far).rounds[-1])
        self._from = inf
        self._forget()
        if found.outcome is Outcome.PASSED:
            return None
        return f"the baseline was not healthy, so nothing was injected: {found.why}"

    def stop_condition_met(self, at: float) -> RunHalted | None:
        """Asked again and again while the load is on: which stop condition is met, or None."""
        return self._conditions.met(at) if self._conditions is not None else None

    def unsteady(self, at: float) -> str:
        """Asked in the warm-up: what is not steady yet; empty where everything is. Requests still open are waited for.

        How long is known from those that were answered lately: in the last seconds alone the slow ones would be missing.
        """
        case = Case(self.so_far)
        lately = case.history.requests.at(case.history.requests.end >= at - SPAN)
        timeout = case.experiment.load.timeout
        longest = min(timeout, float(lately.latency.max())) if lately else 0.0
        why = unsteady(case, at - SETTLED - longest)
        self._from = self._first = at - SETTLED - timeout - SPAN
        self._forget()
        return why

    def reason_to_lengthen(self, phase: str, ends: float) -> str:
        """Asked just before a phase ends: why its window is void, or what is undecided for it; empty where nothing is.

        Nor is it lengthened where more was recorded than is kept, or where most of a fault phase may still wait for its
        answers. More may be seen meanwhile: it is asked of copies.
        """
        if not self._keeps_all:
            return ""
        still_open = self._still_open(ends) if phase == "fault" else 0.0
        history = self._as_if_over(phase, ends - still_open)
        if still_open > MOST_OPEN * (ends - history.of(PhaseBegan)[-1].at):
            return ""
        case = Case(history)
        turn = case.rounds[-1]
        window = turn.judged(phase)
        number = len(turn.history.due_in(window)) if window is not None else 0
        if window is None or number < FEWEST_REQUESTS:
            return f"{words.count(number, 'request')} in the {phase}, at least {FEWEST_REQUESTS} are needed"
        if phase == "baseline" and (found := baseline_healthy(turn)).outcome is not Outcome.PASSED:
            return found.why
        drifts = drift(turn, turn.experiment.margins) if phase == "baseline" else ()
        if doubt := next(chain(load_doubts(turn, phase, window), drifts), None):
            return doubt.told
        return self._undecided(phase, case)

    def _undecided(self, phase: str, case: Case) -> str:
        """The first expectation that this phase would leave undecided, and why."""
        turn = case.rounds[-1]
        is_last = len(case.rounds) == case.experiment.rounds
        for item in case.experiment.expect:
            if phase in _decided_in(item, case) and (is_last or item.recovery is not None):
                place = turn if item.recovery is not None else case
                found = doubted(judge_expectation(place, item), item, place)
                if found.outcome is Outcome.INCONCLUSIVE:
                    return f"{found.title}: {found.why}"
        return ""

    def _still_open(self, ends: float) -> float:
        """From how many seconds before the end of a fault phase on its requests may still wait for their answers.

        As long as any of it took; where fewer were recorded than must have come up, as long as the client waits.
        """
        turn = Case(self._as_if_over("fault", ends)).rounds[-1]
        window = turn.judged("fault")
        if window is None:
            return 0.0
        due, longest = turn.history.due_in(window), turn.experiment.load.timeout
        if len(due) >= fewest_arrivals(turn, window):
            longest = min(longest, float(due.latency.max(initial=0.0)))
        return max(0.0, longest - ASKED_BEFORE)

    def _as_if_over(self, phase: str, ends: float) -> History:
        """The history with the end of the phase."""
        events, requests = self._events.copy(), self._requests.copy()
        number = max((event.round for event in events if isinstance(event, PhaseBegan)), default=1)
        return History(self._plan, [*events, PhaseEnded(ends, phase, number)], joined(requests))

    def _forget(self) -> None:
        """Let go of the requests that were due before those that are kept."""
        kept = [table.at(table.due >= self._since) for table in self._requests]
        self._requests = [table for table in kept if table]


MOST_KEPT = 300_000
"""With more requests windows are not lengthened: they would fill the memory, and take longer to ask of than there is."""

ASKED_BEFORE = 1.0
"""Seconds before the end of a phase in which its guard has begun, and nothing more comes up that is judged."""

MOST_OPEN = 0.5
"""The share of a fault phase whose requests may still be open: what is left of it beyond that says too little."""

SETTLED = 1.0
"""Seconds after which a request that was answered, or that is answered at once, has been recorded."""


def _decided_in(item: ExpectationItem, case: Case) -> tuple[str, ...]:
    """The phase whose end decides an expectation."""
    if item.recovery is not None or item.fallback is not None:
        return ("recovery",)
    rated = item.error_rate or item.response_time
    if item.blast_radius is not None or (rated is not None and case.fault(rated.during) is not None):
        return ("fault",)
    return (rated.during or "fault",) if rated is not None else ()
