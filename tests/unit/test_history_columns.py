"""Requests in columns are the same requests: one by one, cut into windows, and through the file that they are kept in."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history.parquet import SCHEMA, read_parquet, tables_of, write_parquet
from harness.history.requests import OUTCOMES, Request, request_to_data
from harness.history.store import NOTES, PARQUET, REQUESTS, pack_requests, read_requests
from harness.history.table import NONE, requests_of

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
    lines = [json.dumps(NOTE), *(json.dumps(request_to_data(one), ensure_ascii=False) for one in requests), json.dumps(NOTE)]
    path = folder / REQUESTS
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
    return path


def in_order(requests: list[Request]) -> list[Request]:
    return sorted(requests, key=lambda request: request.due)


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
    assert list(table.bears("stock cache", "größe")) == [bool({"stock cache", "größe"} & {*request.marks}) for request in ordered]
    assert list(table.never_ended) == [request.outcome in ("unfinished", "dropped") for request in ordered]
    assert table.sent == sum(request.outcome != "dropped" for request in ordered)
    assert list(table.of("POST /orders".__eq__)) == [request.journey == "POST /orders" for request in ordered]


def test_an_outcome_of_a_later_version_is_another_one() -> None:
    assert requests_of([Request("GET /", 1.0, 1.0, 2.0, "quantum")])[0].outcome == "other"


@given(MANY)
def test_the_file_holds_what_the_lines_said(requests: list[Request]) -> None:
    with TemporaryDirectory() as name:
        lines = written(Path(name), requests)

        assert write_parquet(lines, Path(name) / PARQUET) == len(requests)

        assert list(read_parquet(Path(name) / PARQUET)) == in_order(requests)


@given(st.lists(REQUEST, min_size=1, max_size=5), st.data())
def test_lines_cut_off_anywhere_give_the_whole_ones(requests: list[Request], data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        lines = written(Path(name), requests)
        whole = lines.read_bytes()
        lines.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        plain, notes = read_requests(Path(name))

        pack_requests(Path(name))

        packed, kept = read_requests(Path(name))
        assert (list(packed), kept) == (list(plain), notes)
        assert not lines.exists()


def test_packing_twice_is_packing_once(tmp_path: Path) -> None:
    written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok", trace="7", marks=("a",))])

    pack_requests(tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in (PARQUET, NOTES)}
    pack_requests(tmp_path)

    assert {name: (tmp_path / name).read_bytes() for name in (PARQUET, NOTES)} == first
    assert read_requests(tmp_path)[1] == (NOTE, NOTE)


def test_lines_that_are_none_of_ours_stay_and_the_others_are_read_all_the_same(tmp_path: Path) -> None:
    lines = written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok")])
    lines.write_bytes(lines.read_bytes() + b"what is this\n")
    with pytest.raises(ValueError, match="expected a request on each line"):
        write_parquet(lines, tmp_path / PARQUET)

    pack_requests(tmp_path)

    assert lines.exists()
    assert not (tmp_path / PARQUET).exists()
    assert len(read_requests(tmp_path)[0]) == 1


def test_who_killed_the_packing_left_the_lines(tmp_path: Path) -> None:
    """The columns are there, the lines too: the lines count, since the columns may be of an earlier moment."""
    written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok")])
    pack_requests(tmp_path)
    written(tmp_path, [Request("GET /", 1.0, 1.0, 2.0, "ok"), Request("GET /", 3.0, 3.0, 4.0, "ok")])

    assert len(read_requests(tmp_path)[0]) == 2


def test_the_file_is_one_that_others_can_read(tmp_path: Path) -> None:
    request = Request("GET /", 1.0, 1.25, 2.0, "http_5xx", 503, 12, ("a", "b"), "7f", "no")
    write_parquet(written(tmp_path, [request]), tmp_path / PARQUET)

    table = pq.read_table(tmp_path / PARQUET)

    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [request_to_data(request)]


@given(MANY)
def test_tables_of_requests_are_what_was_read(requests: list[Request]) -> None:
    rows = [row for table in tables_of(requests_of(requests), rows=7) for row in table.to_pylist()]

    assert rows == [request_to_data(request) for request in in_order(requests)]


def test_nothing_is_a_table_too() -> None:
    assert len(NONE) == 0
    assert not NONE.ok.any()
    assert list(NONE.between([(0.0, 1.0)])) == []
