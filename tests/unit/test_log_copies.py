"""What services print is copied into the run's folder as it comes, and without secrets."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.secrets import without_secrets
from harness.runtime import log_copies
from harness.runtime.log_copies import EVERY, LogCopies

SECRET = b"h4rd-t0-guess"


def without_it(text: str) -> str:
    return text.replace(SECRET.decode(), "***")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    (tmp_path / "written").mkdir()
    return tmp_path / "written"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    (tmp_path / "copied").mkdir()
    return tmp_path / "copied"


@pytest.fixture
def copies(written: Path, copied: Path) -> Iterator[LogCopies]:
    made = LogCopies(written, copied, without_it)
    yield made
    made.end()


def test_whole_lines_are_copied_as_they_come_and_the_last_one_at_the_end(copies: LogCopies, copied: Path) -> None:
    with copies.file("order").open("ab", buffering=0) as log:
        log.write(b"one\ntwo " + SECRET[:4])
        copies.look()
        assert (copied / "order.log").read_bytes() == b"one\n"

        log.write(SECRET[4:] + b"\nthree\xff")
        copies.look()
        assert (copied / "order.log").read_bytes() == b"one\ntwo ***\n"

    copies.end()
    copies.end()

    assert (copied / "order.log").read_bytes() == b"one\ntwo ***\nthree\xff"
    assert (copied / "order.log").stat().st_mode & 0o777 == 0o600


def test_what_was_written_last_is_copied_when_the_folder_is_gone(copies: LogCopies, written: Path, copied: Path) -> None:
    with copies.file("order").open("ab", buffering=0) as log:
        log.write(b"one\n")
        copies.look()
        log.write(b"two")
        shutil.rmtree(written)

    copies.end()

    assert (copied / "order.log").read_bytes() == b"one\ntwo"


def test_what_was_copied_of_a_long_log_is_thrown_away_and_its_writer_goes_on(
    copies: LogCopies, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_copies, "MOST_BYTES", 1000)
    with copies.file("order").open("ab", buffering=0) as log:
        for number in range(5):
            log.write(b"%04d\n" % number * 100)
            copies.look()

    assert copies.file("order").stat().st_size <= 1500
    assert (copied / "order.log").read_bytes() == b"".join(b"%04d\n" % number * 100 for number in range(5))


def test_a_line_without_end_is_copied_in_pieces(copies: LogCopies, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_copies, "AT_ONCE", 100)
    copies.file("order").write_bytes(b"x" * 350)

    copies.look()
    so_far = (copied / "order.log").read_bytes()
    copies.end()

    assert so_far == b"x" * 200
    assert (copied / "order.log").read_bytes() == b"x" * 350


def test_what_is_written_faster_than_it_can_be_copied_is_left_out_and_that_is_told(
    copies: LogCopies, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in {"AT_ONCE": 100, "MOST_AT_A_LOOK": 200, "MOST_BEHIND": 1000}.items():
        monkeypatch.setattr(log_copies, name, size)
    with copies.file("order").open("ab", buffering=0) as log:
        log.write(b"123456789\n" * 500)
        copies.look()
        log.write(b"and so on\n")
        copies.look()

    lines = (copied / "order.log").read_text().splitlines()
    assert lines[:20] == ["123456789"] * 20
    assert lines[20:] == ["(chaos-harness left out 4800 bytes here)", "and so on"]
    assert copies.file("order").stat().st_size < 100


def test_a_log_that_somebody_else_cut_short_is_read_from_its_begin(copies: LogCopies, copied: Path) -> None:
    with copies.file("order").open("ab", buffering=0) as log:
        log.write(b"one\ntwo\n")
        copies.look()
        log.truncate(0)
        copies.look()
        log.write(b"three\n")
        copies.look()

    assert (copied / "order.log").read_bytes() == b"one\ntwo\nthree\n"


KEY = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END RSA PRIVATE KEY-----\n"


@pytest.mark.parametrize("cut", range(1, len(KEY), 5))
def test_a_private_key_that_comes_in_two_parts_is_hidden_whole(written: Path, copied: Path, cut: int) -> None:
    copies = LogCopies(written, copied, without_secrets)
    with copies.file("order").open("ab", buffering=0) as log:
        log.write(b"before\n" + KEY[:cut])
        copies.look()
        assert (copied / "order.log").read_bytes() == b"before\n"
        log.write(KEY[cut:] + b"after\n")
        copies.look()

        assert (copied / "order.log").read_bytes() == b"before\n***\nafter\n"
    copies.end()


def test_a_private_key_without_end_keeps_nothing_back_for_ever(
    written: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_copies, "LONGEST_KEY", 100)
    copies = LogCopies(written, copied, str)
    with copies.file("order").open("ab", buffering=0) as log:
        log.write(b"-----BEGIN PRIVATE KEY-----\n")
        copies.look()
        assert (copied / "order.log").read_bytes() == b""
        log.write(b"and so on\n" * 10)
        copies.look()
        assert (copied / "order.log").read_bytes() == b"-----BEGIN PRIVATE KEY-----\n" + b"and so on\n" * 10
        log.write(KEY[:40])
    copies.end()

    assert (copied / "order.log").read_bytes().endswith(KEY[:40])


def test_who_only_speaks_of_a_private_key_keeps_nothing_back(copies: LogCopies, copied: Path) -> None:
    said = b'"expected -----BEGIN PRIVATE KEY----- in the file"\nand so on\n'
    copies.file("order").write_bytes(said)

    copies.look()

    assert (copied / "order.log").read_bytes() == said


def test_a_link_is_not_followed(copies: LogCopies, written: Path, copied: Path, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("private\n")
    copies.file("order").symlink_to(tmp_path / "private")

    copies.look()

    assert list(copied.iterdir()) == []


def test_it_copies_by_itself_between_begin_and_end(copies: LogCopies, copied: Path) -> None:
    copies.begin()
    copies.file("order").write_bytes(b"one\n")
    until = time.monotonic() + 20 * EVERY
    while not (copied / "order.log").exists() and time.monotonic() < until:
        time.sleep(EVERY / 10)
    copies.file("stock").write_bytes(b"two\n")

    copies.end()

    assert {path.name: path.read_bytes() for path in copied.iterdir()} == {"order.log": b"one\n", "stock.log": b"two\n"}
