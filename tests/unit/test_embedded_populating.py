"""What is wrong with a proxy of a file: everything, and nothing that the control API would take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.runtime.proxies.embedded.api import new_proxy, proxy_from_data
from harness.runtime.proxies.embedded.config import Object
from harness.runtime.proxies.embedded.populating import problems_of
from harness.runtime.proxies.embedded.proxies import split_upstream
from harness.runtime.proxies.embedded.toxics import EFFECTS, Refused

SOUND = {"name": "a", "upstream": "b:1"}

ANYTHING = st.sampled_from([None, "", "a", "a/b", "b:1", "upstream", 0, 1, 0.5, -3, True, [], {}, ["GET"], [7]])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["latency", "Jitter", "average_size", "size_variation", "how", "status", "share", "misspelt"]), ANYTHING
)
TOXICS = st.fixed_dictionaries(
    {"type": st.sampled_from([*EFFECTS, "latncy", None])},
    optional={
        "name": st.sampled_from(["one", "two", "a/b", 7, ""]),
        "Stream": st.sampled_from(["UpStream", "downstream", "sideways", None]),
        "toxicity": ANYTHING,
        "attributes": ATTRIBUTES | ANYTHING,
        "seed": ANYTHING,
        "toxicty": st.just(1),
    },
)
PROXIES = st.fixed_dictionaries(
    {"name": st.just("a") | ANYTHING, "upstream": st.just("b:1") | ANYTHING},
    optional={
        "listen": ANYTHING,
        "Enabled": ANYTHING,
        "toxics": st.lists(TOXICS, max_size=3) | ANYTHING,
        "lisen": st.just("c:1"),
    },
)


def is_taken(data: Any) -> bool:
    """Whether the control API would make this proxy."""
    try:
        given = proxy_from_data(data)
        if not (given.get("name") and given.get("upstream")):
            return False
        new_proxy(given)
        split_upstream(given["upstream"])
    except Refused:
        return False
    return True


@given(PROXIES | ANYTHING)
def test_something_is_wrong_just_where_the_control_api_refuses(data: Any) -> None:
    assert (problems_of(data) == []) == is_taken(data)


@pytest.mark.parametrize("kind", EFFECTS)
def test_every_type_of_toxic_may_stand_in_a_file(kind: str) -> None:
    attributes = {"average_size": 1} if kind == "slicer" else {}

    assert problems_of({**SOUND, "toxics": [{"type": kind, "attributes": attributes}]}) == []


def test_each_problem_of_a_proxy_is_told_with_the_toxic_and_the_key() -> None:
    toxics: list[Any] = [
        {"type": "latncy", "toxicity": 2},
        {"name": "slow", "type": "latency", "stream": "up", "attributes": {"latency": -1, "jitter": "much", "delay": 3}},
        {"name": "slow", "type": "timeout"},
        {"name": "slow", "type": "timeout"},
        7,
    ]

    told = problems_of({"name": "a/b", "upsteam": "b:1", "listen": 9, "enabled": "yes", "toxics": toxics})

    begins = [
        "a proxy has no upsteam; did you mean upstream?",
        "missing required field: upstream",
        "expected name of at most",
        "expected listen as text, found 9",
        "expected true or false for enabled, found 'yes'",
        "toxic 1: invalid toxic type: expected one of ",
        "toxic 1: expected toxicity from 0 to 1, found 2",
        "toxic 2 (slow): stream was invalid",
        "toxic 2 (slow): the attributes of latency has no delay",
        "toxic 2 (slow): expected latency in whole milliseconds",
        "toxic 2 (slow): expected jitter in whole milliseconds",
        "toxic 4 (slow): toxic already exists",
        "toxic 5: expected an object for a toxic, found int",
    ]
    assert [problem[: len(begin)] for problem, begin in zip(told, begins, strict=True)] == begins
    assert told[5].endswith("found 'latncy'; did you mean latency?")


def test_what_only_several_attributes_show_is_told_too() -> None:
    toxic = {"type": "slicer", "attributes": {"average_size": 10, "size_variation": 10}}

    (told,) = problems_of({**SOUND, "toxics": [toxic]})

    assert told == "toxic 1: expected size_variation below average_size, which is 10, found 10"


def test_a_key_that_is_said_more_than_once_is_told_wherever_it_stands() -> None:
    attributes = Object.of([("latency", 1), ("Latency", 2)])
    toxic = Object.of([("type", "latency"), ("attributes", attributes), ("type", "latency")])
    proxy = Object.of([*SOUND.items(), ("Upstream", "c:1"), ("toxics", [toxic])])

    assert problems_of(proxy) == [
        "a proxy: expected upstream once, found it more often",
        "toxic 1: a toxic: expected type once, found it more often",
        "toxic 1: the attributes of latency: expected latency once, found it more often",
    ]
