"""What an edge can be made to suffer, in Toxiproxy's words and some of this engine's own; whatever is not known is refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from itertools import islice
from typing import Any, ClassVar, TypeAlias

LONGEST = 3_600_000
"""An hour in milliseconds: no delay or timeout may be longer."""

LONGEST_PAUSE = 60_000_000
"""A minute in microseconds: no pause between slices may be longer."""

FASTEST = 10_000_000
"""KB/s."""

MOST_BYTES = 2**40
LARGEST_SLICE = 2**31
LONGEST_BODY = 64 * 1024
LONGEST_TEXT = 1024
MOST_METHODS = 32

STREAMS = ("upstream", "downstream")


class Refused(Exception):
    """A request that the control API turns away, with Toxiproxy's status for it."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


Check: TypeAlias = Callable[[str, object], Any]
"""Gives the value of the attribute of this name as it is kept, or refuses it."""


def _expected(name: str, what: str, found: object) -> Refused:
    return Refused(400, f"bad request body: expected {name} {what}, found {_shortened(found)}")


def _shortened(found: object) -> str:
    if isinstance(found, dict | list):
        return "an object" if isinstance(found, dict) else "a list"
    words = repr(found[:200] if isinstance(found, str) else found)
    return words if len(words) <= 200 else words[:200] + "…"


def _checked(default: object, check: Check) -> Any:
    return field(default=default, metadata={"check": check})


