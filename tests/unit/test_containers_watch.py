"""The program of the guardian at the engine, run as it is run there, against an engine that a thread plays."""

from __future__ import annotations

import inspect
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from harness.history.events import GuardianActed, UndoDone, UndoFailed
from harness.history.store import read_events
from harness.runtime.containers import watch_inside
from harness.runtime.containers.watch_container import Errand, container_config, ways_in
from harness.runtime.containers.watch_container import Way as WayIn

LABEL, OWN = "com.docker.compose.project=chaos-1", "chaos-harness.guardian=chaos-1"
LEASE, PATIENCE = 0.8, 0.6
SOURCE = inspect.getsource(watch_inside).replace("LOOK_EVERY = 0.5", "LOOK_EVERY = 0.1")
KINDS = ("containers", "networks", "volumes")


class FakeEngine(ThreadingUnixStreamServer):
    """Containers, networks and volumes by label; remembers what was removed. What is `stuck` does not go."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.things: dict[str, dict[str, str]] = {
            "containers": {"c1": LABEL, "c2": LABEL, "mine": "com.docker.compose.project=somebody"},
            "networks": {"n1": LABEL},
            "volumes": {"v/1": LABEL},
        }
        self.removed: list[str] = []
        self.stuck: set[str] = set()
        self.paused: set[str] = set()
        self.label_of_guardian = OWN
        super().__init__(str(path), Api)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asked may be gone."""

    def left(self) -> list[str]:
        return sorted(name for kind in KINDS for name, label in self.things[kind].items() if label == LABEL)


class Api(BaseHTTPRequestHandler):
    server: FakeEngine

    def address_string(self) -> str:
        return "engine"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, said: Any = None) -> None:
        body = b"" if said is None else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        kind = url.path.split("/")[1]
        if url.path == "/containers/watcher/json":
            key, _, value = self.server.label_of_guardian.partition("=")
            return self.answer(200, {"Config": {"Labels": {key: value}}})
        filters = json.loads(parse_qs(url.query)["filters"][0])
        (label,) = filters["label"]
        if filters.get("status") == ["paused"]:
            return self.answer(200, [{"Id": name} for name in sorted(self.server.paused)])
        found = [{"Id": name, "Name": name} for name, said in self.server.things[kind].items() if said == label]
        random.shuffle(found)  # as an engine does
        return self.answer(200, {"Volumes": found or None} if kind == "volumes" else found)

    def do_POST(self) -> None:
        _, _, name, deed = urlsplit(self.path).path.split("/")
        assert deed == "unpause"
        self.server.paused.discard(name)
        self.server.removed.append(f"unpaused {name}")
        return self.answer(204)

    def do_DELETE(self) -> None:
        _, kind, name = urlsplit(self.path).path.split("/")
        if unquote(name) in self.server.stuck:
            return self.answer(409, {"message": f"{name} is in use"})
        if self.server.things[kind].pop(unquote(name), None) is None:
            return self.answer(404, {"message": "no such thing"})
        self.server.removed.append(unquote(name))
        return self.answer(204)


