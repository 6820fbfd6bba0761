"""One `chaos run` with a folder of its own for everything that it may leave, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.reliability_kernel import bury
from benchmarks.reliability_left import Traces, guardian_of
from benchmarks.reliability_moments import BEGINS

if TYPE_CHECKING:
    from harness.runtime.containers.engine import DockerEngine

PROJECT = Path(__file__).parent.parent
SCENARIO = Path(__file__).parent / "reliability_system" / "short.yaml"
FOLDERS = "rel-"
"""What the folder of every trial begins with."""

LOOK_SELDOM = 0.25
COMMAND_SECONDS = 60.0


class Run:
    """A run that goes on. `traces` is what there is to be found of it later; `began` is when its command was given."""

    def __init__(self, runtime: str, lease: float) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDERS)).resolve()
        self.traces = traces_of(self.folder, runtime)
        self.traces.temporary.mkdir()
        self.began = time.monotonic()
        command = ["run", str(SCENARIO), "--runtime", runtime, "--no-color", "--report-dir", str(self.folder / "reports")]
        command += ["--lease", f"{lease:g}s"] if knows("run", "--lease") else []
        with (self.folder / "told").open("wb") as told:
            self.harness = subprocess.Popen(
                [sys.executable, "-m", "harness", *command],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
            )
        self.process = psutil.Process(self.harness.pid)
        self.guardian: psutil.Process | None = None
        self.life: float | None = None
        self._begun: dict[str, float] = {}

    @property
    def environment(self) -> dict[str, str]:
        """That of every command of this trial: nothing of it is outside of its folder."""
        return surroundings(self.folder)

    @property
    def reported(self) -> Path | None:
        """The folder that the run writes into, once there is one."""
        return next(iter(self.traces.runs()), None)

    def events(self) -> list[dict[str, Any]]:
        """What has been recorded so far."""
        return list(_records(self.reported / "events.jsonl")) if self.reported is not None else []

    def said(self) -> str:
        """What the command printed."""
        return (self.folder / "told").read_text(encoding="utf-8", errors="replace")

    def stages(self) -> dict[str, float]:
        """The stages that have begun, each with when (seconds since the command)."""
        if set(self._begun) != {"starting", *BEGINS}:
            now = time.monotonic() - self.began
            self._begun.setdefault("starting", 0.0)
            events = self.events()
            for stage, begins in BEGINS.items():
                if stage not in self._begun and any(_is(event, begins) for event in events):
                    self._begun[stage] = now
        return self._begun

    def has_ended(self) -> bool:
        """Whether the harness is over."""
        return self.harness.poll() is not None

    def outlasts(self, seconds: float) -> bool:
        """Wait so long, looking now and then; whether the harness is still there then."""
        until = time.monotonic() + seconds
        while not self.has_ended() and time.monotonic() < until:
            self.look()
            time.sleep(max(0.0, min(LOOK_SELDOM, until - time.monotonic())))
        return not self.has_ended()

    def look(self) -> None:
        """See what is there, while it is there."""
        bury([self.harness.pid])
        self.traces.look()
        self.guardian = self.guardian or guardian_of(self.process)
        self.stages()
        if self.life is None and self.has_ended():
            self.life = round(time.monotonic() - self.began, 3)

    def ask(self, *arguments: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Another command in the same surroundings, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            cwd=PROJECT,
            env={**self.environment, **(variables or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )


def traces_of(folder: Path, runtime: str) -> Traces:
    """What is to be found of the run of a trial in this folder."""
    if runtime != "docker":
        return Traces(folder)
    engine = _engine()
    return Traces(folder, engine.client(), engine.host)


def surroundings(folder: Path) -> dict[str, str]:
    """What a command finds there, so that it leaves nothing elsewhere."""
    kept = {name: value for name, value in os.environ.items() if name != "GITHUB_STEP_SUMMARY"}
    own = {"TMPDIR": folder / "tmp", "CHAOS_STATE_DIR": folder / "state", "CHAOS_STOP_FILE": folder / "stop"}
    return {**kept, **{name: str(path) for name, path in own.items()}, "PYTHONPATH": str(PROJECT)}


@cache
def knows(command: str, option: str = "") -> bool:
    """Whether there is such a command, with such an option."""
    from harness.cli import commands

    found = commands.commands.get(command)
    return found is not None and (not option or any(option in parameter.opts for parameter in found.params))


def _engine() -> DockerEngine:
    from harness.runtime.containers.engine import find_engine

    return find_engine(os.environ)


def _is(event: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return all(event.get(key) == value for key, value in wanted.items())


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict) and "event" in data:
            yield data
