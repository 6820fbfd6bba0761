"""A/A: of systems to which nothing was done nothing is said, by the same code that makes the figures in the documentation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import aa
from harness.judge.verdict import Outcome
from tests.histories.building import Story, tell, write_run

CALM = Story(faults=(), expect=(), damage=())


def tallied(climate: aa.Climate, runs: int, *, slower: float = 1.0) -> dict[str, aa.Tally]:
    planned = aa.plan(80.0)
    names = planned["experiment"]["system"]["journeys"]
    tallies: dict[str, aa.Tally] = {}
    for seed in range(runs):
        requests = aa.made_up(80.0, climate, np.random.default_rng(seed), names)
        later = np.where((requests.due >= 20.0) & (requests.due < 40.0), (slower - 1) * 0.05, 0.0)
        history = aa.triple(planned, 0.0, replace(requests, end=requests.end + later), (), ())
        aa.judge_triple(history, tallies, climate.name)
    return tallies


@pytest.mark.slow
@pytest.mark.parametrize("climate", aa.CLIMATES, ids=lambda climate: climate.name)
def test_of_a_hundred_unchanged_systems_none_is_accused(climate):
    found = tallied(climate, 100)

    assert sum(tally.outcomes[Outcome.FAILED] for tally in found.values()) == 0
    assert found[f"{climate.name}: comparisons"].outcomes.total() == 500


def test_the_same_code_accuses_a_system_that_changed():
    """Every journey takes 200 ms longer in the fault phase: the blast radius of each fails; that all is well after it holds."""
    found = tallied(aa.CLIMATES[0], 3, slower=5.0)

    assert found["steady: comparisons"].outcomes == Counter({Outcome.FAILED: 12, Outcome.PASSED: 3})
    assert found["steady: expectations"].outcomes == Counter({Outcome.FAILED: 3, Outcome.PASSED: 3})


def test_a_recorded_run_is_cut_into_windows_as_the_phases_of_a_scenario(tmp_path):
    folder = write_run(CALM, tmp_path / "run")
    tallies: dict[str, aa.Tally] = {}

    aa.of_recorded([folder], 0.5, tallies)

    assert sorted(tallies) == [
        "recorded, quiet: comparisons",
        "recorded, quiet: expectations",
        "recorded: comparisons",
        "recorded: expectations",
    ]
    assert tallies["recorded: comparisons"].outcomes == Counter({Outcome.PASSED: 5})


def test_a_run_too_short_for_three_windows_gives_none(tmp_path):
    phases = Story().phases.model_copy(update={"recovery": 15.0})
    tallies: dict[str, aa.Tally] = {}

    aa.of_recorded([write_run(replace(CALM, phases=phases), tmp_path / "run")], 1.0, tallies)

    assert tallies == {}


def test_made_up_windows_are_told_as_a_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["aa.py", "made-up", "--triples", "1"])

    assert aa.main() == 0

    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| windows | number | failed | inconclusive |"
    assert len([line for line in table if ": comparisons | 5 | 0 = 0.00 %" in line]) == 3


def commands_that_end(monkeypatch, *codes):
    """In place of the commands: each ends with its code, and prints a verdict where it has one."""
    ends = iter(codes)

    def run(command, **_):
        code = next(ends)
        told = json.dumps({"word": f"word {code}", "sentence": "", "scenario": "unchanged", "run": f"run {code}"})
        return subprocess.CompletedProcess(command, code, told if code in aa.JUDGED else "")

    monkeypatch.setattr(aa.subprocess, "run", run)


def test_whole_runs_are_counted_by_the_verdict_of_each(monkeypatch, tmp_path):
    commands_that_end(monkeypatch, 0, 3, 0, 1)

    assert aa.of_live(4, 80.0, tmp_path) == Counter({"word 0": 2, "word 1": 1, "word 3": 1})


@pytest.mark.parametrize("code", [2, 5, 6, 130])
def test_runs_that_came_to_no_verdict_are_not_counted_by_an_older_one(monkeypatch, tmp_path, code):
    write_run(CALM, tmp_path / "unchanged" / "latest")
    commands_that_end(monkeypatch, 0, code)

    with pytest.raises(RuntimeError, match=f"ended with exit code {code}"):
        aa.of_live(3, 80.0, tmp_path)


def test_the_folder_of_a_recorded_run_is_that_of_its_verdict(monkeypatch, tmp_path):
    commands_that_end(monkeypatch, 3)

    assert aa.record(60.0, 80.0, tmp_path) == tmp_path / "unchanged" / "run 3"


def test_what_was_planned_of_the_windows_is_what_a_scenario_would():
    history = tell(CALM)
    planned = aa.plan(80.0)

    found = aa.triple(planned, history.began + 5.0, history.requests, (), ())

    assert {name: window.seconds for name, window in found.phases.items()} == dict.fromkeys(aa.PHASES, 20.0)
    assert planned["experiment"]["faults"] == []