def _whole(least: int, most: int, unit: str, default: int | None = 0) -> Any:
    """A whole number."""

    def check(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _expected(name, f"in whole {unit} from {least} to {most}", value)
        return value

    return _checked(default, check)


def _milliseconds() -> Any:
    return _whole(0, LONGEST, "milliseconds")


def _one_of(*words: str) -> Any:
    """One of these words, the first where none is said."""

    def check(name: str, value: object) -> str:
        if value not in words:
            raise _expected(name, "as " + " or ".join(words), value)
        return str(value)

    return _checked(words[0], check)


def _words(most: int, what: str = "text", holds: Callable[[str], bool] = lambda _: True) -> Any:
    """Text of at most so many bytes."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or not holds(value) or len(value) > most or len(encoded(value, name)) > most:
            raise _expected(name, f"as {what} of at most {most} bytes", value)
        return value

    return _checked("", check)


def _methods(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_METHODS or not all(_is_token(word) for word in value):
        raise _expected(name, f"as a list of at most {MOST_METHODS} methods", value)
    return tuple(value)


def _is_token(word: object) -> bool:
    return isinstance(word, str) and 0 < len(word) <= 32 and word.isascii() and word.replace("-", "").isalnum()


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _expected(name, "as true or false", value)
    return value


def share(name: str, value: object) -> float:
    """A number from 0 to 1."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise _expected(name, "from 0 to 1", value)
    return float(value)


def encoded(value: str, name: str) -> bytes:
    """Text as UTF-8; JSON can name halves of characters that are no text."""
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise _expected(name, "as text", value) from error


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests a toxic of HTTP strikes: those for which everything that is said here holds."""

    methods: tuple[str, ...] = _checked((), _methods)
    """One of these; empty for any."""
    path: str = _words(LONGEST_TEXT)
    """A glob over the path without its query."""
    header: str = _words(
        LONGEST_TEXT, "'Name: glob'", lambda text: not text or (_is_token(text.partition(":")[0]) and ":" in text)
    )
    journey: str = _words(LONGEST_TEXT)
    """The trace id begins with the prefix of this journey."""
    first_attempt: bool = _checked(False, _flag)
    """The first request with its trace id."""
    every: int | None = _whole(2, LARGEST_SLICE, "requests", None)
    """Of those that match so far, each so many-th."""
    share: float | None = _checked(None, share)
    """Of those that match so far, this share, drawn by the toxic's seed."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Every chunk comes `latency` ms after it was read, give or take `jitter`; their order is kept."""

    kind: ClassVar = "latency"
    latency: int = _milliseconds()
    jitter: int = _milliseconds()


@dataclass(frozen=True, slots=True)
class Timeout:
    """All data of one direction are lost; the connection is closed `timeout` ms after the last of them, 0 for never."""

    kind: ClassVar = "timeout"
    timeout: int = _milliseconds()


@dataclass(frozen=True, slots=True)
class ResetPeer:
    """The first data of one direction are swallowed and, `timeout` ms later, both ends are reset."""

    kind: ClassVar = "reset_peer"
    timeout: int = _milliseconds()


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """No more than `rate` KB a second pass one direction of a connection, a KB being 1000 bytes; at 0 nothing does."""

    kind: ClassVar = "bandwidth"
    rate: int = _whole(0, FASTEST, "KB/s")


@dataclass(frozen=True, slots=True)
class SlowClose:
    """The end of one direction comes `delay` ms later; its data do not."""

    kind: ClassVar = "slow_close"
    delay: int = _milliseconds()


@dataclass(frozen=True, slots=True)
class Slicer:
    """Data come in slices of about `average_size` bytes with a pause of `delay` microseconds after each."""

    kind: ClassVar = "slicer"
    average_size: int = _whole(1, LARGEST_SLICE, "bytes")
    size_variation: int = _whole(0, LARGEST_SLICE, "bytes")
    delay: int = _whole(0, LONGEST_PAUSE, "microseconds")


@dataclass(frozen=True, slots=True)
class LimitData:
    """After `bytes` bytes of one direction the connection is closed."""

    kind: ClassVar = "limit_data"
    bytes: int = _whole(0, MOST_BYTES, "bytes")


@dataclass(frozen=True, slots=True)
class Noop:
    """Nothing is done."""

    kind: ClassVar = "noop"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No handshake completes, and open connections are silent both ways, without loss."""

    kind: ClassVar = "unreachable"


@dataclass(frozen=True, slots=True)
class HttpError:
    """A request never reaches the callee: the caller is answered with `status` and `body`."""

    kind: ClassVar = "http_error"
    status: int = _whole(400, 599, "statuses", 503)
    body: str = _words(LONGEST_BODY)
    match: Match = Match()


@dataclass(frozen=True, slots=True)
class HttpDelay:
    """A request is passed on `delay` ms later, give or take `jitter`."""

    kind: ClassVar = "http_delay"
    delay: int = _milliseconds()
    jitter: int = _milliseconds()
    match: Match = Match()


@dataclass(frozen=True, slots=True)
class HttpCorrupt:
    """The body of an answer has wrong bytes in it, or ends half-way with the connection."""

    kind: ClassVar = "http_corrupt"
    how: str = _one_of("bytes", "truncate")
    match: Match = Match()


@dataclass(frozen=True, slots=True)
class HttpLostReply:
    """A request reaches the callee, its answer does not come back: silence, or a reset in its place."""

    kind: ClassVar = "http_lost_reply"
    how: str = _one_of("hang", "reset")
    match: Match = Match()


StreamEffect: TypeAlias = Latency | Timeout | ResetPeer | Bandwidth | SlowClose | Slicer | LimitData | Noop
"""What acts on the bytes of one direction of a connection."""

HttpEffect: TypeAlias = HttpError | HttpDelay | HttpCorrupt | HttpLostReply
"""What acts on requests and their answers."""

Effect: TypeAlias = StreamEffect | HttpEffect | Unreachable

EFFECTS: dict[str, type[Effect]] = {
    effect.kind: effect
    for effect in (
        Bandwidth,
        Latency,
        LimitData,
        Noop,
        ResetPeer,
        Slicer,
        SlowClose,
        Timeout,
        Unreachable,
        HttpError,
        HttpDelay,
        HttpCorrupt,
        HttpLostReply,
    )
}


@dataclass(frozen=True, slots=True)
class Toxic:
    """One toxic on one proxy. `toxicity` is the share of connections that it strikes, drawn by `seed` where there is one."""

    name: str
    stream: str
    toxicity: float
    effect: Effect
    seed: int | None = None

    def as_data(self) -> dict[str, Any]:
        """What the control API shows of it."""
        data = {
            "attributes": attributes_of(self.effect),
            "name": self.name,
            "type": self.effect.kind,
            "stream": self.stream,
            "toxicity": self.toxicity,
        }
        return data if self.seed is None else {**data, "seed": self.seed}


def attributes_of(effect: Effect) -> dict[str, Any]:
    """An effect's attributes; of its match what was said."""
    own = {each.name: getattr(effect, each.name) for each in fields(effect) if each.name != "match"}
    if not isinstance(effect, HttpEffect):
        return own
    match = effect.match
    said = {each.name: getattr(match, each.name) for each in fields(match) if getattr(match, each.name) != each.default}
    return {**own, **{name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}}


def lowered(data: object, known: tuple[str, ...], what: str) -> dict[str, Any]:
    """A JSON object with its keys in lower case, every one of them known; JSON's null counts as empty."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise Refused(400, f"bad request body: expected an object for {what}, found {type(data).__name__}")
    small = {str(key).lower(): value for key, value in data.items()}
    unknown = sorted(set(small) - set(known))
    if unknown:
        expected = f"expected some of {', '.join(known)}" if known else "expected none"
        raise Refused(400, f"bad request body: {what} has no {_listed(unknown)}{nearest(unknown, known)}; {expected}")
    return {key: value for key, value in small.items() if value is not None}


def _listed(words: list[str]) -> str:
    return ", ".join(words) if len(words) <= 5 and all(len(word) < 100 for word in words) else f"{len(words)} of its keys"


def nearest(words: Iterable[str], known: Collection[str]) -> str:
    """Which of the known words was perhaps meant, to be put behind them; nothing where none looks like it."""
    near = [match for word in islice(words, 5) if len(word) < 100 for match in get_close_matches(word.lower(), known, 1)]
    return f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else ""


def text(value: object, what: str) -> str:
    """A value that must be text."""
    if not isinstance(value, str):
        raise _expected(what, "as text", value)
    encoded(value, what)
    return value


def named(value: object, what: str) -> str:
    """A name that an address of this API can lead to."""
    name = text(value, what)
    if name in {".", ".."} or "/" in name or not name.isprintable() or len(name) > LONGEST_TEXT:
        raise _expected(what, f"of at most {LONGEST_TEXT} printable characters without a slash, and no dots alone", name)
    return name


TOXIC_KEYS = ("name", "stream", "type", "toxicity", "attributes", "seed")


def toxic_from_data(data: object, taken: Container[str] = ()) -> Toxic:
    """A toxic as it is asked for, under a name that is not `taken`; the checks come in Toxiproxy's order."""
    given = lowered(data, TOXIC_KEYS, "a toxic")
    stream = stream_from(given.get("stream"))
    kind = kind_from(given.get("type"))
    name = named(given.get("name") or f"{kind}_{stream}", "name")
    if name in taken:
        raise Refused(409, "toxic already exists")
    effect = _merged(EFFECTS[kind](), given.get("attributes", {}))
    return _sound(Toxic(name, stream, share("toxicity", given.get("toxicity", 1.0)), effect, seed_from(given.get("seed"))))


def stream_from(value: object) -> str:
    """Which stream is meant, in any case."""
    stream = text(value or "downstream", "stream").lower()
    if stream not in STREAMS:
        raise Refused(400, "stream was invalid, can be either upstream or downstream")
    return stream


def kind_from(value: object) -> str:
    """Which type of toxic is meant."""
    kind = text("" if value is None else value, "type")
    if kind not in EFFECTS:
        hint = nearest([kind], EFFECTS)
        raise Refused(400, f"invalid toxic type: expected one of {', '.join(EFFECTS)}, found {_shortened(kind)}{hint}")
    return kind


def updated(toxic: Toxic, data: object) -> Toxic:
    """The toxic with what is asked for changed: attributes and toxicity alone, all of it or nothing."""
    given = lowered(data, TOXIC_KEYS, "a toxic")
    if seed_from(given.get("seed", toxic.seed)) != toxic.seed:
        raise Refused(400, f"bad request body: the seed of {toxic.name} stays as it is; remove the toxic and add another one")
    toxicity = share("toxicity", given.get("toxicity", toxic.toxicity))
    return _sound(replace(toxic, toxicity=toxicity, effect=_merged(toxic.effect, given.get("attributes", {}))))


def _merged(effect: Effect, attributes: object) -> Effect:
    """The effect with these attributes; what it comes to as a whole is checked, defaults too."""
    checks = checks_of(type(effect))
    given: Mapping[str, Any] = lowered(attributes, tuple(checks), f"the attributes of {effect.kind}")
    kept = {name: checks[name](name, value) for name, value in given.items()}
    if not isinstance(effect, HttpEffect):
        return replace(effect, **kept)
    own = {each.name: kept.pop(each.name) for each in fields(effect) if each.name in kept}
    return replace(effect, **own, match=replace(effect.match, **kept))


def checks_of(kind: type[Effect]) -> dict[str, Check]:
    """The attributes of this type of toxic, those of its match too, each with what holds it to its bounds."""
    own = [each for each in fields(kind) if each.name != "match"]
    of_match = fields(Match) if len(own) < len(fields(kind)) else ()
    return {each.name: each.metadata["check"] for each in (*own, *of_match)}


def _sound(toxic: Toxic) -> Toxic:
    """What no single attribute shows."""
    effect = toxic.effect
    if isinstance(effect, Slicer):
        if effect.average_size < 1:
            raise _expected("average_size", f"in whole bytes from 1 to {LARGEST_SLICE}", effect.average_size)
        if effect.size_variation >= effect.average_size:
            raise _expected("size_variation", f"below average_size, which is {effect.average_size}", effect.size_variation)
    if not isinstance(effect, StreamEffect) and toxic.toxicity != 1:
        raise Refused(400, f"bad request body: expected toxicity 1, found {toxic.toxicity}: {effect.kind} draws no connections")
    return toxic


def seed_from(value: object) -> int | None:
    """A seed, where one is said."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise _expected("seed", "as a whole number of 64 bits", value)
    return value
