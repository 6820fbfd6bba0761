"""The requests of a run as a Parquet file: written once, out of the lines that the load process left, and read in a moment.

Its columns, which other programs may rely on:

    journey  string, dictionary     Locust's request method, a space, and its name; empty where none was drawn
    due start end  double           seconds since the epoch: meant to start, started, complete or given up
    outcome  string, dictionary     one of OUTCOMES
    status   uint16                 of the answer; 0 where there was none
    bytes    int64                  of the answer's body
    marks    list of string         fallbacks whose marker the answer bore
    trace    string                 trace id of W3C's traceparent; empty where there was none
    error    string, dictionary     what the client said was wrong; empty where nothing was
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from harness.history.requests import OUTCOMES, Request, request_from_data
from harness.history.table import OTHER, Requests, Words, requests_of

_REPEATING = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        ("journey", _REPEATING),
        ("due", pa.float64()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("outcome", _REPEATING),
        ("status", pa.uint16()),
        ("bytes", pa.int64()),
        ("marks", pa.list_(pa.string())),
        ("trace", pa.string()),
        ("error", _REPEATING),
    ]
)

_LINES = pa.schema([(field.name, pa.string() if field.type == _REPEATING else field.type) for field in SCHEMA])

_CANNOT_LACK = ("due", "start", "end", "outcome")

PART_BYTES = 4 << 20
"""How much of the lines is read at once: what it costs in memory does not grow with a run."""

_REQUEST = b'{"journey"'
"""What a request's line begins with, as the load process writes it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the load's lines: the requests among them, and the lines that are none, each whole."""

    requests: pa.Table
    others: tuple[bytes, ...] = ()


def write_parquet(lines: Iterable[Path], target: Path) -> tuple[bytes, ...]:
    """Make the file out of the load's lines, and return those that are no request; it is there only when complete."""
    draft = target.with_name(target.name + ".part")
    others: list[bytes] = []
    with pq.ParquetWriter(draft, SCHEMA, compression="zstd") as writer:
        for part in parts_of(lines):
            writer.write_table(part.requests)
            others += part.others
    draft.replace(target)
    return tuple(others)


def parts_of(files: Iterable[Path]) -> Iterator[Part]:
    """What files of lines hold, part by part; a last line that was cut off is no request."""
    for path in files:
        rest = b""
        with path.open("rb") as file:
            while more := file.read(PART_BYTES):
                whole, newline, rest = (rest + more).rpartition(b"\n")
                if newline:
                    yield part_of(whole.split(b"\n"))
        if rest:
            yield Part(SCHEMA.empty_table(), (rest,))


def part_of(lines: Sequence[bytes]) -> Part:
    """Some lines, read: all at once where they are as the load process writes them, else one by one."""
    usual: list[bytes] = []
    others: list[bytes] = []
    for line in lines:
        (usual if line.startswith(_REQUEST) else others).append(line)
    table = _read(usual)
    found, strange = _one_by_one(others if table is not None else lines)
    tables = ([table] if table is not None else []) + ([found] if found.num_rows else [])
    return Part(pa.concat_tables([SCHEMA.empty_table(), *tables]), strange)


