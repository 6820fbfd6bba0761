"""Locust as child processes: started, told when to begin and when to end, and believed only by their records.

Never imported here: Locust patches the interpreter. Its exit code and its percentiles are not used; a run ended well
when each process's own last line in the records says so. Where there are several, every one of them has its share of the
arrivals and of the users, by its number, and a file of records of its own. They may be on other machines.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import InvalidLocustfile, LoadError
from harness.plan.plan import Arrivals
from harness.runtime.load.process import LOAD, LoadProcess
from harness.runtime.load.remote import RemoteProcess, joined
from harness.runtime.ports import Launch

__all__ = ["LOAD", "LocustLoad"]

START_SECONDS = 60.0
"""How long users may take to get ready, beyond two client timeouts."""

STOP_SLACK = 4.0

SILENT_SECONDS = 4.0
"""How long a load process may add nothing to its records, to which it adds every second: longer, and it hangs."""


class LocustLoad:
    """The load, by Locust. `folder` is where it works: relative paths that the user's file opens begin there.

    `known` are secrets that none of its records may hold.
    """

    def __init__(self, launch: Launch, folder: Path, log: Path, known: frozenset[str] = frozenset()) -> None:
        self._launch = launch
        self._folder = folder
        self._log = log
        self._known = known
        self._processes: Sequence[LoadProcess | RemoteProcess] = ()
        self._timeout = self._began = 0.0
        self._ending = False
        self._early: str | None = None
        self._heard: dict[Path, tuple[int, float]] = {}
        """The size of each file of records, and since when it has been that."""

    def start(self, arrivals: Arrivals, entry: str, marks: dict[str, Any], records: Path) -> None:
        """Start Locust and return when its users wait for the first arrival."""
        locustfile = _locustfile(arrivals.locustfile)
        self._timeout, self._ending, self._early = arrivals.timeout, False, None
        started: list[LoadProcess | RemoteProcess] = []
        self._processes = started
        try:
            if arrivals.bind is not None:
                started.extend(joined(arrivals.processes, arrivals.bind))
            else:
                for number in range(arrivals.processes):
                    started.append(LoadProcess(self._launch, self._folder, self._log_of(number)))
            for number, process in enumerate(started):
                process.records = _records_of(records, arrivals, number).resolve()
                share = {**_settings(arrivals, locustfile, entry, marks), **_share(arrivals, number)}
                process.known = self._known
                secrets = sorted(self._known) if isinstance(process, LoadProcess) else []  # to others they are not told
                process.send({**share, "records": str(process.records), "secrets": secrets})
            deadline = time.monotonic() + START_SECONDS + 2 * arrivals.timeout
            for process in started:
                self._wait_until_ready(process, deadline)
        except BaseException:
            self._end_processes()
            raise

    def go(self, at: float) -> None:
        """Let the first request be due at this time (seconds since the epoch)."""
        self._heard = {}
        self._began = at
        self._send({"go": at})

    def stop(self) -> None:
        """No further arrival; return when every process is gone, having recorded what was open."""
        if not self._processes:
            return
        self._early = self.ended_early() or self._lost()
        self._ending = True
        self._send({"stop": time.time()})
        deadline = time.monotonic() + 2 * self._timeout + STOP_SLACK
        late = [
            f"{self._name_of(number)} did not end when told to; {process.log_words()}"
            for number, process in enumerate(self._processes, 1)
            if not process.waited_for(max(0.0, deadline - time.monotonic()))
        ]
        self._early = self._early or "\n".join(late) or None
        self._end_processes()

    def ended_early(self) -> str | None:
        """Why Locust ended before it was told to, or None.

        Where one of several processes is lost without a word, the others go on: that is told when the load is over.
        """
        if self._early is not None or self._ending or not self._processes:
            return self._early
        for process in self._processes:
            if not process.lives:
                message = process.message(time.monotonic() + 0.2) or {}
                if "failed" in message:
                    self._early = f"{message['failed']}; {process.log_words()}"
                    return self._early
        if not any(process.lives for process in self._processes):
            self._early = self._lost()
        elif silent := self._silent():
            self._early = silent
            self._end_processes()
        return self._early

    def _silent(self) -> str | None:
        """Which processes hang: they live, and say nothing, though each tells of itself every second."""
        found = []
        for number, process in enumerate(self._processes, 1):
            records, at = process.records, time.monotonic()
            if records is None or not process.lives or time.time() < self._began:
                continue
            size = records.stat().st_size if records.exists() else 0
            if self._heard.get(records, (-1, at))[0] != size:
                self._heard[records] = size, at
            elif at - self._heard[records][1] > SILENT_SECONDS:
                told = "expected a record every second, found none"
                found.append(
                    f"{self._name_of(number)} hangs ({told} for {SILENT_SECONDS:g} s), and was killed; {process.log_words()}"
                )
        return "\n".join(found) or None

    def _lost(self) -> str | None:
        """Which processes are gone, and how."""
        gone = [
            f"{self._name_of(number)} ended with {process.exit_words()}; {process.log_words()}"
            for number, process in enumerate(self._processes, 1)
            if not process.lives
        ]
        return "\n".join(gone) or None

    def _name_of(self, number: int) -> str:
        many = len(self._processes)
        return f"load process {number} of {many}" if many > 1 else "Locust"

    def _log_of(self, number: int) -> Path:
        return self._log if number == 0 else self._log.with_stem(f"{self._log.stem}-{number + 1}")

    def _wait_until_ready(self, process: LoadProcess | RemoteProcess, deadline: float) -> None:
        message = process.message(deadline)
        if message is None:
            raise LoadError(f"the load did not come up: {self._why_silent(process)}; {process.log_words()}")
        if "invalid" in message:
            raise InvalidLocustfile(str(message["invalid"]).strip() or "the locustfile was refused, and it was not said why")
        if "ready" not in message:
            raise LoadError(f"the load did not come up: {message.get('failed', message)}; {process.log_words()}")

    def _why_silent(self, process: LoadProcess | RemoteProcess) -> str:
        if process.waited_for(2.0):
            return f"Locust ended with {process.exit_words()}"
        return f"its users were not ready within {START_SECONDS + 2 * self._timeout:g} s"

    def _send(self, message: dict[str, Any]) -> None:
        for process in self._processes:
            process.send(message)

    def _end_processes(self) -> None:
        for process in self._processes:
            process.end()
        self._processes = ()


def _settings(arrivals: Arrivals, locustfile: Path, entry: str, marks: dict[str, Any]) -> dict[str, Any]:
    """What the agent is told first. The kernel ends a child with the *thread* that started it, so only the main one may."""
    return {
        "locustfile": str(locustfile),
        "entry": entry.rstrip("/"),
        "rate": arrivals.rate,
        "stages": [(stage.to, stage.over) for stage in arrivals.stages],
        "shape": arrivals.shape,
        "arrivals": arrivals.arrivals,
        "timeout": arrivals.timeout,
        "classes": list(arrivals.classes),
        "allow_hosts": list(arrivals.allow_hosts),
        "journeys": list(arrivals.journeys),
        "accepted": arrivals.accepted,
        "seed": arrivals.seed,
        "seconds": arrivals.seconds,
        "marks": marks,
        "ends_with_parent": threading.current_thread() is threading.main_thread() and sys.platform == "linux",
    }


def _share(arrivals: Arrivals, number: int) -> dict[str, Any]:
    """What one of the processes has to do: every so manieth arrival, and as even a share of the users as there is."""
    each, left = divmod(arrivals.users, arrivals.processes)
    return {"number": number, "processes": arrivals.processes, "users": each + (number < left)}


def _records_of(records: Path, arrivals: Arrivals, number: int) -> Path:
    """One file for each process: `requests.jsonl`, or `requests-1.jsonl` and so on."""
    return records if arrivals.processes == 1 else records.with_stem(f"{records.stem}-{number + 1}")


def _locustfile(path: str) -> Path:
    file = Path(path).resolve()
    if not file.is_file():
        raise InvalidLocustfile(f"{path}: expected a locustfile, found no such file")
    if file.suffix != ".py" or "," in str(file):
        raise InvalidLocustfile(f"{path}: expected a locustfile whose name ends with .py and whose path holds no comma")
    return file
