"""Known failures: an expectation that does not hold yet does not fail the run, until its day has passed or it holds again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from harness.history.events import RunBegan
from harness.history.history import History
from harness.judge.verdict import Finding, Outcome
from harness.model.expectations import Known


def day_of(history: History) -> date:
    """The day of the run in UTC: judged in another year, a run comes out the same."""
    began = next((event.at for event in history.of(RunBegan)), history.began)
    return datetime.fromtimestamp(began, UTC).date()


def laid_over(found: Finding, known: Known | None, day: date) -> Finding:
    """The finding as it counts where it is known not to hold. One that decides nothing stays so, and names the ticket."""
    if known is None:
        return found
    told = f"known as {known.ticket} until {known.until.isoformat()}"
    if day > known.until:
        told += ", which has passed: take it out of known"
    if found.outcome is Outcome.INCONCLUSIVE:
        return replace(found, why=f"{found.why or found.seen} ({told})")
    if day > known.until:
        return replace(found, details=(told, *found.details))
    if found.outcome is Outcome.FAILED:
        return replace(found, known=known.ticket, details=(told, *found.details))
    why = f"passes again, although it is known not to ({known.ticket})"
    advice = f"take {known.expect} out of known, so that it is noticed when it fails"
    return replace(found, outcome=Outcome.FAILED, why=why, advice=advice, details=(told, *found.details))
