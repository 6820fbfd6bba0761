"""Undo as data: what is written, what is left, who belongs to a process that is to be ended."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from harness.errors import CannotRecord, CouldNotRun
from harness.history.events import UndoFailed
from harness.runtime import undoing
from harness.runtime.ending import EndProcessGroup, Process, family_of, parse_stat
from harness.runtime.undo import RemoveControlGroup, RemoveFolder, RestoreProxies, Undo, UndoJournal, Undone, describe

ENGINE = RestoreProxies("http://127.0.0.1:1")
FOLDER = RemoveFolder("/tmp/chaos-unit")
GROUP = EndProcessGroup(4_000_000, 17, "order", signal.SIGINT)
GONE = EndProcessGroup(4_000_000, 17, "gone", signal.SIGTERM)
LIMITS = RemoveControlGroup("/sys/fs/cgroup/cpu/chaos-unit", "/sys/fs/cgroup/cpu")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "undo.jsonl"


def test_what_was_written_first_is_undone_last(path: Path) -> None:
    journal = UndoJournal(path)

    for undo in (ENGINE, FOLDER, GROUP):
        journal.before(undo)

    assert list(journal.left().values()) == [GROUP, FOLDER, ENGINE]


def test_what_is_done_is_no_longer_left(path: Path) -> None:
    journal = UndoJournal(path)
    journal.before(ENGINE)
    name = journal.before(FOLDER)

    journal.done(name)

    assert list(journal.left().values()) == [ENGINE]


def test_another_process_can_carry_on_with_the_same_file(path: Path) -> None:
    first, second = UndoJournal(path), UndoJournal(path)

    first.before(ENGINE)
    second.before(GROUP)

    assert list(first.left().values()) == list(second.left().values()) == [GROUP, ENGINE]


def test_a_line_that_was_cut_off_hides_none_before_it(path: Path) -> None:
    journal = UndoJournal(path)
    journal.before(ENGINE)
    with path.open("a") as file:
        file.write('{"id": "x", "undo": "RemoveFol')

    assert list(journal.left().values()) == [ENGINE]


@pytest.mark.parametrize("removed", ["the journal", "the whole folder"])
def test_whoever_removes_the_journal_of_a_run_takes_nothing_from_it_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    journal, ended, told = UndoJournal(folder / "undo.jsonl"), [], []
    monkeypatch.setattr(undoing, "end_process_groups", lambda groups: ended.extend(groups) or {})
    journal.before(GONE)
    if removed == "the journal":
        journal.path.unlink()
    else:
        shutil.rmtree(folder)

    assert list(journal.left().values()) == [GONE]
    assert journal.undo_all(told.append) == Undone(1, 1)

    assert ended == [GONE]
    assert (told[1].undo, told[1].reason) == (
        f"the removal of {journal.path}",
        "expected it to stay until the run's end, found it removed; what it told of was undone all the same",
    )


def test_a_line_that_somebody_was_killed_in_keeps_none_from_being_undone_once(path: Path) -> None:
    journal = UndoJournal(path)
    journal.before(GONE)
    with path.open("a") as file:
        file.write('{"id": "x", "undo": "RemoveFol')

    assert journal.undo_all(lambda _event: None) == Undone(1, 0)

    assert journal.left() == {}


def test_lines_that_this_version_cannot_read_stop_nothing(path: Path) -> None:
    journal = UndoJournal(path)
    journal.before(ENGINE)
    with path.open("a") as file:
        file.write(
            '{"id": "x", "undo": "RestoreMoon"}\n{"id": "y", "undo": "RemoveFolder", "depth": 3}\n{"undo": "RemoveFolder"}\n'
        )

    assert list(journal.left().values()) == [ENGINE]


def test_the_line_that_a_child_completes_reads_as_the_end_of_its_group(path: Path) -> None:
    journal = UndoJournal(path)
    line = journal.before_start_of("order", signal.SIGINT) + b'4000000, "started": 17}\n'
    path.write_bytes(line)

    assert json.loads(line)["undo"] == "EndProcessGroup"
    assert list(journal.left().values()) == [GROUP]


@pytest.mark.parametrize("undo", [ENGINE, FOLDER, GROUP, LIMITS])
def test_every_undo_says_what_it_is_about(undo: Undo) -> None:
    words = describe(undo)

    assert any(
        str(value) in words for value in (getattr(undo, "control", 0), getattr(undo, "path", 0), getattr(undo, "pid", 0))
    )


LEADER = Process(pid=10, parent=1, group=10, session=10, started=17)
WORKER = Process(pid=11, parent=10, group=10, session=10, started=18)
BACKEND = Process(pid=12, parent=10, group=12, session=12, started=19)
GRANDCHILD = Process(pid=13, parent=12, group=12, session=12, started=20)
STRANGER = Process(pid=14, parent=1, group=14, session=14, started=16)
END = EndProcessGroup(10, 17, "order")


def table_of(*processes: Process) -> dict[int, Process]:
    return {process.pid: process for process in processes}


def test_a_family_is_the_session_and_all_descendants_even_those_with_a_session_of_their_own() -> None:
    table = table_of(LEADER, WORKER, BACKEND, GRANDCHILD, STRANGER)

    assert family_of(END, table) == {LEADER, WORKER, BACKEND, GRANDCHILD}


def test_a_number_that_was_given_to_another_process_is_left_alone() -> None:
    reused = Process(pid=10, parent=1, group=10, session=10, started=99)
    child = Process(pid=15, parent=10, group=10, session=10, started=100)

    assert family_of(END, table_of(reused, child)) == set()


def test_the_session_is_found_when_its_leader_is_gone() -> None:
    orphan = Process(pid=11, parent=1, group=10, session=10, started=18)

    assert family_of(END, table_of(orphan, STRANGER)) == {orphan}


def test_a_session_that_is_older_than_the_leader_is_another_ones() -> None:
    older = Process(pid=11, parent=1, group=10, session=10, started=16)
    child = Process(pid=12, parent=11, group=10, session=10, started=16)

    assert family_of(END, table_of(older, child)) == set()


def test_who_was_known_before_the_leader_died_stays_known() -> None:
    orphan = Process(pid=12, parent=1, group=12, session=12, started=19)
    successor = Process(pid=13, parent=1, group=12, session=12, started=55)

    assert family_of(END, table_of(orphan, successor), known={BACKEND, GRANDCHILD}) == {orphan}


def test_a_process_is_read_from_its_line_whatever_its_program_is_called() -> None:
    line = b"42 (a) R 9 (b) S 7 42 41 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 8812 1 2\n"

    assert parse_stat(line) == Process(pid=42, parent=7, group=42, session=41, started=8812)


def test_a_process_that_has_ended_and_waits_to_be_collected_is_not_living() -> None:
    assert parse_stat(b"42 (sh) Z 7 42 41 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 8812 1 2\n") is None


def test_nothing_is_started_once_everything_is_being_undone(path: Path) -> None:
    journal = UndoJournal(path)
    with journal.starting():
        pass

    journal.undo_all(lambda _event: None)

    with pytest.raises(CouldNotRun, match="being undone"), journal.starting():
        pass


def test_a_start_that_is_under_way_is_in_the_journal_before_that_is_read(path: Path) -> None:
    journal, began = UndoJournal(path), threading.Event()

    def start() -> None:
        with journal.starting():
            began.set()
            time.sleep(0.2)
            journal.before(GONE)

    starting = threading.Thread(target=start)
    starting.start()
    began.wait(5)
    undone = journal.undo_all(lambda _event: None)
    starting.join()

    assert undone == Undone(1, 0)


def test_what_a_start_has_added_that_was_not_waited_for_long_enough_is_undone_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runtime.undo.START_SECONDS", 0.3)
    journal, began, undoing_began = UndoJournal(path), threading.Event(), threading.Event()
    journal.before(FOLDER)

    def start() -> None:
        with journal.starting():
            began.set()
            undoing_began.wait(5)
            journal.before(GONE)

    starting = threading.Thread(target=start)
    starting.start()
    began.wait(5)
    undone = journal.undo_all(lambda _event: undoing_began.set())
    starting.join()

    assert undone == Undone(2, 0)
    assert journal.left() == {}


def test_a_start_that_does_not_come_to_its_end_is_told_as_what_may_be_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtime.undo.START_SECONDS", 0.05)
    journal, told = UndoJournal(path), []
    journal.before(GONE)

    with journal.starting():
        undone = journal.undo_all(told.append)

    assert undone == Undone(1, 1)
    assert told[1].undo == "what is being started"
    assert told[1].reason.startswith("expected the start that is under way to be over within 0.1 s, found it at work")


def test_what_hangs_is_left_behind_and_keeps_nothing_else_from_being_undone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undoing, "HEAL_SECONDS", 0.1)
    monkeypatch.setattr(undoing, "_restore", lambda _engine: time.sleep(20))
    journal, told = UndoJournal(path), []
    journal.before(GONE)
    journal.before(ENGINE)
    began = time.monotonic()

    undone = journal.undo_all(told.append)

    assert time.monotonic() - began < 3
    assert undone == Undone(1, 1)
    reasons = [event.reason for event in told if isinstance(event, UndoFailed)]
    assert reasons == ["expected its end within 0.2 s, found it at work"]
    assert list(journal.left().values()) == [ENGINE]


@pytest.mark.parametrize("error", [ValueError("made up"), OSError("made up")])
def test_an_undo_that_raises_is_one_that_failed(path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(undoing, "end_process_groups", raises)
    journal, told = UndoJournal(path), []
    journal.before(GONE)

    undone = journal.undo_all(told.append)

    assert undone == Undone(0, 1)
    assert f"{type(error).__name__}: made up" in told[0].reason


def test_a_folder_in_which_something_goes_away_meanwhile_is_removed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, remove = Path(tempfile.mkdtemp(prefix="chaos-")).resolve(), shutil.rmtree
    tries: list[Path] = []

    def racing(path: Path) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise FileNotFoundError(2, "No such file or directory", "one in it")
        remove(path)

    monkeypatch.setattr(undoing.shutil, "rmtree", racing)

    assert undoing.undo_now([RemoveFolder(str(folder))]) == []

    assert not folder.exists()


def test_a_folder_that_is_gone_is_removed_by_nobody() -> None:
    assert undoing.undo_now([RemoveFolder(f"{Path(tempfile.gettempdir()).resolve()}/chaos-of-nobody")]) == []


def test_each_undo_is_told_as_soon_as_it_is_done(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, told = UndoJournal(path), []
    monkeypatch.setattr(undoing, "_restore", lambda _engine: told.append("healed"))
    monkeypatch.setattr(undoing, "end_process_groups", lambda _groups: told.append("ended") or {})
    for undo in (GONE, ENGINE):
        journal.before(undo)

    journal.undo_all(lambda event: told.append(event.undo))

    assert told == ["healed", describe(ENGINE), "ended", describe(GONE)]


def test_what_cannot_be_recorded_keeps_nothing_from_being_undone(path: Path) -> None:
    journal = UndoJournal(path)
    for undo in (GONE, ENGINE):
        journal.before(undo)

    def record(_event: object) -> None:
        raise CannotRecord("the disk is full")

    with pytest.raises(CannotRecord):
        journal.undo_all(record)

    assert journal.left() == {}
