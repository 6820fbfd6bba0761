"""What dead runs left is found, by whatever still knows of it, and removed; what is somebody's is never touched."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.errors import CannotRecord, CouldNotRun
from harness.history.events import GuardianActed, UndoDone, UndoFailed
from harness.history.store import read_events
from harness.runtime import leftovers, registry, strays
from harness.runtime.containers import engine as engines
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.containers.removal import GUARDIAN_LABEL, PROJECT_LABEL
from harness.runtime.ending import EndProcessGroup, Process, process_table, started_at
from harness.runtime.leftovers import Found, alone, find
from harness.runtime.proxies.starting import PROXY_ENGINE
from harness.runtime.registry import leave, register, runs, runs_folder, unlock
from harness.runtime.services.control_groups import CannotLimit, Home
from harness.runtime.strays import stray_folders
from harness.runtime.undo import OWNER, RemoveControlGroup, RemoveFolder, RestoreProxies, Undo, UndoJournal, make_run_folder

RUN = "20260101-000000-abcdef"
NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine with no runs and no control groups, and temporary files of its own."""
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    with tempfile.TemporaryDirectory() as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        monkeypatch.setattr(strays, "home_of", no_groups)
        yield tmp_path


def no_groups(_kind: object) -> Home:
    raise CannotLimit("no control groups here")


def run_with(folder: Path, *undos: Undo, alive: bool = False) -> Path:
    """A run with this in its journal; a dead one, unless it is to be this process's own."""
    path = folder / "reports" / "checkout" / RUN
    (path / "logs").mkdir(parents=True)
    entry = register(path)
    journal = UndoJournal(path / "undo.jsonl")
    for undo in undos:
        journal.before(undo)
    journal.close()
    if not alive:
        die(entry.run)
    return path


def die(run: str) -> None:
    """Nobody holds its lock, and the process that is noted for it is another one now."""
    unlock(run)
    path = runs_folder() / f"{run}.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "started": data["started"] + 1}))


def sleeping(*arguments: str, output: Path | None = None) -> subprocess.Popen[bytes]:
    with (output or Path(os.devnull)).open("ab") as out:
        code = [sys.executable, "-c", "import time; time.sleep(60)", *arguments]
        return subprocess.Popen(code, start_new_session=True, stdout=out, stderr=out)


def reading(path: Path) -> subprocess.Popen[bytes]:
    """Somebody who has a file open, and writes none."""
    code = "import sys, time; file = open(sys.argv[1]); print(flush=True); time.sleep(60)"
    reader = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    return reader


def leader(process: subprocess.Popen[bytes], name: str = "service") -> EndProcessGroup:
    return EndProcessGroup(process.pid, started_at(process.pid) or -1, name)


def owned(pid: int, started: int, host: str | None = None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    (folder / OWNER).write_text(f"{pid} {started} {host or socket.gethostname()}")
    return folder


def look(patience: float = 2.0) -> Found:
    return find(NO_ENGINE, patience)


def removed(found: Found) -> list[str]:
    """Remove all of it; why some is left."""
    return [why for left in found.left for why in left.remove()]


def lines(found: Found) -> list[str]:
    return [line for left in found.left for line in left.lines]


def test_on_a_clean_machine_nothing_is_found() -> None:
    assert look().left == []


def test_what_a_dead_run_left_is_undone_by_its_journal_and_told_in_its_history(machine: Path) -> None:
    process, temporary = sleeping(), owned(os.getpid(), 1)
    folder = run_with(machine, leader(process), RemoveFolder(str(temporary)))

    found = look()

    assert [(left.of, left.lines) for left in found.left] == [
        (RUN, (f"remove {temporary}", f"end service (pid {process.pid})", f"forget the run of {folder}"))
    ]
    assert removed(found) == []
    assert process.wait(5) == -signal.SIGTERM
    assert not temporary.exists()
    assert runs() == ()
    events = read_events(folder)
    assert [event.by for event in events if isinstance(event, UndoDone)] == ["gc", "gc"]
    assert [(event.undone, event.failed) for event in events if isinstance(event, GuardianActed)] == [(2, 0)]


def test_of_a_journal_only_what_is_still_there_is_shown(machine: Path) -> None:
    gone, stranger, paused = sleeping(), sleeping(), sleeping()
    of_gone, of_paused = leader(gone, "load"), leader(paused, "inventory")
    of_stranger = replace(leader(stranger, "postgres"), started=1)
    gone.kill()
    gone.wait()
    paused.send_signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(paused.pid).status() == psutil.STATUS_STOPPED)
    folder = run_with(machine, of_gone, of_stranger, of_paused, RemoveFolder("/nowhere/chaos-gone"))

    found = look()

    assert lines(found) == [f"end inventory (pid {paused.pid}), which stands still (SIGSTOP)", f"forget the run of {folder}"]
    assert removed(found) == []
    assert paused.wait(5) == -signal.SIGTERM
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_of_a_control_group_that_is_still_there_it_is_shown_whom_it_limits(machine: Path, groups: Path) -> None:
    process = sleeping()
    group = group_in(groups, "chaos-limit", members=f"{process.pid}\n1\n")
    gone = RemoveControlGroup(str(groups / "chaos-gone"), str(groups))
    run_with(machine, leader(process, "order"), RemoveControlGroup(str(group), str(groups)), gone)

    shown = lines(look())
    process.kill()
    process.wait()

    assert shown[:2] == [f"remove the control group {group}, which limits order, pid 1", f"end order (pid {process.pid})"]
    assert len(shown) == 3


