"""Whole runs of a tiny system in rounds, with a warm-up until steady, with windows that are lengthened, and run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.chaos import chaos, events_of, scenario, verdict_of

CUT = "[outage: {edge: front -> back}]"
DEFERRED = "[{id: deferred, fallback: without-back}, {id: recovered, recovery: {within: 4s, hold: 3s}}]"


def begun(folder: Path) -> list[tuple[str, int]]:
    return [(event["phase"], event["round"]) for event in events_of(folder) if event["event"] == "PhaseBegan"]


@pytest.mark.alone
@pytest.mark.slow
def test_two_rounds_after_a_warm_up_until_steady_pass_and_are_told(tmp_path: Path) -> None:
    phases = "phases: {warmup: {until: steady, at_most: 60s}, baseline: 5s, fault: 6s, recovery: 8s}\nrounds: 2"

    answer = chaos("run", str(scenario(tmp_path, CUT, DEFERRED, phases)), "--report-dir", str(tmp_path / "reports"))

    assert answer.code == 0, answer.out + answer.err
    assert "baseline begins, 5 s, round 2 of 2" in answer.out
    (folder,) = (tmp_path / "reports").glob("*/2*")
    in_round = ("baseline", "fault", "recovery")
    assert begun(folder) == [("warmup", 1), *((name, 1) for name in in_round), *((name, 2) for name in in_round)]
    events = events_of(folder)
    assert [event["event"] for event in events].count("FaultEnded") == 2
    (moved,) = (event for event in events if event["event"] == "PhaseMoved")
    assert moved["phase"] == "warmup"
    assert -55 < moved["seconds"] < 0
    expectations = {finding["id"]: finding for finding in verdict_of(tmp_path / "reports")["expectations"]}
    assert expectations["recovered"]["seen"].endswith("(worst of 2 rounds)")
    assert ">round 1<" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.nightly
def test_what_stays_inconclusive_although_it_was_lengthened_is_run_again_and_both_are_told(tmp_path: Path) -> None:
    """Twelve requests a second cannot show an error rate under 1 % in any of these windows."""
    words = "load: {rate: 12/s}\nphases: {warmup: 1s, baseline: 6s, fault: 5s, recovery: 5s}\nextend: 2s"
    path = scenario(tmp_path, CUT, "[error_rate: {max: 1%}]", words)

    answer = chaos("run", str(path), "--report-dir", str(tmp_path / "reports"), "--rerun-inconclusive", "1", "--json")

    folders = sorted((tmp_path / "reports").glob("*/2*"))
    assert answer.code == 3, answer.out + answer.err
    assert len(folders) == 2
    assert "inconclusive, so it is run again (1 of 1)" in answer.err
    assert json.loads(answer.out)["run"] == folders[1].name, "the last run is the one that counts"
    first, second = (json.loads((folder / "verdict.json").read_text(encoding="utf-8")) for folder in folders)
    assert f"this is run again: {first['run']} was inconclusive ({first['sentence']})" in second["warnings"]
    assert any("was lengthened by 2 s: " in warning for warning in first["warnings"])
