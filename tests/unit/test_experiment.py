"""What is said to run the same again runs the same system."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from harness.experiment import Options, command_for
from harness.runtime.choosing import Choice

OPTIONS = Options(Path("reports"), Choice(docker=None, engine="embedded", why="asked for"))


def test_the_command_to_run_again_lays_the_same_variables_over_services() -> None:
    environment = {"order": {"PAYMENT_TIMEOUT": "0.5", "GREETING": "it's late"}, "gateway": {"RETRIES": "3"}}

    command = command_for(Path("my scenarios/a.yaml"), 7, replace(OPTIONS, environment=environment))

    assert shlex.split(command) == [
        *("chaos", "run", "my scenarios/a.yaml", "--seed", "7", "--runtime", "local"),
        *("--env", "order.PAYMENT_TIMEOUT=0.5", "--env", "order.GREETING=it's late", "--env", "gateway.RETRIES=3"),
    ]


@pytest.mark.parametrize(("lease", "said"), [(5.0, []), (2.5, ["--lease", "2.5s"]), (300.0, ["--lease", "300s"])])
def test_the_command_to_run_again_says_the_lease_where_it_is_another(lease: float, said: list[str]) -> None:
    command = command_for(Path("a.yaml"), 7, replace(OPTIONS, lease=lease))

    assert shlex.split(command) == ["chaos", "run", "a.yaml", "--seed", "7", "--runtime", "local", *said]


def test_the_command_to_run_again_tells_no_secret() -> None:
    environment = {"order": {"API_KEY": "hunter2", "DATABASE": "postgresql://me:hunter2@db/orders"}}

    command = command_for(Path("a.yaml"), 7, replace(OPTIONS, environment=environment))

    assert "hunter2" not in command
    assert command.count("***") == 2
