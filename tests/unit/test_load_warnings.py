"""What a reader of the verdict is told about the load."""

from __future__ import annotations

import json

import pytest

from harness.history.history import History
from harness.history.table import requests_of
from harness.judge.case import Case
from harness.judge.judge import judge
from harness.judge.verdict import Outcome
from harness.judge.warnings import warnings_of
from harness.model.expectations import ExpectationItem
from tests.histories.building import Story, expectation, tell


def renamed(history: History, journeys: int) -> History:
    """The same, with the first requests under so many names of their own."""
    requests = [
        request._replace(journey=f"GET /orders/{number}") if number < journeys else request
        for number, request in enumerate(history.requests)
    ]
    return History(history.plan, history.events, requests_of(requests), history.notes)


def test_more_than_fifty_journeys_without_a_name_are_told_with_what_to_write() -> None:
    history = tell(Story())

    few, many = (warnings_of(Case(renamed(history, journeys))) for journeys in (50, 51))

    assert not any("plain name" in warning for warning in few)
    (warning,) = (warning for warning in many if "plain name" in warning)
    assert warning.startswith("51 journeys have no plain name, such as GET /orders/0, ")
    assert "'read order: GET /orders/*'" in warning


def addressed(history: History, pages: int) -> History:
    """The same, with every fourth request for the catalog under one of so many addresses."""
    requests = [
        request._replace(journey=f"GET /catalog/{number // 4 % pages}")
        if number % 4 == 0 and request.journey == "GET /catalog"
        else request
        for number, request in enumerate(history.requests)
    ]
    return History(history.plan, history.events, requests_of(requests), history.notes)


EACH = (
    expectation("blast_radius", may_degrade=["place order"], may_fail=["track shipment"]),
    expectation("blast_radius", may_degrade=["place order"], may_fail=["track shipment"], method="point"),
    expectation("error_rate", journey="each", during="baseline", max="5%"),
    expectation("response_time", journey="each", during="baseline", p95={"max": "2s"}),
    expectation("recovery", within="10s", hold="5s"),
)


@pytest.mark.parametrize("item", EACH, ids=lambda item: item.kind)
def test_too_few_requests_of_an_address_ask_for_a_pattern_and_not_for_more_load(item: ExpectationItem) -> None:
    history = tell(Story(expect=(item,)))

    few, many, all_apart = (judge(addressed(history, pages)).expectations[0] for pages in (50, 51, 1000))

    assert {found.outcome for found in (few, many, all_apart)} == {Outcome.INCONCLUSIVE}
    assert few.advice.startswith(("raise load.rate to ", "see what keeps its users from trying it"))
    assert many.advice.startswith("51 journeys have no plain name: bring them together by a pattern under journeys:")
    assert all_apart.advice.partition(": ")[2] == many.advice.partition(": ")[2]


def test_a_closed_loop_is_told_with_what_it_hides() -> None:
    history = tell(Story())
    plan = json.loads(json.dumps(history.plan))
    plan["experiment"]["load"].pop("rate")
    users = History(plan, history.events, history.requests, history.notes)
    shaped = json.loads(json.dumps(plan))
    shaped["experiment"]["load"] |= {"shape": True, "users": 0}
    shape = History(shaped, history.events, history.requests, history.notes)

    assert not any("closed loop" in warning for warning in warnings_of(Case(history)))
    assert [warning[:22] for warning in warnings_of(Case(users)) if "closed loop" in warning] == ["closed loop: 480 users"]
    assert [warning[:60] for warning in warnings_of(Case(shape)) if "closed loop" in warning] == [
        "closed loop: the users of the locustfile's own load shape wa"
    ]
