"""Load processes on other machines, played by processes here that know nothing but an address."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness import __version__
from harness.errors import InvalidInput, InvalidLocustfile, LoadError
from harness.runtime.load import locust, remote
from harness.runtime.load.token import WORKER, proof_of, worker_token
from tests.contract.load_rig import Rig, Server, browser, load_rig

ROOT = Path(__file__).parents[2]
TOKEN = "known-to-every-machine"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_WORKER_TOKEN", TOKEN)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with load_rig(tmp_path) as made:
        yield made


@pytest.fixture
def bind() -> str:
    """An address that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Machines:
    """Other machines, as far as anybody can tell."""

    def __init__(self, folder: Path, bind: str) -> None:
        self.folder, self.bind = folder, bind
        self.processes: list[subprocess.Popen[str]] = []

    def join(self, number: int, *more: str) -> None:
        program = [sys.executable, "-m", "harness.runtime.load.worker", self.bind, str(self.folder / "locustfile.py"), *more]
        for _ in range(number):
            self.processes.append(subprocess.Popen(program, cwd=ROOT, text=True, stderr=subprocess.PIPE))

    def codes(self) -> list[int]:
        return [process.wait(20) for process in self.processes]


@pytest.fixture
def machines(tmp_path: Path, bind: str) -> Iterator[Machines]:
    made = Machines(tmp_path, bind)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_processes_elsewhere_share_the_arrivals_and_send_every_record_home(rig: Rig, machines: Machines) -> None:
    rig.file(browser("FastHttpUser"))
    machines.join(2)

    records = rig.run(browser("FastHttpUser"), seconds=1.5, rate=80.0, users=60, processes=2, bind=machines.bind)

    finished, clocks = ([note for note in records.notes if note["load"] == kind] for kind in ("finished", "clock"))
    assert len(finished) == len(clocks) == 2
    assert sum(note["requests"] for note in finished) == len(records.requests) > 100
    dues = sorted(request.due for request in records.requests)
    assert max(later - earlier for earlier, later in pairwise(dues)) < 0.0126
    assert {request.outcome for request in records.requests} == {"ok"}
    assert all(abs(note["offset"]) < 0.2 and 0 < note["within"] < 0.5 for note in clocks)
    machines.codes()


def test_the_entry_is_where_each_machine_says_it_is(rig: Rig, machines: Machines) -> None:
    rig.file(browser("HttpUser"))
    machines.join(1, "--host", rig.server.url)
    rig.server = cast(Server, SimpleNamespace(url="http://127.0.0.1:9"))

    records = rig.run(browser("HttpUser"), seconds=0.5, bind=machines.bind)

    assert {request.outcome for request in records.requests} == {"ok"}


def test_a_machine_that_is_lost_is_named_and_what_it_sent_is_kept(rig: Rig, machines: Machines) -> None:
    rig.file(browser("FastHttpUser"))
    machines.join(2)
    rig.start(browser("FastHttpUser"), processes=2, bind=machines.bind)
    rig.go()
    time.sleep(1.0)
    os.kill(machines.processes[0].pid, signal.SIGKILL)
    time.sleep(0.5)

    assert rig.load.ended_early() is None
    rig.load.stop()

    assert "of 2 ended with the end of its connection from 127.0.0.1:" in (rig.load.ended_early() or "")
    records = rig.records()
    assert sum(note["load"] == "finished" for note in records.notes) == 1
    (count,) = (note["requests"] for note in records.notes if note["load"] == "finished")
    assert len(records.requests) > count + 10


def test_a_machine_whose_run_is_gone_ends_at_once(rig: Rig, machines: Machines) -> None:
    rig.file(browser("FastHttpUser"))
    machines.join(1)
    rig.start(browser("FastHttpUser"), bind=machines.bind)
    rig.go()

    for process in rig.load._processes:
        process.end()

    began = time.monotonic()
    assert machines.codes() == [3]
    assert time.monotonic() - began < 3


def test_a_locustfile_that_does_not_import_elsewhere_is_told_here(rig: Rig, machines: Machines) -> None:
    rig.file("import nothing_of_this_name")
    machines.join(1)

    with pytest.raises(InvalidLocustfile, match="No module named 'nothing_of_this_name'"):
        rig.start(None, bind=machines.bind)


def test_machines_that_do_not_join_are_told_with_what_to_run(rig: Rig, bind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "JOIN_SECONDS", 0.3)

    with pytest.raises(LoadError, match=r"0 of 2 load processes joined .*python -m harness\.runtime\.load\.worker"):
        rig.start(browser("HttpUser"), processes=2, bind=bind)


