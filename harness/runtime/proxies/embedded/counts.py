"""What is told of a proxy: connections, bytes as they pass, and, where HTTP/1.1 is spoken, requests and answers."""

from __future__ import annotations

from typing import Any

MOST_TRACES = 200_000
"""Traces remembered for one proxy; the oldest are forgotten first."""

UNANSWERED = "0"


class Counts:
    """The counters of one proxy since it was made.

    `refused` is None once an attempt may have been turned away unseen: a total that misses some is none.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.refused: int | None = 0
        self.cut = 0
        self.open = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.requests: int | None = None
        self.answers: dict[str, int] = {}
        self.traces = 0
        self.most_attempts = 0
        self.lost_track = 0
        self.cannot_refused = ""
        self._attempts: dict[bytes, int] = {}

    def request(self) -> None:
        """A request's head was read."""
        self.requests = (self.requests or 0) + 1

    def answered(self, status: str, times: int = 1) -> None:
        """Answers with this status passed."""
        self.answers[status] = self.answers.get(status, 0) + times

    def attempt(self, trace: bytes) -> None:
        """A request bore this trace id."""
        attempts = self._attempts.get(trace, 0) + 1
        if attempts == 1:
            self.traces += 1
            if len(self._attempts) >= MOST_TRACES:
                del self._attempts[next(iter(self._attempts))]
        self._attempts[trace] = attempts
        self.most_attempts = max(self.most_attempts, attempts)

    def refusals_unseen(self, why: str) -> None:
        """Attempts may have been refused from here on without being counted."""
        self.refused, self.cannot_refused = None, why

    def as_data(self, at: float, proxy: str) -> dict[str, Any]:
        """What `/edges` says of the proxy, in the words of the history's `EdgeSeen`."""
        http = self.requests is not None
        return {
            "at": at,
            "proxy": proxy,
            "accepted": self.accepted,
            "refused": self.refused,
            "cut": self.cut,
            "open": self.open,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "requests": self.requests,
            "answers": self.answers if http else None,
            "traces": self.traces if http else None,
            "most_attempts": self.most_attempts if http else None,
            "cannot": self._cannot(),
        }

    def _cannot(self) -> str:
        reasons = [self.cannot_refused] if self.cannot_refused else []
        if self.lost_track:
            reasons.append(f"{self.lost_track} connections ceased to be plain HTTP/1.1: their later requests were not seen")
        return "; ".join(reasons)
