"""The command line, as far as it touches nothing: help, bad input, plans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import commands
from tests.end_to_end.chaos import PROJECT, TINY, chaos, scenario

SCENARIOS = sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "scenarios").glob("*.yaml"))


def test_help_tells_the_commands_and_the_exit_codes() -> None:
    answer = chaos("--help")

    assert answer.code == 0
    assert all(f"\n  {command} " in answer.out for command in ("run", "prove", "validate", "plan", "judge"))
    assert "130/143 interrupted" in answer.out


def test_every_scenario_of_the_project_is_valid() -> None:
    assert chaos("validate", *SCENARIOS).out == "".join(f"{file}: valid\n" for file in SCENARIOS)


@pytest.mark.parametrize("file", SCENARIOS)
def test_every_scenario_of_the_project_can_be_planned(file: str) -> None:
    planned = CliRunner().invoke(commands, ["plan", str(PROJECT / file), "--json"])

    assert json.loads(planned.stdout)["experiment"]["name"] == Path(file).stem


def test_a_plan_is_the_same_every_time() -> None:
    assert chaos("plan", SCENARIOS[0], "--json").out == chaos("plan", SCENARIOS[0], "--json").out


def test_a_misspelt_key_is_told_with_its_line_and_the_right_word(tmp_path: Path) -> None:
    path = tmp_path / "misspelt.yaml"
    path.write_text(
        f"version: 1\nquestion: Is it told?\nsystem: {PROJECT}/sample_system\nfaults: []\nexpekt: []\n", encoding="utf-8"
    )

    for command in ("run", "validate"):
        answer = chaos(command, str(path))

        assert answer.code == 2
        assert f"{path}:5:1: expected a key that is known here, found 'expekt'; did you mean 'expect'?" in answer.err
        assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "no.yaml"], "no.yaml: expected a scenario, found no such file"),
        (["run"], "Missing argument 'FILES...'"),
        (["fly"], "No such command 'fly'"),
        (["run", "scenarios/shipping_down.yaml", "--env", "DEFECTS=x"], "expected SERVICE.NAME=VALUE, found 'DEFECTS=x'"),
        (
            ["run", "scenarios/shipping_down.yaml", "--env", "ordr.DEFECTS=x"],
            "--env: expected a service of the system, found 'ordr'",
        ),
        (["run", "scenarios/shipping_down.yaml", "--seed", "-1"], "-1 is not in the range"),
        (["run", "scenarios/shipping_down.yaml", "--runtime", "moon"], "'moon' is not one of"),
        (["prove", "scenarios/shipping_down.yaml", "--only", "nothing"], "--only: expected one of clean, no_fallback"),
        (["judge", "scenarios"], "scenarios: expected the folder of a run, with plan.json in it; found none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2_and_says_what_was_expected(arguments: list[str], told: str) -> None:
    answer = chaos(*arguments)

    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err


def test_validate_tells_the_problems_of_all_files_at_once(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("version: 1\n", encoding="utf-8")
    second.write_text("[]", encoding="utf-8")

    answer = chaos("validate", str(first), str(second), SCENARIOS[0])

    assert answer.code == 2
    assert f"{SCENARIOS[0]}: valid" in answer.out
    assert f"{first}:1:1: expected the key 'question', found none" in answer.err
    assert f"{second}:1:1: expected a scenario, a mapping of keys to values; found a list" in answer.err


def test_what_local_processes_would_ignore_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for name in ("system.yaml", "locustfile.py", "service.py"):
        (tmp_path / name).write_text((TINY / name).read_text(encoding="utf-8"), encoding="utf-8")
    compose = (TINY / "compose.yaml").read_text(encoding="utf-8")
    plain, limited = "  back: *service\n", "  back:\n    <<: *service\n    mem_limit: 64m\n"
    assert plain in compose
    compose = compose.replace(plain, limited) + "  extra: {image: extra, expose: ['1']}\n"
    (tmp_path / "compose.yaml").write_text(compose, encoding="utf-8")
    path = scenario(tmp_path, "[]", "[error_rate: {max: 1%}]")
    path.write_text(path.read_text(encoding="utf-8").replace(str(TINY), "."), encoding="utf-8")

    answer = chaos("run", str(path), "--report-dir", str(tmp_path / "reports"))

    line = compose.splitlines().index("    mem_limit: 64m") + 1
    assert answer.code == 2
    assert (
        f"{tmp_path}/compose.yaml:{line}:5: expected only what a run without containers can honour, found 'mem_limit'"
        in answer.err
    )
    assert "expected how extra runs without containers" in answer.err
    assert not (tmp_path / "reports").exists()
    assert chaos("validate", str(path)).out == f"{path}: valid, for --runtime docker alone\n"


def test_a_plan_tells_its_values_and_where_they_came_from() -> None:
    answer = chaos("plan", "scenarios/shipping_down.yaml", "--explain")

    assert answer.code == 0
    assert "begin outage-1  order -> shipping" in answer.out
    assert "load.rate" in answer.out
    assert "sample_system/system.yaml:5:41" in answer.out
    assert "ORDER_URL" in answer.out


def test_the_plan_of_a_twin_can_be_looked_at() -> None:
    plan = json.loads(chaos("plan", "scenarios/shipping_down.yaml", "--json", "--twin", "wrong edge").out)

    assert plan["twin"] == "wrong edge"
    assert {change["proxy"] for step in plan["steps"] for change in step["changes"]} == {
        "gateway -> shipping (spare)",
        "order -> shipping (spare)",
    }


def test_a_folder_that_reports_cannot_be_written_to_ends_with_2_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "shipping_down").write_text("in the way", encoding="utf-8")

    answer = chaos("run", "scenarios/shipping_down.yaml", "--report-dir", str(tmp_path / "reports"))

    assert answer.code == 2
    assert "expected a folder that reports can be written to" in answer.err
    assert "Traceback" not in answer.err