def test_clearing_up_twice_is_clearing_up_once(machine: Path) -> None:
    folder = run_with(machine, RemoveFolder(str(owned(os.getpid(), 1))))
    removed(look())
    told = read_events(folder)

    again = look()

    assert again.left == []
    assert read_events(folder) == told


def test_a_run_that_is_under_way_is_not_touched(machine: Path) -> None:
    process, temporary = sleeping(), owned(os.getpid(), 1)
    run_with(machine, leader(process), RemoveFolder(str(temporary)), alive=True)

    found = look()

    assert found.left == []
    assert f"{RUN} is under way (pid {os.getpid()})" in found.notes
    assert process.poll() is None
    process.kill()
    process.wait()


@pytest.mark.parametrize("is_folder_seen", [True, False])
def test_a_run_whose_processes_cannot_be_seen_from_here_is_not_touched(machine: Path, is_folder_seen: bool) -> None:
    folder = run_with(machine, alive=True)
    entry = runs_folder() / f"{RUN}.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "pid": 4194305, "project": NEW}))
    if not is_folder_seen:
        folder.rename(folder.with_name("elsewhere"))

    found = look()

    assert found.left == []
    assert f"{RUN} is under way (pid 4194305)" in found.notes


def test_what_would_not_go_is_told_with_the_reason_and_found_again(machine: Path) -> None:
    folder = run_with(machine, RemoveFolder("/etc"))

    failed = removed(look())

    named = f"expected a folder chaos-… in {Path(tempfile.gettempdir()).resolve()}, or one with a file .harness of this user's"
    assert failed == [f"remove /etc: {named}; nothing else is ever removed"]
    assert [event.undo for event in read_events(folder) if isinstance(event, UndoFailed)] == ["remove /etc"]
    assert lines(look()) == ["remove /etc", f"forget the run of {folder}"]


def test_of_a_run_whose_folder_was_removed_what_still_writes_is_ended_wherever_its_temporary_files_are(machine: Path) -> None:
    temporary = owned(os.getpid(), 1)
    folder = run_with(machine, RemoveFolder(str(temporary)))
    process = sleeping(output=temporary / "front.log")
    reader = reading(temporary / "front.log")
    shutil.rmtree(folder)

    with temporary_files_elsewhere():
        found = look()

        assert any(f"(pid {process.pid})" in line for line in lines(found))
        assert removed(found) == []
        assert look().left == []

    assert process.wait(5) == -signal.SIGTERM
    assert reader.poll() is None
    reader.kill()
    reader.communicate()
    assert not temporary.exists()
    assert runs() == ()


