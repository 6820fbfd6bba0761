"""What is drawn in the planning is drawn in the engine, and again on every other day."""

from __future__ import annotations

import inspect

import pytest

from harness.plan import draws as planned
from harness.runtime.proxies.embedded import draws as in_the_engine


@pytest.mark.parametrize("name", ["draw", "journey_prefix"])
def test_the_engine_draws_as_was_planned(name: str) -> None:
    assert inspect.getsource(getattr(planned, name)) == inspect.getsource(getattr(in_the_engine, name))


def test_what_is_drawn_never_changes() -> None:
    assert [round(planned.draw(7, n), 6) for n in range(3)] == [0.017566, 0.548217, 0.143919]
    assert planned.journey_prefix("POST /orders") == "ebed2b15"


def test_a_share_is_struck_as_often_as_it_says() -> None:
    struck = sum(planned.draw(42, n) < 0.3 for n in range(10_000))

    assert 2_850 < struck < 3_150
