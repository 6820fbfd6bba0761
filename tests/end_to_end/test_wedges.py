"""Twenty wedges, provoked: each is noticed within 5 s, something is done about it, and the run never passes or hangs.

    pytest tests/end_to_end/test_wedges.py

prints a table when it is over: who noticed, after how many seconds, and what it came to. Where WEDGES_TABLE names a file,
the same is appended there, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from harness.history.events import EngineRestarted, WedgeNoticed
from harness.history.events import Event as Happened
from harness.plan.plan import CLEAN
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.containers.pulse import EnginePulse
from harness.runtime.logs import FLOOD_BYTES, MOST_BYTES
from harness.runtime.ports import ProxyMade
from harness.runtime.proxies.supervised import SupervisedEngine
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from tests.contract.engine_rig import StubEngine
from tests.contract.proxies_contract import EDGE, SLOW
from tests.contract.proxies_rig import Callee, connect, eventually, free_address, served, toxiproxy_command
from tests.end_to_end.chaos import Answer, Running, chaos, scenario, verdict_of
from tests.end_to_end.wedge_rig import (
    CUT,
    DEAF,
    FEW_ERRORS,
    FLOODS,
    HANGS_AT,
    SHORT,
    Case,
    Event,
    Stand,
    nothing_is_left,
    stand_of,
    told_by,
)

pytestmark = pytest.mark.nightly

NOTICED_WITHIN = 5.0
TOXIPROXY = os.environ.get("TOXIPROXY_SERVER") or shutil.which("toxiproxy-server")


class Table:
    """What came of each wedge, in the order of their numbers."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}

    def note(self, number: int, name: str, by: str, seconds: float, outcome: str) -> None:
        """A wedge was noticed."""
        self.rows[number] = {"wedge": number, "name": name, "by": by, "seconds": round(seconds, 2), "outcome": outcome}
        if file := os.environ.get("WEDGES_TABLE"):
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(self.rows[number]) + "\n")

    def lines(self) -> Iterator[str]:
        """The table for a person."""
        yield f"{'':3} {'wedge':44} {'noticed by':18} {'after':>7}  came to"
        for _, row in sorted(self.rows.items()):
            yield f"{row['wedge']:3} {row['name']:44} {row['by']:18} {row['seconds']:5.2f} s  {row['outcome']}"
        slowest = max((row["seconds"] for row in self.rows.values()), default=0.0)
        yield f"{len(self.rows)} noticed, the slowest after {slowest:.2f} s"


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    made = Table()
    yield made
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write("\n".join(("", *made.lines(), "")))


# in runs by the command


def to_the_engine(number: signal.Signals) -> Any:
    def provoke(stand: Stand) -> float:
        stand.seconds_into("FaultBegan")
        return stand.signal("proxy engine", number)

    return provoke


def its_answers(how: str) -> Any:
    def provoke(stand: Stand) -> float:
        stand.seconds_into("FaultBegan")
        stand.wedge(f"{stand.pid_of('proxy engine')} {how}")
        return time.time()

    return provoke


def signalled(name: str, number: signal.Signals, kind: str = "FaultBegan", **having: object) -> Any:
    def provoke(stand: Stand) -> float:
        stand.seconds_into(kind, **having)
        return stand.signal(name, number)

    return provoke


def wedge_file(stand: Stand) -> float:
    stand.seconds_into("FaultBegan")
    stand.wedge()
    return time.time()


def when_a_stop_was_due(stand: Stand) -> float:
    """Who is asked to end has as long as Docker gives it."""
    return float(stand.running.wait_for("FaultBegan")["asked_at"]) + 10.0


def when_it_was_due_to_be_ready(stand: Stand) -> float:
    return float(stand.running.wait_for("ServiceStarted", service="back")["at"]) + 30.0


def when_the_load_was_due_to_end(stand: Stand) -> float:
    """Two of its timeouts after it was told to: so long may an answer take that is still to come."""
    return float(stand.running.wait_for("PhaseEnded", phase="recovery")["at"]) + 2 * 2.0


def when_the_first_invariant_was_asked(stand: Stand) -> float:
    """A sample bears the time of its question; that it came is seen here."""
    until = time.monotonic() + 90
    while not (asked := [sample for sample in stand.samples() if sample["event"] == "InvariantAsked"]):
        assert time.monotonic() < until, "nothing was asked"
        time.sleep(0.05)
    stand.seen = time.time()
    return float(asked[0]["at"])


def when_the_records_were_full(stand: Stand) -> float:
    stand.running.wait_for("LoadEnded")
    folder = stand.running.folder
    assert folder is not None
    return (folder / "requests.jsonl").stat().st_mtime


def restarted(event: Event) -> bool:
    return event["event"] == "EngineRestarted" and bool(event["back"])


def wedged(what: str) -> Any:
    return lambda event: event["event"] == "WedgeNoticed" and event["what"] == what