def test_a_run_whose_folder_was_removed_is_known_until_its_temporary_files_are_gone(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = owned(os.getpid(), 1)
    shutil.rmtree(run_with(machine))

    with monkeypatch.context() as hindered:
        hindered.setattr(shutil, "rmtree", refusing)
        assert len(removed(look())) == 1

    assert [entry.run for entry in runs()] == [RUN]
    assert removed(look()) == []
    assert not temporary.exists()
    assert runs() == ()


def test_a_run_whose_folder_was_removed_does_not_wait_for_what_another_one_left(machine: Path) -> None:
    gone = machine / "reports" / "search" / "20260101-000000-000001"
    gone.mkdir(parents=True)
    register(gone)
    die(gone.name)
    gone.rmdir()
    temporary = owned(os.getpid(), 1)
    run_with(machine, RemoveFolder(str(temporary)))

    assert removed(look()) == []

    assert runs() == ()
    assert not temporary.exists()


def refusing(path: object) -> None:
    raise PermissionError(f"{path}: not yours")


@contextmanager
def temporary_files_elsewhere() -> Iterator[None]:
    """TMPDIR is another one now."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as other:
        tempfile.tempdir = other
        try:
            yield
        finally:
            tempfile.tempdir = before


def test_the_temporary_folder_of_a_registered_run_goes_wherever_it_is(machine: Path) -> None:
    temporary = owned(os.getpid(), 1)
    run_with(machine, RemoveFolder(str(temporary)), RemoveFolder("/nowhere/chaos-gone"))

    with temporary_files_elsewhere():
        assert removed(look()) == []

    assert not temporary.exists()
    assert runs() == ()


def test_elsewhere_a_folder_that_does_not_say_that_it_is_a_runs_stays(machine: Path) -> None:
    somebodys = Path(tempfile.mkdtemp(prefix="chaos-"))
    run_with(machine, RemoveFolder(str(somebodys)))

    with temporary_files_elsewhere():
        (why,) = removed(look())

    assert "or one with a file .harness of this user's; nothing else is ever removed" in why
    assert somebodys.exists()


@pytest.mark.slow
def test_of_a_run_whose_folder_was_removed_the_containers_are_asked_for_where_they_were(machine: Path) -> None:
    path = machine / "reports" / "checkout" / RUN
    path.mkdir(parents=True)
    at = DockerEngine(f"unix://{machine}/other.sock", "27", "2.30", "certificates")
    register(path, project=f"chaos-{RUN}", at=at)
    unlock(RUN)
    path.rmdir()

    found = look()

    assert f"remove the containers, networks and volumes of chaos-{RUN} at {at.host}" in lines(found)
    assert any(at.host in why for why in removed(found))
    assert [entry.run for entry in runs()] == [RUN]


def test_a_temporary_folder_whose_maker_is_gone_is_removed_with_whoever_works_in_it() -> None:
    temporary = owned(os.getpid(), 1)
    dweller = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], cwd=temporary)

    assert removed(look()) == []

    assert dweller.wait(5) == -signal.SIGKILL
    assert not temporary.exists()


def test_whoever_writes_into_a_temporary_folder_of_nobody_is_ended_and_whoever_reads_is_not() -> None:
    temporary = owned(os.getpid(), 1)
    writer = sleeping(output=temporary / "front.log")
    (temporary / "back.log").write_text("")
    reader = reading(temporary / "back.log")

    found = look()

    assert lines(found) == [f"end {Path(sys.executable).name} (pid {writer.pid})", f"remove {temporary}"]
    assert removed(found) == []
    assert writer.wait(5) == -signal.SIGTERM
    assert reader.poll() is None
    reader.kill()
    reader.communicate()
    assert not temporary.exists()


def test_a_temporary_folder_that_is_somebodys_or_does_not_say_whose_is_not_touched(tmp_path: Path) -> None:
    journal = UndoJournal(tmp_path / "undo.jsonl")
    mine = make_run_folder(journal)
    journal.close()
    elsewhere = owned(os.getpid(), 1, host="elsewhere")
    silent = Path(tempfile.mkdtemp(prefix="chaos-"))
    garbled = owned(os.getpid(), 1)
    (garbled / OWNER).write_bytes(b"\xff not a number")
    link = Path(tempfile.gettempdir()) / "chaos-link"
    target = tmp_path / "target"
    target.mkdir()
    (target / OWNER).write_text(f"{os.getpid()} 1 {socket.gethostname()}")
    link.symlink_to(target)

    assert stray_folders([tempfile.gettempdir()]) == []
    assert all(path.exists() for path in (mine, elsewhere, silent, garbled, link, target))


def test_a_temporary_folder_whose_maker_cannot_be_seen_from_here_is_held_until_it_is_gone(tmp_path: Path) -> None:
    journal = UndoJournal(tmp_path / "undo.jsonl")
    folder = make_run_folder(journal)
    (folder / OWNER).write_text(f"4194305 1 {socket.gethostname()}")

    assert stray_folders([tempfile.gettempdir()]) == []

    journal.close()

    assert stray_folders([tempfile.gettempdir()]) == [RemoveFolder(str(folder))]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["a pipe", "a link", "a folder", "nothing"])
def test_what_stands_in_the_place_of_an_owners_name_is_neither_waited_for_nor_followed(tmp_path: Path, what: str) -> None:
    folder = owned(os.getpid(), 1)
    owner = (folder / OWNER).rename(tmp_path / "owner")
    {
        "a pipe": lambda: os.mkfifo(folder / OWNER),
        "a link": lambda: (folder / OWNER).symlink_to(owner),
        "a folder": (folder / OWNER).mkdir,
        "nothing": lambda: None,
    }[what]()

    assert stray_folders([tempfile.gettempdir()]) == []


@pytest.mark.parametrize("whose", ["the folder", "the name in it"])
def test_what_another_user_made_is_no_stray_not_even_for_root(monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    folder = owned(os.getpid(), 1)
    mine, somebody = os.geteuid(), os.geteuid() + 1
    if mine:
        monkeypatch.setattr(os, "geteuid", lambda: somebody)
    else:
        os.chown(folder if whose == "the folder" else folder / OWNER, somebody, -1)

    assert stray_folders([tempfile.gettempdir()]) == []


def test_a_folder_in_the_journal_of_a_run_with_a_guardian_is_that_ones(machine: Path) -> None:
    temporary = owned(os.getpid(), 1)
    folder = machine / "elsewhere" / RUN
    folder.mkdir(parents=True)
    journal = UndoJournal(folder / "undo.jsonl")
    journal.before(RemoveFolder(str(temporary)))
    journal.close()
    guardian = sleeping("harness.runtime.guardian", "--run", str(folder))

    try:
        wait_until(lambda: folder in leftovers.guardians_at_work())
        assert look().left == []
    finally:
        guardian.kill()
        guardian.wait()

    assert lines(look()) == [f"remove {temporary}"]


def wait_until(holds: Any) -> None:
    until = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("harness", [{"started": 1}, {"pid": 4194305, "started": 0}])
def test_a_guardian_at_work_is_left_to_it(machine: Path, harness: dict[str, int]) -> None:
    folder = run_with(machine, RemoveFolder("/etc"))
    entry = runs_folder() / f"{RUN}.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), **harness}))
    guardian = sleeping("harness.runtime.guardian", "--run", str(folder))
    wait_until(lambda: folder in leftovers.guardians_at_work())

    found = look(patience=0.3)

    guardian.kill()
    guardian.wait()
    assert found.left == []
    assert f"{RUN} is gone; its guardian (pid {guardian.pid}) is at work on what it left" in found.notes


def test_a_guardian_whose_harness_is_there_by_another_number_is_neither_waited_for_nor_ended(machine: Path) -> None:
    folder = run_with(machine, alive=True)
    entry = runs_folder() / f"{RUN}.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "pid": 4194305, "host": "job-1"}))
    guardian = sleeping("harness.runtime.guardian", "--run", str(folder))
    wait_until(lambda: folder in leftovers.guardians_at_work())
    guardian.send_signal(signal.SIGSTOP)

    found = look(patience=1.0)

    assert guardian.poll() is None
    assert found.left == []
    assert f"{RUN} is under way (pid 4194305 on job-1)" in found.notes
    guardian.kill()
    guardian.wait()


def test_a_guardian_that_was_stopped_would_never_end_and_is_ended(machine: Path) -> None:
    folder = run_with(machine)
    guardian = sleeping("harness.runtime.guardian", "--run", str(folder))
    wait_until(lambda: folder in leftovers.guardians_at_work())
    guardian.send_signal(signal.SIGSTOP)

    found = look(patience=5.0)

    assert guardian.wait(5) == -signal.SIGKILL
    assert lines(found) == [f"forget the run of {folder}"]


def test_what_its_guardian_has_done_meanwhile_is_not_left(machine: Path) -> None:
    folder = run_with(machine)
    guardian = sleeping("harness.runtime.guardian", "--run", str(folder))
    wait_until(lambda: folder in leftovers.guardians_at_work())

    def act() -> None:
        time.sleep(0.3)
        (runs_folder() / f"{RUN}.json").unlink()
        guardian.kill()
        guardian.wait()

    acting = threading.Thread(target=act)
    acting.start()
    found = look(patience=5.0)
    acting.join()

    assert found.left == []


class Asked(BaseHTTPRequestHandler):
    """Somebody who has an address that a dead run's proxies had."""

    paths: list[str]

    def do_POST(self) -> None:
        self.paths.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Asked.paths = []
    server = HTTPServer(("127.0.0.1", 0), Asked)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_whoever_has_the_address_of_a_dead_runs_proxies_by_now_is_not_told_to_heal(machine: Path, server: HTTPServer) -> None:
    gone = EndProcessGroup(os.getpid(), 1, PROXY_ENGINE)
    folder = run_with(machine, RestoreProxies(f"http://127.0.0.1:{server.server_port}"), gone)

    found = look()

    assert not any("heal" in line for line in lines(found))
    assert removed(found) == []
    assert Asked.paths == []
    assert runs() == ()
    assert [event.undo for event in read_events(folder) if isinstance(event, UndoDone)] == [
        f"end {PROXY_ENGINE} (pid {os.getpid()})"
    ]


def test_proxies_whose_engine_is_still_there_are_healed(machine: Path, server: HTTPServer) -> None:
    engine = sleeping()
    run_with(machine, RestoreProxies(f"http://127.0.0.1:{server.server_port}"), leader(engine, PROXY_ENGINE))

    assert removed(look()) == []

    assert Asked.paths == ["/reset"]
    assert engine.wait(5) == -signal.SIGTERM


def orphan_of_a_session(output: Path = Path(os.devnull), **variables: str) -> tuple[int, Process]:
    """The number that a session had, whose first process is gone, and who is left in it."""
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with output.open("ab") as out:
        first = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=out, env=os.environ | variables)
    first.wait()
    (orphan,) = [process for process in process_table().values() if process.session == first.pid]
    return first.pid, orphan


