"""Undoing for real: processes, an engine's control API, folders; by the journal alone, as the guardian does it."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness.errors import CouldNotRun
from harness.history.events import UndoDone, UndoFailed
from harness.runtime.ending import EndProcessGroup, end_process_groups, process_table
from harness.runtime.processes import JournaledLaunch
from harness.runtime.undo import RemoveFolder, RestoreProxies, UndoJournal, make_run_folder

ENVIRONMENT = {"PATH": os.environ["PATH"]}


class Run:
    """A journal, a way to start processes, and what was recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = UndoJournal(folder / "undo.jsonl")
        self.launch = JournaledLaunch(self.journal)
        self.recorded: list[UndoDone | UndoFailed] = []

    def start(self, *argv: str, end_with: int = signal.SIGTERM) -> subprocess.Popen[bytes]:
        return self.launch("thing", argv, environment=ENVIRONMENT, log=self.folder / "thing.log", end_with=end_with)

    def start_python(self, program: str) -> subprocess.Popen[bytes]:
        """Start it and wait for its first line."""
        before = self.log
        process = self.start(sys.executable, "-u", "-c", program)
        wait_until(lambda: self.log.count("\n") > before.count("\n"))
        return process

    @property
    def log(self) -> str:
        path = self.folder / "thing.log"
        return path.read_text() if path.exists() else ""

    def undo(self) -> float:
        """Undo everything, from a journal opened anew; how long it took."""
        began = time.monotonic()
        UndoJournal(self.folder / "undo.jsonl").undo_all(self.recorded.append)
        self.launch.collect()
        return time.monotonic() - began

    @property
    def failures(self) -> list[str]:
        return [event.reason for event in self.recorded if isinstance(event, UndoFailed)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.undo()


def wait_until(holds: object, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    return pid in process_table()


def test_how_to_end_a_process_is_on_disk_before_its_program_runs(run: Run) -> None:
    journal = run.folder / "undo.jsonl"

    process = run.start("/bin/cat", str(journal))
    process.wait(10)

    assert f'"pid": {process.pid}, "started": ' in run.log
    assert [undo.pid for undo in run.journal.left().values() if isinstance(undo, EndProcessGroup)] == [process.pid]


def test_a_process_gets_its_environment_alone_no_input_and_a_session_of_its_own(run: Run) -> None:
    program = "import os, sys; print(sorted(set(os.environ) - {'LC_CTYPE'}), sys.stdin.read(), os.getsid(0) == os.getpid())"

    run.start(sys.executable, "-c", program).wait(10)

    assert run.log == "['PATH']  True\n"


def test_ten_processes_are_ended_in_the_time_of_one(run: Run) -> None:
    processes = [run.start("/bin/sleep", "60") for _ in range(10)]

    seconds = run.undo()

    assert not any(lives(process.pid) for process in processes)
    assert seconds < 2.0
    assert [type(event) for event in run.recorded] == [UndoDone] * 10


def test_descendants_that_left_the_session_are_ended_too(run: Run) -> None:
    away = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(60)"
    run.start_python(f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {away!r}]); time.sleep(60)")
    child = int(run.log)

    run.undo()

    assert not lives(child)
    assert run.failures == []


def test_what_does_not_heed_the_gentle_signal_is_killed(run: Run) -> None:
    process = run.start_python("import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(60)")

    left = end_process_groups([undo for undo in run.journal.left().values() if isinstance(undo, EndProcessGroup)], grace=0.1)

    assert left == {}
    assert process.wait(10) == -signal.SIGKILL


def test_what_was_stopped_is_ended_all_the_same(run: Run) -> None:
    process = run.start("/bin/sleep", "60")
    os.kill(process.pid, signal.SIGSTOP)

    run.undo()

    assert process.wait(10) == -signal.SIGTERM


def test_the_gentle_signal_is_the_one_the_program_wants(run: Run) -> None:
    process = run.start("/bin/sleep", "60", end_with=signal.SIGINT)

    run.undo()

    assert process.wait(10) == -signal.SIGINT


def test_the_rest_of_a_session_is_ended_when_its_first_process_is_dead(run: Run) -> None:
    leader = run.start("/bin/sh", "-c", "sleep 60 & echo $!; wait")
    wait_until(lambda: run.log.endswith("\n"))
    leader.kill()
    leader.wait(10)

    run.undo()

    assert not lives(int(run.log))


def test_a_process_that_was_given_the_number_of_an_old_one_is_never_touched(run: Run) -> None:
    other = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    try:
        run.journal.before(EndProcessGroup(other.pid, process_table()[other.pid].started - 1, "one of old"))

        run.undo()

        assert other.poll() is None
        assert run.failures == []
    finally:
        other.kill()
        other.wait(10)


def test_undoing_twice_is_undoing_once(run: Run) -> None:
    run.start("/bin/sleep", "60")

    run.undo()
    run.undo()

    assert len(run.recorded) == 1


def test_a_program_that_is_not_there_is_named_with_what_to_do(run: Run) -> None:
    with pytest.raises(CouldNotRun, match=r"thing: expected a program no-such-program, found none on the PATH .*; install it"):
        run.start("no-such-program")

    assert run.undo() < 5
    assert run.failures == []


def test_a_program_that_may_not_be_run_is_named(run: Run) -> None:
    (run.folder / "text").write_text("words")

    with pytest.raises(CouldNotRun, match="may run"):
        run.start(str(run.folder / "text"))


def test_a_program_whose_end_finds_no_room_in_the_journal_is_not_started_and_spoils_no_other(run: Run) -> None:
    marked = run.folder / "marked"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))
    try:
        with pytest.raises(
            CouldNotRun, match="thing: expected to note in the run's folder how to end it, could not; has it room"
        ):
            run.start("/bin/mkdir", str(marked))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < len(run.journal.path.read_bytes()) <= 60
    assert not marked.exists()

    sleeping = run.start("/bin/sleep", "60")

    assert [undo.pid for undo in run.journal.left().values() if isinstance(undo, EndProcessGroup)] == [sleeping.pid]


