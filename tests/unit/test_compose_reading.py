"""The Compose file is read as Compose reads it, and what a run without containers must ignore is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.errors import InvalidFile
from harness.model.compose import Compose, HealthCheck
from harness.model.compose_reading import interpolate, read_compose


def read(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Compose:
    path = folder / "compose.yaml"
    path.write_text(text, encoding="utf-8")
    return read_compose([path], environ or {})[0]


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidFile) as raised:
        read(folder, text, environ)
    return [str(problem).removeprefix(f"{folder}/") for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$A-${A}", "1-1"),
        ("${B:-x} ${B-x} ${EMPTY:-x} ${EMPTY-x}", "x x x "),
        ("${A:+set} ${B:+set}${EMPTY+there}", "set there"),
        ("${B:-${A}2}", "12"),
        ("$$A $${A}", "$A ${A}"),
        ("${B}", ""),
        ("plain", "plain"),
    ],
)
def test_variables_are_filled_in_by_the_rules_of_compose(text: str, filled: str) -> None:
    assert interpolate(text, {"A": "1", "EMPTY": ""}) == filled


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("${NEEDED:?give it}", "expected the variable NEEDED to be set: give it, found it unset"),
        ("${NEEDED?}", "expected the variable NEEDED to be set, found it unset"),
        ("${no end", "expected a variable such as ${NAME} (or $$ for a dollar sign), found '${no end'"),
    ],
)
def test_a_variable_that_is_missing_or_broken_is_told_with_its_place(tmp_path: Path, value: str, told: str) -> None:
    assert problems(tmp_path, f'services:\n  a:\n    environment:\n      X: "{value}"\n') == [f"compose.yaml:4:10: {told}"]


def test_environment_is_read_as_a_mapping_or_a_list_with_env_files_under_it(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text(
        "# a comment\nA=from file\nB='$5'\nexport C=\"${WHO} c\" # tail\nD=x # no\n", encoding="utf-8"
    )
    compose = read(
        tmp_path,
        """\
services:
  a:
    env_file: one.env
    environment: [A=over, PASSED, UNSET, "E="]
  b:
    env_file: [{path: none.env, required: false}]
    environment: {N: 5, F: 1.5, PASSED: , T: "true"}