def test_a_session_without_its_first_process_is_left_alone_where_nothing_shows_that_it_is_the_runs(machine: Path) -> None:
    number, orphan = orphan_of_a_session()
    run_with(machine, EndProcessGroup(number, orphan.started - 1, "order"))

    (why,) = removed(look())

    assert started_at(orphan.pid) == orphan.started
    assert why.startswith(f"pid {orphan.pid} is in the session that order (pid {number}) had, which is gone, and nothing shows")
    assert removed(look()) == []
    assert look().left == []
    os.kill(orphan.pid, signal.SIGKILL)


@pytest.mark.parametrize("by", ["its output", "its environment"])
def test_who_is_left_of_a_session_and_shows_that_it_is_the_runs_is_ended(machine: Path, by: str) -> None:
    temporary = owned(os.getpid(), 1)
    shown = temporary if by == "its environment" else Path("/nowhere")
    log = temporary / "order.log" if by == "its output" else Path(os.devnull)
    number, orphan = orphan_of_a_session(log, DATA=f"{shown}/data")
    folder = run_with(machine, EndProcessGroup(number, orphan.started - 1, "order"), RemoveFolder(str(temporary)))

    assert removed(look()) == []

    assert started_at(orphan.pid) is None
    assert not temporary.exists()
    assert runs() == ()
    told = [event.undo for event in read_events(folder) if isinstance(event, UndoDone)]
    assert told == [f"end order (pid {orphan.pid})", f"remove {temporary}"]


