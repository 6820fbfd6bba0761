"""What a toxic does to one direction of one connection: stages that bytes pass one after another, an outlet at the end."""

from __future__ import annotations

from collections import deque
from random import Random
from time import monotonic_ns
from typing import Protocol, TypeAlias

from harness.runtime.proxies.embedded.alarm import Alarm, Bell
from harness.runtime.proxies.embedded.toxics import Effect, Latency, Refused, ResetPeer, Timeout

_MS = 1_000_000


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
    random: Random

    def hold(self, size: int) -> None:
        """So many more bytes are held back here (less, where negative); reading stops while they are too many."""
        ...

    def cut(self) -> None:
        """Close the whole connection now, because of the fault."""
        ...

    def reset(self) -> None:
        """Reset both ends of the connection now, because of the fault."""
        ...


class LatencyStage:
    """Holds each chunk back for its time; a delay is never early and never reorders."""

    def __init__(self, effect: Latency, way: Way, following: Passage) -> None:
        self.next = following
        self._effect, self._way = effect, way
        self._held: deque[tuple[int, int, bytes | None]] = deque()
        self._bell: Bell | None = None

    def feed(self, data: bytes) -> None:
        now = monotonic_ns()
        self._put(now, now + self._delay(), data)
        self._way.hold(len(data))

    def finish(self) -> None:
        if not self._held:
            self.next.finish()
            return
        self._put(monotonic_ns(), 0, None)  # a bare close is not delayed: it only keeps its place

    def change(self, effect: Effect) -> None:
        """What is held counts by the new delay from when it was read."""
        assert isinstance(effect, Latency)
        self._effect = effect
        held, self._held = self._held, deque()
        for read_at, _, data in held:
            self._put(read_at, read_at + self._delay() if data is not None else 0, data)
        self._ring_anew()

    def remove(self) -> None:
        """Whatever is held passes at once."""
        self.drop_bell()
        while self._held:
            self._pass_first()

    def drop(self) -> None:
        """The connection is gone, and what is held with it."""
        self.drop_bell()
        self._held.clear()

    def drop_bell(self) -> None:
        if self._bell is not None:
            self._bell.cancel()
            self._bell = None

    def _delay(self) -> int:
        latency, jitter = self._effect.latency * _MS, self._effect.jitter * _MS
        return max(0, latency + (self._way.random.randrange(-jitter, jitter) if jitter else 0))

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
        self.drop_bell()
        if self._held:
            self._bell = self._way.alarm.at(self._held[0][1], self._release)

    def _pass_first(self) -> None:
        data = self._held.popleft()[2]
        if data is None:
            self.next.finish()
        else:
            self.next.feed(data)
            self._way.hold(-len(data))


class TimeoutStage:
    """Loses all data; closes the connection when there have been none for the timeout, and when it is removed."""

    def __init__(self, effect: Timeout, way: Way, following: Passage) -> None:
        self.next = following
        self._effect, self._way = effect, way
        self._bell: Bell | None = None
        self._due = 0
        self._restart()

    def feed(self, data: bytes) -> None:  # noqa: ARG002 -- losing them is what this is for
        self._due = monotonic_ns() + self._effect.timeout * _MS

    def finish(self) -> None:
        self.next.finish()

    def change(self, effect: Effect) -> None:
        """The new timeout counts from now."""
        assert isinstance(effect, Timeout)
        self._effect = effect
        self.drop()
        self._restart()

    def remove(self) -> None:
        """Data were lost, or may have been: the connection cannot go on as if nothing had happened."""
        self.drop()
        self._way.cut()

    def drop(self) -> None:
        if self._bell is not None:
            self._bell.cancel()
            self._bell = None

    def _restart(self) -> None:
        if self._effect.timeout:
            self._due = monotonic_ns() + self._effect.timeout * _MS
            self._bell = self._way.alarm.at(self._due, self._ring)

    def _ring(self) -> None:
        if self._due > monotonic_ns():
            self._bell = self._way.alarm.at(self._due, self._ring)
            return
        self._bell = None
        self._way.cut()


class ResetStage:
    """Swallows the first data or the end of them, and resets both ends of the connection."""

    def __init__(self, effect: ResetPeer, way: Way, following: Passage) -> None:
        self.next = following
        self._effect, self._way = effect, way
        self._bell: Bell | None = None
        self._met = False

    def feed(self, data: bytes) -> None:  # noqa: ARG002 -- the peer never sees them
        self.finish()

    def finish(self) -> None:
        if self._met:
            return
        self._met = True
        self._await()

    def change(self, effect: Effect) -> None:
        """The new timeout counts from now."""
        assert isinstance(effect, ResetPeer)
        self._effect = effect
        self.drop()
        if self._met:
            self._await()

    def remove(self) -> None:
        """A connection whose data were swallowed is reset now; one that met no data lives on."""
        self.drop()
        if self._met:
            self._way.reset()

    def drop(self) -> None:
        if self._bell is not None:
            self._bell.cancel()
            self._bell = None

    def _await(self) -> None:
        if self._effect.timeout:
            self._bell = self._way.alarm.at(monotonic_ns() + self._effect.timeout * _MS, self._way.reset)
        else:
            self._way.reset()


Stage: TypeAlias = LatencyStage | TimeoutStage | ResetStage


def stage_for(effect: Effect, way: Way, following: Passage) -> Stage:
    """The stage that does what this effect says."""
    match effect:
        case Latency():
            return LatencyStage(effect, way, following)
        case Timeout():
            return TimeoutStage(effect, way, following)
        case ResetPeer():
            return ResetStage(effect, way, following)
        case _:
            raise Refused(400, f"{effect.kind} is not built in")
