"""The guardian: a process that undoes what the harness left behind, should the harness be gone.

The harness holds the one writing end of a pipe, the guardian reads the other. The kernel closes the
writing end when the harness ends, however it ends; so nothing has to be renewed, and nothing is noticed too
late because a machine was busy. A harness that has undone everything itself says so before it closes the
pipe. The guardian has a session of its own and ignores the signals that end a harness; and since it gets
nothing of the harness's environment, whoever clears up by a variable in it (GitHub's runner does) leaves it be.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.errors import CouldNotRun
from harness.history.events import GuardianActed, UndoDone, UndoFailed, event_to_data
from harness.history.store import EVENTS, LOGS, UNDO, append_line
from harness.runtime.undo import UndoJournal

ALL_DONE = b"done"
READY = b"ready"
START_SECONDS = 10.0
END_SECONDS = 5.0


class Guardian:
    """The guardian, as the harness sees it."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: int) -> None:
        self.process = process
        self._pipe: int | None = pipe

    @property
    def pid(self) -> int:
        """Its process's number."""
        return self.process.pid

    def is_there(self) -> bool:
        """Whether somebody would notice if the harness were gone."""
        return self.process.poll() is None

    def dismiss(self) -> None:
        """Everything is undone (or meant to stay): the guardian ends without doing anything."""
        if self._pipe is not None:
            with suppress(BrokenPipeError):  # it is gone already, and so cannot do what it should not
                os.write(self._pipe, ALL_DONE)
            os.close(self._pipe)
            self._pipe = None
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_guardian(folder: Path) -> Guardian:
    """Start the guardian of the run in `folder`, and return when it watches."""
    folder = folder.resolve()
    reading, writing = os.pipe()  # neither is inherited, but for what pass_fds hands on
    log = folder / LOGS / "guardian.log"
    log.parent.mkdir(exist_ok=True)
    arguments = ["--journal", str(folder / UNDO), "--run", str(folder), "--pipe-fd", str(reading)]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.runtime.guardian", *arguments],
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=[reading],
            start_new_session=True,
        )
    os.close(reading)
    guardian = Guardian(process, writing)
    if not _says_it_is_ready(process):
        process.kill()
        guardian.dismiss()
        raise CouldNotRun(f"the guardian did not start, and without it nothing is started; its log is {log}")
    return guardian


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "TMPDIR": tempfile.gettempdir(),
    }


def _says_it_is_ready(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    with process.stdout as answer:
        readable, _, _ = select.select([answer], [], [], START_SECONDS)
        return bool(readable) and os.read(answer.fileno(), len(READY)) == READY


def harness_is_gone(pipe: int) -> bool:
    """Wait for the end of the pipe; whether it came without the word that everything is done."""
    said = b""
    while piece := os.read(pipe, 64):
        said += piece
    return said != ALL_DONE


def undo_what_is_left(journal: Path, run: Path) -> None:
    """Do what the harness cannot do any more, and tell the history."""
    events = os.open(run / EVENTS, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def record(event: UndoDone | UndoFailed | GuardianActed) -> None:
        append_line(events, event_to_data(event))

    undone = UndoJournal(journal).undo_all(record, by="guardian")
    record(GuardianActed(time.time(), undone.done, undone.failed))


def main(arguments: Sequence[str] | None = None) -> None:
    """Watch, and act at most once."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m harness.runtime.guardian")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pipe-fd", type=int, required=True)
    given = parser.parse_args(arguments)
    os.write(sys.stdout.fileno(), READY)
    if harness_is_gone(given.pipe_fd):
        undo_what_is_left(given.journal, given.run)


if __name__ == "__main__":
    main()
