"""Faults on services themselves: what shows that they were set, felt, met by traffic and taken away, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.history.events import EdgeProbed, FaultEnded, FaultRefused, ServiceChanged, ServiceExited
from harness.history.history import History
from harness.judge.case import Case
from harness.judge.evidence import gather
from harness.judge.judge import judge
from harness.judge.verdict import Finding
from tests.histories.building import BEGAN, EXPECTED, FALLBACK, SHIPPING_AWAY, Story, expectation, fault, tell

BLAST = (EXPECTED[0],)


def struck_by(deed: str, service: str = "shipping", **limits: Any) -> Story:
    return Story(faults=(fault(deed, service=service, **limits),), expect=BLAST, damage=SHIPPING_AWAY)


PAUSED, KILLED = struck_by("pause"), struck_by("kill")


def evidence(story: Story) -> dict[str, Finding]:
    return {finding.kind: finding for finding in gather(Case(tell(story)))}


def outcomes(story: Story) -> dict[str, str]:
    return {kind: finding.outcome.word for kind, finding in evidence(story).items()}


@pytest.mark.parametrize(
    "story",
    [
        PAUSED,
        KILLED,
        struck_by("stop"),
        struck_by("restart"),
        struck_by("crash"),
        struck_by("disconnect"),
        struck_by("cpu", cores=0.2),
        struck_by("memory", limit="64MB"),
    ],
    ids=["pause", "kill", "stop", "restart", "crash", "disconnect", "cpu", "memory"],
)
def test_a_fault_on_a_service_that_was_read_back_told_of_and_seen_is_proven(story: Story) -> None:
    found = evidence(story)

    assert set(outcomes(story).values()) == {"passed"}, found
    assert found["set"].seen == "read back on shipping"
    assert "shipping" in found["healed"].seen
    assert judge(tell(story)).word == "passed"


def test_what_was_seen_of_it_is_told_side_by_side() -> None:
    found = evidence(PAUSED)

    assert found["set"].details == ("shipping: pause-1 set in 12 ms, read back as running true, paused true",)
    assert found["bit"].seen == (
        "told of pause; order -> shipping: answered before, silent during (2 s); "
        "gateway -> shipping: answered before, silent during (2 s)"
    )
    assert "requests" in found["met"].seen
    assert "order -> shipping: answered after" in found["healed"].seen


@pytest.mark.parametrize(
    ("story", "reached"),
    [
        (struck_by("cpu", cores=0.2), "throttled (12 periods)"),
        (struck_by("memory", limit="64MB"), "pressed (4 times at its limit)"),
    ],
    ids=["cpu", "memory"],
)
def test_a_limit_bit_where_the_service_reached_it(story: Story, reached: str) -> None:
    assert evidence(story)["bit"].seen == f"shipping: its limit was read back, and it reached it: {reached}"

    never = evidence(replace(story, untold=("shipping",)))["bit"]

    assert never.outcome.word == "inconclusive"
    assert "was read back, and nothing shows that the service ever reached it" in never.why
    assert never.advice == "set a lower limit, or raise load.rate"


def test_a_service_that_ran_out_of_memory_reached_its_limit() -> None:
    story = replace(struck_by("memory", limit="64MB"), untold=("shipping",))

    def killed(at: float) -> Finding:
        return evidence(replace(story, extra=(ServiceChanged(BEGAN + at, "shipping", "4321", "oom"),)))["bit"]

    assert killed(30.0).seen == "shipping: its limit was read back, and it reached it: oom"
    assert [killed(at).outcome.word for at in (20.0, 30.0, 46.0)] == ["inconclusive", "passed", "inconclusive"]


def test_a_restart_is_told_by_its_events_and_a_probe_decides_nothing() -> None:
    answered = replace(struck_by("restart"), probes=(("order -> shipping", "during", "answered", 0.002),))

    assert outcomes(answered)["bit"] == "passed"
    assert "which shows nothing either way" in evidence(answered)["bit"].seen


@pytest.mark.parametrize(
    ("damage", "kind", "why"),
    [
        ({"not_found": ("shipping",)}, "set", "read back as running true, paused false, expected running true, paused true"),
        ({"never_begun": ("shipping",)}, "set", "pause-1 was never set"),
        ({"untold": ("shipping",)}, "bit", "its runtime told nothing of pause while pause-1 was on"),
        ({"probes": (("order -> shipping", "during", "answered", 0.002),)}, "bit", "expected a probe to be silent"),
        ({"probes": (("order -> shipping", "before", "refused", 0.002),)}, "bit", "refused before, silent during"),
        ({"unused": ("order -> shipping", "gateway -> shipping")}, "met", "nothing met the fault on edge"),
        ({"not_healed": ("shipping",)}, "healed", "after healing pause-1 it was read back as running true, paused true"),
        ({"probes": (("order -> shipping", "after", "silent", 1.5),)}, "healed", "order -> shipping was silent still"),
    ],
    ids=["not found", "never begun", "untold", "answered", "not well before", "not met", "not healed", "silent after"],
)
def test_what_is_not_shown_leaves_the_run_open_and_says_why(damage: dict[str, Any], kind: str, why: str) -> None:
    story = replace(PAUSED, **damage)

    assert outcomes(story)[kind] == "inconclusive"
    assert why in evidence(story)[kind].why
    assert judge(tell(story)).word == "inconclusive"


def test_one_edge_that_met_traffic_is_enough() -> None:
    assert outcomes(replace(PAUSED, unused=("gateway -> shipping",)))["met"] == "passed"


def test_a_service_that_no_edge_leads_to_leaves_open_whether_anybody_met_it() -> None:
    story = struck_by("kill", "gateway")
    history = tell(story)
    plan = {**history.plan, "observations": [seen for seen in history.plan["observations"] if seen["what"] != "bite"]}
    found = {finding.kind: finding for finding in gather(Case(History(plan, history.events, history.requests, history.notes)))}

    assert found["met"].outcome.word == "inconclusive"
    assert "no edge leads to gateway" in found["met"].why
    assert found["bit"].outcome.word == found["healed"].outcome.word == "passed"
    assert "nobody could look" in found["bit"].seen


def test_the_twin_without_the_fault_is_told_as_withheld() -> None:
    story = replace(PAUSED, withheld=True, twin="no fault", damage=())

    assert [outcomes(story)[kind] for kind in ("set", "bit", "met", "healed")] == ["inconclusive"] * 4
    assert evidence(story)["set"].why == "shipping: pause-1 was withheld: nothing was set"
    assert judge(tell(story)).word == "inconclusive"


def test_a_service_that_could_not_be_struck_is_told_with_the_reason() -> None:
    refused = FaultRefused(BEGAN + 25.1, "pause-1", "", "pause of shipping: expected it to run", "shipping")
    story = replace(PAUSED, never_begun=("shipping",), extra=(refused,))

    assert evidence(story)["set"].why == "pause-1 could not be set: pause of shipping: expected it to run"


def test_a_healing_that_was_never_recorded_is_told() -> None:
    history = tell(PAUSED)
    events = [event for event in history.events if not isinstance(event, FaultEnded)]
    found = gather(Case(History(history.plan, events, history.requests, history.notes)))

    assert next(finding for finding in found if finding.kind == "healed").why == (
        "shipping: the healing of pause-1 was not recorded"
    )


def test_of_several_looks_after_healing_the_last_one_counts() -> None:
    late = EdgeProbed(
        BEGAN + 47.0, "kill-1", "order -> shipping", "after", "answered", 0.004, "look 9, 2.0 s after the first was due"
    )
    story = replace(KILLED, probes=(("order -> shipping", "after", "closed", 0.002),), extra=(late,))

    assert outcomes(story)["healed"] == "passed"
    assert "order -> shipping: answered after 2 s" in evidence(story)["healed"].seen.replace("1.99 s", "2 s")


def test_faults_on_a_service_and_on_an_edge_are_one_evidence_and_each_must_be_shown() -> None:
    both = Story(faults=(fault("pause", service="shipping"), fault("latency", edge="order -> payment", latency="50ms")))

    assert set(outcomes(both).values()) == {"passed"}
    assert "shipping" in evidence(both)["set"].seen
    assert "order -> payment" in evidence(both)["set"].seen
    assert outcomes(replace(both, not_found=("order -> payment",)))["set"] == "inconclusive"
    assert outcomes(replace(both, not_found=("shipping",)))["set"] == "inconclusive"


def test_a_service_that_ended_without_being_asked_is_told_still() -> None:
    gone = ServiceExited(BEGAN + 12.0, "postgres", "exit code 1")

    assert "postgres ended by itself" in evidence(replace(PAUSED, extra=(gone,)))["baseline"].why


@pytest.mark.parametrize(
    ("deed", "heard"),
    [
        ("kill", "marker and counter and wire agree"),
        ("pause", "marker and counter and wire agree"),
        ("crash", "marker and counter agree"),
    ],
)
def test_a_fallback_under_a_fault_on_the_callee_is_witnessed_by_the_wire_where_nobody_can_be_answered(
    deed: str, heard: str
) -> None:
    expected = expectation("fallback", name=FALLBACK, fault=f"{deed}-1", share={"min": "90%"})
    story = replace(struck_by(deed), expect=(expected,))

    (found,) = judge(tell(story)).expectations

    assert found.outcome.word == "passed"
    assert any(line.startswith(f"witnesses: {heard}") for line in found.details), found.details
