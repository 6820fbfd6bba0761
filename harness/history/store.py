"""A run's folder: written as things happen, so that a run killed at any moment leaves what it saw.

`plan.json` is there before anything is started. Events and samples are appended, one JSON object a line,
each with one write; `requests.jsonl` is written by the load process itself (`requests-….jsonl` where it is several).
When the run is over its requests are put into `requests.parquet`, and what it wrote about itself into `load.jsonl`.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

from harness.errors import CannotRecord, UnreadableRun
from harness.history.drafts import draft_of
from harness.history.events import CounterRead, EdgeSeen, Event, InvariantAsked, MachineSeen, event_from_data, event_to_data
from harness.history.lines import object_in
from harness.history.parquet import parts_of, read_parquet, read_tables, write_parquet
from harness.history.shapes import Misfit, is_number
from harness.history.table import Requests

PLAN = "plan.json"
EVENTS = "events.jsonl"
SAMPLES = "samples.jsonl"
REQUESTS = "requests.jsonl"
RECORDS = re.compile(r"requests(-\d+)?\.jsonl")
PARQUET = "requests.parquet"
NOTES = "load.jsonl"
UNDO = "undo.jsonl"
VERDICT = "verdict.json"
LOGS = "logs"

MAKE_ROOM = "make room there, and run it again"

OVER = ("RunEnded", "GuardianActed")
MEASURED = ("finished", "vitals")

LARGEST_PLAN = 32 << 20
LONGEST_LINE = 8 << 20
"""Bytes: no event is longer."""


def append_line(descriptor: int, data: dict[str, Any]) -> None:
    """Append one line with one write, so that no reader and no other writer sees half of it.

    Raises CannotRecord; half a line may be there then.
    """
    try:
        write_whole(descriptor, _line(data))
    except OSError as error:
        raise CannotRecord(f"expected to write to the run's folder, found: {error}; {MAKE_ROOM}") from error


def _line(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "backslashreplace")


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of it with one write; raises OSError also where a disk that is full took a part."""
    written = os.write(descriptor, data)
    if written < len(data):
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {written} of {len(data)} bytes were taken")


def make_private_folder(path: Path) -> None:
    """Make a folder, and those that it is to be in where there are none, for its owner alone."""
    for folder in reversed((path, *path.parents)):
        if not folder.exists():
            folder.mkdir(exist_ok=True, mode=0o700)


