"""The judge while a run goes on: says whether anything may be injected.

It sees what the history will hold, and asks the same questions of it as the judge will at the end, so that
the two never disagree. It implements the port `Watch` that the runtime owns, without knowing the runtime. Of the
requests it keeps those of the baseline alone, in columns, until it was asked: a run may last for hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from harness.history.events import Event, PhaseBegan
from harness.history.history import History
from harness.history.requests import Request
from harness.history.table import Requests, joined, requests_of
from harness.judge.case import Case
from harness.judge.evidence import baseline_healthy
from harness.judge.verdict import Outcome


class LiveJudge:
    """Watches one run. `plan` is the plan as plain data, as it begins the run's folder."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = dict(plan)
        self._events: list[Event] = []
        self._requests: list[Requests] = []
        self._from = inf

    def see_event(self, event: Event) -> None:
        """An event or sample was recorded; a baseline that begins makes those before it a matter of the past."""
        self._events.append(event)
        if isinstance(event, PhaseBegan) and event.phase == "baseline":
            self._from = event.at
            self._requests.clear()

    def see_requests(self, requests: Sequence[Request]) -> None:
        """Requests were recorded; what only tells one from another is not kept."""
        seen = requests_of(requests)
        kept = seen.at(seen.due >= self._from)
        if kept:
            self._requests.append(replace(kept, trace=np.zeros(len(kept), dtype="S1")))

    @property
    def so_far(self) -> History:
        """The history as far as it has come, with the requests that are kept."""
        return History(self._plan, self._events, joined(self._requests))

    def halt_before_injection(self) -> str | None:
        """Asked when a baseline is over: why nothing must be injected, or None."""
        found = baseline_healthy(Case(self.so_far))
        self._from = inf
        self._requests.clear()
        if found.outcome is Outcome.PASSED:
            return None
        return f"the baseline was not healthy, so nothing was injected: {found.why}"
