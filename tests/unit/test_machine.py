"""What `chaos gc` and `chaos abort` say, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness import machine as commands_of_a_machine
from harness.cli import commands
from harness.errors import CouldNotRun, InvalidInput
from harness.runtime import strays
from harness.runtime.registry import forget, register, runs, runs_folder, unlock
from harness.runtime.undo import RemoveFolder, UndoJournal

RUN = "20260101-000000-abcdef"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no runs and no control groups, and temporary files of its own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(strays, "KINDS", ())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CHAOS_STOP_FILE", str(tmp_path / "stop"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def chaos(*arguments: str) -> Result:
    return CliRunner().invoke(commands, list(arguments))


def run_with(tmp_path: Path, *undos: RemoveFolder, alive: bool) -> Path:
    folder = tmp_path / "reports" / "checkout" / RUN
    folder.mkdir(parents=True)
    register(folder)
    journal = UndoJournal(folder / "undo.jsonl")
    for undo in undos:
        journal.before(undo)
    journal.close()
    if not alive:
        unlock(RUN)
    return folder


def test_gc_shows_each_thing_and_what_would_not_go_with_the_reason(tmp_path: Path) -> None:
    folder = run_with(tmp_path, RemoveFolder("/etc"), alive=False)

    done = chaos("gc")

    said = done.stdout.splitlines()
    assert done.exit_code == 6
    assert said[:2] == [f"{RUN}: remove /etc", f"{RUN}: forget the run of {folder}"]
    assert said[2].startswith("  NOT REMOVED: remove /etc: expected a folder chaos-…")
    assert said[-1] == "everything else is gone"


def test_gc_tells_programs_the_same(tmp_path: Path) -> None:
    folder = run_with(tmp_path, RemoveFolder("/etc"), alive=False)

    done = chaos("gc", "--json")

    said = json.loads(done.stdout)
    assert done.exit_code == 6
    assert said["removed"] is True
    assert said["left"] == [{"run": RUN, "what": "remove /etc"}, {"run": RUN, "what": f"forget the run of {folder}"}]
    assert [(entry["run"], entry["why"][:20]) for entry in said["not_removed"]] == [(RUN, "remove /etc: expecte")]
    assert [note[:14] for note in said["notes"]] == ["containers, ne"]


def test_a_dry_run_does_nothing_and_its_exit_code_says_whether_there_is_anything(tmp_path: Path) -> None:
    assert chaos("gc", "--dry-run").exit_code == 0
    folder = run_with(tmp_path, alive=False)

    shown = chaos("gc", "--dry-run")

    assert shown.exit_code == 6
    assert shown.stdout.splitlines()[0] == f"{RUN}: forget the run of {folder}"
    assert "1 to remove; nothing was done" in shown.stdout
    assert [entry.run for entry in runs()] == [RUN]


def test_what_is_left_of_a_run_is_said_harmlessly(tmp_path: Path) -> None:
    odd = tmp_path / "\x1b[31mred\nsecond line"
    odd.mkdir()
    run_with(tmp_path, RemoveFolder(str(odd)), alive=False)

    said = chaos("gc", "--dry-run").stdout

    assert "red" in said
    assert "\x1b" not in said


def test_an_entry_that_cannot_be_read_is_told_of_and_removed() -> None:
    entry = runs_folder() / "20260101-000000-0a0a0a.json"
    entry.write_text('{"run": "')
    told = f"20260101-000000-0a0a0a: remove {entry}, an entry of the registry that cannot be read"

    shown, done, again = chaos("gc", "--dry-run"), chaos("gc"), chaos("gc", "--dry-run")

    assert [result.exit_code for result in (shown, done, again)] == [6, 0, 0]
    assert told in shown.stdout
    assert told in done.stdout
    assert "nothing is left behind" in again.stdout


def test_old_runs_alone_are_shown_by_a_dry_run_and_are_nothing_that_was_left_behind(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / "reports" / "checkout" / f"20260101-00000{number}-abcdef"
        folder.mkdir(parents=True)
        for name in ("plan.json", "events.jsonl"):
            (folder / name).write_text("")
            os.utime(folder / name, (1, 1))

    shown = chaos("gc", "--dry-run", "--keep-runs", "1", "--reports", str(tmp_path / "reports"))

    assert shown.exit_code == 0
    assert shown.stdout.count("remove the old run") == 2
    assert "2 to remove; nothing was done" in shown.stdout


def test_an_abort_that_does_not_help_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_of_a_machine, "ABORT_SECONDS", 0.3)
    folder = run_with(tmp_path, alive=True)

    done = chaos("abort")

    assert isinstance(done.exception, CouldNotRun)
    assert f"expected {RUN} to be over within 0.3 s, found it at work (pid {os.getpid()})" in str(done.exception)
    assert str(folder / "logs") in str(done.exception)
    assert f"kill -9 {os.getpid()} leaves the rest to its guardian" in str(done.exception)
    assert f"asked {RUN} (pid {os.getpid()}) to end" in done.stdout


def noted_as(**other: object) -> None:
    path = runs_folder() / f"{RUN}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **other}))


@pytest.mark.parametrize("other", [{"host": "job-1", "pid": 1}, {"host": "job-1"}, {"started": 1}])
def test_a_number_that_may_be_another_process_here_is_not_told_as_one_to_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, object]
) -> None:
    monkeypatch.setattr(commands_of_a_machine, "ABORT_SECONDS", 0.0)
    run_with(tmp_path, alive=True)
    noted_as(**other)

    said = str(chaos("abort").exception)

    assert "kill" not in said
    assert ("on job-1);" in said) is ("host" in other)


def aborted() -> Result:
    """What an abort says of a run that is over as soon as it is asked to be."""

    def end_when_asked() -> None:
        while not (runs_folder() / f"{RUN}.abort").exists():
            time.sleep(0.01)
        forget(RUN)

    running = threading.Thread(target=end_when_asked)
    running.start()
    done = chaos("abort", RUN)
    running.join()
    return done


def test_an_abort_of_a_run_that_recorded_nothing_yet_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_of_a_machine, "JUDGING_SECONDS", 0.2)
    folder = run_with(tmp_path, alive=True)

    done = aborted()

    assert done.exit_code == 0
    assert f"over before anything was recorded\n  {folder}" in done.stdout
    assert list(runs_folder().glob("*.abort")) == []


def test_an_abort_of_a_run_whose_folder_is_not_seen_from_here_says_where_its_report_is(tmp_path: Path) -> None:
    folder = run_with(tmp_path, alive=True)
    noted_as(host="job-1")
    folder.rename(folder.with_name("elsewhere"))

    done = aborted()

    assert done.exit_code == 0
    assert f"over; its report is not seen from here: {folder} on job-1" in done.stdout
    assert "before anything was recorded" not in done.stdout


LEAVES_SOMETHING = """
import sys, time
from pathlib import Path
from harness.runtime.registry import register, runs_folder
from harness.runtime.undo import RemoveFolder, UndoJournal

