"""One trial: a run is begun, struck at a moment, and watched until nothing of it is left. A process of its own.

It reads what to do from its standard input, one JSON object, and prints what came of it as another.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from benchmarks.reliability_figures import REPORTS, problems_of
from benchmarks.reliability_kernel import family, inherit_orphans
from benchmarks.reliability_left import remove_all
from benchmarks.reliability_run import Run, knows

LOOK_EVERY = {"local": 0.1, "docker": 0.2}
ASK_EVERY = 0.02
"""Seconds between two looks at what is left, and at which stage a run is in."""

LONGEST = {"local": 120.0, "docker": 240.0}
"""Seconds after which a run that was begun counts as one that hangs."""

BOUND = {"local": 15.0, "docker": 60.0}
"""Seconds after the lease in which everything has to be gone; what is there then is left."""

SETTLED = {"local": 0.5, "docker": 3.0}
"""Seconds in which nothing comes back."""

FOR_GC = ("registered", "draft")
"""What nobody can remove where the harness ends before its guardian is there, or after that was dismissed."""


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
    with, as a shell tells it; `cleared` is what was left for `chaos gc`, and removed by it; `judged` is what `chaos judge`
    came to afterwards. The faults of `on` were on just before it was struck, those of `faults` at the end; `seen` tells of
    each one when it was last seen to be on. `too_late` is a harness that was stopped when nothing of its run was left. `load`
    is the machine's load average. `stages` and `life` count from the command.
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
    on: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    cleared: list[str] = field(default_factory=list)
    traceback: str = ""
    too_late: bool = False
    stages: dict[str, float] = field(default_factory=dict)
    life: float | None = None
    load: float = 0.0
    kept: str = ""


class Trial:
    """A run, and what is done to it."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.run = Run(order.runtime, order.lease)
        self.came = Came()

    def reach(self) -> bool:
        """Wait for the moment; whether the run comes to it."""
        until = self.run.began + LONGEST[self.order.runtime]
        while self.order.stage not in self.run.stages():
            if self.run.has_ended() or time.monotonic() > until:
                return False
            time.sleep(ASK_EVERY)
        reached = self.run.began + self.run.stages()[self.order.stage]
        return self.run.outlasts(reached + self.order.after - time.monotonic())

    def strike(self) -> float | None:
        """Send what is to be sent; when the first went out, None where there is nobody to send it to."""
        self.run.look()
        struck = self._struck()
        if not struck:
            return None
        self.came.on = self._faults()
        self.came.struck = list(self.run.stages())[-1]
        first = time.monotonic()
        for name, after in self.order.signals:
            while (left := first + after - time.monotonic()) > 0:
                self._see(first)
                time.sleep(min(left, LOOK_EVERY[self.order.runtime]))
            for process in struck:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(getattr(signal, name))
        return first

    def _struck(self) -> list[psutil.Process]:
        """Who is struck: of a job, every process that came of the run on this machine, as a CI runner does it."""
        if self.order.kind == "jobs":
            return list(family())
        struck = self.run.guardian if self.order.kind == "guardians" else self.run.process
        return [struck] if struck is not None and struck.is_running() else []

    def watch(self, first: float) -> None:
        """Look until nothing is left, or the time is over for it."""
        until = time.monotonic() + self._patience()
        while True:
            self._see(first)
            left = [one for one in self.run.traces.left() if self.order.kind != "jobs" or one.kind not in self._for_gc]
            if not left or time.monotonic() > until:
                break
            time.sleep(LOOK_EVERY[self.order.runtime])
        self.came.gone = None if left else round(time.monotonic() - first, 3)
        time.sleep(SETTLED[self.order.runtime])
        self._see(first)
        self.came.left = sorted(str(one) for one in self.run.traces.left())

    def _patience(self) -> float:
        """Somebody who was told to end may take as long as a run; who was killed has nobody but the guardian."""
        runtime = self.order.runtime
        was_killed = self.came.struck and self.order.kind in ("kills", "stops", "jobs")
        return self.order.lease + BOUND[runtime] if was_killed else LONGEST[runtime]

    def _see(self, first: float) -> None:
        """Whether the harness has ended, and whether everything is healed; the time is that when all was looked at."""
        came = self.came
        self.run.look()
        came.faults = self._faults()
        now = round(time.monotonic() - first, 3)
        if came.ended is None and self.run.has_ended():
            code = self.run.harness.returncode
            came.code, came.ended = code if code >= 0 else 128 - code, now
        came.seen.update(dict.fromkeys(came.faults, now))
        if came.faults:
            came.healed = None
        elif came.healed is None:
            came.healed = now

    def _faults(self) -> list[str]:
        """What is on; that the harness itself stands still is none of its faults."""
        return [str(fault) for fault in self.run.traces.faults([self.run.harness.pid])]

    @property
    def _for_gc(self) -> tuple[str, ...]:
        """Of a job nobody is left on this machine who could remove its temporary files."""
        return (*FOR_GC, "temporary") if self.order.kind == "jobs" else FOR_GC

    def clear(self) -> None:
        """Let the command remove what it is there for; an engine is not asked, where others may be at work."""
        traces, nowhere = self.run.traces, {"DOCKER_HOST": f"unix://{self.run.folder}/none"}
        left = {str(one) for one in traces.left() if one.kind in self._for_gc}
        if left and (self.order.runtime == "local" or self.order.kind == "jobs") and knows("gc"):
            answer = self.run.ask("gc", "--reports", str(self.run.folder / "reports"), variables=nowhere)
            self._see_traceback(answer.stderr)
            self.came.left = sorted(str(one) for one in traces.left())
            self.came.cleared = sorted(left - set(self.came.left))

    def ask_judge(self) -> None:
        """What the run is judged as, by the command, as whoever comes to it afterwards would."""
        reported = self.run.reported
        if reported is None:
            return
        self.came.reports = [name for name in REPORTS if (reported / name).is_file()]
        judged = self.run.ask("judge", str(reported), "--json")
        self._see_traceback(judged.stderr)
        self.came.judged = judged.returncode
        try:
            self.came.word = json.loads(judged.stdout)["word"]
        except (ValueError, KeyError):
            self.came.word = judged.stderr.strip()[-300:]

    def _see_traceback(self, said: str) -> None:
        if "Traceback" in said:
            self.came.traceback = said[-2000:]

    def tell(self) -> Came:
        """All of it."""
        came, events = self.came, self.run.events()
        came.events = [event["event"] for event in events]
        came.reasons = [str(event.get("reason") or event.get("why")) for event in events if event["event"] in REASONED]
        if self.order.kind == "stops" and "RunEnded" in came.events:  # everything was down: nobody has to end it any more
            came.struck, came.too_late = "", True
        came.stages = {stage: round(at, 3) for stage, at in self.run.stages().items()}
        came.life, came.load = self.run.life, round(os.getloadavg()[0], 1)
        self._see_traceback(self.run.said())
        return came


