"""Every expectation: a history on which it passes, one on which it fails, one that decides nothing, and silence."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from harness.history.events import EdgeSeen, InvariantAsked
from harness.history.history import History
from harness.judge.case import Case
from harness.judge.judge import judge_expectation
from harness.judge.verdict import Finding, Outcome
from harness.model.load import Phases
from tests.histories.building import (
    BEGAN,
    EXPECTED,
    FALLBACK,
    SHIPPING_AWAY,
    Damage,
    Story,
    broken,
    expectation,
    fault,
    tell,
)

PASSED, INCONCLUSIVE, FAILED = Outcome.PASSED, Outcome.INCONCLUSIVE, Outcome.FAILED
CLEAN_STORY = Story()
BLAST, DEFERRED, RECOVERY, INVARIANT = EXPECTED


@cache
def case(story: Story) -> Case:
    return Case(tell(story))


def judged(story: Story, item: Any) -> Finding:
    return judge_expectation(case(story), item)


def quiet(**changes: Any) -> Story:
    """A story that hurts nobody, with this damage to it."""
    return replace(CLEAN_STORY, damage=(), **changes)


def phases(**seconds: str) -> Phases:
    return Phases.model_validate(
        {"warmup": "5s", "baseline": "20s", "fault": "20s", "recovery": "20s", "drain": "15s", **seconds}
    )


ERRORS = expectation("error_rate", max="1%")
ORDERS = expectation("error_rate", max="5%", journey="place order", during="outage-1")
EACH = expectation("error_rate", max="3%", journey="each")
QUICK = expectation("response_time", journey="browse", p95={"max": "50ms"})
SLOW = expectation("response_time", journey="browse", p50={"min": "100ms"})
CONTROLLED = expectation("response_time", during="baseline", p50={"max": "100ms"}, p99={"max": "1s"})
STRICT = expectation("blast_radius", worse_by={"error_rate": "5%", "p50": "50%", "p95": "100%"})

OUTCOMES = [
    # error_rate
    (ERRORS, quiet(), PASSED, "0.0 % of 1280 requests failed"),
    (ERRORS, quiet().with_damage(broken("browse", share=0.2)), FAILED, "surely more than 1 % of all requests failed"),
    (ERRORS, quiet().with_damage(broken("browse", share=0.02)), INCONCLUSIVE, "lies across the limit"),
    (ERRORS, quiet().with_damage(broken("*", share=0.05, outcome="dropped")), FAILED, "dropped"),
    (ERRORS, quiet().with_damage(broken("*", share=0.05, outcome="unfinished")), FAILED, "unfinished"),
    (ORDERS, CLEAN_STORY, PASSED, "requests failed"),
    (ORDERS, quiet().with_damage(broken("place order")), FAILED, "http_5xx"),
    (ORDERS, quiet().with_damage(broken("place order", share=0.04)), INCONCLUSIVE, "lies across the limit"),
    (ORDERS, replace(quiet(), withheld=True, never_begun=("x",), faults=()), INCONCLUSIVE, "no window outage-1 was recorded"),
    (EACH, quiet(), PASSED, "requests failed"),
    (EACH, quiet().with_damage(broken("track shipment", share=0.5)), FAILED, "surely more than 3 % of track shipment failed"),
    (EACH, quiet(rate=20.0), INCONCLUSIVE, "the interval of track shipment lies across the limit"),
    (EACH, quiet(weights=(("browse", 1.0),)), INCONCLUSIVE, "0 requests of place order in fault, at least 30 are needed"),
    # response_time
    (QUICK, quiet(), PASSED, "browse p95"),
    (QUICK, quiet().with_damage(Damage("browse", 25.0, 45.0, later=0.2)), FAILED, "browse p95 is surely outside its limit"),
    (QUICK, quiet().with_damage(Damage("browse", 25.0, 45.0, 0.05, later=0.2)), INCONCLUSIVE, "the interval of browse p95"),
    (QUICK, quiet().with_damage(broken("browse", share=0.2, outcome="unfinished")), FAILED, "browse p95"),
    (QUICK, quiet(rate=5.0), INCONCLUSIVE, "at least 72 are needed"),
    (QUICK, quiet(weights=(("place order", 1.0),)), INCONCLUSIVE, "0 requests in fault, at least 72 are needed"),
    (SLOW, quiet().with_damage(Damage("browse", 25.0, 45.0, later=0.2)), PASSED, "browse p50"),
    (SLOW, quiet(), FAILED, "browse p50 is surely outside its limit"),
    (CONTROLLED, quiet(), PASSED, "of 1280 requests"),
    # blast_radius
    (BLAST, CLEAN_STORY, PASSED, "worst: "),
    (BLAST, CLEAN_STORY.with_damage(broken("browse", share=0.2)), FAILED, "browse fails more often than in the baseline"),
    (BLAST, CLEAN_STORY.with_damage(broken("place order", share=0.2)), FAILED, "place order fails more often"),
    (
        BLAST,
        CLEAN_STORY.with_damage(broken("browse", share=0.05)),
        INCONCLUSIVE,
        "cannot show that errors rose by at most 5 points",
    ),
    (
        BLAST,
        CLEAN_STORY.with_damage(Damage("browse", 25.0, 45.0, later=0.3)),
        FAILED,
        "browse p50 went from 9 ms to 0.31 s, surely more than ×1.5 or +50 ms",
    ),
    (BLAST, CLEAN_STORY.with_damage(Damage("place order", 25.0, 45.0, later=3.0)), PASSED, "worst: "),
    (BLAST, CLEAN_STORY.with_damage(Damage("browse", 25.0, 45.0, slower=3.0)), PASSED, "worst: browse p95 ×3.0 (+32 ms)"),
    (STRICT, quiet().with_damage(Damage("browse", 25.0, 45.0, slower=3.0)), FAILED, "surely more than ×"),
    (STRICT, quiet().with_damage(Damage("browse", 25.0, 45.0, slower=2.0)), FAILED, "browse p50 went from"),
    (STRICT, quiet().with_damage(Damage("browse", 25.0, 45.0, slower=1.5)), INCONCLUSIVE, "of browse lies across the limit"),
    (BLAST, replace(CLEAN_STORY, rate=20.0), INCONCLUSIVE, "requests of read order"),
    (
        BLAST,
        CLEAN_STORY.with_damage(broken("browse", outcome="dropped")),
        INCONCLUSIVE,
        "browse was not tried any more under the fault",
    ),
    (BLAST, CLEAN_STORY.with_damage(broken("browse", share=0.7, outcome="dropped")), INCONCLUSIVE, "its volume was lost"),
    (BLAST, replace(CLEAN_STORY, weights=(("browse", 1.0),)), INCONCLUSIVE, "place order was never tried in the baseline"),
    (BLAST, replace(CLEAN_STORY, phases=phases(fault="4s")), INCONCLUSIVE, "no fault phase longer than its guards"),
    # fallback
    (DEFERRED, CLEAN_STORY, PASSED, "99.2 % of 486 requests [97.9, 99.7]"),
    (DEFERRED, quiet(), FAILED, "488 of 488 requests of place order were not answered by it"),
    (
        DEFERRED,
        quiet().with_damage(Damage("place order", 25.0, 45.0, 0.9, mark=FALLBACK)),
        INCONCLUSIVE,
        "lies across the limit",
    ),
    (
        DEFERRED,
        CLEAN_STORY.with_damage(Damage("place order", 6.0, 25.0, 0.05, mark=FALLBACK)),
        FAILED,
        "it fired without a fault",
    ),
    (DEFERRED, CLEAN_STORY.with_damage(Damage("place order", 6.0, 25.0, 0.005, mark=FALLBACK)), INCONCLUSIVE, "too few to say"),
    (DEFERRED, CLEAN_STORY.with_damage(Damage("place order", 45.0, 52.0, mark=FALLBACK)), FAILED, "a sticky fallback"),
    (DEFERRED, CLEAN_STORY.with_damage(Damage("place order", 45.0, 46.9, mark=FALLBACK)), PASSED, "99.2 %"),
    (DEFERRED, replace(CLEAN_STORY, counted=0.0), FAILED, "marker and counter disagree: order counted 0, 489 answers bore"),
    (DEFERRED, replace(CLEAN_STORY, counted=2.0), FAILED, "marker and counter disagree"),
    (DEFERRED, replace(CLEAN_STORY, counted=0.95), PASSED, "99.2 %"),
    (DEFERRED, replace(CLEAN_STORY, counted=None), PASSED, "99.2 %"),
    (DEFERRED, replace(CLEAN_STORY, leaking=("order -> shipping",)), FAILED, "a lying fallback: 4"),
    (DEFERRED, replace(CLEAN_STORY, weights=(("browse", 1.0),)), INCONCLUSIVE, "0 requests of place order met the fault"),
    (DEFERRED, replace(CLEAN_STORY, phases=phases(recovery="3s")), INCONCLUSIVE, "0 requests in the recovery"),
    (DEFERRED, replace(CLEAN_STORY, faults=()), INCONCLUSIVE, "nothing was injected under which it could have fired"),
    # recovery
    (RECOVERY, CLEAN_STORY, PASSED, "0.06 s after healing"),
    (RECOVERY, CLEAN_STORY.with_damage(broken("browse", 45.0, 58.0)), FAILED, "12.5 s after healing still browse"),
    (RECOVERY, CLEAN_STORY.with_damage(broken("browse", 45.0, 55.5)), FAILED, "it took 10.5 s; last was browse"),
    (RECOVERY, CLEAN_STORY.with_damage(broken("browse", 45.0, 70.0)), FAILED, "15.5 s after healing still browse"),
    (RECOVERY, CLEAN_STORY.with_damage(broken("browse", 45.0, 70.0, share=0.4)), FAILED, "after healing still browse"),
    (RECOVERY, CLEAN_STORY.with_damage(Damage("browse", 45.0, 70.0, later=0.2)), FAILED, "still browse: p50"),
    (RECOVERY, CLEAN_STORY.with_damage(Damage("browse", 45.0, 70.0, 0.3, later=0.3)), FAILED, "still browse: p95"),
    (
        RECOVERY,
        CLEAN_STORY.with_damage(broken("browse", 45.0, 70.0, share=0.065)),
        INCONCLUSIVE,
        "too few to say whether that is usual",
    ),
    (RECOVERY, CLEAN_STORY.with_damage(broken("browse", 55.0, 62.0)), FAILED, "browse did not stay as it was"),
    (
        RECOVERY,
        replace(CLEAN_STORY, phases=phases(recovery="12s")).with_damage(broken("browse", 45.0, 51.0)),
        INCONCLUSIVE,
        "ended before",
    ),
    (RECOVERY, replace(CLEAN_STORY, phases=phases(recovery="4s")), INCONCLUSIVE, "no recovery phase longer than its guards"),
    (RECOVERY, replace(CLEAN_STORY, rate=8.0), INCONCLUSIVE, "9 requests of track shipment in the baseline, at least 20"),
    (RECOVERY, replace(CLEAN_STORY, faults=()), INCONCLUSIVE, "nothing was injected, so there was nothing to recover from"),
    (
        RECOVERY,
        CLEAN_STORY.with_damage(broken("browse", 45.0, 65.0, outcome="dropped")),
        INCONCLUSIVE,
        "0 requests of browse afterwards",
    ),
    # invariant
    (INVARIANT, CLEAN_STORY, PASSED, "held 1.50 s after the load, over 480 rows"),
    (
        INVARIANT,
        replace(CLEAN_STORY, asked=((0.5, 37.0, 480),)),
        FAILED,
        "37 among 480 rows, still 7.00 s after the load was off",
    ),
    (INVARIANT, replace(CLEAN_STORY, asked=((0.5, 0.0, 480), (14.0, 2.0, 480))), FAILED, "2 among 480 rows"),
    (INVARIANT, replace(CLEAN_STORY, asked=((0.5, 0.0, 38),)), INCONCLUSIVE, "38 rows looked at, at least 50 are needed"),
    (INVARIANT, replace(CLEAN_STORY, asked=((0.5, 0.0, None),)), INCONCLUSIVE, "does not say how many rows"),
    (INVARIANT, replace(CLEAN_STORY, asked=((0.5, 3.0, 480), (12.0, 0.0, 480))), INCONCLUSIVE, "seen for 2.50 s"),
    (INVARIANT, replace(CLEAN_STORY, asked=((0.5, None, None),)), INCONCLUSIVE, "could not be asked: it was never asked"),
    (INVARIANT, replace(CLEAN_STORY, asked=()), INCONCLUSIVE, "could not be asked"),
    (INVARIANT, replace(CLEAN_STORY, phases=phases(drain="0s")), INCONCLUSIVE, "no drain was recorded"),
    (
        expectation("invariant", name="every paid order is shipped or refunded", within="1s"),
        CLEAN_STORY,
        FAILED,
        "not within 1 s",
    ),
]


@pytest.mark.parametrize(
    ("item", "story", "outcome", "told"), OUTCOMES, ids=[f"{i.kind}: {told}" for i, _, _, told in OUTCOMES]
)
def test_an_expectation_comes_out_as_the_history_says(item, story, outcome, told):
    found = judged(story, item)

    assert found.outcome is outcome, (found.seen, found.why)
    assert told in f"{found.seen} | {found.why}"
    assert (found.why == "") == (outcome is PASSED)


@pytest.mark.parametrize("kind", ["error_rate", "response_time", "blast_radius", "fallback", "recovery", "invariant"])
def test_of_each_kind_some_history_passes_some_fails_and_some_decides_nothing(kind):
    assert {outcome for item, _, outcome, _ in OUTCOMES if item.kind == kind} == set(Outcome)


def test_the_blast_radius_tells_every_journey_and_judges_those_that_may_fail_not_at_all():
    found = judged(CLEAN_STORY, BLAST)

    assert found.title == "blast radius stays with place order, track shipment"
    assert [line.split(":")[0] for line in found.details] == ["browse", "place order", "read order", "track shipment"]
    assert found.details[1] == "place order: errors +0.0 points (it may degrade)"
    assert found.details[3] == "track shipment: errors +100.0 points (it may fail)"


def test_a_request_that_nobody_named_is_a_journey_under_its_own_name():
    story = quiet(weights=(*CLEAN_STORY.weights, ("POST /login", 0.2))).with_damage(broken("POST /login"))

    assert "POST /login fails more often" in judged(story, BLAST).why


def test_a_latency_margin_holds_where_either_of_its_parts_does():
    three_times = Damage("browse", 25.0, 45.0, slower=3.0)

    assert judged(quiet().with_damage(three_times), BLAST).outcome is PASSED
    assert judged(quiet().with_damage(three_times), STRICT).outcome is FAILED


def test_the_measure_that_is_shown_lies_where_the_finding_says():
    three_times = judged(quiet().with_damage(Damage("browse", 25.0, 45.0, slower=3.0)), BLAST).measure
    errors = judged(quiet().with_damage(broken("browse", share=0.2)), BLAST).measure

    assert three_times is not None
    assert (three_times.unit, three_times.limit) == ("seconds", 0.1)
    assert three_times.high is not None
    assert three_times.high <= 0.1
    assert errors is not None
    assert (errors.unit, errors.limit, errors.bound) == ("points", 0.05, "max")
    assert errors.low is not None
    assert errors.low > 0.05


def test_a_finding_that_failed_names_requests_with_their_traces():
    found = judged(CLEAN_STORY.with_damage(broken("browse", share=0.2)), BLAST)

    named = [line for line in found.details if ", trace 0000" in line]
    assert len(named) == 5
    assert all("browse, http_5xx 503 after 0.0" in line for line in named)


def test_advice_says_how_much_more_is_needed():
    story = replace(CLEAN_STORY, asked=((0.5, 0.0, 38),))

    assert judged(story, INVARIANT).advice == "raise load.rate to 106/s, or phases.fault to 26s"


@pytest.mark.parametrize("ends", [0.3, 1.0, 2.7, 4.4, 6.9, 9.3])
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("journey", ["browse", "track shipment"])
def test_a_slow_recovery_is_timed_to_a_second(journey, share, ends):
    found = judged(CLEAN_STORY.with_damage(broken(journey, 45.0, 45.0 + ends, share=share)), RECOVERY)

    assert found.measure is not None
    assert found.measure.observed == pytest.approx(ends, abs=1.0)
    assert found.outcome is PASSED


def test_a_slow_recovery_of_the_latency_alone_is_timed_to_a_second():
    found = judged(CLEAN_STORY.with_damage(Damage("browse", 45.0, 51.0, later=0.4)), RECOVERY)

    assert found.measure is not None
    assert found.measure.observed == pytest.approx(6.0, abs=1.0)


def test_a_relapse_within_the_hold_begins_the_clock_again():
    relapse = CLEAN_STORY.with_damage(broken("browse", 45.0, 47.0), broken("browse", 50.0, 52.0))

    found = judged(relapse, RECOVERY)

    assert found.measure is not None
    assert found.measure.observed == pytest.approx(7.0, abs=1.0)


def test_requests_still_open_at_healing_say_nothing_about_the_fallback():
    """Of those due in the last two seconds the answer came after healing, and was a real one."""
    freed = CLEAN_STORY.with_damage(Damage("place order", 43.0, 45.0, later=2.1))

    found = judged(freed, DEFERRED)

    assert found.outcome is PASSED
    assert found.source == "444 requests of place order"


def test_an_answer_that_bears_the_mark_and_fails_is_no_fallback():
    failing = replace(CLEAN_STORY, damage=(Damage("place order", 25.0, 45.0, outcome="http_5xx", mark=FALLBACK),))

    assert judged(failing, DEFERRED).outcome is FAILED


def test_marker_counter_and_wire_are_heard_and_two_must_agree():
    clean = judged(CLEAN_STORY, DEFERRED).details[3]
    unread = judged(replace(CLEAN_STORY, counted=None), DEFERRED).details[3]

    assert clean.startswith("witnesses: marker and counter and wire agree")
    assert unread.startswith("witnesses: marker and wire agree (the counter of order could not be read")


def test_the_marker_alone_decides_nothing():
    history = tell(replace(CLEAN_STORY, counted=None))
    silent = [replace(event, answers=None) if isinstance(event, EdgeSeen) else event for event in history.events]

    found = judge_expectation(Case(History(history.plan, silent, history.requests, history.notes)), DEFERRED)

    assert found.outcome is INCONCLUSIVE
    assert found.why.startswith("the marker alone says so")


def test_under_latency_late_answers_on_the_wire_do_not_make_a_fallback_a_liar():
    late = fault("latency", id="outage-1", edge="order -> shipping", latency="3s")
    story = replace(CLEAN_STORY, faults=(late,), damage=SHIPPING_AWAY[:1])

    found = judged(story, DEFERRED)

    assert found.outcome is PASSED
    assert "late answers pass on order -> shipping all the same" in found.details[3]


def test_a_database_that_stops_answering_has_not_been_seen_to_hold():
    story = replace(CLEAN_STORY, asked=((0.5, 0.0, 480), (1.0, None, None)))

    found = judged(story, INVARIANT)

    assert found.outcome is INCONCLUSIVE
    assert found.seen.startswith("held, and then could not be asked any more")


def test_a_long_time_without_an_answer_does_not_count_as_holding():
    story = replace(CLEAN_STORY, asked=())
    gaps = [InvariantAsked(BEGAN + 65.0 + at, INVARIANT.invariant.name, 0.0, 480) for at in (0.5, 14.5)]
    history = tell(story)

    found = judge_expectation(Case(History(history.plan, [*history.events, *gaps], history.requests, history.notes)), INVARIANT)

    assert found.outcome is INCONCLUSIVE
    assert "seen for 0.00 s" in found.why
