"""Interrupts as data: a signal sets a flag that the driver looks at, and does nothing else.

A second signal changes nothing, so that what undoes the run is never disturbed. The flag is an attribute that is looked
at again and again, rather than a threading.Event, whose lock the interrupted thread might be holding.

Whoever looks at the flag goes on. So it is also known here whether the run does: a wait looks several times a second,
and what may rightly take longer says so beforehand.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType

from harness.errors import HarnessError

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SILENT_SECONDS = 5.0
"""For how long the main thread of a run may look at nothing, where it did not say that it needs longer."""

LOOK_EVERY = 0.1
GIVE_UP_SECONDS = 1.0
SWALLOWED_SECONDS = 2.0
"""After which a further signal ends a command that the first one should have ended."""


class Stopped(Exception):
    """The run was asked to end; carries the signal's name."""


class Stop:
    """Set once, by a signal or in words; looked at by everything that waits. One command has one, for all its runs."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._failure: HarnessError | None = None
        self._silent_until = inf

    def ask(self, name: str) -> None:
        """Ask the run to end; only the first asking counts. Safe in a signal handler, and from any thread."""
        if self.signal is None:
            self.signal = name

    def fail(self, error: HarnessError) -> None:
        """Let every wait of this run raise what makes it senseless to go on; only the first counts. From any thread."""
        if self._failure is None:
            self._failure = error

    def begin(self) -> None:
        """A run begins, in the thread that calls this: what another one failed by is none of its business."""
        self._failure = None
        self.busy(0.0)

    def busy(self, seconds: float) -> None:
        """The main thread may look at nothing for so long, counted from now; a wait that follows counts anew."""
        self._silent_until = time.monotonic() + max(seconds, SILENT_SECONDS)

    def over(self) -> None:
        """The run is over: nobody has to go on."""
        self._silent_until = inf

    @property
    def goes_on(self) -> bool:
        """Whether the main thread looked here, or said that it will be busy, in time."""
        return time.monotonic() <= self._silent_until

    def check(self) -> None:
        """Raise Stopped where the run was asked to end, and what it failed by where it did."""
        self.busy(0.0)
        if self.signal is not None:
            raise Stopped(self.signal)
        if self._failure is not None:
            raise self._failure

    @property
    def _is_set(self) -> bool:
        self.busy(0.0)
        return self.signal is not None or self._failure is not None

    def wait_until(self, at: float) -> None:
        """Wait for a moment (seconds since the epoch); raises Stopped as soon as the run is asked to end."""
        while (left := at - time.time()) > 0 and not self._is_set:
            time.sleep(min(left, LOOK_EVERY))
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
            if self._is_set:
                give_up()
                worker.join(GIVE_UP_SECONDS)
                break
        self.check()
        if raised:
            raise raised[0]


@contextmanager
def listening(stop: Stop) -> Iterator[None]:
    """While this lasts, SIGINT, SIGTERM and SIGHUP only set the flag. Must be entered in the main thread."""

    def note(number: int, _frame: FrameType | None) -> None:
        stop.ask(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in _heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded() -> list[signal.Signals]:
    """All, but that of a closed terminal where somebody asked to go on without it (`nohup`)."""
    return [number for number in STOPPING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def end_by_signals(stop: Stop) -> None:
    """From now on each of the three signals ends the command by KeyboardInterrupt, and is noted; but see `listening`.

    Only the first one does, so that nothing disturbs the end; or one that comes when that should long be over.
    """
    asked = inf

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        is_first = stop.signal is None
        stop.ask(signal.Signals(number).name)
        if is_first or time.monotonic() - asked > SWALLOWED_SECONDS:
            asked = time.monotonic()
            raise KeyboardInterrupt

    for number in _heeded():
        signal.signal(number, end)


def ignore_signals() -> None:
    """The command is over: what comes now comes too late to change its exit code."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
