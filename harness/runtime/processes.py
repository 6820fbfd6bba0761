"""Starting processes so that somebody else can end them, whatever becomes of the harness."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from harness.errors import CouldNotRun
from harness.history.store import write_whole
from harness.runtime.undo import UndoJournal


class JournaledLaunch:
    """The port `Launch`: every process leads a session of its own, and writes into the journal how to end it.

    It does so itself, between fork and exec: before that nobody knows its number, after that it could do
    harm already. Until exec it also holds the socket that tells the guardian whether the harness is there,
    so the guardian never reads the journal before that line is in it. Once everything is being undone, nothing is started.
    """

    def __init__(self, journal: UndoJournal) -> None:
        self._journal = journal
        self._started: list[subprocess.Popen[bytes]] = []
        self._lock = Lock()

    def __call__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        folder: Path | None = None,
        pass_fds: Sequence[int] = (),
        uid: int | None = None,
        end_with: int = signal.SIGTERM,
    ) -> subprocess.Popen[bytes]:
        """Start `argv`; `end_with` is the signal that asks this program to end."""
        user = {} if uid is None else _as_user(uid)
        line = self._journal.before_start_of(name, end_with)
        output = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with self._journal.starting():
                process = subprocess.Popen(
                    list(argv),
                    env=dict(environment),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=pass_fds,
                    start_new_session=True,
                    preexec_fn=_enter(self._journal.descriptor, line),  # noqa: PLW1509 -- it makes system calls alone
                    **user,
                )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise CouldNotRun(_why_not(name, argv, environment, folder, error)) from error
        finally:
            os.close(output)
        with self._lock:
            self._started.append(process)
        return process

    def collect(self) -> None:
        """Take note of every process that has ended, so that none stays in the process table."""
        with self._lock:
            self._started = [process for process in self._started if process.poll() is None]


def _as_user(uid: int) -> dict[str, Any]:
    return {"user": uid, "group": _group_of(uid), "extra_groups": []}


def _group_of(uid: int) -> int:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _enter(journal: int, line: bytes) -> Callable[[], None]:
    """What a child does before its program: it writes the rest of `line`, with its own number and start.

    Other threads of the harness may have held locks at the fork; so nothing here but system calls on bytes. Where the line
    is not written whole, the program does not start.
    """

    def enter() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # whoever started the harness may ignore them
            signal.signal(number, signal.SIG_DFL)
        started = b"0"
        try:
            stat = os.open("/proc/self/stat", os.O_RDONLY)
            started = os.read(stat, 4096).rpartition(b")")[2].split()[19]
            os.close(stat)
        except FileNotFoundError:
            pass
        write_whole(journal, line + b"%d" % os.getpid() + b', "started": ' + started + b"}\n")

    return enter


def _why_not(name: str, argv: Sequence[str], environment: Mapping[str, str], folder: Path | None, error: Exception) -> str:
    command = argv[0] if argv else "(an empty command)"
    if folder is not None and not folder.is_dir():
        return f"{name}: expected a folder {folder} to run in, found none"
    missing = "/" not in command and shutil.which(command, path=environment.get("PATH", os.defpath)) is None
    if missing or isinstance(error, FileNotFoundError):
        return (
            f"{name}: expected a program {command}, found none on the PATH {environment.get('PATH', os.defpath)}; "
            f"install it, or mend the command"
        )
    if isinstance(error, subprocess.SubprocessError):
        return f"{name}: expected to note in the run's folder how to end it, could not; has it room, and can it be written to?"
    return f"{name}: expected {command} to start, found: {error}; is it a program that this user may run?"
