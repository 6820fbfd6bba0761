"""What a probe must see of each state a proxy can be in, and what it must not take for it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.history.events import EdgeProbed
from harness.judge.sights import Broken, Later, Refused, Sight, Silent, cannot_be_probed, is_clean, sight_of, was_seen

OUTCOMES = ("answered", "refused", "reset", "closed", "silent", "failed")


def toxic(kind: str, **attributes: int) -> dict[str, Any]:
    return {"name": f"x-{kind}", "type": kind, "stream": "downstream", "attributes": attributes, "toxicity": 1.0}


def state(*toxics: dict[str, Any], enabled: bool = True) -> dict[str, Any]:
    return {"enabled": enabled, "toxics": list(toxics)}


def probe(outcome: str, seconds: float = 0.002, moment: str = "during") -> EdgeProbed:
    return EdgeProbed(1.0, "outage-1", "order -> shipping", moment, outcome, seconds)


ANSWERED = probe("answered", 0.002, "before")


@pytest.mark.parametrize(
    ("asked", "sight"),
    [
        (state(), None),
        (state(enabled=False), Refused()),
        (state(toxic("latency", latency=300, jitter=50), enabled=False), Refused()),
        (state(toxic("reset_peer", timeout=0)), Broken()),
        (state(toxic("timeout", timeout=1)), Broken()),
        (state(toxic("timeout", timeout=0)), Silent()),
        (state(toxic("timeout", timeout=0), toxic("latency", latency=300)), Silent()),
        (state(toxic("latency", latency=300, jitter=50)), Later(0.25)),
        (state(toxic("latency", latency=300), toxic("latency", latency=200)), Later(0.5)),
        (state(toxic("latency", latency=100, jitter=300)), Later(0.0)),
        (state(toxic("unheard_of")), None),
    ],
)
def test_the_state_that_was_set_decides_what_must_be_seen(asked, sight):
    assert sight_of(asked) == sight


def test_a_proxy_is_clean_when_it_is_on_and_has_no_toxic():
    assert is_clean(state())
    assert is_clean({})
    assert not is_clean(state(enabled=False))
    assert not is_clean(state(toxic("latency", latency=1)))


@pytest.mark.parametrize(
    ("sight", "seen"),
    [(Refused(), {"refused"}), (Broken(), {"reset", "closed"}), (Silent(), {"silent"}), (Later(0.3), {"answered"})],
)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_what_the_state_must_show_proves_it(sight: Sight, seen: set[str], outcome: str):
    assert was_seen(sight, ANSWERED, probe(outcome, 0.4)) == (outcome in seen)


@pytest.mark.parametrize("sight", [Refused(), Broken(), Silent(), Later(0.0)])
@pytest.mark.parametrize("before", [outcome for outcome in OUTCOMES if outcome != "answered"])
def test_without_an_answer_before_the_fault_there_is_no_contrast(sight: Sight, before: str):
    during = [probe(outcome) for outcome in OUTCOMES]

    assert not any(was_seen(sight, probe(before, moment="before"), seen) for seen in during)


@pytest.mark.parametrize(("seconds", "proved"), [(0.241, False), (0.243, True), (0.5, True)])
def test_most_of_an_added_delay_must_be_felt(seconds: float, proved: bool):
    assert was_seen(Later(0.3), ANSWERED, probe("answered", seconds)) is proved


@pytest.mark.parametrize("sight", [Refused(), Broken(), Silent(), Later(0.3)])
def test_only_where_the_protocol_is_unknown_some_states_cannot_be_probed(sight: Sight):
    assert all(cannot_be_probed(sight, protocol) == "" for protocol in ("http", "postgresql", "redis"))
    assert bool(cannot_be_probed(sight, "tcp")) == isinstance(sight, Silent | Later)
