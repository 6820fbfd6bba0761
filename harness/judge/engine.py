"""Whether the proxy engine stood while windows were compared.

One that was started again had cut every connection, and for some seconds no fault was there, or nothing was
reachable at all: whatever was measured meanwhile says nothing of the system.
"""

from __future__ import annotations

from math import inf

from harness.history.events import EngineRestarted
from harness.history.history import Window
from harness.judge import words
from harness.judge.case import Case
from harness.judge.verdict import Finding, Outcome

KIND = "engine"

NOTICED_AFTER = 5.0
"""How long an engine may have been gone, at most, before it is noticed."""


def engine_stood(case: Case) -> tuple[Finding, ...]:
    """The evidence that is missing where the engine did not stand; none where it did, as always but seldom."""
    judged = judged_window(case)
    restarts = case.history.of(EngineRestarted)
    if judged is None or not (hit := [restart for restart in restarts if _touches(restart, judged)]):
        return ()
    told = tuple(_told(case, restart) for restart in hit)
    more = f" (and {words.count(len(hit) - 1, 'more time')})" if len(hit) > 1 else ""
    why = f"{told[0]}{more}"
    advice = "run it again; see the proxy engine's log for what became of it"
    return (Finding(KIND, KIND, "the proxy engine stood", Outcome.INCONCLUSIVE, why, why=why, advice=advice, details=told),)


def judged_window(case: Case) -> Window | None:
    """From the begin of the baseline to the end of the last phase, in which invariants are still asked."""
    phases = case.history.phases
    baseline = phases.get("baseline")
    return Window(baseline.begin, max(phase.end for phase in phases.values())) if baseline is not None else None


def _touches(restart: EngineRestarted, window: Window) -> bool:
    over = restart.at + restart.seconds if restart.back else inf
    return over >= window.begin and restart.at - NOTICED_AFTER < window.end


def _told(case: Case, restart: EngineRestarted) -> str:
    at, lasted = words.moment(case.since_load(restart.at)), words.seconds(restart.seconds)
    on = [fault for fault, turns in case.history.windows.items() if any(_touches(restart, turn) for turn in turns)]
    during = f", while {words.several(on)} was to be on" if on else ""
    if not restart.back:
        return f"the proxy engine was gone for good at {at}{during}: {restart.reason}"
    return f"the proxy engine had to be started again at {at}{during}: {restart.reason} (it took {lasted})"