def test_an_address_that_cannot_be_listened_on_is_told(rig: Rig) -> None:
    with pytest.raises(LoadError, match=r"expected to listen for load processes at 203\.0\.113\.1"):
        rig.start(browser("HttpUser"), bind="203.0.113.1:5557")


def speak(bind: str, said: bytes) -> None:
    host, port = remote.address_of(bind)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            with socket.create_connection((host, port), 1) as connection:
                connection.sendall(said)
                connection.recv(1)
                return
        except OSError:
            time.sleep(0.02)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"", b"[1, 2]\n", b'{"joined": null}\n', b"\xff\n"])
def test_whoever_else_knocks_is_not_counted(bind: str, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "JOIN_SECONDS", 1.0)
    monkeypatch.setattr(remote, "GREETING_SECONDS", 0.2)
    stranger = threading.Thread(target=speak, args=(bind, said))
    stranger.start()

    with pytest.raises(LoadError, match="0 of 1 load processes joined"):
        remote.joined(1, bind)
    stranger.join()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[tuple[remote.RemoteProcess, socket.socket]]:
    """A process that joined, and its end of the connection."""
    ours, theirs = socket.socketpair()
    process = remote.RemoteProcess(ours, "10.0.0.9:1")
    process.records = tmp_path / "requests.jsonl"
    with theirs:
        yield process, theirs
        process.end()


@pytest.mark.parametrize(
    "said", [b'{"records": 5}', b'{"records": null}', b'{"records": "\\ud800"}', b"[" * 100_000, b"nothing"]
)
def test_of_a_process_that_says_what_nobody_can_read_all_before_it_is_kept(
    peer: tuple[remote.RemoteProcess, socket.socket], said: bytes
) -> None:
    process, theirs = peer

    theirs.sendall(b'{"records": "first\\n"}\n' + said + b'\n{"records": "third\\n"}\n')

    assert process.waited_for(5)
    assert process.records is not None
    assert process.records.read_text() == "first\n"


