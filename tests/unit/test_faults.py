"""Every kind of fault: what is taken and what is refused, when it is on, how it grows, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.errors import InvalidFile
from harness.model.edges import Edge
from harness.model.faults import FALLING, FAULT_KINDS, KINDS, QUANTITIES, FaultItem
from harness.model.resolving import resolve
from harness.model.runnable import check_runs_locally, check_runs_with_toxiproxy, needs_embedded
from harness.model.windows import Stretch, repeated, windows_of
from harness.plan.plan import CLEAN, Begin, Heal, Vary, WatchBite
from harness.plan.planning import plan_of
from harness.plan.ramps import ramped
from harness.plan.toxics import refuses, toxics_of
from harness.plan.twins import twin_of
from harness.report.fault_pages import families, markdown, overview, page_text, told
from harness.report.faults import fault_in_words
from tests.systems import SCENARIO, write_system

EDGE = Edge(name="order -> shipping", caller="order", callee="shipping", port=8080, protocol="http")


def item(text: str) -> FaultItem:
    return FaultItem.model_validate({"id": "f", **yaml.safe_load(text)})


def refusal(text: str) -> str:
    with pytest.raises(ValidationError) as raised:
        item(text)
    return str(raised.value.errors()[0]["msg"])


def said(text: str, journeys: dict[str, str] | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    return [(toxic.type, toxic.stream, toxic.attributes) for toxic in toxics_of(item(text), EDGE, 1, journeys or {})]


def scenario(tmp_path: Path, fault: str, phases: str = "") -> Path:
    text = SCENARIO.replace("  - outage: {service: shipping}\n", f"  - {{{fault}}}\n").replace(
        "  - fallback: shipping-deferred\n", ""
    )
    return write_system(tmp_path, scenario=text + phases)


# the kinds


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_the_example_of_every_kind_is_one_of_it_and_is_written_back_as_it_was_read(kind: str) -> None:
    read = item(told(kind).page.example)

    assert read.kind == kind
    assert FaultItem.model_validate(json.loads(json.dumps(read.model_dump(mode="json", exclude_none=True)))) == read


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_every_kind_does_something_to_an_edge_or_to_a_service(kind: str) -> None:
    read = item(told(kind).page.example)

    assert (read.on_service is not None) != bool(toxics_of(read, EDGE, 1, {}) or refuses(read))


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_every_kind_is_told_whole(kind: str) -> None:
    found, text = told(kind), page_text(kind)

    assert all((found.meaning, found.page.begin, found.page.heal, found.page.sees, found.page.misses))
    assert {name for each in found.attributes for name in each.name.split(", ")} == {
        field.alias or name for name, field in KINDS[kind].model_fields.items()
    }
    assert found.page.example in text
    assert kind in overview()
    assert f"### {kind}\n" in markdown({}, {})
    assert fault_in_words(item(found.page.example), kind)


def test_every_kind_is_in_one_family() -> None:
    assert sorted(kind for kinds in families().values() for kind in kinds) == sorted(FAULT_KINDS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("outage: {edge: a, mode: hangs}", "Input should be"),
        ("outage: {edge: a, share: 10%}", "expected no share with mode refuse"),
        ("outage: {edge: a, mode: hang, share: 0%}", "expected from 0.1% to 100%, found 0%"),
        ("latency: {edge: a, latency: 2h}", "expected from 1ms to 3600s, found 7200s"),
        ("latency: {edge: a, latency: 0s}", "expected from 1ms to 3600s, found 0s"),
        ("bandwidth: {edge: a, rate: 0KB/s}", "expected a rate in whole KB/s"),
        ("bandwidth: {edge: a, rate: 1.5KB/s}", "expected a rate in whole KB/s"),
        ("bandwidth: {edge: a, rate: 10}", "expected a rate in whole KB/s"),
        ("reset_peer: {edge: a, timeout: 6s}", "expected from 0s to 5s, found 6s"),
        ("slicer: {edge: a, average_size: 0B}", "expected from 1B to 2147483647B, found 0B"),
        ("slicer: {edge: a, average_size: 10B, size_variation: 10B}", "expected a size_variation that is less than"),
        ("flap: {edge: a, period: 1s}", "expected from 2s to 3600s, found 1s"),
        ("flap: {edge: a, period: 4s, duty: 90%}", "expected a period and a duty that leave at least 1s bad and 1s good"),
        ("flaky: {edge: a, share: 1%}", "expected from 5% to 95%, found 1%"),
        ("http_error: {edge: a, status: 200}", "Input should be greater than or equal to 400"),
        ("http_error: {edge: a, share: 10%, every: 3}", "expected either every or share, found both"),
        ("http_error: {edge: a, path: charges}", "expected a path that begins with / or *"),
        ("http_error: {edge: a, path: '/charges?x=1'}", "expected a path that begins with / or *, without a query"),
        ("http_error: {edge: a, header: X-Tenant}", "expected a header with a pattern"),
        ("http_error: {edge: a, method: post}", "expected a method in capitals, as POST"),
        ("partition: {between: [[a], [a]]}", "expected two groups of services that share none"),
        ("partition: {between: [[a], [b]], direction: one-way, by: network}", "expected direction: both with by: network"),
        ("cpu: {service: a, cores: 0.001}", "expected from 0.01 to 1024, found 0.001"),
        ("crash_loop: {service: a, lives: 100ms}", "expected from 200ms to 3600s, found 100ms"),
        ("scale: {service: a, to: 0}", "Input should be greater than or equal to 1"),
        ("{outage: {edge: a}, kill: {service: a}}", "expected exactly one fault, found outage and kill"),
        ("{kill: {service: a}, ramp: 5s}", "expected a kind that has a ramp, found kill; there is outage, latency"),
        ("{http_error: {edge: a}, ramp: 5s}", "expected share, which a ramp of http_error changes, found none"),
        ("{bandwidth: {edge: a, rate: 10KB/s}, ramp: 5s}", "expected ramp: {over: …, from: …}, with the rate to begin at"),
        (
            "{bandwidth: {edge: a, rate: 10KB/s}, ramp: {over: 5s, from: 7}}",
            "expected a quantity with its unit as ramp.from, found 7",
        ),
        (
            "{latency: {edge: a, latency: 1s}, ramp: {over: 5s, from: 3h}}",
            "expected ramp.from to fit: expected from 1ms to 3600s",
        ),
        (
            "{latency: {edge: a, latency: 300ms}, ramp: {over: 5s, from: 5s}}",
            "expected a ramp that makes the fault worse, found latency that goes from 5 to 0.3",
        ),
        ("{cpu: {service: a, cores: 1}, ramp: {over: 5s, from: true}}", "expected a number as ramp.from, found True"),
        (
            "{latency: {edge: a, latency: 300ms}, ramp: {over: 5s, from: {a: 1}}}",
            "expected a quantity with its unit as ramp.from",
        ),
        ("latency: {edge: a, latency: 1500us}", "expected whole milliseconds, found 1.5ms"),
        ("bandwidth: {edge: a, rate: 100GB/s}", "expected from 1KB/s to 10GB/s, found 100GB/s"),
        (f"bandwidth: {{edge: a, rate: {'9' * 400}GB/s}}", "expected a rate in whole KB/s"),
        (f"limit_data: {{edge: a, bytes: {'9' * 400}GB}}", "expected a size with its unit"),
        (f"http_error: {{edge: a, body: {'é' * 40_000}}}", "expected at most 65536 bytes, found 80000"),
        ("http_error: {edge: a, first_attempt: false}", "Input should be True"),
        ("{flap: {edge: a, period: 4s}, repeat: {every: 5s}}", "expected no repeat with flap: it comes and goes by itself"),
        (
            "{kill: {service: a}, repeat: {every: 5s}}",
            "expected for, and repeat.every longer than it, found no for and every: 5s",
        ),
        (
            "{kill: {service: a}, for: 5s, repeat: {every: 5s}}",
            "expected for, and repeat.every longer than it, found for: 5s and every: 5s",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(text: str, why: str) -> None:
    assert why in refusal(text)


# into toxics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("outage: {edge: a, mode: unreachable}", [("unreachable", "downstream", {})]),
        ("bandwidth: {edge: a, rate: 1MB/s, stream: upstream}", [("bandwidth", "upstream", {"rate": 1000})]),
        (
            "slow_close: {edge: a, delay: 700ms, stream: both}",
            [("slow_close", "upstream", {"delay": 700}), ("slow_close", "downstream", {"delay": 700})],
        ),
        ("timeout: {edge: a, timeout: 1.5s}", [("timeout", "downstream", {"timeout": 1500})]),
        ("reset_peer: {edge: a, timeout: 100ms}", [("reset_peer", "downstream", {"timeout": 100})]),
        (
            "slicer: {edge: a, average_size: 1KB, size_variation: 10B, delay: 250us}",
            [("slicer", "downstream", {"average_size": 1024, "size_variation": 10, "delay": 250})],
        ),
        ("limit_data: {edge: a, bytes: 2KB}", [("limit_data", "downstream", {"bytes": 2048})]),
        ("flaky: {edge: a, share: 50%, mode: close}", [("timeout", "upstream", {"timeout": 1})]),
        ("flap: {edge: a, period: 4s}", []),
        ("lost_reply: {edge: a}", [("timeout", "downstream", {"timeout": 0})]),
        ("lost_reply: {edge: a, mode: reset}", [("reset_peer", "downstream", {"timeout": 0})]),
        (
            "lost_reply: {edge: a, first_attempt: true}",
            [("http_lost_reply", "downstream", {"how": "hang", "first_attempt": True})],
        ),
        (
            "http_error: {edge: a, status: 429, body: slow down, method: POST, path: /pay*, every: 3}",
            [
                (
                    "http_error",
                    "downstream",
                    {"status": 429, "body": "slow down", "methods": ["POST"], "path": "/pay*", "every": 3},
                )
            ],
        ),
        ("http_delay: {edge: a, delay: 1s, jitter: 100ms}", [("http_delay", "downstream", {"delay": 1000, "jitter": 100})]),
        (
            "http_corrupt: {edge: a, how: truncate, journey: buy}",
            [("http_corrupt", "downstream", {"how": "truncate", "journey": "POST /orders"})],
        ),
        (
            "isolate: order",
            [("timeout", "upstream", {"timeout": 0}), ("timeout", "downstream", {"timeout": 0})],
        ),
        ("isolate: {service: order, by: network}", [("unreachable", "downstream", {"network": True})]),
    ],
)
def test_each_fault_is_said_in_the_words_of_the_proxies(text: str, expected: list[tuple[str, str, dict[str, Any]]]) -> None:
    assert said(text, {"buy": "POST /orders"}) == expected


def test_a_share_of_connections_is_drawn_from_the_runs_seed_and_differs_by_edge_and_fault() -> None:
    slow = item("latency: {edge: a, latency: 1s, share: 30%}")
    other = EDGE.model_copy(update={"name": "order -> payment"})
    [one], [again], [reseeded], [elsewhere] = (
        toxics_of(slow, edge, seed, {}) for edge, seed in ((EDGE, 1), (EDGE, 1), (EDGE, 2), (other, 1))
    )

    assert (one.toxicity, one.seed) == (0.3, again.seed)
    assert len({one.seed, reseeded.seed, elsewhere.seed}) == 3


def test_a_share_of_requests_is_drawn_from_the_runs_seed_and_strikes_every_connection() -> None:
    [toxic] = toxics_of(item("http_error: {edge: a, share: 30%}"), EDGE, 1, {})

    assert (toxic.toxicity, toxic.attributes["share"], toxic.seed is not None) == (1.0, 0.3, True)


# when


def timed(text: str, at: float = 0.0, lasts: float = 20.0) -> FaultItem:
    return item(text).model_copy(update={"at": at, "for_": lasts})


def test_a_plain_fault_has_one_window() -> None:
    assert windows_of(timed("outage: {edge: a}", 2, 10), 1) == (Stretch(2, 12),)


def test_a_flap_is_bad_first_and_every_window_is_long_enough() -> None:
    found = windows_of(timed("flap: {edge: a, period: 4s, duty: 25%}", 1, 10), 1)

    assert found == (Stretch(1, 2), Stretch(5, 6), Stretch(9, 10))


@given(
    share=st.integers(5, 95),
    mean=st.integers(1, 10),
    lasts=st.integers(5, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_flaky_edge_is_bad_for_exactly_its_share_in_windows_in_order(share: int, mean: int, lasts: int, seed: int) -> None:
    flaky = timed(f"flaky: {{edge: a, share: {share}%, mean: {mean}s}}", 3, lasts)
    found = windows_of(flaky, seed)

    assert found == windows_of(flaky, seed)
    assert sum(window.seconds for window in found) == pytest.approx(lasts * share / 100, abs=0.01 * len(found))
    edges = [edge for window in found for edge in (window.begin, window.end)]
    assert edges == sorted(edges)
    assert edges[0] >= 3
    assert edges[-1] <= 3 + lasts + 0.005


def test_another_seed_draws_other_windows() -> None:
    flaky = timed("flaky: {edge: a, share: 30%}", 0, 60)

    assert windows_of(flaky, 1) != windows_of(flaky, 2)


def test_a_fault_comes_again_as_often_as_it_says_or_as_there_is_room() -> None:
    kill = "{kill: {service: a}, for: 3s, at: 1s, repeat: {every: 5s%s}}"

    assert [turn.at for turn in repeated(item(kill % ""), 20)] == [1, 6, 11, 16]
    assert [turn.at for turn in repeated(item(kill % ", times: 2"), 20)] == [1, 6]


def test_a_ramp_grows_in_equal_steps_and_jitter_with_it() -> None:
    steps = list(ramped(item("{latency: {edge: a, latency: 400ms, jitter: 40ms}, ramp: 4s}")))

    assert [after for after, _ in steps] == [0, 1, 2, 3]
    assert [(grown.fault.latency, grown.fault.jitter) for _, grown in steps] == [  # type: ignore[union-attr]
        pytest.approx((0.1, 0.01)),
        pytest.approx((0.2, 0.02)),
        pytest.approx((0.3, 0.03)),
        (0.4, 0.04),
    ]


def test_a_ramp_of_what_is_worse_when_smaller_falls_from_where_it_begins() -> None:
    steps = list(ramped(item("{bandwidth: {edge: a, rate: 10KB/s}, ramp: {over: 3s, from: 100KB/s}}")))

    assert [grown.fault.rate for _, grown in steps] == [70, 40, 10]  # type: ignore[union-attr]


SHARED = {
    "outage": "outage: {edge: a, mode: hang, share: 50%}",
    "http_error": "http_error: {edge: a, share: 50%}",
    "http_corrupt": "http_corrupt: {edge: a, share: 50%}",
    "lost_reply": "lost_reply: {edge: a, share: 50%}",
}
BEGINS = {"timeout": "9s", "bandwidth": "9MB/s", "limit_data": "9MB", "cpu": "9", "memory": "9GB"}


@pytest.mark.parametrize("kind", QUANTITIES)
def test_every_quantity_can_be_ramped(kind: str) -> None:
    ramp = f"{{over: 4s, from: {BEGINS[kind]}}}" if kind in FALLING else "4s"
    ramping = item(f"{{{SHARED.get(kind, told(kind).page.example)}, ramp: {ramp}}}")
    values = [getattr(grown.fault, QUANTITIES[kind]) for _, grown in ramped(ramping)]

    assert len(set(values)) == 4
    assert values == sorted(values, reverse=kind in FALLING)
    assert values[-1] == getattr(ramping.fault, QUANTITIES[kind])


# in a plan


def test_what_comes_and_goes_begins_and_is_healed_each_time_and_is_probed_once(tmp_path: Path) -> None:
    resolved = resolve(scenario(tmp_path, "flap: {edge: order -> shipping, period: 4s}, at: 1s, for: 8s"), environ={})
    plan = plan_of(resolved.experiment, resolved.queries)

    assert [(type(step), step.at) for step in plan.steps] == [(Begin, 26.0), (Heal, 28.0), (Begin, 30.0), (Heal, 32.0)]
    [bite] = [seen for seen in plan.observations if isinstance(seen, WatchBite)]
    assert (bite.at, bite.again) == (26.5, 32.3)


def test_a_ramp_is_probed_when_it_has_grown(tmp_path: Path) -> None:
    fault = "latency: {edge: order -> shipping, latency: 400ms}, for: 10s, ramp: 4s"
    resolved = resolve(scenario(tmp_path, fault), environ={})
    plan = plan_of(resolved.experiment, resolved.queries)

    assert [type(step) for step in plan.steps] == [Begin, Vary, Vary, Vary, Heal]
    assert [step.changes[0].state.toxics[0].attributes["latency"] for step in plan.steps[:-1]] == [100, 200, 300, 400]
    [bite] = [seen for seen in plan.observations if isinstance(seen, WatchBite)]
    assert bite.at == 25.0 + 3.0 + 0.5


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("http_error: {edge: order -> postgres}", "expected edges that speak HTTP/1.1, found postgresql on order -> postgres"),
        ("http_error: {edge: order -> shipping, journey: by}", "expected a journey of the system, found 'by'"),
        ("isolate: shiping", "expected a service of the system, found 'shiping'; did you mean 'shipping'?"),
        (
            "outage: {edge: order -> shipping}, for: 2s",
            "expected a fault that can be seen, found one of 2s at most, where 3s are needed",
        ),
        (
            "flap: {edge: order -> shipping, period: 4s, mode: hang}",
            "expected a fault that can be seen, found one of 2s at most, where 3s are needed",
        ),
        ("flaky: {edge: order -> shipping, share: 30%, mean: 60s}", "found 6s of it bad, where one window of 60s has no room"),
        (
            "flap: {edge: order -> shipping, period: 1h}",
            "found a flap that comes once, where the fault has room for less than two",
        ),
        (
            "latency: {edge: order -> shipping, latency: 1s}, for: 5s, ramp: 4s",
            "expected a ramp that leaves 3s at its end, found a ramp over 4s in a fault of 5s",
        ),
        (
            "kill: {service: shipping}, for: 5s, repeat: {every: 8s, times: 4}",
            "expected room for a fault 4 times within 20s, found 2",
        ),
        (
            "kill: {service: shipping}, for: 15s, repeat: {every: 16s}",
            "expected room for a fault to be repeated within 20s, found 1",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_with_its_place(tmp_path: Path, fault: str, why: str) -> None:
    with pytest.raises(InvalidFile) as raised:
        resolve(scenario(tmp_path, fault), environ={})

    assert any(why in str(problem) for problem in raised.value.problems), str(raised.value)


def test_two_faults_on_one_service_itself_do_not_meet_in_any_of_their_turns(tmp_path: Path) -> None:
    two = "crash: {service: shipping}, for: 3s, repeat: {every: 8s}}\n  - {pause: {service: shipping}, at: 8s, for: 5s"

    with pytest.raises(InvalidFile, match="expected no two faults on one service itself at a time, found crash-1"):
        resolve(scenario(tmp_path, two), environ={})


def test_the_way_in_stays_cut_until_the_last_fault_is_healed(tmp_path: Path) -> None:
    two = "outage: {edge: order -> shipping}, for: 10s}\n  - {flap: {edge: gateway -> order, period: 4s}, at: 2s"
    resolved = resolve(scenario(tmp_path, two), environ={})
    steps = twin_of(plan_of(resolved.experiment, resolved.queries), "entry cut").steps

    assert [(step.verb, step.at, step.changes[0].state == CLEAN) for step in steps] == [
        ("begin", 25.0, False),
        ("begin", 27.0, False),
        ("heal", 35.0, False),
        ("heal", steps[-1].at, True),
    ]


# where


@pytest.mark.parametrize(
    ("fault", "needs"),
    [
        ("http_error: {edge: order -> shipping}", "strikes single requests"),
        ("lost_reply: {edge: order -> shipping, every: 2}", "strikes single requests"),
        ("latency: {edge: order -> shipping, latency: 1s, share: 10%}", "a share of the connections is drawn from the seed"),
        ("lost_reply: {edge: order -> shipping}", ""),
        ("flaky: {edge: order -> shipping, share: 30%}", ""),
        ("outage: {edge: order -> shipping, mode: unreachable}", ""),
    ],
)
def test_what_toxiproxy_cannot_do_is_known_beforehand(tmp_path: Path, fault: str, needs: str) -> None:
    resolved = resolve(scenario(tmp_path, fault), environ={})

    assert needs in needs_embedded(resolved.experiment)
    if not needs:
        assert needs_embedded(resolved.experiment) == ""
        assert check_runs_with_toxiproxy(resolved) is resolved
        return
    with pytest.raises(InvalidFile, match=r"scenario\.yaml:5:.*use --engine embedded"):
        check_runs_with_toxiproxy(resolved)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("scale: {service: shipping, to: 1}", "it needs containers (--runtime docker)"),
        ("isolate: {service: shipping, by: network}", "expected isolate by: proxy, found by: network"),
        ("cpu: {service: shipping, cores: 1}", "no groups here (or --runtime docker)"),
    ],
)
def test_what_local_processes_cannot_have_is_refused_by_its_line(tmp_path: Path, fault: str, why: str) -> None:
    resolved = resolve(scenario(tmp_path, fault), environ={})

    with pytest.raises(InvalidFile) as raised:
        check_runs_locally(resolved, {"cpu": "no groups here"})

    assert any(why in str(problem) for problem in raised.value.problems), str(raised.value)
