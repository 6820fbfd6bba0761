"""What the load writes reaches whoever watches: each request once, whole, from however many files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history.events import EdgeSeen, Event, PhaseBegan
from harness.history.requests import Request
from harness.history.store import REQUESTS, RunFolder, read_events
from harness.runtime import recorder
from harness.runtime.recorder import Recorder, RequestTail

REQUESTS_MADE = [Request("GET /", float(at), float(at), at + 0.5, "ok", trace=f"{at:x}") for at in range(8)]


class Watching:
    """Keeps all it is shown."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.requests: list[Request] = []

    def see_event(self, event: Event) -> None:
        self.events.append(event)

    def see_requests(self, requests: Sequence[Request]) -> None:
        self.requests += requests

    def halt_before_injection(self) -> str | None:
        return "because"


def lines(requests: Sequence[Request] = REQUESTS_MADE) -> bytes:
    made = [{"load": "began", "at": 0.0}, *(request._asdict() for request in requests), {"load": "finished", "at": 9.0}]
    return "".join(json.dumps(line) + "\n" for line in made).encode()


@given(st.lists(st.integers(0, len(lines())), max_size=6))
def test_each_request_is_seen_once_wherever_the_file_ended_when_it_was_looked_at(cuts: list[int]) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / REQUESTS
        tail, seen = RequestTail(path), []
        for begin, end in pairwise([0, *sorted(cuts), len(lines())]):
            with path.open("ab") as file:
                file.write(lines()[begin:end])
            seen += tail.new_requests()

        assert seen == REQUESTS_MADE
        assert not tail.new_requests()


def test_the_files_of_several_processes_are_followed_also_those_that_come_later(tmp_path: Path) -> None:
    tail = RequestTail(tmp_path / REQUESTS)
    assert not tail.new_requests()

    (tmp_path / REQUESTS).write_bytes(lines(REQUESTS_MADE[:3]))
    first = list(tail.new_requests())
    (tmp_path / "requests-2.jsonl").write_bytes(lines(REQUESTS_MADE[3:]))

    assert first == REQUESTS_MADE[:3]
    assert list(tail.new_requests()) == REQUESTS_MADE[3:]


def test_who_lags_behind_catches_up_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "PART_BYTES", 400)
    (tmp_path / REQUESTS).write_bytes(lines())
    tail = RequestTail(tmp_path / REQUESTS)

    parts = [list(tail.new_requests()) for _ in range(20)]

    assert max(map(len, parts)) < len(REQUESTS_MADE)
    assert [request for part in parts for request in part] == REQUESTS_MADE


def test_a_line_that_is_none_of_ours_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / REQUESTS).write_bytes(b'\x00\xff\n{"journey":"GET /"}\n' + lines())

    assert list(RequestTail(tmp_path / REQUESTS).new_requests()) == REQUESTS_MADE


def test_what_is_recorded_is_on_disk_and_shown_to_all_and_nothing_is_no_news(tmp_path: Path) -> None:
    folder, gate, other = RunFolder(tmp_path / "run"), Watching(), Watching()
    book = Recorder(folder, gate, other)
    tail = RequestTail(tmp_path / "run" / REQUESTS)

    book.record(PhaseBegan(1.0, "baseline"))
    book.pass_on(tail.new_requests())
    (tmp_path / "run" / REQUESTS).write_bytes(lines())
    book.pass_on(tail.new_requests())
    folder.close()

    assert read_events(tmp_path / "run") == (PhaseBegan(1.0, "baseline"),)
    assert gate.events == other.events == [PhaseBegan(1.0, "baseline")]
    assert gate.requests == other.requests == REQUESTS_MADE
    assert book.reason_to_halt() == "because"


def test_what_a_late_thread_tells_is_dropped_and_never_in_the_next_runs_history(tmp_path: Path) -> None:
    over, gate = RunFolder(tmp_path / "over"), Watching()
    book = Recorder(over, gate)
    over.close()
    following = RunFolder(tmp_path / "following")

    book.record(PhaseBegan(1.0, "baseline"))
    over.record(PhaseBegan(2.0, "fault"))
    over.record(EdgeSeen(3.0, "shop-db", 0, 0, 0, 0, 0, 0))
    over.close()
    following.record(PhaseBegan(4.0, "recovery"))
    following.close()

    assert read_events(tmp_path / "over") == ()
    assert read_events(tmp_path / "following") == (PhaseBegan(4.0, "recovery"),)
    assert gate.events == []
