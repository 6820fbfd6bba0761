"""A process's share of what the user's file asks for."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.runtime.load.userfile import Refused, follow, imported, share_of


@pytest.fixture(autouse=True)
def path_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beside the user's file can be imported from then on."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def settings(number: int = 0, processes: int = 1, *, shape: bool = False, **more: Any) -> dict[str, Any]:
    return {"locustfile": "/x/users.py", "number": number, "processes": processes, "shape": shape, "classes": [], **more}


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_the_shares_of_all_processes_are_the_whole_and_even(users: int, processes: int) -> None:
    shares = [share_of(users, settings(number, processes)) for number in range(processes)]

    assert sum(shares) == users
    assert max(shares) - min(shares) <= 1


class Shape:
    """A load shape that says what it is given to say."""

    def __init__(self, *ticks: Any) -> None:
        self.ticks, self.told = list(ticks), list[str]()

    def tick(self) -> Any:
        self.told.append("tick")
        return self.ticks.pop(0)

    def reset_time(self) -> None:
        self.told.append("reset")


def test_a_shape_counts_from_the_begin_and_has_its_share() -> None:
    shape = Shape((5, 10.0), (7, 10.0, ["Buyer"]), (0, 0.0))
    told = shape.told

    follow(shape, settings(1, 2, shape=True), lambda: told.append("begin"), told.append)

    assert [shape.tick(), shape.tick(), shape.tick()] == [(2, 5.0), (3, 5.0, ["Buyer"]), (0, 0.01)]
    assert told == ["begin", "reset", "tick", "tick", "tick"]


def test_the_end_of_a_shape_is_told_with_its_name() -> None:
    shape = Shape(None)
    told: list[str] = []

    follow(shape, settings(shape=True), lambda: None, told.append)

    assert shape.tick() is None
    assert told == ["Shape"]


def users(**fixed: int) -> dict[str, SimpleNamespace]:
    return {name: SimpleNamespace(fixed_count=count) for name, count in fixed.items()}


def test_users_of_a_fixed_number_are_shared_out_and_gone_where_the_share_is_none() -> None:
    first, second = (
        imported(lambda: (users(One=1, Three=3, Many=0), {}, {}, None), settings(number, 2), "/locust")[0] for number in (0, 1)
    )

    assert {name: found.fixed_count for name, found in first.items()} == {"One": 1, "Three": 2, "Many": 0}
    assert {name: found.fixed_count for name, found in second.items()} == {"Three": 1, "Many": 0}


def test_users_of_a_fixed_number_that_leave_a_process_none_are_refused() -> None:
    def share(number: int) -> Any:
        return imported(lambda: (users(One=1, Two=2), {}, {}, None), settings(number, 3), "/locust")

    assert [set(share(number)[0]) for number in (0, 1)] == [{"One", "Two"}, {"Two"}]
    with pytest.raises(Refused, match=r"/x/users\.py: expected users for each of 3 load processes, .* \(One: 1, Two: 2\)"):
        share(2)


def test_of_the_classes_asked_for_a_process_keeps_those_of_which_it_has_users() -> None:
    first, second = (
        imported(lambda: (users(One=1, Other=0, Many=0), {}, {}, None), settings(number, 2, classes=["One", "Many"]), "/locust")
        for number in (0, 1)
    )

    assert (set(first[0]), set(second[0])) == ({"One", "Many"}, {"Many"})


@pytest.mark.parametrize(
    ("found", "told", "given"),
    [
        ((users(), {}, {}, None), "found none", {}),
        ((users(A=0), {"Stairs": 1}, {}, None), "write load: {shape: true}", {}),
        ((users(A=0), {}, {}, None), "inherits from LoadTestShape, for shape: true, found none", {"shape": True}),
        ((users(A=0), {"S": 1, "T": 2}, {}, None), "for shape: true, found S, T", {"shape": True}),
        ((users(A=0), {}, {}, None), "expected the user classes B, found A", {"classes": ["A", "B"]}),
    ],
)
def test_what_cannot_be_run_is_refused_with_what_was_expected(found: Any, told: str, given: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"/x/users\.py: ") as refused:
        imported(lambda: found, {**settings(), **given}, "/locust")

    assert told in str(refused.value)
