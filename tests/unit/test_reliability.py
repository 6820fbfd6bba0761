"""The figures of reliability: moments are repeatable, every wrong outcome is told, shares and growth are what they should be."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import reliability, reliability_growth, reliability_plants, reliability_process
from benchmarks.reliability_figures import REPORTS, growth_of, limit_of, problems_of, quantile, row_of, share, times
from benchmarks.reliability_kernel import address_of, marked
from benchmarks.reliability_left import Traces, toxics_on
from benchmarks.reliability_moments import BEGINS, GUARDED, STAGES, draw
from benchmarks.reliability_state import State, Turns, last_attempt
from benchmarks.reliability_trial import Order

LIFE = {
    "starting": 1.0,
    "bringing up": 2.0,
    "baseline": 5.0,
    "fault": 5.0,
    "recovery": 5.0,
    "taking down": 3.0,
    "reporting": 1.0,
}


def row(kind: str = "kills", struck: str = "fault", **said: Any) -> dict[str, Any]:
    """A trial that came out as it should."""
    right = {
        "kills": {"code": 137, "judged": 5, "word": "error", "events": ["RunBegan", "GuardianActed"]},
        "stops": {"code": 137, "judged": 5, "word": "error", "events": ["RunBegan", "GuardianActed"]},
        "guardians": {"code": 5, "judged": 5, "word": "error", "reasons": ["the guardian is gone"]},
        "interrupts": {"code": 130, "judged": 130, "word": "interrupted", "events": ["RunBegan"], "reports": list(REPORTS)},
    }[kind]
    common = {
        "left": [],
        "on": [],
        "seen": {},
        "cleared": [],
        "faults": [],
        "traceback": "",
        "ended": 1.0,
        "healed": 1.0,
        "gone": 2.0,
        "lease": 5.0,
    }
    empty = {"reasons": [], "reports": [], "events": [], "signals": [["SIGINT", 0.0]]}
    return {"kind": kind, "struck": struck, **empty, **common, **right, **said}


@pytest.mark.parametrize("kind", ["kills", "stops", "guardians", "interrupts"])
def test_a_trial_that_came_out_as_it_should_has_no_problem(kind: str) -> None:
    assert problems_of(row(kind)) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"left": ["process: 7 sleep"]}, "left behind: process: 7 sleep"),
        ({"faults": ["toxic: timeout"]}, "still on: toxic: timeout"),
        ({"ended": None}, "the harness did not end"),
        ({"traceback": "Traceback\nKeyError: 'x'\n"}, "a traceback: KeyError: 'x'"),
        ({"judged": 0, "word": "passed"}, "judged as 'passed' (exit code 0) though it was killed while fault"),
        ({"judged": 2, "word": "no plan"}, "judged as 'no plan' (exit code 2) though it was killed while fault"),
        ({"judged": None}, "there is no folder of a run"),
        ({"kind": "guardians", "code": 0, "word": "passed", "reasons": ["guardian"]}, "the run ended as 'passed' (0)"),
        ({"kind": "guardians", "reasons": ["it ended"]}, "nothing says that the guardian was gone"),
        ({"kind": "interrupts", "code": 143, "reports": list(REPORTS)}, "SIGINT while fault ended with exit code 143"),
        ({"kind": "interrupts", "code": 130, "reports": ["verdict.json"]}, "no junit.xml, report.html, summary.md"),
    ],
)
def test_everything_that_is_wrong_is_told(said: dict[str, Any], told: str) -> None:
    assert told in " · ".join(problems_of(row(**said)))


@pytest.mark.parametrize(
    "said",
    [
        {"struck": "starting", "judged": None},
        {"struck": "starting", "judged": 2},
        {"struck": "reporting", "judged": 0, "events": ["RunBegan", "RunEnded"]},
        {"kind": "guardians", "struck": "taking down", "code": 0, "word": "passed"},
        {"kind": "interrupts", "struck": "starting", "judged": None, "code": 129, "signals": [["SIGHUP", 0.0]], "events": []},
        {"kind": "interrupts", "struck": "reporting", "judged": 0, "code": 0, "reports": list(REPORTS)},
        {"kind": "stops", "struck": "", "too_late": True, "ended": None, "left": ["draft: x.part"]},
        {"kind": "interrupts", "code": 143, "signals": [["SIGTERM", 0.0], ["SIGINT", 1.0]], "reports": list(REPORTS)},
    ],
)
def test_what_may_be_so_before_a_run_begins_or_after_it_has_ended_is_no_problem(said: dict[str, Any]) -> None:
    assert problems_of({**row(said.get("kind", "kills")), **said}) == []


@given(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from(["kills", "stops", "guardians", "interrupts", "jobs"]))
def test_a_moment_lies_in_its_stage_and_is_the_same_each_time(seed: int, number: int, kind: str) -> None:
    moment = draw(kind, seed, number, LIFE)

    assert moment == draw(kind, seed, number, LIFE)
    assert 0.0 <= moment.after <= LIFE[moment.stage]
    assert [after for _, after in moment.signals] == sorted(after for _, after in moment.signals)
    assert moment.signals[0][1] == 0.0
    assert kind not in ("guardians", "stops", "jobs") or moment.stage in GUARDED


def test_every_stage_is_met_and_short_ones_about_as_often_as_long_ones() -> None:
    stages = [draw("kills", 7, number, LIFE).stage for number in range(700)]

    assert set(stages) == set(STAGES) == {"starting", *BEGINS}
    assert min(stages.count(stage) for stage in STAGES) >= 50


def test_the_smallest_quantile_that_a_part_does_not_exceed_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]

    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([3.0], 0.99)) == (50.0, 99.0, 3.0)


def test_none_of_a_hundred_is_at_most_three_in_a_hundred() -> None:
    assert share(0, 100) == "0 of 100 (at most 3.0 %)"
    assert share(0, 0) == "none tried"
    assert share(1, 100) == "1 of 100 [0.2, 5.4 %]"


def test_what_never_healed_is_told_beside_the_times_and_counts_as_late() -> None:
    assert times([1.0, None, 2.0]) == "1.0 / 2.0 / 2.0; 1 never"
    assert times([None]) == "–"
    rows = [
        row(on=["paused: process 7"], seen={"paused: process 7": 0.4}, cleared=["registered: 1.json"], gone=None),
        row(seen={"limited: x": 2.0}, healed=None),
        row(healed=7.1),
        row(struck=""),
    ]
    told = row_of("kills", rows)
    assert "| kills | 3 | 0 of 3 (at most 100.0 %) | 1 | 0 of 3 (at most 100.0 %) | 2 | 1 of 2 [" in told
    assert told.endswith("| 0.4 / 2.0 / 2.0 | 1.0 / 1.0 / 1.0; 1 never | 2.0 / 2.0 / 2.0 |")


def test_a_guardian_has_its_lease_to_heal_and_an_interrupt_five_seconds() -> None:
    limits = {kind: limit_of({**row(), "kind": kind}) for kind in ("kills", "stops", "jobs", "guardians", "interrupts")}

    assert limits == {"kills": 7.0, "stops": 7.0, "jobs": 15.0, "guardians": 10.0, "interrupts": 5.0}


def test_growth_is_found_where_it_was_put_and_not_where_there_is_none() -> None:
    chance = np.random.default_rng(7)
    noise = chance.normal(0, 1, 200)
    growing = growth_of([100 + 0.1 * number + noise[number] for number in range(200)])
    still = growth_of([7.0] * 200)

    assert growing.low > 0.0
    assert growing.low < 0.1 < growing.high
    assert (still.slope, still.low, still.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert growing.runs == still.runs == 180


def test_growth_is_told_with_its_unit_and_what_is_none_but_for_rounding_as_none() -> None:
    steady = growth_of([7.0] * 60).line("descriptors", "")
    growing = growth_of([10.0 + number for number in range(60)]).line("disk", " KB")

    assert steady == "| descriptors | 7 | 0 [0, 0] | 0 in 40 runs |"
    assert growing == "| disk | 30 KB | +1 KB [+1, +1] | +40 KB in 40 runs |"


def test_what_was_planted_is_told_by_its_kind_and_what_was_missed_in_bold() -> None:
    rows = reliability_plants.table({"a service": ["paused: process 7", "process: 7 x"], "a port": []})

    assert rows[2:] == ["| a service | paused, process |", "| a port | **not found** |"]


def test_what_is_loaded_once_is_no_growth() -> None:
    values = [float(min(number, 15)) for number in range(60)]

    assert growth_of(values).slope == pytest.approx(0.0, abs=1e-12)
    assert growth_of(values, left_out=0).slope > 0.05


def test_too_few_runs_say_nothing_of_growth() -> None:
    with pytest.raises(ValueError, match="expected at least 23 runs, found 22"):
        growth_of([1.0] * 22)


def test_an_address_is_read_as_the_kernel_writes_it() -> None:
    assert address_of("0100007F:1F90") == "127.0.0.1:8080"


def test_what_was_done_is_known_again_and_the_table_holds_it(tmp_path: Path) -> None:
    state = State(tmp_path / "deep" / "state.jsonl")
    state.add("kills", row(load=2.5))
    again = State(tmp_path / "deep" / "state.jsonl")

    assert [found["struck"] for found in again.rows("kills")] == ["fault"]
    assert again.rows("stops") == []
    assert "| kills | 1 | 0 of 1" in reliability.table(again)
    assert "cores at a load average of 2.5 / 2.5 / 2.5" in reliability.table(again)


def test_a_line_that_was_half_written_is_passed_over_and_the_next_one_is_whole(tmp_path: Path) -> None:
    state = State(tmp_path / "state.jsonl")
    state.add("kills", {"number": 0})
    with state.path.open("a", encoding="utf-8") as file:
        file.write('{"series": "kills", "numb')

    assert [found["number"] for found in state.rows("kills")] == [0]
    state.add("kills", {"number": 2})
    state.add("kills", {"number": 3})
    assert [found["number"] for found in state.rows("kills")] == [0, 2, 3]
    assert len(state.path.read_text(encoding="utf-8").splitlines()) == 4


def test_a_trial_that_struck_nothing_is_made_up_for_by_another_and_what_is_done_is_not_done_again() -> None:
    turns = Turns(3, [{"number": 0, "struck": "fault"}, {"number": 1, "struck": ""}])

    assert (turns.take(), turns.take(), turns.take()) == (2, 3, None)
    turns.put_back(unless=True)
    assert turns.take() is None
    turns.put_back(unless=False)
    assert turns.take() == 4
    turns.put_back(unless=False)
    turns.end()
    assert turns.take() is None


def test_trials_that_never_strike_come_to_an_end() -> None:
    turns = Turns(2, [])
    taken = []
    while (number := turns.take()) is not None:
        taken.append(number)
        turns.put_back(unless=False)

    assert taken == list(range(6))


def test_a_trial_that_is_broken_is_told_and_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> dict[str, Any]:
        raise reliability.Broken("it fell over")

    monkeypatch.setattr(reliability, "carried_out", broken)
    state = State(tmp_path / "state.jsonl")
    asked = reliability.Asked(state, seed=7, lease=5.0, parallel=1, count=1)

    assert not reliability.try_out("kills", 0, LIFE, asked)
    assert [row["why"] for row in state.rows("kills-broken")] == ["it fell over"]
    assert state.rows("kills") == []


def test_a_series_whose_first_run_is_broken_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> dict[str, Any]:
        raise reliability.Broken("no engine answers")

    monkeypatch.setattr(reliability, "carried_out", broken)
    state = State(tmp_path / "state.jsonl")

    reliability.do("docker-kills", reliability.Asked(state, seed=7, lease=5.0, parallel=1, count=1))

    assert "docker-kills: not tried, since not one run came to its end: no engine answers" in capsys.readouterr().out
    assert state.rows("docker-kills") == state.rows("life-docker") == []


HANGS = """
import signal, subprocess, sys, tempfile, time
from pathlib import Path
folder = tempfile.mkdtemp(prefix="rel-")
lasting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", folder], start_new_session=True)
lasting.send_signal(signal.SIGSTOP)
Path(sys.argv[1]).write_text(folder)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""
CLEARS_UP = """
import sys, time
from pathlib import Path
from benchmarks import reliability_trial
def try_out(order):
    try:
        Path(sys.argv[1]).write_text("at work")
        time.sleep(600)
    finally:
        Path(sys.argv[1]).write_text("cleared up")
reliability_trial.json.load = lambda _: {"kind": "life", "runtime": "local", "lease": 5.0}
reliability_trial.try_out = try_out
reliability_trial.main()
"""


