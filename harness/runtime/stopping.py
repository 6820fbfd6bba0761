"""Interrupts as data: a signal sets a flag that the driver looks at, and does nothing else.

A second signal changes nothing, so that what undoes the run is never disturbed.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """The run was asked to end; carries the signal's name."""


class Stop:
    """Set once, by a signal; looked at by everything that waits."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signal: str | None = None

    def ask(self, name: str) -> None:
        """Ask the run to end; only the first asking counts."""
        if self.signal is None:
            self.signal = name
        self._event.set()

    def check(self) -> None:
        """Raise Stopped where the run was asked to end."""
        if self._event.is_set():
            raise Stopped(self.signal)

    def wait_until(self, at: float) -> None:
        """Wait for a moment (seconds since the epoch); raises Stopped as soon as the run is asked to end."""
        while (left := at - time.time()) > 0:
            if self._event.wait(min(left, 1.0)):
                break
        self.check()


@contextmanager
def listening(stop: Stop) -> Iterator[None]:
    """While this lasts, SIGINT, SIGTERM and SIGHUP only set the flag. Must be entered in the main thread."""

    def note(number: int, _frame: FrameType | None) -> None:
        stop.ask(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
