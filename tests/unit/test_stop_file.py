"""The stop file: while it is there nothing begins, and what is under way is ended, with who and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import commands
from harness.errors import InvalidInput
from harness.runtime.aborting import ask_to_end, chosen, heeding, under_way
from harness.runtime.registry import forget, register
from harness.runtime.stop_file import (
    EVERYBODYS,
    found_stop_file,
    lift,
    one_line,
    refuse_where_stopped,
    stop_path,
    user_name,
    write_stop_file,
)
from harness.runtime.stopping import Stop


@pytest.fixture(autouse=True)
def stop_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAOS_STOP_FILE", str(tmp_path / "stop"))
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "stop"


def wait_for(stop: Stop) -> str:
    until = time.monotonic() + 2.0
    while stop.signal is None:
        assert time.monotonic() < until, "nobody asked the run to end"
        time.sleep(0.01)
    return stop.signal


ME = user_name(os.getuid())


def test_without_the_file_everything_may_run() -> None:
    refuse_where_stopped()

    assert found_stop_file() is None
    assert lift() is None


def test_with_the_file_nothing_begins_and_it_is_said_who_why_since_when_and_how_to_lift_it(stop_file: Path) -> None:
    write_stop_file("page storm")
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime())
    zone = time.strftime("%z", time.localtime())

    with pytest.raises(InvalidInput) as refused:
        refuse_where_stopped()

    for part in (str(stop_file), f"written by {ME}", since, f" {zone}: page storm", "chaos abort --lift"):
        assert part in str(refused.value)


@pytest.mark.parametrize("command", [("calibrate", "sample_system"), ("prove", "scenarios/shipping_hangs.yaml")])
def test_with_the_file_no_other_command_begins_anything_or_says_so(tmp_path: Path, command: tuple[str, str]) -> None:
    write_stop_file("page storm")

    done = CliRunner().invoke(commands, [*command, "--runtime", "local", "--report-dir", str(tmp_path / "reports")])

    assert isinstance(done.exception, InvalidInput)
    assert done.output == ""
    assert not (tmp_path / "reports").exists()


def test_who_stops_all_second_does_not_write_over_what_was_said_first(stop_file: Path) -> None:
    first = write_stop_file("page storm")

    second = write_stop_file("something else")

    assert second == first
    assert stop_file.read_text() == "page storm\n"
    assert [path.name for path in stop_file.parent.iterdir()] == ["stop"]


def test_lifting_tells_what_was_lifted_and_twice_is_once(stop_file: Path) -> None:
    write_stop_file("page storm")

    lifted = lift()

    assert lifted is not None
    assert lifted.why == "page storm"
    assert lift() is None
    refuse_where_stopped()


def test_everybody_can_read_why_whatever_the_mask_of_who_wrote_it(stop_file: Path) -> None:
    before = os.umask(0o077)
    try:
        write_stop_file("page storm")
    finally:
        os.umask(before)

    assert stop_file.stat().st_mode & 0o777 == 0o644


def test_a_file_written_by_hand_stops_them_too(stop_file: Path) -> None:
    stop_file.write_text("disks are full\nsee ticket 12\n")

    found = found_stop_file()

    assert found is not None
    assert found.why == "disks are full see ticket 12"


def test_whatever_has_its_name_stops_them_even_what_cannot_be_read(stop_file: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not to be told")
    for make in (
        stop_file.mkdir,
        lambda: stop_file.symlink_to(tmp_path / "secret"),
        lambda: stop_file.symlink_to(tmp_path / "nowhere"),
        lambda: os.mkfifo(stop_file),
        stop_file.touch,
    ):
        make()
        found = found_stop_file()
        assert found is not None
        assert found.why == "no reason was given"
        stop_file.rmdir() if stop_file.is_dir() else stop_file.unlink()


def test_where_nobody_can_tell_whether_it_is_there_nothing_begins(stop_file: Path) -> None:
    stop_file.parent.joinpath("loop").symlink_to("loop")

    with pytest.MonkeyPatch.context() as named:
        named.setenv("CHAOS_STOP_FILE", str(stop_file.parent / "loop" / "stop"))
        why = "nobody can tell whether it is there: Too many levels of symbolic links"
        with pytest.raises(InvalidInput, match=why):
            refuse_where_stopped()
        with pytest.raises(InvalidInput, match=f"expected to remove .*{why}"):
            lift()


def test_where_its_folder_is_none_nothing_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()

    for folder in ("nowhere", "file"):
        monkeypatch.setenv("CHAOS_STOP_FILE", str(tmp_path / folder / "stop"))
        assert found_stop_file() is None


def test_a_folder_in_its_place_is_not_lifted_and_nobody_is_sent_to_somebody(stop_file: Path) -> None:
    stop_file.mkdir()

    with pytest.raises(InvalidInput, match=f"expected to remove {stop_file}.*; it is removed by hand$"):
        lift()


def test_a_stop_file_that_cannot_be_removed_says_who_can(stop_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stop_file("page storm")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as refusing:
        refusing.setattr(Path, "unlink", refuse)
        with pytest.raises(InvalidInput, match=f"found: Operation not permitted; {ME} or root can$"):
            lift()


def test_a_path_that_is_another_in_each_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_STOP_FILE", "stop")

    for ask in (refuse_where_stopped, lift, lambda: write_stop_file("page storm")):
        with pytest.raises(InvalidInput, match="CHAOS_STOP_FILE: expected an absolute path, found 'stop'"):
            ask()


def test_a_stop_file_that_cannot_be_written_is_an_error_not_a_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_STOP_FILE", str(tmp_path / "nowhere" / "stop"))

    with pytest.raises(InvalidInput, match="expected a file that can be written, found: No such file or directory"):
        write_stop_file("page storm")


def test_it_is_at_one_place_for_every_user_whatever_their_temporary_files() -> None:
    assert stop_path({"TMPDIR": "/somewhere/of/mine"}) == EVERYBODYS
    assert stop_path({"CHAOS_STOP_FILE": "/etc/chaos.stop"}) == Path("/etc/chaos.stop")


@given(st.text())
def test_words_on_one_line_are_harmless_and_not_too_many(text: str) -> None:
    said = one_line(text)

    assert said.isprintable()
    assert len(said) <= 300
    assert one_line(said) == said.strip()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=4000))
def test_whatever_is_written_into_it_stops_them(stop_file: Path, content: bytes) -> None:
    stop_file.write_bytes(content)

    found = found_stop_file()

    assert found is not None
    assert found.why
    assert str(found).isprintable()


def test_a_run_under_way_is_asked_to_end_when_the_file_appears() -> None:
    stop = Stop()

    with heeding("a-run", stop):
        write_stop_file("page storm")
        why = wait_for(stop)

    assert why == f"aborted by {ME}, with all runs of this machine: page storm"


def test_a_run_is_asked_to_end_by_name_and_others_go_on(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "reports" / "a" / name).mkdir(parents=True)
    one = register(tmp_path / "reports" / "a" / "one")
    register(tmp_path / "reports" / "a" / "two")
    first, second = Stop(), Stop()

    with heeding("one", first), heeding("two", second):
        ask_to_end(one, "it is\nlate\x1b[31m")
        why = wait_for(first)
        time.sleep(0.6)

    assert why == f"aborted by {ME}: it is late [31m"
    assert second.signal is None


def test_what_was_asked_of_a_run_is_forgotten_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "a" / "one"
    folder.mkdir(parents=True)
    entry = register(folder)
    ask_to_end(entry, "")
    forget("one")
    stop = Stop()

    with heeding("one", stop):
        time.sleep(0.6)

    assert stop.signal is None


@pytest.mark.parametrize("written", ["", "{", "[]", "{}", '{"by": 1}'])
def test_a_request_that_cannot_be_read_ends_the_run_all_the_same(tmp_path: Path, written: str) -> None:
    register(tmp_path / "one")
    stop = Stop()

    with heeding("one", stop):
        (tmp_path / "state" / "runs" / "one.abort").write_text(written)
        why = wait_for(stop)

    assert why == "aborted: no reason was given"


def test_the_looking_ends_with_the_run() -> None:
    stop = Stop()
    with heeding("one", stop):
        pass

    write_stop_file("page storm")
    time.sleep(0.4)

    assert stop.signal is None


NAMES = ("20260101-000000-abcdef", "20260101-000000-fedcba")


def two_runs(tmp_path: Path) -> None:
    for scenario, name in zip(("checkout", "search"), NAMES, strict=True):
        (tmp_path / "reports" / scenario / name).mkdir(parents=True)
        register(tmp_path / "reports" / scenario / name)


@pytest.mark.parametrize("named", ["20260101-000000-fedcba", "fedcba", "search", "folder", "link"])
def test_a_run_is_meant_by_its_folder_its_name_or_its_id(tmp_path: Path, named: str) -> None:
    two_runs(tmp_path)
    folder = tmp_path / "reports" / "search" / NAMES[1]
    (tmp_path / "latest").symlink_to(folder)
    given_as = {"folder": str(folder), "link": str(tmp_path / "latest")}.get(named, named)

    assert chosen(given_as).run == NAMES[1]


def test_where_several_runs_may_be_meant_they_are_listed(tmp_path: Path) -> None:
    two_runs(tmp_path)

    with pytest.raises(InvalidInput, match="expected one run under way, found 2; there are\n") as several:
        chosen(None)

    assert all(name in str(several.value) for name in (*NAMES, "checkout", "search"))
    with pytest.raises(InvalidInput, match="expected one run called nobody under way, found none; there are"):
        chosen("nobody")


@pytest.mark.parametrize("named", ["a" * 300, "a\0b", "", "~nobody/x"])
def test_what_no_run_can_be_called_is_no_run(tmp_path: Path, named: str) -> None:
    two_runs(tmp_path)

    with pytest.raises(InvalidInput, match="found none; there are"):
        chosen(named)


def test_the_only_run_need_not_be_named(tmp_path: Path) -> None:
    two_runs(tmp_path)
    forget(NAMES[0])

    assert chosen(None).run == NAMES[1]


def test_a_run_of_another_machine_that_shares_the_registry_can_be_ended_from_here(tmp_path: Path) -> None:
    register(tmp_path / "there")
    path = tmp_path / "state" / "runs" / "there.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere", "pid": 4194305}))

    assert chosen(None).run == "there"


def test_what_dead_runs_left_is_for_gc(tmp_path: Path) -> None:
    code = "import sys, pathlib\nfrom harness.runtime.registry import register\nregister(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "gone")], check=True)

    assert under_way() == ()
    with pytest.raises(InvalidInput, match="found none; what dead runs left is removed by chaos gc"):
        chosen(None)
