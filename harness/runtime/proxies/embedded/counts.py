"""What is told of a proxy: connections, bytes as they pass, and, where HTTP/1.1 is spoken, requests and answers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

MOST_TRACES = 200_000
"""Traces remembered for one proxy, at the most; the older half is forgotten together."""

MOST_TOXICS = 10_000
"""Names of toxics remembered for one proxy; the oldest are forgotten first."""

UNANSWERED = 0
"""In place of a status."""


class Counts:
    """The counters of one proxy since it was made.

    `kept` counts bytes that were read and did not pass: toxics hold them, or lost them.
    `refused` is None once an attempt may have been turned away unseen: a total that misses some is none.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.refused: int | None = 0
        self.cut = 0
        self.open = 0
        self.unreached = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.kept_up = 0
        self.kept_down = 0
        self.is_http = False
        self.requests = 0
        self.answers: defaultdict[int, int] = defaultdict(int)
        self.traces = 0
        self.most_attempts = 0
        self.lost_track = 0
        self.cannot_refused = ""
        self.struck: dict[str, int] = {}
        self._attempts: dict[bytes, int] = {}
        self._older: dict[bytes, int] = {}

    def attempt(self, trace: bytes) -> None:
        """A request bore this trace id."""
        recent = self._attempts
        attempts = (recent.get(trace) or self._older.get(trace, 0)) + 1
        recent[trace] = attempts
        if attempts > self.most_attempts:  # noqa: PLR1730 -- max() takes three times as long
            self.most_attempts = attempts
        if attempts == 1:
            self.traces += 1
        if len(recent) >= MOST_TRACES // 2:  # to take out one at a time would walk over all that were taken out before
            self._older, self._attempts = recent, {}

    def toxic_added(self, toxic: str) -> None:
        """From now on the toxic of this name may act; one that never does is told of too."""
        self.struck.setdefault(toxic, 0)
        if len(self.struck) > MOST_TOXICS:
            del self.struck[next(iter(self.struck))]

    def strike(self, toxic: str) -> None:
        """The toxic of this name acted: on one more request where it is one of HTTP, on one more connection otherwise."""
        self.struck[toxic] = self.struck.get(toxic, 0) + 1

    def refusals_unseen(self, why: str) -> None:
        """Attempts may have been refused from here on without being counted."""
        self.refused, self.cannot_refused = None, why

    def as_data(self, at: float, proxy: str) -> dict[str, Any]:
        """What `/edges` says of the proxy, in the words of the history's `EdgeSeen`."""
        http = self.is_http
        return {
            "at": at,
            "proxy": proxy,
            "accepted": self.accepted,
            "refused": self.refused,
            "cut": self.cut,
            "open": self.open,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "requests": self.requests if http else None,
            "answers": {str(status): times for status, times in self.answers.items()} if http else None,
            "traces": self.traces if http else None,
            "most_attempts": self.most_attempts if http else None,
            "struck": self.struck,
            "cannot": self._cannot(),
        }

    def _cannot(self) -> str:
        reasons = [self.cannot_refused] if self.cannot_refused else []
        if self.lost_track:
            reasons.append(f"{self.lost_track} connections ceased to be plain HTTP/1.1: their later requests were not seen")
        return "; ".join(reasons)
