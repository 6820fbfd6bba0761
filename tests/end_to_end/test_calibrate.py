"""A system is run without any fault, and its file says afterwards what it allows here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.chaos import TINY, chaos


def tiny_in(folder: Path) -> Path:
    """The tiny system, in a folder of its own, with a comment that must survive."""
    system = folder / "tiny"
    shutil.copytree(TINY, system, ignore=shutil.ignore_patterns("__pycache__"))
    path = system / "system.yaml"
    path.write_text(f"# ours\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    return system


@pytest.mark.slow
def test_a_system_is_calibrated_and_its_file_keeps_its_comments(tmp_path: Path) -> None:
    """Where the machine is too busy for the system or the load, no margins are written, and that is said."""
    system = tiny_in(tmp_path)

    answer = chaos(
        "calibrate", str(system), "--windows", "4", "--up-to", "150/s", "--write", "-q", "--report-dir", str(tmp_path / "r")
    )

    busy = "no margins: " in answer.out
    assert answer.code == (3 if busy else 0), answer.out + answer.err
    assert re.search(r"^  alone +\d+ +0\.\d %", answer.out, re.MULTILINE)
    assert re.search(r"^ +100/s  p95", answer.out, re.MULTILINE)
    assert re.search(r"saturate[sd]", answer.out)
    text = (system / "system.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ours\n")
    assert set(yaml.safe_load(text).get("worse_by", {})) == (set() if busy else {"error_rate", "p50", "p95"})
    assert (f"written to {system / 'system.yaml'}" in answer.out) == (not busy)
    (scenario,) = (tmp_path / "r").glob("calibrate-tiny/2*/scenario.yaml")
    assert "faults: []" in scenario.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere: expected a folder with a system.yaml in it, or such a file, found none"),
        ([str(TINY), "--windows", "3"], "3 is not in the range"),
        ([str(TINY), "--up-to", "150"], "expected a rate with its unit, such as 150/s, found '150'"),
        ([str(TINY), "--up-to", "0.5/s"], "expected at least 1/s, found '0.5/s'"),
        ([], "Missing argument 'SYSTEM'"),
    ],
)
def test_what_cannot_be_calibrated_is_said(arguments: list[str], told: str) -> None:
    answer = chaos("calibrate", *arguments)

    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err


def test_a_closed_loop_has_no_rate_to_step_up(tmp_path: Path) -> None:
    system = tiny_in(tmp_path)
    path = system / "system.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("rate: 100/s", "users: 5"), encoding="utf-8")

    answer = chaos("calibrate", str(system))

    assert answer.code == 2
    assert "expected a system whose load has a rate" in answer.err


def test_a_file_that_margins_cannot_be_put_into_is_refused_before_the_run(tmp_path: Path) -> None:
    system = tiny_in(tmp_path)
    path = system / "system.yaml"
    path.write_text(f"{path.read_text(encoding='utf-8')}...\n", encoding="utf-8")

    answer = chaos("calibrate", str(system), "--write", "--report-dir", str(tmp_path / "r"))

    assert answer.code == 2
    assert "expected worse_by written out as a mapping" in answer.err
    assert not (tmp_path / "r").exists()
