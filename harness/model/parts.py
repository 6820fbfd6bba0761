"""What every piece of a scenario or a system has in common, and the limits they are written with."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

from harness.model.quantities import Duration, Fraction, format_duration, format_share, parse_duration, parse_share

T = TypeVar("T")
Items = Annotated[tuple[T, ...], Field(strict=False)]
"""A YAML list, kept as a tuple; its items stay strict."""


class Part(BaseModel):
    """A piece of what the user wrote: never changed after reading, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=False, serialize_by_alias=True)


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


NAMED = "a name of at most 63 letters, digits, '_', '.' and '-' that begins with a letter or a digit"


def _check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise PydanticCustomError("name", "expected {named}, found {found}", {"named": NAMED, "found": repr(value)})
    return value


Name = Annotated[str, AfterValidator(_check_name)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


def _need_one_bound(part: Any) -> Any:
    if not part.model_fields_set:
        raise PydanticCustomError("limit", "expected a limit, {{max: …}}, {{min: …}} or {{equals: …}}, found none")
    return part


class ShareLimit(Part):
    """A share that must stay at or under `max`, or at or over `min`."""

    max: Fraction | None = None
    min: Fraction | None = None

    _bounded = model_validator(mode="after")(_need_one_bound)


class DurationLimit(Part):
    """A duration that must stay at or under `max`, or at or over `min`."""

    max: Duration | None = None
    min: Duration | None = None

    _bounded = model_validator(mode="after")(_need_one_bound)


class LatencyMargin(Part):
    """How much slower still counts as unchanged: within the relative or the absolute part, whichever allows more."""

    relative: float | None = None
    absolute: float | None = None


def _parse_margin(value: object) -> object:
    if isinstance(value, LatencyMargin):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError(
            "quantity", "expected a margin such as 50%, 50ms or '50% or 50ms', found {found}", {"found": repr(value)}
        )
    parts: dict[str, float] = {}
    for piece in value.split(" or "):
        if piece.strip().endswith("%"):
            parts["relative"] = parse_share(piece)
        else:
            parts["absolute"] = parse_duration(piece)
    return LatencyMargin(**parts)


def _format_margin(margin: LatencyMargin) -> str:
    pieces = []
    if margin.relative is not None:
        pieces.append(format_share(margin.relative))
    if margin.absolute is not None:
        pieces.append(format_duration(margin.absolute))
    return " or ".join(pieces)


Margin = Annotated[LatencyMargin, BeforeValidator(_parse_margin), PlainSerializer(_format_margin)]
