"""A harness that is killed in mid-run leaves nothing: the guardian undoes what it left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.history.events import GuardianActed, UndoDone, UndoFailed
from harness.history.store import read_events
from harness.runtime.ending import EndProcessGroup, end_process_groups, family_of, process_table
from harness.runtime.undo import UndoJournal

HARNESS = """
import json, signal, sys, time
from pathlib import Path

from harness.history.store import RunFolder
from harness.model.compose import Compose, ComposeService
from harness.model.system import LocalService
from harness.runtime.guardian import start_guardian
from harness.runtime.processes import JournaledLaunch
from harness.runtime.services.addresses import RunAddresses
from harness.runtime.services.local import LocalServices, LocalSystem
from harness.runtime.stopping import Stop
from harness.runtime.undo import UndoJournal, make_run_folder

run = RunFolder(Path(sys.argv[1]))
journal = UndoJournal(run.path / "undo.jsonl")
stop = Stop()
guardian = start_guardian(run.path, stop, float(sys.argv[3]))
launch = JournaledLaunch(journal)
temporary = make_run_folder(journal)
addresses = RunAddresses.claim()
names = {"redis": 6379} if sys.argv[2] == "tidy" else {"postgres": 5432, "redis": 6379, "deaf": 8000}
own = {name: addresses.service(name, port) for name, port in names.items()}
deaf = "signal.signal(15, 1); s = socket.create_server((sys.argv[1], int(sys.argv[2]))); time.sleep(90)"
local = {
    "postgres": LocalService(provided="postgresql"),
    "redis": LocalService(provided="redis"),
    "deaf": LocalService(command=f"{{python}} -c 'import signal, socket, sys, time; {deaf}' {{host}} {{port}}"),
}
compose = Compose({name: ComposeService(name, ports=(port,)) for name, port in names.items()})
system = LocalSystem(compose, local, (), {}, own, run.path, temporary)
services = LocalServices(system, launch, run.record, run.log_file, remember=journal.before)
stop.busy(120)
services.start()
print(json.dumps({"temporary": str(temporary), "guardian": guardian.pid, "watched": guardian.is_there()}), flush=True)
if sys.argv[2] == "tidy":
    journal.undo_all(run.record)
    guardian.dismiss()
else:
    time.sleep(90)
"""


def wait_until(holds: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"not so after {seconds:g} s"
        time.sleep(0.05)


class Harness:
    """A process that does what a harness does, up to where it is killed."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen([sys.executable, "-c", HARNESS, str(folder), ending, "5"], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.told = json.loads(self.process.stdout.readline() or "{}")
        self.process.stdout.close()

    def family(self) -> set[int]:
        """Every process that came of it: services, backends of the database, the guardian."""
        table = process_table()
        leader = EndProcessGroup(self.process.pid, table[self.process.pid].started, "harness")
        return {process.pid for process in family_of(leader, table)}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


StartHarness = Callable[[str], Harness]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartHarness]:
    """Start a harness; whatever becomes of the test, nothing of it is left."""
    started: list[Harness] = []

    def start(ending: str) -> Harness:
        started.append(Harness(tmp_path / "run", ending))
        return started[-1]

    yield start
    for harness in started:
        harness.kill()
        left = UndoJournal(harness.folder / "undo.jsonl").left().values()
        end_process_groups([undo for undo in left if isinstance(undo, EndProcessGroup)], grace=0.1)


def test_ten_seconds_after_the_harness_was_killed_no_process_of_the_run_is_left(start: StartHarness) -> None:
    harness = start("untidy")
    family = harness.family()
    assert len(family) > 8  # the harness, its guardian, Redis, the deaf one, and a database of several processes
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(harness.told["guardian"], number)

    harness.kill()
    wait_until(lambda: not family & process_table().keys(), seconds=10)

    events = read_events(harness.folder)
    acted = [event for event in events if isinstance(event, GuardianActed)]
    undone = [event for event in events if isinstance(event, UndoDone)]
    assert [event.failed for event in acted] == [0]
    assert acted[0].undone == len(undone) > 3
    assert {event.by for event in undone} == {"guardian"}
    assert [event for event in events if isinstance(event, UndoFailed)] == []
    assert not Path(harness.told["temporary"]).exists()
    assert (harness.folder / "logs" / "guardian.log").read_text() == ""


def test_a_harness_that_undid_everything_itself_leaves_the_guardian_nothing_to_do(start: StartHarness) -> None:
    harness = start("tidy")

    assert harness.process.wait(20) == 0

    assert harness.told["watched"] is True
    assert harness.told["guardian"] not in process_table()
    assert [event for event in read_events(harness.folder) if isinstance(event, GuardianActed)] == []
