"""Who works when: users wait for an arrival before each task, in place of the waits their file asks for.

Coordinated omission begins where a slow answer delays the next request. In the open model a schedule of its own
says when each arrival is due; an idle user takes it, and when none is idle it queues and its latency counts on.
In the closed model the users' own waits stay, and only begin and end are ours.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import AsyncResult

from harness.runtime.load.ledger import Exchange, now

HANDED_ON_WITHIN = 0.05
HANDED_ON_AT_MOST = 10
"""A task that ends at once without a request (`if not self.orders: return`, an `interrupt`) leaves its arrival to the
user's next task, so that the rate of requests is the rate asked for; not without end, and not after it has slept."""

_END = None
"""What wakes an idle user to its end, in place of an arrival."""


@dataclass(slots=True, eq=False)
class Turn:
    """One task of one user. `due` is when it was meant to begin, None in the closed model."""

    due: float | None
    began: float
    requested: bool = False
    running: bool = True
    failed: bool = False
    handed_on: int = 0
    exchanges: list[Exchange] = field(default_factory=list)

    def take_due(self, start: float) -> float:
        """The intended start of the turn's next request: that of the arrival for the first, its own for those chained to it."""
        first, self.requested = not self.requested, True
        return self.due if first and self.due is not None else start

    @property
    def is_left_over(self) -> bool:
        """Whether the user's next task may have this arrival."""
        fresh = now() - self.began < HANDED_ON_WITHIN and self.handed_on < HANDED_ON_AT_MOST
        return self.due is not None and fresh and not (self.requested or self.failed)


class Pace:
    """Begin and end of the load, and in the open model the arrivals between them."""

    def __init__(self, offsets: Iterator[float] | None, seed: int, end_user: Callable[[], BaseException]) -> None:
        self._offsets = offsets
        self._seed = seed
        self._end_user = end_user
        self._line: deque[Any] = deque()
        self._late: deque[float] = deque()
        self._dispatcher: Any = None
        self._lag = 0.0
        self.begin = 0.0
        self.has_begun = False
        self.ending = False
        self.scheduled = 0

    @property
    def is_open(self) -> bool:
        """Whether arrivals, not users, set the rate."""
        return self._offsets is not None

    @property
    def idle(self) -> int:
        """How many users wait for their turn."""
        return len(self._line)

    def go(self, at: float) -> None:
        """The first arrival is due at `at`.

        Users were made class by class, and stand so in line; left like that, the mix of classes would swing with
        every round of the line.
        """
        if self.has_begun or self.ending:
            return
        self.begin, self.has_begun = at, True
        random.Random(self._seed).shuffle(self._line)  # noqa: S311 - an order, not a secret
        if self._offsets is not None:
            self._dispatcher = gevent.spawn(self._dispatch, self._offsets)
        else:
            self._wake_all(at)

    def next_turn(self, last: Turn | None) -> Turn:
        """Wait until it is this user's turn; raises the exception that ends a user when the load is over."""
        if last is not None and not self.ending and last.is_left_over:
            gevent.sleep(0)
            last.handed_on, last.running = last.handed_on + 1, True
            return last
        if not self.is_open:
            return self._turn_of_own()
        due = self._late.popleft() if self._late else self._wait_in_line()
        began = now()
        self._lag = max(self._lag, began - due)
        return Turn(due, began)

    def end(self, at: float) -> list[float]:
        """No further arrival. Wakes every idle user to its end; returns the arrivals that were due and that nobody took."""
        self.ending = True
        if self._dispatcher is not None:
            self._dispatcher.kill()
        self._wake_all(_END)
        late, too_late = [due for due in self._late if due <= at], [due for due in self._late if due > at]
        self._late.clear()
        self.scheduled -= len(too_late)
        return late

    def worst_lag(self) -> float:
        """The largest distance between a due time and its turn since the last call, arrivals still waiting included."""
        lag = max(self._lag, now() - self._late[0]) if self._late else self._lag
        self._lag = 0.0
        return lag

    def _turn_of_own(self) -> Turn:
        if not self.has_begun:
            sleep_until(self._wait_in_line())
        if self.ending:
            raise self._end_user()
        return Turn(None, now())

    def _wait_in_line(self) -> float:
        if self.ending:
            raise self._end_user()
        place = AsyncResult()
        self._line.append(place)
        try:
            due: float | None = place.get()
        except BaseException:
            if place in self._line:
                self._line.remove(place)
            raise
        if due is _END:
            raise self._end_user()
        return due

    def _wake_all(self, told: float | None) -> None:
        while self._line:
            self._line.popleft().set(told)

    def _dispatch(self, offsets: Iterator[float]) -> None:
        for offset in offsets:
            due = self.begin + offset
            sleep_until(due)
            self.scheduled += 1
            if self._line:
                self._line.popleft().set(due)
            else:
                self._late.append(due)


def sleep_until(moment: float) -> None:
    """Wait for a moment. Timers of the event loop may fire a little early; an arrival never does."""
    while (left := moment - now()) > 0:
        gevent.sleep(left)
