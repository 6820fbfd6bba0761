"""A harness that is killed, stopped or stuck in mid-run leaves nothing: its guardian ends it, heals, and takes all down."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.history.events import GuardianActed, UndoDone, UndoFailed
from harness.history.store import read_events
from harness.runtime.ending import EndProcessGroup, end_process_groups, family_of, process_table
from harness.runtime.undo import UndoJournal
from tests.end_to_end.chaos import PROJECT, Running, chaos, environment, on_processes, scenario, verdict_of
from tests.end_to_end.endings import CUT, DEFERRED, SHORT, guardian_of, left_of, of_kind, wait_until

LEASE = 2.0

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

run, ending = RunFolder(Path(sys.argv[1])), sys.argv[2]
journal = UndoJournal(run.path / "undo.jsonl")
stop = Stop()
stop.begin()
guardian = start_guardian(run.path, stop, 1.0)
stop.busy(120)
launch = JournaledLaunch(journal)
temporary = make_run_folder(journal)
addresses = RunAddresses.claim()
names = {"postgres": 5432, "redis": 6379, "deaf": 8000} if ending == "untidy" else {"redis": 6379}
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
services.start()
told = {"temporary": str(temporary), "guardian": guardian.pid, "watched": guardian.is_there()}
print(json.dumps({**told, "at": time.time()}), flush=True)
if ending == "tidy":
    journal.undo_all(run.record)
    guardian.dismiss()
elif ending == "endless":
    guardian.end_by(time.time() + 2)
    stop.wait_until(time.time() + 90)
else:
    stop.busy(0 if ending == "stuck" else 90)
    time.sleep(90)
"""


