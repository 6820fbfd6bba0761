"""What the proxies counted, asked as one asks it: how much passed, and how much was turned away, while a fault lasted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

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


def _good(seen: EdgeSeen) -> int | None:
    """Answers with a status of 2xx so far."""
    if seen.answers is None:
        return None
    return sum(number for status, number in seen.answers.items() if status.startswith("2"))


def _rise(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None or second < first else second - first
