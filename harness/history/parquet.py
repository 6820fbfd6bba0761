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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from harness.history.requests import OUTCOMES
from harness.history.table import OTHER, Requests, Words

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

PART_BYTES = 4 << 20
"""How much of the lines is read at once: what it costs in memory does not grow with a run."""


def write_parquet(lines: Path, target: Path) -> int:
    """Make the file out of the load's lines, and return how many requests it holds; it is there only when complete.

    A last line that was cut off is left out. Raises ValueError where another line is none of ours.
    """
    draft = target.with_name(target.name + ".part")
    written = 0
    with pq.ParquetWriter(draft, SCHEMA, compression="zstd") as writer:
        for batch in _batches(lines):
            writer.write_batch(batch)
            written += batch.num_rows
    draft.replace(target)
    return written


def _batches(lines: Path) -> Iterator[pa.RecordBatch]:
    for part in _whole_lines(lines):
        try:
            table = pyarrow.json.read_json(
                io.BytesIO(part),
                read_options=pyarrow.json.ReadOptions(block_size=2 * PART_BYTES),
                parse_options=pyarrow.json.ParseOptions(explicit_schema=_LINES, unexpected_field_behavior="ignore"),
            )
        except pa.ArrowInvalid as error:
            raise ValueError(f"{lines}: expected a request on each line, found something else ({error})") from error
        table = table.filter(pc.is_valid(table["journey"]))
        yield from (
            pa.table([_filled(table[field.name], field.type) for field in SCHEMA], schema=SCHEMA).combine_chunks().to_batches()
        )


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The file in parts that end with a line's end."""
    rest = b""
    with path.open("rb") as file:
        while more := file.read(PART_BYTES):
            whole, newline, rest = (rest + more).rpartition(b"\n")
            if newline:
                yield whole + newline


def _filled(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column without gaps: what a line does not say is nought, or empty."""
    if pa.types.is_list(kind):
        empty = pa.scalar([], kind)
    else:
        empty = pa.scalar("" if kind in (_REPEATING, pa.string()) else 0, pa.string() if kind == _REPEATING else kind)
    filled = pc.if_else(pc.is_valid(column), column, empty) if column.null_count else column
    return filled.dictionary_encode().cast(kind) if kind == _REPEATING else filled


def read_parquet(path: Path) -> Requests:
    """The requests of a file, in the order in which they were due."""
    table = pq.read_table(path, schema=SCHEMA)
    due = table["due"].to_numpy()
    order = np.argsort(due, kind="stable")
    journey, journeys = _coded(table["journey"])
    error, errors = _coded(table["error"])
    marks, markings = _marks(table["marks"])
    outcome, names = _coded(table["outcome"])
    known = np.array([OUTCOMES.index(name) if name in OUTCOMES else OTHER for name in names] or [OTHER], dtype=np.uint8)
    return Requests(
        due=due[order],
        start=table["start"].to_numpy()[order],
        end=table["end"].to_numpy()[order],
        journey=journey[order],
        outcome=known[outcome][order],
        status=table["status"].to_numpy()[order],
        bytes=table["bytes"].to_numpy()[order],
        marks=marks[order],
        error=error[order],
        trace=_traces(table["trace"])[order],
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
