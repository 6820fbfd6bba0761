"""What the guardian makes of what it is told, and what it costs."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CouldNotRun
from harness.runtime import guardian
from harness.runtime.guardian import HELD_UP_SECONDS, end_harness, start_guardian, undo_what_is_left, why_to_act
from harness.runtime.stopping import Stop
from harness.runtime.undo import UndoJournal, end_last_line, make_run_folder


def told(*said: bytes, lease: float = 0.2, closes: bool = True) -> str | None:
    """What the guardian makes of what a harness says."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for line in said:
            ours.sendall(line)
        if closes:
            ours.shutdown(socket.SHUT_WR)
        return why_to_act(theirs, lease)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "the harness was gone"),
        (b"done\n", None),
        (b"beat\nuntil 99999999999.5\nbeat\ndone\n", None),
        (b"done", "the harness was gone"),
        (b"donedone\n", "the harness was gone"),
        (b"beat\n", "the harness was gone"),
    ],
)
def test_only_the_whole_word_says_that_everything_is_done(said: bytes, why: str | None) -> None:
    assert told(said) == why


def test_a_harness_that_says_nothing_is_given_its_lease_and_no_longer() -> None:
    began = time.monotonic()

    why = told(b"beat\n", lease=0.3, closes=False)

    assert why == "the harness gave no sign of life for 0.3 s, and was ended"
    assert time.monotonic() - began >= 0.3


def test_a_harness_that_beats_on_is_ended_at_its_hard_end() -> None:
    ours, theirs = socket.socketpair()
    began = time.monotonic()
    with ours, theirs:
        ours.sendall(b"until %.3f\n" % (time.time() + 0.5))
        beating = threading.Thread(target=lambda: [(ours.sendall(b"beat\n"), time.sleep(0.05)) for _ in range(20)])
        beating.start()

        why = why_to_act(theirs, 5.0)

        assert why == "the run went on beyond its hard end, and was ended"
        assert time.monotonic() - began > 0.4
        beating.join()


def test_the_last_hard_end_counts() -> None:
    assert told(b"until %.3f\n" % (time.time() - 5), b"until %.3f\n" % (time.time() + 99), b"done\n") is None


def test_a_guardian_that_was_held_up_itself_gives_the_harness_another_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    real, held_up = select.select, []

    def first_held_up(*watched: Any) -> Any:
        if not held_up:
            held_up.append(True)
            time.sleep(0.2 + HELD_UP_SECONDS + 0.1)
            return [], [], []
        return real(*watched)

    monkeypatch.setattr(select, "select", first_held_up)

    assert told(b"beat\ndone\n", closes=False) is None
    assert held_up


def test_every_beat_is_answered() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"beat\nbe")
        ours.sendall(b"at\ndone\n")

        why_to_act(theirs, 0.2)

        assert ours.recv(100) == b"here\nhere\n"


@pytest.mark.parametrize("lines", [b"", b"whole\n"])
def test_a_line_that_somebody_was_killed_in_spoils_no_other(tmp_path: Path, lines: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(lines + b"cut o")

    end_last_line(path)
    end_last_line(path)

    assert path.read_bytes() == lines + b"cut o\n"


@pytest.mark.parametrize("broken", ["no file to tell it in", "the whole folder removed"])
def test_what_cannot_be_told_is_undone_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    journal = UndoJournal(run / "undo.jsonl")
    temporary = make_run_folder(journal)
    if broken == "no file to tell it in":
        (run / "events.jsonl").mkdir()
    else:
        shutil.rmtree(run)

    undo_what_is_left(journal, "the harness was gone")

    assert not temporary.exists()
    assert "GuardianActed" in capsys.readouterr().err


def test_a_harness_that_cannot_be_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "KILL_SECONDS", 0.05)
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _number: killed.append(pid))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not end_harness(os.getppid(), theirs)

    assert set(killed) == {os.getppid()}


def test_a_guardian_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))

    with pytest.raises(CouldNotRun, match=r"the guardian did not start, and without it nothing is started.*No such file"):
        start_guardian(tmp_path, Stop())


def test_the_guardian_loads_none_of_the_heavy_packages() -> None:
    program = (
        "import sys, harness.runtime.guardian; print(sorted({'pydantic', 'yaml', 'asyncio', 'asyncpg'} & set(sys.modules)))"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout == "[]\n"