def broken_trial(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clear: float) -> str:
    """A trial that hangs; what it had written when it was over."""
    told = tmp_path / "told"
    monkeypatch.setattr(reliability_process, "PROGRAM", (sys.executable, "-c", program, str(told)))
    monkeypatch.setattr(reliability_process, "TRIAL_SECONDS", 0.1)
    monkeypatch.setattr(reliability_process, "CLEAR_SECONDS", clear)
    answer = subprocess.Popen.communicate

    def once_it_is_at_work(trial: subprocess.Popen[str], *given: Any, **said: Any) -> Any:
        while not (told.exists() and told.read_text()):
            time.sleep(0.05)
        return answer(trial, *given, **said)

    with monkeypatch.context() as patched:
        patched.setattr(subprocess.Popen, "communicate", once_it_is_at_work)
        with pytest.raises(reliability.Broken, match=r"expected a trial to be over within 0.1 s"):
            reliability_process.told_by_trial(Order("life", "local", 5.0), tmp_path / "kept")
    return told.read_text()


def test_a_trial_that_hangs_and_is_deaf_takes_its_processes_and_its_folder_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(broken_trial(HANGS, tmp_path, monkeypatch, clear=0.1))

    assert not folder.parent.exists()
    assert list(marked(folder)) == []


def test_a_trial_that_hangs_clears_up_itself_when_it_is_told_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_trial(CLEARS_UP, tmp_path, monkeypatch, clear=60.0) == "cleared up"