""",
        {"PASSED": "on", "WHO": "my"},
    )

    assert compose.services["a"].environment == {"A": "over", "B": "$5", "C": "my c", "D": "x", "PASSED": "on", "E": ""}
    assert compose.services["b"].environment == {"N": "5", "F": "1.5", "PASSED": "on", "T": "true"}
    assert compose.services["a"].places["B"].endswith("one.env:3:1")
    assert compose.services["b"].places["N"].endswith("compose.yaml:7:22")


def test_a_variable_file_beside_the_compose_file_gives_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WHO=file\nOTHER=file\n", encoding="utf-8")

    compose = read(tmp_path, "services: {a: {environment: {X: '${WHO} ${OTHER}'}}}", {"WHO": "shell"})

    assert compose.services["a"].environment == {"X": "shell file"}


def test_ports_are_the_containers_own(tmp_path: Path) -> None:
    ports = '["8000", "8080:80", "127.0.0.1:5433:5432/tcp", 9000, {target: 7000, published: 1}, "53:53/udp", "80"]'

    compose = read(tmp_path, f"services: {{a: {{ports: {ports}, expose: [6000]}}}}")

    assert compose.services["a"].ports == (8000, 80, 5432, 9000, 7000, 6000)


@pytest.mark.parametrize(
    ("written", "check"),
    [
        ("{test: [CMD, pg_isready, -q], interval: 2s, timeout: 1s, retries: 9}", HealthCheck(("pg_isready", "-q"), 2, 1, 9)),
        ("{test: [CMD-SHELL, 'curl x || exit 1']}", HealthCheck(("/bin/sh", "-c", "curl x || exit 1"))),
        ("{test: 'true', start_period: 1m30s}", HealthCheck(("/bin/sh", "-c", "true"), start_period=90)),
        ("{disable: true}", None),
        ("{test: [NONE]}", None),
    ],
)
def test_health_checks_are_read_in_each_of_their_forms(tmp_path: Path, written: str, check: HealthCheck | None) -> None:
    assert read(tmp_path, f"services: {{a: {{healthcheck: {written}}}}}").services["a"].healthcheck == check


def test_dependencies_are_read_with_their_conditions(tmp_path: Path) -> None:
    compose = read(tmp_path, "services: {a: {depends_on: [b]}, b: {depends_on: {c: {condition: service_healthy}}}, c: {}}")

    assert compose.services["a"].depends_on == {"b": "service_started"}
    assert compose.services["b"].depends_on == {"c": "service_healthy"}


@pytest.mark.parametrize(
    ("service", "told"),
    [
        ("{depends_on: [z]}", "1:29: expected a service of this file, found 'z'; there is a"),
        (
            "{depends_on: {a: {condition: service_completed_successfully}}}",
            "1:32: expected the condition service_started or service_healthy, found 'service_completed_successfully'",
        ),
        ("{healthcheck: {test: [curl]}}", "1:36: expected test: as text, or a list that begins with CMD or CMD-SHELL"),
        ("{healthcheck: {test: x, interval: 5}}", "1:49: expected a duration with its unit, such as 250ms, 30s or 5m, found 5"),
        ("{healthcheck: {test: x, retries: 0}}", "1:48: expected a whole number of at least 1, found 0"),
        ("{ports: [web]}", "1:24: expected a port, found 'web'"),
        ("{env_file: no.env}", "1:26: expected the file {folder}/no.env, found no such file"),
        ("{environment: {A: true}}", "1:29: expected environment as Compose writes it, found something else"),
        ("[]", "1:15: expected a mapping of keys to values"),
    ],
)
def test_what_compose_would_refuse_is_refused_with_its_place(tmp_path: Path, service: str, told: str) -> None:
    assert f"compose.yaml:{told.format(folder=tmp_path)}" in problems(tmp_path, f"services: {{a: {service}}}")


def test_a_file_without_services_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "version: '3'\n") == [
        "compose.yaml:1:1: expected services: with at least one service, found none"
    ]


def test_a_line_of_an_env_file_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text("A=1\nnonsense\n", encoding="utf-8")

    assert problems(tmp_path, "services: {a: {env_file: one.env}}") == ["one.env:2:1: expected NAME=value, found 'nonsense'"]


def test_what_a_run_without_containers_would_ignore_is_named_by_key_and_line(tmp_path: Path) -> None:
    compose = read(
        tmp_path,
        """\
x-common: {}
services:
  a:
    image: a
    hostname: b
    volumes: [x:/y]
    x-own: 1
volumes: {x: }
""",
    )

    told = [
        str(problem).removeprefix(f"{tmp_path}/") for problem in (*compose.services["a"].not_honoured, *compose.not_honoured)
    ]
    assert told == [
        "compose.yaml:5:5: expected only what a run without containers can honour, found 'hostname': take it out",
        "compose.yaml:6:5: expected only what a run without containers can honour, found 'volumes': take it out",
        "compose.yaml:8:1: expected only what a run without containers can honour, found 'volumes'",
    ]


def test_a_later_file_is_laid_over_an_earlier_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("services: {a: {environment: {X: '1', Y: '1'}, expose: [1]}}", encoding="utf-8")
    second.write_text("services: {a: {environment: {Y: '2'}, expose: [2]}, b: {depends_on: [a]}}", encoding="utf-8")

    compose, _ = read_compose([first, second], {})

    assert compose.services["a"].environment == {"X": "1", "Y": "2"}
    assert compose.services["a"].ports == (1, 2)
    assert compose.services["b"].depends_on == {"a": "service_started"}


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ("always", "always"),
        ("no", "no"),
        ('"no"', "no"),
        ("on-failure:3", "on-failure:3"),
        ("unless-stopped", "unless-stopped"),
    ],
)
def test_a_restart_policy_is_kept_as_it_was_written(tmp_path: Path, written: str, policy: str) -> None:
    compose = read(tmp_path, f"services:\n  a:\n    image: a\n    restart: {written}\n")

    assert compose.services["a"].restart == policy
    assert compose.services["a"].not_honoured == ()


def test_a_restart_policy_that_is_none_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"compose.yaml:4:14: expected a restart policy, one of no, .* found 'sometimes'"):
        read(tmp_path, "services:\n  a:\n    image: a\n    restart: sometimes\n")
