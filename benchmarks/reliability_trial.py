"""One trial: a run is begun, struck at a moment, and watched until nothing of it is left. A process of its own.

It reads what to do from its standard input, one JSON object, and prints what came of it as another.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from benchmarks.reliability_figures import REPORTS, problems_of
from benchmarks.reliability_kernel import bury, inherit_orphans
from benchmarks.reliability_left import Left, Traces, guardian_of, remove_all
from benchmarks.reliability_moments import BEGINS

PROJECT = Path(__file__).parent.parent
SCENARIO = Path(__file__).parent / "reliability_system" / "short.yaml"
LOOK_EVERY, LOOK_SELDOM, ASK_EVERY = 0.05, 0.25, 0.02
"""Seconds between two looks at what is left; at what there is before; and at which stage a run is in."""

LONGEST = {"local": 120.0, "docker": 240.0}
"""Seconds after which a run that was begun counts as one that hangs."""

COMMAND_SECONDS = 60.0
FOR_GC = ("registered", "draft")
"""What nobody can remove where the harness ends before its guardian is there, or after that was dismissed."""

BOUND = {"local": 15.0, "docker": 60.0}
"""Seconds after the lease in which everything has to be gone; what is there then is left."""


@dataclass(frozen=True)
class Order:
    """What a trial is to do. `signals` go to the harness, or to its guardian where `kind` says so; none is a whole run."""

    kind: str
    runtime: str
    lease: float
    stage: str = ""
    after: float = 0.0
    signals: Sequence[tuple[str, float]] = ()


@dataclass
class Came:
    """What came of it; times in seconds since the first signal, None where it did not come to that.

    `struck` is the stage in which the signal went out, empty where the run was over before. `code` is what the harness ended
    with, as a shell tells it; `judged` what `chaos judge` did afterwards.
    """

    struck: str = ""
    healed: float | None = None
    gone: float | None = None
    code: int | None = None
    ended: float | None = None
    judged: int | None = None
    word: str = ""
    reports: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    traceback: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    life: float | None = None
    kept: str = ""


class Trial:
    """A run of its own, with a folder for everything that it may leave."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.folder = Path(tempfile.mkdtemp(prefix="rel-")).resolve()
        self.traces = Traces(self.folder, _engine() if order.runtime == "docker" else None)
        self.traces.temporary.mkdir()
        self.came = Came()
        self.began = time.monotonic()
        self.harness = self._start()
        self.process = psutil.Process(self.harness.pid)
        self.guardian: psutil.Process | None = None
        self._read: dict[str, float] = {}

    @property
    def environment(self) -> dict[str, str]:
        """That of every command of this trial: nothing of it is outside of its folder."""
        return {
            **{name: value for name, value in os.environ.items() if name != "GITHUB_STEP_SUMMARY"},
            "TMPDIR": str(self.traces.temporary),
            "CHAOS_STATE_DIR": str(self.folder / "state"),
            "CHAOS_STOP_FILE": str(self.folder / "stop"),
            "PYTHONPATH": str(PROJECT),
        }

    def _start(self) -> subprocess.Popen[bytes]:
        order = self.order
        command = [sys.executable, "-m", "harness", "run", str(SCENARIO), "--runtime", order.runtime, "--no-color"]
        command += ["--report-dir", str(self.folder / "reports")]
        command += ["--lease", f"{order.lease:g}s"] if knows("run", "--lease") else []
        with (self.folder / "told").open("wb") as told:
            return subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdin=subprocess.DEVNULL, stdout=told, stderr=told
            )

    # what it sees

    def run(self) -> Path | None:
        """The folder of the run, once there is one."""
        return next(iter(self.traces.runs()), None)

    def events(self) -> list[dict[str, Any]]:
        """What has been recorded so far."""
        run = self.run()
        return list(_records(run / "events.jsonl")) if run is not None else []

    def stages(self) -> dict[str, float]:
        """The stages that have begun, each with when (seconds since the command)."""
        if set(self._read) != {"starting", *BEGINS}:
            now = time.monotonic() - self.began
            self._read.setdefault("starting", 0.0)
            events = self.events()
            for stage, begins in BEGINS.items():
                if stage not in self._read and any(_is(event, begins) for event in events):
                    self._read[stage] = now
        return self._read

    def has_ended(self) -> bool:
        """Whether the harness is over."""
        return self.harness.poll() is not None

    def outlasts(self, seconds: float) -> bool:
        """Wait so long, looking now and then; whether the harness is still there then."""
        until = time.monotonic() + seconds
        while not self.has_ended() and time.monotonic() < until:
            self._look()
            time.sleep(max(0.0, min(LOOK_SELDOM, until - time.monotonic())))
        return not self.has_ended()

    def _look(self) -> None:
        bury([self.harness.pid])
        self.traces.look()
        self.guardian = self.guardian or guardian_of(self.process)
        self.stages()
        if self.came.life is None and self.has_ended():
            self.came.life = round(time.monotonic() - self.began, 3)

    # what it does

    def reach(self) -> bool:
        """Wait for the moment; whether the run comes to it."""
        until = self.began + LONGEST[self.order.runtime]
        while self.order.stage not in self.stages():
            if self.has_ended() or time.monotonic() > until:
                return False
            time.sleep(ASK_EVERY)
        reached = self.stages()[self.order.stage] + self.began
        return self.outlasts(max(0.0, reached + self.order.after - time.monotonic()))

    def strike(self) -> float:
        """Send what is to be sent; when the first went out."""
        self._look()
        if self.order.kind == "guardians":
            if self.guardian is None or not self.guardian.is_running():
                return 0.0
            struck: psutil.Process = self.guardian
        else:
            struck = self.process
        self.came.struck = list(self.stages())[-1]
        first = time.monotonic()
        for name, after in self.order.signals:
            self.outlasts(first + after - time.monotonic())
            if struck.is_running():
                struck.send_signal(getattr(signal, name))
        return first

    def watch(self, first: float) -> None:
        """Look until nothing is left, or the time is over for it."""
        until = time.monotonic() + self.order.lease + BOUND[self.order.runtime]
        if not self.order.signals or self.order.kind in ("interrupts", "guardians"):
            until = time.monotonic() + LONGEST[self.order.runtime]
        came, spared = self.came, [self.harness.pid]
        left: list[Left] = []
        while True:
            self._look()
            now = time.monotonic()
            self._see_end(now - first)
            faults = self.traces.faults(spared)
            if faults:
                came.healed, came.faults = None, [str(fault) for fault in faults]
            elif came.healed is None:
                came.healed, came.faults = round(now - first, 3), []
            left = self.traces.left()
            if not left or now > until:
                break
            time.sleep(LOOK_EVERY if self.order.runtime == "local" else LOOK_EVERY * 4)
        came.gone = round(time.monotonic() - first, 3) if not left else None
        time.sleep(0.5 if self.order.runtime == "local" else 3.0)  # nothing comes back
        came.left = sorted(str(one) for one in self.traces.left())

    def _see_end(self, now: float) -> None:
        if self.came.ended is None and self.has_ended():
            code = self.harness.returncode
            self.came.code, self.came.ended = code if code >= 0 else 128 - code, round(now, 3)

    def clear(self) -> None:
        """Let the command remove what it is there for: names and files of a run that ended before it had a guardian, or after."""
        left = {one for one in self.traces.left() if one.kind in FOR_GC}
        if left and self.order.runtime == "local" and knows("gc"):
            self._ask("gc", "--reports", str(self.folder / "reports"), DOCKER_HOST=f"unix://{self.folder}/none")
            now = {str(one) for one in self.traces.left()}
            self.came.cleared = sorted({str(one) for one in left} - now)
            self.came.left = sorted(now)

    def _ask(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Another command in the same surroundings."""
        answer = subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            cwd=PROJECT,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        if "Traceback" in answer.stderr:
            self.came.traceback = answer.stderr[-2000:]
        return answer

    def ask_judge(self) -> None:
        """What the run is judged as, by the command, as whoever comes to it afterwards would."""
        run = self.run()
        if run is None:
            return
        self.came.reports = [name for name in REPORTS if (run / name).is_file()]
        judged = self._ask("judge", str(run), "--json")
        self.came.judged = judged.returncode
        try:
            self.came.word = json.loads(judged.stdout)["word"]
        except (ValueError, KeyError):
            self.came.word = judged.stderr.strip()[-300:]

    def tell(self) -> Came:
        """All of it; the folder is kept where it may be asked for."""
        came, events = self.came, self.events()
        came.events = [event["event"] for event in events]
        came.reasons = [str(event.get("reason") or event.get("why")) for event in events if event["event"] in _REASONED]
        came.stages = {stage: round(at, 3) for stage, at in self.stages().items()}
        said = (self.folder / "told").read_text(encoding="utf-8", errors="replace")
        if "Traceback" in said:
            came.traceback = said[-2000:]
        return came


_REASONED = ("RunFailed", "RunInterrupted", "RunHalted", "UndoFailed", "GuardianActed", "WedgeNoticed")


def try_out(order: Order) -> Came:
    """Do one trial; nothing of it is left but, where something was wrong, its folder under another name."""
    with _clearing_up(Trial(order)) as trial:
        if not order.signals:
            trial.outlasts(LONGEST[order.runtime])
            trial.watch(time.monotonic())
        elif trial.reach() and (first := trial.strike()):
            trial.watch(first)
        else:
            trial.outlasts(LONGEST[order.runtime])
            trial.watch(time.monotonic())
            trial.came.struck = ""
        trial.clear()
        trial.ask_judge()
        return trial.tell()


@contextmanager
def _clearing_up(trial: Trial) -> Iterator[Trial]:
    try:
        yield trial
    finally:
        remove_all(trial.traces)
        keep = os.environ.get("RELIABILITY_KEEP")
        if keep and problems_of({**asdict(trial.order), **vars(trial.came)}):
            target = Path(keep) / trial.folder.name
            shutil.copytree(trial.folder, target, symlinks=True, ignore_dangling_symlinks=True)
            trial.came.kept = str(target)
        shutil.rmtree(trial.folder, ignore_errors=True)


@cache
def knows(command: str, option: str = "") -> bool:
    """Whether there is such a command, with such an option."""
    from harness.cli import commands

    found = commands.commands.get(command)
    return found is not None and (not option or any(option in parameter.opts for parameter in found.params))


def _engine() -> Any:
    from harness.runtime.containers.engine import find_engine

    return find_engine(os.environ).client()


def _is(event: dict[str, Any], wanted: Any) -> bool:
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


def main() -> None:
    """Do what the standard input says."""
    inherit_orphans()
    order = Order(**json.load(sys.stdin))
    came = try_out(order)
    json.dump(vars(came), sys.stdout)


if __name__ == "__main__":
    main()
