"""Folders of runs: the plan, events, samples, requests in lines and in columns, notes of the load."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.experiment import judge_folder, read_run
from harness.history.export import exported
from harness.history.parquet import SCHEMA, parts_of
from harness.history.store import EVENTS, NOTES, PARQUET, PLAN, REQUESTS, SAMPLES, pack_requests, read_lines
from harness.judge.judge import judge
from harness.model.load import Phases
from harness.runtime.recorder import RequestTail
from tests.fuzz.mutating import NUMBERS, WORDS, json_lines, json_of, raw
from tests.fuzz.trying import Kind, Reader
from tests.histories.building import Story, fault, write_run

PHASES = Phases(warmup="1s", baseline="6s", fault="6s", recovery="6s", drain="5s")  # type: ignore[arg-type]

STORY = Story(rate=12.0, phases=PHASES, damage=(), asked=((0.5, 0.0, 480),))
"""Short, so that many can be read."""

FAULTY = replace(
    STORY,
    faults=(
        fault("outage", service="shipping", lasting="6s"),
        fault("latency", edge="order -> payment", latency="300ms", lasting="6s"),
        fault("pause", service="payment", at="1s", lasting="4s"),
    ),
)

TOLD_TOO = (
    {"event": "ServiceExited", "at": 1_790_000_010.0, "service": "order", "how": "exit code 1", "log": ["a", "b"]},
    {"event": "NameUnknown", "at": 1_790_000_010.1, "service": "order", "name": "ghost"},
    {"event": "EngineRestarted", "at": 1_790_000_010.2, "reason": "it hung", "seconds": 0.3, "back": True},
    {"event": "PhaseMoved", "at": 1_790_000_010.3, "phase": "fault", "seconds": 2.0, "reason": "void", "round": 1},
    {"event": "FaultRefused", "at": 1_790_000_010.4, "fault": "outage-1", "proxy": "order -> shipping", "reason": "no"},
    {"event": "RunHalted", "at": 1_790_000_010.5, "reason": "errors"},
    {"event": "RunInterrupted", "at": 1_790_000_010.6, "signal": "SIGINT"},
    {"event": "RunFailed", "at": 1_790_000_010.7, "reason": "no", "defect": False},
    {"event": "UndoFailed", "at": 1_790_000_010.8, "undo": "remove", "reason": "busy", "by": "guardian"},
    {"event": "GuardianActed", "at": 1_790_000_010.9, "undone": 3, "failed": 1},
)
"""Events that a run which went well does not have."""

REPORTED = 40
"""One in so many is reported too, which takes longest."""


class Folder:
    """The folder of a run, of which one file at a time is damaged."""

    def __init__(self, folder: Path, story: Story, *, packed: bool = False) -> None:
        self.path = folder / f"run-{len(list(folder.iterdir()))}"
        write_run(story, self.path)
        samples = (self.path / SAMPLES).read_bytes().splitlines(keepends=True)
        (self.path / SAMPLES).write_bytes(b"".join(samples[::5]))
        if packed:
            pack_requests(self.path)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What stands in a file of JSON lines."""
        return list(read_lines(self.path / name))

    def judged(self, random: Random) -> None:
        """What any command does that is given a run."""
        judge(read_run(self.path))
        if random.randrange(REPORTED) == 0:
            kept = {name: (self.path / name).read_bytes() for name in (REQUESTS, PARQUET, NOTES) if (self.path / name).exists()}
            try:
                judge_folder(self.path)
            finally:
                for name in (REQUESTS, PARQUET, NOTES):  # packing takes the lines away
                    (self.path / name).unlink(missing_ok=True)
                for name, content in kept.items():
                    (self.path / name).write_bytes(content)


def plans(folder: Path) -> Reader:
    runs = [Folder(folder, story, packed=True) for story in (STORY, FAULTY)]
    valid = [json.loads((run.path / PLAN).read_text()) for run in runs]

    def read(random: Random) -> None:
        which = random.randrange(len(runs))
        (runs[which].path / PLAN).write_bytes(json_of(random, valid[which]))
        runs[which].judged(random)

    return read


def lines_of(name: str, more: tuple[dict[str, Any], ...], folder: Path) -> Reader:
    runs = [Folder(folder, story, packed=True) for story in (STORY, FAULTY)]
    valid = [run.lines(name) for run in runs]

    def read(random: Random) -> None:
        which = random.randrange(len(runs))
        lines = [*valid[which], *random.sample(more, random.randint(0, 1))] if more else valid[which]
        (runs[which].path / name).write_bytes(json_lines(random, lines))
        runs[which].judged(random)

    return read