def load_ended(word: str) -> Any:
    return lambda event: event["event"] == "LoadEnded" and not event["finished"] and word in event["detail"]


def unread_counter(event: Event) -> bool:
    return event["event"] == "CounterRead" and event["value"] is None and "did not answer" in event["detail"]


def unanswered_invariant(event: Event) -> bool:
    return event["event"] == "InvariantAsked" and event["value"] is None


def not_ready(event: Event) -> bool:
    return event["event"] == "RunFailed" and "service back did not come up" in event["reason"]


SETTLED = "[{id: settled, invariant: settled}]"
DEFERRED = "[{id: deferred, fallback: without-back}]"
NEVER_STOPS = "@events.test_stop.add_listener\ndef linger(**_):\n    time.sleep(3600)\n"
LITTLE_ROOM = "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
ONCE_WEDGED = HANGS_AT.format(path="/metrics", hangs='Path("wedge").exists()')
NEVER_READY = HANGS_AT.format(path="/", hangs="True")

CASES = (
    Case(1, "embedded engine stands still", to_the_engine(signal.SIGSTOP), restarted, "it hangs"),
    Case(2, "embedded engine killed", to_the_engine(signal.SIGKILL), restarted, "proxy engine"),
    Case(3, "engine answers byte by byte", its_answers("drip"), restarted, "it hangs"),
    Case(4, "engine answers nonsense", its_answers("nonsense"), restarted, "proxy engine"),
    Case(
        7,
        "service ignores SIGTERM",
        when_a_stop_was_due,
        wedged("back"),
        "back wedged",
        faults="[stop: {service: back}]",
        parts={"back": DEAF},
        more=SHORT.replace("fault: 8s", "fault: 14s"),
    ),
    Case(8, "service stopped by an outsider", signalled("back", signal.SIGSTOP), wedged("back"), "back wedged"),
    Case(9, "/metrics hangs", wedge_file, unread_counter, "without-back", expect=DEFERRED, parts={"front": ONCE_WEDGED}),
    Case(10, "service is never ready", when_it_was_due_to_be_ready, not_ready, "did not come up", parts={"back": NEVER_READY}),
    Case(11, "log without end", wedge_file, wedged("back"), "back wedged", parts={"back": FLOODS}),
    Case(
        12,
        "PostgreSQL stands still",
        signalled("postgres", signal.SIGSTOP, "PhaseBegan", phase="recovery"),
        wedged("postgres"),
        "postgres wedged",
        expect=SETTLED,
        query="SELECT 0, 1",
    ),
    Case(
        13,
        "query that never ends",
        when_the_first_invariant_was_asked,
        unanswered_invariant,
        "could not be asked: ",
        expect=SETTLED,
        query="SELECT count(*), 1 FROM pg_sleep(3600)",
    ),
    Case(14, "Locust stands still", signalled("load", signal.SIGSTOP), load_ended("hangs"), "hangs"),
    Case(
        15,
        "Locust ignores stop",
        when_the_load_was_due_to_end,
        load_ended("did not end"),
        "did not end",
        locustfile=NEVER_STOPS,
    ),
    Case(16, "Locust killed", signalled("load", signal.SIGKILL), load_ended("SIGKILL"), "SIGKILL"),
    Case(
        17,
        "records cannot be written",
        when_the_records_were_full,
        load_ended("cannot be written"),
        "cannot be written",
        locustfile=LITTLE_ROOM,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number} {case.name}")
def test_a_wedge_is_noticed_and_the_run_ends_healed_and_never_passes(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    stand = stand_of(case, tmp_path, monkeypatch)

    provoked = case.provoke(stand)
    code, out = stand.running.end(within=case.ends_within)

    events = stand.running.events()
    noticed = [event for event in (*events, *stand.samples()) if event["at"] >= provoked - 0.1 and case.noticed(event)]
    assert noticed, f"nobody noticed\n{out}"
    first = min(noticed, key=lambda event: float(event["at"]))
    seconds = max(0.0, (stand.seen or first["at"]) - provoked)
    assert seconds <= NOTICED_WITHIN
    verdict = verdict_of(tmp_path / "reports")
    assert (verdict["word"], code) in (("inconclusive", 3), ("error", 5)), out
    assert case.says in told_by(verdict)
    assert "Traceback" not in out
    nothing_is_left(stand.running.folder, events)
    table.note(case.number, case.name, first["event"], seconds, f"{verdict['word']} ({code})")


def test_a_log_without_end_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in CASES if case.number == 11)
    stand = stand_of(case, tmp_path, monkeypatch)
    largest = 0

    case.provoke(stand)
    while stand.running.process.poll() is None:
        with suppress(OSError):
            largest = max(largest, (stand.running.folder / "logs" / "back.log").stat().st_size)  # type: ignore[operator]
        time.sleep(0.02)
    stand.running.end()

    assert FLOOD_BYTES < largest < 2 * MOST_BYTES


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own takes root")
def test_a_disk_that_is_full_ends_the_run_healed_and_says_what_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    disk = tmp_path / "reports"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True, timeout=10)
    try:
        stand = stand_of(Case(18, "", wedge_file, restarted, ""), tmp_path, monkeypatch)
        stand.seconds_into("FaultBegan")
        journal = stand.running.folder
        assert journal is not None
        shutil.copy(journal / "undo.jsonl", tmp_path)
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        filled = time.time()
        code, out = stand.running.end(within=90)

        assert code == 5, out
        assert "No space left on device" in out
        assert "Traceback" not in out
        assert "what could not be written" in out
        told = [json.loads(line) for line in out.splitlines() if line.strip().startswith('{"event"')]
        told += stand.running.events()
        failed = next((event for event in told if event["event"] == "RunFailed"), None)
        assert failed is not None, out
        assert any(event["event"] == "FaultEnded" for event in told)
        seconds = failed["at"] - filled
        assert seconds <= NOTICED_WITHIN
        nothing_is_left(tmp_path, told)
        table.note(18, "disk full", "RunFailed", max(0.0, seconds), f"error ({code})")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=10)


