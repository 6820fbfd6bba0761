"""A machine that is busy with other things in one window alone blames nobody, and clears nobody."""

from __future__ import annotations

from dataclasses import replace

from harness.history.events import MachineSeen
from harness.history.history import History
from harness.judge.judge import judge
from harness.judge.verdict import Outcome, Verdict
from tests.histories.building import Damage, Story, tell


def busy_in(history: History, *phases: str) -> History:
    """The history on a machine of two cores of which others use nearly both in these phases."""
    windows = [history.phases[phase] for phase in phases]
    events = [
        replace(event, others=1.8 if any(window.begin <= event.at < window.end for window in windows) else 0.1, cores=2)
        if isinstance(event, MachineSeen)
        else event
        for event in history.events
    ]
    return History(history.plan, events, history.requests, history.notes)


def outcome(verdict: Verdict, kind: str) -> Outcome:
    return next(finding.outcome for finding in verdict.expectations if finding.kind == kind)


SLOW = Story().with_damage(Damage("browse", 25.0, 45.0, later=0.4))
BROKEN = Story().with_damage(Damage("browse", 25.0, 45.0, outcome="http_5xx"))


def test_what_was_slower_on_a_busier_machine_decides_nothing():
    assert outcome(judge(tell(SLOW)), "blast_radius") is Outcome.FAILED

    found = judge(busy_in(tell(SLOW), "fault"))

    finding = next(finding for finding in found.expectations if finding.kind == "blast_radius")
    assert finding.outcome is Outcome.INCONCLUSIVE
    assert "too much to be quick" in finding.why
    assert finding.details[0].startswith("measured as failed")


def test_what_failed_on_a_busier_machine_failed():
    assert outcome(judge(busy_in(tell(BROKEN), "fault")), "blast_radius") is Outcome.FAILED


def test_what_held_on_a_busier_machine_held():
    assert judge(busy_in(tell(Story()), "fault")).word == "passed"
    assert judge(busy_in(tell(Story()), "recovery")).word == "passed"


def test_what_held_against_a_baseline_on_a_busier_machine_decides_nothing():
    found = judge(busy_in(tell(Story()), "baseline"))

    assert outcome(found, "blast_radius") is Outcome.INCONCLUSIVE
    assert outcome(found, "recovery") is Outcome.INCONCLUSIVE
    assert outcome(found, "fallback") is Outcome.PASSED


def test_who_did_not_get_quick_again_on_a_busier_machine_is_not_accused():
    slow_after = tell(Story().with_damage(Damage("place order", 45.0, 65.0, later=0.4)))
    assert outcome(judge(slow_after), "recovery") is Outcome.FAILED

    assert outcome(judge(busy_in(slow_after, "recovery")), "recovery") is Outcome.INCONCLUSIVE


def test_on_a_machine_that_others_filled_all_the_time_nobody_is_accused_of_being_slow():
    found = judge(busy_in(tell(SLOW), "baseline", "fault", "recovery"))

    assert outcome(found, "blast_radius") is Outcome.INCONCLUSIVE
    assert outcome(judge(busy_in(tell(BROKEN), "baseline", "fault", "recovery")), "blast_radius") is Outcome.FAILED
