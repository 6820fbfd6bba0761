"""States of a proxy as they are asked for, read back and recorded: plain data, and whether two of them act alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.history.shapes import is_number

NOT_EMPTY = frozenset({"status", "how", "every", "share"})
"""Attributes that are not 0, nor empty, where they go unsaid."""


NUMERIC = frozenset(
    {"latency", "jitter", "rate", "delay", "timeout", "average_size", "size_variation", "bytes", "status", "every", "share"}
)
"""Attributes that are numbers, wherever they are said."""

STREAMS = ("upstream", "downstream")


def is_state(state: Mapping[str, Any]) -> bool:
    """Whether plain data are the state of a proxy, or of a service, which has no toxics."""
    toxics = state.get("toxics")
    return toxics is None or (isinstance(toxics, list | tuple) and all(map(_is_toxic, toxics)))


def _is_toxic(toxic: Any) -> bool:
    if not isinstance(toxic, Mapping) or not all(isinstance(toxic.get(name), str) for name in ("name", "type", "stream")):
        return False
    attributes = toxic.get("attributes")
    return (
        toxic["stream"] in STREAMS
        and is_number(toxic.get("toxicity", 1.0))
        and (toxic.get("seed") is None or is_number(toxic["seed"]))
        and (attributes is None or (isinstance(attributes, Mapping) and all(_is_said(*said) for said in attributes.items())))
    )


def _is_said(name: str, value: Any) -> bool:
    if name in NUMERIC or isinstance(value, int | float):
        return isinstance(value, bool) or (is_number(value) and value >= 0)
    return isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(word, str) for word in value))


def act_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states do the same to what passes, however they are written.

    Streams stand beside each other, so that only the order within each counts; most attributes that are 0 may go unsaid.
    """
    return one.get("enabled", True) == other.get("enabled", True) and words(one) == words(other)


def words(state: Mapping[str, Any]) -> tuple[tuple[object, ...], ...]:
    """The toxics of a state as they act: those upstream in order, then those downstream in order."""
    ordered = sorted(state.get("toxics") or (), key=lambda toxic: toxic["stream"] == "downstream")
    return tuple(word(toxic) for toxic in ordered)


def word(toxic: Mapping[str, Any]) -> tuple[object, ...]:
    """All that makes a toxic what it is, for comparing."""
    said = tuple(said_attributes(toxic.get("attributes") or {}).items())
    return toxic["name"], toxic["type"], toxic["stream"], said, toxic.get("toxicity", 1.0), toxic.get("seed")


def said_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes when those that are 0, as most are by default, go unsaid; a list may have become a tuple on its way."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in sorted(attributes.items())
        if value or name in NOT_EMPTY
    }
