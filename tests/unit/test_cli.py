"""What `chaos validate` says where a runtime and proxies are named: what `chaos plan` would refuse there; and what else is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness import experiment
from harness.cli import commands
from harness.errors import InvalidFile, InvalidInput
from harness.judge.verdict import EXIT_CODES, INVALID, LEFT_BEHIND, TERMINATED
from harness.runtime import choosing
from harness.runtime.choosing import Choice
from harness.runtime.containers.engine import DockerEngine
from tests.systems import SCENARIO, write_system


def validated(path: Path, *options: str) -> Result:
    return CliRunner().invoke(commands, ["validate", str(path), *options])


def planned(path: Path, *options: str) -> Result:
    return CliRunner().invoke(commands, ["plan", str(path), *options])


def with_fault(folder: Path, fault: str) -> Path:
    return write_system(folder, scenario=SCENARIO.replace("outage: {service: shipping}", fault))


def test_a_scenario_is_valid_for_the_runtime_and_the_proxies_that_it_would_have(tmp_path: Path) -> None:
    path = write_system(tmp_path)

    result = validated(path, "--runtime", "local")

    assert result.stdout == f"{path}: valid, for --runtime local --engine embedded\n"


def test_what_the_runtime_cannot_do_is_refused_as_plan_refuses_it(tmp_path: Path) -> None:
    path = with_fault(tmp_path, "disconnect: {service: shipping}")

    result = validated(path, "--runtime", "local")

    assert isinstance(result.exception, InvalidFile)
    assert "expected a fault that a process can have, found disconnect" in str(result.exception)
    assert str(result.exception) == str(planned(path, "--runtime", "local").exception)


def test_proxies_that_the_runtime_has_not_are_refused_as_plan_refuses_them(tmp_path: Path) -> None:
    path = write_system(tmp_path)

    result = validated(path, "--runtime", "local", "--engine", "toxiproxy")

    assert isinstance(result.exception, InvalidInput)
    assert str(result.exception) == str(planned(path, "--runtime", "local", "--engine", "toxiproxy").exception)


def test_what_the_proxies_cannot_do_is_refused_as_plan_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = DockerEngine("unix:///nowhere", "20.10.24", "1.41")
    monkeypatch.setattr(choosing, "choose", lambda _runtime, engine, _environ: Choice(engine, "so it is", docker))
    monkeypatch.setattr(experiment, "compose_reader", lambda _choice: None)
    monkeypatch.setattr(experiment, "can_enter", lambda _docker: False)
    path = with_fault(tmp_path, "latency: {edge: order -> shipping, latency: 100ms, share: 30%}")

    refused, taken = (validated(path, "--runtime", "docker", "--engine", engine) for engine in ("toxiproxy", "auto"))

    assert "expected a fault that Toxiproxy can do" in str(refused.exception)
    assert str(refused.exception) == str(planned(path, "--engine", "toxiproxy").exception)
    assert taken.stdout == f"{path}: valid, for --runtime docker --engine embedded\n"


def test_without_either_it_is_checked_for_every_runtime(tmp_path: Path) -> None:
    path = write_system(tmp_path)

    assert validated(path).stdout.startswith(f"{path}: valid")
    assert "--engine" not in validated(path).stdout


def test_every_exit_code_is_told_where_help_is_asked_for() -> None:
    shown = CliRunner().invoke(commands, ["--help"]).stdout.partition("Exit codes:")[2].partition("Options:")[0]

    assert {int(code) for code in re.findall(r"\d+", shown)} == {*EXIT_CODES.values(), INVALID, LEFT_BEHIND, TERMINATED}


@pytest.mark.parametrize("options", [(), ("--json",), ("--explain",), ("--json", "--explain")])
def test_a_plan_that_is_shown_says_no_secret(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = write_system(
        tmp_path,
        scenario=SCENARIO
        + "defects:\n  leaky: {environment: {order: {LEAKY_PASSWORD: Hunter22xyz, TRUST: Hunter22xyz}},"
        + " caught_by: recovery-1}\n",
    )

    shown = planned(path, "--runtime", "local", *options)

    assert shown.exit_code == 0, shown.output
    assert "shipping" in shown.stdout
    assert "Hunter22xyz" not in shown.output
