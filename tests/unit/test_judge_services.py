"""Faults on services themselves: what shows that they were set, felt, met by traffic and taken away, and what does not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from harness.history.events import (
    EdgeProbed,
    FaultBegan,
    FaultEnded,
    FaultRefused,
    FaultVaried,
    ServiceChanged,
    ServiceExited,
)
from harness.history.history import History
from harness.judge.blows import DEEDS, blows_of
from harness.judge.case import Case
from harness.judge.evidence import gather
from harness.judge.judge import judge
from harness.judge.service_proofs import evidence_of_services
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


EVERY = {
    "pause": PAUSED,
    "kill": KILLED,
    "stop": struck_by("stop"),
    "restart": struck_by("restart"),
    "crash": struck_by("crash"),
    "crash_loop": struck_by("crash_loop", lives="2s"),
    "scale": struck_by("scale", to=1),
    "disconnect": struck_by("disconnect"),
    "cpu": struck_by("cpu", cores=0.2),
    "memory": struck_by("memory", limit="64MB"),
}


def test_every_deed_is_tried_here() -> None:
    assert EVERY.keys() == set(DEEDS)


@pytest.mark.parametrize("story", EVERY.values(), ids=EVERY)
def test_a_fault_on_a_service_that_was_read_back_told_of_and_seen_is_proven(story: Story) -> None:
    found = evidence(story)

    assert set(outcomes(story).values()) == {"passed"}, found
    assert found["set"].seen == "read back on shipping"
    assert "shipping" in found["healed"].seen
    assert judge(tell(story)).word == "passed"


@pytest.mark.parametrize("story", EVERY.values(), ids=EVERY)
def test_a_fault_that_was_accepted_and_not_done_is_never_proven(story: Story) -> None:
    """Read back as asked, which costs nothing; and yet nobody told of anything, and every probe was answered."""
    edges = ("order -> shipping", "gateway -> shipping")
    untouched = replace(
        story, untold=("shipping",), probes=tuple((edge, "during", "answered", 0.002) for edge in edges), twin="not applied"
    )

    history = tell(replace(untouched, rate=10.0))

    assert found_in(history)["set"].outcome.word == "passed"
    assert found_in(history)["bit"].outcome.word == "inconclusive"
    assert judge(history).word != "passed"


def changed(what: str, at: float, instance: str = "shipping-1") -> ServiceChanged:
    return ServiceChanged(BEGAN + at, "shipping", instance, what)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ((("die", "1"), ("start", "2"), ("die", "2")), "passed"),
        ((("die", "a"), ("start", "a"), ("die", "a"), ("start", "a")), "passed"),
        ((("die", "a"), ("die", "b"), ("start", "a"), ("start", "b")), "inconclusive"),
        ((("die", "a"), ("start", "a")), "inconclusive"),
        ((("die", "a"), ("die", "a")), "inconclusive"),
        ((("start", "a"), ("die", "a")), "inconclusive"),
    ],
)
def test_a_crash_loop_is_proven_by_a_death_of_one_that_had_come_up_after_a_death(
    told: tuple[tuple[str, str], ...], word: str
) -> None:
    events = tuple(changed(what, 25.1 + number, who) for number, (what, who) in enumerate(told))

    history = tell(replace(EVERY["crash_loop"], untold=("shipping",), extra=events, rate=10.0))

    assert found_in(history)["bit"].outcome.word == word


@pytest.mark.parametrize(
    ("deed", "what"),
    [
        ("kill", "start"),
        ("stop", "start"),
        ("pause", "unpause"),
        ("pause", "die"),
        ("pause", "start"),
        ("disconnect", "connect"),
    ],
)
def test_a_fault_that_something_else_undid_before_its_healing_is_not_proven(deed: str, what: str) -> None:
    def bit(at: float) -> Finding:
        return evidence(replace(EVERY[deed], extra=(changed(what, at, "another"),), rate=10.0))["bit"]

    assert f"was over before it was healed: its runtime told of {what} 10 s after it began" in bit(35.0).why
    assert bit(24.9).why == ""
    assert bit(44.9).why == ""


@pytest.mark.parametrize(("instance", "word"), [("4321", "inconclusive"), ("another", "passed")])
def test_a_container_that_was_to_be_gone_and_came_back_undoes_a_scaling(instance: str, word: str) -> None:
    story = replace(EVERY["scale"], extra=(changed("start", 35.0, instance),), rate=10.0)

    assert evidence(story)["bit"].outcome.word == word


@pytest.mark.parametrize(("stopped", "word"), [(1, "inconclusive"), (2, "passed"), (3, "inconclusive")])
def test_a_service_is_scaled_down_when_all_that_should_have_stopped_have(stopped: int, word: str) -> None:
    history = tell(replace(EVERY["scale"], untold=("shipping",), rate=10.0))
    events = [
        replace(event, found={**event.found, "of": 3}) if isinstance(event, FaultBegan) else event for event in history.events
    ]
    died = [changed("die", 25.5, f"shipping-{number}") for number in range(3, 3 - stopped, -1)]
    bit = found_in(History(history.plan, [*events, *died], history.requests, history.notes))["bit"]

    assert bit.outcome.word == word
    assert word == "passed" or f"expected 2 containers of it to stop, its runtime told of {stopped}" in bit.why


LATER = 10.0
"""How long after the first begin a fault that repeats begins again."""


def found_in(history: History) -> dict[str, Finding]:
    """The evidence of faults on services alone."""
    case = Case(history)
    return {finding.kind: finding for finding in evidence_of_services(case, blows_of(case))}


@cache
def short(story: Story) -> History:
    return tell(replace(story, rate=10.0, faults=tuple(item.model_copy(update={"for_": 5.0}) for item in story.faults)))


def repeated(story: Story, without: tuple[type, ...] = (), *, untold: bool = False) -> History:
    """The same, on for 5 s, and again for 5 s; nothing `without` is recorded of the second time."""
    first = short(story)
    its = [event for event in first.events if isinstance(event, FaultBegan | FaultEnded)]
    told = [event for event in first.events if isinstance(event, ServiceChanged)]
    again = [replace(event, at=event.at + LATER, asked_at=event.asked_at + LATER) for event in its]
    more = [replace(event, at=event.at + LATER) for event in (() if untold else told)]
    steps = [*first.plan["steps"], *({**step, "at": step["at"] + LATER} for step in first.plan["steps"])]
    events = [*first.events, *(event for event in (*again, *more) if not isinstance(event, without))]
    return History({**first.plan, "steps": steps}, events, first.requests, first.notes)


@pytest.mark.parametrize("story", EVERY.values(), ids=EVERY)
def test_a_fault_that_comes_again_is_proven_when_each_time_is(story: Story) -> None:
    def kinds(history: History) -> dict[str, str]:
        return {kind: finding.outcome.word for kind, finding in found_in(history).items()}

    assert set(kinds(repeated(story)).values()) == {"passed"}
    assert kinds(repeated(story, untold=True))["bit"] == "inconclusive"
    assert kinds(repeated(story, (FaultBegan, FaultEnded)))["set"] == "inconclusive"
    assert kinds(repeated(story, (FaultEnded,)))["healed"] == "inconclusive"


def test_how_often_it_was_set_is_told() -> None:
    found = found_in(repeated(KILLED))

    assert found["set"].details == ("shipping: kill-1 set 2 times in 12 ms, read back as running false",)
    assert found["bit"].seen.startswith("each of 2 times told of kill, die; ")
    assert found["healed"].details[0].startswith("in 12 ms, 2 times; ")
    once = found_in(repeated(KILLED, (FaultBegan, FaultEnded)))
    assert once["set"].why == "shipping: kill-1 was set 1 of 2 times"


@pytest.mark.parametrize(("read_back", "word"), [({}, "passed"), ({"cores": None}, "inconclusive"), (None, "inconclusive")])
def test_a_limit_that_is_varied_is_set_when_each_change_was_read_back(read_back: dict[str, Any] | None, word: str) -> None:
    history = short(EVERY["cpu"])
    began = next(event for event in history.events if isinstance(event, FaultBegan))
    asked = {**began.asked, "cores": 0.1}
    step = next(step for step in history.plan["steps"] if step["verb"] == "begin")
    changes = [{**change, "cores": 0.1} for change in step["services"]]
    steps = [*history.plan["steps"], {**step, "verb": "vary", "at": step["at"] + 2, "services": changes}]
    varied = [
        FaultVaried(began.at + 2, began.asked_at + 2, began.fault, began.kind, "", asked, {**asked, **more}, "shipping")
        for more in ([] if read_back is None else [read_back])
    ]
    plan = {**history.plan, "steps": steps}
    found = found_in(History(plan, [*history.events, *varied], history.requests, history.notes))

    assert found["set"].outcome.word == word
    assert word == "inconclusive" or "varied once" in found["set"].details[0]


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