folder = Path(sys.argv[1])
UndoJournal(folder / "undo.jsonl").before(RemoveFolder("/etc"))
register(folder)
print("begun", flush=True)
while not (runs_folder() / f"{folder.name}.abort").exists():
    time.sleep(0.01)
"""


def test_an_abort_of_a_run_that_left_something_says_how_to_remove_it(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "checkout" / RUN
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", LEAVES_SOMETHING, str(folder)], stdout=subprocess.PIPE) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == b"begun\n"
        done = chaos("abort")

    assert done.exit_code == 6
    assert [entry.run for entry in runs()] == [RUN]
    assert chaos("gc").exit_code == 6


@pytest.mark.parametrize("arguments", [["abort", "--all", "--lift"], ["abort", RUN, "--all"], ["abort", RUN, "--lift"]])
def test_an_abort_means_one_thing(arguments: list[str]) -> None:
    assert chaos(*arguments).exit_code == 2


def test_a_run_that_does_not_see_the_stop_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    run_with(tmp_path, alive=True)
    noted_as(host="job-1")

    done = chaos("abort", "--all")

    assert done.exit_code == 0
    assert f"{RUN} (pid {os.getpid()} on job-1) does not see that file, and goes on; end it: chaos abort {RUN}" in done.stdout
    assert not (runs_folder() / f"{RUN}.abort").exists()


def test_all_runs_that_do_not_end_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_of_a_machine, "ABORT_SECONDS", 0.0)
    others = [tmp_path / "reports" / "search" / f"20260101-00000{number}-abcdef" for number in (1, 2)]
    for folder in others:
        folder.mkdir(parents=True)
        register(folder)

    said = str(chaos("abort", "--all").exception)

    assert all(f"expected {folder.name} to be over" in said for folder in others)


def test_all_runs_are_stopped_even_where_there_is_none(tmp_path: Path) -> None:
    done = chaos("abort", "--all", "--why", "page storm")

    assert done.exit_code == 0
    assert "nothing begins any more until chaos abort --lift" in done.stdout
    assert (tmp_path / "stop").read_text() == "page storm\n"
    assert isinstance(chaos("abort").exception, InvalidInput)
    assert "lifted" in chaos("abort", "--lift").stdout
