"""A disk that is full: nobody who tells is disturbed, whoever waits is told, and nothing is lost in silence."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import CannotRecord, CouldNotRun
from harness.history import store
from harness.history.events import CounterRead, EdgeProbed, Event, PhaseBegan, PhaseEnded
from harness.history.store import EVENTS, RunFolder, append_line, read_events, write_whole

BEGAN, ENDED = PhaseBegan(1.0, "baseline"), PhaseEnded(2.0, "baseline")
SAMPLE = CounterRead(1.5, "deferred", "order", 3.0)

Write = Callable[[int, bytes], int]


class Disk:
    """Takes what is written while there is room; of the first line that it refuses it takes `half` of the bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full, self.half = False, 0
        self._write = os.write
        monkeypatch.setattr(store.os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.is_full:
            return self._write(descriptor, data)
        if self.half:
            taken, self.half = self._write(descriptor, data[: self.half]), 0
            return taken
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def told(*events: Event) -> list[str]:
    return [type(event).__name__ for event in events]


def test_what_cannot_be_written_is_told_where_somebody_waits_and_not_where_it_happens(folder: RunFolder, disk: Disk) -> None:
    folder.check()
    disk.is_full = True

    folder.record(BEGAN)

    with pytest.raises(CannotRecord, match=r"No space left on device.*; make room there, and run it again"):
        folder.check()
    with pytest.raises(CannotRecord):
        folder.close()


def test_what_could_not_be_written_is_written_at_the_end_where_there_is_room_again(folder: RunFolder, disk: Disk) -> None:
    disk.is_full, disk.half = True, 20
    folder.record(BEGAN)
    folder.record(SAMPLE)
    disk.is_full = False
    folder.record(ENDED)

    folder.close()

    assert told(*read_events(folder.path)) == told(BEGAN, ENDED)


def test_what_can_never_be_written_is_told_whole(folder: RunFolder, disk: Disk) -> None:
    disk.is_full = True
    for event in (BEGAN, SAMPLE, ENDED):
        folder.record(event)

    with pytest.raises(CannotRecord) as raised:
        folder.close()

    first, *rest = str(raised.value).splitlines()
    assert str(folder.path) in first
    assert "what could not be written (and 1 samples)" in first
    assert [json.loads(line)["event"] for line in rest] == told(BEGAN, ENDED)


@pytest.mark.parametrize("half", range(1, 60, 7))
def test_half_a_line_spoils_no_other(folder: RunFolder, disk: Disk, half: int) -> None:
    folder.record(BEGAN)
    disk.is_full, disk.half = True, half
    folder.record(EdgeProbed(1.2, "cut", "a -> b", "before", "answered", 0.1))
    disk.is_full = False
    folder.record(ENDED)
    folder.close()

    assert sorted(told(*read_events(folder.path))) == sorted(told(BEGAN, ENDED, EdgeProbed(0, "", "", "", "", 0)))


def test_a_part_of_a_line_is_an_error(tmp_path: Path, disk: Disk) -> None:
    file = os.open(tmp_path / "lines", os.O_CREAT | os.O_WRONLY, 0o600)
    disk.is_full, disk.half = True, 3
    with pytest.raises(OSError, match="3 of 5 bytes"):
        write_whole(file, b"12345")
    disk.half = 3
    with pytest.raises(CannotRecord, match="3 of 8 bytes"):
        append_line(file, {"a": 1})
    os.close(file)


def test_a_file_that_cannot_be_written_is_a_matter_of_its_user(folder: RunFolder) -> None:
    with pytest.raises(CannotRecord, match=r"expected a file that can be written, found: .*No such file"):
        folder.write("nowhere/plan.json", "{}")
    folder.close()


def test_it_is_an_error_that_a_person_can_act_on_and_one_of_the_system(folder: RunFolder) -> None:
    assert issubclass(CannotRecord, CouldNotRun)
    assert issubclass(CannotRecord, OSError)
    assert (folder.path / EVENTS).stat().st_size == 0
    folder.close()
