"""Standard output and error that disturb nothing: where nobody reads any more, what is printed is let go of.

A closed terminal, a pipe whose reader has gone, a full disk: none of them may keep a run from being healed, taken down
and judged. What was to be printed is in the run's folder too.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import Any


class _Undisturbed(io.FileIO):
    """A stream that takes everything."""

    def write(self, data: Any, /) -> int:
        """Write what can be written; all of it counts as written, also what a pipe that is never waited for did not take."""
        written: int | None = None
        with suppress(OSError):
            written = super().write(data)
        return memoryview(data).nbytes if written is None else written


def print_undisturbed() -> None:
    """From now on nothing that is printed raises; streams that somebody else put in place stay as they are."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = _undisturbed(sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _undisturbed(sys.stderr)


def _undisturbed(stream: Any) -> Any:
    if not isinstance(stream, io.TextIOWrapper):  # there may be none at all
        return stream
    with suppress(OSError, ValueError):
        stream.flush()
    try:
        raw = _Undisturbed(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=stream.line_buffering)