def test_records_that_are_written_late_go_into_no_other_file(
    peer: tuple[remote.RemoteProcess, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, theirs = peer
    theirs.sendall(b'{"records": "first\\n"}\n')
    until = time.monotonic() + 5
    while not (process.records and process.records.exists()) and time.monotonic() < until:
        time.sleep(0.01)
    hiding, may_go_on = threading.Event(), threading.Event()

    def slowly(text: str, known: object) -> str:
        hiding.set()
        may_go_on.wait(10)
        return text

    monkeypatch.setattr(remote, "without_secrets", slowly)
    theirs.sendall(b'{"records": "second\\n"}\n')
    assert hiding.wait(5)
    process.end()
    others = [(tmp_path / f"other{number}").open("wb") for number in range(20)]
    may_go_on.set()
    process._reader.join(5)

    assert not process._reader.is_alive()
    for other in others:
        other.close()
        assert Path(other.name).read_bytes() == b""
    assert process.records is not None
    assert process.records.read_text() == "first\nsecond\n"


def test_a_machine_that_does_not_end_when_told_to_is_named_with_where_its_log_is(
    rig: Rig, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.file(browser("FastHttpUser"))
    machines.join(2)
    rig.start(None, processes=2, bind=machines.bind, timeout=0.2)
    rig.go()
    monkeypatch.setattr(locust, "STOP_SLACK", 0.5)
    for process in machines.processes:
        process.send_signal(signal.SIGSTOP)

    rig.load.stop()

    told = rig.load.ended_early() or ""
    assert re.fullmatch(
        r"load process 1 of 2 did not end when told to; its log is on 127\.0\.0\.1:\d+\n"
        r"load process 2 of 2 did not end when told to; its log is on 127\.0\.0\.1:\d+",
        told,
    )


def join_as(bind: str, release: str, token: str, answers: list[str]) -> None:
    """Join as a process of a release that knows this token."""
    host, port = remote.address_of(bind)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            with socket.create_connection((host, port), 1) as connection, connection.makefile("rwb") as lines:
                lines.write(b'{"ping": true}\n')
                lines.flush()
                challenge = json.loads(lines.readline())["challenge"]
                proof = proof_of(token.encode(), challenge, WORKER)
                lines.write(json.dumps({"joined": release, "proof": proof}).encode() + b"\n")
                lines.flush()
                answers.append(lines.readline().decode())
                return
        except OSError:
            time.sleep(0.02)


def test_a_process_of_another_release_is_refused(bind: str) -> None:
    stranger = threading.Thread(target=join_as, args=(bind, "0.0.1", TOKEN, []))
    stranger.start()

    with pytest.raises(LoadError, match=rf"expected load processes of chaos-harness {__version__}, found 0\.0\.1"):
        remote.joined(1, bind)
    stranger.join()


def test_who_knows_another_token_is_told_and_let_go_and_the_run_waits_on(bind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "JOIN_SECONDS", 1.0)
    answers: list[str] = []
    stranger = threading.Thread(target=join_as, args=(bind, __version__, "another-token-than-that", answers))
    stranger.start()

    with pytest.raises(LoadError, match="0 of 1 load processes joined"):
        remote.joined(1, bind)
    stranger.join()

    assert "CHAOS_WORKER_TOKEN" in json.loads(answers[0])["refused"]
    assert TOKEN not in answers[0]


def test_a_proof_that_was_overheard_is_none_for_another_connection(bind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "JOIN_SECONDS", 1.0)
    overheard = json.dumps({"joined": __version__, "proof": proof_of(TOKEN.encode(), "of another connection", WORKER)})
    stranger = threading.Thread(target=speak, args=(bind, overheard.encode() + b"\n"))
    stranger.start()

    with pytest.raises(LoadError, match="0 of 1 load processes joined"):
        remote.joined(1, bind)
    stranger.join()


@pytest.mark.parametrize("proved_as", [None, WORKER])
def test_a_run_that_does_not_know_the_token_is_not_served(machines: Machines, rig: Rig, proved_as: str | None) -> None:
    """The second shows a proof such as load processes give."""
    rig.file("open('served', 'w')")
    host, port = remote.address_of(machines.bind)
    with socket.create_server((host, port)) as door:
        machines.join(1)
        door.settimeout(20)
        connection, _ = door.accept()
        with connection, connection.makefile("rwb") as lines:
            for line in lines:
                said = json.loads(line)
                if "joined" in said:
                    break
                lines.write(json.dumps({"pong": time.time(), "challenge": "any"}).encode() + b"\n")
                lines.flush()
            shown = {"proof": proof_of(TOKEN.encode(), said["challenge"], proved_as)} if proved_as else {}
            lines.write(json.dumps({**shown, "entry": "http://127.0.0.1:9"}).encode() + b"\n")
            lines.flush()
            _, told = machines.processes[0].communicate(timeout=20)

    assert machines.processes[0].returncode == 1
    assert "expected a run that knows the token, found one that does not show it" in told
    assert not (machines.folder / "served").exists()


def test_without_a_token_nobody_is_waited_for(bind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAOS_WORKER_TOKEN")

    with pytest.raises(InvalidInput, match="expected a token of at least 16 characters, found none; set CHAOS_WORKER_TOKEN"):
        remote.joined(1, bind)


def test_a_machine_without_a_token_says_so_before_it_joins(
    machines: Machines, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.file(browser("HttpUser"))
    monkeypatch.delenv("CHAOS_WORKER_TOKEN")
    machines.join(1)

    _, said = machines.processes[0].communicate(timeout=20)

    assert machines.processes[0].returncode == 1
    assert "expected a token of at least 16 characters, found none" in said


def test_the_token_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")

    assert worker_token({"CHAOS_WORKER_TOKEN_FILE": str(tmp_path / "token")}) == TOKEN.encode()
    with pytest.raises(InvalidInput, match="CHAOS_WORKER_TOKEN_FILE: expected a file with a token"):
        worker_token({"CHAOS_WORKER_TOKEN_FILE": str(tmp_path / "gone")})
    with pytest.raises(InvalidInput, match="found one of 5 characters"):
        worker_token({"CHAOS_WORKER_TOKEN": "short"})


def test_a_machine_without_the_locustfile_says_so_before_it_joins(machines: Machines) -> None:
    machines.join(1)

    (process,) = machines.processes
    _, told = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "expected a locustfile, found no such file: " in told


def test_nobody_to_join_ends_with_what_was_found(rig: Rig, machines: Machines) -> None:
    rig.file(browser("HttpUser"))
    machines.join(1, "--patience", "0.1")

    (process,) = machines.processes
    _, told = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "expected a run that waits for load processes at 127.0.0.1:" in told


@pytest.mark.parametrize("text", ["", ":5557", "10.0.0.5:", "10.0.0.5:70000", "10.0.0.5:http"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected HOST|invalid literal"):
        remote.address_of(text)
