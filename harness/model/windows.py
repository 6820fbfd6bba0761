"""When a fault is on: one stretch of the fault phase, or several where it comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from zlib import crc32

from harness.model.faults import FaultItem
from harness.model.kinds.edge import SHORTEST_WINDOW, Flaky, Flap
from harness.model.kinds.service import CrashLoop

SHORTEST_FAULT = 3.0
"""Seconds: a probe must have time to see that it bites, also where it hangs."""

SILENT_MODES = ("hang", "unreachable")
"""Modes that a probe sees by waiting."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `begin` to `end`, in seconds from the start of the fault phase."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.begin


def seed_of_round(seed: int, number: int) -> int:
    """What a round draws from: the first from the run's own seed, each other from one of its own."""
    return seed if number == 1 else crc32(f"{seed}:{number}".encode())


def windows_of(item: FaultItem, seed: int) -> tuple[Stretch, ...]:
    """The windows in which a fault is on, in order; `at` and `for` of the item are filled in."""
    begin = item.at or 0.0
    whole = Stretch(begin, begin + (item.for_ or 0.0))
    match item.fault:
        case Flap(period=period, duty=duty):
            return tuple(_flapping(whole, period, duty))
        case Flaky() as flaky:
            return tuple(_drawn(whole, flaky, Random(f"{seed}:{item.id}")))  # noqa: S311 - to be repeated, not to be secret
        case _:
            return (whole,)


def repeated(item: FaultItem, until: float) -> tuple[FaultItem, ...]:
    """A fault that repeats, once for each time; `until` is the end of the fault phase."""
    if item.repeat is None:
        return (item,)
    first, lasts = item.at or 0.0, item.for_ or 0.0
    room = int((until - first - lasts + 1e-9) // item.repeat.every) + 1
    times = min(room, item.repeat.times or room)
    return tuple(item.model_copy(update={"at": first + turn * item.repeat.every}) for turn in range(max(1, times)))


def _flapping(whole: Stretch, period: float, duty: float) -> Iterator[Stretch]:
    begin = whole.begin
    while begin + SHORTEST_WINDOW <= whole.end:
        yield Stretch(begin, min(whole.end, begin + duty * period))
        begin += period


def _drawn(whole: Stretch, flaky: Flaky, random: Random) -> Iterator[Stretch]:
    """As many windows as the share has room for; their lengths, and those of the good ones between, vary by half.

    The drawn lengths are scaled, so that bad windows are bad for exactly the share; they begin and end at whole hundredths.
    """
    number = max(1, round(whole.seconds * flaky.share / flaky.mean))
    bad = _scaled([random.uniform(0.5, 1.5) for _ in range(number)], whole.seconds * flaky.share)
    good = _scaled([random.uniform(0.5, 1.5) for _ in range(number + 1)], whole.seconds * (1 - flaky.share))
    begin = whole.begin
    for before, lasts in zip(good, bad, strict=False):
        begin += before
        yield Stretch(round(begin, 2), round(begin + lasts, 2))
        begin += lasts


def _scaled(lengths: list[float], to: float) -> list[float]:
    return [length * to / sum(lengths) for length in lengths]


def cannot_be_seen(item: FaultItem, windows: tuple[Stretch, ...]) -> str:
    """Why nobody could see that the fault was on; empty where somebody can."""
    if not windows:
        return "that it is never on"
    if isinstance(item.fault, Flap) and len(windows) < 2:
        return "a flap that comes once, where the fault has room for less than two periods"
    if isinstance(item.fault, Flaky) and (room := (item.for_ or 0.0) * item.fault.share) < item.fault.mean:
        return f"{room:.3g}s of it bad, where one window of {item.fault.mean:g}s has no room"
    longest = max(window.seconds for window in windows)
    mode = getattr(item.fault, "mode", "")
    comes_and_goes = isinstance(item.fault, Flaky | Flap)
    least = SHORTEST_WINDOW if comes_and_goes and mode not in SILENT_MODES else SHORTEST_FAULT
    if isinstance(item.fault, CrashLoop):
        least = max(least, 2 * item.fault.lives)
    return f"one of {longest:.3g}s at most, where {least:g}s are needed" if longest < least else ""
