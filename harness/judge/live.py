"""The judge while a run goes on: says whether anything may be injected.

It sees what the history will hold, and asks the same questions of it as the judge will at the end, so that
the two never disagree. It implements the port `Watch` that the runtime owns, without knowing the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.history.events import Event
from harness.history.history import History
from harness.history.requests import Request
from harness.judge.case import Case
from harness.judge.evidence import baseline_healthy
from harness.judge.verdict import Outcome


class LiveJudge:
    """Watches one run. `plan` is the plan as plain data, as it begins the run's folder."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = dict(plan)
        self._events: list[Event] = []
        self._requests: list[Request] = []

    def see_event(self, event: Event) -> None:
        """An event or sample was recorded."""
        self._events.append(event)

    def see_requests(self, requests: Sequence[Request]) -> None:
        """Requests were recorded."""
        self._requests.extend(requests)

    @property
    def so_far(self) -> History:
        """The history as far as it has come."""
        return History(self._plan, self._events, self._requests)

    def halt_before_injection(self) -> str | None:
        """Asked once, when the baseline is over: why nothing must be injected, or None."""
        found = baseline_healthy(Case(self.so_far))
        if found.outcome is Outcome.PASSED:
            return None
        return f"the baseline was not healthy, so nothing was injected: {found.why}"