def test_of_a_run_from_before_this_machine_began_no_number_is_believed(machine: Path) -> None:
    number, orphan = orphan_of_a_session()
    folder = run_with(machine, EndProcessGroup(number, orphan.started - 1, "service"))
    began = psutil.Process(1).create_time() - 10
    os.utime(folder / "undo.jsonl", (began, began))

    found = look()

    assert removed(found) == []
    assert started_at(orphan.pid) == orphan.started
    assert runs() == ()
    os.kill(orphan.pid, signal.SIGKILL)


@pytest.mark.parametrize(("age", "is_ended"), [(0, True), (3600, False)])
def test_where_starts_are_not_told_a_process_younger_than_the_journal_is_somebodys(
    machine: Path, age: float, is_ended: bool
) -> None:
    process = sleeping()
    folder = run_with(machine, EndProcessGroup(process.pid, 0, "service"))
    os.utime(folder / "undo.jsonl", (time.time() - age,) * 2)

    with pytest.MonkeyPatch.context() as told:
        told.setattr("harness.runtime.ending.process_table", starts_unknown)
        assert removed(look()) == []

    assert (process.poll() is not None) is is_ended
    assert runs() == ()
    process.kill()
    process.wait()


def starts_unknown() -> dict[int, Process]:
    return {pid: replace(process, started=0) for pid, process in process_table().items()}


