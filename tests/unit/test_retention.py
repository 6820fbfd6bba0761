"""Old runs go where that is asked for; `latest`, what is under way, and what is no run's never do."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import commands
from harness.machine import remove_expired
from harness.runtime import strays
from harness.runtime.registry import register
from harness.runtime.retention import DAY, Kept, expired, remove_run
from harness.runtime.undo import OWNER


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no runs and no control groups, and temporary files of its own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(strays, "KINDS", ())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def run_of(reports: Path, scenario: str, day: int, age: float = 0.0) -> Path:
    """A run of a day in January; `age` is how many days ago it ended."""
    folder = reports / scenario / f"202601{day:02}-000000-abcdef"
    (folder / "logs").mkdir(parents=True)
    for name in ("plan.json", "events.jsonl", "logs/front.log"):
        (folder / name).write_text("{}\n")
    (folder / "events.jsonl").write_text('{"event":"RunEnded","at":1.0}\n')
    ended = time.time() - age * DAY
    os.utime(folder / "events.jsonl", (ended, ended))
    return folder


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"


def test_without_a_word_everything_is_kept(reports: Path) -> None:
    run_of(reports, "checkout", 1, age=1000)

    assert expired(reports, Kept()) == []


def test_the_newest_runs_of_each_scenario_are_kept(reports: Path) -> None:
    checkout = [run_of(reports, "checkout", day) for day in range(1, 6)]
    search = [run_of(reports, "search", day) for day in range(1, 3)]

    assert expired(reports, Kept(runs=2)) == checkout[:3]
    assert expired(reports, Kept(runs=1)) == [*checkout[:4], search[0]]


def test_after_a_run_only_its_own_scenarios_runs_go(reports: Path) -> None:
    checkout = [run_of(reports, "checkout", day) for day in (1, 2)]
    search = [run_of(reports, "search", day) for day in (1, 2)]

    remove_expired([checkout[1]], keep_runs=1, keep_days=None)

    assert [path.exists() for path in (*checkout, *search)] == [False, True, True, True]


def test_after_a_run_each_that_goes_is_told(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkout = [run_of(reports, "checkout", day) for day in (1, 2, 3)]

    remove_expired([checkout[2]], keep_runs=1, keep_days=None)

    said = capsys.readouterr()
    assert said.err.splitlines() == [f"removed the old run {path}" for path in checkout[:2]]
    assert said.out == ""


def test_what_a_command_made_it_does_not_remove_itself(reports: Path) -> None:
    old, *made = [run_of(reports, "checkout", day) for day in (1, 2, 3, 4)]

    remove_expired(made, keep_runs=1, keep_days=None)

    assert not old.exists()
    assert all(path.exists() for path in made)


def test_an_old_run_that_would_not_go_is_a_warning(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = run_of(reports, "checkout", 1)
    new = run_of(reports, "checkout", 2)
    (reports / "checkout" / f".removing-{old.name}").write_text("in the way")

    remove_expired([new], keep_runs=1, keep_days=None)

    assert "warning: an old run could not be removed" in capsys.readouterr().err


def test_runs_of_the_last_days_are_kept(reports: Path) -> None:
    old, new = run_of(reports, "checkout", 1, age=8), run_of(reports, "checkout", 2, age=6)

    assert expired(reports, Kept(days=7)) == [old]
    assert new.exists()


def test_what_count_or_age_keeps_is_kept(reports: Path) -> None:
    old = [run_of(reports, "checkout", day, age=30) for day in (1, 2, 3)]
    recent = run_of(reports, "search", 4, age=1)
    run_of(reports, "search", 5, age=0)

    assert expired(reports, Kept(runs=1, days=7)) == old[:2]
    assert recent.exists()


def test_what_latest_leads_to_is_kept(reports: Path) -> None:
    runs = [run_of(reports, "checkout", day, age=30) for day in (1, 2, 3)]
    (reports / "checkout" / "latest").symlink_to(runs[0].name)

    assert expired(reports, Kept(runs=1)) == [runs[1]]


def test_a_run_that_is_under_way_or_left_something_is_kept(reports: Path) -> None:
    runs = [run_of(reports, "checkout", day, age=30) for day in (1, 2, 3)]
    register(runs[0])

    assert expired(reports, Kept(runs=1)) == [runs[1]]


def test_a_run_that_may_be_another_users_under_way_is_kept(reports: Path) -> None:
    begun, healed, killed = (run_of(reports, "checkout", day) for day in (1, 2, 3))
    run_of(reports, "checkout", 4)
    (begun / "events.jsonl").write_text('{"event":"PhaseBegan","at":1.0,"phase":"fault"}\n')
    (healed / "events.jsonl").write_text('{"event":"GuardianActed","at":1.0,"undone":1,"failed":0,"why":"gone"}\n')
    (killed / "events.jsonl").write_text('{"event":"PhaseBegan","at":1.0,"phase":"fault"}\n')
    os.utime(killed / "events.jsonl", (time.time() - 2 * DAY,) * 2)

    assert expired(reports, Kept(runs=1)) == [healed, killed]


def test_what_is_no_runs_folder_is_never_touched(reports: Path, tmp_path: Path) -> None:
    newest = run_of(reports, "checkout", 9)
    others = [run_of(reports, "checkout", day, age=30) for day in range(1, 5)]
    (others[0] / "plan.json").unlink()
    (others[1] / "events.jsonl").unlink()
    (others[2] / "plan.json").unlink()
    (others[2] / "plan.json").symlink_to(newest / "plan.json")
    others[3] = others[3].rename(others[3].with_name("my-copy"))
    elsewhere = run_of(tmp_path / "elsewhere", "checkout", 1, age=30)
    (reports / "checkout" / "20260105-000000-abcdef").symlink_to(elsewhere)
    (reports / "linked").symlink_to(elsewhere.parent)
    (reports / "calibrate-shop.yaml").write_text("")

    assert expired(reports, Kept(runs=1)) == []


def test_removing_follows_no_link_out_of_the_folder(reports: Path, tmp_path: Path) -> None:
    folder = run_of(reports, "checkout", 1)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("")
    (folder / "logs" / "out").symlink_to(tmp_path / "precious")

    assert remove_run(folder) is None

    assert (tmp_path / "precious" / "file").exists()
    assert list((reports / "checkout").iterdir()) == []
    assert remove_run(folder) is None, "removing twice is removing once"


def test_what_somebody_was_killed_over_is_no_run_and_goes_the_next_time(reports: Path) -> None:
    run_of(reports, "checkout", 2)
    half = run_of(reports, "checkout", 1).rename(reports / "checkout" / ".removing-20260101-000000-abcdef")
    (half / "plan.json").unlink()

    assert expired(reports, Kept(runs=5)) == [half]
    assert remove_run(half) is None
    assert not half.exists()


def test_what_would_not_go_is_told(reports: Path) -> None:
    folder = run_of(reports, "checkout", 1)
    (reports / "checkout" / f".removing-{folder.name}").write_text("in the way")

    assert remove_run(folder) == f"{folder}: Not a directory"


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path: Path) -> None:
    assert expired(tmp_path / "nowhere", Kept(runs=1)) == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ages=st.lists(st.floats(0, 100), min_size=1, max_size=8),
    runs=st.none() | st.integers(1, 9),
    days=st.none() | st.floats(0, 120),
)
def test_a_run_goes_only_where_nothing_that_was_said_keeps_it(
    tmp_path_factory: pytest.TempPathFactory, ages: list[float], runs: int | None, days: float | None
) -> None:
    reports = tmp_path_factory.mktemp("reports")
    folders = [run_of(reports, "checkout", number, age) for number, age in enumerate(sorted(ages, reverse=True), 1)]

    gone = set(expired(reports, Kept(runs, days)))

    newest = set(folders[-runs:]) if runs is not None else set()
    recent = {
        folder
        for folder, age in zip(folders, sorted(ages, reverse=True), strict=True)
        if days is not None and age < days - 0.01
    }
    assert not gone & (newest | recent)
    if runs is not None and days is None:
        assert gone == set(folders) - newest
    if runs is None and days is None:
        assert gone == set()


# by the command


def test_gc_shows_old_runs_and_removes_them(reports: Path) -> None:
    old, new = run_of(reports, "checkout", 1), run_of(reports, "checkout", 2)
    arguments = ["gc", "--reports", str(reports), "--keep-runs", "1"]

    shown = CliRunner().invoke(commands, [*arguments, "--dry-run", "--json"])

    said = json.loads(shown.stdout)
    assert shown.exit_code == 0
    assert [left["what"] for left in said["left"]] == [f"remove the old run {old}"]
    assert old.exists()

    done = CliRunner().invoke(commands, arguments)

    assert done.exit_code == 0
    assert f"remove the old run {old}" in done.stdout
    assert (old.exists(), new.exists()) == (False, True)
    assert "nothing is left behind" in CliRunner().invoke(commands, arguments).stdout


def test_gc_does_not_look_at_reports_unless_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [run_of(tmp_path / "reports", "checkout", day, age=1000) for day in (1, 2)]

    assert CliRunner().invoke(commands, ["gc"]).exit_code == 0

    assert all(run.exists() for run in runs)


@pytest.mark.parametrize(("given", "place", "code"), [(["--reports", "reprots"], "reprots", 2), ([], "reports", 0)])
def test_where_there_is_no_folder_of_reports_it_is_said_and_what_is_left_goes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], place: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    stray = Path(tempfile.mkdtemp(prefix="chaos-"))
    (stray / OWNER).write_text(f"{os.getpid()} 1 {socket.gethostname()}")

    done = CliRunner().invoke(commands, ["gc", *given, "--keep-runs", "3"])

    assert done.exit_code == code
    assert f"note: old runs were not looked for: there is no folder of reports at {place}\n" in done.stdout
    assert not stray.exists()


@pytest.mark.parametrize("days", ["nan", "inf", "-1"])
def test_what_is_no_number_of_days_removes_nothing(reports: Path, days: str) -> None:
    runs = [run_of(reports, "checkout", day, age=1) for day in (1, 2)]

    done = CliRunner().invoke(commands, ["gc", "--reports", str(reports), "--keep-days", days])

    assert done.exit_code == 2
    assert all(run.exists() for run in runs)
