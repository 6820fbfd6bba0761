"""Signals set a flag and do nothing else; everything that waits looks at it."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from harness.runtime.stopping import Stop, Stopped, listening


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
