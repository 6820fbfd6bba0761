"""A counter that was read, and then could not be read any more, is no word against the marker, and none for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.history.events import CounterRead, Event
from harness.history.history import History
from harness.judge.case import Case
from harness.judge.judge import judge_expectation
from harness.judge.verdict import Finding, Outcome
from tests.histories.building import BEGAN, FALLBACK, Damage, Story, broken, fault, tell
from tests.unit.test_judge_expectations import CLEAN_STORY, DEFERRED, phases


def found(lost_after: float, story: Story = CLEAN_STORY) -> Finding:
    """The fallback of a run in which nobody answered for the counter after so many seconds."""

    def lost(event: Event) -> Event:
        if isinstance(event, CounterRead) and event.at > BEGAN + lost_after:
            return replace(event, value=None, detail="it did not answer within 1 s")
        return event

    history = tell(story)
    events = [lost(event) for event in history.events]
    return judge_expectation(Case(History(history.plan, events, history.requests, history.notes)), DEFERRED)


@pytest.mark.parametrize("after", [20.0, 30.0, 40.0])
def test_a_counter_that_was_lost_while_the_fallback_fired_decides_nothing(after: float) -> None:
    finding = found(after)

    assert finding.outcome is Outcome.INCONCLUSIVE
    assert "the counter of order could not be read any more after" in finding.why
    assert "it did not answer within 1 s" in finding.why


def test_late_readings_at_the_end_are_no_lost_counter_and_no_contradiction() -> None:
    finding = found(42.2)

    assert finding.outcome is Outcome.PASSED
    assert "of them by its last reading" in str(finding)


def test_a_counter_whose_last_reading_came_before_all_that_is_marked_is_no_witness() -> None:
    short = replace(
        CLEAN_STORY,
        phases=phases(fault="3s"),
        faults=(fault("outage", service="shipping", lasting="3s"),),
        damage=(Damage("place order", 25.05, 28.0, mark=FALLBACK), broken("track shipment", 25.0, 28.0)),
    )

    finding = found(24.6, short)

    assert finding.outcome is Outcome.INCONCLUSIVE
    assert "most was marked after the last reading that came" in finding.why


def test_a_counter_that_was_lost_when_nothing_fired_any_more_has_said_all() -> None:
    assert found(60.0).outcome is Outcome.PASSED
