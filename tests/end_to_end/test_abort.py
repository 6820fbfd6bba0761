"""A run is ended from another terminal, and all runs of a machine by one file; what two runs would share, one is given."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runtime.stop_file import user_name
from tests.end_to_end.chaos import Running, chaos, scenario
from tests.end_to_end.endings import CUT, DEFERRED, SHORT, left_of, of_kind

pytestmark = pytest.mark.slow

ME = user_name(os.getuid())
LONG = SHORT.replace("fault: 5s", "fault: 60s")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no runs but those of the test."""
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CHAOS_STOP_FILE", str(tmp_path / "stop"))


class Starting:
    """Starts runs; whatever becomes of the test, none goes on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.runs: list[Running] = []

    def __call__(self, name: str, *more: str, phases: str = LONG) -> Running:
        (self._folder / name).mkdir()
        path = scenario(self._folder / name, CUT, DEFERRED, phases)
        self.runs.append(Running(["run", str(path), "-q", *more], self._folder / name / "reports"))
        return self.runs[-1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starting]:
    starting = Starting(tmp_path)
    yield starting
    for run in starting.runs:
        run.signal(signal.SIGCONT)
        run.signal(signal.SIGTERM)
    for run in starting.runs:
        if run.process.stdout is not None and not run.process.stdout.closed:
            run.end(60)


def folder_of(run: Running) -> Path:
    assert run.folder is not None
    return run.folder.resolve()


def test_a_run_is_ended_from_another_terminal_healed_first_with_who_and_why(start: Starting) -> None:
    run = start("only")
    run.wait_for("FaultBegan")

    answer = chaos("abort", "--why", "page storm")

    code, _ = run.end()
    folder = folder_of(run)
    assert (answer.code, code) == (0, 143)
    (interrupted,) = of_kind(folder, "RunInterrupted")
    assert interrupted["signal"] == f"aborted by {ME}: page storm"
    assert all(event["at"] - interrupted["at"] < 5.0 for event in of_kind(folder, "FaultEnded"))
    assert of_kind(folder, "FaultEnded") != []
    assert f"interrupted: The run was aborted by {ME}: page storm" in answer.out
    assert f"aborted by {ME}: page storm" in (folder / "summary.md").read_text()
    assert left_of(folder) == []


def test_a_run_that_is_stuck_is_ended_by_its_guardian(start: Starting) -> None:
    run = start("stuck", "--lease", "15s")
    run.wait_for("FaultBegan")
    assert chaos("abort", "stuck-is-not-its-name").code == 2
    run.signal(signal.SIGSTOP)

    answer = chaos("abort", "drawn_up")

    run.end()
    folder = folder_of(run)
    assert answer.code == 0
    assert "passed" not in answer.out
    assert of_kind(folder, "GuardianActed") != []
    assert left_of(folder) == []


@pytest.mark.nightly
def test_of_two_runs_of_one_system_beside_each_other_the_one_that_is_meant_is_ended(start: Starting) -> None:
    one, two = start("one"), start("two", phases=SHORT)
    one.wait_for("FaultBegan")
    two.wait_for("LoadBegan")

    several = chaos("abort")
    one_id = folder_of(one).name
    aborted = chaos("abort", one_id)

    one.end()
    two.end(120)
    assert several.code == 2
    assert one_id in several.err
    assert folder_of(two).name in several.err
    assert aborted.code == 0
    assert of_kind(folder_of(one), "RunInterrupted") != []
    for kind in ("RunInterrupted", "RunFailed", "ServiceExited", "EngineRestarted", "UndoFailed"):
        assert of_kind(folder_of(two), kind) == []
    assert len(of_kind(folder_of(two), "RunEnded")) == 1
    assert left_of(folder_of(one)) == left_of(folder_of(two)) == []


def test_the_stop_file_ends_what_is_under_way_and_lets_nothing_begin_until_it_is_lifted(
    start: Starting, tmp_path: Path
) -> None:
    run = start("only")
    run.wait_for("FaultBegan")

    (tmp_path / "stop").write_text("disks are full\n")
    written_at = time.time()
    code, _ = run.end()

    assert code == 143
    (interrupted,) = of_kind(folder_of(run), "RunInterrupted")
    assert interrupted["at"] - written_at < 5.0
    assert interrupted["signal"] == f"aborted by {ME}, with all runs of this machine: disks are full"
    assert left_of(folder_of(run)) == []

    path = scenario(tmp_path, CUT, DEFERRED, SHORT)
    for command in ("run", "prove"):
        refused = chaos(command, str(path), "--report-dir", str(tmp_path / "none"))
        assert refused.code == 2
        assert all(part in refused.err for part in (f"written by {ME}", "disks are full", "chaos abort --lift"))
    assert not (tmp_path / "none").exists()

    lifted = chaos("abort", "--lift")

    assert lifted.code == 0
    assert "disks are full" in lifted.out
    assert not (tmp_path / "stop").exists()
    assert "nothing was stopped" in chaos("abort", "--lift").out


def test_abort_all_ends_every_run_and_waits_for_it(start: Starting, tmp_path: Path) -> None:
    run = start("only")
    run.wait_for("LoadBegan")

    answer = chaos("abort", "--all", "--why", "page storm")

    assert answer.code == 0
    assert f"written by {ME}" in answer.out
    assert f"aborted by {ME}, with all runs of this machine: page storm" in answer.out
    assert left_of(folder_of(run)) == []
    assert run.end(10)[0] == 143


def test_a_run_that_would_share_a_file_with_another_is_refused_and_says_who_has_it(start: Starting, tmp_path: Path) -> None:
    database = f"front.DATABASE_URL=sqlite:///{tmp_path}/shared.db"
    first = start("first", "--env", database)
    first.wait_for("LoadBegan")
    path = scenario(tmp_path, CUT, DEFERRED, SHORT)

    refused = chaos("run", str(path), "--report-dir", str(tmp_path / "none"), "--env", database)

    assert refused.code == 5
    assert f"expected {tmp_path}/shared.db for this run alone" in refused.err
    assert f"the run {folder_of(first).name} (pid {first.process.pid})" in refused.err
    assert not (tmp_path / "none").exists()
    assert chaos("abort").code == 0
    assert first.end()[0] == 143


def test_without_a_run_there_is_nothing_to_abort() -> None:
    answer = chaos("abort")

    assert answer.code == 2
    assert "expected a run that is under way, found none" in answer.err
    assert chaos("abort", "--all", "--lift").code == 2
