"""The judge while a run goes on: it lets a healthy system be hurt, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.history.events import ServiceExited
from harness.judge.case import Case
from harness.judge.evidence import baseline_healthy
from harness.judge.live import LiveJudge
from harness.judge.verdict import Outcome
from harness.runtime.ports import Watch
from tests.histories.building import BEGAN, Story, broken, tell

CLEAN_STORY = Story()
GONE = ServiceExited(BEGAN + 12.0, "postgres", "killed by signal 9")


def watched(story: Story, until: float = 25.0) -> LiveJudge:
    """A judge who has seen the story up to a moment, as it came."""
    history = tell(replace(story, cut_off=until + 0.001))
    live = LiveJudge(history.plan)
    watch: Watch = live
    for event in history.events:
        watch.see_event(event)
    for number in range(0, len(history.requests), 20):
        watch.see_requests(history.requests[number : number + 20])
    return live


def test_a_healthy_system_may_be_hurt():
    assert watched(CLEAN_STORY).halt_before_injection() is None


HALTS = [
    (CLEAN_STORY.with_damage(broken("*", 10.0, 20.0, share=0.2)), "surely more than 1 % of all requests failed"),
    (CLEAN_STORY.with_damage(broken("*", 10.0, 20.0, share=0.012)), "lies across the limit"),
    (replace(CLEAN_STORY, rate=1.0), "16 requests in the baseline, at least 30 are needed"),
    (replace(CLEAN_STORY, extra=(GONE,)), "postgres ended by itself before any fault (killed by signal 9)"),
]


@pytest.mark.parametrize(("story", "why"), HALTS)
def test_an_unhealthy_or_silent_system_is_not_hurt(story, why):
    reason = watched(story).halt_before_injection()

    assert reason is not None
    assert reason.startswith("the baseline was not healthy, so nothing was injected: ")
    assert why in reason


@pytest.mark.parametrize("story", [CLEAN_STORY, *(story for story, _ in HALTS)])
def test_the_judge_at_the_end_agrees_with_the_one_who_watched(story):
    halted = watched(story).halt_before_injection()
    at_the_end = baseline_healthy(Case(tell(story)))

    assert (halted is None) == (at_the_end.outcome is Outcome.PASSED)


def test_before_anything_was_seen_nothing_may_be_injected():
    live = LiveJudge(tell(CLEAN_STORY).plan)

    assert live.halt_before_injection() is not None