@pytest.mark.parametrize("name", ["undo.jsonl", "events.jsonl"])
def test_links_in_a_runs_folder_are_not_followed(machine: Path, name: str) -> None:
    process = sleeping()
    folder = run_with(machine, leader(process))
    target = machine / "somebodys.jsonl"
    target.write_text((folder / "undo.jsonl").read_text())
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    before = target.read_text()

    failed = removed(look())

    assert len(failed) == 1
    assert "found links in it, which are not followed" in failed[0]
    assert target.read_text() == before
    assert process.poll() is None
    process.kill()
    process.wait()


def test_one_journal_that_nobody_can_read_keeps_nothing_else_from_being_removed(machine: Path) -> None:
    unread = run_with(machine)
    (unread / "undo.jsonl").unlink()
    (unread / "undo.jsonl").mkdir()
    temporary = owned(os.getpid(), 1)

    failed = removed(look())

    assert failed == [
        f"{unread}/undo.jsonl: expected a file, found something else; remove {unread} and call chaos gc again",
    ]
    assert not temporary.exists()
    assert not leave(unread)


def test_a_folder_that_cannot_be_looked_at_keeps_nothing_else_from_being_removed(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = run_with(machine)
    temporary = owned(os.getpid(), 1)
    is_dir = Path.is_dir

    def refuse(path: Path) -> bool:
        if path == entry:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refuse)

    (failed,) = removed(look())

    assert "Permission denied" in failed
    assert not temporary.exists()


def test_a_journal_that_cannot_be_read_any_more_keeps_nothing_else_from_being_removed(machine: Path) -> None:
    entry = run_with(machine)
    temporary = owned(os.getpid(), 1)
    found = look()
    (entry / "undo.jsonl").unlink(missing_ok=True)
    (entry / "undo.jsonl").mkdir()

    (failed,) = removed(found)

    assert "expected a file, found something else" in failed
    assert not temporary.exists()