# at engines


@pytest.mark.skipif(TOXIPROXY is None, reason="no real Toxiproxy: name its program in TOXIPROXY_SERVER")
@pytest.mark.parametrize(("number", "name"), [(5, "Toxiproxy locks up"), (6, "Toxiproxy stands still")])
def test_a_toxiproxy_that_wedged_is_replaced_with_every_proxy_as_it_should_be(
    number: int, name: str, tmp_path: Path, table: Table
) -> None:
    def pour(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.sendall(bytes(30_000_000))

    recorded: list[Happened] = []
    with served(toxiproxy_command(TOXIPROXY or ""), tmp_path) as server, closing(Callee(pour)) as callee:
        edge = ProxyMade(EDGE, free_address(), callee.address)
        engine = SupervisedEngine(server.control, engine_at=ToxiproxyEngine, restart=server.restart, record=recorded.append)
        engine.begin([edge])
        engine.put(EDGE, SLOW)
        with connect(edge.listen):  # and never reads
            time.sleep(0.5)
            wedged_at = time.time()
            if number == 6:
                server.process.send_signal(signal.SIGSTOP)
            engine.put(EDGE, CLEAN)
        assert eventually(lambda: bool(recorded))
        found = engine.read(EDGE)
        engine.close()

    (event,) = recorded
    assert isinstance(event, EngineRestarted)
    assert "it hangs" in event.reason
    assert found == CLEAN
    assert event.at - wedged_at <= NOTICED_WITHIN
    table.note(number, name, "EngineRestarted", event.at - wedged_at, f"restarted in {event.seconds:.1f} s, healed")


def test_a_docker_engine_that_hangs_is_told_where_it_was_asked_for_and_done_without_where_it_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    with closing(StubEngine(hangs=True)) as stub:
        monkeypatch.setenv("DOCKER_HOST", stub.host)
        path = scenario(tmp_path, CUT, FEW_ERRORS, SHORT)
        answer, with_it = timed("run", str(path), "--runtime", "docker", "--report-dir", str(tmp_path / "docker"))
        run = Running(["run", str(path), "--runtime", "auto"], tmp_path / "auto")
        reason = run.wait_for("RunBegan")
        run.signal(signal.SIGINT)
        run.end()

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    _, without = timed("run", str(path), "--runtime", "docker", "--report-dir", str(tmp_path / "docker"))
    took = max(0.0, with_it - without)  # what the command takes for itself is longer on a busy machine
    assert answer.code == 5
    assert f"no Docker engine answers at {stub.host} (timed out)" in answer.err
    assert took <= NOTICED_WITHIN
    assert "timed out" in reason["reason"]
    assert reason["runtime"] == "local"
    table.note(19, "hung Docker engine at the start", "exit code 5", took, "error (5); auto: local processes")


def timed(*arguments: str) -> tuple[Answer, float]:
    began = time.monotonic()
    return chaos(*arguments), time.monotonic() - began


def test_a_docker_engine_that_hangs_in_mid_run_ends_the_run(table: Table) -> None:
    told: list[WedgeNoticed] = []
    seen = threading.Event()

    def tell(event: WedgeNoticed) -> None:
        told.append(event)
        seen.set()

    with closing(StubEngine()) as stub:
        pulse = EnginePulse(DockerEngine(stub.host, "24.0.0", "2.30.0"), tell)
        pulse.begin()
        time.sleep(1.0)
        stub.hangs = True
        hung = time.time()
        assert seen.wait(2 * NOTICED_WITHIN)
        with pytest.raises(Exception, match="it hangs"):
            pulse.check()
        pulse.end()

    seconds = told[0].at - hung
    assert seconds <= NOTICED_WITHIN
    table.note(20, "Docker engine hangs in mid-run", "WedgeNoticed", seconds, "the run ends (5)")
