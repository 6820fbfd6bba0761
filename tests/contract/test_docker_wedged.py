"""A Docker engine that hangs is noticed within 5 s, at its search, while a system comes up, and in mid-run."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CouldNotRun, MissingPart
from harness.history.events import Event, WedgeNoticed
from harness.runtime.containers.engine import DockerEngine, find_engine
from harness.runtime.containers.pulse import EnginePulse
from harness.runtime.containers.services import ContainerSystem, DockerServices
from tests.contract.engine_rig import StubEngine
from tests.contract.launching import plain_launch

NOTICED_WITHIN = 5.0


@pytest.fixture
def stub() -> Iterator[StubEngine]:
    with closing(StubEngine()) as started:
        yield started


def engine_at(stub: StubEngine) -> DockerEngine:
    return DockerEngine(stub.host, "24.0.0", "2.30.0")


def raised_by(check: Callable[[], object], within: float) -> CouldNotRun:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            check()
        except CouldNotRun as raised:
            return raised
        time.sleep(0.05)
    raise AssertionError(f"nothing was raised within {within:g} s")


def test_an_engine_that_hangs_when_it_is_looked_for_is_told_in_time(stub: StubEngine) -> None:
    stub.hangs = True
    began = time.monotonic()

    with pytest.raises(MissingPart, match=r"no Docker engine answers at unix://.*timed out"):
        find_engine({"DOCKER_HOST": stub.host, "PATH": "/usr/bin:/bin"})

    assert time.monotonic() - began < NOTICED_WITHIN


@pytest.mark.parametrize("answered_before", [True, False])
def test_an_engine_that_hangs_is_noticed_once(stub: StubEngine, answered_before: bool) -> None:
    told: list[WedgeNoticed] = []
    pulse = EnginePulse(engine_at(stub), told.append)
    stub.hangs = not answered_before
    pulse.begin()
    time.sleep(1.2 if answered_before else 0.0)
    pulse.check()
    began = time.time()
    stub.hangs = True

    raised = raised_by(pulse.check, NOTICED_WITHIN)

    assert stub.host in str(raised)
    assert "it hangs" in str(raised)
    assert [(event.what, event.at - began < NOTICED_WITHIN) for event in told] == [("Docker engine", True)]


def test_an_engine_that_is_gone_does_not_hang(stub: StubEngine) -> None:
    told: list[WedgeNoticed] = []
    gone = StubEngine()
    pulse = EnginePulse(engine_at(gone), told.append, within=1.0)
    pulse.begin()
    time.sleep(0.8)

    gone.close()
    time.sleep(2.5)

    pulse.check()
    pulse.end()
    assert told == []


@pytest.fixture
def services(stub: StubEngine, tmp_path: Path) -> Iterator[DockerServices]:
    model = tmp_path / "compose.json"
    model.write_text(json.dumps({"services": {}}), encoding="utf-8")
    started: list[subprocess.Popen[bytes]] = []

    def launch(name: str, _argv: Any, **given: Any) -> subprocess.Popen[bytes]:
        """Compose waits for an engine that hangs."""
        started.append(plain_launch(name, ["/bin/sleep", "60"], **given))
        return started[-1]

    system = ContainerSystem(engine_at(stub), "chaos-test", model, (), {}, {})
    events: list[Event] = []
    made = DockerServices(system, launch, events.append, lambda name: tmp_path / f"{name}.log")
    yield made
    made.close()
    for process in started:
        process.kill()
        process.wait(5)


def test_an_engine_that_hangs_while_the_system_comes_up_is_no_reason_to_wait(
    stub: StubEngine, services: DockerServices
) -> None:
    def hang() -> None:
        stub.hangs = True

    later = threading.Timer(1.0, hang)
    later.start()
    began = time.monotonic()
    with pytest.raises(CouldNotRun, match="it hangs"):
        services.start()

    later.join()
    assert time.monotonic() - began < 1.0 + NOTICED_WITHIN + 0.5


def test_an_engine_that_hangs_before_it_told_anything_is_no_reason_to_wait(stub: StubEngine, services: DockerServices) -> None:
    stub.hangs = True
    began = time.monotonic()

    with pytest.raises(CouldNotRun, match="expected a stream of events within"):
        services.start()

    assert time.monotonic() - began < NOTICED_WITHIN + 0.5
