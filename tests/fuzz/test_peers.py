"""What other programs say: engines, services, load processes, and the journal that several share."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from harness import __version__
from harness.errors import InvalidLocustfile, LoadError, ProxyError
from harness.plan.plan import Arrivals
from harness.runtime.ending import signal_name
from harness.runtime.load.locust import LocustLoad
from harness.runtime.load.marks import Marks
from harness.runtime.load.process import MOST_HEARD, LoadProcess
from harness.runtime.load.remote import LONGEST_LINE, MOST_MESSAGES, RemoteProcess
from harness.runtime.probes.metrics import find_counter
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from harness.runtime.proxies.toxiproxy_log import AcceptedCounts
from harness.runtime.registry import runs, runs_folder
from harness.runtime.undo import UndoJournal
from tests.fuzz.channels import ENTRY, JOURNAL, Saying
from tests.fuzz.engines import CONTROL, EDGE, LINE, MADE, PROXY, Liar, answer

DEEP = b"[" * 100_000


class Says(Liar):
    """An engine that gives one answer to everything but its version."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()

    def send(self, request: requests.PreparedRequest, *_given: Any, **_more: Any) -> requests.Response:
        """The answer to one request."""
        return answer(request, 200, {}, b'{"version":"2.12.0"}' if str(request.path_url) == "/version" else self.body)


def engine_that_says(body: Any) -> ToxiproxyEngine:
    engine = ToxiproxyEngine(CONTROL)
    engine._session._http.mount("http://", Says(body))
    return engine


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b"",
        b"\xff",
        b"null",
        b"5",
        [],
        [PROXY],
        {**PROXY, "toxics": 5},
        {**PROXY, "toxics": [5]},
        {**PROXY, "enabled": "yes"},
    ],
    ids=lambda body: str(body)[:20],
)
def test_an_engine_that_answers_nonsense_is_told_as_such(body: Any) -> None:
    with pytest.raises(ProxyError, match=r"proxy engine at 127\.0\.0\.1:8474: read"):
        engine_that_says(body).read(MADE.name)


@pytest.mark.parametrize("key", ["at", "proxy", "accepted", "answers", "struck", "cannot"])
def test_counts_that_are_none_are_refused_before_they_are_recorded(key: str) -> None:
    with pytest.raises(ProxyError, match=f"EdgeSeen with another {key}"):
        engine_that_says([{**EDGE, key: [{}]}]).seen()


def test_counts_are_taken_as_they_are() -> None:
    assert engine_that_says([EDGE]).seen()[0].accepted == 3


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({**LINE, "name": {}}),
        json.dumps({**LINE, "name": []}),
        json.dumps({**LINE, "client": {}}),
        '{"message":"Accepted client","name":"\udc85"}',
        b'{"message":"Accepted client","name":' + DEEP,
        b"Accepted client",
    ],
    ids=lambda line: str(line)[:30],
)
def test_a_line_of_a_log_that_is_none_is_passed_over(line: bytes | str) -> None:
    counts = AcceptedCounts([MADE.name], [])

    counts.feed(line)
    counts.feed(json.dumps(LINE))

    assert counts.seen(1.0)[0].accepted in (1, 2)


@pytest.mark.parametrize("value", ["no number", "NaN", "+Inf", "1e999", "\ufffd3.0"])
def test_a_counter_that_is_no_number_is_not_there(value: str) -> None:
    assert find_counter(f"served_total {value}\n", "served_total") is None


ARRIVALS = {"rate": 5.0, "users": 1, "arrivals": "uniform", "timeout": 0.01, "seed": 1, "seconds": 1.0}


@pytest.fixture
def load(tmp_path: Path) -> tuple[LocustLoad, Saying, Arrivals]:
    (tmp_path / "locustfile.py").touch()
    saying = Saying()
    load = LocustLoad(saying, tmp_path, tmp_path / "load.log")
    return load, saying, Arrivals(locustfile=str(tmp_path / "locustfile.py"), **ARRIVALS)


