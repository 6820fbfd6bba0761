"""What `validate` tells of a scenario that cannot run: what is wrong with it, and nothing beside that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from harness import experiment
from harness.cli import commands
from harness.errors import InvalidFile
from harness.experiment import validate
from harness.model.compose import Compose
from harness.model.compose_config import compose_from_config
from tests.systems import COMPOSE, SYSTEM, write_system

BY_UDP = COMPOSE.replace('image: shipping\n    expose: ["8000"]', 'image: shipping\n    expose: ["8000/udp"]')
FOR_CONTAINERS = SYSTEM.partition("local:")[0]


@pytest.fixture(autouse=True)
def _as_compose_would_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose is taken to be there, and to say of a file what stands in it."""

    def read(files: Sequence[Path], _environ: Mapping[str, str]) -> Compose:
        return compose_from_config(yaml.safe_load(files[0].read_text(encoding="utf-8")), {})

    monkeypatch.setattr(experiment, "has_compose", lambda: True)
    monkeypatch.setattr(experiment, "read_by_compose", read)


def told(path: Path) -> list[str]:
    with pytest.raises(InvalidFile) as raised:
        validate(path)
    return [str(problem) for problem in raised.value.problems]


def test_a_system_for_containers_alone_is_told_only_what_containers_cannot_carry(tmp_path: Path) -> None:
    (problem,) = told(write_system(tmp_path, compose=BY_UDP, system=FOR_CONTAINERS))

    assert "shipping" in problem
    assert "UDP" in problem


def test_a_system_for_both_is_told_what_neither_can_run(tmp_path: Path) -> None:
    without_redis = SYSTEM.replace("  redis: {provided: redis}\n", "")

    problems = told(write_system(tmp_path, compose=BY_UDP, system=without_redis))

    assert len(problems) == 2
    assert "expected how redis runs without containers" in "".join(problems)
    assert "UDP" in "".join(problems)


def test_a_system_that_says_nothing_of_processes_is_valid_for_containers(tmp_path: Path) -> None:
    _, able, problems = validate(write_system(tmp_path, system=FOR_CONTAINERS))

    assert able == ("docker",)
    assert problems == (), "nobody meant it for processes"


def test_what_keeps_a_system_for_both_from_one_of_them_is_told(tmp_path: Path) -> None:
    without_redis = SYSTEM.replace("  redis: {provided: redis}\n", "")
    path = write_system(tmp_path, system=without_redis)

    said = CliRunner().invoke(commands, ["validate", str(path)])

    assert said.exit_code == 0
    assert said.stdout == f"{path}: valid, for --runtime docker alone\n"
    assert "not for --runtime local: " in said.stderr
    assert "expected how redis runs without containers" in said.stderr
