"""A log that grows without end is cut short, and told once; whoever writes it goes on writing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.history.events import WedgeNoticed
from harness.runtime.logs import EVERY, LogBounds

MOST, FLOOD = 10_000, 5_000


@pytest.fixture
def told() -> list[WedgeNoticed]:
    return []


@pytest.fixture
def bounds(tmp_path: Path, told: list[WedgeNoticed]) -> LogBounds:
    return LogBounds(tmp_path, told.append, MOST, FLOOD)


def test_a_log_that_is_too_long_keeps_its_end_in_whole_lines_and_its_writer(
    tmp_path: Path, bounds: LogBounds, told: list[WedgeNoticed]
) -> None:
    log = tmp_path / "order.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"".join(b"line %6d\n" % number for number in range(2000)))

        bounds.look()
        writer.write(b"and so on\n")

    first, second, *_, before, last = log.read_text().splitlines()
    assert first == "(chaos-harness cut off what stood here)"
    assert len(second) == len("line   1999")
    assert (before, last) == ("line   1999", "and so on")
    assert log.stat().st_size < MOST
    assert [(event.what, "it wrote 24,000 bytes within" in event.detail) for event in told] == [("order", True)]


def test_it_is_cut_as_often_as_it_grows_and_told_once(tmp_path: Path, bounds: LogBounds, told: list[WedgeNoticed]) -> None:
    for _ in range(3):
        with (tmp_path / "order.log").open("ab") as writer:
            writer.write(b"x" * 2 * MOST)
        bounds.look()

    assert (tmp_path / "order.log").stat().st_size < MOST
    assert len(told) == 1


def test_a_log_that_grows_slowly_is_cut_and_is_no_wedge(
    tmp_path: Path, bounds: LogBounds, told: list[WedgeNoticed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runtime.logs.FLOOD_SECONDS", -1.0)
    for _ in range(6):
        with (tmp_path / "order.log").open("ab") as writer:
            writer.write(b"x" * (FLOOD - 1))
        bounds.look()

    assert (tmp_path / "order.log").stat().st_size <= MOST
    assert told == []


def test_other_logs_are_left_alone(tmp_path: Path, bounds: LogBounds, told: list[WedgeNoticed]) -> None:
    (tmp_path / "stock.log").write_bytes(b"x" * FLOOD)

    bounds.look()

    assert (tmp_path / "stock.log").stat().st_size == FLOOD
    assert told == []


def test_what_a_link_leads_to_is_not_touched(tmp_path: Path, bounds: LogBounds) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"x" * 3 * MOST)
    (tmp_path / "order.log").symlink_to(elsewhere)

    bounds.look()

    assert elsewhere.stat().st_size == 3 * MOST


def test_it_looks_by_itself_until_it_is_ended(tmp_path: Path, bounds: LogBounds, told: list[WedgeNoticed]) -> None:
    bounds.begin()
    (tmp_path / "order.log").write_bytes(b"x" * 3 * MOST)
    until = time.monotonic() + 20 * EVERY
    while not told and time.monotonic() < until:
        time.sleep(EVERY / 10)
    bounds.end()
    bounds.end()

    (tmp_path / "stock.log").write_bytes(b"x" * 3 * MOST)
    time.sleep(2 * EVERY)

    assert [event.what for event in told] == ["order"]
