"""What `load:` may say, and what is made of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.errors import InvalidFile
from harness.model.experiment import Experiment
from harness.model.load import Load
from harness.model.origins import origins_of
from harness.model.resolving import resolve
from harness.plan.plan import Plan
from harness.plan.planning import plan_of, plan_to_json
from harness.plan.text import plan_text
from tests.systems import SCENARIO, SYSTEM, write_system


def planned(folder: Path, load: str) -> Plan:
    resolved = resolve(write_system(folder, scenario=f"{SCENARIO}load: {load}\n"), environ={})
    return plan_of(resolved.experiment, resolved.queries)


def problems_of(folder: Path, load: str) -> list[str]:
    with pytest.raises(InvalidFile) as raised:
        planned(folder, load)
    return [str(problem).partition("scenario.yaml:")[2].partition(": ")[2] for problem in raised.value.problems]


def read_back(plan: Plan) -> Load:
    return Experiment.model_validate(json.loads(plan_to_json(plan))["experiment"]).load


def test_a_rate_in_stages_is_told_as_where_each_leads_and_over_how_long(tmp_path: Path) -> None:
    plan = planned(tmp_path, "{rate: [{to: 20/s, over: 10s}, {hold: 30s}, {to: 40/s}], timeout: 2s}")

    assert [(stage.to, stage.over) for stage in plan.load.stages] == [(20.0, 10.0), (20.0, 30.0), (40.0, 0.0)]
    assert (plan.load.rate, plan.load.users) == (40.0, 96)
    course = read_back(plan).course
    assert course is not None
    assert [course.arrivals_by(at) for at in (10.0, 40.0, 41.0)] == [100.0, 700.0, 740.0]


def test_stages_of_a_scenario_stand_in_place_of_the_rate_of_the_system(tmp_path: Path) -> None:
    assert planned(tmp_path, "{rate: [{to: 20/s}]}").load.rate == 20.0
    assert planned(tmp_path, "{arrivals: poisson}").load.rate == 60.0


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        ("60/s", []),
        ("[{to: 60/s, over: 5s}]", []),
        ("[{to: 20/s}, {hold: 25s}, {to: 60/s}]", ["20/s in the baseline, 60/s in the fault, 60/s in the recovery"]),
        ("[{to: 130/s, over: 65s}]", ["30/s in the baseline, 70/s in the fault, 110/s in the recovery"]),
    ],
)
def test_a_load_that_changes_between_the_phases_that_are_compared_is_told(tmp_path: Path, rate: str, told: list[str]) -> None:
    path = write_system(tmp_path, scenario=f"{SCENARIO}load: {{rate: {rate}}}\n")

    cautions = resolve(path, environ={}).cautions

    assert [caution.partition("compared (")[2].partition(")")[0] for caution in cautions] == told
    assert all(re.search(r"scenario\.yaml:\d+:\d+: the load changes", caution) for caution in cautions)


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        ("[{to: 40/s}, {hold: 15m}]", []),
        (
            "[{to: 40/s}, {hold: 84s}, {to: 120/s}]",
            ["44/s in the baseline, 120/s in the fault, 120/s in the recovery of round 2"],
        ),
        ("[{to: 40/s}, {hold: 45s}, {to: 80/s}]", ["40/s in the baseline, 40/s in the fault, 80/s in the recovery of round 1"]),
        ("[{to: 40/s}, {hold: 65s}, {to: 80/s}]", []),
    ],
)
def test_a_load_that_changes_within_any_round_is_told_with_the_round(tmp_path: Path, rate: str, told: list[str]) -> None:
    path = write_system(tmp_path, scenario=f"{SCENARIO}rounds: 3\nload: {{rate: {rate}}}\n")

    cautions = resolve(path, environ={}).cautions

    assert [caution.partition("compared (")[2].partition(")")[0] for caution in cautions] == told


def test_a_closed_loop_has_no_course(tmp_path: Path) -> None:
    assert read_back(planned(tmp_path, "{users: 5}")).course is None


def test_a_shape_stands_in_place_of_the_rate_of_the_system(tmp_path: Path) -> None:
    load = read_back(planned(tmp_path, "{shape: true, processes: 2}"))

    assert (load.shape, load.rate, load.users, load.course) == (True, None, 0, None)
    assert "as the locustfile's own shape has them" in plan_text(planned(tmp_path, "{shape: true}"))


def test_only_who_expects_workers_from_elsewhere_listens_and_on_loopback_unless_told_otherwise(tmp_path: Path) -> None:
    here, elsewhere, wide = (
        planned(tmp_path, load).load
        for load in ("{processes: 3}", "{expect_workers: 3}", "{expect_workers: 3, bind: '0.0.0.0:6000'}")
    )

    assert (here.processes, here.bind) == (3, None)
    assert (elsewhere.processes, elsewhere.bind) == (3, "127.0.0.1")
    assert (wide.processes, wide.bind) == (3, "0.0.0.0:6000")
    path = write_system(tmp_path, scenario=f"{SCENARIO}load: {{expect_workers: 3}}\n")
    (caution,) = resolve(path, environ={}).cautions
    assert caution.startswith("the load comes from 3 processes of other machines, which join at 127.0.0.1: python -m ")
    assert "from 3 processes that join at 127.0.0.1" in plan_text(planned(tmp_path, "{expect_workers: 3}"))


def test_where_each_stage_was_said_is_told(tmp_path: Path) -> None:
    load = "{rate: [{to: 20/s, over: 1s}, {hold: 9s}], expect_workers: 2}"
    resolved = resolve(write_system(tmp_path, scenario=f"{SCENARIO}load: {load}\n"), environ={})

    origins = origins_of(resolved.experiment, *resolved.documents)

    told = {path: origin.partition("scenario.yaml:")[2] for path, (_, origin) in origins.items() if path.startswith("load.")}
    line = SCENARIO.count("\n") + 1
    column = len("load: ") + load.index("to:") + len("to: ") + 1
    assert told["load.stages.0.to"] == f"{line}:{column}"
    assert told["load.stages.1.over"] == f"{line}:{len('load: ') + load.index('9s') + 1}"
    assert told["load.processes"].startswith(f"{line}:")


@pytest.mark.parametrize(
    ("of_system", "of_scenario", "processes", "bind"),
    [
        ("expect_workers: 4, bind: 10.0.0.5", "processes: 2", 2, None),
        ("processes: 2", "expect_workers: 4", 4, "127.0.0.1"),
        ("expect_workers: 4, bind: 10.0.0.5", "timeout: 2s", 4, "10.0.0.5"),
    ],
)
def test_where_a_scenario_says_who_sends_the_load_the_system_does_not(
    tmp_path: Path, of_system: str, of_scenario: str, processes: int, bind: str | None
) -> None:
    system = SYSTEM.replace("load: {", f"load: {{{of_system}, ")
    path = write_system(tmp_path, scenario=f"{SCENARIO}load: {{{of_scenario}}}\n", system=system)

    load = resolve(path, environ={}).experiment.load

    assert (load.processes, load.bind) == (processes, bind)


@pytest.mark.parametrize(("of_system", "closed"), [("users: 20", "users"), ("shape: true", "shape")])
def test_max_users_of_a_scenario_over_a_closed_model_of_the_system_is_told(tmp_path: Path, of_system: str, closed: str) -> None:
    system = SYSTEM.replace("load: {rate: 60/s}", f"load: {{{of_system}}}")
    alone, with_rate = (f"{SCENARIO}load: {{{load}}}\n" for load in ("max_users: 3000", "rate: 40/s, max_users: 3000"))

    with pytest.raises(InvalidFile) as raised:
        resolve(write_system(tmp_path, scenario=alone, system=system), environ={})
    load = resolve(write_system(tmp_path, scenario=with_rate, system=system), environ={}).experiment.load

    (problem,) = raised.value.problems
    line = SCENARIO.count("\n") + 1
    assert f"scenario.yaml:{line}:" in str(problem)
    assert f"expected max_users beside a rate, found it beside {closed} of the system" in str(problem)
    assert (load.rate, load.users) == (40.0, 3000)


@pytest.mark.parametrize(
    ("load", "told"),
    [
        ("{rate: []}", "expected stages that begin with one such as {to: 20/s, over: 10s}"),
        ("{rate: [{hold: 5s}]}", "expected stages that begin with one such as {to: 20/s, over: 10s}"),
        ("{rate: [{to: 5/s, hold: 5s}]}", "expected a stage such as {to: 20/s, over: 10s} or {hold: 30s}"),
        ("{rate: [{to: 5/s}, {over: 5s}]}", "expected a stage such as {to: 20/s, over: 10s} or {hold: 30s}"),
        ("{rate: [{too: 5/s}]}", "expected a key that is known here, found 'too'; did you mean 'to'?"),
        ("{rate: [{to: 5}]}", "expected a rate with its unit, such as 5/s, found 5"),
        ("{users: 2, processes: 3}", "expected no more processes than users, found 3 for 2"),
        ("{processes: 0}", "expected at least 1, found 0"),
        ("{users: 2, expect_workers: 3}", "expected no more processes than users, found 3 for 2"),
        ("{processes: 2, expect_workers: 2}", "expected either processes here or expect_workers elsewhere, found both"),
        ("{expect_workers: 2, bind: 'x:y'}", "expected an address such as 10.0.0.5 or 10.0.0.5:5557, found 'x:y'"),
        ("{bind: 10.0.0.5}", "expected bind beside expect_workers alone"),
        ("{expect_workers: 2, bind: ':80'}", "expected an address such as 10.0.0.5 or 10.0.0.5:5557, found ':80'"),
        ("{rate: 5}", "expected a rate with its unit, such as 5/s, found 5"),
        ("{rate: [{to: 5/s}], users: 3}", "expected either rate"),
        ("{shape: true, users: 3}", "expected shape: true without rate, users and max_users"),
        ("{shape: true, rate: 3/s}", "expected shape: true without rate, users and max_users"),
    ],
)
def test_a_rate_that_is_none_is_told(tmp_path: Path, load: str, told: str) -> None:
    assert [problem[: len(told)] for problem in problems_of(tmp_path, load)] == [told]


JOURNEYS = """\
  track: GET /orders/*
  pay: {request: POST /payments, ok: [409, 422]}
"""


def with_journeys(journeys: str) -> str:
    return SYSTEM.replace("journeys:\n", f"journeys:\n{journeys}")


def test_a_pattern_and_accepted_statuses_go_to_the_load(tmp_path: Path) -> None:
    resolved = resolve(write_system(tmp_path, system=with_journeys(JOURNEYS)), environ={})

    load = plan_of(resolved.experiment, resolved.queries).load

    assert resolved.experiment.system.journeys["pay"] == "POST /payments"
    assert set(load.journeys) >= {"GET /orders/*", "POST /payments"}
    assert load.accepted == {"POST /payments": (409, 422)}


@pytest.mark.parametrize(
    "sent",
    ["GET /payments/:id", "GET /payments/**/lines/*", "GET pay", "WS /ticks", "grpc /pay.Pay/Charge", "pay", "PURGE /*"],
)
def test_a_request_that_a_load_can_send_is_a_journey(tmp_path: Path, sent: str) -> None:
    system = resolve(write_system(tmp_path, system=with_journeys(f"  pay: {sent}\n")), environ={}).experiment.system

    assert system.journeys["pay"] == sent


@pytest.mark.parametrize(
    ("journey", "told"),
    [
        ("pay: {request: POST /payments, ok: [200]}", "expected at least 400, found 200"),
        ("pay: {request: POST /payments, okay: [409]}", "expected a key that is known here, found 'okay'"),
        ("pay: {ok: [409]}", "expected the key 'request', found none"),
        ("pay: [POST /payments]", "expected a mapping of keys to values, found a list of 1"),
        *(
            (
                f"pay: {request!r}",
                f"system.yaml:6:8: expected a pattern such as 'GET /orders/*', with * and ** in a path alone, "
                f"found {request!r}",
            )
            for request in (
                "get /payments/*",
                "/payments/*",
                "GET payments/*",
                "GET /payments/***",
                "GET  /payments/*",
                "GET /payments?id=*",
                "GET http://pay/*",
                "**",
            )
        ),
        *(
            (
                f"pay: {{request: {request}}}",
                f"expected a method in capitals, a space and a name, such as 'GET /orders', found {request!r}",
            )
            for request in ("get /payments", "/payments", "GET/payments", "GET  /payments")
        ),
        (
            "also orders: POST /orders",
            "system.yaml:7:16: expected each request once, found 'POST /orders' again ('also orders' in line 6)",
        ),
    ],
)
def test_a_journey_that_is_none_is_told(tmp_path: Path, journey: str, told: str) -> None:
    with pytest.raises(InvalidFile) as raised:
        resolve(write_system(tmp_path, system=with_journeys(f"  {journey}\n")), environ={})

    assert [told in str(problem) for problem in raised.value.problems] == [True]