REASONED = ("RunFailed", "RunInterrupted", "RunHalted", "UndoFailed", "GuardianActed", "WedgeNoticed")


def try_out(order: Order) -> Came:
    """Do one trial; nothing of it is left but, where something was wrong, its folder under another name."""
    with _clearing_up(Trial(order)) as trial:
        first = trial.strike() if order.signals and trial.reach() else None
        if first is None:
            trial.run.outlasts(LONGEST[order.runtime])
        trial.watch(time.monotonic() if first is None else first)
        trial.clear()
        trial.ask_judge()
        return trial.tell()


@contextmanager
def _clearing_up(trial: Trial) -> Iterator[Trial]:
    try:
        yield trial
    finally:
        folder, keep = trial.run.folder, os.environ.get("RELIABILITY_KEEP")
        remove_all(trial.run.traces)
        if keep and problems_of({**asdict(trial.order), **vars(trial.came)}):
            target = Path(keep) / folder.name
            shutil.copytree(folder, target, symlinks=True, ignore_dangling_symlinks=True)
            trial.came.kept = str(target)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Do what the standard input says."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # it clears up then
    inherit_orphans()
    order = Order(**json.load(sys.stdin))
    came = try_out(order)
    json.dump(vars(came), sys.stdout)


if __name__ == "__main__":
    main()
