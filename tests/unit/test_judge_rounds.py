"""Several rounds: compared together, proved one by one, and as good as the worst of their recoveries."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.history.events import LoadEnded, PhaseBegan, RunHalted, event_from_data
from harness.history.history import History, Window
from harness.judge.case import Case
from harness.judge.judge import judge
from harness.judge.verdict import Finding, Outcome, Verdict, verdict_to_json
from tests.histories.building import BEGAN, Damage, Story, broken, tell
from tests.histories.rounds import tell_rounds

CLEAN_STORY = Story()
BLIND = "order -> shipping"


def found(verdict: Verdict, kind: str) -> Finding:
    return next(one for one in (*verdict.evidence, *verdict.expectations) if one.kind == kind)


def test_rounds_that_are_each_as_they_should_be_pass():
    verdict = judge(tell_rounds(CLEAN_STORY, CLEAN_STORY, CLEAN_STORY))

    assert verdict.word == "passed"
    assert found(verdict, "met").seen.endswith(" (first of 3 rounds)")
    assert [line for line in found(verdict, "bit").details if line.startswith("round 3: ")]
    assert found(verdict, "recovery").seen.endswith(" (worst of 3 rounds)")


def test_a_phase_is_all_its_rounds_together_each_with_its_own_guards():
    case = Case(tell_rounds(CLEAN_STORY, CLEAN_STORY))

    assert case.judged("baseline") == Window(
        BEGAN + 7, BEGAN + 83, (Window(BEGAN + 7, BEGAN + 23), Window(BEGAN + 67, BEGAN + 83))
    )
    fault = case.judged("fault")
    assert fault is not None
    assert fault.seconds == pytest.approx(32.0)
    assert len(fault.parts) == 2


def test_each_round_is_a_history_of_its_own():
    case = Case(tell_rounds(CLEAN_STORY, CLEAN_STORY.with_damage(broken("browse"))))

    first, second = case.rounds
    assert [turn.history.phases["fault"].begin - BEGAN for turn in (first, second)] == [25.0, 85.0]
    assert first.history.requests.ok.sum() > second.history.requests.ok.sum()
    assert len(first.history.requests) + len(second.history.requests) == len(case.history.requests)
    assert {step["round"] for step in second.history.plan["steps"]} == {2}


def test_a_run_of_one_round_is_its_own_only_round():
    case = Case(tell(CLEAN_STORY))

    assert case.rounds == (case,)


UNPROVED = [
    ("set", replace(CLEAN_STORY, not_found=(BLIND, "gateway -> shipping"))),
    ("bit", replace(CLEAN_STORY, probes=((BLIND, "during", "answered", 0.002),))),
    ("met", replace(CLEAN_STORY, unused=(BLIND, "gateway -> shipping"))),
    ("healed", replace(CLEAN_STORY, not_healed=(BLIND,))),
    ("baseline", CLEAN_STORY.with_damage(broken("*", 5.0, 25.0, share=0.3))),
]


@pytest.mark.parametrize(("kind", "story"), UNPROVED)
def test_what_one_round_does_not_prove_is_not_proved_and_the_round_is_named(kind: str, story: Story):
    verdict = judge(tell_rounds(CLEAN_STORY, story, CLEAN_STORY))

    proof = found(verdict, kind)
    assert proof.outcome is Outcome.INCONCLUSIVE
    assert proof.why.startswith("round 2: ")
    assert verdict.word == "inconclusive"
    assert found(verdict, "blast_radius").outcome is Outcome.INCONCLUSIVE


def test_the_worst_recovery_counts():
    late = CLEAN_STORY.with_damage(broken("place order", 45.0, 59.0))

    recovery = found(judge(tell_rounds(CLEAN_STORY, late, CLEAN_STORY)), "recovery")

    assert recovery.outcome is Outcome.FAILED
    assert recovery.why.startswith("round 2: ")


def test_a_system_that_did_not_come_back_has_failed_whatever_became_of_the_next_round():
    never = CLEAN_STORY.with_damage(broken("place order", 45.0, 65.0))
    still = CLEAN_STORY.with_damage(broken("place order", 5.0, 25.0))

    verdict = judge(tell_rounds(never, still))

    assert found(verdict, "baseline").why.startswith("round 2: ")
    assert found(verdict, "recovery").outcome is Outcome.FAILED
    assert verdict.word == "failed"


def test_a_recovery_rests_on_the_load_of_its_own_round():
    never = CLEAN_STORY.with_damage(broken("place order", 45.0, 65.0))
    late_under_the_fault = CLEAN_STORY.with_damage(Damage("*", 26.0, 44.0, lag=0.3))
    late_afterwards = CLEAN_STORY.with_damage(Damage("*", 50.0, 60.0, lag=0.3))

    def of(*stories: Story) -> Outcome:
        return found(judge(tell_rounds(*stories)), "recovery").outcome

    assert of(never, late_under_the_fault) is Outcome.FAILED
    assert of(never, late_afterwards) is Outcome.FAILED
    assert of(CLEAN_STORY, late_under_the_fault) is Outcome.PASSED
    assert of(CLEAN_STORY, late_afterwards) is Outcome.INCONCLUSIVE


def test_a_hiccup_in_one_round_is_not_the_verdict():
    hiccup = CLEAN_STORY.with_damage(Damage("browse", 31.2, 32.4, later=0.4))

    alone = found(judge(tell(hiccup)), "blast_radius")
    among_others = found(judge(tell_rounds(*[CLEAN_STORY] * 5, hiccup)), "blast_radius")

    assert alone.outcome is not Outcome.PASSED
    assert among_others.outcome is Outcome.PASSED


def test_a_damage_in_every_round_is_the_verdict():
    damaged = CLEAN_STORY.with_damage(broken("browse", share=0.3))

    assert judge(tell_rounds(damaged, damaged)).word == "failed"


def test_a_run_that_was_cut_off_in_its_second_round_has_not_passed():
    history = tell_rounds(CLEAN_STORY, CLEAN_STORY)
    until = BEGAN + 64.9
    cut = History(
        history.plan,
        [event for event in history.events if event.at < until],
        [request for request in history.requests if request.end < until],
        history.notes,
    )

    verdict = judge(cut)

    assert verdict.word == "inconclusive"
    assert found(verdict, "met").why == "only 1 of 2 rounds was recorded"
    assert found(verdict, "recovery").outcome is Outcome.INCONCLUSIVE


def test_a_halt_before_the_faults_of_the_second_round_is_inconclusive_for_its_baseline():
    history = tell_rounds(CLEAN_STORY, CLEAN_STORY.with_damage(broken("*", 5.0, 25.0, share=0.3)))
    until = BEGAN + 84.9
    events = [event for event in history.events if event.at < until]
    halted = RunHalted(until, "the baseline was not healthy, so nothing was injected")
    cut = History(history.plan, [*events, halted], [one for one in history.requests if one.end < until], history.notes)

    verdict = judge(cut)

    assert verdict.word == "inconclusive"
    assert found(verdict, "baseline").why.startswith("round 2: ")
    assert "round 2" in verdict.sentence


def test_a_history_from_before_there_were_rounds_has_one():
    assert event_from_data({"event": "PhaseBegan", "at": 1.0, "phase": "fault"}) == PhaseBegan(1.0, "fault", 1)
    assert len(History({}, (), ()).rounds) == 1


def test_a_system_that_was_never_steady_makes_the_run_inconclusive_and_it_is_said_why():
    history = tell(CLEAN_STORY)
    why = "the system was not steady after 120 s of warm-up, so nothing was injected: the p95 of browse was from 9 ms to 1 s"
    events = [event for event in history.events if event.at < BEGAN + 4.9]
    cut = History(history.plan, [*events, RunHalted(BEGAN + 4.9, why), LoadEnded(BEGAN + 5.0, True)], (), history.notes)

    verdict = judge(cut)

    assert verdict.word == "inconclusive"
    assert found(verdict, "baseline").why == why
    assert why in verdict.sentence


@pytest.mark.parametrize("number", [1, 3])
def test_judging_again_is_judging_once(number: int):
    history = tell_rounds(*[CLEAN_STORY] * number) if number > 1 else tell(CLEAN_STORY)

    assert verdict_to_json(judge(history)) == verdict_to_json(judge(history))


DAMAGED = [
    CLEAN_STORY.with_damage(broken("browse", share=0.5)),
    CLEAN_STORY.with_damage(broken("place order", 45.0, 62.0)),
    replace(CLEAN_STORY, probes=((BLIND, "during", "answered", 0.002),)),
    CLEAN_STORY.with_damage(Damage("*", 27.0, 30.0, lag=0.5)),
]


@settings(max_examples=3)
@given(st.sampled_from(DAMAGED), st.integers(1, 3), st.data())
def test_it_does_not_matter_in_which_round_it_happens(damaged: Story, number: int, data: st.DataObject):
    """The worst of all rounds decides, wherever it stands among them."""
    places = data.draw(st.lists(st.integers(0, number), min_size=2, max_size=2, unique=True))

    def word(place: int) -> str:
        stories = [CLEAN_STORY] * number
        return judge(tell_rounds(*stories[:place], damaged, *stories[place:])).word

    first, second = map(word, places)

    assert first == second
    assert first != "passed"
