"""Whole runs under every kind of load: what breaks them, what they must never pass, and what the reader is told."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.chaos import (
    PROJECT,
    TINY,
    Answer,
    Running,
    chaos,
    environment,
    evidence,
    outcomes,
    scenario,
    started_by,
    verdict_of,
)

SHORT = "phases: {warmup: 1s, baseline: 6s, fault: 6s, recovery: 6s}"
CUT = "[outage: {edge: front -> back}]"
DEFERRED = "[{id: deferred, fallback: without-back}]"
HARMLESS = "[{id: few_errors, error_rate: {max: 50%}}, {id: quick, response_time: {journey: alone, p95: {max: 1s}}}]"

CLIENTS = ("HttpUser", "FastHttpUser")

VISITOR = """
from locust import {client}, task

class Visitor({client}):
    @task
    def alone(self):
        {does}

    @task
    def with_back(self):
        {does_too}
"""


def run(folder: Path, faults: str, expect: str, load: str, locustfile: str = "") -> Answer:
    if locustfile:
        (folder / "users.py").write_text(locustfile, encoding="utf-8")
        load = f"locustfile: users.py, {load}"
    path = scenario(folder, faults, expect, f"{SHORT}\nload: {{{load}}}")
    return chaos("run", str(path), "--report-dir", str(folder / "reports"))


def visitor(client: str, does: str = "self.client.get('/alone')", does_too: str = "self.client.get('/with-back')") -> str:
    return VISITOR.format(client=client, does=does, does_too=does_too)


def warnings(folder: Path) -> list[str]:
    return list(verdict_of(folder / "reports")["warnings"])


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that takes every connection, and answers nobody."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(1000)
        yield f"http://127.0.0.1:{hole.getsockname()[1]}"


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("client", [CLIENTS[0], *[pytest.param(client, marks=pytest.mark.nightly) for client in CLIENTS[1:]]])
def test_an_entry_that_accepts_and_never_answers_is_never_passed(tmp_path: Path, client: str) -> None:
    answer = run(
        tmp_path, "[outage: {edge: client -> front, mode: hang}]", HARMLESS, "rate: 40/s, timeout: 2s", visitor(client)
    )

    assert answer.code in (1, 3), answer.out + answer.err
    found = outcomes(verdict_of(tmp_path / "reports"))
    assert set(found) == {"few_errors", "quick"}
    assert set(found.values()) <= {"failed", "inconclusive"}


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_a_system_that_never_answered_at_all_is_never_passed(tmp_path: Path, client: str, black_hole: str) -> None:
    asks = f"self.client.get('{black_hole}/alone', name='/alone')"

    answer = run(tmp_path, "[]", HARMLESS, "rate: 40/s, timeout: 1s", visitor(client, asks, asks))

    assert answer.code in (1, 3), answer.out + answer.err
    found = outcomes(verdict_of(tmp_path / "reports"))
    assert set(found) == {"few_errors", "quick"}
    assert set(found.values()) <= {"failed", "inconclusive"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (visitor("FastHttpUser", "self.nowhere", "self.nowhere"), "AttributeError"),
        (
            "from locust import events\n@events.test_start.add_listener\ndef x(**_): 1 / 0\n" + visitor("HttpUser"),
            "ZeroDivision",
        ),
    ],
)
def test_a_locustfile_that_breaks_while_it_runs_ends_the_run_with_5_and_its_traceback(
    tmp_path: Path, text: str, named: str
) -> None:
    answer = run(tmp_path, CUT, DEFERRED, "rate: 40/s, timeout: 2s", text)

    assert answer.code == 5, answer.out + answer.err
    told = answer.out + answer.err
    assert "broke while the load ran" in told
    assert named in told
    assert "users.py" in told


@pytest.mark.alone
@pytest.mark.slow
def test_the_arrivals_of_several_processes_are_complete(tmp_path: Path) -> None:
    answer = run(tmp_path, CUT, DEFERRED, "rate: 100/s, processes: 2")

    verdict = verdict_of(tmp_path / "reports")
    (folder,) = (tmp_path / "reports").glob("*/2*")
    assert answer.code == 0, answer.out + answer.err
    assert evidence(verdict)["load"] == "passed"
    notes = [json.loads(line) for line in (folder / "load.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(note["load"] == "finished" for note in notes) == 2
    assert list(folder.glob("requests*")) == [folder / "requests.parquet"]


@pytest.mark.alone
@pytest.mark.slow
def test_a_rate_in_stages_arrives_as_planned(tmp_path: Path) -> None:
    answer = run(tmp_path, CUT, DEFERRED, "rate: [{to: 60/s, over: 4s}, {hold: 6s}, {to: 100/s, over: 5s}]")

    (load,) = (finding for finding in verdict_of(tmp_path / "reports")["evidence"] if finding["id"] == "load")
    assert answer.code == 0, answer.out + answer.err
    assert load["outcome"] == "passed"


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("load", ["users: 20", pytest.param("shape: true", marks=pytest.mark.nightly)])
def test_a_closed_loop_says_what_it_hides(tmp_path: Path, load: str) -> None:
    shape = "\nfrom locust import LoadTestShape, constant\nVisitor.wait_time = constant(0.2)\n"
    shape += "class Steady(LoadTestShape):\n    def tick(self): return 20, 20\n" if "shape" in load else ""

    answer = run(tmp_path, CUT, DEFERRED, load, visitor("FastHttpUser") + shape)

    assert answer.code == 0, answer.out + answer.err
    assert any(warning.startswith("closed loop: ") for warning in warnings(tmp_path))
    assert "closed loop: " in answer.out


@pytest.fixture
def free_address(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CHAOS_WORKER_TOKEN", "known-to-every-machine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_an_interrupt_while_the_run_waits_for_processes_from_elsewhere_leaves_nothing(
    tmp_path: Path, free_address: str
) -> None:
    load = f"load: {{rate: 80/s, expect_workers: 1, bind: '{free_address}'}}"
    running = Running(["run", str(scenario(tmp_path, CUT, DEFERRED, f"{SHORT}\n{load}"))], tmp_path / "reports")
    _wait_until_somebody_listens(free_address)

    running.signal(signal.SIGINT)
    code, out = running.end()

    assert code == 130, out
    assert running.folder is not None
    assert not started_by(running.folder)


def _wait_until_somebody_listens(address: str) -> None:
    host, _, port = address.partition(":")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens at {address}")


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True])
def test_a_run_whose_load_comes_from_elsewhere_is_passed_with_all_records_and_inconclusive_without(
    tmp_path: Path, free_address: str, lost: bool
) -> None:
    load = f"load: {{rate: 80/s, expect_workers: 2, bind: '{free_address}'}}"
    running = Running(["run", str(scenario(tmp_path, CUT, DEFERRED, f"{SHORT}\n{load}"))], tmp_path / "reports")
    program = [sys.executable, "-m", "harness.runtime.load.worker", free_address, str(TINY / "locustfile.py")]
    machines = [subprocess.Popen(program, cwd=PROJECT, env=environment(), stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        running.wait_for("PhaseBegan", phase="recovery")
        if lost:
            machines[0].kill()
        code, out = running.end()
    finally:
        for machine in machines:
            machine.kill()
            machine.wait()

    load_arrived = next(finding for finding in verdict_of(tmp_path / "reports")["evidence"] if finding["id"] == "load")
    assert code == (3 if lost else 0), out
    assert (load_arrived["outcome"], "of 2 ended with the end of its connection" in load_arrived["seen"]) == (
        ("inconclusive", True) if lost else ("passed", False)
    )
