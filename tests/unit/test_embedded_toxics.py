"""What may be said of a toxic: all that is known, and nothing else."""

from __future__ import annotations

import pytest

from harness.runtime.proxies.embedded.toxics import (
    EFFECTS,
    LONGEST,
    HttpError,
    Latency,
    Match,
    Refused,
    ResetPeer,
    Slicer,
    Timeout,
    Toxic,
    toxic_from_data,
    updated,
)


@pytest.mark.parametrize(
    ("data", "toxic"),
    [
        ({"type": "latency"}, Toxic("latency_downstream", "downstream", 1.0, Latency())),
        (
            {"TYPE": "latency", "Stream": "UPSTREAM", "attributes": {"Latency": LONGEST}, "toxicity": 0},
            Toxic("latency_upstream", "upstream", 0.0, Latency(LONGEST)),
        ),
        ({"type": "timeout", "name": "x", "attributes": {"timeout": 1}}, Toxic("x", "downstream", 1.0, Timeout(1))),
        ({"type": "reset_peer", "attributes": None}, Toxic("reset_peer_downstream", "downstream", 1.0, ResetPeer())),
    ],
)
def test_what_is_not_said_has_toxiproxys_default(data: dict[str, object], toxic: Toxic) -> None:
    assert toxic_from_data(data) == toxic
    assert toxic_from_data(toxic.as_data()) == toxic


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "latency",
        {"type": "down"},
        {"type": "slicer"},
        {"type": ["latency"]},
        {"type": "latency", "stream": "both"},
        {"type": "latency", "stream": 1},
        {"type": "latency", "attributes": {"timeout": 1}},
        {"type": "latency", "attributes": [1]},
        {"type": "latency", "attributes": {"latency": True}},
        {"type": "latency", "attributes": {"latency": 1.0}},
        {"type": "latency", "attributes": {"latency": LONGEST + 1}},
        {"type": "latency", "attributes": {"jitter": -1}},
        {"type": "latency", "toxicity": -0.1},
        {"type": "latency", "toxicity": True},
        {"type": "latency", "toxicity": "1"},
        {"type": "latency", "name": 5},
        {"type": "latency", "proxy": "x"},
    ],
)
def test_what_is_not_known_is_refused(data: object) -> None:
    with pytest.raises(Refused) as refused:
        toxic_from_data(data)

    assert refused.value.status == 400


def test_a_change_is_merged_key_by_key_and_keeps_name_and_stream() -> None:
    toxic = Toxic("x", "upstream", 0.5, Latency(10, 2))

    assert updated(toxic, {"attributes": {"jitter": 3}, "name": "y", "stream": "downstream"}) == Toxic(
        "x", "upstream", 0.5, Latency(10, 3)
    )
    assert updated(toxic, None) == toxic


BOUNDS = [
    ("latency", {}, "latency", 0, 3_600_000),
    ("latency", {}, "jitter", 0, 3_600_000),
    ("timeout", {}, "timeout", 0, 3_600_000),
    ("reset_peer", {}, "timeout", 0, 3_600_000),
    ("bandwidth", {}, "rate", 0, 10_000_000),
    ("slow_close", {}, "delay", 0, 3_600_000),
    ("slicer", {}, "average_size", 1, 2**31),
    ("slicer", {"average_size": 100}, "size_variation", 0, 99),
    ("slicer", {"average_size": 1}, "delay", 0, 60_000_000),
    ("limit_data", {}, "bytes", 0, 2**40),
    ("http_error", {}, "status", 400, 599),
    ("http_delay", {}, "delay", 0, 3_600_000),
    ("http_delay", {}, "jitter", 0, 3_600_000),
    ("http_error", {}, "every", 2, 2**31),
    ("http_error", {}, "share", 0, 1),
]


@pytest.mark.parametrize(("kind", "besides", "attribute", "least", "most"), BOUNDS)
def test_every_number_has_its_bounds(kind: str, besides: dict[str, int], attribute: str, least: int, most: int) -> None:
    for value in (least, most):
        toxic = toxic_from_data({"type": kind, "attributes": {**besides, attribute: value}})
        assert toxic_from_data(toxic.as_data()) == toxic
        assert toxic.as_data()["attributes"][attribute] == value
    for value in (least - 1, most + 1, 2**200, "1", True, [], {}, float("nan")):
        with pytest.raises(Refused, match=f"expected {attribute} "):
            toxic_from_data({"type": kind, "attributes": {**besides, attribute: value}})


def test_a_slice_has_a_size() -> None:
    with pytest.raises(Refused, match="expected average_size in whole bytes from 1"):
        toxic_from_data({"type": "slicer"})
    toxic = Toxic("t", "upstream", 1.0, Slicer(10, 5))

    with pytest.raises(Refused, match="expected size_variation below average_size"):
        updated(toxic, {"attributes": {"average_size": 5}})


@pytest.mark.parametrize(
    "attributes",
    [
        {"methods": "GET"},
        {"methods": [1]},
        {"methods": [""]},
        {"methods": ["GET "]},
        {"methods": ["GET"] * 33},
        {"header": "no colon"},
        {"header": ": no name"},
        {"path": 1},
        {"path": "x" * 1025},
        {"journey": ["POST /orders"]},
        {"first_attempt": 1},
        {"body": "x" * (64 * 1024 + 1)},
        {"body": "\ud800"},
        {"how": "bytes"},
        {"match": {}},
    ],
)
def test_what_a_match_cannot_be_is_refused(attributes: dict[str, object]) -> None:
    with pytest.raises(Refused) as refused:
        toxic_from_data({"type": "http_error", "attributes": attributes})

    assert refused.value.status == 400


def test_of_a_match_is_shown_what_was_said() -> None:
    said = {"methods": ["GET", "POST"], "path": "/orders/*", "header": "X-User: a?c", "journey": "POST /orders"}
    more = {"first_attempt": True, "every": 3, "share": 0.5}

    toxic = toxic_from_data({"type": "http_error", "attributes": {**said, **more}, "seed": -7})

    assert toxic.as_data()["attributes"] == {"status": 503, "body": "", **said, **more}
    assert toxic.seed == toxic.as_data()["seed"] == -7
    assert updated(toxic, {"attributes": {"status": 500}}).effect == HttpError(
        500, "", Match(("GET", "POST"), "/orders/*", "X-User: a?c", "POST /orders", True, 3, 0.5)
    )


@pytest.mark.parametrize("kind", sorted(EFFECTS))
def test_a_share_of_connections_is_drawn_where_connections_are_struck(kind: str) -> None:
    data = {"type": kind, "toxicity": 0.5, "attributes": {"average_size": 1} if kind == "slicer" else {}}
    if kind == "unreachable" or kind.startswith("http_"):
        with pytest.raises(Refused, match="expected toxicity 1"):
            toxic_from_data(data)
    else:
        assert toxic_from_data(data).toxicity == 0.5


def test_a_name_that_is_taken_is_told_before_its_attributes_are_looked_at() -> None:
    with pytest.raises(Refused) as refused:
        toxic_from_data({"type": "latency", "name": "t", "attributes": {"latency": "x"}}, taken=["t"])

    assert (refused.value.status, refused.value.message) == (409, "toxic already exists")


@pytest.mark.parametrize("seed", [1.5, "7", True, 2**63, -(2**63) - 1])
def test_a_seed_is_a_whole_number_of_64_bits(seed: object) -> None:
    with pytest.raises(Refused, match="expected seed as a whole number"):
        toxic_from_data({"type": "noop", "seed": seed})
