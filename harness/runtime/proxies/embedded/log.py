"""What the engine tells while it runs: a line for each event, as JSON or for people.

A thread of its own writes them, so that no connection ever waits for whoever reads the log: lines that find no
room are dropped, and how many is told as soon as there is room again.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, TypeAlias

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal", "panic")
"""Toxiproxy's names for them, the most talkative first."""

_DEBUG, _INFO, _WARN, _ERROR = (LEVELS.index(level) for level in ("debug", "info", "warn", "error"))

MOST_WAITING = 10_000
"""Lines that may wait to be written."""

WRITTEN_WITHIN = 1.0
"""Seconds that the last lines have at the end."""

LONGEST_TEXT = 500
"""Characters of one value that are shown."""

Form: TypeAlias = Callable[[str, str, datetime, dict[str, Any]], str]


def as_json(level: str, message: str, at: datetime, fields: dict[str, Any]) -> str:
    """A JSON object as Toxiproxy writes it: the level first, the message last."""
    time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"level": level, **fields, "time": time, "message": message}, separators=(",", ":"), default=str)


def as_text(level: str, message: str, at: datetime, fields: dict[str, Any]) -> str:
    """The same for people."""
    shown = "".join(f"  {name}={_plain(value)}" for name, value in fields.items())
    return f"{at.astimezone():%H:%M:%S} {level:<5} {message}{shown}"


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text.isprintable() and text.isascii() and " " not in text else json.dumps(text)


class Log:
    """Tells what is at or above its level, to `lines`."""

    def __init__(self, level: str, form: Form, lines: Lines) -> None:
        self._from, self._form, self._lines = LEVELS.index(level), form, lines
        self._dropped = 0

    @property
    def tells_info(self) -> bool:
        """Whether `info` is told at all."""
        return self._from <= _INFO

    @property
    def tells_debug(self) -> bool:
        """Whether `debug` is told at all."""
        return self._from <= _DEBUG

    def debug(self, message: str, **fields: Any) -> None:
        """Of a single connection or request: for whoever looks for the cause of something."""
        self._tell(_DEBUG, message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Something was changed, or could not be."""
        self._tell(_INFO, message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """The engine does not work as it should."""
        self._tell(_ERROR, message, fields)

    def close(self) -> None:
        """Write what is still waiting."""
        self._lines.close()

    def _tell(self, level: int, message: str, fields: dict[str, Any]) -> None:
        if level < self._from:
            return
        if self._lines.is_full:
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._put(_WARN, "Lines of the log were dropped", {"dropped": dropped})
        self._put(level, message, fields)

    def _put(self, level: int, message: str, fields: dict[str, Any]) -> None:
        shown = {name: _shortened(value) for name, value in fields.items()}
        self._lines.write(self._form(LEVELS[level], message, datetime.now(UTC), shown))


def _shortened(value: Any) -> Any:
    return f"{value[:LONGEST_TEXT]}…" if isinstance(value, str) and len(value) > LONGEST_TEXT else value


class Lines:
    """Lines on their way to a descriptor. Its thread is there from the first line on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._writer: threading.Thread | None = None

    @property
    def is_full(self) -> bool:
        """Whether nobody takes the lines, or not as fast as they come."""
        return self._waiting.qsize() >= MOST_WAITING

    def write(self, line: str) -> None:
        """Have a line written; this does not wait."""
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, daemon=True, name="log")
            self._writer.start()
        self._waiting.put(f"{line}\n".encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Wait a little until all are written."""
        if self._writer is not None:
            self._waiting.put(None)
            self._writer.join(WRITTEN_WITHIN)

    def _write(self) -> None:
        nobody_reads = False
        while (line := self._waiting.get()) is not None:
            while line and not nobody_reads:
                try:
                    line = line[os.write(self._descriptor, line) :]
                except BlockingIOError:  # somebody else made it so that it does not wait
                    threading.Event().wait(0.01)
                except OSError:
                    nobody_reads = True


SILENT = Log("panic", as_json, Lines(-1))
"""Tells nothing."""