def test_a_folder_to_run_in_that_is_not_there_is_named(run: Run) -> None:
    with pytest.raises(CouldNotRun, match="/away to run in, found none"):
        run.launch("thing", ["/bin/true"], environment=ENVIRONMENT, log=run.folder / "log", folder=run.folder / "away")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_process_can_run_as_another_user_with_no_group_of_the_harness(run: Run) -> None:
    program = "import os; print(os.getuid(), os.getgid() != 0, 0 in os.getgroups())"

    run.launch("thing", ["python3", "-c", program], environment=ENVIRONMENT, log=run.folder / "thing.log", uid=65534).wait(10)

    assert run.log == "65534 True False\n"


def test_a_file_handed_on_is_open_in_the_process_and_no_other_is(run: Run) -> None:
    reading, writing = os.pipe()

    run.launch(
        "thing",
        [sys.executable, "-c", f"import os; os.write({writing}, b'given'); print(*os.listdir('/proc/self/fd'))"],
        environment=ENVIRONMENT,
        log=run.folder / "thing.log",
        pass_fds=[writing],
    ).wait(10)
    os.close(writing)

    assert os.read(reading, 100) == b"given"
    assert set(map(int, run.log.split())) <= {0, 1, 2, 3, writing}
    os.close(reading)


@contextmanager
def control_api(status: int) -> Iterator[tuple[str, list[str]]]:
    """An engine's control API that answers every POST with `status`."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_an_engine_is_healed_as_a_whole(run: Run) -> None:
    with control_api(204) as (control, asked):
        run.journal.before(RestoreProxies(control))

        run.undo()

    assert asked == ["/reset"]
    assert run.failures == []


def test_an_engine_that_is_gone_holds_no_fault(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    run.journal.before(RestoreProxies(f"http://127.0.0.1:{port}"))

    run.undo()

    assert [type(event) for event in run.recorded] == [UndoDone]


def test_an_engine_that_does_not_answer_is_done_with_once_its_process_is_ended(run: Run) -> None:
    silent = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]); time.sleep(60)"
    run.start_python(silent)
    run.journal.before(RestoreProxies(f"http://127.0.0.1:{run.log.strip()}"))

    run.undo()

    assert run.failures == []


def test_a_failed_undo_is_recorded_stops_no_other_and_stays_in_the_journal(run: Run) -> None:
    process = run.start("/bin/sleep", "60")
    with control_api(500) as (control, _):
        run.journal.before(RestoreProxies(control))
        run.undo()

        assert run.failures == [f"expected POST {control}/reset to heal, found status 500"]
        assert not lives(process.pid)
        assert list(run.journal.left().values()) == [RestoreProxies(control)]


def test_the_folder_of_a_run_goes_with_the_run(run: Run) -> None:
    folder = make_run_folder(run.journal)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_text("x")

    run.undo()

    assert not folder.exists()
    assert run.failures == []


def test_whoever_still_works_in_a_folder_of_the_run_goes_with_it(run: Run) -> None:
    folder = make_run_folder(run.journal)
    dweller = subprocess.Popen(["/bin/sleep", "60"], cwd=folder, start_new_session=True)

    run.undo()

    assert dweller.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("name", ["not-of-a-run", "chaos-x/../other", "sub/chaos-x"])
def test_no_other_folder_is_ever_removed(run: Run, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-outer-") as outer:
        for folder in ("not-of-a-run", "chaos-x", "other", "sub/chaos-x"):
            (Path(outer) / folder).mkdir(parents=True)
        run.journal.before(RemoveFolder(f"{outer}/{name}"))

        run.undo()

        assert (Path(outer) / name).resolve().exists()
        assert "nothing else is ever removed" in run.failures[0]


def test_a_link_is_not_followed_when_a_folder_is_removed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    link = Path(tempfile.gettempdir()) / f"chaos-link-{os.getpid()}"
    link.symlink_to(tmp_path / "precious")
    try:
        run.journal.before(RemoveFolder(str(link)))

        run.undo()

        assert (tmp_path / "precious").exists()
        assert len(run.failures) == 1
    finally:
        link.unlink()