class Harness:
    """A process that does what a harness does, up to where it ends, or is ended."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen([sys.executable, "-c", HARNESS, str(folder), ending], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.told = json.loads(self.process.stdout.readline() or "{}")
        self.process.stdout.close()

    def family(self) -> set[int]:
        """Every process that came of it: services, backends of the database, the guardian."""
        table = process_table()
        leader = EndProcessGroup(self.process.pid, table[self.process.pid].started, "harness")
        return {process.pid for process in family_of(leader, table)}

    def acted(self, within: float) -> GuardianActed:
        """What the guardian said at its end, once it has."""

        def found() -> list[GuardianActed]:
            return [event for event in read_events(self.folder) if isinstance(event, GuardianActed)]

        (event,) = wait_until(found, within)
        assert isinstance(event, GuardianActed)
        return event

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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        os.kill(harness.told["guardian"], number)

    harness.kill()
    wait_until(lambda: not family & process_table().keys(), seconds=10)

    events = read_events(harness.folder)
    acted = [event for event in events if isinstance(event, GuardianActed)]
    undone = [event for event in events if isinstance(event, UndoDone)]
    assert [(event.failed, event.why) for event in acted] == [(0, "the harness was gone")]
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "why", "at_least", "within"),
    [
        ("stuck", "the harness gave no sign of life for 1 s, and was ended", 5.0, 12.0),
        ("endless", "the run went on beyond its hard end, and was ended", 2.0, 8.0),
    ],
)
def test_a_harness_that_is_stuck_or_goes_on_for_ever_is_ended(
    start: StartHarness, ending: str, why: str, at_least: float, within: float
) -> None:
    harness = start(ending)

    acted = harness.acted(within)

    assert harness.process.wait(5) == -signal.SIGKILL
    assert (acted.why, acted.failed) == (why, 0)
    assert acted.at - harness.told["at"] >= at_least - 0.1
    assert not Path(harness.told["temporary"]).exists()


# whole runs


def in_mid_fault(folder: Path) -> tuple[Running, Path]:
    running = Running(["run", str(scenario(folder, CUT, DEFERRED, SHORT)), "--lease", f"{LEASE:g}s"], folder / "reports")
    running.wait_for("EdgeProbed", moment="during")
    assert running.folder is not None
    return running, running.folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGSTOP, *[pytest.param(number, marks=pytest.mark.nightly) for number in (signal.SIGKILL, signal.SIGQUIT)]],
)
def test_a_harness_that_is_stopped_or_killed_in_mid_fault_leaves_a_healed_run_that_can_be_judged(
    tmp_path: Path, number: signal.Signals
) -> None:
    running, folder = in_mid_fault(tmp_path)

    asked = time.time()
    running.signal(number)
    (acted,) = wait_until(lambda: of_kind(folder, "GuardianActed"), LEASE + 15)
    code, _ = running.end()

    healed = next(event for event in of_kind(folder, "UndoDone") if event["undo"].startswith("heal every proxy"))
    assert acted["failed"] == 0
    assert healed["by"] == "guardian"
    assert healed["at"] - asked < LEASE + 2
    assert acted["at"] - asked < LEASE + 10
    assert code == (-signal.SIGQUIT if number == signal.SIGQUIT else -signal.SIGKILL)
    wait_until(lambda: not left_of(folder), 5)
    judged = chaos("judge", str(folder))
    assert judged.code == 5, judged.err
    assert "its guardian healed and took everything down" in " ".join(judged.out.split())
    assert verdict_of(tmp_path / "reports")["word"] == "error"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.nightly)])
def test_a_guardian_that_is_killed_or_stopped_ends_the_run_healed(tmp_path: Path, number: signal.Signals) -> None:
    running, folder = in_mid_fault(tmp_path)
    guardian = guardian_of(folder)

    asked = time.time()
    os.kill(guardian, number)
    code, out = running.end(60)

    (failed,) = of_kind(folder, "RunFailed")
    (healed,) = of_kind(folder, "FaultEnded")
    assert code == 5, out
    assert "the guardian" in failed["reason"]
    assert failed["at"] - asked < 2 * LEASE
    assert healed["at"] - asked < 2 * LEASE + 2
    assert verdict_of(tmp_path / "reports")["word"] == "error"
    assert left_of(folder) == []


@pytest.mark.slow
def test_a_run_whose_guardian_was_killed_with_the_harness_is_never_passed(tmp_path: Path) -> None:
    running, folder = in_mid_fault(tmp_path)

    os.kill(guardian_of(folder), signal.SIGKILL)
    running.signal(signal.SIGKILL)
    running.end()

    judged = chaos("judge", str(folder))
    journal = UndoJournal(folder / "undo.jsonl")
    undone = journal.undo_all(lambda _event: None)
    journal.close()
    assert judged.code == 6, judged.out
    assert "INCONCLUSIVE" in judged.out
    assert "chaos gc removes it" in " ".join(judged.out.split())
    assert "Traceback" not in judged.err
    assert undone.failed == 0


class InTerminal(Running):
    """A command in a terminal of its own, that somebody looks at until it is closed."""

    def __init__(self, arguments: Sequence[str], reports: Path) -> None:
        self.reports = reports
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", AS_LEADER, *on_processes(arguments), "--report-dir", str(reports)],
            cwd=PROJECT,
            env={**environment(), "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._closed = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self._looking.start()

    def _look(self) -> None:
        while not self._closed.is_set():
            if select.select([self._ours], [], [], 0.05)[0]:
                os.read(self._ours, 65536)

    def close(self) -> None:
        """The kernel sends SIGHUP, and from now on nothing can be printed."""
        self._closed.set()
        self._looking.join()
        os.close(self._ours)


AS_LEADER = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from harness.cli import main
main()
"""


@pytest.mark.slow
def test_a_terminal_that_is_closed_in_mid_fault_ends_the_run_healed_and_reported(tmp_path: Path) -> None:
    running = InTerminal(["run", str(scenario(tmp_path, CUT, DEFERRED, SHORT))], tmp_path / "reports")
    running.wait_for("EdgeProbed", moment="during")

    asked = time.time()
    running.close()
    code = running.process.wait(30)

    assert running.folder is not None
    (healed,) = of_kind(running.folder, "FaultEnded")
    assert healed["at"] - asked < 5
    assert code == 143
    assert verdict_of(running.reports)["word"] == "interrupted"
    assert (running.folder / "report.html").exists()
    assert left_of(running.folder) == []
