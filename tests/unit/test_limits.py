"""What may be struck at once: counted over time, and refused by line with the moment and what adds up."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InvalidFile
from harness.model.edges import Edge
from harness.model.faults import FaultItem
from harness.model.limits import Course, Limits, excesses
from harness.model.resolving import resolve
from tests.systems import SYSTEM, write_system

HEAD = "version: 1\nquestion: Does it hold?\nsystem: .\n"
EXPECT = "expect:\n  - blast_radius: {}\n"
LIMITS = "limits: {services_down: 1, edges: 2}\n"

EDGES = tuple(
    Edge(name=f"{caller} -> {callee}", caller=caller, callee=callee, port=80)
    for caller, callee in (("client", "web"), ("web", "order"), ("web", "stock"), ("order", "stock"), ("order", "pay"))
)


def refused(folder: Path, faults: str, limits: str = LIMITS, more: str = "") -> list[str]:
    path = write_system(folder, scenario=f"{HEAD}faults:\n{faults}{EXPECT}{more}", system=SYSTEM + limits)
    try:
        resolve(path, environ={})
    except InvalidFile as error:
        return [f"{problem.line}:{problem.column}: {problem.message}" for problem in error.problems]
    return []


def found(limits: Limits, *faults: dict[str, object], rounds: int = 1) -> list[tuple[str, float, tuple[str, ...]]]:
    items = tuple(
        FaultItem.model_validate({"id": f"f{number}", "at": "0s", "for": "20s", **fault})
        for number, fault in enumerate(faults, 1)
    )
    return [(excess.limit, excess.at, excess.adds_up) for excess in excesses(limits, Course(items, EDGES, 20.0, rounds, 1))]


def test_one_service_too_many_is_refused_by_line_with_the_moment_and_what_adds_up(tmp_path: Path) -> None:
    faults = "  - kill: {service: redis}\n    at: 2s\n  - pause: {service: shipping}\n    at: 5s\n    for: 10s\n"

    place = f"{tmp_path}/system.yaml:21:25"
    assert refused(tmp_path, faults) == [
        f"7:5: expected at most 1 service down at once (services_down, {place}), found 2 from 5s into the fault phase on: "
        "redis (kill-1), shipping (pause-1)"
    ]


def test_what_follows_each_other_is_not_added_up(tmp_path: Path) -> None:
    faults = "  - kill: {service: redis}\n    for: 5s\n  - pause: {service: shipping}\n    at: 5s\n    for: 10s\n"

    assert refused(tmp_path, faults) == []


def test_without_limits_everything_may_be_struck(tmp_path: Path) -> None:
    faults = "  - kill: {service: redis}\n  - kill: {service: shipping}\n  - kill: {service: postgres}\n"

    assert refused(tmp_path, faults, limits="") == []


def test_limits_that_limit_nothing_are_refused(tmp_path: Path) -> None:
    (told,) = refused(tmp_path, "  - kill: {service: redis}\n", limits="limits: {}\n")

    assert told.endswith("expected services_down, edges, or both, found an empty mapping")


def test_a_number_below_zero_is_no_limit(tmp_path: Path) -> None:
    (told,) = refused(tmp_path, "  - kill: {service: redis}\n", limits="limits: {edges: -1}\n")

    assert "expected at least 0, found -1" in told


ONE = Limits(services_down=1)


@pytest.mark.parametrize("kind", ["kill", "stop", "restart", "pause", "crash", "disconnect"])
def test_a_service_that_does_not_answer_is_down(kind: str) -> None:
    assert found(ONE, {kind: {"service": "pay"}}, {"stop": {"service": "order"}}) == [
        ("services_down", 0.0, ("pay (f1)", "order (f2)"))
    ]


@pytest.mark.parametrize("fault", [{"cpu": {"service": "pay", "cores": 0.1}}, {"memory": {"service": "pay", "limit": "64MB"}}])
def test_a_service_that_has_less_is_not_down(fault: dict[str, object]) -> None:
    assert found(ONE, fault, {"stop": {"service": "order"}}) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"outage": {"service": "stock"}},
        {"outage": {"service": "stock", "mode": "hang"}},
        {"isolate": "stock"},
        {"partition": {"between": [["web", "order"], ["stock"]]}},
        {"timeout": {"service": "stock", "timeout": "1s"}},
        {"reset_peer": {"service": "stock"}},
    ],
)
def test_a_service_that_nobody_can_reach_is_down(fault: dict[str, object]) -> None:
    assert found(ONE, fault, {"stop": {"service": "pay"}}) == [("services_down", 0.0, ("pay (f2)", "stock (f1)"))]


def test_of_a_service_that_is_isolated_only_it_is_down() -> None:
    assert found(ONE, {"isolate": "order"}) == []
    assert found(Limits(services_down=0), {"isolate": "order"}) == [("services_down", 0.0, ("order (f1)",))]
    assert found(Limits(services_down=0), {"isolate": "nobody_calls_it"}) == [("services_down", 0.0, ("nobody_calls_it (f1)",))]


def test_a_service_that_nobody_reaches_is_down_also_where_one_of_its_callers_is_isolated() -> None:
    assert found(ONE, {"isolate": "order"}, {"outage": {"edge": "web -> stock"}}) == [
        ("services_down", 0.0, ("order (f1)", "stock (f1, f2)"))
    ]
    assert found(ONE, {"isolate": "order"}, {"outage": {"edge": "order -> pay"}}) == [
        ("services_down", 0.0, ("order (f1)", "pay (f2)"))
    ]


def test_what_begins_when_another_ends_is_not_added_up_however_the_moments_are_summed() -> None:
    first = {"kill": {"service": "order"}, "at": "1.1s", "for": "2.2s"}

    assert found(ONE, first, {"kill": {"service": "stock"}, "at": "3.3s", "for": "5s"}) == []


def test_two_faults_that_cut_the_last_edges_into_a_service_take_it_down_together() -> None:
    one, other = ({"outage": {"edge": f"{caller} -> stock"}} for caller in ("web", "order"))

    assert found(Limits(services_down=0), one) == []
    assert found(Limits(services_down=0), one, {**other, "at": "5s", "for": "5s"}) == [
        ("services_down", 5.0, ("stock (f1, f2)",))
    ]


@pytest.mark.parametrize(
    "fault",
    [
        {"latency": {"service": "stock", "latency": "1s"}},
        {"outage": {"service": "stock", "mode": "hang", "share": "50%"}},
        {"outage": {"edge": "web -> stock"}},
    ],
)
def test_a_service_that_somebody_reaches_is_not_down(fault: dict[str, object]) -> None:
    assert found(Limits(services_down=0), fault) == []


def test_an_edge_counts_once_whatever_it_carries_and_a_service_that_is_struck_counts_no_edge() -> None:
    slow = {"latency": {"service": "stock", "latency": "1s"}}

    assert found(Limits(edges=2), slow, slow, {"stop": {"service": "pay"}}) == []
    assert found(Limits(edges=1), slow) == [("edges", 0.0, ("web -> stock (f1)", "order -> stock (f1)"))]


def test_what_repeats_is_counted_each_time() -> None:
    often = {"stop": {"service": "pay"}, "for": "3s", "repeat": {"every": "8s"}}
    once = {"stop": {"service": "order"}, "at": "17s", "for": "3s"}

    assert found(ONE, often, once) == [("services_down", 17.0, ("pay (f1)", "order (f2)"))]
    assert found(ONE, often, {**once, "at": "12s"}) == []


def test_each_round_draws_its_own_windows_and_all_of_them_count(tmp_path: Path) -> None:
    faults = "  - flaky: {service: shipping, share: 50%, mean: 1s}\n  - kill: {service: redis}\n    at: 10s\n    for: 10s\n"

    (told,) = refused(tmp_path, faults, more="rounds: 3\n")
    assert "of round 1 on: " in told
    assert "redis (kill-1)" in told
    assert "shipping (flaky-1)" in told


@given(spans=st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), min_size=1, max_size=6), allowed=st.integers(0, 3))
def test_a_limit_is_exceeded_exactly_where_so_many_are_down_at_some_second(spans: list[tuple[int, int]], allowed: int) -> None:
    services = ["web", "order", "stock", "pay", "mail", "search"]
    faults = [
        {"stop": {"service": service}, "at": f"{at}s", "for": f"{lasts}s"}
        for service, (at, lasts) in zip(services, spans, strict=False)
    ]
    down = [sum(at <= second < at + lasts for at, lasts in spans) for second in range(20)]

    excess = found(Limits(services_down=allowed), *faults)

    first = next((float(second) for second, number in enumerate(down) if number > allowed), None)
    assert [at for _, at, _ in excess] == ([] if first is None else [first])
