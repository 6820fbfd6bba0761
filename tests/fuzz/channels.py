"""What other processes say: the load's on its channel, those of other machines, and the lines of the journal of undos."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from random import Random
from typing import Any

from harness import __version__
from harness.errors import CouldNotRun
from harness.plan.plan import Arrivals
from harness.runtime.aborting import why_aborted
from harness.runtime.load.locust import LocustLoad
from harness.runtime.load.remote import RemoteProcess, _is_of_ours, address_of
from harness.runtime.load.token import WORKER, proof_of
from harness.runtime.registry import ABORT, is_alive, leave, runs, runs_folder
from harness.runtime.stop_file import _reason_in
from harness.runtime.undo import UndoJournal, describe
from tests.fuzz.mutating import a_value, json_lines, json_of, raw
from tests.fuzz.trying import Kind, Reader

SAYINGS = ({"ready": True, "users": 3}, {"invalid": "no user"}, {"failed": "it broke"}, {"ended": 1})


class Ended:
    """A process that said something and is gone."""

    pid = 0
    returncode = 0

    def poll(self) -> int:
        """It ended well."""
        return 0

    def wait(self, _seconds: float | None = None) -> int:
        """It ended well."""
        return 0


class Saying:
    """The port `Launch`: what it starts says a few bytes on its channel, and ends."""

    def __init__(self) -> None:
        self.said = b""

    def __call__(self, _name: str, _argv: Any, *, log: Path, pass_fds: Any = (), **_given: Any) -> subprocess.Popen[bytes]:
        """What was started."""
        log.touch()
        with socket.socket(fileno=os.dup(pass_fds[0])) as theirs:
            theirs.sendall(self.said)
        return Ended()  # type: ignore[return-value]


def load_channel(folder: Path) -> Reader:
    (folder / "locustfile.py").touch()
    launch = Saying()
    arrivals = Arrivals(
        locustfile=str(folder / "locustfile.py"), rate=5.0, users=1, arrivals="uniform", timeout=0.01, seed=1, seconds=1.0
    )

    def read(random: Random) -> None:
        lines = [random.choice(SAYINGS) for _ in range(3)]
        launch.said = json_lines(random, lines) if random.random() < 0.8 else raw(random, json_of(random, lines[0]))
        load = LocustLoad(launch, folder, folder / "load.log")
        load.start(arrivals, "http://127.0.0.1:1", {}, folder / "requests.jsonl")
        load.go(time.time())
        load.ended_early()
        load.stop()

    return read


SECRET = b"what only the run's own processes know"
RECORD = '{"journey":"GET /","due":1.0,"start":1.0,"end":1.1,"outcome":"ok"}\n'


def workers(folder: Path) -> Reader:
    def read(random: Random) -> None:
        theirs, ours = socket.socketpair()
        process = RemoteProcess(ours, "127.0.0.1:4000")
        joins = {"joined": __version__, "proof": proof_of(SECRET, process.challenge, WORKER)}
        lines = [{"ping": True}, joins, {"records": RECORD * 3}, {"ready": True}, {"records": RECORD}]
        said = json_lines(random, lines)
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        process.records = folder / "requests-1.jsonl"
        try:
            if _is_of_ours(process, SECRET):
                process.send({"go": 1.0})
                process.message(time.monotonic() + 1.0)
                process.waited_for(1.0)
        finally:
            process.end()
            theirs.close()

    return read


def addresses(_folder: Path) -> Reader:
    def read(random: Random) -> None:
        text = str(a_value(random)) + random.choice((":5557", ":", ":x", ""))
        try:
            address_of(text)
        except ValueError as refused:
            raise CouldNotRun(str(refused)) from refused

    return read


JOURNAL = (
    {"id": "a" * 32, "undo": "EndProcessGroup", "pid": 2**30, "started": 5, "name": "order", "signal": 15},
    {"id": "b" * 32, "undo": "RestoreProxies", "control": "http://127.0.0.1:8474"},
    {"id": "c" * 32, "undo": "RemoveFolder", "path": "/tmp/chaos-0123"},
    {"id": "d" * 32, "undo": "RemoveProject", "project": "chaos-x", "host": "unix:///var/run/docker.sock", "certificates": ""},
    {"id": "e" * 32, "undo": "RemoveControlGroup", "path": "/sys/fs/cgroup/x", "back": "/sys/fs/cgroup"},
    {"done": "a" * 32},
)


def journals(folder: Path) -> Reader:
    """Nothing of what is read here is done: that is tried by tests of their own, with undos that harm nobody."""

    def read(random: Random) -> None:
        path = folder / "undo.jsonl"
        path.write_bytes(json_lines(random, JOURNAL))
        journal = UndoJournal(path)
        try:
            for name, undo in journal.left().items():
                assert isinstance(name, str)
                described = describe(undo)
                json.dumps(described)
                hash(undo)
        finally:
            journal.close()

    return read


ENTRY = {
    "run": "a",
    "folder": "/tmp/a",
    "pid": 2**22 + 1,
    "started": 5,
    "host": "",
    "temporary": "/tmp",
    "project": "chaos-a",
    "engine": "unix:///docker.sock",
    "certificates": "",
    "shares": ["b"],
}
ASKED = {"by": "anna", "why": "page storm"}


def registries(_folder: Path) -> Reader:
    """The entries of runs, and who asks for the end of one; whoever calls this has a registry of its own."""
    folder = runs_folder()
    host = socket.gethostname()

    def read(random: Random) -> None:
        (folder / "a.json").write_bytes(json_of(random, {**ENTRY, "host": host}))
        (folder / f"a{ABORT}").write_bytes(json_of(random, ASKED))
        (folder.parent / "stop").write_bytes(raw(random, b"page storm\n"))
        for entry in runs():
            is_alive(entry)
            leave(Path(entry.folder))
        json.dumps([why_aborted(folder / f"a{ABORT}"), _reason_in(folder.parent / "stop")])

    return read


CHANNELS = (
    Kind("load's channel", load_channel),
    Kind("workers' channel", workers),
    Kind("workers' address", addresses),
    Kind("guardian's journal", journals),
    Kind("registry of runs", registries),
)