@pytest.mark.parametrize(
    "noise", [b"\xff\n", b"5\n", b'"ready"\n', b"[]\n", b"{\n", DEEP + b"\n", b"x" * (MOST_HEARD + 5) + b"\n"]
)
def test_what_is_no_message_of_the_load_is_passed_over(noise: bytes, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    process = LoadProcess.__new__(LoadProcess)
    process._channel, process._heard = ours, b""
    with ours, theirs:
        theirs.setblocking(False)
        sent = b""
        whole = noise + b'{"ready":true}\n'
        while len(sent) < len(whole):  # more than a socket holds at a time
            try:
                sent += whole[len(sent) :][: theirs.send(whole[len(sent) :])]
            except BlockingIOError:
                process._heard = (process._heard + ours.recv(1 << 20))[-MOST_HEARD:]

        assert process.message(time.monotonic() + 5.0) == {"ready": True}


def test_a_load_that_says_nothing_that_can_be_understood_did_not_come_up(
    load: tuple[LocustLoad, Saying, Arrivals], tmp_path: Path
) -> None:
    locust, saying, arrivals = load
    saying.said = b"5\n[]\n"

    with pytest.raises(LoadError, match="the load did not come up"):
        locust.start(arrivals, "http://127.0.0.1:1", {}, tmp_path / "requests.jsonl")


def test_a_locustfile_that_is_refused_for_a_strange_reason_is_refused_all_the_same(
    load: tuple[LocustLoad, Saying, Arrivals], tmp_path: Path
) -> None:
    locust, saying, arrivals = load
    saying.said = b'{"invalid":{"a":[1]}}\n'

    with pytest.raises(InvalidLocustfile, match="a"):
        locust.start(arrivals, "http://127.0.0.1:1", {}, tmp_path / "requests.jsonl")


def test_every_signal_has_a_word() -> None:
    assert [signal_name(number) for number in (9, 40, 1000)] == ["SIGKILL", "40", "1000"]


@pytest.mark.parametrize("flood", ["a line without end", "messages without end"])
def test_a_worker_that_floods_is_let_go(flood: str, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    process = RemoteProcess(ours, "127.0.0.1:4000")
    piece = b"x" * 65536 if flood == "a line without end" else b'{"ready":1}\n' * 4000
    with theirs:
        theirs.settimeout(5.0)
        sent = 0
        while process.lives and sent < 4 * LONGEST_LINE:
            with suppress(OSError):
                sent += theirs.send(piece)
        was_let_go = not process.lives
    process.end()

    assert was_let_go
    assert process._told.qsize() <= MOST_MESSAGES


def test_a_worker_is_understood(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    process = RemoteProcess(ours, "127.0.0.1:4000")
    with theirs:
        theirs.sendall(json.dumps({"joined": __version__}).encode() + b"\n")

        assert process.message(time.monotonic() + 5.0) == {"joined": __version__}
        process.end()


def test_a_body_too_deep_to_read_bears_no_mark() -> None:
    marks = Marks({"deferred": {"json": "$.a", "equals": "x"}})

    assert marks.found({}.get, lambda: b'{"a":' + DEEP) == ()


@pytest.mark.parametrize(
    "damage",
    [
        {"pid": 1},
        {"pid": 0},
        {"pid": -1},
        {"pid": "4321"},
        {"pid": True},
        {"pid": None},
        {"signal": 0},
        {"signal": 9999},
        {"signal": "TERM"},
        {"started": {}},
        {"name": []},
    ],
    ids=str,
)
def test_a_process_is_never_ended_by_a_line_that_was_damaged(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = tmp_path / "undo.jsonl"
    whole = {**JOURNAL[0], "id": "f" * 32}
    path.write_text("".join(json.dumps(line) + "\n" for line in ({**JOURNAL[0], **damage}, whole)))
    journal = UndoJournal(path)

    assert list(journal.left()) == ["f" * 32]
    journal.close()


@pytest.mark.parametrize("folder", ["/tmp/" + "x" * 300, "/tmp/a\0b", "\ud800"])
def test_an_entry_of_a_run_in_no_folder_at_all_is_none(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path))
    (runs_folder() / "a.json").write_text(json.dumps({**ENTRY, "folder": folder}))

    assert runs() == ()

    (runs_folder() / "a.json").write_text(json.dumps(ENTRY))
    assert [entry.folder for entry in runs()] == [ENTRY["folder"]]


def test_undos_that_cannot_be_done_are_told_and_keep_no_other_from_being_done(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"chaos-{os.getpid():012x}"
    folder.mkdir()
    damaged = [
        {"id": "1", "undo": "RestoreProxies", "control": "http://127.0.0.1:99999"},
        {"id": "3", "undo": "RestoreProxies", "control": "http://[::1"},
        {"id": "4", "undo": "RemoveFolder", "path": "/tmp/chaos-a\0b"},
        {"id": "5", "undo": "RemoveFolder", "path": f"/tmp/chaos-{'x' * 300}"},
        {"id": "6", "undo": "RemoveFolder", "path": str(tmp_path)},
        {"id": "7", "undo": "RemoveFolder", "path": "/tmp/chaos-x/../../etc"},
        {"id": "8", "undo": "RemoveControlGroup", "path": str(tmp_path), "back": "/"},
    ]
    path = tmp_path / "undo.jsonl"
    path.write_text(
        "".join(json.dumps(line) + "\n" for line in (*damaged, {"id": "9", "undo": "RemoveFolder", "path": str(folder)}))
    )
    journal, told = UndoJournal(path), []

    undone = journal.undo_all(told.append)
    journal.close()

    assert not folder.exists()
    assert path.exists()
    assert Path("/etc/passwd").exists()
    assert (undone.done, undone.failed, len(told)) == (1, 7, 8)
