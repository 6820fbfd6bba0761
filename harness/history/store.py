"""A run's folder: written as things happen, so that a run killed at any moment leaves what it saw.

`plan.json` is there before anything is started. Events and samples are appended, one JSON object a line,
each with one write; `requests.jsonl` is written by the load process itself. When the load is over its requests are put
into `requests.parquet`, and what it wrote about itself into `load.jsonl`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UnreadableRun
from harness.history.events import CounterRead, EdgeSeen, Event, InvariantAsked, MachineSeen, event_from_data, event_to_data
from harness.history.parquet import read_parquet, write_parquet
from harness.history.requests import request_from_data
from harness.history.table import Requests, requests_of

PLAN = "plan.json"
EVENTS = "events.jsonl"
SAMPLES = "samples.jsonl"
REQUESTS = "requests.jsonl"
PARQUET = "requests.parquet"
NOTES = "load.jsonl"
UNDO = "undo.jsonl"
VERDICT = "verdict.json"
LOGS = "logs"


def append_line(descriptor: int, data: dict[str, Any]) -> None:
    """Append one line with one write, so that no reader and no other writer sees half of it."""
    os.write(
        descriptor, (json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "backslashreplace")
    )


class RunFolder:
    """Writes a run's folder. Every method leaves the folder readable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        (path / LOGS).mkdir(exist_ok=True, mode=0o700)
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
        self._events = os.open(path / EVENTS, flags, 0o600)
        self._samples = os.open(path / SAMPLES, flags, 0o600)

    def write(self, name: str, text: str) -> Path:
        """Write a whole file, visible only when complete."""
        target = self.path / name
        draft = target.with_name(target.name + ".part")
        with open(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(target)
        return target

    def record(self, event: Event) -> None:
        """Append an event, or a sample to the file of samples."""
        is_sample = isinstance(event, EdgeSeen | CounterRead | InvariantAsked | MachineSeen)
        append_line(self._samples if is_sample else self._events, event_to_data(event))

    def log_file(self, service: str) -> Path:
        """Where a service's output goes."""
        return self.path / LOGS / f"{service}.log"

    def close(self) -> None:
        """No more is written."""
        os.close(self._events)
        os.close(self._samples)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of a file; a last line that was cut off is left out, as is a line that is no JSON object."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                data = json.loads(line)
            except ValueError:
                continue
            if isinstance(data, dict):
                yield data


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan that a run's folder begins with."""
    path = folder / PLAN
    if not path.is_file():
        raise UnreadableRun(f"{folder}: expected the folder of a run, with {PLAN} in it; found none")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnreadableRun(f"{path}: expected JSON, found something else ({error})") from error
    if not isinstance(data, dict) or "experiment" not in data:
        raise UnreadableRun(f"{path}: expected a plan with its experiment, found none")
    return data


def read_events(folder: Path) -> tuple[Event, ...]:
    """Everything that was recorded, events and samples, in the order of their times."""
    found = []
    for name in (EVENTS, SAMPLES):
        for data in read_lines(folder / name):
            event = event_from_data(data)
            if event is not None:
                found.append(event)
    return tuple(sorted(found, key=lambda event: event.at))


def read_requests(folder: Path) -> tuple[Requests, tuple[dict[str, Any], ...]]:
    """The requests in the order they were due, and the other lines the load process wrote about itself."""
    if not (folder / REQUESTS).exists() and (folder / PARQUET).exists():
        return read_parquet(folder / PARQUET), tuple(read_lines(folder / NOTES))
    requests, notes = [], []
    for data in read_lines(folder / REQUESTS):
        if "journey" in data:
            requests.append(request_from_data(data))
        else:
            notes.append(data)
    return requests_of(requests), tuple(notes)


def pack_requests(folder: Path) -> None:
    """Put the load's lines, where there are any, into columns. Lines that are none of ours stay as they are."""
    lines = folder / REQUESTS
    if not lines.exists():
        return
    try:
        write_parquet(lines, folder / PARQUET)
    except ValueError:
        return
    with (folder / NOTES).open("wb") as notes:
        notes.writelines(line for line in _whole(lines) if line.startswith(NOTE))
    lines.unlink()


NOTE = b'{"load"'
"""What a line begins with by which the load process tells of itself."""


def _whole(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))
