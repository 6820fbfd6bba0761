"""Folders of runs that were damaged, or made up: refused with the file and the line, or judged for what is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import UnreadableRun
from harness.experiment import judge_folder, read_run
from harness.history.events import KINDS, EdgeSeen, PhaseBegan, event_from_data
from harness.history.history import read_history
from harness.history.parquet import PART_BYTES, SCHEMA, read_parquet
from harness.history.shapes import Misfit
from harness.history.store import EVENTS, NOTES, PARQUET, PLAN, REQUESTS, SAMPLES, pack_requests, read_events, read_requests
from harness.runtime.recorder import RequestTail
from tests.fuzz.runs import FAULTY, STORY
from tests.fuzz.trying import MOST_MEMORY
from tests.histories.building import write_run

LINE = b'{"journey":"GET /","due":1.0,"start":1.0,"end":2.0,"outcome":"ok"}\n'
IN_TIME = b'{"journey":"GET /","due":1790000010.0,"start":1790000010.0,"end":1790000011.0,"outcome":"ok"}\n'
DEEP = b'{"a":' * 100_000


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(STORY, tmp_path / "run")


def put(path: Path, *lines: Any) -> None:
    with path.open("ab") as file:
        file.writelines(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"event": "PhaseBegan", "at": 1.0}, "expected PhaseBegan with phase, found none"),
        ({"event": "PhaseBegan", "at": "now", "phase": "fault"}, "expected PhaseBegan with another at, found 'now'"),
        ({"event": "PhaseBegan", "at": None, "phase": "fault"}, "expected PhaseBegan with another at, found None"),
        ({"event": "PhaseBegan", "at": True, "phase": "fault"}, "expected PhaseBegan with another at, found True"),
        ({"event": "PhaseBegan", "at": float("nan"), "phase": "fault"}, "expected PhaseBegan with another at, found nan"),
        ({"event": "PhaseBegan", "at": -1, "phase": "fault"}, "expected PhaseBegan with another at, found -1"),
        ({"event": "RunEnded", "at": 1e14}, "expected RunEnded with another at, found 1e+14"),
        (
            {"event": "MachineSeen", "at": 1.0, "cores": 0}
            | dict.fromkeys(("harness", "proxies", "load", "system", "others", "load_average"), 0.1),
            "expected MachineSeen with another cores, found 0",
        ),
        ({"event": "PhaseBegan", "at": 10**400, "phase": "fault"}, "another at, found a number beyond all bounds"),
        ({"event": "PhaseBegan", "at": 1.0, "phase": ["fault"]}, "expected PhaseBegan with another phase, found a list of 1"),
        ({"event": "ServiceExited", "at": 1.0, "service": "a", "how": "b", "log": [1]}, "with another log, found a list of 1"),
    ],
)
def test_an_event_that_is_none_of_its_kind_is_refused_with_its_line(run: Path, event: dict[str, Any], told: str) -> None:
    number = len((run / EVENTS).read_bytes().splitlines()) + 1
    put(run / EVENTS, event)

    with pytest.raises(UnreadableRun) as refused:
        read_run(run)

    assert str(refused.value).startswith(f"{run / EVENTS}:{number}: ")
    assert told in str(refused.value)


def test_a_sample_that_is_none_is_refused_with_its_line(run: Path) -> None:
    (run / SAMPLES).write_text('{"event":"EdgeSeen","at":1.0,"proxy":{}}\n')

    with pytest.raises(UnreadableRun, match=r"samples\.jsonl:1: expected EdgeSeen with another proxy, found a dict of 0"):
        read_run(run)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_event_knows_the_types_of_its_fields(kind: str) -> None:
    with pytest.raises(Misfit, match=f"expected {kind} with at, found none"):
        event_from_data({"event": kind})


def test_what_may_be_missing_is_filled_in_and_lists_become_tuples() -> None:
    seen = event_from_data(
        {"event": "EdgeSeen", "at": 1, "proxy": "a", "accepted": 0, "refused": None, "cut": None, "open": None,
         "bytes_up": 1, "bytes_down": 2, "answers": {"200": 1}, "colour": "red"}
    )  # fmt: skip

    assert seen == EdgeSeen(1.0, "a", 0, None, None, None, 1, 2, answers={"200": 1})


@pytest.mark.parametrize("fault", ["pause-1", "nobody"])
@pytest.mark.parametrize("proxy", ["order -> shipping", "nobody -> nowhere", ""])
def test_a_fault_of_a_kind_that_nobody_knows_is_told_by_its_word(tmp_path: Path, fault: str, proxy: str) -> None:
    run = write_run(FAULTY, tmp_path / "run")
    when = {"at": 1790000010.0, "asked_at": 1790000010.0}
    told = {"fault": fault, "kind": "teleport", "proxy": proxy, "service": "payment", "asked": {}, "found": {}}
    put(run / EVENTS, {"event": "FaultBegan", **when, **told})

    judge_folder(run)

    assert "teleport" in (run / "report.html").read_text()


LATE = ["PhaseBegan", "PhaseEnded"]


@pytest.mark.parametrize("at", [0.0, 1.6e9, 1.8e9, 1e10])
@pytest.mark.parametrize("kind", LATE)
def test_what_was_recorded_years_from_the_load_is_refused_and_not_judged_second_by_second(
    run: Path, kind: str, at: float
) -> None:
    put(run / EVENTS, {"event": kind, "at": at, "phase": "fault"})

    with pytest.raises(UnreadableRun, match=f"in one run, found {kind} [-+][0-9,]+ s from the begin of its load"):
        judge_folder(run)


@pytest.mark.parametrize("key", [b'"due":1790000010.0', b'"start":1790000010.0', b'"end":1790000011.0'])
def test_requests_of_another_year_are_refused(run: Path, key: bytes) -> None:
    put(run / REQUESTS, IN_TIME.replace(key, key.partition(b":")[0] + b":1990000010.0"))

    with pytest.raises(UnreadableRun, match="requests at other times"):
        judge_folder(run)


def test_what_is_undone_days_later_lengthens_nothing(run: Path) -> None:
    lines = [
        line
        for line in (run / EVENTS).read_bytes().splitlines(keepends=True)
        if b"PhaseEnded" not in line and b"Undo" not in line
    ]
    (run / EVENTS).write_bytes(b"".join(line for line in lines if b"RunEnded" not in line))
    before = read_run(run).ended

    put(
        run / EVENTS,
        {"event": "UndoDone", "at": before + 1e6, "undo": "end order"},
        {"event": "GuardianActed", "at": before + 1e6, "undone": 1, "failed": 0},
    )

    assert read_run(run).ended == before
    assert judge_folder(run).verdict.word != "passed"


@pytest.mark.parametrize(
    "state",
    [
        {"toxics": True},
        {"toxics": [5]},
        {"toxics": [{"name": "a", "type": "latency"}]},
        {"toxics": [{"name": "a", "type": "latency", "stream": "sideways"}]},
        {"toxics": [{"name": "a", "type": "latency", "stream": "upstream", "attributes": []}]},
        {"toxics": [{"name": "a", "type": "latency", "stream": "upstream", "attributes": {"latency": "long"}}]},
        {"toxics": [{"name": "a", "type": "latency", "stream": "upstream", "attributes": {"latency": -5}}]},
        {"toxics": [{"name": "a", "type": "latency", "stream": "upstream", "attributes": {}, "toxicity": None}]},
    ],
)
def test_a_state_that_no_proxy_can_be_in_is_refused(run: Path, state: dict[str, Any]) -> None:
    whole = {"event": "FaultBegan", "at": 1790000010.0, "asked_at": 1790000010.0, "fault": "a", "kind": "b", "proxy": "c"}
    put(run / EVENTS, {**whole, "asked": {"enabled": True}, "found": state})

    with pytest.raises(UnreadableRun, match="FaultBegan with another found, found toxics that are none"):
        read_run(run)


@pytest.mark.parametrize("name", [EVENTS, SAMPLES])
def test_half_a_character_in_an_event_is_shown_as_unknown(run: Path, name: str) -> None:
    put(run / name, b'{"event":"PhaseBegan","at":1790000010.0,"phase":"\\ud800 fault"}\n')

    assert PhaseBegan(1790000010.0, "? fault") in read_events(run)
    judge_folder(run)


@pytest.mark.parametrize("line", [DEEP + b"\n", b"x" * 9_000_000 + b"\n", b"\xff\n", b"[]\n", b"\0\n", b"\n"])
def test_a_line_that_is_no_object_is_left_out_and_the_next_is_read(run: Path, line: bytes) -> None:
    before = len(read_events(run))

    put(run / EVENTS, line, {"event": "PhaseBegan", "at": 1.0, "phase": "fault"})

    assert len(read_events(run)) == before + 1


@pytest.mark.parametrize("name", [EVENTS, SAMPLES])
@pytest.mark.parametrize("what", ["a pipe", "a device", "a folder"])
def test_what_is_no_file_is_neither_waited_for_nor_read(run: Path, name: str, what: str) -> None:
    (run / name).unlink()
    replace_by(what, run / name)

    with pytest.raises(UnreadableRun, match="expected a file, found something else"):
        read_run(run)


@pytest.mark.parametrize("what", ["a pipe", "a device", "a folder"])
def test_lines_that_are_no_file_are_told(run: Path, what: str) -> None:
    (run / REQUESTS).unlink()
    replace_by(what, run / REQUESTS)

    with pytest.raises(UnreadableRun, match=r"requests\.jsonl is no file"):
        judge_folder(run)


@pytest.mark.parametrize("name", [PARQUET, NOTES])
@pytest.mark.parametrize("what", ["a pipe", "a device", "a folder"])
def test_columns_that_are_no_file_are_none(run: Path, name: str, what: str) -> None:
    (run / REQUESTS).unlink()
    replace_by(what, run / name)

    assert len(read_run(run).requests) == 0
    assert judge_folder(run).verdict.word == "inconclusive"


def replace_by(what: str, path: Path) -> None:
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", DEEP, b'{"experiment":{}}', b'{"experiment":NaN}', b"1" * 5000])
def test_a_plan_that_is_none_is_refused(run: Path, content: bytes) -> None:
    (run / PLAN).write_bytes(content)

    with pytest.raises(UnreadableRun, match=r"plan\.json: expected"):
        read_run(run)


def test_a_plan_of_another_version_is_judged_as_long_as_what_is_judged_by_is_there(run: Path) -> None:
    plan = json.loads((run / PLAN).read_text())
    asked = next(seen for seen in plan["observations"] if seen["what"] == "invariant")
    asked["within"] = asked.pop("until")
    plan["load"].pop("seconds")
    plan["steps"][0]["colour"] = "red"
    before = judge_folder(run).verdict.word

    (run / PLAN).write_text(json.dumps(plan))

    assert judge_folder(run).verdict.word == before


def test_a_plan_too_large_to_be_one_is_refused_before_it_is_read(run: Path) -> None:
    with (run / PLAN).open("wb") as file:
        file.truncate(2**40)

    with pytest.raises(UnreadableRun, match=r"plan\.json: expected a plan of at most 33,554,432 bytes"):
        judge_folder(run)


def test_a_plan_whose_steps_are_none_is_refused_before_it_is_judged(run: Path) -> None:
    plan = json.loads((run / PLAN).read_text())
    (run / PLAN).write_text(json.dumps({**plan, "steps": [{"verb": "begin"}]}))

    with pytest.raises(UnreadableRun, match=r"plan\.json: expected a plan that this version can read"):
        judge_folder(run)


@pytest.mark.parametrize(
    "line",
    [
        DEEP,
        IN_TIME.replace(b'"ok"', b'"ok","marks":["\\ud800"]').rstrip(),
        IN_TIME.replace(b'"GET /"', b'{"\\ud800":1}').rstrip(),
        LINE.replace(b"1.0", b"1e300").rstrip(),
        LINE.replace(b'"ok"', b'"ok","status":99999').rstrip(),
        b'{"load":["vitals"],"at":1.0}',
        b'{"load":"vitals","at":"soon"}',
        b'{"load":"finished","at":1.0,"silent":[]}',
        b'{"load":"finished","at":1.0,"scheduled":' + b"9" * 400 + b"}",
        b'{"load":"vitals","at":NaN}',
    ],
)
def test_a_record_that_is_none_is_counted_or_mended_and_the_others_are_read(run: Path, line: bytes) -> None:
    before = read_requests(run)
    put(run / REQUESTS, line + b"\n")

    after = read_requests(run)

    assert len(after.requests) + len(after.notes) + after.unread == len(before.requests) + len(before.notes) + 1
    judge_folder(run)
    packed = read_requests(run)
    assert (len(packed.requests), packed.notes, packed.unread) == (len(after.requests), after.notes, after.unread)


def test_a_line_without_end_holds_up_nobody(tmp_path: Path) -> None:
    path = tmp_path / REQUESTS
    path.write_bytes(LINE + b"x" * (2 * PART_BYTES) + b"\n" + LINE)
    tail = RequestTail(path)

    live = sum(len(tail.new_requests()) for _ in range(5))
    found = read_requests(tmp_path)

    assert live == 2
    assert (len(found.requests), found.unread) == (2, 1)


def measured(code: str, *arguments: object) -> float:
    """The MB that a piece of code needed in a process of its own."""
    whole = (
        "import resource, sys\nfrom harness.history.store import *\nfrom harness.errors import UnreadableRun\nfrom pathlib import Path\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"{code}\nprint((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", whole, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=60
    )
    return float(done.stdout)


def test_one_long_trace_does_not_make_all_others_as_long(tmp_path: Path) -> None:
    long = LINE.replace(b'"ok"', b'"ok","trace":"' + b"a" * 1_000_000 + b'"')
    (tmp_path / REQUESTS).write_bytes(long + LINE * 2000)

    assert measured("assert len(read_requests(Path(sys.argv[1])).requests) == 2001", tmp_path) < MOST_MEMORY
    assert len(read_requests(tmp_path).requests[0].trace) == 64
    pack_requests(tmp_path)
    assert len(read_requests(tmp_path).requests) == 2001


def test_columns_that_say_they_hold_more_than_they_can_are_refused_before_they_are_read(tmp_path: Path) -> None:
    rows = 3_000_000  # a few KB, since all are the same
    columns = {
        field.name: pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array(["ok"]))
        if pa.types.is_dictionary(field.type)
        else pa.array(np.zeros(rows), pa.float64()).cast(field.type)
        if pa.types.is_primitive(field.type)
        else pa.ListArray.from_arrays(np.zeros(rows + 1, np.int32), pa.array([], pa.string()))
        if pa.types.is_list(field.type)
        else pa.array([""]).take(pa.array(np.zeros(rows, np.int32)))
        for field in SCHEMA
    }
    pq.write_table(pa.table(columns, schema=SCHEMA), tmp_path / PARQUET, compression="zstd")
    (tmp_path / NOTES).touch()

    with pytest.raises(UnreadableRun, match="more than it has room for"):
        read_requests(tmp_path)


WHOLE = {
    "journey": pa.array(["a"] * 3).dictionary_encode(),
    "outcome": pa.array(["ok"] * 3).dictionary_encode(),
    "error": pa.array([""] * 3).dictionary_encode(),
    "marks": pa.array([[]] * 3, pa.list_(pa.string())),
    "trace": pa.array(["a"] * 3),
    **{name: pa.array([1.0] * 3) for name in ("due", "start", "end")},
    "status": pa.array([200] * 3, pa.uint16()),
    "bytes": pa.array([0] * 3),
}


@pytest.mark.parametrize("name", SCHEMA.names)
def test_a_column_of_another_type_is_refused(tmp_path: Path, name: str) -> None:
    for strange in (pa.nulls(3), pa.array([{"a": 1}] * 3), pa.array([b"\xff"] * 3), pa.array([True] * 3)):
        pq.write_table(pa.table({**WHOLE, name: strange}), tmp_path / PARQUET)

        with pytest.raises(ValueError, match=f"{name} is of another type"):
            read_parquet(tmp_path / PARQUET)


@pytest.mark.parametrize("name", SCHEMA.names)
def test_a_column_with_holes_is_refused(tmp_path: Path, name: str) -> None:
    holed = pa.concat_arrays([WHOLE[name][:2], pa.nulls(1, WHOLE[name].type)])
    pq.write_table(pa.table({**WHOLE, name: holed}), tmp_path / PARQUET)

    with pytest.raises(ValueError, match="not every"):
        read_parquet(tmp_path / PARQUET)


def test_a_column_is_read_as_it_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({**WHOLE, "marks": pa.array([["a\nb", ""], [], ["ä"]])}), tmp_path / PARQUET)

    assert len(read_parquet(tmp_path / PARQUET)) == 3


def test_the_run_that_others_are_made_of_is_judged(run: Path) -> None:
    assert judge_folder(run).verdict.word in ("passed", "inconclusive", "failed")
    assert len(read_history(run).requests) > 100
