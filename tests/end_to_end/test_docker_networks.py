"""Edges that are cut by the network itself, on both engines, seen from inside the caller's container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.recording import begin, note
from tests.end_to_end.chaos import PROJECT, chaos, environment, evidence, verdict_of
from tests.end_to_end.docker_rig import PROXIES, DockerRun, docker, images, kinds_of, scenario_of, seconds_until, tiny_system

pytestmark = [pytest.mark.slow, pytest.mark.docker]

PHASES = "phases: {warmup: 1s, baseline: 10s, fault: 8s, recovery: 12s}"
EXPECT = "[{error_rate: {journey: alone, max: 50%}}]"
FAULTS = {
    "isolate": "isolate: {service: back, by: network}",
    "partition": "partition: {between: [[front], [back]], by: network}",
    "unreachable": "outage: {edge: front -> back, mode: unreachable}",
}

ROWS = {"isolate": "isolate/network", "partition": "partition/network", "unreachable": "outage/unreachable"}
"""What they are called in the table of what was tried."""

PROOFS = ("set", "bit", "met", "healed")

LOOK = """
import http.client, json, socket, sys, time

def connect():
    began = time.time()
    try:
        socket.create_connection(("back", 8000), 0.7).close()
        said = "connected"
    except OSError as error:
        said = str(error)
    return began, said

def ask(connection):
    connection.request("GET", "/")
    return connection.getresponse().read().decode()

kept = http.client.HTTPConnection("back", 8000, timeout=30)
before, local = ask(kept), kept.sock.getsockname()
looks, during, after, more = [connect()], None, None, 4
until = time.time() + 40
while time.time() < until and more:
    more -= after is not None
    looks.append(connect())
    if looks[-1][1] == looks[-2][1] == "timed out" and during is None:
        kept.request("GET", "/")
        kept.sock.settimeout(0.5)
        try:
            during = kept.sock.recv(1).decode()
        except OSError as error:
            during = str(error)
        kept.sock.settimeout(30)
    if looks[-1][1] == "connected" and during is not None and after is None:
        after = kept.getresponse().read().decode()
    time.sleep(0.1)
print(json.dumps([before, during, after, local == kept.sock.getsockname(), looks]))
"""


class EngineRun(DockerRun):
    """A run with an engine that was asked for."""

    def __init__(self, path: Path, reports: Path, engine: str) -> None:
        self.reports = reports
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness", "run", str(path), "--engine", engine, "--report-dir", str(reports)],
            cwd=PROJECT,
            env={**environment(), **images()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    runs: list[EngineRun] = []

    def begun(fault: str, engine: str, phases: str = PHASES) -> EngineRun:
        path = scenario_of(tiny_system(tmp_path), faults=f"[{{{fault}}}]", expect=EXPECT, more=phases)
        runs.append(EngineRun(path, tmp_path / "reports", engine))
        run = runs[-1]
        seconds_until(lambda: run.process.poll() is not None or (run.folder and kinds_of(run.folder, "LoadBegan")), 120)
        assert run.process.poll() is None, run.process.communicate()[0]
        return run

    yield begun
    for run in runs:
        run.make_sure_it_is_over()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="Toxiproxy's networks are entered by root alone")


@as_root
@pytest.mark.parametrize("engine", ["toxiproxy", pytest.param("embedded", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("kind", FAULTS)
def test_no_handshake_is_answered_and_an_open_connection_lives_on(
    start: Any, request: pytest.FixtureRequest, kind: str, engine: str
) -> None:
    begin(request, f"{ROWS[kind]}, {engine}", "docker")
    run = start(FAULTS[kind], engine)

    before, during, after, is_same, looks = json.loads(docker("exec", run.container("front"), "python3", "-c", LOOK))
    output, _ = run.process.communicate(timeout=120)

    (began,), (ended,) = kinds_of(run.folder, "FaultBegan"), kinds_of(run.folder, "FaultEnded")
    seen = {
        "before": {said for at, said in looks if at + 0.7 < began["asked_at"]},
        "during": {said for at, said in looks if began["at"] < at and at + 0.7 < ended["asked_at"]},
        "after": {said for at, said in looks if at > ended["at"]},
    }
    assert seen == {"before": {"connected"}, "during": {"timed out"}, "after": {"connected"}}, output
    assert (before, during, after, is_same) == ("ok", "timed out", "ok", True)
    assert began["asked"] == began["found"]
    assert ended["at"] - ended["asked_at"] < 5
    assert began["at"] - began["asked_at"] < 5
    proofs = {kind: outcome for kind, outcome in evidence(verdict_of(run.reports)).items() if kind in PROOFS}
    assert proofs == dict.fromkeys(PROOFS, "passed"), output
    note(request, f"{ROWS[kind]}, {engine}", "docker", "passed")


@pytest.mark.parametrize("kind", ["isolate", "partition"])
def test_processes_have_no_networks_of_their_own(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    path = scenario_of(tiny_system(tmp_path), faults=f"[{{{FAULTS[kind]}}}]", expect=EXPECT, more=PHASES)

    answer = chaos("plan", str(path), "--runtime", "local")

    assert answer.code == 2
    assert f"expected {kind} by: proxy, found by: network: that needs containers" in answer.err
    for engine in ("toxiproxy", "embedded"):
        note(request, f"{ROWS[kind]}, {engine}", "local", "cannot: it needs containers")


CONNECT = """
import json, socket
try:
    socket.create_connection(("back", 8000), 1.0).close()
    print(json.dumps("connected"))
except OSError as error:
    print(json.dumps(str(error)))
"""


@as_root
def test_what_is_cut_by_the_network_stays_cut_where_the_proxies_are_started_anew(start: Any) -> None:
    """A new container has an empty network namespace."""
    run = start(FAULTS["isolate"].replace("}", "}, at: 0s, for: 20s"), "toxiproxy", PHASES.replace("fault: 8s", "fault: 22s"))
    seconds_until(lambda: kinds_of(run.folder, "FaultBegan"), 60)
    assert run.python("front", CONNECT) == "timed out"

    docker("kill", run.container(PROXIES))
    seconds_until(lambda: kinds_of(run.folder, "EngineRestarted"), 30)

    (restarted,) = kinds_of(run.folder, "EngineRestarted")
    assert restarted["back"]
    assert kinds_of(run.folder, "FaultEnded") == []
    assert run.python("front", CONNECT) == "timed out"
    seconds_until(lambda: kinds_of(run.folder, "FaultEnded"), 60)
    assert run.python("front", CONNECT) == "connected"
    (ended,) = kinds_of(run.folder, "FaultEnded")
    assert ended["asked"] == ended["found"]