class Watcher:
    """The program, as a process of its own."""

    def __init__(self, folder: Path, source: str = SOURCE, **changes: Any) -> None:
        self.events = folder / "events.jsonl"
        asked = watch_inside.Asked(
            engine=str(folder / "engine.sock"),
            label=LABEL,
            container="watcher",
            own=OWN,
            lease=LEASE,
            patience=PATIENCE,
            events=str(self.events),
            undo="remove chaos-1",
            by="guardian at the Docker engine",
        )
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", source, json.dumps({**asdict(asked), **changes})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

    def hear(self) -> bytes:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), 4096)

    def beat_for(self, seconds: float) -> None:
        assert self.process.stdin is not None
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            os.write(self.process.stdin.fileno(), b"beat\n")
            assert self.hear() == b"here\n"
            time.sleep(0.1)

    def leave(self) -> None:
        """The harness is gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self, within: float = 20.0) -> int:
        return self.process.wait(within)

    def last_words(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def make_sure_it_is_over(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


StartWatcher = Callable[..., Watcher]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    engine = FakeEngine(tmp_path / "engine.sock")
    yield engine
    engine.shutdown()
    engine.server_close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartWatcher]:
    """Start the program; whatever becomes of the test, it ends."""
    started: list[Watcher] = []

    def start(*arguments: str, **changes: Any) -> Watcher:
        started.append(Watcher(tmp_path, *arguments, **changes))
        return started[-1]

    yield start
    for watcher in started:
        watcher.make_sure_it_is_over()


@pytest.fixture
def watcher(tmp_path: Path, engine: FakeEngine, start: StartWatcher) -> Watcher:
    """One that watches, of a run whose last line was cut off when its harness was killed."""
    (tmp_path / "events.jsonl").write_text('{"event":"RunInterr')
    watcher = start()
    assert watcher.hear() == b"here\n"
    return watcher


def test_while_the_harness_is_heard_of_nothing_is_removed(watcher: Watcher, engine: FakeEngine) -> None:
    watcher.beat_for(LEASE + PATIENCE + 0.5)

    assert watcher.process.poll() is None
    assert engine.removed == []


def test_of_a_run_whose_harness_is_gone_everything_is_removed_by_its_label_and_told(
    watcher: Watcher, engine: FakeEngine
) -> None:
    watcher.beat_for(0.3)

    watcher.leave()

    assert watcher.end() == 0
    assert sorted(engine.removed[:2]) == ["c1", "c2"]  # before what they hold
    assert sorted(engine.removed[2:]) == ["n1", "v/1"]
    assert list(engine.things["containers"]) == ["mine"]
    done, acted = read_events(watcher.events.parent)
    assert isinstance(done, UndoDone)
    assert (done.undo, done.by) == ("remove chaos-1", "guardian at the Docker engine")
    assert isinstance(acted, GuardianActed)
    assert (acted.undone, acted.failed) == (1, 0)
    assert acted.why == "the harness and the guardian on its machine were gone"


def test_what_is_paused_goes_on_before_anything_is_removed(watcher: Watcher, engine: FakeEngine) -> None:
    engine.paused = {"c2"}

    watcher.leave()

    assert watcher.end() == 0
    assert engine.removed[0] == "unpaused c2"
    assert engine.left() == []


def test_a_harness_that_says_nothing_any_more_is_taken_for_gone(watcher: Watcher, engine: FakeEngine) -> None:
    watcher.beat_for(0.3)

    assert watcher.end() == 0

    assert engine.left() == []
    assert [event.why for event in read_events(watcher.events.parent) if isinstance(event, GuardianActed)] == [
        "the harness was not heard of for 0.8 s"
    ]


def test_a_harness_that_is_heard_of_again_in_time_is_left_its_run(watcher: Watcher, engine: FakeEngine) -> None:
    watcher.beat_for(0.3)
    time.sleep(LEASE + PATIENCE / 2)

    watcher.beat_for(LEASE + PATIENCE + 0.5)

    assert engine.removed == []
    assert watcher.process.poll() is None


def test_as_long_as_somebody_else_undoes_the_run_it_waits(watcher: Watcher, engine: FakeEngine) -> None:
    watcher.leave()
    for kind, name in (("containers", "c1"), ("containers", "c2"), ("networks", "n1"), ("volumes", "v/1")):
        time.sleep(PATIENCE * 0.6)
        del engine.things[kind][name]

    assert watcher.end() == 0
    assert engine.removed == []
    assert read_events(watcher.events.parent) == ()  # whoever did it has told


def test_as_long_as_somebody_tells_what_they_undo_it_waits(watcher: Watcher, engine: FakeEngine) -> None:
    watcher.leave()
    for _ in range(5):
        time.sleep(PATIENCE * 0.6)
        with watcher.events.open("a") as events:
            events.write("\n")
    assert engine.removed == []

    assert watcher.end() == 0
    assert engine.left() == []


def test_what_does_not_go_is_told_with_the_reason(tmp_path: Path, engine: FakeEngine, start: StartWatcher) -> None:
    engine.stuck = {"n1"}
    source = SOURCE.replace("REMOVE_SECONDS = 120.0", "REMOVE_SECONDS = 1.0")
    (tmp_path / "events.jsonl").touch()
    watcher = start(source)
    watcher.leave()

    assert watcher.end() == 1

    failed, acted = read_events(tmp_path)
    assert isinstance(failed, UndoFailed)
    assert failed.reason == "n1 is in use"
    assert isinstance(acted, GuardianActed)
    assert (acted.undone, acted.failed) == (0, 1)
    assert engine.left() == ["n1"]


def test_signals_that_end_a_harness_do_not_end_it(watcher: Watcher) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        watcher.process.send_signal(number)

    watcher.beat_for(0.5)


def test_an_engine_that_is_away_for_a_moment_is_asked_again(watcher: Watcher, engine: FakeEngine) -> None:
    path = Path(str(engine.server_address))
    path.rename(path.with_suffix(".away"))
    watcher.leave()
    time.sleep(PATIENCE + 0.5)

    path.with_suffix(".away").rename(path)

    assert watcher.end() == 0
    assert engine.left() == []


def test_without_a_file_to_tell_in_the_run_is_removed_all_the_same(
    tmp_path: Path, engine: FakeEngine, start: StartWatcher
) -> None:
    watcher = start(events=str(tmp_path / "none" / "events.jsonl"))
    watcher.leave()

    assert watcher.end() == 0
    assert engine.left() == []


def test_behind_the_socket_of_another_engine_it_does_not_watch(engine: FakeEngine, start: StartWatcher) -> None:
    engine.label_of_guardian = "chaos-harness.guardian=chaos-2"

    watcher = start()

    assert watcher.end() == 1
    assert watcher.last_words() == b"the Docker engine at the socket is another one"


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{a}"])
def test_a_socket_behind_which_no_engine_answers_is_told(tmp_path: Path, start: StartWatcher, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "engine.sock"))
        listener.listen()
        watcher = start()
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    assert watcher.end() == 1
    assert watcher.last_words().startswith(
        b"no Docker engine answers at the socket: GET /containers/watcher/json: expected the answer"
    )


ERRAND = Errand("chaos-1", 5.0, 4.0, "remove chaos-1", "guardian", Path("/runs/1/events.jsonl"))


def test_the_container_has_no_network_and_is_none_of_the_project() -> None:
    config = container_config("python", "chaos-1-guardian", ERRAND, WayIn("/run/docker.sock"))

    assert config["HostConfig"]["NetworkMode"] == "none"
    assert config["Labels"] == {"chaos-harness.guardian": "chaos-1"}
    assert config["StdinOnce"] is True
    assert config["HostConfig"]["AutoRemove"] is True
    assert config["HostConfig"]["Mounts"] == [{"Type": "bind", "Source": "/run/docker.sock", "Target": "/engine.sock"}]


def test_what_it_is_asked_is_what_its_program_reads() -> None:
    config = container_config("python", "chaos-1-guardian", ERRAND, WayIn("/run/docker.sock", "/runs/1/events.jsonl"))

    asked = watch_inside.Asked(**json.loads(config["Cmd"][0]))

    assert (asked.label, asked.own, asked.lease, asked.patience) == (LABEL, OWN, 5.0, 4.0)
    assert asked.events == config["HostConfig"]["Mounts"][1]["Target"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (
            "unix:///run/user/1/docker.sock",
            [
                WayIn("/run/user/1/docker.sock", "/runs/1/events.jsonl"),
                WayIn("/run/user/1/docker.sock"),
                WayIn("/var/run/docker.sock", "/runs/1/events.jsonl"),
                WayIn("/var/run/docker.sock"),
            ],
        ),
        (
            "unix:///var/run/docker.sock",
            [WayIn("/var/run/docker.sock", "/runs/1/events.jsonl"), WayIn("/var/run/docker.sock")],
        ),
        ("tcp://127.0.0.1:2375", [WayIn("/var/run/docker.sock")]),
    ],
)
def test_the_socket_as_it_is_called_here_is_tried_before_the_usual_one(host: str, expected: list[WayIn]) -> None:
    assert list(ways_in(host, Path("/runs/1/events.jsonl"))) == expected
