"""What may be said of a toxic: all that is known, and nothing else."""

from __future__ import annotations

import pytest

from harness.runtime.proxies.embedded.toxics import (
    LONGEST,
    Latency,
    Refused,
    ResetPeer,
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
