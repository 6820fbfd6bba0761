"""What wedged damages whatever was measured meanwhile: nothing passes, and nothing fails."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from harness.history.events import Event, WedgeNoticed, event_from_data, event_to_data
from harness.judge.judge import judge
from harness.judge.verdict import Outcome, Verdict
from tests.histories.building import BEGAN, Story, broken, tell

PASSING = Story()
FAILING = PASSING.with_damage(broken("browse", share=0.3))


def wedged(story: Story, *at: float) -> Story:
    events: list[Event] = [WedgeNoticed(BEGAN + moment, "load", "it wrote nothing for 4 s; it was killed") for moment in at]
    return replace(story, extra=(*story.extra, *events))


@cache
def judged(story: Story) -> Verdict:
    return judge(tell(story))


@pytest.mark.parametrize("at", [12.0, 16.0, 31.0, 64.9, 75.0])
@pytest.mark.parametrize("story", [PASSING, FAILING], ids=["passing", "failing"])
def test_a_run_in_which_something_wedged_decides_nothing_and_says_what_and_when(story: Story, at: float) -> None:
    verdict = judged(wedged(story, at))

    assert (verdict.word, verdict.exit_code) == ("inconclusive", 3)
    assert {finding.outcome for finding in verdict.expectations} == {Outcome.INCONCLUSIVE}
    assert verdict.evidence[0].kind == "wedge"
    assert f"load wedged, noticed at {at:.1f} s: it wrote nothing for 4 s" in verdict.sentence


def test_every_wedge_is_told() -> None:
    found = judged(wedged(PASSING, 31.0, 40.0)).evidence[0]

    assert found.why.endswith("(and 1 more)")
    assert len(found.details) == 2


def test_the_same_runs_without_a_wedge_are_decided() -> None:
    assert [judged(story).word for story in (PASSING, FAILING)] == ["passed", "failed"]


def test_what_wedges_when_everything_was_measured_changes_nothing() -> None:
    assert judged(wedged(PASSING, 500.0)).word == "passed"


def test_a_wedge_is_read_back_as_it_was_written() -> None:
    event = WedgeNoticed(1.5, "back", "it stands still")

    assert event_from_data(event_to_data(event)) == event
