"""The logs of a run, copied into its folder as they are written: what services print is theirs, secrets and all.

They write into a folder of temporary files, which goes with the run; what is copied from there is without secrets. Of a
run that is killed, the last quarter of a second is missing, and what may be the begin of a private key, up to 64 KB.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.25
"""Seconds between two looks."""

AT_ONCE = 1 << 20
"""Bytes that are read at once; a line that is longer is copied in pieces."""

MOST_BYTES = 16 << 20
"""How long a log may become until what was copied of it is thrown away."""

MOST_AT_A_LOOK = 8 << 20
"""Bytes of one log that are copied before others have their turn."""

MOST_BEHIND = 64 << 20
"""How far a log may be ahead of its copy until what lies between is left out: it is written faster than anybody reads."""

LONGEST_KEY = 64 << 10
"""Bytes of a private key whose end has not come: so many wait for it."""

_KEY = re.compile(rb"-----(BEGIN|END) [A-Z ]{0,30}PRIVATE KEY-----")
_OF_A_KEY = re.compile(rb"[A-Za-z0-9+/=\s\\:,-]*")


@dataclass(slots=True)
class _Copied:
    """A log that is open, so that it can be read when its folder is gone already, and where it is copied to.

    `position` is how far it was read, `rest` the begin of a line, or of a private key, whose end has not come.
    """

    source: int
    target: int
    position: int = 0
    rest: bytes = b""


class LogCopies:
    """Copies every `*.log` in a folder into another, in a thread of its own between `begin` and `end`."""

    def __init__(self, written: Path, copied: Path, without_secrets: Callable[[str], str]) -> None:
        self._written, self._folder, self._hide = written, copied, without_secrets
        self._logs: dict[str, _Copied] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="log copies")

    def file(self, name: str) -> Path:
        """Where the log of this name is written."""
        return self._written / f"{name}.log"

    def begin(self) -> None:
        """Copy from now on."""
        self._thread.start()

    def end(self) -> None:
        """Copy what is left, and then no more. Ending twice is ending once."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self.look(whole=True)
        for log in self._logs.values():
            os.close(log.source)
            os.close(log.target)
        self._logs.clear()

    def _work(self) -> None:
        while not self._ended.wait(EVERY):
            self.look()

    def look(self, *, whole: bool = False) -> None:
        """Copy the lines that have come; with `whole` a last one that has no end, too."""
        for path in sorted(self._written.glob("*.log")):
            if path.name not in self._logs:
                with suppress(OSError):  # it is gone again, or is not for copying
                    self._logs[path.name] = self._opened(path)
        for log in self._logs.values():
            with suppress(OSError):  # the disk is full: what cannot be copied now may be later
                self._copy(log, whole=whole)

    def _opened(self, path: Path) -> _Copied:
        source = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return _Copied(source, os.open(self._folder / path.name, flags, 0o600))
        except OSError:
            os.close(source)
            raise

    def _copy(self, log: _Copied, *, whole: bool) -> None:
        for _ in range(MOST_AT_A_LOOK // AT_ONCE):
            if not self._copy_piece(log, whole=whole):
                break
        behind = os.fstat(log.source).st_size - log.position
        if behind < 0:  # somebody cut it short
            log.position = 0
        elif behind > MOST_BEHIND:
            os.write(log.target, b"(chaos-harness left out %d bytes here)\n" % behind)
            self._begin_anew(log)
        elif log.position > MOST_BYTES:
            self._copy_piece(log, whole=whole)
            self._begin_anew(log)

    def _begin_anew(self, log: _Copied) -> None:
        os.ftruncate(log.source, 0)
        log.position = 0

    def _copy_piece(self, log: _Copied, *, whole: bool) -> bool:
        """Copy the whole lines of one piece; False where there is none."""
        piece = os.pread(log.source, AT_ONCE, log.position)
        lines, rest = log.rest + piece, b""
        if not whole and len(lines) < 2 * AT_ONCE:
            end = _without_half_a_key(lines[: lines.rfind(b"\n") + 1])
            lines, rest = lines[:end], lines[end:]
        left = memoryview(self._hide(lines.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))
        while left:
            left = left[os.write(log.target, left) :]
        log.position, log.rest = log.position + len(piece), rest
        return bool(piece)


def _without_half_a_key(lines: bytes) -> int:
    """Where they end, or the line begins in which a private key does whose end may come: half of one looks like no secret."""
    found = list(_KEY.finditer(lines, max(0, len(lines) - LONGEST_KEY)))
    if not found or found[-1][1] == b"END" or _OF_A_KEY.fullmatch(lines, found[-1].end()) is None:
        return len(lines)
    return lines.rfind(b"\n", 0, found[-1].start()) + 1