def records(folder: Path) -> Reader:
    run = Folder(folder, STORY)
    valid = run.lines(REQUESTS)
    whole = (run.path / REQUESTS).read_bytes()

    def read(random: Random) -> None:
        kept = random.sample(valid, 12)
        content = raw(random, whole) if random.random() < 0.1 else json_lines(random, kept)
        (run.path / REQUESTS).write_bytes(content)
        RequestTail(run.path / REQUESTS).new_requests()
        list(parts_of([run.path / REQUESTS]))
        run.judged(random)

    return read


def notes(folder: Path) -> Reader:
    run = Folder(folder, STORY, packed=True)
    valid = [
        *run.lines(NOTES),
        {"load": "vitals", "at": 1_790_000_009.0, "idle_users": 0, "cpu": 0.5, "users": 10},
        {"load": "failed", "at": 1_790_000_009.0, "why": "no"},
    ]

    def read(random: Random) -> None:
        (run.path / NOTES).write_bytes(json_lines(random, valid))
        run.judged(random)

    return read


def columns(folder: Path) -> Reader:
    run = Folder(folder, STORY, packed=True)
    path = run.path / PARQUET
    whole, table = path.read_bytes(), pq.read_table(path)

    def read(random: Random) -> None:
        if random.random() < 0.5:
            path.write_bytes(raw(random, whole))
        else:
            pq.write_table(_reshaped(random, table), path)
        history = read_run(run.path)
        list(exported(history))
        run.judged(random)

    return read


def _reshaped(random: Random, table: pa.Table) -> pa.Table:
    """A good Parquet file of something else."""
    if random.random() < 0.5:
        return _other_values(random, table)
    name = random.choice(SCHEMA.names)
    place = SCHEMA.get_field_index(name)
    strange = random.choice(STRANGE)(random, len(table))
    kind = random.random()
    if kind < 0.6:
        return table.set_column(place, name, strange)
    return table.drop_columns([name]) if kind < 0.8 else table.append_column(name, strange)


def _other_values(random: Random, table: pa.Table) -> pa.Table:
    """Some of the rows, of which one column holds other values of its type."""
    table = table.slice(random.randrange(len(table)), random.choice((0, 1, 30, 1000)))
    name = random.choice(SCHEMA.names)
    place, kind = SCHEMA.get_field_index(name), SCHEMA.field(name).type
    values: list[Any] = [random.choice(WORDS).encode("utf-8", "replace").decode() for _ in range(len(table))]
    if pa.types.is_floating(kind):
        values = [random.choice((0.0, 1e9, -5.0, 1.79e9, 1e10, 1_790_000_010.0)) for _ in values]
    elif pa.types.is_integer(kind):
        values = [random.choice((0, 1, 200, 65535)) for _ in values]
    elif pa.types.is_list(kind):
        values = [[value] * random.randint(0, 2) for value in values]
    return table.set_column(place, SCHEMA.field(name), pa.array(values).cast(kind) if values else table[name])


def _numbers(random: Random, rows: int) -> pa.Array:
    number = random.choice([number for number in NUMBERS if isinstance(number, float)])
    return pa.array([number] * rows, pa.float64())


STRANGE: tuple[Callable[[Random, int], pa.Array], ...] = (
    _numbers,
    lambda _random, rows: pa.nulls(rows),
    lambda _random, rows: pa.nulls(rows, pa.string()),
    lambda _random, rows: pa.nulls(rows, pa.list_(pa.string())),
    lambda _random, rows: pa.nulls(rows, pa.float64()),
    lambda _random, rows: pa.array([None, *["a"] * (rows - 1)]).dictionary_encode(),
    lambda _random, rows: pa.array(["a"] * rows),
    lambda _random, rows: pa.array(["ä" * 500] * rows),
    lambda _random, rows: pa.array([b"\xff"] * rows, pa.binary()),
    lambda _random, rows: pa.array([["a", None]] * rows),
    lambda _random, rows: pa.array([["a\nb", ""]] * rows),
    lambda _random, rows: pa.array([-1] * rows, pa.int32()),
    lambda _random, rows: pa.array([2**63] * rows, pa.uint64()),
    lambda _random, rows: pa.array([True] * rows),
    lambda _random, rows: pa.array([{"a": 1}] * rows),
)


RUNS = (
    Kind("plan.json", plans),
    Kind("events.jsonl", partial(lines_of, EVENTS, TOLD_TOO)),
    Kind("samples.jsonl", partial(lines_of, SAMPLES, ())),
    Kind("requests.jsonl", records),
    Kind("requests.parquet", columns),
    Kind("load.jsonl", notes),
)
