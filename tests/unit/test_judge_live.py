"""The judge while a run goes on: it lets a healthy system be hurt, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.history.events import EdgeSeen, MachineSeen, PhaseBegan, ServiceExited
from harness.judge import live as live_judge
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


def test_of_the_requests_only_those_of_the_baseline_are_kept_and_only_until_it_was_asked():
    told, live = tell(replace(CLEAN_STORY, cut_off=44.001)), watched(CLEAN_STORY, until=44.0)
    begin = told.phases["baseline"].begin
    assert [request.due for request in live.so_far.requests] == [due for due in told.requests.due if due >= begin]

    live.halt_before_injection()
    live.see_requests(tell(CLEAN_STORY).requests[3000:4000])

    assert len(live.so_far.requests) == 0


def test_the_baseline_of_a_later_round_is_judged_by_its_own_requests():
    history = tell(CLEAN_STORY.with_damage(broken("*", 50.0, 60.0)))
    live = watched(CLEAN_STORY)
    assert live.halt_before_injection() is None

    live.see_event(PhaseBegan(BEGAN + 46.0, "baseline"))
    live.see_requests(history.requests)

    assert min(request.due for request in live.so_far.requests) >= BEGAN + 46.0


def test_what_the_proxies_count_every_second_is_not_kept():
    live = watched(CLEAN_STORY)

    assert not live.so_far.of(EdgeSeen)
    assert live.so_far.of(MachineSeen)


def lengthening(monkeypatch, most, rate):
    """A judge of a run whose windows may be lengthened, who keeps so many requests at most, at the end of its recovery."""
    monkeypatch.setattr(live_judge, "MOST_KEPT", most)
    history = tell(replace(CLEAN_STORY, rate=rate, cut_off=64.0))
    live = LiveJudge({**history.plan, "experiment": {**history.plan["experiment"], "extend": 30.0}})
    for event in history.events:
        live.see_event(event)
    for number in range(0, len(history.requests), 20):
        live.see_requests(history.requests[number : number + 20])
    return live


def test_where_windows_are_lengthened_all_is_kept_as_long_as_it_can_be_asked_of(monkeypatch):
    live = lengthening(monkeypatch, 10_000, rate=1.5)

    live.halt_before_injection()

    assert len(live.so_far.requests) > 1.5 * 58
    assert live.reason_to_lengthen("recovery", BEGAN + 65.0)


def test_where_there_is_too_much_to_ask_of_nothing_is_lengthened_and_the_baseline_is_still_asked_of(monkeypatch):
    live = lengthening(monkeypatch, 500, rate=20.0)

    assert live.reason_to_lengthen("recovery", BEGAN + 65.0) == ""
    assert live.halt_before_injection() is None
    assert len(live.so_far.requests) == 0
