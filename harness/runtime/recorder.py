"""Writes down what happens, and tells whoever watches."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.history.events import Event
from harness.history.requests import Request, request_from_data
from harness.history.store import RunFolder
from harness.runtime.ports import Gate, Watch


class Recorder:
    """The one way into the history. May be called from any thread."""

    def __init__(self, folder: RunFolder, gate: Gate, *watches: Watch) -> None:
        self.folder = folder
        self._gate = gate
        self._watches = (gate, *watches)
        self._lock = threading.Lock()

    def record(self, event: Event) -> None:
        """Write an event or a sample, then show it to every watch."""
        with self._lock:
            self.folder.record(event)
            for watch in self._watches:
                watch.see_event(event)

    def pass_on(self, requests: Sequence[Request]) -> None:
        """Show requests, which the load process has written already, to every watch."""
        if requests:
            with self._lock:
                for watch in self._watches:
                    watch.see_requests(requests)

    def reason_to_halt(self) -> str | None:
        """Why nothing must be injected, where the gate says so."""
        with self._lock:
            return self._gate.halt_before_injection()


class RequestTail:
    """Follows the file that the load process appends to; each call gives what has come since the last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def new_requests(self) -> list[Request]:
        """The whole lines that were added since the last call."""
        return [request_from_data(data) for data in self._new_lines() if "journey" in data]

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.splitlines():
            try:
                data = json.loads(line)
            except ValueError:
                continue
            if isinstance(data, dict):
                yield data


def now() -> float:
    """Seconds since the epoch, on the clock that every record of this machine carries."""
    return time.time()
