"""What somebody who looks through a proxy may have to see, and whether a probe saw it.

Each is judged in contrast to what the probe got before the fault, when it looked in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol, TypeAlias

from harness.history.events import DETOUR, EdgeProbed
from harness.judge import words

SURELY_LATER = 0.8
"""The share of an added delay that a probe must have felt."""

LATER_ON_AVERAGE = 0.5
"""The share of a delay with jitter that a probe must have felt, all its questions together."""

LEAST_DELAY = 0.002
"""Seconds: an answer that is later by less may be so by chance."""

ENDS = ("reset", "closed")

Toxic: TypeAlias = Mapping[str, Any]


class Sight(Protocol):
    """One thing to be seen."""

    @property
    def expected(self) -> str:
        """What a probe must be, in words."""
        ...

    def unseen(self, before: EdgeProbed) -> str:
        """Why a probe that got this answer before the fault cannot tell; empty where it can."""
        ...

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:
        """Whether a probe that was answered before the fault, and can tell, saw it."""
        ...


class _Plain:
    """A sight that every probe can tell."""

    def unseen(self, before: EdgeProbed) -> str:  # noqa: ARG002 - others ask it
        return ""


@dataclass(frozen=True, slots=True)
class Refused(_Plain):
    """Nobody listens."""

    expected = "refused"

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:  # noqa: ARG002
        return during.outcome == "refused" or (during.detail == DETOUR and during.outcome in ENDS)


@dataclass(frozen=True, slots=True)
class Unreachable(_Plain):
    """Nobody accepts, and nobody refuses."""

    expected = "unreachable"

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:  # noqa: ARG002
        return during.outcome == "unreachable" or (during.detail == DETOUR and during.outcome == "silent")


@dataclass(frozen=True, slots=True)
class Broken(_Plain):
    """A connection is accepted, then reset or closed, `after` so many seconds."""

    after: float = 0.0

    @property
    def expected(self) -> str:
        return "reset or closed" + (f" after {words.seconds(self.after)}" if self.after else "")

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:  # noqa: ARG002
        """One that is not waited for to its end is silent until then."""
        if during.outcome == "silent":
            return during.seconds < self.after
        return during.outcome in ENDS and during.seconds >= SURELY_LATER * self.after


@dataclass(frozen=True, slots=True)
class Silent(_Plain):
    """A connection is accepted, and nothing ever comes back."""

    expected = "silent"

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:  # noqa: ARG002
        return during.outcome == "silent"


@dataclass(frozen=True, slots=True)
class Later:
    """The answer comes later: by `seconds` on average, `surely` by so much, and by what `slowing` toxics add to each.

    These, bandwidth and slicer, go by the number of bytes. By what other faults add, `beside`, it comes later besides: a
    small delay is not seen in that a large one is.
    """

    seconds: float
    surely: float
    slowing: tuple[Toxic, ...] = field(default=(), hash=False)
    beside: Later | None = None

    @property
    def expected(self) -> str:
        seconds, slowing = self.seconds, self.slowing
        if self.beside is not None:
            seconds, slowing = seconds + self.beside.seconds, (*slowing, *self.beside.slowing)
        by = f"{words.seconds(seconds)} " if seconds else ""
        return f"answered {by}later" + (f" ({words.several([toxic['type'] for toxic in slowing])})" if slowing else "")

    def unseen(self, before: EdgeProbed) -> str:
        added = self._on_average(before)
        if added < LEAST_DELAY:
            return "its answers are too small, so that they come hardly later"
        if self.beside is not None and self.beside.seconds - self.beside.surely > added:
            return "hidden by another fault, whose jitter is larger than this delay"
        return ""

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:
        least, average = self._at_least(during), self._on_average(during)
        others, usual = (self.beside._at_least(during), self.beside._on_average(during)) if self.beside else (0.0, 0.0)
        if during.outcome == "silent":
            return usual < during.seconds <= others + least
        if during.outcome != "answered" or average < LEAST_DELAY:
            return False
        was, now = before.times or (before.seconds,), during.times or (during.seconds,)
        if others + least >= SURELY_LATER * (usual + average):
            return min(now) >= min(was) + others + SURELY_LATER * least
        return sum(now) / len(now) >= sum(was) / len(was) + usual + LATER_ON_AVERAGE * average

    def _at_least(self, probe: EdgeProbed) -> float:
        return self.surely + self._by_bytes(probe)

    def _on_average(self, probe: EdgeProbed) -> float:
        return self.seconds + self._by_bytes(probe)

    def _by_bytes(self, probe: EdgeProbed) -> float:
        """By how much the toxics that go by the number of bytes delay an answer such as this probe's."""
        asked = max(1, len(probe.times))
        sizes = {"upstream": probe.sent // asked, "downstream": probe.got // asked}
        return float(sum(_slowed(toxic, sizes[toxic["stream"]]) for toxic in self.slowing))


def _slowed(toxic: Toxic, size: int) -> float:
    said = toxic["attributes"]
    if toxic["type"] == "bandwidth":
        return size / 1000 / int(said["rate"])
    slices = ceil(size / (int(said["average_size"]) + int(said.get("size_variation", 0))))
    return max(0, slices - 1) * float(said.get("delay", 0)) / 1e6


@dataclass(frozen=True, slots=True)
class Limited:
    """A connection ends once so many bytes of it have passed: of the questions, or of the answers."""

    upstream: int | None
    downstream: int | None

    @property
    def expected(self) -> str:
        least = min(limit for limit in (self.upstream, self.downstream) if limit is not None)
        return f"cut off after {words.count(least, 'byte')}"

    def unseen(self, before: EdgeProbed) -> str:
        if before.outcome != "answered" or self._is_passed(before):
            return ""
        return "one connection did not carry as much as is let through, not even before the fault"

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:
        if during.outcome not in ENDS or not self._is_passed(before):
            return False
        questions = self.upstream is not None and during.sent >= self.upstream
        return questions or (self.downstream is not None and during.got <= self.downstream < before.got)

    def _is_passed(self, probe: EdgeProbed) -> bool:
        limits = ((probe.sent, self.upstream), (probe.got, self.downstream))
        return any(limit is not None and passed > limit for passed, limit in limits)


@dataclass(frozen=True, slots=True)
class EndsLater:
    """The other side's end comes later."""

    seconds: float

    @property
    def expected(self) -> str:
        return f"ended {words.seconds(self.seconds)} later"

    def unseen(self, before: EdgeProbed) -> str:
        if before.detail == DETOUR:
            return "a probe that comes by a detour does not see when the other side ended"
        if before.outcome != "answered" or before.ended is not None:
            return ""
        return "the other side did not end its connection when the probe ended its own, not even before the fault"

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:
        if during.ended is None or before.ended is None:
            return False
        return during.outcome == "answered" and during.ended >= before.ended + SURELY_LATER * self.seconds


@dataclass(frozen=True, slots=True)
class Injected(_Plain):
    """The answer is the proxy's own: this status, and in a header the name of the toxic."""

    status: int
    toxic: str

    @property
    def expected(self) -> str:
        return f"answered {self.status} by the proxy"

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:  # noqa: ARG002
        return during.outcome == "answered" and (during.status, during.injected) == (self.status, self.toxic)


@dataclass(frozen=True, slots=True)
class Damaged:
    """The answer's body is another one than usual."""

    expected = "answered with a damaged body"

    def unseen(self, before: EdgeProbed) -> str:
        if before.outcome != "answered":
            return ""
        if not all(before.bodies) or not before.bodies:
            return "the answer that a probe gets has no body"
        return "the answer that a probe gets is another one each time" if len(set(before.bodies)) > 1 else ""

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:
        seen = set(during.bodies)
        return during.outcome == "answered" and bool(seen) and "" not in seen and not seen & set(before.bodies)


@dataclass(frozen=True, slots=True)
class Truncated:
    """The answer ends in the middle."""

    expected = "cut off within an answer"

    def unseen(self, before: EdgeProbed) -> str:
        return "the answer that a probe gets has no body" if before.outcome == "answered" and not any(before.bodies) else ""

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:
        return during.outcome in ENDS and during.status == before.status and during.got < before.got


@dataclass(frozen=True, slots=True)
class Uncertain:
    """A probe need not see anything."""

    why: str
    expected = "anything"

    def unseen(self, before: EdgeProbed) -> str:  # noqa: ARG002
        return self.why

    def is_seen(self, before: EdgeProbed, during: EdgeProbed) -> bool:  # noqa: ARG002
        return False


def was_seen(sight: Sight, before: EdgeProbed, during: EdgeProbed) -> bool:
    """Whether the probe saw what must be seen, in contrast to the answer it got before."""
    return before.outcome == "answered" and not sight.unseen(before) and sight.is_seen(before, during)
