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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from harness.history.drafts import draft_of
from harness.history.lines import object_in
from harness.history.requests import OUTCOMES, Request, request_from_data
from harness.history.table import LONGEST_TRACE, OTHER, Places, Requests, requests_of

pa.set_memory_pool(pa.system_memory_pool())  # it gives back what is read a piece at a time; Arrow's own keeps it

CODES = {outcome: place for place, outcome in enumerate(OUTCOMES)}

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

_TIMES = ("due", "start", "end")
_CANNOT_LACK = (*_TIMES, "outcome")

PART_BYTES = 4 << 20
"""How much of the lines is read at once: what it costs in memory does not grow with a run."""

ENDLESS = b"\0"
"""What the beginning of a line is kept with that is longer than any, so that with its end it is no request."""

LATEST = 1e11
"""Seconds since the epoch, in 3000 years."""

ROWS_OF_ANY_FILE = 1_000_000
"""So many requests are believed of a file of any size; each further one takes a byte at least."""

_REQUEST = b'{"journey"'
"""What a request's line begins with, as the load process writes it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the load's lines: the requests among them, and the lines that are none, each whole."""

    requests: pa.Table
    others: tuple[bytes, ...] = ()


def write_parquet(lines: Iterable[Path], target: Path) -> tuple[bytes, ...]:
    """Make the file out of the load's lines, and return those that are no request; it is there only when complete."""
    others: list[bytes] = []
    with draft_of(target) as draft, pq.ParquetWriter(draft, SCHEMA, compression="zstd") as writer:
        for part in parts_of(lines):
            writer.write_table(part.requests)
            others += part.others
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
                elif len(rest) > PART_BYTES:
                    rest = ENDLESS + rest[:1000]
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
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != len(lines) or any(table[name].null_count for name in _CANNOT_LACK):
        return None
    if not all(_are_moments(table[name].to_numpy()) for name in _TIMES):
        return None
    return pa.table([_filled(table[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _one_by_one(lines: Iterable[bytes]) -> tuple[pa.Table, tuple[bytes, ...]]:
    """The requests among lines of whatever kind, and the other lines."""
    requests: list[Request] = []
    others: list[bytes] = []
    for line in filter(None, lines):
        try:
            request = request_from_data(object_in(line) or {})
        except (ValueError, TypeError, LookupError, OverflowError):
            others.append(line)
            continue
        if _fits(request):
            requests.append(request)
        else:
            others.append(line)
    return pa.concat_tables([SCHEMA.empty_table(), *tables_of(requests_of(requests))]), tuple(others)


def _fits(request: Request) -> bool:
    """Whether its times are moments, and its numbers and words such as the columns can hold."""
    if not all(abs(at) < LATEST for at in (request.due, request.start, request.end)):
        return False
    return 0 <= request.status < 2**16 and abs(request.bytes) < 2**63 and all(isinstance(mark, str) for mark in request.marks)


def _filled(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column without gaps: what a line does not say is nought, or empty."""
    if pa.types.is_list(kind):
        empty = pa.scalar([], kind)
    else:
        empty = pa.scalar("" if kind in (_REPEATING, pa.string()) else 0, pa.string() if kind == _REPEATING else kind)
    filled = pc.if_else(pc.is_valid(column), column, empty) if column.null_count else column
    return filled.dictionary_encode().cast(kind) if kind == _REPEATING else filled


Chunks: TypeAlias = Callable[[str], Iterator[pa.Array]]
"""Gives a column of the schema, piece by piece."""

ROWS = 100_000
"""How much of a column is read at once."""


def read_parquet(path: Path) -> Requests:
    """The requests of a file, in order; its columns one after the other, so that little is held twice."""
    try:
        return _read_columns(path)
    except (pa.ArrowException, IndexError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _read_columns(path: Path) -> Requests:
    with pq.ParquetFile(path) as file:
        if missing := [name for name in SCHEMA.names if name not in file.schema_arrow.names]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if strange := [field.name for field in SCHEMA if not _is_like(file.schema_arrow.field(field.name).type, field.type)]:
            raise ValueError(f"{strange[0]} is of another type")
        if file.metadata.num_rows > ROWS_OF_ANY_FILE + path.stat().st_size:
            raise ValueError(f"it says that it holds {file.metadata.num_rows:,} requests, more than it has room for")
        return _requests(
            file.metadata.num_rows,
            lambda name: (_whole(batch.column(0)) for batch in file.iter_batches(ROWS, columns=[name], use_threads=False)),
        )


def _is_like(found: pa.DataType, asked: pa.DataType) -> bool:
    """Whether it is the type; what the items of a list are called makes no difference."""
    if pa.types.is_list(asked) and pa.types.is_list(found):
        return bool(found.value_type == asked.value_type)
    return bool(found == asked)


def _whole(chunk: pa.Array) -> pa.Array:
    """The same, unless something in it is missing."""
    holes = chunk.null_count + (chunk.flatten().null_count if pa.types.is_list(chunk.type) else 0)
    if pa.types.is_dictionary(chunk.type):
        holes += chunk.dictionary.null_count
    if holes:
        raise ValueError("not every row is whole")
    return chunk


def _are_moments(times: NDArray[Any]) -> bool:
    return bool((np.abs(times) < LATEST).all())


def read_tables(tables: Iterable[pa.Table]) -> Requests:
    """The requests of some tables of the schema, in order."""
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    return _requests(table.num_rows, lambda name: iter(table[name].chunks))


def _requests(size: int, chunks: Chunks) -> Requests:
    times = {name: _joined(size, np.dtype(np.float64), map(_numbers, chunks(name))) for name in _TIMES}
    if strange := [name for name, column in times.items() if not _are_moments(column)]:
        raise ValueError(f"not every {strange[0]} is a moment")
    order = np.lexsort((times["end"], times["start"], times["due"]))
    places = np.empty(size, dtype=np.intp)
    places[order] = np.arange(size)

    def column(name: str, kind: DTypeLike, values: Callable[[pa.Array], NDArray[Any]]) -> NDArray[Any]:
        return _joined(size, np.dtype(kind), map(values, chunks(name)), places)

    journeys, markings, errors = Places(), Places(), Places()
    longest = max((pc.max(pc.binary_length(chunk)).as_py() or 1 for chunk in chunks("trace")), default=1)
    longest = min(longest, LONGEST_TRACE)
    return Requests(
        due=times.pop("due")[order],
        start=times.pop("start")[order],
        end=times.pop("end")[order],
        journey=column("journey", np.int32, partial(_coded, journeys.place)),
        outcome=column("outcome", np.uint8, partial(_coded, lambda word: CODES.get(word, OTHER))),
        status=column("status", np.uint16, _numbers),
        bytes=column("bytes", np.int64, _numbers),
        marks=column("marks", np.int32, lambda chunk: _coded(markings.place, _joined_words(chunk), _parted)),
        error=column("error", np.int32, partial(_coded, errors.place)),
        trace=column("trace", f"S{longest}", partial(_traces, longest)),
        journeys=journeys.words,
        markings=markings.words,
        errors=errors.words,
    )


def _joined(
    size: int, kind: np.dtype[Any], chunks: Iterable[NDArray[Any]], places: NDArray[np.intp] | None = None
) -> NDArray[Any]:
    """Pieces as one array: each value in its place, or as they come."""
    found = np.empty(size, dtype=kind)
    first = 0
    for chunk in chunks:
        stretch = slice(first, first + len(chunk))
        found[stretch if places is None else places[stretch]] = chunk
        first += len(chunk)
    return found


def _numbers(chunk: pa.Array) -> NDArray[Any]:
    found: NDArray[Any] = chunk.to_numpy(zero_copy_only=False)
    return found


def _coded(place: Callable[[Any], int], chunk: pa.DictionaryArray, meaning: Callable[[str], Any] = str) -> NDArray[np.int64]:
    """The places of the words of a column."""
    known = np.array([place(meaning(word)) for word in chunk.dictionary.to_pylist()] or [0], dtype=np.int64)
    found: NDArray[np.int64] = known[chunk.indices.to_numpy(zero_copy_only=False)]
    return found


def _joined_words(chunk: pa.ListArray) -> pa.DictionaryArray:
    return pc.binary_join(chunk, "\n").dictionary_encode()


def _parted(joined: str) -> tuple[str, ...]:
    return tuple(joined.split("\n")) if joined else ()


def _traces(longest: int, chunk: pa.StringArray) -> NDArray[np.bytes_]:
    """As bytes of one length, which most are anyway."""
    if not pc.all(pc.string_is_ascii(chunk)).as_py():
        return np.array([trace.encode("ascii", "replace") for trace in chunk.to_pylist()], dtype=f"S{longest}")
    even = pc.utf8_rpad(pc.utf8_slice_codeunits(chunk, 0, longest), longest, "\0").cast(pa.binary(longest))
    return np.frombuffer(even.buffers()[1], dtype=f"S{longest}")[even.offset : even.offset + len(even)]


def tables_of(requests: Requests, rows: int = ROWS) -> Iterable[pa.Table]:
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
