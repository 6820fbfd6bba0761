"""What somebody who looks through a proxy must see while it is in a given state, and whether a probe saw it.

The state that was set decides, not the kind of fault that asked for it: several faults may overlap on one proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

from harness.history.events import DETOUR, EdgeProbed
from harness.judge import words

SURELY_LATER = 0.8
"""The share of an added delay that a probe must have felt."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A connection is accepted, then reset or closed."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A connection is accepted, and nothing ever comes back."""


@dataclass(frozen=True, slots=True)
class Later:
    """The answer comes, at least `seconds` later than usual."""

    seconds: float


Sight: TypeAlias = Refused | Broken | Silent | Later


def is_clean(state: Mapping[str, Any]) -> bool:
    """Whether a proxy in this state passes everything on as it comes."""
    return bool(state.get("enabled", True)) and not state.get("toxics")


def sight_of(state: Mapping[str, Any]) -> Sight | None:
    """What a proxy in this state shows; None for a clean one, or a toxic that is not known here."""
    if not state.get("enabled", True):
        return Refused()
    toxics = [(toxic.get("type"), toxic.get("attributes") or {}) for toxic in state.get("toxics") or ()]
    timeouts = [attributes.get("timeout", 0) for kind, attributes in toxics if kind == "timeout"]
    if any(kind == "reset_peer" for kind, _ in toxics) or any(timeouts):
        return Broken()
    if timeouts:
        return Silent()
    delays = [max(0, said.get("latency", 0) - said.get("jitter", 0)) for kind, said in toxics if kind == "latency"]
    return Later(sum(delays) / 1000) if delays else None


def cannot_be_probed(sight: Sight, protocol: str) -> str:
    """Why a probe could not tell, on an edge where this is spoken; empty where it could."""
    if protocol != "tcp":
        return ""
    match sight:
        case Silent() | Later():
            return "what is spoken there is not known, so a probe sees neither silence nor delay"
        case Refused() | Broken():
            return ""
        case _:
            assert_never(sight)


def expected_of(sight: Sight) -> str:
    """What must be seen, in words."""
    match sight:
        case Refused():
            return "refused"
        case Broken():
            return "reset or closed"
        case Silent():
            return "silent"
        case Later(seconds):
            return f"answered {words.seconds(seconds)} later"
        case _:
            assert_never(sight)


def was_seen(sight: Sight, before: EdgeProbed, during: EdgeProbed) -> bool:
    """Whether the probe saw what the state must show, in contrast to the answer it got before."""
    if before.outcome != "answered":
        return False
    match sight:
        case Refused():
            by_detour = during.detail == DETOUR and during.outcome in ("reset", "closed")
            return during.outcome == "refused" or by_detour
        case Broken():
            return during.outcome in ("reset", "closed")
        case Silent():
            return during.outcome == "silent"
        case Later(seconds):
            return during.outcome == "answered" and during.seconds >= before.seconds + SURELY_LATER * seconds
        case _:
            assert_never(sight)
