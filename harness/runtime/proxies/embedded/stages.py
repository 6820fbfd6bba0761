"""What a toxic does to one direction of one connection: stages that bytes pass one after another, an outlet at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from time import monotonic_ns
from typing import Protocol, TypeAlias, assert_never

from harness.runtime.proxies.embedded.alarm import Alarm, Bell
from harness.runtime.proxies.embedded.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    Noop,
    ResetPeer,
    Slicer,
    SlowClose,
    StreamEffect,
    Timeout,
)

_US = 1_000
_MS = 1_000_000

ROOM = 64 * 1024
"""Bytes that a direction holds back before its source is no longer read: a slow way must slow its source down."""

ROOM_OF_LATENCY = 8 * 1024 * 1024
"""With latency it is as much as may be under way, as long as all connections together do not hold too much."""


class Passage(Protocol):
    """Where bytes can be put in: a stage, or the outlet behind the last one."""

    def feed(self, data: bytes) -> None:
        """Bytes, in order."""
        ...

    def finish(self) -> None:
        """No more bytes will come."""
        ...


class Way(Protocol):
    """What a stage may do to the direction it stands in."""

    alarm: Alarm
    is_new: bool
    """Whether the connection only begins, so that whatever comes meets the toxics that are there."""

    def random_of(self, toxic: str) -> Random:
        """The chance of the toxic of this name."""
        ...

    def strike(self, toxic: str) -> None:
        """The toxic of this name has acted here; saying so again changes nothing."""
        ...

    def hold(self, size: int) -> None:
        """So many more bytes are held back here (less, where negative); reading stops while they are too many."""
        ...

    def cut(self) -> None:
        """Close the whole connection now, because of the fault."""
        ...

    def reset(self) -> None:
        """Reset both ends of the connection now, because of the fault."""
        ...

    def close_at_end(self) -> None:
        """Close the whole connection, because of the fault, once the end that is told next has passed."""
        ...


class _Stage:
    """What all stages have: a name, a way, what follows them, and at most one deadline."""

    room = ROOM
    """Bytes that may be held in a direction in which this stands."""

    def __init__(self, toxic: str, way: Way, following: Passage) -> None:
        self.next = following
        self._toxic, self._way = toxic, way
        self._random = way.random_of(toxic)
        self._bell: Bell | None = None

    def drop(self) -> None:
        """The connection is gone, and what is held with it."""
        self._drop_bell()

    def _strike(self) -> None:
        self._way.strike(self._toxic)

    def _ring_at(self, due: int, ring: Callable[[], None]) -> None:
        self._drop_bell()
        self._bell = self._way.alarm.at(due, ring)

    def _drop_bell(self) -> None:
        if self._bell is not None:
            self._bell.cancel()
            self._bell = None


class LatencyStage(_Stage):
    """Holds each chunk back for its time; a delay is never early and never reorders."""

    room = ROOM_OF_LATENCY

    def __init__(self, effect: Latency, toxic: str, way: Way, following: Passage) -> None:
        super().__init__(toxic, way, following)
        self._effect = effect
        self._held: deque[tuple[int, int, bytes | None]] = deque()

    def feed(self, data: bytes) -> None:
        now, delay = monotonic_ns(), self._delay()
        self._put(now, now + delay, data)
        self._way.hold(len(data))
        if delay:
            self._strike()

    def finish(self) -> None:
        if not self._held:
            self.next.finish()
            return
        self._put(monotonic_ns(), 0, None)  # a bare close is not delayed: it only keeps its place

    def change(self, effect: StreamEffect) -> None:
        """What is held counts by the new delay from when it was read."""
        assert isinstance(effect, Latency)
        self._effect = effect
        held, self._held = self._held, deque()
        for read_at, _, data in held:
            self._put(read_at, read_at + self._delay() if data is not None else 0, data)
        self._ring_anew()

    def remove(self) -> None:
        """Whatever is held passes at once."""
        self._drop_bell()
        while self._held:
            self._pass_first()

    def drop(self) -> None:
        super().drop()
        self._held.clear()

    def _delay(self) -> int:
        latency, jitter = self._effect.latency * _MS, self._effect.jitter * _MS
        return max(0, latency + (self._random.randrange(-jitter, jitter) if jitter else 0))

    def _put(self, read_at: int, due: int, data: bytes | None) -> None:
        if self._held:
            due = max(due, self._held[-1][1])
        self._held.append((read_at, due, data))
        if self._bell is None:
            self._bell = self._way.alarm.at(due, self._release)

    def _release(self) -> None:
        self._bell = None
        now = monotonic_ns()
        while self._held and self._held[0][1] <= now:
            self._pass_first()
        self._ring_anew()

    def _ring_anew(self) -> None:
        if self._held:
            self._ring_at(self._held[0][1], self._release)
        else:
            self._drop_bell()

    def _pass_first(self) -> None:
        data = self._held.popleft()[2]
        if data is None:
            self.next.finish()
        else:
            self.next.feed(data)
            self._way.hold(-len(data))


class TimeoutStage(_Stage):
    """Loses all data; closes the connection when there have been none for the timeout, and when it is removed."""

    def __init__(self, effect: Timeout, toxic: str, way: Way, following: Passage) -> None:
        super().__init__(toxic, way, following)
        self._effect = effect
        self._due = 0
        self._is_met = way.is_new
        self._restart()

    def feed(self, data: bytes) -> None:  # noqa: ARG002 -- losing them is what this is for
        self._due = monotonic_ns() + self._effect.timeout * _MS
        self._is_met = True
        self._strike()

    def finish(self) -> None:
        self.next.finish()

    def change(self, effect: StreamEffect) -> None:
        """The new timeout counts from now."""
        assert isinstance(effect, Timeout)
        self._effect = effect
        self._drop_bell()
        self._restart()

    def remove(self) -> None:
        """Data were lost, or may have been: the connection cannot go on as if nothing had happened."""
        self._drop_bell()
        self._cut()

    def _restart(self) -> None:
        if self._effect.timeout:
            self._due = monotonic_ns() + self._effect.timeout * _MS
            self._ring_at(self._due, self._ring)

    def _ring(self) -> None:
        if self._due > monotonic_ns():
            self._ring_at(self._due, self._ring)
            return
        self._bell = None
        self._cut()

    def _cut(self) -> None:
        """An idle connection that was there before did not meet it, though it ends too."""
        if self._is_met:
            self._strike()
        self._way.cut()


class ResetStage(_Stage):
    """Swallows the first data or the end of them, and resets both ends of the connection."""

    def __init__(self, effect: ResetPeer, toxic: str, way: Way, following: Passage) -> None:
        super().__init__(toxic, way, following)
        self._effect = effect
        self._met = False

    def feed(self, data: bytes) -> None:  # noqa: ARG002 -- the peer never sees them
        self.finish()

    def finish(self) -> None:
        if self._met:
            return
        self._met = True
        self._strike()
        self._await()

    def change(self, effect: StreamEffect) -> None:
        """The new timeout counts from now."""
        assert isinstance(effect, ResetPeer)
        self._effect = effect
        if self._met:
            self._await()

    def remove(self) -> None:
        """A connection whose data were swallowed is reset now; one that met no data lives on."""
        self._drop_bell()
        if self._met:
            self._way.reset()

    def _await(self) -> None:
        if self._effect.timeout:
            self._ring_at(monotonic_ns() + self._effect.timeout * _MS, self._way.reset)
        else:
            self._drop_bell()
            self._way.reset()


class _Queue(_Stage):
    """A stage that lets what it holds pass in pieces of its own making; the end keeps its place behind them."""

    def __init__(self, toxic: str, way: Way, following: Passage) -> None:
        super().__init__(toxic, way, following)
        self._held: deque[bytes] = deque()
        self._passed = 0  # of the first chunk that is held
        self._ended = False

    def finish(self) -> None:
        self._ended = True
        self._finish_if_empty()

    def remove(self) -> None:
        """Whatever is held passes at once."""
        self._drop_bell()
        while self._held:
            self._pass(self._first())

    def drop(self) -> None:
        super().drop()
        self._held.clear()

    def _keep(self, data: bytes) -> None:
        self._held.append(data)
        self._way.hold(len(data))

    def _first(self) -> int:
        """How much of the first chunk is still held."""
        return len(self._held[0]) - self._passed

    def _pass(self, size: int) -> None:
        """So many bytes of the first chunk pass."""
        chunk, begin = self._held[0], self._passed
        if begin + size == len(chunk):
            self._held.popleft()
            self._passed = 0
        else:
            self._passed += size
        self.next.feed(chunk[begin : begin + size])
        self._way.hold(-size)
        self._finish_if_empty()

    def _finish_if_empty(self) -> None:
        if self._ended and not self._held:
            self._ended = False
            self.next.finish()


class BandwidthStage(_Queue):
    """Passes data as a line of this rate would: a chunk is there when its last byte is, a long one in pieces of 100 ms.

    `_free` is when the line has carried all that passed so far; reckoned from there, no delay of a timer adds up.
    """

    def __init__(self, effect: Bandwidth, toxic: str, way: Way, following: Passage) -> None:
        super().__init__(toxic, way, following)
        self._rate = effect.rate
        self._free = 0

    @property
    def room(self) -> int:  # type: ignore[override]  # ten milliseconds of a fast line
        return min(max(ROOM, self._rate * 10), ROOM_OF_LATENCY)

    def feed(self, data: bytes) -> None:
        if not self._held:
            self._free = max(self._free, monotonic_ns())
        self._keep(data)
        self._strike()
        if self._bell is None:
            self._ring_for_next()

    def change(self, effect: StreamEffect) -> None:
        """What the line has carried by its old rate passes; the rest goes by the new one."""
        assert isinstance(effect, Bandwidth)
        now = monotonic_ns()
        while self._held and (carried := min(self._first(), (now - self._free) * self._rate // _MS)):
            self._free -= -carried * _MS // self._rate
            self._pass(carried)
        if not self._rate:
            self._free = now
        self._rate = effect.rate
        self._drop_bell()
        self._ring_for_next()

    def _ring_for_next(self) -> None:
        if self._held and self._rate:
            self._ring_at(self._due(), self._release)

    def _piece(self) -> int:
        return min(self._first(), self._rate * 100)

    def _due(self) -> int:
        return self._free - (-self._piece() * _MS // self._rate)

    def _release(self) -> None:
        self._bell = None
        now = monotonic_ns()
        while self._held and (due := self._due()) <= now:
            self._free = due
            self._pass(self._piece())
        self._ring_for_next()


class SlowCloseStage(_Stage):
    """The end of the data comes later; they themselves do not."""

    def __init__(self, effect: SlowClose, toxic: str, way: Way, following: Passage) -> None:
        super().__init__(toxic, way, following)
        self._effect = effect
        self._ended_at: int | None = None

    def feed(self, data: bytes) -> None:
        self.next.feed(data)

    def finish(self) -> None:
        self._ended_at = monotonic_ns()
        if self._effect.delay:
            self._strike()
        self._await()

    def change(self, effect: StreamEffect) -> None:
        """An end that is waiting counts by the new delay from when it came."""
        assert isinstance(effect, SlowClose)
        self._effect = effect
        if self._ended_at is not None:
            self._await()

    def remove(self) -> None:
        """An end that is waiting passes at once."""
        self._drop_bell()
        if self._ended_at is not None:
            self._pass()

    def _await(self) -> None:
        assert self._ended_at is not None
        if self._effect.delay:
            self._ring_at(self._ended_at + self._effect.delay * _MS, self._pass)
        else:
            self._drop_bell()
            self._pass()

    def _pass(self) -> None:
        self._ended_at = None
        self.next.finish()


class SlicerStage(_Queue):
    """Cuts each chunk into slices, by halving it until a piece is small enough, and pauses after each.

    One slice at a time: two that were written together would reach the other side as one.
    """

    def __init__(self, effect: Slicer, toxic: str, way: Way, following: Passage) -> None:
        super().__init__(toxic, way, following)
        self._effect = effect
        self._cuts: list[int] = []  # what is left of the first chunk, as cut so far, its beginning last
        self._paused_at = 0

    def feed(self, data: bytes) -> None:
        self._keep(data)
        if self._bell is None:
            self._pass_slice()
        else:
            self._strike()

    def change(self, effect: StreamEffect) -> None:
        """What is left is sliced anew; the pause counts by the new delay from when it began."""
        assert isinstance(effect, Slicer)
        self._effect = effect
        self._cuts = []
        if self._held:
            self._ring_at(self._due(), self._pass_slice)

    def remove(self) -> None:
        self._cuts = []
        super().remove()

    def _due(self) -> int:
        return self._paused_at + self._effect.delay * _US

    def _pass_slice(self) -> None:
        """The first of what is held, where the last pause is over; then the next pause begins."""
        self._bell = None
        now = monotonic_ns()
        if self._held and now >= self._due():
            self._paused_at = now
            self._pass(self._slice())
        if self._held:
            self._strike()
            self._ring_at(self._due(), self._pass_slice)

    def _slice(self) -> int:
        effect = self._effect
        size = self._cuts.pop() if self._cuts else self._first()
        while size - effect.average_size > effect.size_variation:
            half = size // 2
            if effect.size_variation:
                half += self._random.randrange(-effect.size_variation, effect.size_variation)
            self._cuts.append(size - half)
            size = half
        return size


class LimitStage(_Stage):
    """After so many bytes the connection is closed; an exact hit closes it too."""

    def __init__(self, effect: LimitData, toxic: str, way: Way, following: Passage) -> None:
        super().__init__(toxic, way, following)
        self._effect = effect
        self._passed = 0
        self._over = False

    def feed(self, data: bytes) -> None:
        if self._over:
            return
        rest = max(0, self._effect.bytes - self._passed)
        self._over = len(data) >= rest
        if rest:
            self._passed += min(len(data), rest)
            self.next.feed(data[:rest])
        if self._over:
            self._strike()
            self._way.close_at_end()
            self.next.finish()

    def finish(self) -> None:
        if not self._over:
            self._over = True
            self.next.finish()

    def change(self, effect: StreamEffect) -> None:
        """What passed already counts; a limit that it is beyond is met by the next data."""
        assert isinstance(effect, LimitData)
        self._effect = effect

    def remove(self) -> None:
        """There is no limit any more; a connection that was at its own is closed all the same."""


class NoopStage(_Stage):
    """Does nothing."""

    def feed(self, data: bytes) -> None:
        self.next.feed(data)

    def finish(self) -> None:
        self.next.finish()

    def change(self, effect: StreamEffect) -> None:
        """There is nothing to change."""

    def remove(self) -> None:
        """There is nothing to take back."""


Stage: TypeAlias = (
    LatencyStage | TimeoutStage | ResetStage | BandwidthStage | SlowCloseStage | SlicerStage | LimitStage | NoopStage
)


def stage_for(effect: StreamEffect, toxic: str, way: Way, following: Passage) -> Stage:  # noqa: C901 -- one case for each
    """The stage that does what this effect says; `toxic` is by what name it is counted."""
    match effect:
        case Latency():
            return LatencyStage(effect, toxic, way, following)
        case Timeout():
            return TimeoutStage(effect, toxic, way, following)
        case ResetPeer():
            return ResetStage(effect, toxic, way, following)
        case Bandwidth():
            return BandwidthStage(effect, toxic, way, following)
        case SlowClose():
            return SlowCloseStage(effect, toxic, way, following)
        case Slicer():
            return SlicerStage(effect, toxic, way, following)
        case LimitData():
            return LimitStage(effect, toxic, way, following)
        case Noop():
            return NoopStage(toxic, way, following)
        case _:
            assert_never(effect)
