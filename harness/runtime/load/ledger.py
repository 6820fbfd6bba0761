"""The load process's own book: each request that was begun gets exactly one line, whatever becomes of it.

Locust tells nothing of a request whose user was killed, whose `with` block raised, or whose answer was never judged.
Here a request is entered when it begins and leaves the book with its line.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NoReturn

from harness.history.requests import Request, request_line
from harness.model.secrets import without_secrets
from harness.runtime.load.marks import Marks
from harness.runtime.load.outcomes import BadStatus, error_text, outcome_of, says_only_status

_epoch, _START = time.time(), time.perf_counter()

EXIT_CANNOT_WRITE = 70


def now() -> float:
    """Seconds since the epoch, on a clock that nobody sets while the load runs."""
    return _epoch + (time.perf_counter() - _START)


def correct_clock(offset: float) -> None:
    """Go by a clock that is so many seconds ahead of this machine's; before anything was recorded."""
    global _epoch  # noqa: PLW0603 - one clock for all that one process records
    _epoch += offset


@dataclass(slots=True, eq=False)
class Exchange:
    """A request on its way. `end` is 0 until its answer is complete; `journey` is asked for only when nobody else tells it."""

    journey: Callable[[], str]
    due: float
    start: float
    trace: str = ""
    streamed: bool = False
    end: float = 0.0
    answer: Any = None


def appending_to(path: Path) -> Callable[[bytes], int]:
    """Writes lines to the end of a file: each is in it, whatever becomes of this process."""
    return partial(os.write, os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def hiding(known: frozenset[str]) -> Callable[[str], str]:
    """Takes secrets out of a text: those that are known, and what looks like one. Most texts come again and again."""
    return lru_cache(maxsize=4096)(partial(without_secrets, known=known))


class Ledger:
    """Writes requests and notes, one line and one `write` each."""

    accepted: Mapping[str, Collection[int]] = {}
    """Statuses that are no error, by journey."""

    def __init__(
        self,
        write: Callable[[bytes], int],
        marks: Marks,
        when_it_cannot_write: Callable[[str], None],
        hide: Callable[[str], str] = str,
    ) -> None:
        self._write, self._hide = write, hide
        self._marks = marks
        self._tell = when_it_cannot_write
        self.open: set[Exchange] = set()
        self.counts = {"unfinished": 0, "dropped": 0, "requests": 0}

    def note(self, kind: str, **facts: Any) -> None:
        """A line about the load itself."""
        said = json.dumps({"load": kind, "at": now(), **facts}, ensure_ascii=False, separators=(",", ":"))
        self._append(f"{self._hide(said)}\n".encode("utf-8", "backslashreplace"))

    def enter(self, exchange: Exchange) -> None:
        """A request begins."""
        self.open.add(exchange)

    def reported(self, exchange: Exchange, journey: str, answer: Any, size: int, error: BaseException | None) -> None:
        """Locust told how a request ended."""
        self._close(exchange, self._record(exchange, journey, answer, size, error))

    def given_up(self, exchange: Exchange, outcome: str, error: BaseException | None = None) -> None:
        """A request came to no answer."""
        if exchange in self.open:
            journey, told = self._hide(exchange.journey()), error_text(error, self._hide)
            line = Request(journey, exchange.due, exchange.start, now(), outcome, trace=exchange.trace, error=told)
            self._close(exchange, line)

    def settle(self, exchange: Exchange, error: BaseException | None) -> None:
        """An answer came, but its user never judged it (or broke off while doing so): the line is written all the same."""
        if exchange not in self.open or not exchange.end:
            return
        answer = exchange.answer
        wrong = error or getattr(answer, "error", None) or _bad_status(answer)
        self.reported(exchange, exchange.journey(), answer, _size(exchange), wrong)

    def drop(self, due: float) -> None:
        """An arrival was due, and no user was free; which journey it would have been was never drawn."""
        self.counts["dropped"] += 1
        self._append(request_line(Request("", due, due, now(), "dropped")))

    def finish_open(self) -> None:
        """The load ends: what was answered is settled, what was not is unfinished."""
        for exchange in sorted(self.open, key=lambda exchange: exchange.start):
            if exchange.end:
                self.settle(exchange, None)
            else:
                self.given_up(exchange, "unfinished")

    def _record(self, exchange: Exchange, journey: str, answer: Any, size: int, error: BaseException | None) -> Request:
        status = _status(answer)
        if error is not None and status in self.accepted.get(journey, ()) and says_only_status(error):
            error = None
        return Request(
            journey=self._hide(journey),
            due=exchange.due,
            start=exchange.start,
            end=exchange.end or now(),
            outcome=outcome_of(error, getattr(answer, "error", None), status),
            status=status,
            bytes=size,
            marks=self._marks_of(exchange, answer),
            trace=exchange.trace,
            error=error_text(error, self._hide),
        )

    def _marks_of(self, exchange: Exchange, answer: Any) -> tuple[str, ...]:
        headers = getattr(answer, "headers", None)
        if headers is None:
            return ()
        body = (lambda: None) if exchange.streamed else (lambda: getattr(answer, "content", None))
        return self._marks.found(headers.get, body)

    def _close(self, exchange: Exchange, line: Request) -> None:
        if exchange in self.open:
            self.open.discard(exchange)
            self.counts["requests"] += 1
            self.counts["unfinished"] += line.outcome == "unfinished"
            self._append(request_line(line))

    def _append(self, line: bytes) -> None:
        try:
            written = self._write(line)
        except OSError as error:
            self._end_loudly(f"the load's records cannot be written: {error}")
        if written < len(line):
            self._end_loudly(f"the load's records cannot be written: {written} of {len(line)} bytes were taken")

    def _end_loudly(self, reason: str) -> NoReturn:
        """Locust swallows what a listener raises, and would go on unrecorded."""
        self._tell(reason)
        os._exit(EXIT_CANNOT_WRITE)


def _status(answer: Any) -> int:
    status = getattr(answer, "status_code", 0)
    return status if isinstance(status, int) else 0


def _bad_status(answer: Any) -> BaseException | None:
    status = _status(answer)
    return BadStatus(f"status {status}") if status >= 400 else None


def _size(exchange: Exchange) -> int:
    content = None if exchange.streamed else getattr(exchange.answer, "content", None)
    return len(content) if isinstance(content, bytes | str) else 0
