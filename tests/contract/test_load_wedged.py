"""A load process that hangs says nothing: that is noticed, and it is ended; nobody waits for it without end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runtime.load import process
from harness.runtime.load.locust import SILENT_SECONDS
from tests.contract.load_rig import Rig, browser, load_rig

NOTICED_WITHIN = 5.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with load_rig(tmp_path) as made:
        yield made


def watched_for(rig: Rig, seconds: float) -> str | None:
    """What is told of its end, looked for as a driver does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and rig.load.ended_early() is None:
        time.sleep(0.1)
    return rig.load.ended_early()


@pytest.mark.alone
@pytest.mark.slow
def test_a_load_that_stands_still_is_noticed_and_killed(rig: Rig) -> None:
    rig.start(browser("FastHttpUser"))
    rig.go()
    assert watched_for(rig, 1.5) is None
    pid = rig.pid

    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    reason = watched_for(rig, 2 * NOTICED_WITHIN)

    assert reason is not None
    assert "Locust hangs (expected a record every second, found none for 4 s), and was killed" in reason
    assert time.monotonic() - stopped < NOTICED_WITHIN
    assert rig.pids == ()


@pytest.mark.slow
def test_a_load_whose_users_wait_for_long_does_not_hang(rig: Rig) -> None:
    rig.start(browser("FastHttpUser"), rate=0.05, seconds=20.0)
    rig.go()

    assert watched_for(rig, 2.5 * SILENT_SECONDS) is None


def test_a_load_that_nobody_looked_at_for_long_does_not_hang(rig: Rig) -> None:
    rig.start(browser("FastHttpUser"))
    rig.go()
    assert watched_for(rig, 1.0) is None

    time.sleep(SILENT_SECONDS + 1.0)

    assert rig.load.ended_early() is None
    assert watched_for(rig, 1.0) is None


def test_a_load_that_reads_nothing_keeps_nobody_who_tells_it_something(rig: Rig) -> None:
    rig.start(browser("FastHttpUser"))
    os.kill(rig.pid, signal.SIGSTOP)
    (told,) = rig.load._processes
    began = time.monotonic()

    for _ in range(2):
        told.send({"much": "x" * 4_000_000})

    assert time.monotonic() - began < 2 * process.SEND_SECONDS + 1.0
    rig.load._end_processes()
    assert rig.pids == ()
