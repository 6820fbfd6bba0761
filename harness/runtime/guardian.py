"""The guardian: a process that undoes what the harness left behind, should the harness be gone, or stuck.

The two hold the ends of a socket. The harness says `beat` several times in each lease, as long as it goes on, and the
guardian answers each with `here`. Where no beat comes for a lease, or the run has passed its hard end, or the kernel
closed the socket since the harness is gone, the guardian ends the harness for good (one that wakes up later must not
inject again), heals, takes everything down, and tells the history. A harness that has undone everything itself says
`done` first. The guardian has a session of its own and ignores the signals that end a harness; and since it gets
nothing of the harness's environment, whoever clears up by a variable in it (GitHub's runner does) leaves it be. It holds
the lock of the run's entry in the registry, as the harness does: as long as one of them lives, nobody else clears up.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from harness.errors import CouldNotRun, HarnessError
from harness.history.events import GuardianActed, UndoDone, UndoFailed, event_to_data
from harness.history.store import EVENTS, LOGS, UNDO, append_line
from harness.runtime.registry import STATE_DIR, leave, locks_of, state_folder
from harness.runtime.stopping import STOPPING, Stop
from harness.runtime.undo import UndoJournal, end_last_line

LEASE_SECONDS = 5.0
"""For how long the harness may give no sign of life, unless another lease was asked for."""

BEATS = 5
"""Beats in one lease."""

BEAT, HERE, DONE, UNTIL = b"beat", b"here", b"done", b"until"
"""The lines: the harness says all but `here`; `until` is followed by seconds since the epoch."""

START_SECONDS = 10.0
END_SECONDS = 5.0
HELD_UP_SECONDS = 1.0
"""A guardian that wakes up so much too late was held up itself, and so perhaps was the harness."""

KILL_SECONDS = 2.0
NOT_ENDED = "; SIGKILL did not end it: a harness that is the first process of a container needs docker run --init"
SPARED = Path("/proc/self/oom_score_adj")


class Guardian:
    """The guardian, as the harness sees it. A thread beats as long as the main thread goes on, as `stop` knows."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket, lease: float, stop: Stop) -> None:
        self.process = process
        self._connection, self._lease, self._stop = connection, lease, stop
        self._unanswered: float | None = None
        self._has_failed = False
        self._dismissed = threading.Event()
        self._beating = threading.Thread(target=self._beat_on, daemon=True, name="guardian's beat")

    @property
    def pid(self) -> int:
        """Its process's number."""
        return self.process.pid

    def is_there(self) -> bool:
        """Whether somebody would notice if the harness were gone."""
        return self.process.poll() is None

    def begin(self) -> bool:
        """Begin to beat, once the guardian answers; whether it does."""
        with suppress(OSError):
            self._say(BEAT)
            self._connection.settimeout(START_SECONDS)
            if self._connection.recv(64).startswith(HERE):
                self._connection.setblocking(False)
                self._beating.start()
                return True
        return False

    def end_by(self, at: float) -> None:
        """The hard end (seconds since the epoch): whatever goes on then is ended."""
        with suppress(OSError):  # where it is gone, the beat tells
            self._say(b"%s %.3f" % (UNTIL, at))

    def dismiss(self) -> None:
        """Everything is undone (or meant to stay): the guardian ends without doing anything."""
        self._dismissed.set()
        with suppress(OSError):  # it is gone already, and so cannot do what it should not
            self._say(DONE)
        if self._has_failed:
            self.process.kill()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._beating.ident is not None:
            self._beating.join()
        self._connection.close()

    def _say(self, what: bytes) -> None:
        self._connection.send(what + b"\n", socket.MSG_DONTWAIT)

    def _beat_on(self) -> None:
        trouble = ""
        while not trouble and not self._dismissed.is_set():
            if self._stop.goes_on:
                with suppress(BlockingIOError, BrokenPipeError, ConnectionError):
                    self._say(BEAT)
                    self._unanswered = self._unanswered or time.monotonic()
            self._dismissed.wait(self._lease / BEATS)
            trouble = self._trouble()
        if not self._dismissed.is_set():
            self._has_failed = True
            self._stop.fail(CouldNotRun(f"{trouble}; nobody would have healed what this run does, so it was ended"))

    def _trouble(self) -> str:
        """Why it is not there for us any more, once all that it said is heard; empty where it is."""
        if self.process.poll() is not None or not self._hears():
            return f"the guardian (pid {self.pid}) is gone"
        if self._unanswered is not None and time.monotonic() - self._unanswered > self._lease:
            return f"the guardian (pid {self.pid}) did not answer for {self._lease:g} s"
        return ""

    def _hears(self) -> bool:
        """Hear what it said meanwhile; whether there may be more."""
        while True:
            try:
                said = self._connection.recv(4096)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not said:
                return False
            self._unanswered = None


