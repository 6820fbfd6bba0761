"""Stop conditions and bounds as a person meets them: a run that goes wrong is healed, ended and told; its clean twin is not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.chaos import TINY, chaos, events_of, outcomes, scenario, started_by, verdict_of

FAULTS = "[outage: {edge: front -> back}]"
EXPECT = "[{id: contained, error_rate: {journey: alone, max: 5%, method: point}}]"
PHASES = "phases: {baseline: 6s, fault: 12s, recovery: 6s}\n"
STOP = "stop_when: [{id: too-bad, error_rate: {journey: with back, max: 60%, sustained: 2s}}]\n"
DEFECT = 'defects: {no_fallback: {environment: {front: {FALLS_BACK: "no"}}, caught_by: too-bad}}\n'

WITHOUT_FALLBACK = ("--env", "front.FALLS_BACK=no")


def run_folder(reports: Path) -> Path:
    (path,) = reports.glob("*/2*/events.jsonl")
    return path.parent


def only(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (event for event in events if event["event"] == kind)
    return found


@pytest.mark.slow
@pytest.mark.alone
def test_a_run_that_goes_wrong_is_healed_then_told_then_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    answer = chaos(
        "run",
        str(scenario(tmp_path, FAULTS, EXPECT, PHASES + STOP)),
        *WITHOUT_FALLBACK,
        "--report-dir",
        str(tmp_path / "reports"),
        "--junit-xml",
        str(tmp_path / "junit.xml"),
    )
    took = time.monotonic() - began

    folder = run_folder(tmp_path / "reports")
    events = events_of(folder)
    kinds = [event["event"] for event in events]
    halted, healed, struck = (only(events, kind) for kind in ("RunHalted", "FaultEnded", "FaultBegan"))
    assert answer.code == 4, answer.out + answer.err
    assert kinds.index("FaultEnded") < kinds.index("RunHalted") < kinds.index("LoadEnded") < kinds.index("RunEnded")
    assert halted["condition"] == "too-bad"
    assert halted["at"] <= healed["asked_at"] <= healed["at"] < halted["at"] + 1.0, "healed within a second of the decision"
    assert struck["at"] + 1.0 < halted["at"] < struck["at"] + 8.0
    assert healed["found"] == {"enabled": True, "toxics": []}
    assert started_by(folder) == []
    assert took < 60

    verdict = verdict_of(tmp_path / "reports")
    assert (verdict["word"], verdict["exit_code"], verdict["halted_by"]) == ("halted", 4, "too-bad")
    assert "passed" not in outcomes(verdict).values()
    told = "stop condition too-bad was met"
    assert told in answer.out
    assert "HALTED" in answer.out
    assert 'type="halted"' in (tmp_path / "junit.xml").read_text(encoding="utf-8")
    for name in ("report.html", "summary.md", "junit.xml", "verdict.json"):
        assert told in (folder / name).read_text(encoding="utf-8"), name


@pytest.mark.slow
def test_the_same_system_with_its_fallback_is_not_halted(tmp_path: Path) -> None:
    path = scenario(tmp_path, FAULTS, EXPECT, PHASES + STOP)

    chaos("run", str(path), "--report-dir", str(tmp_path / "reports"))

    events = events_of(run_folder(tmp_path / "reports"))
    assert not [event for event in events if event["event"] == "RunHalted"]
    assert [event["phase"] for event in events if event["event"] == "PhaseEnded"][-1] == "recovery"
    assert verdict_of(tmp_path / "reports")["word"] in ("passed", "inconclusive")


@pytest.mark.slow
def test_a_defect_that_a_stop_condition_is_to_catch_is_proven_by_being_halted(tmp_path: Path) -> None:
    path = scenario(tmp_path, FAULTS, EXPECT, PHASES + STOP + DEFECT)

    answer = chaos("prove", str(path), "--only", "no_fallback", "--json", "--report-dir", str(tmp_path / "reports"))

    (trial,) = json.loads(answer.out)["trials"]
    assert (trial["must"], trial["was"], trial["proven"]) == ("halted by too-bad", "halted by too-bad", True)
    assert answer.code == 0


@pytest.mark.slow
def test_a_defect_that_an_expectation_is_to_catch_is_not_proven_by_being_halted(tmp_path: Path) -> None:
    path = scenario(tmp_path, FAULTS, EXPECT, PHASES + STOP + DEFECT.replace("too-bad", "contained"))

    answer = chaos("prove", str(path), "--only", "no_fallback", "--json", "--report-dir", str(tmp_path / "reports"))

    (trial,) = json.loads(answer.out)["trials"]
    assert (trial["must"], trial["was"], trial["proven"]) == ("failed by contained", "halted by too-bad", False)
    assert answer.code == 1


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    ("trial", "must"), [pytest.param("clean", "passed", marks=pytest.mark.nightly), ("no_timeout", "halted by orders-fail")]
)
def test_the_watched_scenario_of_the_sample_system_halts_on_its_defect_and_not_on_the_clean_system(
    tmp_path: Path, trial: str, must: str
) -> None:
    path = "scenarios/shipping_hangs_watched.yaml"
    answer = chaos("prove", path, "--only", trial, "--json", "--report-dir", str(tmp_path))

    (found,) = json.loads(answer.out)["trials"]
    assert found["must"] == must
    assert found["proven"], found


def test_a_condition_that_too_few_requests_can_meet_is_warned_of(tmp_path: Path) -> None:
    path = scenario(tmp_path, FAULTS, EXPECT, "load: {rate: 4/s}\nstop_when: [{error_rate: {max: 60%}}]\n")

    answer = chaos("validate", str(path))

    assert answer.code == 0
    assert f"warning: {path}:7:13: stop-error_rate-1 is never met: some 20 requests end within 5 s at 4/s" in answer.err


def test_what_strikes_more_than_the_system_allows_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    system = (TINY / "system.yaml").read_text(encoding="utf-8")
    for name in ("compose.yaml", "service.py", "locustfile.py"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    (tmp_path / "system.yaml").write_text(system + "limits: {services_down: 1}\n", encoding="utf-8")
    faults = "\n  - kill: {service: back}\n  - pause: {service: unused}\n    at: 3s"
    path = scenario(tmp_path, faults, EXPECT, PHASES)
    path.write_text(path.read_text(encoding="utf-8").replace(str(TINY), "."), encoding="utf-8")

    for command in (["validate"], ["plan"], ["run", "--report-dir", str(tmp_path / "reports")]):
        answer = chaos(*command, str(path))

        assert answer.code == 2
        assert f"{path}:6:5: expected at most 1 service down at once (services_down, {tmp_path}/system.yaml:" in answer.err
        assert "found 2 from 3s into the fault phase on: back (kill-1), unused (pause-1)" in answer.err
    assert not (tmp_path / "reports").exists()
