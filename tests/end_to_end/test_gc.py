"""`chaos gc` removes what is left where the harness and its guardian were both killed, and touches nothing that is somebody's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.chaos import PROJECT, TINY, Running, chaos, environment, scenario, start_of, started_by
from tests.end_to_end.endings import CUT, DEFERRED, SHORT, guardian_of, left_of, of_kind

pytestmark = pytest.mark.slow

LONG = SHORT.replace("fault: 5s", "fault: 60s")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with no runs but those of the test, and temporary files of its own."""
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    with tempfile.TemporaryDirectory(prefix="t") as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        yield


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Running]:
    path = scenario(tmp_path, CUT, DEFERRED, LONG)
    run = Running(["run", str(path), "-q"], tmp_path / "reports")
    yield run
    if run.process.poll() is None:
        run.signal(signal.SIGTERM)
    run.process.communicate(timeout=60)


def folder_of(run: Running) -> Path:
    """The run's own folder, which `latest` leads to."""
    assert run.folder is not None
    return run.folder.resolve()


def kill_all_who_would_undo(run: Running) -> Path:
    """The harness and its guardian, at once, in mid-fault."""
    run.wait_for("FaultBegan")
    folder = folder_of(run)
    guardian = guardian_of(folder)
    os.kill(guardian, signal.SIGKILL)
    run.signal(signal.SIGKILL)
    run.process.wait(10)
    return folder


def test_what_nobody_undid_is_shown_removed_and_told_in_the_runs_history(run: Running) -> None:
    folder = kill_all_who_would_undo(run)
    before = started_by(folder)
    assert before != []

    shown = chaos("gc", "--dry-run")

    assert shown.code == 6
    assert f"{folder.name}: end front (pid" in shown.out
    assert set(before) <= set(started_by(folder)) | {pid for pid in before if start_of(pid) is None}
    assert of_kind(folder, "UndoDone") == []

    done = chaos("gc")

    assert (done.code, done.err) == (0, "")
    assert f"{folder.name}: end front (pid" in done.out
    assert left_of(folder) == []
    undone = of_kind(folder, "UndoDone")
    assert {event["by"] for event in undone} == {"gc"}
    assert len(of_kind(folder, "GuardianActed")) == 1

    again = chaos("gc", "--json")

    assert again.code == 0
    assert json.loads(again.out)["left"] == []
    assert of_kind(folder, "UndoDone") == undone
    judged = chaos("judge", str(folder), "--json")
    assert judged.code in (3, 5)
    assert json.loads(judged.out)["word"] != "passed"
    assert "Traceback" not in judged.err


def test_of_a_run_whose_reports_were_removed_nothing_is_left_either(run: Running) -> None:
    folder = kill_all_who_would_undo(run)
    left = started_by(folder)
    journal = [json.loads(line) for line in (folder / "undo.jsonl").read_text().splitlines()]
    temporary = [Path(data["path"]) for data in journal if data.get("undo") == "RemoveFolder"]
    assert left != []
    assert all(path.exists() for path in temporary)
    shutil.rmtree(run.reports)

    done = chaos("gc")

    assert (done.code, done.err) == (0, "")
    assert [pid for pid in left if start_of(pid) is not None] == []
    assert [path for path in temporary if path.exists()] == []
    assert "nothing is left behind" in chaos("gc").out


@pytest.mark.nightly
def test_two_at_once_do_no_harm(run: Running) -> None:
    folder = kill_all_who_would_undo(run)

    both = [
        subprocess.Popen(
            [sys.executable, "-m", "harness", "gc"],
            cwd=PROJECT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    said = [gc.communicate(timeout=60) for gc in both]

    assert [gc.returncode for gc in both] == [0, 0]
    assert [err for _, err in said] == [b"", b""]
    assert sorted(b"nothing is left behind" in out for out, _ in said) == [False, True]
    assert left_of(folder) == []
    assert len(of_kind(folder, "GuardianActed")) == 1


def test_a_run_that_is_under_way_goes_on_as_if_nobody_had_cleared_up(tmp_path: Path) -> None:
    path = scenario(tmp_path, CUT, DEFERRED, SHORT)
    run = Running(["run", str(path), "-q"], tmp_path / "reports")
    run.wait_for("FaultBegan")

    done = chaos("gc")

    run.end(120)
    folder = folder_of(run)
    assert done.code == 0
    assert f"note: {folder.name} is under way (pid {run.process.pid})" in done.out
    assert "nothing is left behind" in done.out
    for kind in ("RunFailed", "ServiceExited", "EngineRestarted", "GuardianActed"):
        assert of_kind(folder, kind) == []
    assert {event["by"] for event in of_kind(folder, "UndoDone")} == {"harness"}
    assert len(of_kind(folder, "RunEnded")) == 1
    assert left_of(folder) == []


def test_old_runs_of_a_scenario_go_when_a_new_one_is_over_however_it_ended(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "tiny")
    system = tmp_path / "tiny" / "system.yaml"
    system.write_text(system.read_text().replace("{host} {port}", "{host} {port} fails-at-boot"))
    path = tmp_path / "broken.yaml"
    path.write_text(f"version: 1\nquestion: Does it hold?\nsystem: tiny\nfaults: {CUT}\nexpect: {DEFERRED}\n")
    reports = tmp_path / "reports"
    old = [reports / scenario / f"2026010{day}-000000-abcdef" for scenario in ("broken", "other") for day in (1, 2, 3)]
    for folder in old:
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text("{}\n")
        (folder / "events.jsonl").write_text('{"event":"RunEnded","at":1.0}\n')

    done = chaos("run", str(path), "-q", "--report-dir", str(reports), "--keep-runs", "2")

    assert done.code == 5
    assert [folder.exists() for folder in old] == [False, False, True, True, True, True]
    new = (reports / "broken" / "latest").resolve()
    assert (new / "report.html").exists()
    assert left_of(new) == []
