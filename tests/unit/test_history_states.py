"""What was asked of a proxy and what was read back may be written otherwise, and mean the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history.states import act_alike
from harness.plan.plan import ProxyState, Toxic
from harness.runtime.proxies.changes import is_same
from tests.unit.test_judge_strikes import Told, bearing, missing, toxic

LATER = {"name": "f-latency", "type": "latency", "stream": "downstream", "attributes": {"latency": 100}, "toxicity": 1.0}
HUNG = {"name": "f-timeout", "type": "timeout", "stream": "upstream", "attributes": {"timeout": 0}, "toxicity": 1.0}
ERROR = {"name": "f-http_error", "type": "http_error", "stream": "downstream", "attributes": {"status": 503}}


def state(*toxics: dict[str, Any], enabled: bool = True) -> dict[str, Any]:
    return {"enabled": enabled, "toxics": list(toxics)}


def but(toxic: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {**toxic, "attributes": {**toxic["attributes"], **attributes}}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (state(LATER), state(but(LATER, jitter=0))),
        (state(LATER, HUNG), state(HUNG, LATER)),
        (state({**LATER, "seed": None}), state(LATER)),
        (state(ERROR), state({**ERROR, "toxicity": 1.0})),
        (state(but(ERROR, methods=["GET"])), state(but(ERROR, methods=("GET",)))),
        ({"enabled": True}, state()),
    ],
)
def test_these_act_alike(asked: dict[str, Any], found: dict[str, Any]) -> None:
    assert act_alike(asked, found)
    assert act_alike(found, asked)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (state(LATER), state()),
        (state(), state(LATER)),
        (state(LATER), state(LATER, enabled=False)),
        (state(LATER), state(but(LATER, latency=99))),
        (state(LATER), state(but(LATER, jitter=1))),
        (state(LATER), state({**LATER, "toxicity": 0.5})),
        (state(LATER), state({**LATER, "seed": 1})),
        (state(LATER), state({**LATER, "stream": "upstream"})),
        (state(LATER, ERROR), state(ERROR, LATER)),
        (state(but(ERROR, share=0.0)), state(ERROR)),
    ],
)
def test_these_do_not(asked: dict[str, Any], found: dict[str, Any]) -> None:
    assert not act_alike(asked, found)
    assert not act_alike(found, asked)


@given(st.permutations([LATER, HUNG, ERROR]), st.permutations([LATER, HUNG, ERROR]))
def test_the_recorded_are_compared_as_the_proxies_own_are(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    first, second = (ProxyState(toxics=tuple(Toxic(**toxic) for toxic in toxics)) for toxics in (one, other))

    assert act_alike(first.model_dump(mode="json"), second.model_dump(mode="json")) == is_same(first, second)
    assert is_same(first, second) == ((one.index(LATER) < one.index(ERROR)) == (other.index(LATER) < other.index(ERROR)))


def test_a_proof_takes_what_acts_alike_and_nothing_else() -> None:
    asked = bearing(toxic("timeout", "downstream", timeout=0), toxic("timeout", "upstream", timeout=0))
    shown = bearing(toxic("timeout", "upstream"), toxic("timeout", "downstream", timeout=0, jitter=0))
    turns = ((25.0, 45.0, asked),)

    assert "set" not in missing(Told(turns=turns, found={"0": shown}))
    assert "set" in missing(Told(turns=turns, found={"0": bearing(shown["toxics"][0])}))
