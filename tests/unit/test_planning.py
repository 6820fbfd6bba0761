"""A plan is a pure function of scenario, system and seed; twins of it are plans too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.edges import Edge
from harness.model.experiment import Experiment
from harness.model.faults import FaultItem
from harness.model.origins import origins_of
from harness.model.resolving import resolve
from harness.plan.plan import CLEAN, Begin, Plan, ProxyState, ServiceChange, WatchBite, WatchCounter, WatchInvariant
from harness.plan.planning import plan_of, plan_to_json
from harness.plan.proxies import state_under
from harness.plan.text import explanation, plan_text
from harness.plan.twins import NOT_APPLIED, TWINS, twin_of, twins_for
from tests.systems import SCENARIO, SYSTEM, write_system

EDGE = Edge(name="order -> shipping", caller="order", callee="shipping", port=8000, protocol="http")


def planned(folder: Path, scenario: str = SCENARIO, system: str = SYSTEM, seed: int | None = None) -> Plan:
    resolved = resolve(write_system(folder, scenario=scenario, system=system), seed=seed, environ={})
    return plan_of(resolved.experiment, resolved.queries)


def fault(**written: object) -> FaultItem:
    return FaultItem.model_validate({"id": "f", **written})


def toxics(state: ProxyState) -> list[tuple[str, str, dict[str, int]]]:
    return [(toxic.type, toxic.stream, toxic.attributes) for toxic in state.toxics]


def test_the_same_seed_gives_the_same_plan_byte_for_byte(tmp_path: Path) -> None:
    once, again, other = planned(tmp_path, seed=7), planned(tmp_path, seed=7), planned(tmp_path, seed=8)

    assert plan_to_json(once) == plan_to_json(again)
    assert plan_to_json(once) != plan_to_json(other)


def test_a_plan_that_was_written_can_be_read_again(tmp_path: Path) -> None:
    plan = planned(tmp_path, SCENARIO + "load: {users: 5}\n")

    data = json.loads(plan_to_json(plan))

    assert plan_to_json(Plan.model_validate(data)) == plan_to_json(plan)
    assert Experiment.model_validate(data["experiment"]).load.rate is None


def test_everything_that_was_not_said_is_filled_in(tmp_path: Path) -> None:
    plan = planned(tmp_path, SCENARIO + "phases: {fault: 30s}\n")

    assert [(phase.name, phase.at, phase.until) for phase in plan.phases] == [
        ("warmup", 0, 5),
        ("baseline", 5, 25),
        ("fault", 25, 55),
        ("recovery", 55, 75),
    ]
    assert (plan.load.rate, plan.load.users, plan.load.timeout, plan.load.seconds) == (60.0, 360, 5.0, 75.0)
    assert [(str(item.id), item.at, item.for_) for item in plan.experiment.faults] == [("outage-1", 0.0, 30.0)]
    assert [str(item.id) for item in plan.experiment.expect] == ["blast_radius-1", "fallback-1", "recovery-1"]
    fallback = plan.experiment.expect[1].fallback
    assert fallback is not None
    assert (fallback.fault, fallback.share.min) == ("outage-1", 0.9)


def test_margins_come_from_the_scenario_then_the_system_then_the_defaults(tmp_path: Path) -> None:
    scenario = SCENARIO.replace("may_degrade: [place order]", "worse_by: {p50: 10%}")
    plan = planned(tmp_path, scenario, SYSTEM + "worse_by: {p50: 20%, p95: 30ms}\n")

    blast = plan.experiment.expect[0].blast_radius
    assert blast is not None
    assert blast.model_dump(mode="json")["worse_by"] == {"error_rate": "5%", "p50": "10%", "p95": "30ms"}
    assert plan.experiment.margins.model_dump(mode="json") == {"error_rate": "5%", "p50": "20%", "p95": "30ms"}


def test_a_fault_on_a_service_strikes_every_edge_into_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, SCENARIO.replace("service: shipping", "service: order"))

    assert [(step.verb, step.at, [change.proxy for change in step.changes]) for step in plan.steps] == [
        ("begin", 25.0, ["gateway -> order"]),
        ("heal", 45.0, ["gateway -> order"]),
    ]


def test_faults_that_overlap_on_one_edge_compose_and_each_heals_alone(tmp_path: Path) -> None:
    scenario = SCENARIO.replace(
        "  - outage: {service: shipping}\n",
        "  - {id: a, outage: {service: shipping}, at: 2s, for: 10s}\n"
        "  - {id: b, latency: {service: shipping, latency: 100ms}, at: 5s, for: 10s}\n",
    ).replace("fallback: shipping-deferred", "fallback: {name: shipping-deferred, fault: a}")
    plan = planned(tmp_path, scenario)

    states = [(step.verb, step.fault, step.at, step.changes[0].state) for step in plan.steps]
    slow = state_under([plan.experiment.faults[1]], EDGE, 1, {})
    assert [(verb, name, at) for verb, name, at, _ in states] == [
        ("begin", "a", 27.0),
        ("begin", "b", 30.0),
        ("heal", "a", 37.0),
        ("heal", "b", 40.0),
    ]
    assert [state for *_, state in states] == [
        ProxyState(enabled=False),
        ProxyState(enabled=False, toxics=slow.toxics),
        slow,
        CLEAN,
    ]


def test_at_one_instant_heals_come_first(tmp_path: Path) -> None:
    scenario = SCENARIO.replace(
        "  - outage: {service: shipping}\n",
        "  - {id: a, outage: {service: shipping}, for: 5s}\n  - {id: b, outage: {service: shipping}, at: 5s}\n",
    ).replace("fallback: shipping-deferred", "fallback: {name: shipping-deferred, fault: a}")

    assert [(step.verb, step.fault) for step in planned(tmp_path, scenario).steps] == [
        ("begin", "a"),
        ("heal", "a"),
        ("begin", "b"),
        ("heal", "b"),
    ]


@pytest.mark.parametrize(
    ("written", "enabled", "expected"),
    [
        ({"outage": {"edge": "x"}}, False, []),
        ({"outage": {"edge": "x", "mode": "reset"}}, True, [("reset_peer", "upstream", {"timeout": 0})]),
        (
            {"outage": {"edge": "x", "mode": "hang"}},
            True,
            [("timeout", "upstream", {"timeout": 0}), ("timeout", "downstream", {"timeout": 0})],
        ),
        ({"outage": {"edge": "x", "mode": "close"}}, True, [("timeout", "upstream", {"timeout": 1})]),
        (
            {"latency": {"edge": "x", "latency": "300ms", "jitter": "50ms"}},
            True,
            [("latency", "downstream", {"latency": 300, "jitter": 50})],
        ),
        (
            {"partition": {"between": [["order"], ["shipping"]]}},
            True,
            [("timeout", "upstream", {"timeout": 0}), ("timeout", "downstream", {"timeout": 0})],
        ),
        (
            {"partition": {"between": [["order"], ["shipping"]], "direction": "one-way"}},
            True,
            [("timeout", "upstream", {"timeout": 0})],
        ),
        (
            {"partition": {"between": [["shipping"], ["order"]], "direction": "one-way"}},
            True,
            [("timeout", "downstream", {"timeout": 0})],
        ),
    ],
)
def test_each_fault_is_translated_into_toxiproxys_words(
    written: dict[str, object], enabled: bool, expected: list[tuple[str, str, dict[str, int]]]
) -> None:
    state = state_under([fault(**written)], EDGE, 1, {})

    assert state.enabled == enabled
    assert toxics(state) == expected


def test_observations_follow_from_what_is_expected_and_struck(tmp_path: Path) -> None:
    system = SYSTEM.replace(
        "equals: shipping-deferred}",
        "equals: shipping-deferred}\n    counter: {service: order, metric: 'fallback_total{name=\"x\"}'}",
        1,
    )
    plan = planned(tmp_path, SCENARIO + "  - invariant: every order is shipped\n", system)

    counter, invariant, bite = plan.observations
    assert isinstance(counter, WatchCounter)
    assert (counter.service, counter.metric) == ("order", 'fallback_total{name="x"}')
    assert isinstance(invariant, WatchInvariant)
    assert (invariant.at, invariant.until, invariant.hold, invariant.query) == (
        65.0,
        80.0,
        5.0,
        "SELECT 0 AS value, 100 AS over\n",
    )
    assert isinstance(bite, WatchBite)
    assert (bite.fault, bite.proxy, bite.protocol) == ("outage-1", "order -> shipping", "http")


def test_without_a_fault_nothing_is_injected_and_nothing_probed(tmp_path: Path) -> None:
    scenario = SCENARIO.replace("faults:\n  - outage: {service: shipping}\n", "faults: []\n").replace(
        "  - fallback: shipping-deferred\n", ""
    )

    plan = planned(tmp_path, scenario)

    assert (plan.steps, plan.observations) == ((), ())
    assert "nothing is injected" in plan_text(plan)


def test_the_twin_without_a_fault_withholds_every_change(tmp_path: Path) -> None:
    twin = twin_of(planned(tmp_path), "no fault")

    assert twin.steps
    assert all(change.state == CLEAN for step in twin.steps for change in step.changes)


def test_the_twin_on_the_wrong_edge_strikes_a_proxy_that_nobody_calls(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    twin = twin_of(plan, "wrong edge")

    struck = {change.proxy for step in twin.steps for change in step.changes}
    spares = {proxy.name for proxy in twin.proxies if proxy.spare}
    assert struck == spares == {"order -> shipping (spare)"}
    assert {seen.proxy for seen in twin.observations if isinstance(seen, WatchBite)} == spares
    assert next(step for step in twin.steps if isinstance(step, Begin)).changes[0].state == ProxyState(enabled=False)


def test_the_twin_cut_at_the_entry_strikes_the_way_in(tmp_path: Path) -> None:
    twin = twin_of(planned(tmp_path), "entry cut")

    assert {change.proxy for step in twin.steps for change in step.changes} == {"client -> gateway"}


@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_keeps_the_experiment_and_says_what_it_is(tmp_path: Path, twin: str) -> None:
    plan = planned(tmp_path)
    made = twin_of(plan, twin)  # type: ignore[arg-type]

    assert made.experiment == plan.experiment
    assert f"twin: {twin}" in plan_text(made)


def test_the_plan_is_told_with_where_each_value_came_from(tmp_path: Path) -> None:
    resolved = resolve(write_system(tmp_path), environ={})
    origins = origins_of(resolved.experiment, *resolved.documents)
    told = explanation(plan_of(resolved.experiment, resolved.queries), origins)

    assert origins["load.rate"] == ("60/s", f"{tmp_path}/system.yaml:4:14")
    assert origins["expect.2.recovery.within"] == ("10s", f"{tmp_path}/scenario.yaml:9:24")
    assert origins["expect.2.recovery.hold"] == ("5s", "default")
    assert f"{tmp_path}/compose.yaml:11:21 SHIPPING_URL" in told


PAUSE = SCENARIO.replace("outage: {service: shipping}", "pause: {service: postgres}")


def of_kind(written: str) -> str:
    return SCENARIO.replace("outage: {service: shipping}", written)


def test_a_fault_on_a_service_itself_changes_no_proxy_and_is_probed_through_every_edge_into_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, PAUSE)

    assert [(step.verb, step.at, step.changes, step.services) for step in plan.steps] == [
        ("begin", 25.0, (), (ServiceChange(service="postgres", deed="pause"),)),
        ("heal", 45.0, (), (ServiceChange(service="postgres", deed="pause"),)),
    ]
    assert [seen for seen in plan.observations if isinstance(seen, WatchBite)] == [
        WatchBite(
            fault="pause-1",
            proxy="order -> postgres",
            protocol="postgresql",
            service="postgres",
            sees=("silent",),
            at=25.5,
            again=45.3,
        )
    ]
    assert Plan.model_validate(json.loads(plan_to_json(plan))) == plan


@pytest.mark.parametrize(
    ("written", "change", "sees"),
    [
        ("kill: {service: shipping}", ServiceChange(service="shipping", deed="kill"), ("refused", "reset", "closed", "silent")),
        ("stop: {service: shipping}", ServiceChange(service="shipping", deed="stop"), ("refused", "reset", "closed", "silent")),
        ("restart: {service: shipping}", ServiceChange(service="shipping", deed="restart"), ()),
        ("crash: {service: shipping}", ServiceChange(service="shipping", deed="crash"), ()),
        (
            "disconnect: {service: shipping}",
            ServiceChange(service="shipping", deed="disconnect"),
            ("refused", "reset", "closed", "silent"),
        ),
        ("cpu: {service: shipping, cores: 0.2}", ServiceChange(service="shipping", deed="cpu", cores=0.2), ()),
        (
            "memory: {service: shipping, limit: 64MB}",
            ServiceChange(service="shipping", deed="memory", bytes=64 * 1024 * 1024),
            (),
        ),
    ],
)
def test_each_fault_on_a_service_is_translated_into_a_deed(
    tmp_path: Path, written: str, change: ServiceChange, sees: tuple[str, ...]
) -> None:
    plan = planned(tmp_path, of_kind(written))

    assert {step.services for step in plan.steps} == {(change,)}
    assert [seen.sees for seen in plan.observations if isinstance(seen, WatchBite)] == [sees]


def test_where_it_is_not_known_what_is_spoken_a_probe_need_not_see_silence(tmp_path: Path) -> None:
    system = SYSTEM + "edges: [order -> gateway:9999]\n"
    plan = planned(tmp_path, of_kind("pause: {service: gateway}"), system)

    sees = {seen.proxy: seen.sees for seen in plan.observations if isinstance(seen, WatchBite)}
    assert sees == {"client -> gateway": ("silent",), "order -> gateway": ()}


def test_the_plan_tells_what_is_done_to_a_service_and_what_a_probe_must_see(tmp_path: Path) -> None:
    told = plan_text(planned(tmp_path, PAUSE))

    assert "begin pause-1  postgres           pause: running true, paused true" in told
    assert "heal  pause-1  postgres           running true, paused false" in told
    assert "probe     order -> postgres (postgresql): before, during and after pause-1, meanwhile silent" in told


def test_a_fault_on_a_service_and_one_on_an_edge_into_it_do_not_touch_each_other(tmp_path: Path) -> None:
    faults = "  - {id: slow, latency: {edge: order -> postgres, latency: 10ms}}\n  - {id: still, pause: {service: postgres}, at: 5s, for: 5s}\n"
    scenario = SCENARIO.replace("  - outage: {service: shipping}\n", faults).replace(
        "fallback: shipping-deferred", "fallback: {name: shipping-deferred, fault: slow}"
    )
    steps = planned(tmp_path, scenario).steps

    assert [(step.verb, step.fault, len(step.changes), len(step.services)) for step in steps] == [
        ("begin", "slow", 1, 0),
        ("begin", "still", 0, 1),
        ("heal", "still", 0, 1),
        ("heal", "slow", 1, 0),
    ]
    assert steps[-1].changes[0].state == CLEAN


@pytest.mark.parametrize("twin", [twin for twin in TWINS if twin != NOT_APPLIED])
def test_no_twin_touches_the_service(tmp_path: Path, twin: str) -> None:
    made = twin_of(planned(tmp_path, PAUSE), twin)  # type: ignore[arg-type]

    assert len(made.steps) == 2
    assert all(step.services == () for step in made.steps)
    assert {change.proxy for step in made.steps for change in step.changes} == (
        {"client -> gateway"} if twin == "entry cut" else set()
    )


def test_a_twin_that_means_nothing_for_its_faults_is_left_out(tmp_path: Path) -> None:
    on_service, on_edge = planned(tmp_path, PAUSE), planned(tmp_path)

    assert twins_for(on_service.experiment) == ("no fault", "not applied", "entry cut")
    assert twins_for(on_edge.experiment) == TWINS


EDGES = ["gateway -> order", "order -> shipping", "order -> postgres"]
KINDS = [
    "outage: {{edge: {edge}}}",
    "outage: {{edge: {edge}, mode: hang}}",
    "latency: {{edge: {edge}, latency: 10ms}}",
    "outage: {{edge: {edge}, mode: close}}",
]


@given(
    st.lists(
        st.tuples(st.sampled_from(EDGES), st.sampled_from(KINDS), st.integers(0, 10), st.integers(3, 10)),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_overlaps_every_proxy_is_clean_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str, int, int]]
) -> None:
    faults = "".join(f"  - {{{kind.format(edge=edge)}, at: {at}s, for: {lasts}s}}\n" for edge, kind, at, lasts in drawn)
    scenario = SCENARIO.replace("  - outage: {service: shipping}\n", faults).replace("  - fallback: shipping-deferred\n", "")
    plan = planned(tmp_path_factory.mktemp("drawn"), scenario)

    states: dict[str, ProxyState] = {}
    for step in plan.steps:
        for change in step.changes:
            states[change.proxy] = change.state

    assert [step.at for step in plan.steps] == sorted(step.at for step in plan.steps)
    assert sum(isinstance(step, Begin) for step in plan.steps) == len(drawn)
    assert set(states.values()) == {CLEAN}
