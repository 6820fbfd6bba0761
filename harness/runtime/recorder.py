"""Writes down what happens, and tells whoever watches."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from harness.history.events import Event, RunHalted
from harness.history.parquet import PART_BYTES, part_of, read_tables
from harness.history.store import RunFolder, record_files
from harness.history.table import Requests
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

    def check(self) -> None:
        """Raise CannotRecord where something could not be written down: what goes on would leave no trace."""
        self.folder.check()

    def pass_on(self, requests: Requests) -> None:
        """Show requests, which the load process has written already, to every watch."""
        if requests:
            with self._lock:
                for watch in self._watches:
                    watch.see_requests(requests)

    def reason_to_halt(self) -> str | None:
        """Why nothing must be injected, where the gate says so."""
        with self._lock:
            return self._gate.halt_before_injection()

    def stop_condition_met(self) -> RunHalted | None:
        """The event that says which stop condition is met, as the gate sees it, or None; it is not recorded yet."""
        with self._lock:
            return self._gate.stop_condition_met(now())

    def unsteady(self) -> str:
        """What is not steady yet, as the gate sees it; empty where everything is."""
        with self._lock:
            return self._gate.unsteady(now())

    def reason_to_lengthen(self, phase: str, ends: float) -> str:
        """Why the phase that is about to end should be lengthened, as the gate sees it; empty where it need not.

        That may take long, and what happens meanwhile is recorded.
        """
        return self._gate.reason_to_lengthen(phase, ends)


class RequestTail:
    """Follows the files that the load's processes append to; each call gives what has come since the last.

    `path` is the first of them; those of further processes stand beside it, and may come later. At most PART_BYTES of
    each are read at once: whoever lags behind catches up call by call.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._positions: dict[Path, int] = {}

    def new_requests(self) -> Requests:
        """The requests of the whole lines that were added since the last call."""
        return read_tables(part_of(self._new_lines(path)).requests for path in record_files(self._folder))

    def _new_lines(self, path: Path) -> list[bytes]:
        position = self._positions.get(path, 0)
        with path.open("rb") as file:
            file.seek(position)
            added = file.read(PART_BYTES)
        whole = added[: added.rfind(b"\n") + 1]
        self._positions[path] = position + len(whole)
        return whole.split(b"\n")


def now() -> float:
    """Seconds since the epoch, on the clock that every record of this machine carries."""
    return time.time()
