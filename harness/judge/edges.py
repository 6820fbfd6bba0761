"""What the proxies counted, asked as one asks it: how much passed, and how much was turned away, while a fault lasted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields

from harness.history.events import EdgeSeen
from harness.history.history import History, Window

JUST_BEFORE = 0.25
"""In a fault too short for two samples, one that is at most this much older than its begin stands for it."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a proxy counted between two samples; None where it cannot see such things, or has begun to count anew.

    `requests`, `accepted`, `answered` (2xx) and `bytes_up` were counted wholly inside the stretch, so that
    nothing from before a fault counts as having met it. `refused` and `cut` only ever count while a fault
    lasts: of these, everything up to the sample after the stretch counts.
    """

    accepted: int | None
    refused: int | None
    cut: int | None
    bytes_up: int | None
    packets: int | None
    requests: int | None
    answered: int | None
    cannot: str


class EdgeCounts:
    """The samples of every proxy, in order of time."""

    def __init__(self, history: History) -> None:
        self._samples: dict[str, list[EdgeSeen]] = {}
        for seen in history.of(EdgeSeen):
            self._samples.setdefault(seen.proxy, []).append(seen)

    def during_all(self, proxy: str, windows: Iterable[Window]) -> Traffic | None:
        """What a proxy counted in several stretches together, as far as it was looked at often enough to tell."""
        found = [traffic for window in windows if (traffic := self.during(proxy, window)) is not None]
        return _sum(found) if found else None

    def during(self, proxy: str, window: Window) -> Traffic | None:
        """What a proxy counted in a stretch; None where it was not looked at often enough to tell."""
        samples = self._samples.get(proxy, [])
        times = [seen.at for seen in samples]
        before, end = bisect_right(times, window.begin) - 1, bisect_right(times, window.end) - 1
        begin = before + 1
        if begin >= end and before >= 0 and times[before] >= window.begin - JUST_BEFORE:
            begin = before
        if begin > end:
            return None
        after = min(len(samples) - 1, bisect_left(times, window.end))
        inside, outside = (samples[begin], samples[end]), (samples[max(0, before)], samples[after])
        return Traffic(
            accepted=_rise(inside[0].accepted, inside[1].accepted),
            refused=_rise(outside[0].refused, outside[1].refused),
            cut=_rise(outside[0].cut, outside[1].cut),
            bytes_up=_rise(inside[0].bytes_up, inside[1].bytes_up),
            packets=_rise(inside[0].packets, inside[1].packets),
            requests=_rise(inside[0].requests, inside[1].requests),
            answered=_rise(_good(inside[0]), _good(inside[1])),
            cannot=inside[1].cannot,
        )

    def struck(self, proxy: str, windows: Iterable[Window], toxics: Collection[str]) -> int | None:
        """How often these toxics acted in several stretches together; None where the engine does not count such things.

        They act only while they are there, but for their removal, which closes connections that nothing else was done
        to: so everything counts from the last sample before a stretch to the last one in it.
        """
        rises = [self._struck_in(proxy, window, toxics) for window in windows]
        known = [rise for rise in rises if rise is not None]
        return sum(known) if known else None

    def _struck_in(self, proxy: str, window: Window, toxics: Collection[str]) -> int | None:
        samples = self._samples.get(proxy, [])
        times = [seen.at for seen in samples]
        end = bisect_right(times, window.end) - 1
        if end < 0 or times[end] < window.begin:
            return None if end < 0 or samples[end].struck is None else 0
        return _rise(_struck(samples[max(0, bisect_right(times, window.begin) - 1)], toxics), _struck(samples[end], toxics))

    def struck_after(self, proxy: str, at: float, toxics: Collection[str]) -> int:
        """How often these toxics acted after a moment, as far as the engine counts such things."""
        samples = [seen for seen in self._samples.get(proxy, []) if seen.at >= at]
        return _rise(_struck(samples[0], toxics), _struck(samples[-1], toxics)) or 0 if samples else 0

    def answered_with(self, proxy: str, windows: Iterable[Window], status: int) -> int:
        """How many answers of this status passed in several stretches together."""
        found = 0
        for window in windows:
            inside = [seen for seen in self._samples.get(proxy, []) if seen.at <= window.end]
            before = [seen for seen in inside if seen.at <= window.begin] or inside[:1]
            if inside:
                numbers = [(seen.answers or {}).get(str(status), 0) for seen in (before[-1], inside[-1])]
                found += max(0, numbers[1] - numbers[0])
        return found


def _struck(seen: EdgeSeen, toxics: Collection[str]) -> int | None:
    return None if seen.struck is None else sum(seen.struck.get(name, 0) for name in toxics)


def _sum(found: list[Traffic]) -> Traffic:
    """One that misses a number in any stretch misses it in all of them together."""

    def add(name: str) -> int | None:
        numbers = [getattr(traffic, name) for traffic in found]
        return None if None in numbers else sum(numbers)

    totals = {each.name: add(each.name) for each in fields(Traffic) if each.name != "cannot"}
    return Traffic(**totals, cannot="; ".join(dict.fromkeys(traffic.cannot for traffic in found if traffic.cannot)))


def _good(seen: EdgeSeen) -> int | None:
    """Answers with a status of 2xx so far."""
    if seen.answers is None:
        return None
    return sum(number for status, number in seen.answers.items() if status.startswith("2"))


def _rise(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None or second < first else second - first