def test_a_trial_that_falls_over_is_broken_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliability_process, "PROGRAM", (sys.executable, "-c", "raise SystemExit('no engine answers')"))

    with pytest.raises(reliability.Broken, match=r"^no engine answers$"):
        reliability_process.told_by_trial(Order("life", "local", 5.0), tmp_path / "kept")


def series_of_runs(state: State, count: int = 45, attempt: int = 1, grows: float = 0.0, code: int = 0) -> None:
    """Runs in one process that keep so much each, as the state file tells them."""
    keys = ("uss", "descriptors", "threads", "processes", "beside", "folder")
    for number in range(count):
        held = dict.fromkeys(keys, 7.0) | {"uss": 1e6 * (90 + number * grows)}
        state.add("process", {"attempt": attempt, "number": number, "code": code, **held})


def exit_code(state: State, monkeypatch: pytest.MonkeyPatch, *only: str, count: int = 1) -> int:
    """What the command ends with that only has to look at what was tried."""
    arguments = ["--state", str(state.path), "--count", str(count), "--only", *(only or ("table",))]
    monkeypatch.setattr(sys, "argv", ["reliability", *arguments])
    return reliability.main()


def test_where_everything_was_tried_and_nothing_was_wrong_the_exit_code_is_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path / "state.jsonl")
    state.add("kills", {"number": 0, **row()})
    series_of_runs(state)
    state.add("wedges", {"code": 0, "rows": [], "last": "20 passed in 3 s"})
    state.add("plants", {"found": {"a port": ["listener: 127.0.0.1:9"]}})

    assert exit_code(state, monkeypatch) == 0


