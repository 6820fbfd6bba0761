"""What an edge can be made to suffer, in Toxiproxy's words, and nothing else: whatever is not known here is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeAlias

LONGEST = 3_600_000
"""An hour in milliseconds: no delay or timeout may be longer."""

STREAMS = ("upstream", "downstream")


class Refused(Exception):
    """A request that the control API turns away, with Toxiproxy's status for it."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Latency:
    """Every chunk comes `latency` ms after it was read, give or take `jitter`; their order is kept."""

    latency: int = 0
    jitter: int = 0


@dataclass(frozen=True, slots=True)
class Timeout:
    """All data of one direction are lost; the connection is closed `timeout` ms after the last of them, 0 for never."""

    timeout: int = 0


@dataclass(frozen=True, slots=True)
class ResetPeer:
    """The first data of one direction are swallowed and, `timeout` ms later, both ends are reset."""

    timeout: int = 0


Effect: TypeAlias = Latency | Timeout | ResetPeer

EFFECTS: dict[str, type[Latency] | type[Timeout] | type[ResetPeer]] = {
    "latency": Latency,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
}
TYPE_OF = {effect: name for name, effect in EFFECTS.items()}


@dataclass(frozen=True, slots=True)
class Toxic:
    """One toxic on one proxy. `toxicity` is the share of connections that it strikes."""

    name: str
    stream: str
    toxicity: float
    effect: Effect

    def as_data(self) -> dict[str, Any]:
        """What the control API shows of it."""
        return {
            "attributes": asdict(self.effect),
            "name": self.name,
            "type": TYPE_OF[type(self.effect)],
            "stream": self.stream,
            "toxicity": self.toxicity,
        }


def lowered(data: object, known: tuple[str, ...], what: str) -> dict[str, Any]:
    """A JSON object with its keys in lower case, every one of them known; JSON's null counts as empty."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise Refused(400, f"bad request body: expected an object for {what}, found {type(data).__name__}")
    small = {str(key).lower(): value for key, value in data.items()}
    unknown = sorted(set(small) - set(known))
    if unknown:
        raise Refused(400, f"bad request body: {what} has no {', '.join(unknown)}; expected some of {', '.join(known)}")
    return {key: value for key, value in small.items() if value is not None}


def text(value: object, what: str) -> str:
    """A value that must be text."""
    if not isinstance(value, str):
        raise Refused(400, f"bad request body: expected text for {what}, found {value!r}")
    return value


def toxic_from_data(data: object) -> Toxic:
    """A toxic as it is asked for; the checks come in Toxiproxy's order."""
    given = lowered(data, ("name", "type", "stream", "toxicity", "attributes"), "a toxic")
    stream = text(given.get("stream") or "downstream", "stream").lower()
    if stream not in STREAMS:
        raise Refused(400, "stream was invalid, can be either upstream or downstream")
    kind = text(given.get("type", ""), "type")
    if kind not in EFFECTS:
        raise Refused(400, f"invalid toxic type: expected one of {', '.join(EFFECTS)}, found {kind!r}")
    effect = _merged(EFFECTS[kind](), given.get("attributes", {}))
    name = text(given.get("name") or f"{kind}_{stream}", "name")
    return Toxic(name, stream, _share(given.get("toxicity", 1.0)), effect)


def updated(toxic: Toxic, data: object) -> Toxic:
    """The toxic with what is asked for changed: attributes and toxicity alone, all of it or nothing."""
    given = lowered(data, ("name", "type", "stream", "toxicity", "attributes"), "a toxic")
    return replace(
        toxic,
        toxicity=_share(given.get("toxicity", toxic.toxicity)),
        effect=_merged(toxic.effect, given.get("attributes", {})),
    )


def _merged(effect: Effect, attributes: object) -> Effect:
    known = tuple(field.name for field in fields(effect))
    given: Mapping[str, Any] = lowered(attributes, known, f"the attributes of {TYPE_OF[type(effect)]}")
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LONGEST:
            raise Refused(400, f"bad request body: expected {name} in whole milliseconds from 0 to {LONGEST}, found {value!r}")
    return replace(effect, **given)


def _share(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise Refused(400, f"bad request body: expected toxicity from 0 to 1, found {value!r}")
    return float(value)
