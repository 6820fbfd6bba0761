"""What was counted on an edge goes on where an engine that was restarted begins at nothing again."""

from __future__ import annotations

import pytest

from harness.history.events import EdgeSeen
from harness.runtime.proxies.counting import Totals


def seen(struck: dict[str, int] | None) -> EdgeSeen:
    return EdgeSeen(1.0, "a -> b", 3, 0, 0, 0, 0, 0, struck=struck)


@pytest.mark.parametrize(
    ("before", "now", "total"),
    [
        ({"x": 4}, {"x": 2}, {"x": 6}),
        ({"x": 4}, {}, {"x": 4}),
        ({"x": 4}, {"y": 1}, {"x": 4, "y": 1}),
        ({}, {"x": 2}, {"x": 2}),
        (None, None, None),
    ],
)
def test_whom_each_toxic_struck_adds_up_over_a_restart(
    before: dict[str, int] | None, now: dict[str, int] | None, total: dict[str, int] | None
) -> None:
    totals = Totals()
    totals.seen([seen(before)])
    totals.carry_over()

    (edge,) = totals.seen([seen(now)])

    assert (edge.struck, edge.accepted) == (total, 6)