def start_guardian(folder: Path, stop: Stop, lease: float = LEASE_SECONDS) -> Guardian:
    """Start the guardian of the run in `folder`, and return when it watches. `stop` is told where it is gone."""
    folder = folder.resolve()
    ours, theirs = socket.socketpair()
    log = folder / LOGS / "guardian.log"
    try:
        with theirs:
            process = _started(folder, log, theirs.fileno(), lease)
    except OSError as error:
        ours.close()
        raise CouldNotRun(f"the guardian did not start, and without it nothing is started: {error}") from error
    guardian = Guardian(process, ours, lease, stop)
    if not guardian.begin():
        process.kill()
        guardian.dismiss()
        raise CouldNotRun(f"the guardian did not start, and without it nothing is started; its log is {log}")
    stop.busy(0.0)
    return guardian


def _started(folder: Path, log: Path, connection: int, lease: float) -> subprocess.Popen[bytes]:
    log.parent.mkdir(exist_ok=True)
    arguments = ["--run", str(folder), "--connection", str(connection), "--harness", str(os.getpid()), "--lease", str(lease)]
    with open(os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.runtime.guardian", *arguments],
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=[connection, *locks_of(folder.name)],
            start_new_session=True,
        )


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "TMPDIR": tempfile.gettempdir(),
        STATE_DIR: str(state_folder()),
    }


# the guardian itself


def why_to_act(connection: socket.socket, lease: float) -> str | None:
    """Watch the harness, until it is to be ended, for this reason; or until everything is undone: None."""
    told = _Told(time.monotonic())
    while not told.done:
        began = time.monotonic()
        left = max(0.0, min(told.beat + lease, told.hard_end) - began)
        if select.select([connection], [], [], left)[0]:
            if not told.hears(connection):
                return "the harness was gone"
        elif time.monotonic() - began > left + HELD_UP_SECONDS:
            told.beat = time.monotonic()
        elif time.monotonic() < told.hard_end:
            return f"the harness gave no sign of life for {lease:g} s, and was ended"
        if time.monotonic() >= told.hard_end:
            return "the run went on beyond its hard end, and was ended"
    return None


@dataclass(slots=True)
class _Told:
    """What the harness has said so far: the last beat, and the hard end, on the clock that nobody sets."""

    beat: float
    hard_end: float = inf
    done: bool = False
    _rest: bytes = b""

    def hears(self, connection: socket.socket) -> bool:
        """Hear what it says, and answer; whether it is still there."""
        said = _heard_on(connection)
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            if line == BEAT:
                self.beat = time.monotonic()
                with suppress(BlockingIOError, ConnectionError):
                    connection.send(HERE + b"\n", socket.MSG_DONTWAIT)
            elif line == DONE:
                self.done, self.hard_end = True, inf
            elif line.startswith(UNTIL):
                self.hard_end = time.monotonic() + float(line.split()[1]) - time.time()
        return bool(said) or self.done


def _heard_on(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except ConnectionError:
        return b""


def end_harness(harness: int, connection: socket.socket) -> bool:
    """Make sure that it never does anything again; whether it is gone.

    It is the parent of this process, as long as it is there: so no other one is ever met that was given its number. Its
    end of the socket is closed when whoever it was about to start has either written how to be ended, or is gone too.
    """
    until = time.monotonic() + KILL_SECONDS
    while os.getppid() == harness and time.monotonic() < until:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(harness, signal.SIGKILL)
        time.sleep(0.01)
    while (left := until - time.monotonic()) > 0 and select.select([connection], [], [], left)[0]:
        if not _heard_on(connection):
            break
    return os.getppid() != harness


def undo_what_is_left(journal: UndoJournal, why: str) -> None:
    """Do what the harness cannot do any more, and tell the history; what cannot be written down is done all the same."""
    events, run = -1, journal.path.parent
    with suppress(OSError):  # each event that cannot be recorded tells why
        events = os.open(run / EVENTS, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        end_last_line(run / EVENTS)

    def record(event: UndoDone | UndoFailed | GuardianActed) -> None:
        try:
            append_line(events, event_to_data(event))
        except OSError as error:
            sys.stderr.write(f"{event} could not be recorded: {error}\n")

    undone = journal.undo_all(record, by="guardian")
    record(GuardianActed(time.time(), undone.done, undone.failed, why))
    with suppress(HarnessError, OSError):  # it stays noted where the registry cannot be written to
        leave(run)


def _be_spared() -> None:
    """Where memory runs out, others end first; only the administrator may ask for that."""
    with suppress(OSError):
        SPARED.write_text("-1000", encoding="ascii")


def main(arguments: Sequence[str] | None = None) -> None:
    """Watch, and act at most once."""
    for number in (*STOPPING, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m harness.runtime.guardian")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--connection", type=int, required=True)
    parser.add_argument("--harness", type=int, required=True)
    parser.add_argument("--lease", type=float, required=True)
    given = parser.parse_args(arguments)
    _be_spared()
    journal = UndoJournal(given.run / UNDO)  # before it is needed: the run's folder may be gone then
    with socket.socket(fileno=given.connection) as connection:
        why = why_to_act(connection, given.lease)
        if why is None:
            return
        if not end_harness(given.harness, connection):
            why += NOT_ENDED
    undo_what_is_left(journal, why)
    sys.stderr.flush()
    os._exit(0)  # whatever an undo that took too long still waits for


if __name__ == "__main__":
    main()