def test_a_full_disk_is_told_by_name(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = owned(os.getpid(), 1)
    run_with(machine, RemoveFolder(str(temporary)))

    def fill(_descriptor: int, _data: object) -> None:
        raise CannotRecord("no space is left")

    monkeypatch.setattr(leftovers, "append_line", fill)

    (failed,) = removed(look())

    assert not temporary.exists()
    assert failed.endswith("it could not be written down that this was done: no space is left")


def test_what_cannot_be_written_down_is_done_all_the_same(machine: Path) -> None:
    temporary = owned(os.getpid(), 1)
    folder = run_with(machine, RemoveFolder(str(temporary)))
    (folder / "events.jsonl").mkdir()

    failed = removed(look())

    assert not temporary.exists()
    assert len(failed) == 1
    assert "it could not be written down that this was done: Is a directory" in failed[0]


def test_half_written_files_of_dead_runs_go_and_others_stay(machine: Path) -> None:
    folder = run_with(machine)
    half = folder / "verdict.json.0123abcd.part"
    kept = [folder / "verdict.json", folder / "notes.part", folder / "my.0123abcd.part.txt"]
    for path in (half, *kept):
        path.write_text("")
    latest = folder.parent / f".latest-{RUN}"
    latest.symlink_to(RUN)

    assert removed(look()) == []

    assert not half.exists()
    assert not latest.is_symlink()
    assert all(path.exists() for path in kept)


def test_drafts_of_the_registry_go_when_nobody_can_be_writing_them(machine: Path) -> None:
    run_with(machine, alive=True)
    names = ("old.json.0123abcd.part", "new.json.0123abcd.part", "old.abort", "new.abort", f"{RUN}.abort")
    for name in names:
        (runs_folder() / name).write_text("{")
        os.utime(runs_folder() / name, (1, 1) if "new" not in name else None)

    assert removed(look()) == []

    there = {path.name for path in runs_folder().iterdir()} - {registry.LOCK}
    assert there == {f"{RUN}.json", *(name for name in names if "old" not in name)}


@pytest.mark.parametrize("content", ["", '{"run": "', "garbage"])
def test_an_entry_that_cannot_be_read_is_named_and_goes_where_nothing_lives_that_it_could_tell_of(content: str) -> None:
    entry = runs_folder() / f"{unheard_of()}.json"
    entry.write_text(content)

    found = look()

    assert [(left.of, left.lines) for left in found.left] == [
        (entry.stem, (f"remove {entry}, an entry of the registry that cannot be read",))
    ]
    assert removed(found) == []
    assert not entry.exists()
    assert look().left == []


def test_an_entry_that_cannot_be_read_stays_where_somebody_lives_who_shows_to_be_of_its_run(machine: Path) -> None:
    entry = runs_folder() / f"{unheard_of()}.json"
    entry.write_text("")
    process = sleeping(output=machine / f"{entry.stem}.log")

    failed = removed(look())
    process.kill()
    process.wait()

    assert failed == [
        f"{entry}: expected nobody who shows to be of the run {entry.stem}, found pid {process.pid}; "
        f"end what is that run's, and call chaos gc again"
    ]
    assert removed(look()) == []
    assert not entry.exists()


def test_an_entry_that_cannot_be_read_of_a_run_that_is_under_way_stays_with_all_that_is_the_runs(
    machine: Path, engine: FakeEngine
) -> None:
    folder = machine / "reports" / "checkout" / NEW.removeprefix("chaos-")
    folder.mkdir(parents=True)
    register(folder)
    entry = runs_folder() / f"{folder.name}.json"
    entry.write_text("")

    found = look()

    assert [line for left in found.left if NEW in str(left) for line in left.lines] == []
    assert f"{entry}, an entry of the registry that cannot be read" in lines(found)
    (left,) = (left for left in found.left if left.of == folder.name)
    assert list(left.remove()) == [
        f"{entry}: expected an entry that can be read, found one that cannot, of a run that is under way; "
        f"end that, and call chaos gc again"
    ]
    unlock(folder.name)


def test_what_the_run_of_an_entry_that_cannot_be_read_left_is_found_wherever_its_temporary_files_are() -> None:
    entry = runs_folder() / f"{unheard_of()}.json"
    entry.write_text("")
    temporary = owned(os.getpid(), 1)
    process = sleeping(output=temporary / "front.log")

    with temporary_files_elsewhere():
        assert removed(look()) == []

    assert process.wait(5) == -signal.SIGTERM
    assert not temporary.exists()
    assert not entry.exists()


def test_an_entry_that_cannot_be_read_but_says_that_it_is_another_machines_is_named_and_stays() -> None:
    entry = runs_folder() / f"{unheard_of()}.json"
    entry.write_text('{"host": "elsewhere"}')

    (why,) = removed(look())

    assert why.endswith("found one that cannot, of a run of another machine; see to it there")
    assert entry.exists()


def unheard_of() -> str:
    """The name of a run that nobody has."""
    return f"20260101-000000-{os.urandom(3).hex()}"


def test_a_run_of_another_machine_is_left_to_that_one(machine: Path) -> None:
    run_with(machine)
    path = runs_folder() / f"{RUN}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere"}))

    found = look()

    assert found.left == []
    (note,) = [note for note in found.notes if RUN in note]
    assert note.startswith(
        f"{RUN} is gone, or its lock is not seen from here; what it left is removed by chaos gc on elsewhere;"
    )
    assert note.endswith(f"remove {path}")


def test_whoever_comes_second_waits_for_the_first() -> None:
    order = []
    with alone():
        second = threading.Thread(target=lambda: (alone().__enter__(), order.append("second")))
        second.start()
        time.sleep(0.3)
        order.append("first")
    second.join(5)

    assert order == ["first", "second"]


def test_whoever_comes_second_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "LOCK_SECONDS", 0.2)

    with alone(), pytest.raises(CouldNotRun, match=r"found another chaos gc at it for 0.2 s"), alone():
        pass


def test_a_service_that_a_fault_stopped_is_ended_all_the_same(machine: Path) -> None:
    process = sleeping()
    run_with(machine, leader(process))
    process.send_signal(signal.SIGSTOP)

    assert removed(look()) == []

    assert process.wait(5) == -signal.SIGTERM


