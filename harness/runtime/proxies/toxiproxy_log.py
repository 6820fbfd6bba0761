"""Counts the connections that a real Toxiproxy accepted, out of its log: it tells nothing else of an open connection.

Its log must be at level info. A line's own time is to the second, so what counts is when it is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from threading import Lock
from typing import Any

from harness.history.events import EdgeSeen

ACCEPTED = b"Accepted client"

CANNOT = "Toxiproxy tells of accepted connections alone: refused attempts, requests, answers and bytes were not seen"


class AcceptedCounts:
    """How many connections each of these proxies accepted. Those from the hosts in `ignored`, by their addresses, do not count.

    Lines may come from several threads, each once; what is no such line is passed over.
    """

    def __init__(self, proxies: Collection[str], ignored: Collection[str]) -> None:
        self._accepted = dict.fromkeys(proxies, 0)
        self._ignored = frozenset(ignored)
        self._lock = Lock()

    def feed(self, line: bytes | str) -> None:
        """A line of the log arrived."""
        raw = line.encode("utf-8", "replace") if isinstance(line, str) else line
        if ACCEPTED not in raw:  # most lines of a busy run do, but those of other levels need not be read
            return
        told = _told(raw)
        proxy, client = str(told.get("name")), str(told.get("client", ""))
        if told.get("message") != ACCEPTED.decode() or proxy not in self._accepted or _host(client) in self._ignored:
            return
        with self._lock:
            self._accepted[proxy] += 1

    def seen(self, at: float, packets: Mapping[str, int] | None = None) -> tuple[EdgeSeen, ...]:
        """What is known of every proxy at this time; `packets` are those of its edge's interface, where they are known."""
        with self._lock:
            accepted = dict(self._accepted)
        packets = packets or {}
        return tuple(
            EdgeSeen(at, proxy, times, None, None, None, None, None, packets=packets.get(proxy), cannot=CANNOT)
            for proxy, times in accepted.items()
        )


def _told(line: bytes) -> dict[str, Any]:
    """The line's JSON, whatever stands before it (a time that Docker puts there); empty where it has none."""
    try:
        told = json.loads(line[line.index(b"{") :])
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _host(client: str) -> str:
    """The host of `host:port` or `[host]:port`."""
    return client.rpartition(":")[0].removeprefix("[").removesuffix("]")
