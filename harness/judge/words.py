"""Numbers as the judge says them in its findings."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.parts import LatencyMargin


def share(value: float) -> str:
    """A share in per cent; never 0 where there was one, never 100 where one was missing."""
    percent = value * 100
    if 0 < percent < 0.05:
        return "<0.1 %"
    if 99.95 <= percent < 100:
        return "99.9 %"
    return f"{percent:.1f} %"


def limit_share(value: float) -> str:
    """A share that somebody wrote: without figures that were not written."""
    return f"{value * 100:g} %"


def span(low: float, high: float) -> str:
    """The interval of a share in per cent."""
    return f"[{low * 100:.1f}, {high * 100:.1f}]"


def points(value: float) -> str:
    """A difference of shares."""
    return f"{value * 100:+.1f} points"


def times(value: float) -> str:
    """A ratio."""
    return f"×{value:.1f}" if value < 100 else f"×{value:.0f}"


def seconds(value: float) -> str:
    """A stretch with as many figures as one reads: 3 ms, 0.25 s, 12 s."""
    size = abs(value)
    if size < 0.00095:
        return f"{value * 1000:.1f} ms" if size else "0 s"
    if size < 0.0995:
        return f"{value * 1000:.0f} ms"
    if size < 9.95:
        return f"{value:.2f}".rstrip("0").rstrip(".") + " s"
    return f"{value:.0f} s" if value == round(value) or size >= 99.5 else f"{value:.1f} s"


def rise(value: float) -> str:
    """A difference of latencies."""
    return f"+{seconds(value)}" if value >= 0 else seconds(value)


def moment(value: float) -> str:
    """A short delay, always in seconds."""
    return f"{value:.2f} s" if value < 9.95 else f"{value:.1f} s"


MOST_STRETCHES = 3


def stretches(seconds: Sequence[int]) -> str:
    """Whole seconds, in order, as the stretches they make: from 12 s to 17 s. A single second between two parts nothing."""
    found: list[tuple[int, int]] = []
    for second in seconds:
        if found and second <= found[-1][1] + 1:
            found[-1] = (found[-1][0], second + 1)
        else:
            found.append((second, second + 1))
    told = [f"from {begin} s to {end} s" for begin, end in found[:MOST_STRETCHES]]
    more = len(found) - MOST_STRETCHES
    return several(told) + (f" and {count(more, 'more time')}" if more > 0 else "")


def margin(allowed: LatencyMargin) -> str:
    """How much slower is allowed: ×2 or +100 ms."""
    pieces = []
    if allowed.relative is not None:
        pieces.append(f"×{1 + allowed.relative:g}")
    if allowed.absolute is not None:
        short = allowed.absolute < 1
        pieces.append(f"+{allowed.absolute * 1000:g} ms" if short else f"+{seconds(allowed.absolute)}")
    return " or ".join(pieces)


def several(names: list[str] | tuple[str, ...]) -> str:
    """Names in a row."""
    return ", ".join(names)


def count(number: int, what: str) -> str:
    """A number with its noun: 1 request, 38 requests."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
