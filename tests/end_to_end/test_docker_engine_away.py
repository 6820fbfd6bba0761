"""The engine goes away in mid-run: where it comes back nothing is left, and where it does not the person is told of what."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runtime.containers.engine import find_engine
from harness.runtime.containers.removal import remove_project
from tests.end_to_end.chaos import environment
from tests.end_to_end.docker_rig import DockerRun, kinds_of, left_of, of_project, scenario_of, tiny_system

pytestmark = [pytest.mark.slow, pytest.mark.docker]

LONG = "phases: {warmup: 1s, baseline: 5s, fault: 60s, recovery: 5s}"

WAY = """
import asyncio, sys


async def carry(reader, writer):
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()


async def serve(reader, writer):
    there = await asyncio.open_unix_connection(sys.argv[2])
    await asyncio.gather(carry(reader, there[1]), carry(there[0], writer), return_exceptions=True)


async def main():
    server = await asyncio.start_unix_server(serve, sys.argv[1])
    await server.serve_forever()


asyncio.run(main())
"""


class WayToTheEngine:
    """A socket that leads to the engine as long as it is open: closing it is how an engine ends."""

    def __init__(self, folder: Path) -> None:
        self.engine = find_engine(environment())
        self.socket = folder / "docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def open(self) -> None:
        to = self.engine.host.removeprefix("unix://")
        self.process = subprocess.Popen([sys.executable, "-c", WAY, str(self.socket), to], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while not self.socket.exists():
            assert time.monotonic() < until
            time.sleep(0.02)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.socket.unlink(missing_ok=True)


@pytest.fixture
def way(tmp_path: Path) -> Iterator[WayToTheEngine]:
    way = WayToTheEngine(tmp_path)
    if not way.engine.host.startswith("unix://"):
        pytest.skip(f"the engine at {way.engine.host} is not on this machine")
    way.open()
    yield way
    way.close()


@pytest.fixture
def run(tmp_path: Path, way: WayToTheEngine) -> Iterator[DockerRun]:
    run = DockerRun(scenario_of(tiny_system(tmp_path), more=LONG), tmp_path / "reports", {"DOCKER_HOST": way.host})
    yield run
    run.make_sure_it_is_over()
    if run.folder is not None:
        remove_project(run.project, way.engine.host, way.engine.certificates)


def test_an_engine_that_is_back_after_seconds_ends_the_run_and_nothing_is_left(run: DockerRun, way: WayToTheEngine) -> None:
    run.wait_for("FaultBegan")

    way.close()
    run.wait_for("RunFailed")
    time.sleep(2.0)
    way.open()
    code, out = run.end(within=60)

    assert code == 5, out
    assert "the Docker engine's stream of events ended" in " ".join(out.split())
    assert run.folder is not None
    assert kinds_of(run.folder, "FaultEnded")[0]["found"] == {"enabled": True, "toxics": []}
    assert left_of(run.folder) == []


@pytest.mark.nightly
def test_what_is_left_at_an_engine_that_stays_away_is_told(run: DockerRun, way: WayToTheEngine) -> None:
    run.wait_for("FaultBegan")

    way.close()
    code, out = run.end(within=90)

    text = " ".join(out.split())
    assert code == 6, out
    assert f"remove the containers, networks and volumes of {run.project} at {way.host}" in text
    assert "does not answer" in text
    assert "Traceback" not in text
    assert len(of_project(run.project)["containers"]) == 4


def test_an_engine_that_goes_away_while_the_system_comes_up_is_told(run: DockerRun, way: WayToTheEngine) -> None:
    run.wait_for("ServiceStarted")

    way.close()
    time.sleep(2.0)
    way.open()
    code, out = run.end(within=90)

    assert code == 5, out
    assert "Traceback" not in out
    assert run.folder is not None
    assert left_of(run.folder) == []


@pytest.mark.nightly
def test_a_harness_whose_engine_is_away_is_ended_by_a_signal_all_the_same(run: DockerRun, way: WayToTheEngine) -> None:
    run.wait_for("FaultBegan")

    way.close()
    run.signal(signal.SIGTERM)
    code, out = run.end(within=90)

    assert code == 6, out  # something was left behind, which comes first
    assert "Traceback" not in out