@pytest.mark.parametrize(
    ("series", "said", "told"),
    [
        ("kills", {"number": 3, **row(left=["process: 7 x"])}, "kills 3: left behind: process: 7 x"),
        ("kills-broken", {"number": 3, "why": "it fell over"}, "kills 3: the trial itself is broken: it fell over"),
        ("process-broken", {"attempt": 1, "why": "it ended with 1"}, "process: it ended with 1"),
        ("wedges", {"code": 1, "rows": [], "last": "1 failed, 19 passed"}, "found: 1 failed, 19 passed"),
        ("wedges", {"code": 0, "rows": [], "last": "18 passed, 2 skipped in 3 s"}, "found: 18 passed, 2 skipped in 3 s"),
        ("plants", {"found": {"a port": []}}, "plants: a port was not found"),
    ],
)
def test_whatever_was_wrong_is_told_and_the_exit_code_is_1(
    series: str,
    said: dict[str, Any],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = State(tmp_path / "state.jsonl")
    state.add(series, said)

    assert exit_code(state, monkeypatch) == 1
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"grows": 0.1}, "process: memory grows"),
        ({"code": 5}, "process 0: ended with 5"),
        ({"code": 6}, "process 0: ended with 6"),
    ],
)
def test_runs_that_grow_or_end_wrong_are_told_until_a_whole_series_does_not(
    said: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = State(tmp_path / "state.jsonl")
    series_of_runs(state, **said)

    assert exit_code(state, monkeypatch) == 1
    assert told in capsys.readouterr().out
    state.add("process-broken", {"attempt": 1, "why": "it ended with 1"})
    series_of_runs(state, attempt=2)
    assert exit_code(state, monkeypatch) == 0


def test_so_few_runs_that_what_is_loaded_once_counts_show_no_growth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(tmp_path / "state.jsonl")
    series_of_runs(state, count=10, grows=1.0)

    assert exit_code(state, monkeypatch) == 0


def test_a_series_that_was_asked_for_and_could_not_be_tried_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> dict[str, Any]:
        raise reliability.Broken("no engine answers")

    monkeypatch.setattr(reliability, "carried_out", broken)

    assert exit_code(State(tmp_path / "state.jsonl"), monkeypatch, "docker-kills", count=2) == 1
    assert "docker-kills: expected 2, found 0" in capsys.readouterr().out


def test_a_series_of_runs_counts_as_done_only_where_its_last_attempt_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [{"number": number, "code": 0} for number in range(3)]
    monkeypatch.setattr(reliability_growth, "by_commands", lambda count: iter(made[:count]))
    state = State(tmp_path / "state.jsonl")
    for attempt, number in ((1, 0), (1, 1), (2, 0)):
        state.add("commands", {"attempt": attempt, "number": number, "code": 0})
    asked = reliability.Asked(state, seed=7, lease=5.0, parallel=1, count=3)

    reliability.do("commands", asked)
    reliability.do("commands", asked)

    assert [row["attempt"] for row in state.rows("commands")] == [1, 1, 2, 3, 3, 3]


def test_a_process_that_ends_before_its_last_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    state = State(tmp_path / "state.jsonl")

    reliability.do("process", reliability.Asked(state, seed=7, lease=5.0, parallel=1, count=3))

    assert [row["why"] for row in state.rows("process-broken")] == ["the process that makes the runs ended with 1"]


def test_wedges_are_told_in_the_order_of_their_numbers() -> None:
    rows = [
        {"wedge": 10, "name": "never ready", "by": "RunFailed", "seconds": 0.04, "outcome": "error (5)"},
        {"wedge": 2, "name": "engine gone", "by": "EngineRestarted", "seconds": 1.26, "outcome": "inconclusive (3)"},
    ]

    told = reliability.table_of_wedges({"rows": rows, "last": "2 passed in 3 s"})

    assert told[2:] == [
        "| engine gone | EngineRestarted | 1.3 | inconclusive (3) |",
        "| never ready | RunFailed | 0.0 | error (5) |",
        "",
        "2 noticed; 2 passed in 3 s",
    ]


def test_figures_go_between_their_marks_and_nothing_else_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{reliability.BEGIN}\nold\n{reliability.END}\nafter\n", encoding="utf-8")

    reliability.write_table("new", path)

    assert path.read_text(encoding="utf-8") == f"before\n{reliability.BEGIN}\nnew\n{reliability.END}\nafter\n"
    path.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="expected <!-- figures begin -->"):
        reliability.write_table("new", path)


