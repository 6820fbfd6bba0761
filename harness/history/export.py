"""A run's requests for other programs: one row each, under the names people use, with the phase each belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from harness.history.history import History
from harness.history.parquet import SCHEMA, tables_of
from harness.history.table import Requests

Format: TypeAlias = Literal["csv", "parquet", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)

_WORD = pa.dictionary(pa.int32(), pa.string())

EXPORTED = pa.schema(
    [
        ("journey", _WORD),
        ("request", _WORD),
        ("phase", _WORD),
        ("round", pa.int32()),
        ("elapsed", pa.float64()),
        ("latency", pa.float64()),
        ("straddles", pa.bool_()),
        *[field for field in SCHEMA if field.name != "journey"],
    ]
)

MARKS_APART = ";"
"""What parts the marks of one request in CSV, which has no lists."""


def exported(history: History) -> Iterator[pa.Table]:
    """The requests in the order in which they were due, as tables of the schema EXPORTED, some thousands of rows each."""
    plain, spans = _plain_names(history.plan), _spans(history)
    first = 0
    for table in tables_of(history.requests):
        part = history.requests[first : first + table.num_rows]
        first += table.num_rows
        yield _with_more(table, part, history.began, plain, spans)


def _plain_names(plan: dict[str, Any]) -> dict[str, str]:
    """The name people use for each of Locust's."""
    journeys = plan.get("experiment", {}).get("system", {}).get("journeys", {})
    return {said["request"] if isinstance(said, dict) else said: name for name, said in journeys.items()}


Span: TypeAlias = tuple[float, float, str, int]


def _spans(history: History) -> list[Span]:
    """Every recorded phase in order: from when to when, its name, and of which round."""
    return sorted((turn.window.begin, turn.window.end, turn.phase, turn.round) for turn in history.turns)


def _with_more(table: pa.Table, part: Requests, began: float, plain: dict[str, str], spans: list[Span]) -> pa.Table:
    names = [plain.get(journey, journey) for journey in part.journeys.known]
    place = np.searchsorted([begin for begin, _, _, _ in spans], part.due, side="right") - 1
    ends = np.array([end for _, end, _, _ in spans] or [-np.inf])
    inside = (place >= 0) & (part.due < ends[place])
    phases = pa.array([name for _, _, name, _ in spans], pa.string())
    rounds = np.array([number for _, _, _, number in spans] or [0])
    more = {
        "journey": pa.DictionaryArray.from_arrays(part.journey, pa.array(names, pa.string())),
        "request": table["journey"],
        "phase": pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32), mask=~inside), phases),
        "round": pa.array(rounds[place].astype(np.int32), mask=~inside),
        "elapsed": part.due - began,
        "latency": part.latency,
        "straddles": inside & (part.end >= ends[place]),
    }
    columns = [more[field.name] if field.name in more else table[field.name] for field in EXPORTED]
    return pa.table(columns, schema=EXPORTED)


def write_export(history: History, kind: Format, into: BinaryIO) -> None:
    """Write a run's requests into a file, part by part: what it costs in memory does not grow with them."""
    WRITERS[kind](history, into)


def _write_parquet(history: History, into: BinaryIO) -> None:
    with pq.ParquetWriter(into, EXPORTED, compression="zstd") as writer:
        for table in exported(history):
            writer.write_table(table)


def _write_csv(history: History, into: BinaryIO) -> None:
    """Words in quotes where they need them; an empty field is what was not there."""
    flat = pa.schema([(field.name, _flat(field.type)) for field in EXPORTED])
    with pyarrow.csv.CSVWriter(into, flat, write_options=pyarrow.csv.WriteOptions(quoting_style="needed")) as writer:
        for table in exported(history):
            marks = pc.binary_join(table["marks"], MARKS_APART)
            writer.write_table(table.set_column(table.schema.get_field_index("marks"), "marks", marks).cast(flat))


def _flat(kind: pa.DataType) -> pa.DataType:
    return pa.string() if kind == _WORD or pa.types.is_list(kind) else kind


def _write_jsonl(history: History, into: BinaryIO) -> None:
    for table in exported(history):
        into.write("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in table.to_pylist()).encode())


WRITERS: dict[Format, Callable[[History, BinaryIO], None]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
    "jsonl": _write_jsonl,
}
