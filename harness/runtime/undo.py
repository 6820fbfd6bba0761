"""Undo as data: how to take back each deed, on disk before the deed is done.

The journal is a file of JSON lines in the run's folder. Several processes append to it, and any of them can
do what is left in it: the harness at the end of a run, the guardian when the harness is gone, a later
command when both are.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from threading import Lock
from typing import Any

from harness.errors import CannotRecord, CouldNotRun
from harness.history.events import UndoDone, UndoFailed
from harness.history.lines import object_in
from harness.history.shapes import Misfit, fitting
from harness.history.store import MAKE_ROOM, append_line, read_lines
from harness.runtime.ending import EndProcessGroup, started_at
from harness.runtime.undo_kinds import (
    FOLDER_PREFIX,
    KINDS,
    OWNER,
    RemoveControlGroup,
    RemoveFolder,
    RemoveProject,
    RestoreProxies,
    Undo,
    describe,
)
from harness.runtime.undoing import PROJECT_SECONDS, carry_out, undo_now

__all__ = [
    "FOLDER_PREFIX",
    "OWNER",
    "PROJECT_SECONDS",
    "EndProcessGroup",
    "RemoveControlGroup",
    "RemoveFolder",
    "RemoveProject",
    "RestoreProxies",
    "Undo",
    "UndoJournal",
    "Undone",
    "describe",
    "make_run_folder",
    "undo_now",
]

START_SECONDS = 2.0
"""How long a start that is under way is waited for."""

STILL_STARTING = (
    "expected the start that is under way to be over within {:g} s, found it at work; see what it starts, and end it"
)

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Undone:
    """What came of undoing everything."""

    done: int
    failed: int


class UndoJournal:
    """The undos of one run, in a file that several processes share; none of them need be there at the end.

    It is read by the descriptor that it is written by: whoever removes the file takes nothing from those that have it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        end_last_line(path)
        self.descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._held: list[int] = []
        self._starting = Lock()
        self._sealed = False

    def before(self, undo: Undo) -> str:
        """Write down how to take back what is about to be done; the answer names it for `done`."""
        name = uuid.uuid4().hex
        self._begin_line()
        append_line(self.descriptor, {"id": name, "undo": type(undo).__name__, **asdict(undo)})
        return name

    def before_start_of(self, name: str, first_signal: int) -> bytes:
        """The line of an EndProcessGroup up to `pid` and `started`, which only the process itself can fill in.

        It appends `"pid":…,"started":…}` and a line end to this, and writes it with one write to `descriptor`.
        """
        known = {"id": uuid.uuid4().hex, "undo": EndProcessGroup.__name__, "name": name, "signal": int(first_signal)}
        return json.dumps(known).removesuffix("}").encode() + b', "pid": '

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Something is started by this process meanwhile; refused once everything is being undone."""
        with self._starting:
            if self._sealed:
                raise CouldNotRun("nothing more is started: the run is being undone")
            self._begin_line()
            yield

    def _begin_line(self) -> None:
        """After a line that found no room as a whole, so that it spoils no other one."""
        try:
            _end_last_line(self.descriptor)
        except OSError as error:
            raise CannotRecord(f"{self.path}: expected room for one more line, found: {error}; {MAKE_ROOM}") from error

    def seal(self) -> bool:
        """Nothing more is started by this process: a thread that nobody waits for any more may still want to.

        Whether no start is under way any more: one that is over is on disk.
        """
        self._sealed = True
        is_over = self._starting.acquire(timeout=START_SECONDS)
        if is_over:
            self._starting.release()
        return is_over

    def done(self, name: str) -> None:
        """What this undo would take back has been taken back by other means."""
        append_line(self.descriptor, {"done": name})

    def left(self) -> dict[str, Undo]:
        """What is still to be undone, newest first."""
        whole = _content_of(self.descriptor).split(b"\n")[:-1]
        return _left_by(data for data in map(object_in, whole) if data is not None)

    def undo_all(self, record: Callable[[UndoDone | UndoFailed], None], by: str = "harness") -> Undone:
        """Do everything that is left, whatever fails on the way; what failed stays in the journal."""
        done, failed, unrecorded = 0, 0, list[Exception]()
        for event in self._undo_all(by):
            done, failed = done + isinstance(event, UndoDone), failed + isinstance(event, UndoFailed)
            try:
                record(event)
            except Exception as error:  # raised when everything is undone
                unrecorded.append(error)
        if unrecorded:
            raise unrecorded[0]
        return Undone(done, failed)

    def _undo_all(self, by: str) -> Iterator[UndoDone | UndoFailed]:
        """All that is left; where a start was still under way then, what that has added too."""
        is_over, tried = self.seal(), set[str]()
        yield from self._undo_but(tried, by)
        if not is_over:
            is_over = self.seal()
            yield from self._undo_but(tried, by)
        if not is_over:
            yield UndoFailed(time.time(), "what is being started", STILL_STARTING.format(2 * START_SECONDS), by)
        if os.fstat(self.descriptor).st_nlink == 0:
            found = "expected it to stay until the run's end, found it removed; what it told of was undone all the same"
            yield UndoFailed(time.time(), f"the removal of {self.path}", found, by)

    def _undo_but(self, tried: set[str], by: str) -> Iterator[UndoDone | UndoFailed]:
        """What was not tried yet, which then it was."""
        with suppress(OSError):
            _end_last_line(self.descriptor)
        left = {name: undo for name, undo in self.left().items() if name not in tried}
        tried |= left.keys()
        for name, reason in carry_out(left):
            now, what = time.time(), describe(left[name])
            if reason is None:
                with suppress(CannotRecord):  # on a disk that is full it stays in the journal: undoing twice is undoing once
                    self.done(name)
                yield UndoDone(now, what, by)
            else:
                yield UndoFailed(now, what, reason, by)

    def hold(self, path: Path, text: str) -> None:
        """Write a file that is locked until this is closed, where that can be; nobody reads it without its lock."""
        self._held.append(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with suppress(OSError):
            fcntl.flock(self._held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._held[-1], text.encode())

    def close(self) -> None:
        """Nothing more is written by this process."""
        for descriptor in (self.descriptor, *self._held):
            os.close(descriptor)


def end_last_line(path: Path) -> None:
    """End a line that somebody was killed in, so that it spoils no other one."""
    with suppress(FileNotFoundError):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _end_last_line(file)
        finally:
            os.close(file)


def _end_last_line(file: int) -> None:
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")


def _content_of(file: int) -> bytes:
    """All of a file, wherever in it the descriptor is: a child that is about to start something shares that place."""
    content = b""
    while piece := os.pread(file, PIECE_BYTES, len(content)):
        content += piece
    return content


def left_in(path: Path) -> dict[str, Undo]:
    """What a journal says is still to be undone, newest first. Kinds of a later version are left to it."""
    return _left_by(read_lines(path))


def _left_by(lines: Iterable[dict[str, Any]]) -> dict[str, Undo]:
    found: dict[str, Undo] = {}
    for data in lines:
        if "done" in data:
            found.pop(str(data["done"]), None)
        elif (undo := _undo_from_data(data)) is not None:
            found[str(data["id"])] = undo
    return dict(reversed(found.items()))


def make_run_folder(journal: UndoJournal) -> Path:
    """A folder for the temporary files of one run, which goes with the run.

    Other users may pass through it, since a database that is run for root is run by one of them, but not look.
    """
    folder = Path(tempfile.gettempdir()).resolve() / f"{FOLDER_PREFIX}{uuid.uuid4().hex[:12]}"
    journal.before(RemoveFolder(str(folder)))
    folder.mkdir(mode=0o700)
    journal.hold(folder / OWNER, f"{os.getpid()} {started_at(os.getpid()) or 0} {socket.gethostname()}")
    folder.chmod(0o711)
    return folder


def _undo_from_data(data: dict[str, Any]) -> Undo | None:
    kind = KINDS.get(str(data.get("undo")))
    if kind is None or "id" not in data or not data.keys() <= {"id", "undo", *(part.name for part in fields(kind))}:
        return None
    try:
        undo: Undo = kind(**fitting(kind, data))
    except Misfit:
        return None  # somebody damaged it: what it would have undone nobody can tell
    return undo if not isinstance(undo, EndProcessGroup) or _can_be_ended(undo) else None


def _can_be_ended(group: EndProcessGroup) -> bool:
    return group.pid > 1 and group.signal in signal.valid_signals()
