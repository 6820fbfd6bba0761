"""Faults on services that are processes, from the command line: proven, and told as not proven where they were not done."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from harness.runtime.services.control_groups import home_of
from harness.runtime.services.limits import cannot_limit
from tests.end_to_end.chaos import Running, chaos, evidence, scenario, started_by, verdict_of

FAULTS = """
  - {id: loop, crash_loop: {service: back, lives: 500ms}, at: 0s, for: 4s}
  - {id: paused, pause: {service: back}, at: 6s, for: 3s, repeat: {every: 4s, times: 2}}
  - {id: narrow, cpu: {service: front, cores: 0.02}, at: 0s, for: 6s, ramp: {over: 3s, from: 0.3}}
"""
EXPECT = "[{error_rate: {journey: alone, max: 100%}}]"
PHASES = "phases: {warmup: 1s, baseline: 6s, fault: 14s, recovery: 8s}"

needs_groups = pytest.mark.skipif(bool(cannot_limit()), reason=f"control groups: {'; '.join(cannot_limit().values())}")


def all_groups() -> set[Path]:
    return {folder for kind in ("cpu", "memory") for folder in home_of(kind).folder.glob("chaos-*")}


def bites(reports: Path) -> dict[str, tuple[str, str]]:
    """Outcome and words of each proof of the one run."""
    (path,) = reports.glob("*/2*/verdict.json")
    findings = json.loads(path.read_text(encoding="utf-8"))["evidence"]
    return {finding["id"]: (finding["outcome"], " ".join(finding["details"])) for finding in findings}


@needs_groups
@pytest.mark.alone
@pytest.mark.slow
def test_faults_that_repeat_grow_and_loop_leave_their_evidence(tmp_path: Path) -> None:
    before = all_groups()
    path = scenario(tmp_path, FAULTS, EXPECT, PHASES)

    answer = chaos("run", str(path), "--report-dir", str(tmp_path / "reports"))

    proofs = bites(tmp_path / "reports")
    assert {kind: proofs[kind][0] for kind in ("set", "bit", "met", "healed")} == dict.fromkeys(
        ("set", "bit", "met", "healed"), "passed"
    ), answer.out + answer.err
    assert "paused set 2 times" in proofs["set"][1]
    assert "varied 2 times" in proofs["set"][1]
    assert "throttled" in proofs["bit"][1]
    assert "told of die and start" in proofs["bit"][1] or "told of die, start" in proofs["bit"][1]
    assert all_groups() <= before


@needs_groups
@pytest.mark.alone
@pytest.mark.slow
def test_faults_that_were_not_done_are_not_proven(tmp_path: Path) -> None:
    path = scenario(tmp_path, FAULTS, EXPECT, PHASES)

    answer = chaos("prove", str(path), "--only", "not applied", "--report-dir", str(tmp_path / "reports"), "--json")

    (trial,) = json.loads(answer.out)["trials"]
    assert trial["proven"], trial
    assert evidence(verdict_of(tmp_path / "reports"))["bit"] == "inconclusive"


@needs_groups
@pytest.mark.alone
@pytest.mark.slow
def test_a_harness_that_is_killed_in_a_crash_loop_and_under_limits_leaves_nothing(tmp_path: Path) -> None:
    before = all_groups()
    faults = """
  - {crash_loop: {service: back, lives: 400ms}}
  - {cpu: {service: front, cores: 0.2}}
  - {memory: {service: unused, limit: 200MB}}
"""
    running = Running(["run", str(scenario(tmp_path, faults, EXPECT, PHASES))], tmp_path / "reports")
    running.wait_for("ServiceChanged", what="start")
    assert all_groups() - before
    running.signal(signal.SIGKILL)
    running.end()

    folder = running.folder
    assert folder is not None
    until = time.monotonic() + 20
    while started_by(folder) or all_groups() - before:
        assert time.monotonic() < until, (started_by(folder), all_groups() - before)
        time.sleep(0.1)
    time.sleep(2.0)
    assert started_by(folder) == []
