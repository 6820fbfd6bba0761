"""The scenarios of the project on the sample system, as a person runs them: clean, and on planted defects."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.end_to_end.chaos import PROJECT, Running, chaos, events_of, evidence, outcomes, started_by, verdict_of

pytestmark = [pytest.mark.slow, pytest.mark.alone]

OWN = 8.0
"""Seconds a run may take beyond its phases, bring-up and taking down together."""


def test_the_demo_passes_and_takes_no_longer_than_it_says(tmp_path: Path) -> None:
    began = time.monotonic()
    answer = chaos("run", "scenarios/shipping_down.yaml", "--report-dir", str(tmp_path))
    took = time.monotonic() - began

    verdict = verdict_of(tmp_path)
    assert answer.code == 0, answer.out
    assert set(evidence(verdict).values()) == {"passed"}
    assert [finding["outcome"] for finding in verdict["expectations"]] == ["passed"] * 4
    assert took < 80 + OWN


@pytest.mark.parametrize(
    ("scenario", "defect", "caught_by"),
    [
        ("shipping_down", "silent_fallback", "deferred"),
        pytest.param("shipping_hangs", "no_timeout", "contained", marks=pytest.mark.nightly),
        pytest.param("order_crashes", "saga_in_memory", "seen-through", marks=pytest.mark.nightly),
        pytest.param("consumer_down", "at_most_once", "heard-of-once", marks=pytest.mark.nightly),
        pytest.param("payment_errors", "no_retry", "tried-again", marks=pytest.mark.nightly),
        pytest.param("payment_errors", "retry_storm", "given-up-in-time", marks=pytest.mark.nightly),
        pytest.param("shipping_flaky", "sticky_fallback", "deferred", marks=pytest.mark.nightly),
        pytest.param("inventory_isolated", "no_bulkhead", "contained", marks=pytest.mark.nightly),
    ],
)
def test_a_planted_defect_is_caught_by_the_expectation_that_names_it(
    tmp_path: Path, scenario: str, defect: str, caught_by: str
) -> None:
    answer = chaos("prove", f"scenarios/{scenario}.yaml", "--only", defect, "--report-dir", str(tmp_path), "--json")

    (trial,) = json.loads(answer.out)["trials"]
    assert trial["proven"], trial
    assert caught_by in trial["was"]
    assert answer.code == 0


@pytest.mark.parametrize(
    "scenario",
    [
        "payment_reply_lost",
        pytest.param("payment_errors", marks=pytest.mark.nightly),
        pytest.param("shipping_flaky", marks=pytest.mark.nightly),
        pytest.param("inventory_isolated", marks=pytest.mark.nightly),
    ],
)
def test_the_shop_withstands_lost_answers_failing_calls_and_neighbours_that_come_and_go_or_are_cut_off(
    tmp_path: Path, scenario: str
) -> None:
    answer = chaos("run", f"scenarios/{scenario}.yaml", "--report-dir", str(tmp_path))

    verdict = verdict_of(tmp_path)
    assert answer.code == 0, answer.out
    assert set(evidence(verdict).values()) == {"passed"}
    assert set(outcomes(verdict).values()) == {"passed"}


@pytest.mark.nightly
def test_charging_twice_is_seen_in_the_ledger_and_nowhere_else(tmp_path: Path) -> None:
    answer = chaos(
        "run",
        "scenarios/payment_reply_lost.yaml",
        *("--env", "order.DEFECTS=non_idempotent_charge"),
        *("--report-dir", str(tmp_path)),
    )

    found = outcomes(verdict_of(tmp_path))
    assert answer.code == 1, answer.out
    assert [name for name, outcome in found.items() if outcome == "failed"] == ["charged-once"]
    assert (found["nobody-fails"], found["made-good"]) == ("passed", "passed")
    assert "no order is charged twice" in answer.out


def test_a_database_that_is_killed_in_the_baseline_is_named_and_nothing_is_injected(tmp_path: Path) -> None:
    running = Running(["run", str(PROJECT / "scenarios" / "shipping_down.yaml")], tmp_path)
    running.wait_for("PhaseBegan", phase="baseline")
    postgres = running.wait_for("ServiceStarted", service="postgres")

    os.kill(postgres["pid"], signal.SIGKILL)
    code, out = running.end(120)

    folder = running.folder
    assert folder is not None
    assert code == 3
    assert "postgres ended by itself" in " ".join(out.split())
    assert not any(event["event"] == "FaultBegan" for event in events_of(folder))
    assert started_by(folder) == []


def test_a_harness_that_is_killed_in_mid_fault_leaves_no_process_databases_included(tmp_path: Path) -> None:
    running = Running(["run", str(PROJECT / "scenarios" / "shipping_down.yaml")], tmp_path)
    running.wait_for("EdgeProbed", moment="during")
    folder = running.folder
    assert folder is not None
    data = next(
        Path(line["path"]) for line in map(json.loads, (folder / "undo.jsonl").read_text().splitlines()) if "path" in line
    )

    running.process.kill()
    running.end()
    until = time.monotonic() + 10
    while time.monotonic() < until and (started_by(folder) or data.exists()):
        time.sleep(0.1)

    assert started_by(folder) == []
    assert not data.exists()
    left = [path for path in Path("/proc").glob("[0-9]*/cwd") if _leads_into(path, data)]
    assert left == []


def _leads_into(link: Path, folder: Path) -> bool:
    try:
        return str(link.readlink()).startswith(str(folder))
    except OSError:
        return False
