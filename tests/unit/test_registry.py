"""A machine's runs are known from before anything is started until everything is undone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import CouldNotRun
from harness.runtime import registry
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.guardian import start_guardian
from harness.runtime.registry import (
    Registered,
    alone,
    forget,
    is_alive,
    leave,
    register,
    runs,
    runs_folder,
    state_folder,
    unlock,
)
from harness.runtime.stopping import Stop
from harness.runtime.undo import RemoveFolder, UndoJournal


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def run_folder(tmp_path: Path, name: str = "20260101-000000-abcdef") -> Path:
    folder = tmp_path / "reports" / "a" / name
    folder.mkdir(parents=True)
    return folder


def test_a_run_is_known_from_when_it_is_registered_until_it_leaves(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)

    entry = register(folder, project="chaos-x", shares=["volume b", "volume a", "volume a"])

    assert runs() == (entry,)
    assert (entry.run, entry.folder, entry.pid) == (folder.name, str(folder), os.getpid())
    assert (entry.project, entry.shares) == ("chaos-x", ("volume a", "volume b"))
    assert is_alive(entry)

    assert leave(folder)

    assert runs() == ()
    assert leave(folder), "leaving twice is leaving once"


def test_an_entry_is_its_users_alone(tmp_path: Path, state: Path) -> None:
    register(run_folder(tmp_path))

    (entry,) = runs_folder().glob("*.json")

    assert runs_folder() == state / "runs"
    assert runs_folder().stat().st_mode & 0o777 == 0o700
    assert entry.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(entry.read_text())) == {part.name for part in fields(Registered)}


@pytest.mark.parametrize("out", [leave, lambda folder: forget(folder.name)])
def test_a_run_is_never_seen_without_its_lock_on_its_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Callable[[Path], bool]
) -> None:
    folder = run_folder(tmp_path)
    seen: list[bool] = []
    register(folder)
    unlink = Path.unlink

    def unlink_seen(path: Path, missing_ok: bool = False) -> None:
        seen.extend(map(is_alive, runs()))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_seen)

    assert out(folder)

    assert seen
    assert all(seen)
    assert not registry.locks_of(folder.name)


def test_a_run_with_something_left_to_undo_does_not_leave(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    entry = register(folder)
    journal = UndoJournal(folder / "undo.jsonl")
    name = journal.before(RemoveFolder("/nowhere"))

    assert not leave(folder)
    assert runs() == (entry,)

    journal.done(name)
    journal.close()

    assert leave(folder)


def test_a_run_whose_folder_is_gone_does_not_leave_for_nobody_knows_what_it_left(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    entry = register(folder)
    folder.rmdir()

    assert not leave(folder)
    assert runs() == (entry,)

    forget(entry.run)

    assert runs() == ()


REGISTERS = """
import pathlib, sys
from harness.runtime.registry import register

