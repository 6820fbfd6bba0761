"""Signals set a flag and do nothing else; everything that waits looks at it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from harness.errors import CouldNotRun
from harness.runtime.stopping import SILENT_SECONDS, Stop, Stopped, listening


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_wait_at_once(number: signal.Signals) -> None:
    stop = Stop()
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    began = time.monotonic()

    with listening(stop), pytest.raises(Stopped, match=number.name):
        stop.wait_until(time.time() + 30)

    assert time.monotonic() - began < 5


def test_a_second_signal_changes_nothing() -> None:
    stop = Stop()
    with listening(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    assert stop.signal == "SIGTERM"


def test_without_a_signal_a_wait_lasts_until_its_moment() -> None:
    at = time.time() + 0.05

    Stop().wait_until(at)

    assert time.time() >= at


def test_what_takes_a_while_is_told_to_give_up() -> None:
    stop = Stop()
    given_up = threading.Event()
    threading.Timer(0.1, stop.ask, ("SIGINT",)).start()

    with pytest.raises(Stopped, match="SIGINT"):
        stop.wait_for(lambda: given_up.wait(30) and None, given_up.set)

    assert given_up.is_set()


def test_what_goes_wrong_in_a_deed_is_raised_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        Stop().wait_for(fail, lambda: None)


def test_the_signals_mean_what_they_meant_before() -> None:
    before = signal.getsignal(signal.SIGINT)

    with listening(Stop()):
        assert signal.getsignal(signal.SIGINT) is not before

    assert signal.getsignal(signal.SIGINT) is before


def test_what_makes_a_run_senseless_ends_its_waits_and_those_of_no_other() -> None:
    stop = Stop()
    stop.begin()
    threading.Timer(0.1, stop.fail, (CouldNotRun("the guardian is gone"),)).start()
    began = time.monotonic()

    with pytest.raises(CouldNotRun, match="the guardian is gone"):
        stop.wait_until(time.time() + 30)
    stop.fail(CouldNotRun("something else"))
    with pytest.raises(CouldNotRun, match="the guardian is gone"):
        stop.check()

    assert time.monotonic() - began < 5
    stop.begin()
    stop.check()


def test_what_fails_meanwhile_makes_a_deed_give_up() -> None:
    stop = Stop()
    given_up = threading.Event()
    threading.Timer(0.1, stop.fail, (CouldNotRun("the guardian is gone"),)).start()

    with pytest.raises(CouldNotRun, match="the guardian is gone"):
        stop.wait_for(lambda: given_up.wait(30) and None, given_up.set)

    assert given_up.is_set()


def test_an_interrupt_counts_more_than_a_failure() -> None:
    stop = Stop()
    stop.fail(CouldNotRun("the guardian is gone"))
    stop.ask("SIGINT")

    with pytest.raises(Stopped, match="SIGINT"):
        stop.check()


def test_who_looks_goes_on_and_who_does_not_has_its_own_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    at = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: at)
    stop = Stop()
    assert stop.goes_on  # nothing was begun
    stop.begin()
    told = []
    for passes, looks in ((SILENT_SECONDS, True), (SILENT_SECONDS + 1, False)):
        at += passes
        told.append(stop.goes_on)
        if looks:
            stop.check()
    stop.busy(60)
    at += 59
    told.append(stop.goes_on)
    at += 2
    told.append(stop.goes_on)
    stop.over()
    told.append(stop.goes_on)

    assert told == [True, False, True, False, True]


PROGRAM = """
import os, signal, sys, time
from harness.runtime.stopping import Stop, end_by_signals, ignore_signals, listening
stop = Stop()
end_by_signals(stop)
try:
    for turn in range(3):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            print("went on")
        except KeyboardInterrupt:
            print("ended")
    time.sleep(2.1)
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("ended again")
ignore_signals()
os.kill(os.getpid(), signal.SIGHUP)
print(stop.signal)
"""


def test_only_the_first_signal_ends_a_command_or_one_that_comes_long_after() -> None:
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert answer.stdout.splitlines() == ["ended", "went on", "went on", "ended again", "SIGTERM"]


def test_who_asked_to_go_on_without_a_terminal_goes_on() -> None:
    program = (
        "import os, signal; signal.signal(1, signal.SIG_IGN)\n"
        "from harness.runtime.stopping import Stop, end_by_signals, listening\n"
        "stop = Stop(); end_by_signals(stop)\n"
        "with listening(stop): os.kill(os.getpid(), 1)\n"
        "print(stop.signal); os.kill(os.getpid(), 1); print('went on')\n"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout.split("\n") == ["None", "went on", ""]
