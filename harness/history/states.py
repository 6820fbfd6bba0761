"""States of a proxy as they are asked for, read back and recorded: plain data, and whether two of them act alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_EMPTY = frozenset({"status", "how", "every", "share"})
"""Attributes that are not 0, nor empty, where they go unsaid."""


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
