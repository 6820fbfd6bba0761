"""A run's requests for other programs: every format holds the same rows, and each row says where it belongs."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import harness.history as api
from harness.cli import commands
from harness.errors import InvalidInput, UnreadableRun
from harness.history.events import LoadBegan, PhaseBegan, PhaseEnded
from harness.history.export import EXPORTED, FORMATS, exported, write_export
from harness.history.history import History
from harness.history.requests import Request
from tests.histories.building import Story, tell, write_run

PLAN: dict[str, Any] = {
    "experiment": {"system": {"journeys": {"browse": "GET /catalog", "order": {"request": "POST /orders"}}}}
}
EVENTS = [
    LoadBegan(100.0, 80.0, 480),
    PhaseBegan(100.0, "warmup"),
    PhaseEnded(110.0, "warmup"),
    PhaseBegan(110.0, "baseline"),
    PhaseEnded(120.0, "baseline"),
]


def at(due: float, end: float = 0.0, journey: str = "GET /catalog", **more: Any) -> Request:
    return Request(journey, due, due, end or due + 0.5, "ok", **more)


def rows(*requests: Request) -> list[dict[str, Any]]:
    return pa.concat_tables(exported(History(PLAN, EVENTS, requests))).to_pylist()


def run_export(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["export", *arguments])


def test_a_row_says_which_journey_in_which_phase_and_how_long_after_the_begin_of_the_load() -> None:
    (row,) = rows(at(112.0, 112.25, status=200, bytes=7, marks=("a", "b"), trace="7f"))

    assert row == {
        "journey": "browse",
        "request": "GET /catalog",
        "phase": "baseline",
        "round": 1,
        "elapsed": 12.0,
        "latency": 0.25,
        "straddles": False,
        "due": 112.0,
        "start": 112.0,
        "end": 112.25,
        "outcome": "ok",
        "status": 200,
        "bytes": 7,
        "marks": ["a", "b"],
        "trace": "7f",
        "error": "",
    }


def test_a_journey_may_say_more_than_its_request_and_one_that_nobody_named_keeps_its_own_name() -> None:
    assert [row["journey"] for row in rows(at(111.0, journey="POST /orders"), at(112.0, journey="GET /other"))] == [
        "order",
        "GET /other",
    ]


@pytest.mark.parametrize(
    ("due", "end", "phase", "straddles"),
    [
        (100.0, 100.5, "warmup", False),
        (109.9, 110.0, "warmup", True),
        (109.9, 119.0, "warmup", True),
        (110.0, 110.5, "baseline", False),
        (119.9, 125.0, "baseline", True),
        (99.0, 125.0, None, False),
        (120.0, 125.0, None, False),
    ],
)
def test_a_request_belongs_to_the_phase_it_was_due_in_and_straddles_where_that_was_over_before_it_was(
    due: float, end: float, phase: str | None, straddles: bool
) -> None:
    (row,) = rows(at(due, end))

    assert (row["phase"], row["straddles"]) == (phase, straddles)
    assert (row["round"] is None) == (phase is None)


def test_what_was_due_in_a_later_round_says_so() -> None:
    events = [*EVENTS, PhaseBegan(150.0, "baseline", 2), PhaseEnded(160.0, "baseline", 2)]

    found = pa.concat_tables(exported(History(PLAN, events, [at(115.0), at(130.0), at(155.0)]))).to_pylist()

    assert [(row["phase"], row["round"]) for row in found] == [("baseline", 1), (None, None), ("baseline", 2)]


def test_a_run_that_recorded_no_phase_and_no_journeys_is_exported_all_the_same() -> None:
    (table,) = exported(History({}, (), [at(5.0)]))

    assert [(row["journey"], row["phase"], row["straddles"]) for row in table.to_pylist()] == [("GET /catalog", None, False)]


def read_as(kind: str, data: bytes) -> list[dict[str, Any]]:
    """The rows of a file, as text where the format has no types."""
    if kind == "parquet":
        table = pq.read_table(io.BytesIO(data))
        assert table.schema.equals(EXPORTED)
        return list(table.to_pylist())
    if kind == "jsonl":
        return [json.loads(line) for line in data.decode().splitlines()]
    return list(csv.DictReader(io.StringIO(data.decode())))


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    """A row as CSV has it, its numbers as numbers."""
    words = {**row, "marks": ";".join(row["marks"]), "straddles": str(row["straddles"]).lower()}
    return {name: "" if value is None else value for name, value in words.items()}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_holds_every_request(kind: Any) -> None:
    strange = 'he said "no", and\nleft; größer'
    history = History(PLAN, EVENTS, [*tell(Story(rate=20.0)).requests, at(111.1, error=strange, marks=("a", "ü"))])
    file = io.BytesIO()
    expected = [row for table in exported(history) for row in table.to_pylist()]

    write_export(history, kind, file)

    found = read_as(kind, file.getvalue())
    if kind == "csv":
        numbers = {field.name for field in EXPORTED if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)}
        found = [{name: float(value) if name in numbers and value else value for name, value in row.items()} for row in found]
        expected = [as_text(row) for row in expected]
    assert len(found) == len(history.requests)
    assert found == expected
    assert strange in [row["error"] for row in found]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_run_without_a_request_is_a_file_without_a_row(kind: Any) -> None:
    file = io.BytesIO()

    write_export(History(PLAN, EVENTS, ()), kind, file)

    assert read_as(kind, file.getvalue()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_the_command_writes_to_standard_output_or_into_a_file(kind: str, tmp_path: Path) -> None:
    run = write_run(Story(rate=20.0), tmp_path / "run")
    target = tmp_path / f"requests.{kind}"

    printed = run_export(str(run), "--format", kind)
    written = run_export(str(run), "--format", kind, "--output", str(target))

    assert (printed.exit_code, written.exit_code, written.stdout_bytes) == (0, 0, b"")
    assert printed.stdout_bytes == target.read_bytes()
    assert len(read_as(kind, target.read_bytes())) == 1300
    assert {path.name for path in tmp_path.iterdir()} == {"run", target.name}


def test_parquet_is_not_put_on_a_terminal(tmp_path: Path) -> None:
    run = write_run(Story(rate=20.0), tmp_path / "run")
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "export", str(run), "--format", "parquet"],
            stdout=theirs,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(theirs)
        os.close(ours)

    assert done.returncode == 2
    assert b"Parquet is binary" in done.stderr


@pytest.mark.parametrize("kind", FORMATS)
def test_whoever_reads_no_further_ends_the_export_and_that_is_no_failure(kind: str, tmp_path: Path) -> None:
    run = write_run(Story(rate=120.0), tmp_path / "run")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "export", str(run), "--format", kind],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (0, b"")


def test_what_is_no_run_and_where_nothing_can_be_written_is_said_so(tmp_path: Path) -> None:
    run = write_run(Story(rate=20.0), tmp_path / "run")

    assert isinstance(run_export(str(tmp_path), "--format", "csv").exception, UnreadableRun)
    assert isinstance(run_export(str(run), "--format", "csv", "--output", str(tmp_path / "no" / "x")).exception, InvalidInput)
    assert run_export(str(run), "--format", "xml").exit_code == 2


@pytest.mark.parametrize("name", ["requests.jsonl", "requests.parquet", "events.jsonl", "mine.csv"])
def test_nothing_is_written_into_the_folder_of_the_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(Story(rate=20.0), tmp_path / "run")
    (tmp_path / "latest").symlink_to("run")
    files = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    monkeypatch.chdir(run)

    for output in (str(run / name), str(tmp_path / "latest" / name), name):
        refused = run_export(str(tmp_path / "latest"), "--format", "jsonl", "--output", output).exception
        assert isinstance(refused, InvalidInput)
        assert "expected a file outside of the run's folder" in str(refused)
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == files


def test_everything_that_is_promised_is_there(tmp_path: Path) -> None:
    history = api.read_history(str(write_run(Story(rate=20.0), tmp_path / "run")))

    assert all(getattr(api, name) is not None for name in api.__all__)
    assert isinstance(history, api.History)
    assert isinstance(history.requests, api.Requests)
    assert isinstance(history.requests[0], api.Request)
    assert isinstance(history.phases["fault"], api.Window)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        api.nothing_like_it  # noqa: B018


def test_the_load_process_and_the_guardian_do_not_import_the_columns() -> None:
    code = "import sys, harness.history.requests, harness.runtime.load.ledger; print({'pyarrow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