def test_a_series_that_was_begun_again_counts_from_its_last_beginning() -> None:
    rows = [
        {"attempt": attempt, "number": number} for attempt in (1, 2) for number in range(random.Random(attempt).randint(1, 5))
    ]

    assert {row["attempt"] for row in last_attempt(rows)} == {2}
    assert last_attempt([]) == []


def test_a_folder_in_which_nothing_ran_has_nothing_left(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    traces = Traces(tmp_path)
    traces.look()

    assert traces.runs() == []
    assert traces.projects() == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", []),
        (b"", ["does not say what is on"]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[}", ["does not say what is on"]),
        (b"nonsense\r\n\r\n", ["does not say what is on"]),
    ],
)
def test_an_engine_that_answers_nonsense_may_hold_anything_and_one_that_is_gone_holds_nothing(
    answer: bytes, told: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as engine:
        address = f"127.0.0.1:{engine.getsockname()[1]}"
        serving = threading.Thread(target=_answer_once, args=(engine, answer))
        serving.start()
        found = toxics_on(address)
        serving.join()

    assert [word for word in told if word in str(found)] == told
    assert bool(found) == bool(told)
    assert toxics_on(address) == []


@pytest.mark.parametrize("ends", [True, False])
def test_an_engine_that_breaks_a_connection_off_holds_nothing_only_where_it_does_not_listen_any_more(
    ends: bool, tmp_path: Path
) -> None:
    run = tmp_path / "reports" / "short" / "20260101-000000-abcdef"
    run.mkdir(parents=True)
    traces = Traces(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as engine:
        control = f"http://127.0.0.1:{engine.getsockname()[1]}"
        (run / "undo.jsonl").write_text(json.dumps({"undo": "RestoreProxies", "control": control}) + "\n", encoding="utf-8")
        traces.listeners.add(str(os.fstat(engine.fileno()).st_ino))
        serving = threading.Thread(target=_break_off, args=(engine,), kwargs={"ends": ends})
        serving.start()
        found = [one.kind for one in traces.faults()]
        serving.join()

    assert found == ([] if ends else ["proxy"])


def _break_off(engine: socket.socket, *, ends: bool) -> None:
    connection, _ = engine.accept()
    connection.recv(4096)
    if ends:
        engine.close()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _answer_once(engine: socket.socket, answer: bytes) -> None:
    connection, _ = engine.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(answer)


def test_only_lines_of_the_journal_that_are_whole_count(tmp_path: Path) -> None:
    run = tmp_path / "reports" / "short" / "20260101-000000-abcdef"
    run.mkdir(parents=True)
    group = tmp_path / "chaos-x"
    group.mkdir()
    line = json.dumps({"id": "1", "undo": "RemoveControlGroup", "path": str(group), "back": "/"})
    (run / "undo.jsonl").write_text(f'{line}\n{{"id": "2", "undo": "Remo', encoding="utf-8")
    traces = Traces(tmp_path)
    traces.look()

    assert traces.groups >= {group}
    assert f"control group: {group}" in [str(one) for one in traces._kernel()]