def _read(lines: Sequence[bytes]) -> pa.Table | None:
    """The requests of lines that hold one each; None where one of them does not."""
    if not lines:
        return SCHEMA.empty_table()
    text = b"\n".join(lines)
    try:
        text.decode("utf-8")
        table = pyarrow.json.read_json(
            io.BytesIO(text),
            read_options=pyarrow.json.ReadOptions(block_size=len(text) + 1, use_threads=False),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=_LINES, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    if table.num_rows != len(lines) or any(table[name].null_count for name in _CANNOT_LACK):
        return None
    return pa.table([_filled(table[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _one_by_one(lines: Iterable[bytes]) -> tuple[pa.Table, tuple[bytes, ...]]:
    """The requests among lines of whatever kind, and the other lines."""
    requests: list[Request] = []
    others: list[bytes] = []
    for line in filter(None, lines):
        try:
            data = json.loads(line)
            request = request_from_data({key: _encodable(value) for key, value in data.items()})
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            others.append(line)
            continue
        if _fits(request):
            requests.append(request)
        else:
            others.append(line)
    return pa.concat_tables([SCHEMA.empty_table(), *tables_of(requests_of(requests))]), tuple(others)


def _fits(request: Request) -> bool:
    """Whether its numbers and words are such as the columns can hold."""
    return 0 <= request.status < 2**16 and abs(request.bytes) < 2**63 and all(isinstance(mark, str) for mark in request.marks)


def _encodable(value: Any) -> Any:
    """Half a character, which some client put into its words, is shown as one that is not known."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def _filled(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column without gaps: what a line does not say is nought, or empty."""
    if pa.types.is_list(kind):
        empty = pa.scalar([], kind)
    else:
        empty = pa.scalar("" if kind in (_REPEATING, pa.string()) else 0, pa.string() if kind == _REPEATING else kind)
    filled = pc.if_else(pc.is_valid(column), column, empty) if column.null_count else column
    return filled.dictionary_encode().cast(kind) if kind == _REPEATING else filled


def read_parquet(path: Path) -> Requests:
    """The requests of a file, in order; one column after the other, so that no more than one is held twice."""
    return _requests(lambda name: pq.read_table(path, columns=[name], schema=SCHEMA)[name])


def read_tables(tables: Iterable[pa.Table]) -> Requests:
    """The requests of some tables of the schema, in order."""
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    return _requests(table.__getitem__)


def _requests(column: Callable[[str], pa.ChunkedArray]) -> Requests:
    due, start, end = (column(name).to_numpy() for name in ("due", "start", "end"))
    order = np.lexsort((end, start, due))
    journey, journeys = _coded(column("journey"))
    error, errors = _coded(column("error"))
    marks, markings = _marks(column("marks"))
    outcome, names = _coded(column("outcome"))
    known = np.array([OUTCOMES.index(name) if name in OUTCOMES else OTHER for name in names] or [OTHER], dtype=np.uint8)
    return Requests(
        due=due[order],
        start=start[order],
        end=end[order],
        journey=journey[order],
        outcome=known[outcome][order],
        status=column("status").to_numpy()[order],
        bytes=column("bytes").to_numpy()[order],
        marks=marks[order],
        error=error[order],
        trace=_traces(column("trace"))[order],
        journeys=Words(tuple(journeys)),
        markings=Words(tuple(markings)),
        errors=Words(tuple(errors)),
    )


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray[Any, np.dtype[np.int32]], list[str]]:
    """The places of the words of a column, and the words."""
    one = column.unify_dictionaries().combine_chunks()
    if isinstance(one, pa.ChunkedArray):
        one = one.chunk(0) if one.num_chunks else pa.array([], _REPEATING)
    return one.indices.to_numpy(zero_copy_only=False).astype(np.int32), one.dictionary.to_pylist()


def _marks(column: pa.ChunkedArray) -> tuple[np.ndarray[Any, np.dtype[np.int32]], list[tuple[str, ...]]]:
    """The same for lists of words."""
    joined = pc.binary_join(column, "\n").dictionary_encode()
    places, known = _coded(joined)
    return places, [tuple(word.split("\n")) if word else () for word in known]


def _traces(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bytes_]]:
    """As bytes of one length, which most are anyway."""
    lengths = pc.binary_length(column)
    longest = pc.max(lengths).as_py() or 1
    padded = pc.utf8_rpad(column, longest, "\0") if pc.min(lengths).as_py() != longest else column
    parts = [part for part in padded.cast(pa.binary(longest)).chunks if len(part)]
    found = [np.frombuffer(part.buffers()[1], dtype=f"S{longest}")[part.offset : part.offset + len(part)] for part in parts]
    return np.concatenate(found) if found else np.array([], dtype="S1")


def tables_of(requests: Requests, rows: int = 100_000) -> Iterable[pa.Table]:
    """Requests as tables of the schema, so many rows each."""
    for first in range(0, len(requests), rows):
        part = requests[first : first + rows]
        columns: dict[str, Any] = {
            "journey": pa.DictionaryArray.from_arrays(part.journey, pa.array(part.journeys.known, pa.string())),
            "outcome": pa.DictionaryArray.from_arrays(part.outcome.astype(np.int32), pa.array(OUTCOMES)),
            "error": pa.DictionaryArray.from_arrays(part.error, pa.array(part.errors.known, pa.string())),
            "marks": pa.array([part.markings.known[place] for place in part.marks], SCHEMA.field("marks").type),
            "trace": pa.array(part.trace.astype(str), pa.string()),
        }
        numbers = {name: getattr(part, name) for name in ("due", "start", "end", "status", "bytes")}
        yield pa.table({field.name: {**columns, **numbers}[field.name] for field in SCHEMA}, schema=SCHEMA)
