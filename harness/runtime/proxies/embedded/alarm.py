"""Delays that are never early: one heap of deadlines on one timer of the kernel.

The loop's own `call_later` counts whole milliseconds from a cached time and fires up to 0.9 ms early.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic_ns
from typing import Any, Protocol

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_TFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
_NS = 1_000_000_000
_MS = 1_000_000
_SWEEP = 1024


class Bell:
    """One deadline that was set; it rings once, unless it is cancelled before."""

    __slots__ = ("due", "ring")

    def __init__(self, due: int, ring: Callable[[], None]) -> None:
        self.due = due
        self.ring: Callable[[], None] | None = ring

    def cancel(self) -> None:
        """It will not ring."""
        self.ring = None


class Timer(Protocol):
    """Wakes the alarm at a time, or a little later; one at a time."""

    def set(self, due: int) -> None:
        """Wake at this moment of the monotonic clock, in nanoseconds, instead of at the one set before."""
        ...

    def close(self) -> None:
        """Never wake again."""
        ...


class Alarm:
    """All deadlines of the engine, the earliest first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._heap: list[tuple[int, int, Bell]] = []
        self._order = count()
        self._sweep_at = _SWEEP
        self._set_for: int | None = None
        self._timer = timer_for(loop, self._ring)

    def at(self, due: int, ring: Callable[[], None]) -> Bell:
        """Call `ring` at `due` on the monotonic clock in nanoseconds, never before."""
        bell = Bell(due, ring)
        if len(self._heap) >= self._sweep_at:
            self._forget_cancelled()
        heappush(self._heap, (due, next(self._order), bell))
        self._wind()
        return bell

    def close(self) -> None:
        """Nothing rings any more."""
        self._heap.clear()
        self._timer.close()

    def _ring(self) -> None:
        self._set_for = None
        now = monotonic_ns()
        while self._heap and self._heap[0][0] <= now:
            bell = heappop(self._heap)[2]
            if bell.ring is not None:
                bell.ring()
        self._wind()

    def _forget_cancelled(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].ring is not None]
        heapify(self._heap)
        self._sweep_at = max(_SWEEP, 2 * len(self._heap))

    def _wind(self) -> None:
        if self._heap and (self._set_for is None or self._heap[0][0] < self._set_for):
            self._set_for = self._heap[0][0]
            self._timer.set(self._set_for)


class LoopTimer:
    """Where the kernel has no timerfd: the loop's timer, rounded up."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop, self._wake = loop, wake
        self._handle: asyncio.TimerHandle | None = None

    def set(self, due: int) -> None:
        self.close()
        milliseconds = -(-max(0, due - monotonic_ns()) // _MS)
        self._handle = self._loop.call_later(milliseconds / 1000, self._wake)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class KernelTimer:
    """Linux's timerfd, by way of the C library: Python has it from 3.13 on only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop, self._wake = loop, wake
        self._spec = _Itimerspec()
        loop.add_reader(self._fd, self._read)

    def set(self, due: int) -> None:
        due = max(due, 1)  # a time of nothing would stop the timer
        self._spec.value_s, self._spec.value_ns = divmod(due, _NS)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(self._spec), None)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):  # set anew since it fired
            os.read(self._fd, 8)
        self._wake()


def timer_for(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> Timer:
    """The best timer there is on this machine."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            return KernelTimer(loop, wake)
    return LoopTimer(loop, wake)
