"""Keeps the logs of a run from filling the disk: one that grows beyond all measure is cut short, again and again.

One that grows long in the course of a long run is cut, and that is all. One that is flooded is a wedge.

Whoever writes a log appends to it, so that it goes on in what is left of it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness.history.events import WedgeNoticed

MOST_BYTES = 100_000_000
"""How long a log may become; while one is written faster than it is looked at, that much longer."""

KEPT_BYTES = 1_000_000
"""How much of its end is left of a log that was cut."""

FLOOD_BYTES, FLOOD_SECONDS = 8_000_000, 2.0
"""More than so many bytes in so many seconds are a flood; within twice that time it is noticed."""

EVERY = 0.25


class LogBounds:
    """Looks at every log in a folder, in a thread of its own between `begin` and `end`; tells of each once that is flooded."""

    def __init__(
        self, folder: Path, tell: Callable[[WedgeNoticed], None], most: int = MOST_BYTES, flood: int = FLOOD_BYTES
    ) -> None:
        self._folder, self._tell, self._most, self._flood = folder, tell, most, flood
        self._told: set[Path] = set()
        self._since: dict[Path, tuple[float, int]] = {}
        """When each log was as long as this; both begin anew every FLOOD_SECONDS, and when it was cut."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="log bounds")

    def begin(self) -> None:
        """Look from now on."""
        self._thread.start()

    def end(self) -> None:
        """Look once more, and then no more. Ending twice is ending once."""
        if not self._ended.is_set() and self._thread.is_alive():
            self._ended.set()
            self._thread.join(2 * EVERY)

    def _work(self) -> None:
        while not self._ended.wait(EVERY):
            self.look()
        self.look()

    def look(self) -> None:
        """Cut what is too long, and tell what is flooded."""
        for log in self._folder.glob("*.log"):
            with suppress(OSError):  # it is gone, or no room is left for what is kept of it
                self._look_at(log)

    def _look_at(self, log: Path) -> None:
        size, now = log.lstat().st_size, time.monotonic()
        began, was = self._since.setdefault(log, (now, 0))
        if size - was > self._flood and log not in self._told:
            self._told.add(log)
            grown = f"{size - was:,} bytes within {max(EVERY, now - began):.1f} s, so much that it fills every disk"
            self._tell(WedgeNoticed(time.time(), log.stem, f"it wrote {grown}; of its log the end is kept"))
        if size > self._most:
            size = _cut(log, min(KEPT_BYTES, self._most // 2))
            self._since[log] = now, size
        elif now - began > FLOOD_SECONDS:
            self._since[log] = now, size


def _cut(log: Path, kept: int) -> int:
    """Leave the end, whose length is the answer. What is written meanwhile may go with the rest."""
    file = os.open(log, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        end = os.pread(file, kept, max(0, os.fstat(file).st_size - kept)).partition(b"\n")[2]
        os.ftruncate(file, 0)
        return os.write(file, b"(chaos-harness cut off what stood here)\n" + end)
    finally:
        os.close(file)