@pytest.fixture
def groups(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where control groups are made, as folders with a list of members."""
    folder = machine / "groups"
    folder.mkdir()
    monkeypatch.setattr(strays, "home_of", lambda _kind: Home(2, folder, folder))
    return folder


def group_in(groups: Path, name: str, members: str = "", age: float = 3600) -> Path:
    group = groups / name
    group.mkdir()
    (group / "cgroup.procs").write_text(members)
    os.utime(group, (time.time() - age,) * 2)
    return group


def test_a_control_group_that_has_been_empty_for_a_while_and_is_nobodys_is_left(machine: Path, groups: Path) -> None:
    stray = group_in(groups, "chaos-stray")
    group_in(groups, "chaos-peopled", members="12\n")
    group_in(groups, "chaos-young", age=0)
    group_in(groups, "somebodys")
    (groups / "chaos-file").write_text("")
    run_with(machine, RemoveControlGroup(str(group_in(groups, "chaos-claimed")), str(groups)), alive=True)

    assert lines(look()) == [f"remove the control group {stray}"]


# what is at an engine


class Api:
    """A Docker engine with one thing of each project."""

    def __init__(self, projects: list[str], guarded: list[str]) -> None:
        self._projects, self._guarded = projects, guarded

    def containers(self, all: bool = False, filters: dict[str, str] | None = None) -> list[dict[str, Any]]:
        if filters in ({"label": GUARDIAN_LABEL, "status": "running"}, {"label": GUARDIAN_LABEL}):
            return [{"Id": name, "Labels": {GUARDIAN_LABEL: name}} for name in self._guarded]
        return [{"Id": name, "Labels": {PROJECT_LABEL: name}} for name in self._projects]

    def networks(self, filters: object) -> list[dict[str, Any]]:
        return []

    def volumes(self, filters: object) -> dict[str, None]:
        return {"Volumes": None}


class Client:
    def __init__(self, api: Api, machine: str) -> None:
        self.api, self._machine = api, machine

    def info(self) -> dict[str, str]:
        return {"Name": self._machine}

    def close(self) -> None:
        pass


class FakeEngine(DockerEngine):
    api: Api
    machine = socket.gethostname()

    def client(self) -> Any:
        return Client(self.api, self.machine)


OLD, NEW, GUARDED = (f"chaos-20260101-00000{number}-abcdef" for number in (1, 2, 3))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine("unix:///docker.sock", "20.10.24", "2.32.4", is_here=True)
    monkeypatch.setattr(FakeEngine, "api", Api([OLD, NEW, GUARDED, "chaos-mesh", "shop"], [GUARDED]), raising=False)
    monkeypatch.setattr(engines, "find_engine", lambda _environ: engine)
    monkeypatch.setattr(strays, "listener_at", lambda _path: 1)
    return engine


def test_at_the_engine_only_projects_of_runs_that_nobody_has_are_left(machine: Path, engine: FakeEngine) -> None:
    path = machine / "reports" / "checkout" / NEW.removeprefix("chaos-")
    path.mkdir(parents=True)
    register(path, project=NEW)

    found = look()

    assert lines(found) == [f"remove the containers, networks and volumes of {OLD} at unix:///docker.sock"]
    assert f"{GUARDED} is left to its guardian at unix:///docker.sock, which is at work" in found.notes


def test_at_another_machines_engine_what_nobody_here_registered_is_told_and_left(
    monkeypatch: pytest.MonkeyPatch, engine: FakeEngine
) -> None:
    away = replace(engine, host="tcp://builder:2376", is_here=False)
    monkeypatch.setattr(engines, "find_engine", lambda _environ: away)

    found = look()

    assert found.left == []
    assert any(note.startswith(f"at tcp://builder:2376 there is {OLD}, {NEW}") for note in found.notes)


def test_in_a_container_with_the_engines_socket_what_other_jobs_may_run_is_told_and_left(
    monkeypatch: pytest.MonkeyPatch, engine: FakeEngine
) -> None:
    monkeypatch.setattr(FakeEngine, "machine", f"host-of-{socket.gethostname()}")

    found = look()

    assert found.left == []
    assert any(f"there is {OLD}, {NEW}: " in note and "chaos gc on the engine's machine" in note for note in found.notes)


def test_in_a_container_that_has_the_name_of_its_machine_they_are_left_as_well(
    monkeypatch: pytest.MonkeyPatch, engine: FakeEngine
) -> None:
    monkeypatch.setattr(strays, "listener_at", lambda _path: 0)

    assert look().left == []


def test_who_listens_at_a_socket_is_known_by_number(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        assert strays.listener_at(str(tmp_path / "s")) == os.getpid()


def test_where_no_engine_answers_it_is_said_that_none_was_asked() -> None:
    (note,) = look().notes

    assert note.startswith("containers, networks and volumes were not looked for: no Docker engine answers at unix:///nowhere")
