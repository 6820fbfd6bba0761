"""A proxy engine that did not stand damages whatever was measured meanwhile: nothing passes, and nothing fails."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from harness.history.events import EngineRestarted
from harness.judge.judge import judge
from harness.judge.verdict import Outcome, Verdict
from tests.histories.building import BEGAN, Story, broken, expectation, steady, tell

PASSING = Story()
FAILING = PASSING.with_damage(broken("browse", share=0.3))
NOTHING_INJECTED = Story(faults=(), damage=(), expect=(expectation("error_rate", max="1%"),))


def restarted(story: Story, at: float, seconds: float = 1.4) -> Story:
    event = EngineRestarted(BEGAN + at, "it did not answer within 5 s", seconds)
    return replace(story, extra=(*story.extra, event))


@cache
def judged(story: Story) -> Verdict:
    return judge(tell(story))


@pytest.mark.parametrize("at", [16.0, 24.0, 31.0, 50.0, 64.9, 75.0])
@pytest.mark.parametrize("story", [PASSING, FAILING, NOTHING_INJECTED], ids=["passing", "failing", "without faults"])
def test_a_run_whose_engine_was_restarted_from_the_baseline_on_decides_nothing(story: Story, at: float) -> None:
    verdict = judged(restarted(story, at))

    assert (verdict.word, verdict.exit_code) == ("inconclusive", 3)
    assert {finding.outcome for finding in verdict.expectations} == {Outcome.INCONCLUSIVE}
    assert verdict.evidence[0].kind == "engine"
    assert f"othing can be concluded: the proxy engine had to be started again at {at:.1f} s" in verdict.sentence


def test_an_engine_that_was_gone_for_good_decides_nothing_from_then_on() -> None:
    def gone(at: float) -> Verdict:
        reason = "the proxy engine failed a second time: it did not answer"
        return judged(replace(PASSING, extra=(EngineRestarted(BEGAN + at, reason, 0.1, back=False),)))

    assert [gone(at).word for at in (2.0, 31.0, 75.0)] == ["inconclusive"] * 3
    assert gone(31.0).evidence[0].why == (
        "the proxy engine was gone for good at 31.0 s, while outage-1 was to be on: "
        "the proxy engine failed a second time: it did not answer"
    )


def test_the_same_runs_without_a_restart_are_decided() -> None:
    assert [judged(story).word for story in (PASSING, FAILING, NOTHING_INJECTED)] == ["passed", "failed", "passed"]


def test_a_restart_that_was_over_before_the_baseline_damages_nothing() -> None:
    assert judged(restarted(PASSING, 2.0)).word == "passed"
    assert judged(restarted(PASSING, 2.0, seconds=4.0)).word == "inconclusive"


def test_an_engine_that_was_gone_before_it_was_noticed_damages_what_came_before() -> None:
    without_drain = replace(
        PASSING, phases=PASSING.phases.model_copy(update={"drain": 0.0}), expect=(expectation("recovery", within="10s"),)
    )

    assert judged(restarted(without_drain, 69.0)).word == "inconclusive"
    assert judged(restarted(without_drain, 71.0)).word == "passed"


def test_the_reason_names_the_fault_that_was_to_be_on_and_how_often_it_happened() -> None:
    found = judged(restarted(restarted(PASSING, 31.0), 33.0)).evidence[0]

    assert found.why == (
        "the proxy engine had to be started again at 31.0 s, while outage-1 was to be on: "
        "it did not answer within 5 s (it took 1.4 s) (and 1 more time)"
    )
    assert len(found.details) == 2


def test_an_expectation_of_the_baseline_alone_rests_on_the_engine_too() -> None:
    story = replace(
        PASSING.with_damage(broken("*", 6.0, 24.0, share=0.5)),
        expect=(expectation("error_rate", max="1%", during="baseline"),),
        steady_state=(steady(max="100%"),),
    )

    assert judged(story).word == "failed"
    assert judged(restarted(story, 10.0)).word == "inconclusive"
