"""Whether everything that a run stands on went on working until the last phase was over.

What hung, would not end, or could not be written to was noticed, and something was done about it: a service was woken,
a log was cut short, the load was killed. What was measured meanwhile says nothing of the system.
"""

from __future__ import annotations

from harness.history.events import WedgeNoticed
from harness.judge import words
from harness.judge.case import Case
from harness.judge.engine import NOTICED_AFTER, judged_window
from harness.judge.verdict import Finding, Outcome

KIND = "wedge"


def nothing_wedged(case: Case) -> tuple[Finding, ...]:
    """The evidence that is missing where something wedged; none where nothing did, as always but seldom."""
    judged = judged_window(case)
    wedges = case.history.of(WedgeNoticed)
    if judged is None or not (hit := [wedge for wedge in wedges if wedge.at - NOTICED_AFTER < judged.end]):
        return ()
    told = tuple(_told(case, wedge) for wedge in hit)
    why = told[0] + (f" (and {len(hit) - 1} more)" if len(hit) > 1 else "")
    advice = "run it again; see the log of what wedged for what became of it"
    return (Finding(KIND, KIND, "nothing wedged", Outcome.INCONCLUSIVE, why, why=why, advice=advice, details=told),)


def _told(case: Case, wedge: WedgeNoticed) -> str:
    return f"{wedge.what} wedged, noticed at {words.moment(case.since_load(wedge.at))}: {wedge.detail}"
