"""Whether plain data are what an event says of itself: what was damaged, or made up, must not be taken for what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin, get_type_hints

LARGEST = 1e15
"""No number of a run is larger: what is counted are bytes and requests, and what is measured seconds."""

MOST_SHOWN = 60

Check: TypeAlias = Callable[[Any], bool]


class Misfit(ValueError):
    """Data that are no event of their kind; the message says what was expected, and what was found."""


def fitting(kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event of this kind, lists as tuples; raises Misfit. What it has no field for is left out."""
    given = {}
    for name, check, is_needed in _checks(kind):  # type: ignore[arg-type]  # a class can be hashed
        if name not in data:
            if is_needed:
                raise Misfit(f"expected {kind.__name__} with {name}, found none")
            continue
        value = data[name]
        if not check(value):
            raise Misfit(f"expected {kind.__name__} with another {name}, found {shown(value)}")
        given[name] = tuple(value) if isinstance(value, list) else value
    return given


def shown(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return "a number beyond all bounds"
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return ascii(value)[:MOST_SHOWN]


@cache
def _checks(kind: Any) -> tuple[tuple[str, Check, bool], ...]:
    hints = get_type_hints(kind)
    return tuple((part.name, _check(hints[part.name]), _is_needed(part)) for part in fields(kind))


def _is_needed(part: Field[Any]) -> bool:
    return part.default is MISSING and part.default_factory is MISSING


def _check(hint: Any) -> Check:
    """What tells whether a value is of a type, as events use them: a union is always one with None."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        (choice,) = (_check(choice) for choice in get_args(hint) if choice is not NoneType)
        return lambda value: value is None or choice(value)
    if origin is tuple:
        item = _check(get_args(hint)[0])
        return lambda value: isinstance(value, list | tuple) and all(map(item, value))
    if origin is dict:
        each = _check(get_args(hint)[1])
        return lambda value: isinstance(value, dict) and all(map(each, value.values()))
    return SIMPLE[hint]


def is_number(value: Any) -> bool:
    """A number within bounds, and no truth value."""
    return type(value) in (float, int) and -LARGEST < value < LARGEST


SIMPLE: dict[Any, Check] = {
    float: is_number,
    int: lambda value: type(value) is int and -LARGEST < value < LARGEST,
    str: lambda value: type(value) is str,
    bool: lambda value: type(value) is bool,
    Any: lambda _value: True,
}
