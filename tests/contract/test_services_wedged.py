"""A service that stands still, or would not end, is told; one that a fault paused is left alone."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from harness.errors import ServiceNotReady
from harness.history.events import ServiceChanged, WedgeNoticed
from harness.model.system import LocalService
from harness.runtime.ending import process_table
from tests.contract.services_contract import change
from tests.contract.test_services import ONE, Brought, LocalRun, fetch, run, tiny, wait_until

__all__ = ["run"]

DRIPS = """
import socket, sys, threading, time
door = socket.create_server((sys.argv[1], int(sys.argv[2])))
def drip(caller):
    try:
        while True:
            caller.send(b"H")
            time.sleep(0.05)
    except OSError:
        pass
while True:
    threading.Thread(target=drip, args=(door.accept()[0],), daemon=True).start()
"""


def wedges(brought: Brought) -> list[tuple[str, str]]:
    return [(event.what, event.detail) for event in brought.events if isinstance(event, WedgeNoticed)]


def started(run: LocalRun, behaviour: str = "serves", **more: Any) -> Brought:
    brought = run.bring(ONE, {"order": tiny(behaviour)}, **more)
    brought.services.start()
    return brought


def test_a_service_that_somebody_stopped_is_told_and_goes_on(run: LocalRun) -> None:
    brought = started(run)
    assert brought.services.exited() == ()
    assert wedges(brought) == []

    os.kill(brought.pids()[0], signal.SIGSTOP)
    wait_until(lambda: brought.services.exited() or wedges(brought))

    assert fetch(brought.services, "order", "/pid") == str(brought.pids()[0])
    ((what, detail),) = wedges(brought)
    assert what == "order"
    assert "it stood still (SIGSTOP), although no fault paused it" in detail
    brought.services.exited()
    assert len(wedges(brought)) == 1


def test_a_service_that_a_fault_paused_is_left_as_it_is(run: LocalRun) -> None:
    brought = started(run)
    brought.services.strike(change("pause"))
    for _ in range(3):
        brought.services.exited()
        time.sleep(0.05)
    assert wedges(brought) == []

    brought.services.relieve(change("pause"))
    os.kill(brought.pids()[0], signal.SIGSTOP)
    wait_until(lambda: brought.services.exited() or wedges(brought))

    assert [what for what, _ in wedges(brought)] == ["order"]


@pytest.mark.parametrize("deed", ["stop", "restart"])
def test_a_service_that_would_not_end_is_told_as_killed(run: LocalRun, monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    monkeypatch.setattr("harness.runtime.services.deeds.STOP_SECONDS", 0.3)
    brought = started(run, "stubborn")

    brought.services.strike(change(deed))

    ((what, detail),) = wedges(brought)
    assert what == "order"
    assert "of SIGTERM, and was killed: what was tried is a kill, and no stop" in detail


@pytest.mark.parametrize(("behaviour", "deed"), [("serves", "stop"), ("serves", "restart"), ("stubborn", "kill")])
def test_a_service_that_ended_as_it_was_to_is_no_wedge(run: LocalRun, behaviour: str, deed: str) -> None:
    brought = started(run, behaviour)

    brought.services.strike(change(deed))

    assert wedges(brought) == []
    assert any(isinstance(event, ServiceChanged) and event.what == "die" for event in brought.events)


def test_a_service_that_answers_byte_by_byte_is_not_waited_for(run: LocalRun) -> None:
    script = run.folder / "drips.py"
    script.write_text(DRIPS, encoding="utf-8")
    brought = run.bring(ONE, {"order": LocalService(command=f"{{python}} {script} {{host}} {{port}}", ready="/ready")})
    began = time.monotonic()

    with pytest.raises(ServiceNotReady, match="not ready after"):
        brought.services.start()

    assert time.monotonic() - began < 5.0
    brought.take_down()
    assert not set(brought.pids()) & process_table().keys()
