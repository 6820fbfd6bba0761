"""Requests in columns are the same requests: one by one, cut into windows, and through the file that they are kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UnreadableRun
from harness.history.drafts import draft_of
from harness.history.events import LoadBegan, RunEnded, event_to_data
from harness.history.parquet import SCHEMA, Part, parts_of, read_parquet, tables_of, write_parquet
from harness.history.requests import OUTCOMES, Request, request_line
from harness.history.store import EVENTS, NOTES, PARQUET, REQUESTS, Records, pack_requests, read_requests, record_files
from harness.history.table import NONE, joined, requests_of

WORDS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
MARKS = st.lists(st.sampled_from(["shipping-deferred", "stock cache", "größe"]), max_size=2, unique=True).map(tuple)
MOMENTS = st.floats(0, 4e9, allow_nan=False)

REQUEST = st.builds(
    Request,
    journey=st.sampled_from(["POST /orders", "GET /orders/[id]", ""]),
    due=MOMENTS,
    start=MOMENTS,
    end=MOMENTS,
    outcome=st.sampled_from(OUTCOMES),
    status=st.integers(0, 599),
    bytes=st.integers(0, 2**40),
    marks=MARKS,
    trace=st.one_of(st.just(""), st.text("0123456789abcdef", min_size=32, max_size=32), st.text("xyz-", max_size=5)),
    error=WORDS,
)
MANY = st.lists(REQUEST, max_size=30)

NOTE = {"load": "vitals", "at": 1.0, "cpu": 0.1}


def written(folder: Path, requests: list[Request]) -> Path:
    """As the load process writes them, with what it says of itself between."""
    note = json.dumps(NOTE).encode() + b"\n"
    path = folder / REQUESTS
    path.write_bytes(b"".join([note, *map(request_line, requests), note]))
    (folder / EVENTS).write_text(json.dumps(event_to_data(RunEnded(1.0))) + "\n", encoding="utf-8")
    return path


def as_data(request: Request) -> dict[str, Any]:
    """What a line of JSON says of a request."""
    return {**request._asdict(), "marks": list(request.marks)}


def in_order(requests: list[Request]) -> list[Request]:
    return sorted(requests, key=lambda request: (request.due, request.start, request.end))


@given(MANY)
def test_a_table_holds_what_was_put_in_and_in_the_order_it_was_due(requests: list[Request]) -> None:
    table = requests_of(requests)

    assert list(table) == in_order(requests)
    assert [table[place] for place in range(len(table))] == in_order(requests)


@given(MANY, MOMENTS, MOMENTS)
def test_a_window_holds_those_due_from_its_begin_and_before_its_end(requests: list[Request], one: float, two: float) -> None:
    begin, end = sorted((one, two))

    assert list(requests_of(requests).between([(begin, end)])) == [
        request for request in in_order(requests) if begin <= request.due < end
    ]


def test_a_window_of_several_spans_holds_those_of_each() -> None:
    requests = [Request("GET /", float(at), float(at), at + 0.5, "ok") for at in range(10)]

    found = requests_of(requests).between([(1.0, 3.0), (7.0, 8.5)])

    assert [request.due for request in found] == [1.0, 2.0, 7.0, 8.0]
    assert list(requests_of(requests).between([])) == []


@given(MANY)
def test_what_is_asked_of_all_is_what_each_says(requests: list[Request]) -> None:
    table, ordered = requests_of(requests), in_order(requests)

    assert list(table.ok) == [request.ok for request in ordered]
    assert list(table.latency) == [request.latency for request in ordered]
    assert list(table.marked) == [bool(request.marks) for request in ordered]
    assert list(table.bears("stock cache")) == ["stock cache" in request.marks for request in ordered]
    assert list(table.bears("stock cache", "größe")) == [
        bool({"stock cache", "größe"} & {*request.marks}) for request in ordered
    ]
    assert list(table.never_ended) == [request.outcome in ("unfinished", "dropped") for request in ordered]
    assert table.sent == sum(request.outcome != "dropped" for request in ordered)
    assert list(table.of("POST /orders".__eq__)) == [request.journey == "POST /orders" for request in ordered]


def test_an_outcome_of_a_later_version_is_another_one() -> None:
    assert requests_of([Request("GET /", 1.0, 1.0, 2.0, "quantum")])[0].outcome == "other"


@given(REQUEST)
def test_a_line_says_what_the_request_is(request: Request) -> None:
    line = request_line(request)

    assert json.loads(line) == as_data(request)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


@given(MANY)
def test_the_file_holds_what_the_lines_said(requests: list[Request]) -> None:
    with TemporaryDirectory() as name:
        lines = written(Path(name), requests)

        assert len(write_parquet([lines], Path(name) / PARQUET)) == 2

        assert list(read_parquet(Path(name) / PARQUET)) == in_order(requests)


@given(st.lists(REQUEST, min_size=1, max_size=5), st.data())
def test_lines_cut_off_anywhere_give_the_whole_ones(requests: list[Request], data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        lines = written(Path(name), requests)
        whole = lines.read_bytes()
        cut = whole[: data.draw(st.integers(0, len(whole)))]
        lines.write_bytes(cut)
        plain = read_requests(Path(name))

        pack_requests(Path(name))

        packed = read_requests(Path(name))
        assert (list(packed.requests), packed.notes, packed.unread) == (list(plain.requests), plain.notes, plain.unread)
        assert len(plain.requests) + len(plain.notes) + plain.unread == cut.count(b"\n") + (
            not cut.endswith(b"\n") and cut != b""
        )
        assert not lines.exists()


def test_packing_twice_is_packing_once(tmp_path: Path) -> None:
    written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok", trace="7", marks=("a",))])

    pack_requests(tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in (PARQUET, NOTES)}
    pack_requests(tmp_path)

    assert {name: (tmp_path / name).read_bytes() for name in (PARQUET, NOTES)} == first
    assert read_requests(tmp_path).notes == (NOTE, NOTE)


STRANGE = [
    b"what is this",
    b'{"journey": "GET /", "due": 1.0}',
    b'{"journey": "GET /", "due": "soon", "start": 1.0, "end": 2.0, "outcome": "ok"}',
    b'{"journey": "GET /", "due": 1.0, "start": 1.0, "end": 2.0, "outcome": "ok", "status": 70000}',
    b'{"journey": "GET /", "due": 1.0, "start": 1.0, "end": 2.0, "outcome": "ok", "marks": [7]}',
    b'{"journey":"GET /","due":1.0,"start":1.0,"end":2.0,"outcome":"ok","error":"\xff"}',
    b'{"journey":"GET /","due":null,"start":1.0,"end":2.0,"outcome":"ok"}',
    *(
        b'{"journey":"GET /","due":1.0,"start":1.0,"end":%s,"outcome":"ok"}' % end
        for end in (b"NaN", b"Infinity", b"-Infinity", b"1e999")
    ),
    b'{"journey":"GET /","due":NaN,"start":1.0,"end":2.0,"outcome":"ok"}',
    b'{"end":2.0,"due":1.0,"start":Infinity,"journey":"GET /","outcome":"ok"}',
    b"[1, 2]",
    b'{"journey"',
    b"\x00\xff",
]


@pytest.mark.parametrize("line", STRANGE)
def test_a_line_that_is_none_of_ours_is_counted_and_kept_and_the_others_are_read_all_the_same(
    line: bytes, tmp_path: Path
) -> None:
    lines = written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok")])
    lines.write_bytes(line + b"\n" + lines.read_bytes())
    plain = read_requests(tmp_path)

    pack_requests(tmp_path)

    packed = read_requests(tmp_path)
    for found in (plain, packed):
        assert (len(found.requests), found.notes, found.unread) == (1, (NOTE, NOTE), 1)
    assert line in (tmp_path / NOTES).read_bytes().split(b"\n")


def test_columns_with_an_end_that_is_no_moment_are_no_run(tmp_path: Path) -> None:
    for table in tables_of(requests_of([Request("GET /", 1.0, 1.0, float("nan"), "ok")])):
        pq.write_table(table, tmp_path / PARQUET)

    with pytest.raises(UnreadableRun, match="not every end is a moment"):
        read_requests(tmp_path)


def test_half_a_character_in_the_words_of_a_client_is_no_reason_to_lose_its_request(tmp_path: Path) -> None:
    written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "reset", error="\ud800 went wrong")])

    pack_requests(tmp_path)

    assert [request.error for request in read_requests(tmp_path).requests] == ["? went wrong"]


def test_a_trace_that_is_no_ascii_costs_its_letters_alone(tmp_path: Path) -> None:
    written(
        tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok", trace="7\u00e9"), Request("GET /", 2.0, 2.0, 3.0, "ok", trace="7f")]
    )

    assert [request.trace for request in read_requests(tmp_path).requests] == ["7?", "7f"]


def test_keys_in_another_order_are_a_request_all_the_same(tmp_path: Path) -> None:
    lines = written(tmp_path, [])
    lines.write_bytes(lines.read_bytes() + b'{"outcome": "ok", "due": 1.0, "start": 1.0, "end": 2.0, "journey": "GET /"}\n')

    assert list(read_requests(tmp_path).requests) == [Request("GET /", 1.0, 1.0, 2.0, "ok")]


@pytest.mark.parametrize("moment", ["before the columns", "before the notes", "before the lines went", "between two files"])
def test_who_killed_the_packing_lost_nothing(moment: str, tmp_path: Path) -> None:
    written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok")])
    (tmp_path / "requests-2.jsonl").write_text(json.dumps(as_data(Request("GET /", 3.0, 3.0, 4.0, "ok"))) + "\n")
    lines = {path.name: path.read_bytes() for path in record_files(tmp_path)}
    before = read_requests(tmp_path)
    pack_requests(tmp_path)
    for name in lines if moment != "between two files" else ["requests.jsonl"]:
        (tmp_path / name).write_bytes(lines[name])
    if moment in ("before the columns", "before the notes"):
        (tmp_path / NOTES).unlink()
    if moment == "before the columns":
        (tmp_path / PARQUET).rename(tmp_path / f"{PARQUET}.part")

    for _ in range(2):
        found = read_requests(tmp_path)
        assert (list(found.requests), found.notes) == (list(before.requests), before.notes)
        pack_requests(tmp_path)

    assert record_files(tmp_path) == []


@pytest.mark.parametrize("name", ["requests-all.jsonl", "requests-1.old.jsonl", "requests2.jsonl", "requests-.jsonl"])
def test_what_others_put_beside_the_records_is_none_of_them_and_stays(name: str, tmp_path: Path) -> None:
    lines = written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok")])
    (tmp_path / name).write_bytes(lines.read_bytes())

    pack_requests(tmp_path)

    assert len(read_requests(tmp_path).requests) == 1
    assert (tmp_path / name).exists()


class Meanwhile:
    """Reads lines as ever, but somebody else packs them when so many parts of them were read."""

    def __init__(self, folder: Path, parts: int) -> None:
        self.folder, self.parts = folder, parts

    def __call__(self, files: Iterable[Path]) -> Iterator[Part]:
        for part in parts_of(files):
            self.parts -= 1
            if self.parts == 0:
                pack_requests(self.folder)
            yield part


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("act", [pack_requests, read_requests])
def test_who_packs_or_reads_while_another_packs_finds_all_of_it(
    act: Callable[[Path], Records | None], parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok")])
    (tmp_path / "requests-2.jsonl").write_bytes(request_line(Request("GET /", 3.0, 3.0, 4.0, "ok")))
    before = read_requests(tmp_path)
    meanwhile = Meanwhile(tmp_path, parts)
    for module in ("parquet", "store"):
        monkeypatch.setattr(f"harness.history.{module}.parts_of", meanwhile)

    found = act(tmp_path)

    after = read_requests(tmp_path)
    assert meanwhile.parts <= 0
    for records in (found or after, after):
        assert (list(records.requests), records.notes) == (list(before.requests), before.notes)
    assert {path.name for path in tmp_path.iterdir()} == {EVENTS, PARQUET, NOTES}


def test_what_could_not_be_written_whole_is_not_there_and_what_was_there_is(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("as it was")

    def write_half() -> None:
        with draft_of(target) as draft:
            draft.write_text("half")
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        write_half()

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "as it was")]


def test_several_may_write_one_file_at_a_time(tmp_path: Path) -> None:
    with draft_of(tmp_path / "a") as one:
        one.write_text("one")
        with draft_of(tmp_path / "a") as other:
            other.write_text("other")
        assert (tmp_path / "a").read_text() == "other"

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "one")]


def test_the_lines_of_a_run_that_is_not_over_are_left_to_who_writes_them(tmp_path: Path) -> None:
    lines = written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok")])
    (tmp_path / EVENTS).write_text(json.dumps(event_to_data(LoadBegan(1.0, 80.0, 480))) + "\n", encoding="utf-8")

    pack_requests(tmp_path)

    assert lines.exists()
    assert not (tmp_path / PARQUET).exists()


@given(MANY, st.integers(1, 4))
def test_lines_split_over_several_files_are_the_same_requests(requests: list[Request], files: int) -> None:
    requests = list({(one.due, one.start, one.end): one for one in requests}.values())
    with TemporaryDirectory() as name:
        folder = Path(name)
        lines = written(folder, requests).read_bytes().splitlines(keepends=True)
        whole = read_requests(folder)
        for number in range(files):
            (folder / (f"requests-{number}.jsonl" if number else REQUESTS)).write_bytes(b"".join(lines[number::files]))

        split = read_requests(folder)
        pack_requests(folder)
        packed = read_requests(folder)

        assert list(split.requests) == list(packed.requests) == list(whole.requests)
        assert split.notes == packed.notes == whole.notes


@given(MANY, st.lists(st.integers(0, 30), max_size=3))
def test_tables_joined_are_the_table_of_all(requests: list[Request], cuts: list[int]) -> None:
    requests = list({(one.due, one.start, one.end): one for one in requests}.values())
    borders = [0, *sorted(cuts), len(requests)]

    found = joined([requests_of(requests[begin:end]) for begin, end in pairwise(borders)])

    assert list(found) == in_order(requests)


def test_the_file_is_one_that_others_can_read(tmp_path: Path) -> None:
    request = Request("GET /", 1.0, 1.25, 2.0, "http_5xx", 503, 12, ("a", "b"), "7f", "no")
    write_parquet([written(tmp_path, [request])], tmp_path / PARQUET)

    table = pq.read_table(tmp_path / PARQUET)

    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [as_data(request)]


@given(MANY)
def test_tables_of_requests_are_what_was_read(requests: list[Request]) -> None:
    rows = [row for table in tables_of(requests_of(requests), rows=7) for row in table.to_pylist()]

    assert rows == [as_data(request) for request in in_order(requests)]


def test_nothing_is_a_table_too() -> None:
    assert len(NONE) == 0
    assert not NONE.ok.any()
    assert list(NONE.between([(0.0, 1.0)])) == []
