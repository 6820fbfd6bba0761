"""What must be proved of a run before it is judged: for each proof a history that has it, and histories that lack it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from harness.history.events import FaultEnded, FaultRefused, RunHalted, ServiceExited
from harness.history.history import History
from harness.judge.case import Case
from harness.judge.evidence import gather
from harness.judge.verdict import Finding, Outcome
from tests.histories.building import BEGAN, FALLBACK, Damage, Story, broken, expectation, fault, steady, tell

CLEAN_STORY = Story()
BOTH = ("order -> shipping", "gateway -> shipping")
POSTGRES_GONE = ServiceExited(BEGAN + 12.0, "postgres", "killed by signal 9", ("FATAL: the database system is shutting down",))


@cache
def evidence(story: Story) -> dict[str, Finding]:
    return {finding.kind: finding for finding in gather(Case(tell(story)))}


def missing(story: Story) -> list[str]:
    return [kind for kind, finding in evidence(story).items() if finding.outcome is not Outcome.PASSED]


def hanging(edge: str = "order -> shipping") -> Story:
    answered_late = Damage("place order", 25.0, 45.0, 0.95, later=2.0, mark=FALLBACK)
    return Story(faults=(fault("outage", edge=edge, mode="hang"),), damage=(answered_late,))


def slow(edge: str = "order -> shipping", **words: str) -> Story:
    return Story(faults=(fault("latency", edge=edge, **{"latency": "300ms", **words}),), damage=())


def test_a_run_that_went_as_planned_proves_everything():
    found = evidence(CLEAN_STORY)

    assert list(found) == ["load", "baseline", "set", "bit", "met", "healed"]
    assert missing(CLEAN_STORY) == []
    assert found["load"].seen == "80.0/80 per s, lag p99 4 ms"
    assert found["met"].seen == "652 attempts"
    assert found["met"].details == ("order -> shipping: 490 attempts", "gateway -> shipping: 162 attempts")


def test_where_nothing_was_to_be_injected_load_and_baseline_are_all_there_is():
    assert list(evidence(Story(faults=(), damage=()))) == ["load", "baseline"]


SELDOM = (("browse", 30), ("place order", 30), ("read order", 30), ("track shipment", 1))


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_of_each_journey_that_must_be_healthy_there_are_enough_requests_however_another_does(share):
    each = (steady(max="10%", journey="each"),)
    story = Story(steady_state=each, weights=SELDOM).with_damage(Damage("browse", 5.0, 25.0, share, "http_5xx"))

    assert "requests of track shipment in baseline, at least 30 are needed" in evidence(story)["baseline"].why


EVERY_MODE = [
    *(Story(faults=(fault("outage", edge="order -> shipping", mode=mode),)) for mode in ("refuse", "reset", "hang", "close")),
    slow(),
    slow(jitter="100ms"),
    Story(faults=(fault("partition", between=[["order"], ["payment", "inventory"]]),)),
    Story(faults=(fault("partition", between=[["order"], ["payment"]], direction="one-way"),)),
    Story(faults=(fault("outage", service="postgres"),)),
    Story(faults=(fault("latency", service="redis", latency="50ms"),)),
]


@pytest.mark.parametrize("story", EVERY_MODE, ids=lambda story: str(story.faults[0].fault))
def test_every_kind_of_fault_can_be_proved(story):
    assert missing(story) == []


MISSING = [
    # load
    (CLEAN_STORY.with_damage(broken("*", share=0.05, outcome="dropped")), "load", "the 480 users ran out: 5"),
    (
        CLEAN_STORY.with_damage(Damage("*", 25.0, 45.0, 0.02, lag=0.15)),
        "load",
        "requests in the fault were sent late (p99 0.15 s",
    ),
    (CLEAN_STORY.with_damage(Damage("*", 5.0, 25.0, 0.02, lag=0.15)), "load", "requests in the baseline were sent late"),
    (replace(CLEAN_STORY, cut_off=31.0), "load", "the run was cut off after 31.0 s"),
    (replace(CLEAN_STORY, cut_off=-0.5), "load", "the load never began"),
    (replace(CLEAN_STORY, rate=1.5), "load", "24 requests in the baseline, at least 30 are needed"),
    # baseline
    (CLEAN_STORY.with_damage(broken("*", 10.0, 20.0, share=0.1)), "baseline", "surely more than 1 % of all requests failed"),
    (CLEAN_STORY.with_damage(broken("*", 10.0, 20.0, share=0.012)), "baseline", "lies across the limit"),
    (
        replace(CLEAN_STORY, extra=(POSTGRES_GONE,)),
        "baseline",
        "postgres ended by itself before any fault (killed by signal 9)",
    ),
    # set
    (replace(CLEAN_STORY, withheld=True), "set", "outage-1 was withheld: nothing was set"),
    (replace(CLEAN_STORY, not_found=BOTH[:1]), "set", "read back the proxy was in another state"),
    (replace(CLEAN_STORY, never_begun=BOTH[1:]), "set", "outage-1 was never set"),
    (
        replace(CLEAN_STORY, never_begun=BOTH[:1], extra=(FaultRefused(BEGAN + 25.0, "outage-1", BOTH[0], "409 Conflict"),)),
        "set",
        "the proxy did not take outage-1: 409 Conflict",
    ),
    # bit
    (replace(CLEAN_STORY, probes=((BOTH[0], "during", "answered", 0.002),)), "bit", "expected a probe to be refused"),
    (replace(CLEAN_STORY, probes=((BOTH[0], "before", "refused", 0.001),)), "bit", "it was refused before"),
    (replace(hanging(), probes=((BOTH[0], "during", "closed", 0.1),)), "bit", "expected a probe to be silent"),
    (replace(slow(), probes=((BOTH[0], "during", "answered", 0.2),)), "bit", "expected a probe to be answered 0.3 s later"),
    (replace(slow(), probes=((BOTH[0], "during", "refused", 0.3),)), "bit", "refused during"),
    # met
    (replace(CLEAN_STORY, unused=BOTH), "met", "nothing met the fault on edge order -> shipping: nobody called it"),
    (replace(hanging(), unused=BOTH), "met", "nobody called it"),
    (replace(slow(), unused=BOTH), "met", "nobody called it"),
    (slow("shipping -> redis"), "met", "nothing met the fault on edge shipping -> redis"),
    (replace(CLEAN_STORY, uncounted=BOTH, unused=BOTH, damage=()), "met", "cannot be told: the engine does not count refusals"),
    # healed
    (replace(CLEAN_STORY, not_healed=BOTH[:1]), "healed", "after healing outage-1 the proxy was read back in another state"),
    (replace(CLEAN_STORY, probes=((BOTH[0], "after", "refused", 0.001),)), "healed", "a probe was refused after it"),
    (replace(CLEAN_STORY, cut_off=31.0), "healed", "the healing of outage-1 was not recorded"),
]


@pytest.mark.parametrize(("story", "kind", "why"), MISSING, ids=[f"{kind}: {why}" for _, kind, why in MISSING])
def test_evidence_that_is_missing_is_named(story, kind, why):
    found = evidence(story)[kind]

    assert found.outcome is Outcome.INCONCLUSIVE
    assert why in found.why
    assert found.seen == found.why


def test_a_baseline_is_healthy_when_what_was_seen_is_within_the_limit():
    """Of 160 requests none failed: that fewer than 1 % do is not shown, and need not be."""
    found = evidence(replace(CLEAN_STORY, rate=10.0, damage=()))["baseline"]

    assert found.outcome is Outcome.PASSED
    assert found.seen == "0.0 % of 160 requests failed [0.0, 2.3]"


@pytest.mark.parametrize(
    ("idle", "why", "advice"),
    [
        (0, "all 480 users were waiting", "raise load.max_users to 960"),
        (7, "the machine was busy", "run it again on a machine that is less busy"),
    ],
)
def test_requests_that_were_late_name_users_or_machine(idle, why, advice):
    history = tell(CLEAN_STORY.with_damage(Damage("*", 25.0, 45.0, 0.02, lag=0.15)))
    vitals = {"load": "vitals", "at": BEGAN + 30.0, "idle_users": idle}

    found = gather(Case(History(history.plan, history.events, history.requests, [*history.notes, vitals])))[0]

    assert f": {why}, from 28 s to 43 s" in found.why
    assert found.advice == advice


def test_a_request_that_is_refused_in_time_is_load_that_arrived():
    story = Story(faults=(fault("outage", service="gateway"),), damage=(broken("*", outcome="refused"),))

    assert missing(story) == []


def test_a_fault_is_met_when_one_of_its_edges_is_used_and_the_other_is_named():
    found = evidence(replace(CLEAN_STORY, unused=BOTH[1:]))["met"]

    assert found.outcome is Outcome.PASSED
    assert found.details == (
        "order -> shipping: 490 attempts",
        "nothing met the fault on edge gateway -> shipping: nobody called it",
    )


def test_each_of_several_faults_must_meet_traffic():
    used, unused = fault("outage", service="shipping"), fault("latency", edge="shipping -> redis", latency="100ms")

    assert missing(Story(faults=(used, unused))) == ["met"]


def test_where_refusals_cannot_be_counted_connections_cut_and_fallbacks_for_that_edge_stand_for_them():
    found = evidence(replace(CLEAN_STORY, uncounted=BOTH))["met"]

    assert found.outcome is Outcome.PASSED
    assert found.details[0].startswith(
        "order -> shipping: 486 fallbacks of the caller (4 connections cut; the engine does not count"
    )


def test_connections_kept_alive_are_met_by_requests_and_where_none_are_seen_by_bytes():
    http, redis = slow("order -> shipping"), Story(faults=(fault("latency", service="redis", latency="50ms"),), damage=())

    assert "requests" in evidence(http)["met"].details[0]
    assert "bytes from the caller" in evidence(redis)["met"].details[0]


def test_what_passed_before_a_fault_did_not_meet_it():
    """The edge is used until a moment before the fault, and never again."""
    story = Story(faults=(fault("latency", edge="order -> shipping", latency="300ms"),), damage=())
    history = tell(story)
    kept = [request for request in history.requests if request.journey != "POST /orders" or request.due < BEGAN + 25.0]
    frozen = [_as_it_was(event, history) for event in history.events]

    found = {one.kind: one for one in gather(Case(History(history.plan, frozen, kept, history.notes)))}

    assert found["met"].outcome is Outcome.INCONCLUSIVE
    assert "nobody called it" in found["met"].why


def _as_it_was(event, history):
    """The sample, with what the proxy had counted shortly after the fault began."""
    if getattr(event, "proxy", "") != "order -> shipping" or not hasattr(event, "bytes_up") or event.at < BEGAN + 25.4:
        return event
    last = max((one for one in history.events if _is_sample(one) and one.at < BEGAN + 25.5), key=lambda one: one.at)
    return replace(last, at=event.at)


def _is_sample(event):
    return getattr(event, "proxy", "") == "order -> shipping" and hasattr(event, "bytes_up")


@pytest.mark.parametrize("mode", ["hang", "reset", "close"])
def test_what_a_probe_cannot_see_on_an_unknown_protocol_is_not_proved(mode):
    story = Story(faults=(fault("outage", edge="order -> shipping", mode=mode),), damage=())
    history = tell(story)
    for proxy in history.plan["proxies"]:
        proxy["protocol"] = "tcp"

    found = {one.kind: one for one in gather(Case(history))}["bit"]

    assert (found.outcome is Outcome.INCONCLUSIVE) == (mode != "close")
    assert ("what is spoken there is not known" in found.why) == (mode != "close")


def test_another_fault_that_is_still_on_excuses_nothing_that_it_does_not_explain():
    short = fault("latency", id="short", edge="order -> shipping", latency="100ms", lasting="8s")
    long = fault("latency", id="long", edge="order -> shipping", latency="300ms")
    story = Story(faults=(short, long), damage=(), probes=(("order -> shipping", "after", "silent", 2.0),))

    found = evidence(story)["healed"]

    assert found.outcome is Outcome.INCONCLUSIVE
    assert [detail.partition(" was healed ")[0] for detail in found.details] == [
        f"order -> shipping: {one}" for one in ("short", "long")
    ]
    assert all("and yet a probe was silent after it" in detail for detail in found.details)


def test_a_halt_before_any_fault_is_told_as_the_baseline_that_was_not_healthy():
    story = replace(CLEAN_STORY, cut_off=25.0, extra=(RunHalted(BEGAN + 24.9, "the baseline was not healthy: made up"),))

    assert evidence(story)["baseline"].why == "the baseline was not healthy: made up"


def test_a_service_that_ends_under_the_fault_leaves_the_baseline_healthy_and_is_named():
    story = replace(CLEAN_STORY, extra=(replace(POSTGRES_GONE, at=BEGAN + 30.0),))

    found = evidence(story)["baseline"]

    assert found.outcome is Outcome.PASSED
    assert "postgres ended by itself at 30.0 s (killed by signal 9)" in found.details
    assert "postgres: FATAL: the database system is shutting down" in found.details


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (
            {"load": "finished", "scheduled": 5000, "requests": 5000, "dropped": 0},
            "5000 of 5200 planned requests were scheduled",
        ),
        ({"load": "finished", "scheduled": 5200, "requests": 5201, "dropped": 0}, "1 of 5201 requests left no record"),
        (
            {"load": "finished", "scheduled": 5200, "requests": 5000, "dropped": 0, "silent": 200},
            "200 of 5200 arrivals sent no request",
        ),
        ({"load": "began"}, "the load process did not say that it finished"),
    ],
)
def test_what_the_load_says_of_itself_is_held_against_what_is_there(note, why):
    history = tell(CLEAN_STORY)

    found = gather(Case(History(history.plan, history.events, history.requests, [note])))[0]

    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.why.startswith(why)


def test_a_plan_without_steps_for_its_faults_proves_nothing():
    history = tell(Story(expect=(expectation("recovery"),)))
    history.plan["steps"] = []

    found = {one.kind: one for one in gather(Case(history))}

    assert [found[kind].outcome for kind in ("set", "bit", "met", "healed")] == [Outcome.INCONCLUSIVE] * 4


def test_a_short_fault_is_judged_while_it_lasted_and_not_watered_down():
    history = tell(Story())
    healed = [
        replace(event, asked_at=event.asked_at - 10, at=event.at - 10) if isinstance(event, FaultEnded) else event
        for event in history.events
    ]

    window = Case(History(history.plan, healed, history.requests, history.notes)).judged("fault")

    assert window is not None
    assert window.seconds == pytest.approx(20 - 10 - 2 * 2, abs=0.1)


def test_where_refusals_cannot_be_counted_the_connections_in_use_that_were_cut_show_that_the_fault_was_met():
    found = evidence(replace(CLEAN_STORY, uncounted=BOTH, damage=()))["met"]

    assert found.outcome is Outcome.PASSED
    assert "connections in use were cut" in found.seen
