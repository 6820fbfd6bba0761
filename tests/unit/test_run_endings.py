"""However a run ends, and whatever is wrong with letting go of it: everything is undone."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import CouldNotRun
from harness.history.events import RunFailed, RunInterrupted
from harness.history.store import RunFolder, read_events
from harness.model.compose import Compose
from harness.runtime import local as local_module
from harness.runtime import run as run_module
from harness.runtime.recorder import Recorder
from harness.runtime.run import carry_out, longest_drive
from harness.runtime.setting import Setting
from harness.runtime.stopping import Stop
from harness.runtime.undo import UndoJournal, make_run_folder
from tests.unit.test_driver import OpenGate, quick


class Ending:
    """A runtime that leaves a folder behind and does not come up, and the guardian; `breaks` is what letting go raises."""

    def __init__(self, journal: UndoJournal, breaks: Exception, said: list[str]) -> None:
        self.journal, self.breaks, self.said = journal, breaks, said

    def bring_up(self) -> Any:
        self.said.append(str(make_run_folder(self.journal)))
        raise CouldNotRun("it does not come up")

    def let_go(self) -> None:
        raise self.breaks

    def collect(self) -> None:
        self.said.append("collected")
        raise CouldNotRun("the engine did not end")


class Watcher:
    def __init__(self, said: list[str]) -> None:
        self.said = said
        self.ends: list[float] = []

    def end_by(self, at: float) -> None:
        self.ends.append(at - time.time())

    def dismiss(self) -> None:
        self.said.append("dismissed")


def ended(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Exception,
    stop: Stop | None = None,
    watcher: Watcher | None = None,
) -> tuple[list[str], RunFolder]:
    said: list[str] = []
    watching = watcher or Watcher(said)
    monkeypatch.setattr(run_module, "start_guardian", lambda *_: watching)
    monkeypatch.setattr(run_module, "_runtime_for", lambda _plan, _setting, _rec, _stop, journal: Ending(journal, breaks, said))
    run = RunFolder(folder / "run")
    setting = Setting(run.path.name, Compose({}), {}, folder, folder / "locustfile.py", "", "")
    try:
        carry_out(quick(folder), setting, Recorder(run, OpenGate()), stop or Stop())
    except ZeroDivisionError:
        said.append("raised")
    return said, run


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (ZeroDivisionError("a defect"), ["collected", "dismissed", "raised"]),
        (CouldNotRun("the engine is gone"), ["collected", "dismissed"]),
    ],
    ids=["a defect", "an error"],
)
def test_what_was_started_is_undone_whatever_letting_go_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: Exception, said: list[str]
) -> None:
    (left, *told), run = ended(tmp_path, monkeypatch, breaks)

    events = list(read_events(run.path))
    names = [type(event).__name__ for event in events]
    assert told == said
    assert not Path(left).exists()
    assert "UndoDone" in names
    assert names[-1] == "RunEnded"
    failures = [event.reason for event in events if isinstance(event, RunFailed)]
    assert failures[0] == "it does not come up"
    assert str(breaks) in failures[1]
    assert failures[2:] == ["the engine did not end"]


def test_a_run_that_was_interrupted_before_it_began_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    stop.ask("SIGTERM")

    said, run = ended(tmp_path, monkeypatch, CouldNotRun("the engine is gone"), stop)

    interrupted = [event.signal for event in read_events(run.path) if isinstance(event, RunInterrupted)]
    assert said == ["collected", "dismissed"]
    assert interrupted == ["SIGTERM"]


def test_the_hard_end_comes_nearer_as_less_is_left_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher([])

    ended(tmp_path, monkeypatch, CouldNotRun("the engine is gone"), watcher=watcher)

    coming_up, taking_down, undoing = watcher.ends
    assert coming_up > taking_down + 60 > undoing + 60 > 70


def test_no_plan_is_ended_before_it_may_be_over(tmp_path: Path) -> None:
    plan = quick(tmp_path)
    lengthened = plan.model_copy(update={"experiment": plan.experiment.model_copy(update={"extend": 30.0})})

    assert longest_drive(plan) > plan.seconds + 2 * plan.load.timeout
    assert longest_drive(lengthened) == longest_drive(plan) + 3 * 30.0 * plan.experiment.rounds


def test_an_engine_that_takes_its_time_to_come_up_is_given_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, stop = [], Stop()
    monkeypatch.setattr(stop, "busy", asked.append)

    def start_embedded(*_given: object) -> None:
        raise CouldNotRun(f"after {max(asked):g} s")

    monkeypatch.setattr(local_module, "start_embedded", start_embedded)
    monkeypatch.setattr(local_module.LocalRuntime, "_local_system", lambda *_: SimpleNamespace(temporary=tmp_path))
    setting = Setting("run", Compose({}), {}, tmp_path, tmp_path / "locustfile.py", "", "")
    run = RunFolder(tmp_path / "run")
    runtime = local_module.LocalRuntime(
        quick(tmp_path), setting, Recorder(run, OpenGate()), stop, UndoJournal(run.path / "undo.jsonl")
    )

    with pytest.raises(CouldNotRun, match="after 30 s"):
        runtime.bring_up()
    runtime.collect()