register(pathlib.Path(sys.argv[1]))
print("begun", flush=True)
input()
"""


def test_a_run_is_over_when_its_process_is_even_before_that_is_collected(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", REGISTERS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n"
    (entry,) = runs()
    assert is_alive(entry)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert not is_alive(entry)
    child.communicate()


@pytest.mark.parametrize("host", [socket.gethostname(), "elsewhere"])
def test_a_run_is_under_way_whose_process_nobody_here_can_see(tmp_path: Path, host: str) -> None:
    entry = replace(register(run_folder(tmp_path)), host=host, pid=4194305, started=1)
    assert is_alive(entry)

    unlock(entry.run)

    assert not is_alive(entry)


def test_a_run_is_alive_as_long_as_its_guardian_is(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    entry = register(folder)
    guardian = start_guardian(folder, Stop())
    unlock(entry.run)
    assert is_alive(entry)

    guardian.dismiss()

    assert not is_alive(entry)


def test_whom_else_a_run_starts_does_not_keep_it_alive(tmp_path: Path) -> None:
    entry = register(run_folder(tmp_path))
    with subprocess.Popen(["sleep", "60"], close_fds=False) as service:
        unlock(entry.run)
        is_kept_alive = is_alive(entry)
        service.kill()

    assert not is_kept_alive


def test_where_nobody_can_say_whether_a_run_is_alive_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = register(run_folder(tmp_path))
    unlock(entry.run)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)

    assert is_alive(entry)


def noted_on(host: str, entry: Registered) -> None:
    path = runs_folder() / f"{entry.run}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": host}))


def test_what_has_the_same_name_on_another_machine_is_not_the_same(tmp_path: Path) -> None:
    noted_on("elsewhere", register(run_folder(tmp_path, "first"), shares=["the volume data"]))

    register(run_folder(tmp_path, "second"), shares=["the volume data"])

    assert len(runs()) == 2


@pytest.mark.parametrize("address", ["tcp://builder:2376", "unix:///var/run/docker.sock"])
@pytest.mark.parametrize(
    ("is_over", "said"),
    [
        (False, r"first \(pid \d+ on elsewhere\); wait for its end, or end it: chaos abort first"),
        (True, r"removed by chaos gc on elsewhere; where that is no more, as a container that has ended, remove .*first\.json"),
    ],
)
def test_at_an_engine_that_several_machines_or_containers_ask_it_is_the_same(
    tmp_path: Path, is_over: bool, said: str, address: str
) -> None:
    at = DockerEngine(address, "27", "2.30")
    noted_on("elsewhere", register(run_folder(tmp_path, "first"), project="chaos-x", at=at, shares=["the volume data"]))
    if is_over:
        unlock("first")

    with pytest.raises(CouldNotRun, match=said):
        register(run_folder(tmp_path, "second"), project="chaos-y", at=at, shares=["the volume data"])


def test_what_one_run_has_for_itself_no_other_is_given(tmp_path: Path) -> None:
    first = register(run_folder(tmp_path, "first"), shares=["the volume data", "the volume logs"])
    second = run_folder(tmp_path, "second")

    with pytest.raises(CouldNotRun, match=rf"the volume data.*in use by the run first \(pid {first.pid}\).*chaos abort first"):
        register(second, shares=["the volume data", "the volume cache"])

    assert runs() == (first,)
    register(second, shares=["the volume cache"])
    assert len(runs()) == 2


def test_what_a_dead_run_had_is_not_given_until_it_is_cleared_away(tmp_path: Path) -> None:
    register(run_folder(tmp_path, "first"), shares=["the volume data"])
    unlock("first")

    with pytest.raises(CouldNotRun, match="which is gone and has left something; remove that: chaos gc"):
        register(run_folder(tmp_path, "second"), shares=["the volume data"])


def test_of_many_who_want_the_same_at_a_time_one_is_given_it(tmp_path: Path) -> None:
    wanting = [run_folder(tmp_path, f"run-{number}") for number in range(4)]
    code = (
        "import sys, pathlib\nfrom harness.runtime.registry import register\nfrom harness.errors import CouldNotRun\n"
        "try:\n    register(pathlib.Path(sys.argv[1]), shares=['data'])\nexcept CouldNotRun:\n    sys.exit(7)\n"
    )

    children = [subprocess.Popen([sys.executable, "-c", code, str(folder)]) for folder in wanting]

    assert sorted(child.wait(30) for child in children) == [0, 7, 7, 7]


def test_a_lock_that_somebody_keeps_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOCK_SECONDS", 0.2)
    folder = run_folder(tmp_path)

    with (
        alone(registry.LOCK, 1.0, "nobody"),
        pytest.raises(CouldNotRun, match=r"expected it to be free, found another run that begins at it for 0\.2 s"),
    ):
        register(folder)

    assert runs() == ()


def test_a_lock_that_is_no_file_is_told(tmp_path: Path) -> None:
    (runs_folder() / registry.LOCK).mkdir()

    with pytest.raises(CouldNotRun, match="expected a file that can be locked, found: Is a directory"):
        register(run_folder(tmp_path))


def test_a_file_system_without_locks_is_told_with_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)

    with pytest.raises(CouldNotRun, match="expected files that can be locked, found: No locks available; set CHAOS_STATE_DIR"):
        register(run_folder(tmp_path))


def test_a_state_folder_that_cannot_be_written_to_is_told_with_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "file"))

    with pytest.raises(
        CouldNotRun, match="expected a folder that runs can be noted in, found: Not a directory; set CHAOS_STATE_DIR"
    ):
        register(run_folder(tmp_path))


def test_an_entry_that_would_not_go_is_no_error_of_the_run(tmp_path: Path, state: Path) -> None:
    folder = run_folder(tmp_path)
    register(folder)
    (state / "runs" / f"{folder.name}.json").unlink()
    (state / "runs" / f"{folder.name}.json").mkdir()

    assert not leave(folder)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"CHAOS_STATE_DIR": "/a", "XDG_STATE_HOME": "/b"}, "/a"),
        ({"XDG_STATE_HOME": "/b"}, "/b/chaos-harness"),
        ({"CHAOS_STATE_DIR": "", "XDG_STATE_HOME": ""}, "~/.local/state/chaos-harness"),
    ],
)
def test_where_the_state_is_kept_can_be_said(environ: dict[str, str], folder: str) -> None:
    assert state_folder(environ) == Path(folder).expanduser()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60)
    | st.fixed_dictionaries(
        {},
        optional={part.name: json_values for part in fields(Registered)},
    ).map(lambda data: json.dumps({"run": "x", **data}).encode())
)
def test_a_file_that_is_no_entry_is_none_and_harms_no_other(content: Any) -> None:
    (runs_folder() / "x.json").write_bytes(content)

    found = runs()

    assert all(isinstance(entry, Registered) and entry.run == "x" and entry.pid >= 0 for entry in found)
    assert registry.unreadable() == (() if found else (runs_folder() / "x.json",))


@pytest.mark.parametrize(
    "folder", ["", ".", "relative/20260101-000000-abcdef", "/", "/tmp/other", "/tmp/20260101-000000-abcdef/.."]
)
def test_an_entry_that_does_not_lead_to_the_folder_of_its_run_is_none(tmp_path: Path, folder: str) -> None:
    entry = register(run_folder(tmp_path))
    path = runs_folder() / f"{entry.run}.json"
    assert runs() == (entry,)

    path.write_text(json.dumps({**json.loads(path.read_text()), "folder": folder}))

    assert runs() == ()
