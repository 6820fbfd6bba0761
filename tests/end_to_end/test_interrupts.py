"""A signal at any moment, once or several times: healed once and at once, taken down, told, with the exit code for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.end_to_end.chaos import PROJECT, TINY, Running, environment, scenario
from tests.end_to_end.endings import CUT, DEFERRED, SHORT, left_of, of_kind, soon, wait_until

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
CODES = {INT: 130, TERM: 143, HUP: 143}
HEALED_WITHIN = 5.0

MOMENTS: list[tuple[str, dict[str, object], Sequence[signal.Signals]]] = [
    ("RunBegan", {}, [INT]),
    ("ServiceStarted", {}, [TERM, TERM]),
    ("ServiceReady", {}, [HUP]),
    ("SystemReady", {}, [INT, TERM, HUP]),
    ("LoadBegan", {}, [TERM]),
    ("PhaseBegan", {"phase": "baseline"}, [INT, INT]),
    ("PhaseEnded", {"phase": "baseline"}, [HUP]),
    ("FaultBegan", {}, [TERM, INT]),
    ("EdgeProbed", {"moment": "during"}, [INT, INT, INT]),
    ("FaultEnded", {}, [HUP, INT]),
    ("PhaseBegan", {"phase": "drain"}, [TERM]),
    ("LoadEnded", {}, [INT]),
    ("UndoDone", {}, [TERM, TERM, TERM]),
    ("RunEnded", {}, [INT, HUP]),
]
EVERY_DAY = ("ServiceStarted", "FaultBegan", "UndoDone", "RunEnded")


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_ending(folder: Path, asked: float, signals: Sequence[signal.Signals]) -> None:
    """What holds after every interrupt of a run, whenever it came. Of signals at one time, any may be seen first."""
    began, ended = of_kind(folder, "FaultBegan"), of_kind(folder, "FaultEnded")
    interrupted = of_kind(folder, "RunInterrupted")
    assert len(ended) == len(began)
    assert all(event["at"] - asked < HEALED_WITHIN for event in ended)
    assert [event["signal"] for event in interrupted] in ([], *([number.name] for number in signals))
    assert len(of_kind(folder, "RunEnded")) == 1
    assert of_kind(folder, "UndoFailed") + of_kind(folder, "GuardianActed") == []
    assert {"verdict.json", "report.html", "junit.xml", "summary.md"} <= files_of(folder)
    assert left_of(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "having", "signals"),
    [
        pytest.param(
            kind,
            having,
            signals,
            id=" ".join([kind, *map(str, having.values())]),
            marks=[] if kind in EVERY_DAY else pytest.mark.nightly,
        )
        for kind, having, signals in MOMENTS
    ],
)
def test_an_interrupt_at_any_moment_heals_once_and_leaves_nothing_but_a_report(
    tmp_path: Path, kind: str, having: dict[str, object], signals: Sequence[signal.Signals]
) -> None:
    running = Running(["run", str(scenario(tmp_path, CUT, DEFERRED, SHORT))], tmp_path / "reports")
    soon(running, kind, **having)

    asked = time.time()
    for number in signals:
        running.signal(number)
    code, out = running.end()

    assert running.folder is not None
    check_ending(running.folder, asked, signals)
    assert code in {CODES[number] for number in signals}, out
    assert "Traceback" not in out


def test_an_interrupt_at_the_very_beginning_of_a_run_leaves_nothing_but_a_report(tmp_path: Path) -> None:
    running = Running(["run", str(scenario(tmp_path, CUT, DEFERRED, SHORT))], tmp_path / "reports")
    soon(running, "RunBegan")

    asked = time.time()
    running.signal(INT)
    running.signal(TERM)
    code, out = running.end()

    assert running.folder is not None
    check_ending(running.folder, asked, [INT, TERM])
    assert code in (130, 143)
    assert "Traceback" not in out
    assert of_kind(running.folder, "FaultBegan") == []


def heeds(pid: int, number: signal.Signals) -> bool:
    """Whether a process does with a signal what it does itself: it has begun."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (TERM - 1) & 1) and bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize(("number", "seconds"), [(INT, 0.0), (INT, 0.1), (INT, 0.5), (TERM, 0.1), (HUP, 0.1)])
def test_an_interrupt_while_arguments_and_files_are_read_ends_the_command_in_order(
    tmp_path: Path, number: signal.Signals, seconds: float
) -> None:
    path = scenario(tmp_path, CUT, DEFERRED, SHORT)
    command = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", *[str(path)] * 200, "--runtime", "local", "--report-dir", str(tmp_path / "r")],
        cwd=PROJECT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: heeds(command.pid, number), 20)
    time.sleep(seconds)
    command.send_signal(number)
    command.send_signal(number)

    out, _ = command.communicate(timeout=20)

    assert command.returncode == CODES[number], out
    assert "Traceback" not in out
    assert not (tmp_path / "r").exists()


# what is more than one run


def folders_of(reports: Path) -> list[Path]:
    return sorted(path.parent for path in reports.glob("*/2*/plan.json"))


def interrupted(arguments: Sequence[str], reports: Path, kind: str, **having: object) -> tuple[int, str]:
    running = Running(arguments, reports)
    soon(running, kind, **having)
    running.signal(INT)
    return running.end()


@pytest.mark.slow
def test_after_an_interrupt_no_further_scenario_is_run_and_that_is_said(tmp_path: Path) -> None:
    path = scenario(tmp_path, CUT, DEFERRED, SHORT)
    other = path.with_name("the_other.yaml")
    other.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")

    junit = tmp_path / "junit.xml"
    code, out = interrupted(
        ["run", str(path), str(other), "--junit-xml", str(junit)], tmp_path / "reports", "PhaseBegan", phase="baseline"
    )

    (folder,) = folders_of(tmp_path / "reports")
    assert code == 130
    assert f"not run: {other}" in out
    assert junit.exists()
    assert left_of(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["SystemReady", pytest.param("RunEnded", marks=pytest.mark.nightly)])
def test_after_an_interrupt_the_whole_proof_is_over(tmp_path: Path, moment: str) -> None:
    path = scenario(tmp_path, CUT, DEFERRED, SHORT)

    code, out = interrupted(["prove", str(path), "--only", "no fault", "--only", "wrong edge"], tmp_path / "reports", moment)

    (folder,) = folders_of(tmp_path / "reports")
    assert code == 130, out
    assert "interrupted, so NOT PROVEN" in out
    assert left_of(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["LoadBegan", pytest.param("RunEnded", marks=pytest.mark.nightly)])
def test_what_was_interrupted_is_not_run_again(tmp_path: Path, moment: str) -> None:
    path = scenario(tmp_path, "[latency: {edge: front -> unused, latency: 5ms}]", DEFERRED, SHORT)  # inconclusive at any rate

    code, out = interrupted(["run", str(path), "--rerun-inconclusive", "2"], tmp_path / "reports", moment)

    (folder,) = folders_of(tmp_path / "reports")
    assert code == 130, out
    assert left_of(folder) == []


@pytest.mark.slow
def test_a_calibration_that_is_interrupted_finds_no_margins(tmp_path: Path) -> None:
    code, out = interrupted(["calibrate", str(TINY)], tmp_path / "reports", "PhaseBegan", phase="baseline")

    (folder,) = folders_of(tmp_path / "reports")
    assert code == 130, out
    assert "interrupted" in out
    assert left_of(folder) == []
