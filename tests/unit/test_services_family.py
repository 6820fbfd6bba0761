"""Whom a restart, or a signal, strikes: the processes that a service was started with, and nobody who has its number later."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.history.events import Event, ServiceChanged, WedgeNoticed
from harness.runtime.ending import Process
from harness.runtime.ports import Address, Launch
from harness.runtime.services import deeds
from harness.runtime.services import process as services
from harness.runtime.services.limits import Limits
from harness.runtime.services.process import ServiceProcess
from harness.runtime.services.restarting import Restarts
from harness.runtime.services.spot import Spot


@dataclass
class Sleeps:
    """A service that does nothing, as often as it is started."""

    end_with: int = signal.SIGTERM
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, launch: Launch) -> subprocess.Popen[bytes]:
        self.started.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
        return self.started[-1]

    def why_not_ready(self) -> str | None:
        return None


@dataclass
class Brought:
    """A service whose process has ended by itself, whose number a stranger has by now, and all signals that were sent."""

    service: ServiceProcess
    runnable: Sleeps
    told: list[Event]
    sent: list[int] = field(default_factory=list)


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Brought]:
    runnable, told = Sleeps(), list[Event]()
    spot = Spot("order", Address("127.0.0.1", 1), tmp_path / "order.log", tmp_path / "order")
    limits = Limits("order", lambda *_: None)
    service = ServiceProcess(spot, runnable, 1.0, Restarts("always"), limits, lambda *_, **__: None, told.append)
    found = Brought(service, runnable, told)
    service.ready.set()
    pid = service.start()
    runnable.started[0].kill()
    runnable.started[0].wait()
    stranger = Process(pid, 1, pid, pid, time.monotonic_ns())
    monkeypatch.setattr(deeds, "process_table", lambda: {pid: stranger})
    monkeypatch.setattr(deeds, "DEED_SECONDS", 0.1)
    monkeypatch.setattr(services, "stands_still", lambda number: number == pid)
    monkeypatch.setattr(os, "kill", lambda number, _signal: found.sent.append(number))
    yield found
    monkeypatch.undo()
    for process in runnable.started:
        process.kill()
        process.wait()


def test_who_has_the_number_of_a_service_that_has_ended_is_neither_woken_nor_killed(brought: Brought) -> None:
    exits = brought.service.look_after()

    assert [event.how for event in exits] == ["killed by SIGKILL"]
    assert brought.sent == []
    assert [event.what for event in brought.told if isinstance(event, ServiceChanged)] == ["start"]
    assert not any(isinstance(event, WedgeNoticed) for event in brought.told)
    assert len(brought.runnable.started) == 2