class RunFolder:
    """Writes a run's folder. Every method leaves the folder readable.

    What cannot be written, such as where the disk is full, is no reason to leave a fault on: it is kept, `check` raises,
    and `close` tries again, or tells it. What comes after that, from a thread that nobody waited for, is dropped: its file may
    be another run's by then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_private_folder(path / LOGS)
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._events = os.open(path / EVENTS, flags, 0o600)
        self._samples = os.open(path / SAMPLES, flags, 0o600)
        self._open = Lock()
        self.is_closed = False
        self._failure: CannotRecord | None = None
        self._unwritten: list[dict[str, Any]] = []
        self._samples_lost = 0

    def write(self, name: str, text: str) -> Path:
        """Write a whole file, visible only when complete."""
        target = self.path / name
        try:
            with (
                draft_of(target) as draft,
                open(os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file,
            ):
                file.write(text)
        except OSError as error:
            raise CannotRecord(f"{target}: expected a file that can be written, found: {error}; {MAKE_ROOM}") from error
        return target

    def record(self, event: Event) -> None:
        """Append an event, or a sample to the file of samples; raises nothing, since whoever tells has more to do."""
        is_sample, data = isinstance(event, EdgeSeen | CounterRead | InvariantAsked | MachineSeen), event_to_data(event)
        with self._open:
            if not self.is_closed:
                self._write_line(data, is_sample=is_sample)

    def _write_line(self, data: dict[str, Any], *, is_sample: bool) -> None:
        try:
            self._append(self._samples if is_sample else self._events, data)
        except CannotRecord as failure:
            self._failure = self._failure or failure
            if is_sample:
                self._samples_lost += 1
            else:
                self._unwritten.append(data)

    def check(self) -> None:
        """Raise CannotRecord where something could not be written."""
        if self._failure is not None:
            raise self._failure

    def _append(self, descriptor: int, data: dict[str, Any]) -> None:
        """On a line of its own: where one could not be written, half of it may be there."""
        if self._failure is not None:
            with suppress(OSError):
                os.write(descriptor, b"\n")
        append_line(descriptor, data)

    def log_file(self, service: str) -> Path:
        """Where a service's output goes."""
        return self.path / LOGS / f"{service}.log"

    def close(self) -> None:
        """No more is written. Raises CannotRecord with all events that could not be written, not even now."""
        with self._open:
            if self.is_closed:
                return
            self.is_closed = True
            try:
                self._write_what_was_kept()
            finally:
                os.close(self._events)
                os.close(self._samples)

    def _write_what_was_kept(self) -> None:
        try:
            while self._unwritten:
                self._append(self._events, self._unwritten[0])
                del self._unwritten[0]
        except CannotRecord as failure:
            told = "".join(f"\n    {_line(data).decode().rstrip()}" for data in self._unwritten)
            lost = f" (and {self._samples_lost} samples)" if self._samples_lost else ""
            raise CannotRecord(f"{self.path}: {failure}; what could not be written{lost}:{told}") from failure


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of a file; a last line that was cut off is left out, as is a line that is no JSON object."""
    return (data for _, data in numbered_lines(path))


def numbered_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same, each with its number in the file."""
    if not path.exists():
        return
    if not path.is_file():  # a pipe would be waited for, and a device never ends
        raise UnreadableRun(f"{path}: expected a file, found something else")
    with path.open("rb") as file:
        for number, line in enumerate(_whole_lines(file), 1):
            data = object_in(line)
            if data is not None:
                yield number, data


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends; one that nobody wrote, for it is longer than any, counts as empty."""
    while line := file.readline(LONGEST_LINE):
        if not line.endswith(b"\n"):
            if len(line) < LONGEST_LINE:
                return
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            line = b"\n"
        yield line


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan that a run's folder begins with."""
    path = folder / PLAN
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:  # no folder can have such a name, or nobody may look into it
        raise UnreadableRun(f"{folder}: expected the folder of a run, could not look into it: {error.strerror}") from error
    if size is None:
        raise UnreadableRun(f"{folder}: expected the folder of a run, with {PLAN} in it; found none")
    if size > LARGEST_PLAN:
        raise UnreadableRun(f"{path}: expected a plan of at most {LARGEST_PLAN:,} bytes, found {size:,}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableRun(f"{path}: expected JSON, found something else ({error})") from error
    if not isinstance(data, dict) or "experiment" not in data:
        raise UnreadableRun(f"{path}: expected a plan with its experiment, found none")
    return data


def read_events(folder: Path) -> tuple[Event, ...]:
    """Everything that was recorded, events and samples, in the order of their times."""
    found = []
    for name in (EVENTS, SAMPLES):
        for number, data in numbered_lines(folder / name):
            try:
                event = event_from_data(data)
            except Misfit as misfit:
                raise UnreadableRun(f"{folder / name}:{number}: {misfit}") from misfit
            if event is not None:
                found.append(event)
    return tuple(sorted(found, key=lambda event: event.at))


class Records(NamedTuple):
    """What the load process left: the requests, what it said of itself, and how many lines are neither."""

    requests: Requests
    notes: tuple[dict[str, Any], ...] = ()
    unread: int = 0


def record_files(folder: Path) -> list[Path]:
    """The files that the load's processes append to: one, or one for each of several."""
    return sorted(path for path in folder.glob("requests*.jsonl") if RECORDS.fullmatch(path.name))


def read_requests(folder: Path) -> Records:
    """What the load left, as lines or in columns; what is in several files is read as if it were in one."""
    files = record_files(folder)  # before it is asked whether they are packed: who has packed them takes them away
    if _is_packed(folder):
        return _packed(folder)
    if strange := _no_file_among(files):
        raise UnreadableRun(f"{folder}: expected the load's records, found: {strange} is no file")
    try:
        parts = list(parts_of(files))
    except FileNotFoundError:  # they were packed while they were read
        return _packed(folder)
    except OSError as error:
        raise UnreadableRun(f"{folder}: expected the load's records, found: {error}") from error
    return Records(read_tables(part.requests for part in parts), *_notes(line for part in parts for line in part.others))


def _no_file_among(files: Iterable[Path]) -> Path | None:
    """One that is something else: a pipe would be waited for, and a device never ends."""
    return next((path for path in files if path.exists() and not path.is_file()), None)


def _packed(folder: Path) -> Records:
    said = (folder / NOTES).read_bytes() if (folder / NOTES).is_file() else b""
    return Records(_columns(folder / PARQUET), *_notes(said.split(b"\n")))


def _columns(path: Path) -> Requests:
    try:
        return read_parquet(path)
    except (ValueError, KeyError, OSError) as error:
        raise UnreadableRun(f"{path}: expected a Parquet file of requests, found something else ({error})") from error


def _is_packed(folder: Path) -> bool:
    """The notes are written last: without them the columns may not be all there is, as long as there are lines."""
    return (folder / PARQUET).is_file() and ((folder / NOTES).is_file() or not record_files(folder))


def _notes(lines: Iterable[bytes]) -> tuple[tuple[dict[str, Any], ...], int]:
    """The notes among lines that are no request, and how many lines are none."""
    notes, unread = [], 0
    for line in filter(None, lines):
        data = object_in(line)
        if data is not None and _is_note(data):
            notes.append(data)
        else:
            unread += 1
    return tuple(sorted(notes, key=_told_at)), unread


def _is_note(data: dict[str, Any]) -> bool:
    """Whether it is something that the load said of itself, with numbers where it counted or measured."""
    kind = data.get("load")
    numbers = [value for key, value in data.items() if key == "at" or (kind in MEASURED and key != "load")]
    return isinstance(kind, str) and all(map(is_number, numbers))


def _told_at(note: dict[str, Any]) -> float:
    return float(note.get("at", 0.0))


def pack_requests(folder: Path) -> None:
    """Put the load's lines into columns, once the run is over; what is no request is kept as it is, beside them.

    Killed at any moment it leaves the lines, or all that was in them; and so do several who do it at a time.
    """
    files = record_files(folder)
    if not files or _no_file_among(files) or not is_over(folder):
        return
    if not _is_packed(folder):
        try:
            others = write_parquet(files, folder / PARQUET)
        except FileNotFoundError:  # somebody else has done it meanwhile
            return
        with draft_of(folder / NOTES) as draft:
            draft.write_bytes(b"".join(line + b"\n" for line in others))
    for path in files:
        path.unlink(missing_ok=True)


def is_over(folder: Path) -> bool:
    """Whether it was recorded that everything is down: until then the load may be writing."""
    return any(data.get("event") in OVER for data in read_lines(folder / EVENTS))
