"""Keeps the logs of a run from filling the disk: one that grows beyond all measure is cut short, again and again.

Whoever writes a log appends to it, so that it goes on in what is left of it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness.history.events import WedgeNoticed

MOST_BYTES = 100_000_000
"""How long a log may become; while one is written faster than it is looked at, that much longer."""

KEPT_BYTES = 1_000_000
"""How much of its end is left of a log that was cut."""

EVERY = 0.25


class LogBounds:
    """Looks at every log in a folder, in a thread of its own between `begin` and `end`; tells of each once that was cut."""

    def __init__(self, folder: Path, tell: Callable[[WedgeNoticed], None], most: int = MOST_BYTES) -> None:
        self._folder, self._tell, self._most = folder, tell, most
        self._cut: set[Path] = set()
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
        """Cut what is too long."""
        for log in self._folder.glob("*.log"):
            try:
                size = log.lstat().st_size
                if size > self._most:
                    _cut(log, min(KEPT_BYTES, self._most // 2))
            except OSError:  # it is gone, or no room is left for what is kept of it
                continue
            if size > self._most and log not in self._cut:
                self._cut.add(log)
                self._tell(WedgeNoticed(time.time(), log.stem, _told(log, size, self._most)))


def _told(log: Path, size: int, most: int) -> str:
    grown = f"it wrote {size:,} bytes into {log.name}, where {most:,} are expected at most"
    return f"{grown}: all but the end was cut off, as often as it grew"


def _cut(log: Path, kept: int) -> None:
    """Leave the end. What is written meanwhile may go with the rest."""
    file = os.open(log, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        end = os.pread(file, kept, max(0, os.fstat(file).st_size - kept)).partition(b"\n")[2]
        os.ftruncate(file, 0)
        os.write(file, b"(chaos-harness cut off what stood here)\n" + end)
    finally:
        os.close(file)
