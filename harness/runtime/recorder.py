"""Writes down what happens, and tells whoever watches."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

from harness.history.events import Event, RunHalted, event_from_data, event_to_data
from harness.history.parquet import PART_BYTES, part_of, read_tables
from harness.history.store import LOGS, RunFolder, record_files
from harness.history.table import Requests
from harness.model.secrets import data_without_secrets, without_secrets
from harness.runtime.log_copies import LogCopies
from harness.runtime.logs import LogBounds
from harness.runtime.ports import Gate, Watch


class Recorder:
    """The one way into the history. May be called from any thread.

    `known` are the secrets of the system: neither they nor what looks like one are written down, shown or logged.
    """

    def __init__(self, folder: RunFolder, gate: Gate, *watches: Watch, known: frozenset[str] = frozenset()) -> None:
        self.folder = folder
        self.known = known
        self._logs: LogCopies | None = None
        self._bounds: LogBounds | None = None
        self._gate = gate
        self._watches = (gate, *watches)
        self._lock = threading.Lock()

    def record(self, event: Event) -> None:
        """Write an event or a sample, then show it to every watch; one that comes when the run is over is dropped."""
        if self.folder.is_closed:
            return
        event = self._without_secrets(event)
        with self._lock:
            self.folder.record(event)
            for watch in self._watches:
                watch.see_event(event)

    def _without_secrets(self, event: Event) -> Event:
        data = event_to_data(event)
        told = data_without_secrets(data, self.known)
        return event if told == data else event_from_data(told) or event

    def begin_logs(self, written: Path) -> None:
        """From now on logs are written into this folder, and copied into the run's without secrets, which none can fill."""
        hide = partial(without_secrets, known=self.known)
        self._logs = LogCopies(written, self.folder.path / LOGS, hide)
        self._bounds = LogBounds(self.folder.path / LOGS, self.record)
        self._logs.begin()
        self._bounds.begin()

    def end_logs(self) -> None:
        """Nothing writes a log any more: what is left of them is copied."""
        if self._logs is not None:
            self._logs.end()
        if self._bounds is not None:
            self._bounds.end()

    def log_file(self, name: str) -> Path:
        """Where the log of a service, or of a part of the harness, is written."""
        return self.folder.log_file(name) if self._logs is None else self._logs.file(name)

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
        if not whole and len(added) == PART_BYTES:  # longer than any line: what it holds is no request
            whole = added
        self._positions[path] = position + len(whole)
        return whole.split(b"\n")


def now() -> float:
    """Seconds since the epoch, on the clock that every record of this machine carries."""
    return time.time()
