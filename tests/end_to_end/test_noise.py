"""Whole runs that something else than the fault disturbed: what is left open, and what is told of a system that stays down."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.chaos import Running, outcomes, scenario, verdict_of

CUT = "[outage: {edge: front -> back}]"
PHASES = "phases: {warmup: 1s, baseline: 6s, fault: 6s, recovery: 10s}"


def finding(verdict: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(found for found in (*verdict["evidence"], *verdict["expectations"]) if found["kind"] == kind)


def load_of(folder: Path) -> int:
    """The process of the load."""
    undos = [json.loads(line) for line in (folder / "undo.jsonl").read_text(encoding="utf-8").splitlines()]
    (pid,) = [undo["pid"] for undo in undos if undo.get("name") == "load"]
    return int(pid)


@pytest.mark.alone
@pytest.mark.slow
def test_a_load_that_stood_still_leaves_open_what_rests_on_that_window_alone(tmp_path: Path) -> None:
    expect = "[{recovery: {within: 3s, hold: 2s}}, {error_rate: {journey: alone, during: fault, max: 20%}}]"
    running = Running(["run", str(scenario(tmp_path, CUT, expect, PHASES))], tmp_path / "reports")
    running.wait_for("PhaseBegan", phase="recovery")
    folder = running.folder
    assert folder is not None
    load = load_of(folder)
    time.sleep(4.0)
    os.kill(load, signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(load, signal.SIGCONT)

    code, out = running.end(60)

    verdict = verdict_of(tmp_path / "reports")
    assert code == 3, out
    assert outcomes(verdict) == {"recovery-1": "inconclusive", "error_rate-1": "passed"}
    why = finding(verdict, "recovery")["why"]
    assert why.startswith("requests in the recovery were sent late")
    assert ", from 1" in why


@pytest.mark.alone
@pytest.mark.slow
def test_a_system_that_does_not_come_back_never_does(tmp_path: Path) -> None:
    """It was healed, and answered; then it went down by itself, as one does that cannot bear the load that had piled up."""
    expect = "[{recovery: {within: 3s, hold: 3s}}]"
    running = Running(["run", str(scenario(tmp_path, CUT, expect, PHASES))], tmp_path / "reports")
    front = running.wait_for("ServiceStarted", service="front")["pid"]
    running.wait_for("EdgeProbed", moment="after")
    os.kill(front, signal.SIGKILL)

    code, out = running.end(60)

    verdict = verdict_of(tmp_path / "reports")
    assert code == 1, out
    recovery = finding(verdict, "recovery")
    assert recovery["comeback"]["word"] == "never"
    assert recovery["comeback"]["recovered"] is None
    assert recovery["comeback"]["errors"] > 0
    assert recovery["seen"] == "never: the load went on, the fault was gone, and the system did not come back"
    assert "(metastable)" in out
