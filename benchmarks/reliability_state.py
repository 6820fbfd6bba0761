"""What has been tried so far, and what is still to be tried."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any


class Broken(Exception):
    """A trial that did not come to its end; its sentence says what it said."""


class State:
    """What has been done so far: a line of JSON for each trial, in a file that may be read meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        path.parent.mkdir(parents=True, exist_ok=True)

    def rows(self, series: str) -> list[dict[str, Any]]:
        """Every trial of a series."""
        return [row for row in self._all() if row["series"] == series]

    def _all(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # half written by who was killed: that trial is made again
                    yield json.loads(line)

    def add(self, series: str, row: dict[str, Any]) -> None:
        """One more."""
        line = json.dumps({"series": series, "at": time.strftime("%Y-%m-%d %H:%M:%S"), **row})
        with self._lock, self.path.open("a+", encoding="utf-8") as file:
            file.seek(0)
            begins = "\n" if file.read()[-1:] not in ("", "\n") else ""
            file.write(f"{begins}{line}\n")


class Turns:
    """Which trials are still to be made; one that struck nothing is made up for by another, within reason."""

    def __init__(self, wanted: int, done: Sequence[Mapping[str, Any]]) -> None:
        known = {row["number"] for row in done}
        self._numbers = iter([number for number in range(wanted * 3) if number not in known])
        self._lacking = wanted - sum(bool(row["struck"]) for row in done)
        self._lock = Lock()

    def take(self) -> int | None:
        """The number of the next one; None where there is none."""
        with self._lock:
            number = next(self._numbers, None) if self._lacking > 0 else None
            self._lacking -= number is not None
            return number

    def put_back(self, *, unless: bool) -> None:
        """What was taken has to be done by another."""
        with self._lock:
            self._lacking += not unless

    def end(self) -> None:
        """There is no more to do."""
        with self._lock:
            self._numbers = iter([])


def last_attempt(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the series that was begun last."""
    last = max((row["attempt"] for row in rows), default=0)
    return [row for row in rows if row["attempt"] == last]
