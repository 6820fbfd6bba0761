"""Recovery as a time: when the damage could be seen, when it was over, what it cost, and in which of three words."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from harness.history.history import History
from harness.history.table import COLUMNS, Requests
from harness.judge.case import Case
from harness.judge.expectations.recovery import judge_recovery
from harness.judge.judge import judge
from harness.judge.usual import Usual
from harness.judge.verdict import Comeback, Finding, Outcome, verdict_to_json
from harness.model.expectations import Recovery
from tests.histories.building import BEGAN, Damage, Story, broken, expectation, tell

RECOVERY = expectation("recovery", within="10s", hold="5s")


def story(*damage: Damage) -> Story:
    return replace(Story(expect=(RECOVERY,)), damage=damage)


def judged(told: Story, **words: str) -> Finding:
    return judge_recovery("recovery-1", Recovery.model_validate({"within": "10s", **words}), Case(tell(told)))


def comeback(told: Story) -> Comeback:
    found = judged(told).comeback
    assert found is not None
    return found


def test_a_system_that_was_never_worse_recovered_at_once_and_spent_nothing():
    found = comeback(story())

    assert (found.word, found.detected, found.recovered, found.errors) == ("recovered", None, 0.0, 0)
    assert found.requests == pytest.approx(80.0 * 20.0, abs=10.0)


@pytest.mark.parametrize("begins", [25.0, 27.0, 33.3])
def test_detected_is_when_the_first_two_bad_seconds_are_over(begins):
    found = comeback(story(broken("browse", begins, 45.0)))

    assert found.detected == pytest.approx(begins - 25.0 + 2.0, abs=2.0)
    assert found.detected is not None
    assert found.detected >= begins - 25.0


def test_errors_spent_are_counted_from_the_fault_to_the_recovery_and_no_longer():
    told = story(broken("browse", 25.0, 48.0), broken("read order", 60.0, 62.0, share=0.02), broken("browse", 10.0, 11.0))

    found = comeback(told)

    failed = [request for request in tell(told).requests if not request.ok and BEGAN + 25.0 <= request.due < BEGAN + 48.0]
    assert len(failed) - 1 <= found.errors <= len(failed)
    assert found.requests == pytest.approx(80.0 * 23.0, abs=80.0)


WORDS = [
    (story(broken("browse", 25.0, 48.0)), "recovered", Outcome.PASSED, "recovered 2.98 s after healing"),
    (story(broken("browse", 25.0, 55.5)), "late", Outcome.FAILED, "late: 10.5"),
    (story(broken("browse", 25.0, 58.0)), "late", Outcome.FAILED, "late: 13"),
    (story(broken("browse", 25.0, 66.0)), "never", Outcome.FAILED, "never: the load went on, the fault was gone"),
    (story(broken("browse", 25.0, 66.0, share=0.4)), "never", Outcome.FAILED, "never: "),
    (story(Damage("browse", 25.0, 66.0, later=0.3)), "never", Outcome.FAILED, "never: "),
    (story(broken("browse", 25.0, 46.0), broken("browse", 54.0, 66.0)), "never", Outcome.FAILED, "requests failed"),
    (story(broken("browse", 25.0, 46.0), broken("browse", 54.0, 58.0)), "late", Outcome.FAILED, "requests failed"),
]


@pytest.mark.parametrize(("told", "word", "outcome", "seen"), WORDS, ids=[f"{word}: {seen}" for _, word, _, seen in WORDS])
def test_a_system_recovers_or_is_late_or_never_comes_back(told, word, outcome, seen):
    found = judged(told)

    assert found.comeback is not None
    assert (found.comeback.word, found.outcome) == (word, outcome)
    assert seen in found.seen
    assert (found.comeback.recovered is None) == (word == "never")
    assert [line.split(":")[0] for line in found.details[-2:]] == ["detected", "errors spent"]


@pytest.mark.parametrize(
    ("damage", "by"),
    [
        ((), "nothing"),
        ((broken("browse", 25.0, 48.0),), "errors"),
        ((Damage("browse", 25.0, 48.0, later=0.3),), "latency"),
        ((Damage("browse", 25.0, 66.0, later=0.3),), "latency"),
        ((broken("browse", 25.0, 66.0),), "errors"),
        ((broken("browse", 25.0, 58.0),), "errors"),
        ((broken("browse", 25.0, 46.0), Damage("browse", 54.0, 66.0, later=0.3)), "latency"),
        ((broken("browse", 25.0, 46.0), broken("browse", 47.0, 65.0, share=0.09)), "errors"),
    ],
)
def test_what_was_worse_last_is_told(damage, by):
    assert comeback(story(*damage)).by == by


def test_single_requests_that_fail_after_a_very_short_limit_are_late_too():
    """No two seconds are surely worse for a single request, and yet all was not well at once."""
    found = judged(story(*(broken("track shipment", 45.0 + at, 45.1 + at) for at in (0.1, 0.5, 0.9, 1.3))), within="0.1s")

    assert found.outcome is Outcome.FAILED
    assert found.comeback is not None
    assert (found.comeback.word, found.comeback.by) == ("late", "nothing")
    assert "last was single requests that failed" in found.why


def test_a_metastable_system_is_called_so():
    """The fault is healed, requests go on coming and failing: nothing but the system itself keeps it down."""
    found = judged(story(broken("browse", 25.0, 66.0)))

    assert found.why.endswith("the load went on, the fault was gone, and the system did not come back (metastable)")


def test_where_it_cannot_be_told_there_is_no_word():
    short = replace(story(broken("browse", 25.0, 51.0)), phases=Story().phases.model_copy(update={"recovery": 12.0}))

    assert judged(short).outcome is Outcome.INCONCLUSIVE
    assert judged(short).comeback is None


def test_the_word_and_its_figures_stand_in_the_verdict_and_the_sentence():
    late = judge(tell(story(broken("browse", 25.0, 55.5))))

    written = json.loads(verdict_to_json(late))["expectations"][0]["comeback"]
    assert written["word"] == "late"
    assert written["recovered"] == pytest.approx(10.5, abs=0.1)
    assert written["errors"] > 0
    assert "it took 10.5 s" in late.sentence
    assert judge(tell(story(broken("browse", 25.0, 48.0)))).sentence == "All was well again 2.98 s after healing."


@pytest.mark.parametrize("seed", [12, 16, 42, 48, 54])
def test_of_many_stretches_of_an_unchanged_system_none_is_worse_by_chance(seed):
    """Each of these has two seconds in which one journey alone, looked at by itself, fails more often than is usual."""
    usual = Damage("*", 0.0, 99.0, share=0.01, outcome="http_5xx")
    phases = Story().phases.model_copy(update={"baseline": 40.0, "recovery": 40.0})

    found = judged(replace(story(usual), seed=seed, rate=20.0, phases=phases), within="5s", hold="10s")

    assert found.outcome is Outcome.PASSED
    assert found.comeback is not None
    assert found.comeback.word == "recovered"


def test_as_points_what_was_observed_decides():
    """Two requests of sixteen that failed are not surely more than 5 points; they are more."""
    few = replace(story(broken("browse", 45.0, 52.0, share=0.15)), rate=20.0)

    as_interval, as_point = judged(few).comeback, judged(few, method="point").comeback

    assert as_interval is not None
    assert as_point is not None
    assert as_interval.recovered is not None
    assert as_point.recovered is not None
    assert as_interval.recovered < as_point.recovered
    assert judged(few, method="point").limit == "within 10 s (point)"


@pytest.mark.parametrize("method", ["interval", "point"])
@pytest.mark.parametrize(
    "damage",
    [broken("*", 30.0, 34.0, share=0.3), Damage("*", 30.0, 34.0, 0.2, later=0.3), Damage("*", 31.0, 32.0, slower=30.0)],
    ids=["errors", "p95", "p50"],
)
def test_stretches_counted_along_the_columns_are_those_judged_one_by_one(damage, method):
    case = Case(tell(story(damage)))
    baseline = case.judged("baseline")
    assert baseline is not None
    begins = np.arange(BEGAN + 26.0, BEGAN + 40.0, 0.5)
    found = 0
    for journey, group in case.groups(baseline).items():
        was = Usual(case, group, case.experiment.margins, method)
        all_of_it = case.history.requests.at(case.history.requests.of(lambda name, own=journey: case.plain(name) == own))

        at_once = was.troubled(all_of_it, begins, 2.0)

        one_by_one = [bool(was.trouble(all_of_it.between([(begin, begin + 2.0)]))[0]) for begin in begins]
        assert at_once.tolist() == one_by_one
        found += sum(one_by_one)
    assert found > 0


def repeated(requests: Requests, times: int, seconds: float) -> Requests:
    """The same requests again and again, each time so many seconds later."""
    shifts = np.repeat(np.arange(times) * seconds, len(requests))
    again = requests.at(np.tile(np.arange(len(requests)), times))
    return replace(again, due=again.due + shifts, start=again.start + shifts, end=again.end + shifts)


def test_an_hour_of_recovery_is_judged_in_seconds():
    """7,200 stretches of 400 requests a second, with damage to its end: the judge looks at sums, not at stretches."""
    usual = tell(replace(story(), rate=400.0))
    before = usual.requests.between([(0.0, BEGAN + 46.0)])
    after = repeated(usual.requests.between([(BEGAN + 46.0, BEGAN + 56.0)]), 360, 10.0)
    columns = {name: np.concatenate([getattr(before, name), getattr(after, name)]) for name in COLUMNS}
    hour = replace(before, **columns)
    until = BEGAN + 46.0 + 3600.0
    events = [
        replace(event, at=until) if type(event).__name__ == "PhaseEnded" and event.phase == "recovery" else event  # type: ignore[union-attr]
        for event in usual.events
    ]
    case = Case(History(usual.plan, events, hour, usual.notes))

    began = time.process_time()
    found = judge_recovery("recovery-1", RECOVERY.recovery, case)  # type: ignore[arg-type]

    assert found.outcome is Outcome.PASSED
    assert len(hour) > 1_440_000
    assert time.process_time() - began < 5.0
