"""Looks at the edges, the counters and the machine once a second, beside the driver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil

from harness.errors import HarnessError
from harness.history.events import CounterRead, Event, MachineSeen
from harness.plan.plan import WatchCounter
from harness.runtime.bounded_session import bounded_session
from harness.runtime.ports import Proxies, Services
from harness.runtime.probes.metrics import read_counter
from harness.runtime.proxies.supervised import GivenUp
from harness.runtime.recorder import Recorder, RequestTail, now

EVERY = 1.0
TAIL_EVERY = 0.25
END_SECONDS = 5.0

PRESSURE = Path("/proc/pressure/cpu")
"""Where Linux tells for how long processes waited for a core (since 4.20, where it was built in)."""


class Sampler:
    """Samples in threads of its own between `begin` and `end`; a system that does not answer only delays its own samples."""

    def __init__(self, recorder: Recorder, proxies: Proxies, services: Services, counters: Sequence[WatchCounter]) -> None:
        self._recorder, self._proxies, self._services, self._counters = recorder, proxies, services, counters
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failure: Exception | None = None
        self._session = bounded_session()

    def begin(self, tail: RequestTail, machine: MachineWatch) -> None:
        """Start sampling."""
        tasks: list[tuple[float, float, Callable[[], None]]] = [
            (0.0, EVERY, self.look_at_edges),
            (0.0, EVERY, self.look_at_services),
            (0.0, EVERY, self.read_counters),
            (EVERY, EVERY, lambda: self._recorder.record(machine.seen())),  # what was spent in no time is no share
            (0.0, TAIL_EVERY, lambda: self._recorder.pass_on(tail.new_requests())),
        ]
        self._threads = [threading.Thread(target=self._repeat, args=task, daemon=True) for task in tasks]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop sampling; samples that are being taken are waited for, END_SECONDS at most."""
        self._ended.set()
        until = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def check(self) -> None:
        """Raise what kept anything from being recorded; nothing that goes wrong here goes unnoticed."""
        self._recorder.check()
        if self._failure is not None:
            raise self._failure

    def _repeat(self, first: float, every: float, task: Callable[[], None]) -> None:
        due = time.monotonic() + first
        self._ended.wait(first)
        while not self._ended.is_set():
            try:
                task()
            except Exception as error:  # it is raised where the driver waits
                self._failure = error
                return
            due = max(due + every, time.monotonic())
            self._ended.wait(due - time.monotonic())

    def look_at_edges(self) -> None:
        """Record what the engine has counted so far; one that does not answer leaves no sample, one that is gone raises."""
        try:
            seen: Sequence[Event] = self._proxies.seen()
        except GivenUp:
            raise
        except HarnessError:
            return
        for event in seen:
            self._recorder.record(event)

    def look_at_services(self) -> None:
        """Record services that ended although nobody had asked them to."""
        for event in self._services.exited():
            self._recorder.record(event)

    def read_counters(self) -> None:
        """Read every counter that an expectation needs."""
        if not self._counters:
            return
        with ThreadPoolExecutor(len(self._counters)) as pool:
            for event in pool.map(self._read, self._counters):
                self._recorder.record(event)

    def _read(self, counter: WatchCounter) -> CounterRead:
        reading = read_counter(self._services.address(counter.service), counter.metric, self._session)
        return CounterRead(now(), counter.fallback, counter.service, reading.value, reading.detail)


class MachineWatch:
    """Shares of one core used since the last look; `groups` gives the process ids of `proxies`, `load` and `system`."""

    def __init__(self, groups: Callable[[], Mapping[str, Sequence[int]]], pressure: Path = PRESSURE) -> None:
        self._groups, self._pressure = groups, pressure
        self._spent: dict[int, float] = {}
        self._spent_by_groups()
        self._looked, self._last = time.monotonic(), self._machine()

    def seen(self) -> MachineSeen:
        """One sample."""
        elapsed = max(1e-3, time.monotonic() - self._looked)
        self._looked += elapsed
        before, self._last = self._last, self._machine()
        machine = {what: max(0.0, total - before.get(what, total)) / elapsed for what, total in self._last.items()}
        shares = {name: spent / elapsed for name, spent in self._spent_by_groups().items()}
        known = machine["harness"] + sum(shares.values())
        return MachineSeen(
            at=now(),
            harness=round(machine["harness"], 4),
            proxies=round(shares.get("proxies", 0.0), 4),
            load=round(shares.get("load", 0.0), 4),
            system=round(shares.get("system", 0.0), 4),
            others=round(max(0.0, machine["busy"] - known), 4),
            load_average=round(psutil.getloadavg()[0], 2),
            cores=psutil.cpu_count() or 1,
            pressure=round(min(1.0, machine["waited"]), 4) if "waited" in machine else None,
        )

    def _machine(self) -> dict[str, float]:
        """Seconds of CPU spent so far by this process and by all; seconds that somebody waited for a core, where told."""
        waited = seconds_waited(self._pressure)
        found = {"harness": sum(psutil.Process().cpu_times()[:2]), "busy": _busy_seconds()}
        return found if waited is None else {**found, "waited": waited}

    def _spent_by_groups(self) -> dict[str, float]:
        """CPU seconds spent since the last look by the processes of each group and their children.

        One that was not there at the last look has spent all it spent since then; at the first look nothing is known.
        """
        before, self._spent = self._spent, {}
        children = _children()
        found = {}
        for name, pids in self._groups().items():
            totals = {pid: total for pid in _families(pids, children) if (total := _spent_by(pid)) is not None}
            self._spent.update(totals)
            found[name] = sum(max(0.0, total - before.get(pid, 0.0)) for pid, total in totals.items())
        return found


def seconds_waited(pressure: Path) -> float | None:
    """For how long so far some process that could have run waited for a core; None where the kernel does not tell."""
    try:
        some = pressure.read_text(encoding="ascii").splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return None


def _children() -> dict[int, list[int]]:
    """The processes that each process began, in one look at all of them."""
    found: dict[int, list[int]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found.setdefault(process.ppid(), []).append(process.pid)
    return found


def _families(pids: Sequence[int], children: Mapping[int, Sequence[int]]) -> set[int]:
    """Processes with all that they began, and those began."""
    found, left = set(), list(pids)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, ())
    return found


def _spent_by(pid: int) -> float | None:
    """CPU seconds that a process has spent so far; None where it is gone."""
    try:
        return float(sum(psutil.Process(pid).cpu_times()[:2]))
    except psutil.Error:
        return None


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
