"""A window of several pieces is cut into blocks, none of which lies across two of them."""

from __future__ import annotations

import numpy
from hypothesis import given
from hypothesis import strategies as some

from harness.history.history import Window, together
from harness.judge.comparison import blocks_in

VALUES = numpy.arange(0.0, 100.0, 0.25)


def cut(*spans: tuple[float, float]) -> list[list[float]]:
    window = together(Window(begin, end) for begin, end in spans)
    assert window is not None
    due = numpy.array([at for at in VALUES if window.holds(at)])
    return [list(block) for block in blocks_in(window, due, due)]


def test_rounds_are_cut_each_by_itself() -> None:
    found = cut((0.0, 5.0), (20.0, 25.0), (40.0, 45.0))

    assert [(block[0], block[-1]) for block in found] == [
        (0.0, 1.75),
        (2.0, 4.75),
        (20.0, 21.75),
        (22.0, 24.75),
        (40.0, 41.75),
        (42.0, 44.75),
    ]


def test_pieces_too_short_for_enough_blocks_are_put_together() -> None:
    found = cut((0.0, 3.0), (10.0, 13.0), (20.0, 23.0))

    assert [(block[0], block[-1]) for block in found] == [(0.0, 1.75), (2.0, 10.75), (11.0, 12.75), (20.0, 22.75)]


def test_pieces_shorter_than_a_block_are_put_together() -> None:
    assert len(cut(*((10.0 * turn, 10.0 * turn + 1.0) for turn in range(10)))) == 5


@given(some.lists(some.tuples(some.integers(1, 40), some.integers(1, 20)), min_size=1, max_size=6))
def test_every_value_is_in_one_block(lengths: list[tuple[int, int]]) -> None:
    spans, at = [], 0.0
    for seconds, gap in lengths:
        spans.append((at, at + seconds / 4))
        at += seconds / 4 + gap / 4

    found = sorted(value for block in cut(*spans) for value in block)

    assert found == [value for value in VALUES if any(begin <= value < end for begin, end in spans)]
