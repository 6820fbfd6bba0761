"""Faults that come and go, that grow, that strike a share, or requests: what proves each, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest

from harness.history.events import EdgeProbed, EdgeSeen, Event, FaultBegan, FaultEnded, FaultVaried
from harness.history.history import History
from harness.judge.case import Case
from harness.judge.edges import EdgeCounts
from harness.judge.evidence import gather
from harness.judge.expectations.fallback import judge_fallback
from harness.judge.strikes import Strike, strikes_of
from harness.judge.verdict import Finding, Outcome
from harness.model.expectations import Fallback
from tests.histories.building import BEGAN, FALLBACK, Damage, Story, fault, tell

EDGE = "order -> shipping"
CLEAN = {"enabled": True, "toxics": []}


def toxic(kind: str, stream: str = "downstream", toxicity: float = 1.0, **said: Any) -> dict[str, Any]:
    return {"name": f"x-{kind}-{stream}", "type": kind, "stream": stream, "attributes": said, "toxicity": toxicity}


def bearing(*toxics: dict[str, Any]) -> dict[str, Any]:
    return {"enabled": True, "toxics": list(toxics)}


HANG, SLOW = bearing(toxic("timeout", timeout=0)), bearing(toxic("latency", latency=100))
ERRORS = bearing(toxic("http_error", status=500, share=0.3))


@cache
def usual() -> History:
    return tell(Story(faults=(fault("outage", id="x", edge=EDGE, mode="hang"),)))


@dataclass(frozen=True)
class Told:
    """What was planned and recorded of the fault x on one edge; times count from the begin of the load."""

    turns: tuple[tuple[float, float, dict[str, Any]], ...] = ((25.0, 45.0, HANG),)
    varied: tuple[tuple[float, dict[str, Any]], ...] = ()
    planned: tuple[int, int] | None = None
    probes: tuple[tuple[str, float, str, dict[str, Any]], ...] = (
        ("before", 20.0, "answered", {}),
        ("during", 25.5, "silent", {}),
        ("after", 45.3, "answered", {}),
    )
    struck: tuple[tuple[float, int], ...] | None = None
    """How often its toxic had acted, from these moments on."""
    answers: tuple[tuple[float, dict[str, int]], ...] = ()
    found: dict[str, Any] = field(default_factory=dict)
    """What is found in place of what was asked for, at these begins."""
    protocol: str = "http"
    left: dict[str, Any] = field(default_factory=lambda: CLEAN)
    """The state in which its last healing leaves the proxy."""


def history(told: Told) -> History:
    base = usual()
    kept = [event for event in base.events if not isinstance(event, FaultBegan | FaultEnded | EdgeProbed)]
    events: list[Event] = [_sample(event, told) if isinstance(event, EdgeSeen) else event for event in kept]
    for number, (begin, end, asked) in enumerate(told.turns):
        found = told.found.get(str(number), asked)
        events.append(FaultBegan(BEGAN + begin, BEGAN + begin - 0.01, "x", "outage", EDGE, asked, found))
        events.append(FaultEnded(BEGAN + end + 0.01, BEGAN + end, "x", "outage", EDGE, told.left, told.left))
    for at, asked in told.varied:
        events.append(FaultVaried(BEGAN + at, BEGAN + at - 0.01, "x", "outage", EDGE, asked, asked))
    for moment, at, outcome, seen in told.probes:
        events.append(EdgeProbed(BEGAN + at, "x", EDGE, moment, outcome, 1.5 if outcome == "silent" else 0.002, **seen))
    begins, varies = told.planned or (len(told.turns), len(told.varied))
    change = {"changes": [{"proxy": EDGE, "state": HANG}], "services": [], "fault": "x", "kind": "outage", "at": 25.0}
    steps = [{"verb": verb, **change} for verb, times in (("begin", begins), ("vary", varies)) for _ in range(times)]
    proxies = [proxy | {"protocol": told.protocol} if proxy["name"] == EDGE else proxy for proxy in base.plan["proxies"]]
    return History(base.plan | {"steps": steps, "proxies": proxies}, events, base.requests, base.notes)


def _sample(seen: EdgeSeen, told: Told) -> EdgeSeen:
    if seen.proxy != EDGE or told.struck is None:
        return seen
    at = seen.at - BEGAN
    number = max([number for since, number in told.struck if since <= at], default=0)
    answers = next((answers for since, answers in reversed(told.answers) if since <= at), seen.answers)
    return replace(seen, struck={"x-timeout-downstream": number, "x-http_error-downstream": number}, answers=answers)


def found(told: Told) -> dict[str, Finding]:
    return {finding.kind: finding for finding in gather(Case(history(told)))}


def missing(told: Told) -> dict[str, str]:
    return {kind: finding.why for kind, finding in found(told).items() if finding.outcome is not Outcome.PASSED}


def strike(told: Told) -> Strike:
    (only,) = strikes_of(Case(history(told)))
    return only


TWICE = Told(turns=((25.0, 30.0, HANG), (35.0, 45.0, HANG)))


def test_a_fault_that_comes_twice_is_proved_by_both() -> None:
    assert missing(TWICE) == {}
    assert found(TWICE)["set"].details == (f"{EDGE}: x set 2 times in 10 ms, read back",)


def test_one_that_came_once_of_twice_is_not_set() -> None:
    once = replace(TWICE, turns=TWICE.turns[:1], planned=(2, 0))

    assert missing(once)["set"] == f"{EDGE}: x was set 1 of 2 times"
    assert missing(once)["bit"] == f"{EDGE}: x was set 1 of 2 times, so nothing is said of whether it bit"
    assert missing(once)["met"] == f"{EDGE}: x was set 1 of 2 times, so nothing is said of what met it"


@pytest.mark.parametrize(
    ("state", "during", "saw"),
    [
        (HANG, ("silent", {}), "left without an answer (1.5 s)"),
        (
            bearing(toxic("http_error", status=500)),
            ("answered", {"status": 500, "injected": "x-http_error-downstream"}),
            "answered 500 by the proxy (2 ms)",
        ),
        (SLOW, ("answered", {"times": (0.11,)}), "answered 0.1 s later (2 ms)"),
        ({"enabled": False, "toxics": []}, ("refused", {}), "refused (2 ms)"),
    ],
)
def test_what_the_probe_saw_is_said_in_words_and_beside_it_what_it_got_before(
    state: dict[str, Any], during: tuple[str, dict[str, Any]], saw: str
) -> None:
    outcome, seen = during
    told = Told(
        turns=((25.0, 45.0, state),),
        probes=(("before", 20.0, "answered", {}), ("during", 25.5, outcome, seen), ("after", 45.3, "answered", {})),
    )

    assert found(told)["bit"].seen == f"a probe was {saw}, where before it was answered (2 ms)"


def test_where_the_engine_alone_saw_it_no_probe_is_said_to_have_seen_it() -> None:
    some = bearing(toxic("http_error", status=500, share=0.3))
    told = Told(
        turns=((25.0, 45.0, some),),
        probes=(("before", 20.0, "answered", {}), ("during", 25.5, "answered", {}), ("after", 45.3, "answered", {})),
        struck=((26.0, 4),),
        answers=((20.0, {"200": 5}), (26.0, {"200": 9, "500": 4})),
    )

    assert found(told)["bit"].seen == "4 requests struck, as the engine counted"


def test_a_healing_after_which_nobody_looked_blames_neither_callee_nor_engine() -> None:
    healed = found(Told(probes=(("before", 20.0, "answered", {}), ("during", 25.5, "silent", {}))))["healed"]

    assert healed.why == f"{EDGE}: x was healed in 10 ms and read back as clean, and no probe went through it afterwards"
    assert healed.advice == "see why the run ended before its end"


@pytest.mark.parametrize("number", ["0", "1"])
def test_each_time_must_be_read_back_as_it_was_asked_for(number: str) -> None:
    assert "read back the proxy was in another state" in missing(replace(TWICE, found={number: CLEAN}))["set"]


def test_a_ramp_is_set_by_each_of_its_steps() -> None:
    louder = bearing(toxic("latency", latency=200))
    ramp = Told(turns=((25.0, 45.0, SLOW),), varied=((30.0, louder), (35.0, louder)))

    assert "set" not in missing(ramp)
    assert found(ramp)["set"].details == (f"{EDGE}: x set 3 times in 10 ms, read back",)
    assert missing(replace(ramp, planned=(1, 3)))["set"] == f"{EDGE}: x was set 3 of 4 times"


def test_what_was_read_back_last_before_a_look_decides_what_it_must_see() -> None:
    louder = bearing(toxic("latency", latency=400))
    ramp = Told(turns=((25.0, 45.0, SLOW),), varied=((30.0, louder),))

    def bit(at: float, seconds: float) -> bool:
        before, _, after = ramp.probes
        during = ("during", at, "answered", {"times": (seconds,)})
        return "bit" not in missing(replace(ramp, probes=(before, during, after)))

    assert [bit(26.0, 0.11), bit(31.0, 0.11), bit(31.0, 0.41)] == [True, False, True]


def test_met_counts_what_came_in_all_windows_and_nothing_between_them() -> None:
    def requests(told: Told) -> int:
        return int(found(told)["met"].seen.split()[0])

    whole = requests(Told())
    both = requests(TWICE)

    assert requests(replace(TWICE, turns=TWICE.turns[:1])) + requests(replace(TWICE, turns=TWICE.turns[1:])) == both
    assert both < whole * 0.8


def test_a_healing_that_is_missing_of_one_of_two_is_missing() -> None:
    events = history(TWICE)
    last = max(event.at for event in events.of(FaultEnded))
    cut = History(events.plan, [event for event in events.events if event.at != last], events.requests, events.notes)

    told = {one.kind: one for one in gather(Case(cut))}

    assert told["healed"].outcome is Outcome.INCONCLUSIVE
    assert "the healing of x was not recorded" in told["healed"].why
    assert "the end of x was not recorded" in told["met"].why


def healed(asked: dict[str, Any], seen: dict[str, Any], outcome: str = "answered", **told: Any) -> str:
    before = {"times": (0.002,), "status": 200, "bodies": ("aa",), "ended": 0.001}
    probes = (("before", 20.0, "answered", before), ("during", 25.5, "answered", seen), ("after", 45.3, outcome, seen))
    return missing(Told(turns=((25.0, 45.0, asked),), probes=probes, **told)).get("healed", "")


@pytest.mark.parametrize(
    ("asked", "left", "gone"),
    [
        (SLOW, {"times": (0.102,)}, {"times": (0.003,)}),
        (bearing(toxic("slow_close", delay=300)), {"ended": 0.301}, {"ended": 0.001}),
        (bearing(toxic("http_corrupt", how="bytes")), {"bodies": ("bb",)}, {"bodies": ("aa",)}),
        (bearing(toxic("http_error", status=500)), {"status": 500, "injected": "x-http_error-downstream"}, {"status": 200}),
        (
            ERRORS,
            {"status": 500, "injected": "x-http_error-downstream"},
            {"status": 500, "injected": "y-http_error-downstream"},
        ),
    ],
)
def test_what_is_still_seen_of_a_fault_after_its_healing_was_not_healed(
    asked: dict[str, Any], left: dict[str, Any], gone: dict[str, Any]
) -> None:
    assert "x was healed in 10 ms, and yet a probe was " in healed(asked, left)
    assert healed(asked, gone) == ""


@pytest.mark.parametrize(
    ("left", "outcome", "told"),
    [
        ({"enabled": False, "toxics": []}, "refused", ""),
        ({"enabled": False, "toxics": []}, "silent", "a probe was silent after it"),
        (bearing({**toxic("timeout", timeout=0), "name": "y-timeout-downstream"}), "silent", ""),
        (bearing({**toxic("latency", latency=100), "name": "y-latency-downstream"}), "answered", ""),
        (bearing({**toxic("latency", latency=10), "name": "y-latency-downstream"}), "silent", "a probe was silent after it"),
        (CLEAN, "refused", "a probe was refused after it"),
    ],
)
def test_another_fault_that_is_still_on_excuses_what_it_explains(left: dict[str, Any], outcome: str, told: str) -> None:
    why = healed(SLOW, {"times": (0.102,)}, outcome, left=left)

    assert told in why
    assert bool(told) is bool(why)


REFUSED_TOO = {**SLOW, "enabled": False}


def test_a_fault_that_another_hid_is_not_proved_by_the_other_but_by_a_stretch_of_its_own() -> None:
    before, _, after = Told().probes
    hidden = Told(turns=((25.0, 45.0, REFUSED_TOO),), probes=(before, ("during", 25.5, "refused", {}), after))
    own = replace(hidden, varied=((35.0, SLOW),))
    late = ("during", 35.5, "answered", {"times": (0.11,)})

    assert "hidden by another fault" in missing(hidden)["bit"]
    assert "hidden by another fault" in missing(own)["bit"]
    assert "bit" not in missing(replace(own, probes=(*own.probes, late)))


# whom the engine counts


def test_where_the_engine_counts_whom_a_fault_strikes_that_is_the_best_that_shows_it_was_met() -> None:
    assert found(Told(struck=((26.0, 1), (40.0, 7))))["met"].seen == "7 connections struck"


@pytest.mark.parametrize("struck", [((0.0, 0),), ((24.0, 7),), ((46.0, 7),)], ids=["never", "before", "afterwards"])
def test_what_it_struck_at_other_times_or_never_shows_nothing_whatever_else_passed(struck: tuple[Any, ...]) -> None:
    why = missing(Told(struck=struck))["met"]

    assert why.startswith(f"nothing met x on edge {EDGE}: ")
    assert why.endswith("requests there, and it struck none")


def test_between_two_windows_nothing_is_struck() -> None:
    assert found(replace(TWICE, struck=((26.0, 2), (32.0, 50), (36.0, 53))))["met"].seen == "5 connections struck"


def test_a_fault_that_goes_on_striking_after_its_healing_is_not_healed() -> None:
    why = missing(Told(struck=((26.0, 4), (50.0, 9))))["healed"]

    assert "x was healed, and yet 5 connections struck afterwards" in why


def test_what_a_healing_itself_closes_is_not_struck_afterwards() -> None:
    assert "healed" not in missing(Told(struck=((26.0, 4), (45.05, 9))))


UNSEEN = (("before", 20.0, "answered", {}), ("during", 25.5, "answered", {}), ("after", 45.3, "answered", {}))
CHOSEN = Told(
    turns=((25.0, 45.0, ERRORS),),
    probes=UNSEEN,
    struck=((26.0, 30),),
    answers=((0.0, {"200": 100}), (26.0, {"200": 100, "500": 30})),
)


def test_of_requests_that_are_chosen_the_engines_count_and_its_answers_prove_the_bite() -> None:
    assert missing(CHOSEN) == {}
    assert found(CHOSEN)["bit"].details == (f"{EDGE}: 30 requests struck, as the engine counted",)
    assert found(CHOSEN)["met"].seen == "30 requests struck"


def test_requests_that_were_struck_and_not_answered_as_said_prove_nothing() -> None:
    wrong = replace(CHOSEN, answers=((0.0, {"200": 100}), (26.0, {"200": 130})))

    assert missing(wrong) == {"bit": f"{EDGE}: the engine counted 30 requests struck, and no answer 500"}


def test_where_nobody_was_struck_a_fault_that_chooses_did_not_bite() -> None:
    why = missing(replace(CHOSEN, struck=((0.0, 0),)))["bit"]

    assert "nothing shows that x bit" in why
    assert "the engine counted nobody whom it struck" in why


def test_where_the_engine_does_not_count_whom_it_strikes_it_is_said_what_to_do() -> None:
    finding = found(Told(turns=((25.0, 45.0, HANG),), probes=UNSEEN, protocol="tcp"))["bit"]

    assert finding.outcome is Outcome.INCONCLUSIVE
    assert "whether x bit cannot be told: what is spoken there is not known" in finding.why
    assert "--engine embedded" in finding.advice


def test_on_an_unknown_protocol_the_engines_count_proves_what_a_probe_cannot_see() -> None:
    assert "bit" not in missing(Told(probes=UNSEEN, protocol="tcp", struck=((26.0, 4),)))


def test_what_a_probe_would_have_seen_is_not_proved_by_a_count() -> None:
    assert "expected a probe to be silent, it was answered before" in missing(Told(probes=UNSEEN, struck=((26.0, 4),)))["bit"]


SHARE = bearing(toxic("timeout", toxicity=0.3, timeout=0))


def test_of_a_share_one_look_of_many_is_enough() -> None:
    before, during, after = UNSEEN
    looks = (before, *(during for _ in range(5)), ("during", 26.0, "silent", {}), after)

    assert "bit" not in missing(Told(turns=((25.0, 45.0, SHARE),), probes=looks))
    assert "none of 1 look was among those that it strikes" in missing(Told(turns=((25.0, 45.0, SHARE),), probes=UNSEEN))["bit"]
    assert "bit" not in missing(Told(turns=((25.0, 45.0, SHARE),), probes=UNSEEN, struck=((26.0, 3),)))


def test_an_edge_that_was_never_sampled_counts_nothing() -> None:
    counts = EdgeCounts(History({}, [], ()))

    assert counts.struck("nobody", [], ["x"]) is None
    assert counts.struck_after("nobody", 0.0, ["x"]) == 0
    assert counts.answered_with("nobody", [], 500) == 0
    assert strike(Told()).state_at(0.0) == {}


# fallbacks


def answered_by_fallback(*stretches: tuple[float, float]) -> History:
    """A run in which the fallback answered then, and never else."""
    damage = tuple(Damage("place order", begin, end, slower=2.0, mark=FALLBACK) for begin, end in stretches)
    return tell(Story(faults=(fault("outage", id="x", edge=EDGE, mode="hang"),), damage=damage))


def judged(base: History, told: Told) -> Finding:
    by_turns = history(told)
    of_faults = [event for event in by_turns.events if isinstance(event, FaultBegan | FaultEnded)]
    others = [event for event in base.events if not isinstance(event, FaultBegan | FaultEnded)]
    case = Case(History(by_turns.plan, [*others, *of_faults], base.requests, base.notes))
    expected = Fallback.model_validate({"name": FALLBACK, "fault": "x", "share": {"min": "90%"}})
    return judge_fallback("deferred", expected, case)


def test_a_fallback_need_not_fire_while_a_fault_that_comes_and_goes_is_away() -> None:
    base = answered_by_fallback((25.0, 30.2), (34.8, 45.0))

    assert judged(base, TWICE).outcome is Outcome.PASSED
    assert judged(base, Told()).outcome is Outcome.FAILED


def test_a_fallback_that_fires_in_one_of_two_windows_alone_fails() -> None:
    assert judged(answered_by_fallback((34.8, 45.0)), TWICE).outcome is Outcome.FAILED


def test_a_fallback_that_a_breaker_keeps_on_between_two_windows_is_none_the_worse() -> None:
    assert judged(answered_by_fallback((24.9, 45.0)), TWICE).outcome is Outcome.PASSED


def test_where_some_answers_pass_the_wire_is_no_witness() -> None:
    base = answered_by_fallback((24.9, 45.0))
    found = judged(base, Told(turns=((25.0, 45.0, ERRORS),)))

    assert any(f"answers pass on {EDGE} all the same" in line for line in found.details)
