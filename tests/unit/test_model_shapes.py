"""What is told of a file whose parts stand at a wrong place: one problem, with its line, what was meant, and what to do."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InvalidFile
from harness.model.kinds.http import METHODS, HttpError
from harness.model.resolving import resolve
from tests.systems import write_system

HEAD = "version: 1\nquestion: Q?\nsystem: .\nfaults:\n"
TAIL = "expect:\n  - recovery: {within: 10s}\n"


def problems_of(path: Path) -> list[str]:
    with pytest.raises(InvalidFile) as raised:
        resolve(path, environ={})
    return [str(problem).removeprefix(f"{path.parent}/") for problem in raised.value.problems]


def told(folder: Path, faults: str) -> list[str]:
    return problems_of(write_system(folder, scenario=HEAD + faults + TAIL))


@pytest.mark.parametrize(
    ("faults", "problem"),
    [
        (
            "  - outage: order -> shipping\n",
            "5:13: expected a mapping of keys to values, as in outage: {edge: order -> shipping}; found 'order -> shipping'",
        ),
        (
            "  - latency: shipping\n",
            "5:14: expected a mapping of keys to values, as in latency: {service: shipping, latency: …}; found 'shipping'",
        ),
        (
            "  - pause: shipping\n",
            "5:12: expected a mapping of keys to values, as in pause: {service: shipping}; found 'shipping'",
        ),
        (
            "  - isolate: [shipping]\n",
            "5:14: expected a mapping of keys to values, as in isolate: payment; found a list",
        ),
        (
            "  - outage\n",
            "5:5: expected a fault, its kind as the key, as in outage: {service: shipping, mode: refuse}; found 'outage'",
        ),
        (
            "  - outage:\n",
            "5:5: expected what belongs to outage, as in outage: {service: shipping, mode: refuse}; found nothing",
        ),
        (
            "  - http_error:\n    edge: order -> shipping\n    status: 503\n    for: 5s\n",
            "6:5: expected what belongs to http_error further in than http_error itself, or as http_error: {…}; "
            "found 'edge' and 'status' beside it",
        ),
        (
            "  - http_error: {edge: order -> shipping}\n    status: 503\n",
            "6:5: expected what belongs to http_error further in than http_error itself, or as http_error: {…}; "
            "found 'status' beside it",
        ),
        (
            "  - latency:\n    latency: 300ms\n",
            "6:5: expected each key once, found 'latency' again "
            "(first in line 5; what belongs beneath that one stands further in)",
        ),
        (
            "  - latency: {latency: 300ms}\n",
            "5:14: expected where it strikes, exactly one of the keys edge, service and from; found none",
        ),
        (
            "  - partition: {between: [order, shipping]}\n",
            "5:26: expected two lists of services, "
            "as in partition: {between: [[order], [payment, inventory]], direction: both}; found [order, shipping]",
        ),
        (
            "  - partition: {between: order}\n",
            "5:26: expected two lists of services, "
            "as in partition: {between: [[order], [payment, inventory]], direction: both}; found 'order'",
        ),
        (
            "  - partition: {between: [[order]]}\n",
            "5:16: expected two groups of services that share none, such as [[order], [payment]], found [[order]]",
        ),
        (
            "  - http_error: {edge: order -> shipping, method: PSOT}\n",
            "5:51: expected a method of HTTP, found 'PSOT'; did you mean 'POST'?",
        ),
        (
            "  - http_error: {edge: order -> shipping, method: post}\n",
            "5:51: expected a method in capitals, as POST, found 'post'; did you mean 'POST'?",
        ),
        (
            "  - latency: {edge: order -> shipping, latency: 100ms, jitter: 300ms}\n",
            "5:14: expected a jitter of at most the latency: nothing comes early; found jitter: 300ms with latency: 100ms",
        ),
        (
            "  - http_delay: {edge: order -> shipping, delay: 100ms, jitter: 300ms}\n",
            "5:17: expected a jitter of at most the delay: nothing comes early; found jitter: 300ms with delay: 100ms",
        ),
    ],
)
def test_a_fault_at_a_wrong_place_is_one_problem_that_says_how_it_is_written(tmp_path: Path, faults: str, problem: str) -> None:
    assert told(tmp_path, faults) == [f"scenario.yaml:{problem}"]


def test_what_else_is_wrong_with_the_file_is_told_beside_it(tmp_path: Path) -> None:
    found = told(tmp_path, "  - outage: order -> shipping\n  - latency: {edge: order -> shipping}\n")

    assert len(found) == 2
    assert found[1] == "scenario.yaml:6:14: expected the key 'latency', found none"


def test_a_system_in_place_of_a_scenario_is_told_as_such(tmp_path: Path) -> None:
    path = write_system(tmp_path)

    (problem,) = problems_of(path.parent / "system.yaml")

    assert "expected a scenario, found a system" in problem
    assert "chaos takes a scenario, which names its system by its key system:" in problem


def test_a_compose_file_in_place_of_a_scenario_is_told_as_such(tmp_path: Path) -> None:
    path = write_system(tmp_path)

    (problem,) = problems_of(path.parent / "compose.yaml")

    assert "expected a scenario, found a Compose file (by its key 'services')" in problem


def test_a_scenario_in_place_of_its_system_is_told_as_such(tmp_path: Path) -> None:
    path = write_system(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text(encoding="utf-8").replace("system: .", "system: scenario.yaml"), encoding="utf-8")

    (problem,) = problems_of(other)

    assert problem.startswith("scenario.yaml:")
    assert "expected a system, found a scenario (by its key 'question')" in problem


@given(st.from_regex("[A-Z]{3,20}", fullmatch=True))
def test_a_method_of_ones_own_is_taken_unless_it_is_nearly_a_known_one(method: str) -> None:
    near = method not in METHODS and bool(difflib.get_close_matches(method, METHODS, 1, 0.65))
    try:
        HttpError.model_validate({"edge": "a -> b", "method": method})
        taken = True
    except ValueError:
        taken = False

    assert taken is not near


@pytest.mark.parametrize("method", METHODS)
def test_every_known_method_is_taken(method: str) -> None:
    assert HttpError.model_validate({"edge": "a -> b", "method": method}).method == method


def doubled(folder: Path, faults: str) -> tuple[str, ...]:
    scenario = HEAD + faults + TAIL
    warnings = resolve(write_system(folder, scenario=scenario), environ={}).warnings
    return tuple(warning.removeprefix(f"{folder}/") for warning in warnings)


def test_two_faults_that_cut_the_same_at_a_time_are_a_warning_that_names_both_lines(tmp_path: Path) -> None:
    faults = "  - outage: {service: shipping}\n    for: 10s\n  - outage: {edge: order -> shipping, mode: hang}\n    at: 5s\n"

    assert doubled(tmp_path, faults) == (
        "scenario.yaml:7:5: outage-2 and outage-1 (line 5) both cut order -> shipping from 5s to 10s: "
        "one of them does nothing then",
    )


@pytest.mark.parametrize(
    "faults",
    [
        "  - outage: {service: shipping}\n    for: 10s\n  - outage: {service: shipping}\n    at: 10s\n",
        "  - outage: {edge: order -> shipping}\n  - outage: {edge: order -> redis}\n",
        "  - outage: {service: shipping, mode: hang, share: 30%}\n  - outage: {service: shipping}\n",
        "  - outage: {service: shipping}\n  - latency: {service: shipping, latency: 100ms}\n",
        "  - isolate: gateway\n  - isolate: order\n",
    ],
)
def test_faults_of_which_each_does_something_are_no_warning(tmp_path: Path, faults: str) -> None:
    assert doubled(tmp_path, faults) == ()


def test_what_is_said_of_the_steady_state_and_of_what_is_expected_has_different_names(tmp_path: Path) -> None:
    steady = "steady_state:\n  - error_rate: {max: 1%}\n  - error_rate: {max: 2%}\n"
    expect = "expect:\n  - error_rate: {max: 1%}\n"
    path = write_system(tmp_path, scenario=HEAD.replace("faults:\n", f"{steady}faults: []\n") + expect)

    experiment = resolve(path, environ={}).experiment

    assert [item.id for item in experiment.steady_state] == ["steady-error_rate-1", "steady-error_rate-2"]
    assert [item.id for item in experiment.expect] == ["error_rate-1"]


def test_the_steady_state_that_nobody_wrote_has_a_name_of_its_own_too(tmp_path: Path) -> None:
    path = write_system(tmp_path, scenario=HEAD.replace("faults:\n", "faults: []\n") + "expect:\n  - error_rate: {max: 1%}\n")

    experiment = resolve(path, environ={}).experiment

    assert [item.id for item in (*experiment.steady_state, *experiment.expect)] == ["steady-error_rate-1", "error_rate-1"]


def test_an_id_in_both_is_refused_and_both_lines_are_named(tmp_path: Path) -> None:
    steady = "steady_state:\n  - id: healthy\n    error_rate: {max: 1%}\n"
    expect = "expect:\n  - id: healthy\n    error_rate: {max: 1%}\n"
    path = write_system(tmp_path, scenario=HEAD.replace("faults:\n", f"{steady}faults: []\n") + expect)

    assert problems_of(path) == ["scenario.yaml:5:9: expected each id once, found 'healthy' again (first in line 9)"]


def test_an_id_that_another_fault_has_by_default_names_the_line_of_that_one(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        "  - id: outage-2\n    latency: {edge: order -> shipping, latency: 1s}\n  - outage: {service: order}\n"
        "  - outage: {service: shipping}\n",
    )

    assert found == ["scenario.yaml:8:5: expected each id once, found 'outage-2' again (first in line 5)"]
