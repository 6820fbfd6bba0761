"""Runs the `chaos` command as a person does, and looks at what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent.parent
TINY = Path(__file__).parent / "tiny"
PATIENCE = 240.0


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("GITHUB_STEP_SUMMARY", "NO_COLOR", "DEFECTS")}
    return {**kept, "COLUMNS": "120"}


def on_processes(arguments: Sequence[str]) -> list[str]:
    """The arguments, with local processes as what a system runs on where they say nothing: an engine may answer here."""
    runs = bool(arguments) and arguments[0] in ("run", "prove", "calibrate") and "--runtime" not in arguments
    return [*arguments, *(["--runtime", "local"] if runs else [])]


def chaos(*arguments: str, cwd: Path = PROJECT, extra: dict[str, str] | None = None) -> Answer:
    """Run the command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", *on_processes(arguments)],
        check=False,
        cwd=cwd,
        env={**environment(), **(extra or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


class Running:
    """A command that runs on; `events` are those of the one run it makes under `reports`."""

    def __init__(self, arguments: Sequence[str], reports: Path) -> None:
        self.reports = reports
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness", *on_processes(arguments), "--report-dir", str(reports)],
            cwd=PROJECT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def folder(self) -> Path | None:
        """The run's folder, once it is there."""
        return next((path.parent for path in self.reports.glob("*/*/plan.json")), None)

    def events(self) -> list[dict[str, Any]]:
        """What has been recorded so far."""
        folder = self.folder
        return events_of(folder) if folder is not None else []

    def wait_for(self, kind: str, **having: object) -> dict[str, Any]:
        """Wait until an event of this kind has been recorded."""
        until = time.monotonic() + 90
        while time.monotonic() < until:
            for event in self.events():
                if event["event"] == kind and all(event[key] == value for key, value in having.items()):
                    return event
            assert self.process.poll() is None, f"it ended before {kind}: {self.process.stdout and self.process.stdout.read()}"
            time.sleep(0.05)
        raise AssertionError(f"no {kind} within 90 s")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, within: float = 30) -> tuple[int, str]:
        """Wait for its end; the exit code and what it printed."""
        out, _ = self.process.communicate(timeout=within)
        return self.process.returncode, out


def events_of(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def started_by(folder: Path) -> list[int]:
    """The processes that a run's journal names, of those that are still alive and are still the same."""
    alive = []
    for line in (folder / "undo.jsonl").read_text(encoding="utf-8").splitlines():
        data = json.loads(line)
        if "pid" in data and start_of(data["pid"]) == data["started"]:
            alive.append(data["pid"])
    return alive


def start_of(pid: int) -> int | None:
    """When a living process started, in the kernel's ticks; None for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def processes_mentioning(text: str) -> list[str]:
    """Command lines of living processes that mention a text: what a run's own temporary folder or addresses tell."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def verdict_of(reports: Path) -> dict[str, Any]:
    """The verdict of the one run under `reports`."""
    (path,) = reports.glob("*/2*/verdict.json")
    verdict: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return verdict


def outcomes(verdict: dict[str, Any]) -> dict[str, str]:
    """The outcome of each expectation by its id."""
    return {finding["id"]: finding["outcome"] for finding in verdict["expectations"]}


def evidence(verdict: dict[str, Any]) -> dict[str, str]:
    """The outcome of each proof by its id."""
    return {finding["id"]: finding["outcome"] for finding in verdict["evidence"]}


def scenario(folder: Path, faults: str, expect: str, more: str = "") -> Path:
    """A scenario for the tiny system."""
    path = folder / "drawn_up.yaml"
    path.write_text(
        f"version: 1\nquestion: Does it hold?\nsystem: {TINY}\nfaults: {faults}\nexpect: {expect}\n{more}\n", encoding="utf-8"
    )
    return path
