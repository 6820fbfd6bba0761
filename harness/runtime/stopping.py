"""Interrupts as data: a signal sets a flag that the driver looks at, and does nothing else.

A second signal changes nothing, so that what undoes the run is never disturbed. The flag is an attribute and
a pipe rather than a threading.Event, whose lock the interrupted thread might be holding.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """The run was asked to end; carries the signal's name."""


class Stop:
    """Set once, by a signal; looked at by everything that waits."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._asked, self._ask = os.pipe()

    def ask(self, name: str) -> None:
        """Ask the run to end; only the first asking counts. Safe in a signal handler."""
        if self.signal is None:
            self.signal = name
            os.write(self._ask, b"!")

    def check(self) -> None:
        """Raise Stopped where the run was asked to end."""
        if self.signal is not None:
            raise Stopped(self.signal)

    def wait_until(self, at: float) -> None:
        """Wait for a moment (seconds since the epoch); raises Stopped as soon as the run is asked to end."""
        while (left := at - time.time()) > 0 and self.signal is None:
            select.select([self._asked], [], [], min(left, 1.0))
        self.check()

    def wait_for(self, deed: Callable[[], None], give_up: Callable[[], None]) -> None:
        """Do something that takes a while; asked to end meanwhile, tell it to give up, and raise Stopped."""
        raised: list[BaseException] = []

        def attempt() -> None:
            try:
                deed()
            except BaseException as error:
                raised.append(error)

        worker = threading.Thread(target=attempt, daemon=True)
        worker.start()
        while worker.is_alive():
            worker.join(0.05)
            if self.signal is not None:
                give_up()
                worker.join(GIVE_UP_SECONDS)
                break
        self.check()
        if raised:
            raise raised[0]


GIVE_UP_SECONDS = 1.0


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
