"""The benchmark of reliability in short: it comes to its end, finds nothing left, goes on where it was, and tells figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reliability_plants
from benchmarks.reliability_figures import problems_of
from tests.end_to_end.chaos import PROJECT, environment

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


def reliability(state: Path, *arguments: str) -> tuple[int, str]:
    """What the command came to, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reliability", "--state", str(state), *arguments],
        check=False,
        cwd=PROJECT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
    )
    return done.returncode, done.stdout


def rows_of(state: Path, series: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in state.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["series"] == series]


def test_what_is_left_on_purpose_is_found() -> None:
    found = reliability_plants.found_by_kind()

    assert [kind for kind, seen in found.items() if not seen] == []
    assert set(found) >= {"a process without a family", "a paused service", "toxics and a disabled proxy"}


def test_nothing_is_left_of_runs_that_are_killed_and_interrupted(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    asked = ("--only", "kills", "interrupts", "table", "--count", "3", "--parallel", "3")

    _, told = reliability(state, *asked)
    before = state.read_text(encoding="utf-8")
    _, again = reliability(state, *asked)

    trials = [*rows_of(state, "kills"), *rows_of(state, "interrupts")]
    assert sum(bool(row["struck"]) for row in trials) == 6, told
    assert [problem for row in trials for problem in problems_of(row)] == [], told
    assert state.read_text(encoding="utf-8") == before
    assert "| kills | 3 | " in again
    assert "| interrupts | 3 | " in again


@pytest.mark.parametrize("series", ["process", "commands"])
def test_short_runs_in_a_row_leave_only_their_folders(tmp_path: Path, series: str) -> None:
    state = tmp_path / "state.jsonl"

    code, told = reliability(state, "--only", series, "table", "--count", "5")

    rows = rows_of(state, series)
    assert code == 0, told
    assert [row["runs"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["processes"] for row in rows] == [0] * 5
    assert {row["code"] for row in rows} <= {0, 3}, told
    assert len({row["beside"] for row in rows[1:]}) == 1, rows
    assert f"| {series}: one run's folder |" in told
