"""Tries inputs on what reads them: each must be taken or refused in words, soon, and without much memory."""

from __future__ import annotations

import resource
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from harness.errors import HarnessError, InvalidFile

LONGEST = 2.0
"""Seconds of the processor: what takes longer for a small input is a hang, however busy the machine is."""

PATIENCE = 60.0
"""Seconds on the clock after which nobody would wait any more."""

MOST_MEMORY = 200.0
"""MB that a process may need beyond what it had at its start."""

WARMED_UP = 20
"""After so many inputs everything is imported, and what a process has is what it starts with."""

MOST_TOLD = 5

Reader = Callable[[Random], object]


class TookTooLong(BaseException):
    """An input had been read for so long that nobody would wait any more."""


@dataclass
class Tally:
    """What came of the inputs of one kind: `defects` by where they arose, each with the number that draws it."""

    kind: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    slowest: int = 0
    memory: float = 0.0
    hangs: int = 0
    tracebacks: int = 0
    defects: dict[str, str] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether every input was taken or refused as it should be."""
        return not (self.tracebacks or self.hangs) and self.memory < MOST_MEMORY

    def to_data(self) -> dict[str, Any]:
        """As plain data, for another process."""
        return asdict(self)


@dataclass(frozen=True)
class Kind:
    """One kind of input. `reader` makes, out of an empty folder, what draws an input and has it read."""

    name: str
    reader: Callable[[Path], Reader]


def tried(kind: Kind, folder: Path, numbers: range, seconds: float = inf) -> Tally:
    """Draw an input from each of these numbers, and have it read; no more of them when so many seconds have passed."""
    tally = Tally(kind.name)
    read = kind.reader(folder)
    before = 0.0
    with warnings.catch_warnings(), _bounded(), _threads_told(tally):
        warnings.simplefilter("error")
        for number in numbers:
            if tally.seconds > seconds:
                break
            if tally.inputs == min(WARMED_UP, len(numbers) - 1):
                before = memory_now()
            _try(tally, read, number)
    tally.memory = peak_memory() - before
    return tally


def _try(tally: Tally, read: Reader, number: int) -> None:
    began, spent = time.perf_counter(), time.process_time()
    others, _ = signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    signal.setitimer(signal.ITIMER_VIRTUAL, 5 * LONGEST)
    try:
        read(Random(number))
    except HarnessError as error:
        tally.refused += 1
        if not is_told(error):
            _note(tally, number, AssertionError(f"not told as it should be: {str(error)[:200]!r}"))
    except (Exception, TookTooLong) as defect:
        _note(tally, number, defect)
    finally:
        left = max(0.001, others - (time.perf_counter() - began)) if others else 0.0
        signal.setitimer(signal.ITIMER_REAL, left)  # which may be that of the test
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    took = time.process_time() - spent
    tally.inputs += 1
    tally.seconds += time.perf_counter() - began
    tally.hangs += took > LONGEST
    if took > tally.longest:
        tally.longest, tally.slowest = took, number


def is_told(error: HarnessError) -> bool:
    """Whether a person can act on it: it says something, and for each problem of a file in which file it is."""
    if isinstance(error, InvalidFile):
        return bool(error.problems) and all(problem.file and problem.message for problem in error.problems)
    return bool(str(error).strip())


def _note(tally: Tally, number: int, defect: BaseException) -> None:
    tally.tracebacks += 1
    frames = traceback.extract_tb(defect.__traceback__)
    ours = [frame for frame in frames if "/harness/" in frame.filename] or list(frames)
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    key = f"{type(defect).__name__} at {where}"
    if key not in tally.defects:
        tally.defects[key] = f"number {number}: {defect!s:.200}"


@contextmanager
def _bounded() -> Iterator[None]:
    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TookTooLong

    before = {number: signal.signal(number, give_up) for number in (signal.SIGALRM, signal.SIGVTALRM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _threads_told(tally: Tally) -> Iterator[None]:
    """What a thread died of counts as well."""

    def told(died: threading.ExceptHookArgs) -> None:
        if died.exc_value is not None:
            _note(tally, -1, died.exc_value)

    before, threading.excepthook = threading.excepthook, told
    try:
        yield
    finally:
        threading.excepthook = before


def memory_now() -> float:
    """The memory that this process has, in MB; from here on its peak is counted anew, where Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory()


def peak_memory() -> float:
    """The most memory that this process had since it was last forgotten, in MB."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "linux" else peak / 1024**2


def table_of(tallies: list[Tally]) -> str:
    """One line for each kind, and beneath it what went wrong."""
    lines = [
        f"{'kind':<22} {'inputs':>8} {'refused':>8} {'seconds':>8} {'tracebacks':>10} {'hangs':>6} {'longest':>9} {'memory':>8}"
    ]
    for tally in tallies:
        lines.append(
            f"{tally.kind:<22} {tally.inputs:>8,} {tally.refused:>8,} {tally.seconds:>8.0f} {tally.tracebacks:>10} {tally.hangs:>6} "
            f"{tally.longest * 1000:>6.0f} ms {tally.memory:>5.0f} MB"
        )
        lines += [f"    {where}: {told}" for where, told in list(tally.defects.items())[:MOST_TOLD]]
        if tally.hangs:
            lines.append(f"    the slowest: number {tally.slowest}")
    return "\n".join(lines)
