"""Requests without a name, brought together by the patterns of the journeys: one order's page is like another's."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Groups:
    """The journeys' requests, of which some are patterns such as `GET /orders/*`: the first that fits counts.

    A request that is a journey by itself, word for word, is in no group.
    """

    def __init__(self, journeys: Iterable[str]) -> None:
        journeys = tuple(journeys)
        self._patterns = [(journey.partition(" ")[2], _compiled(journey)) for journey in journeys if "*" in journey]
        self._others = {journey for journey in journeys if "*" not in journey}

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def name_for(self, method: str, url: str) -> str | None:
        """The name of the group that a request belongs to; what follows a `?` is not looked at."""
        place = _ORIGIN.sub("", url).partition("#")[0] or "/"
        if f"{method.upper()} {place}" in self._others:
            return None
        asked = f"{method.upper()} {place.partition('?')[0]}"
        return next((name for name, pattern in self._patterns if pattern.fullmatch(asked)), None)


_ORIGIN = re.compile("https?://[^/?#]*", re.IGNORECASE)


def _compiled(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*\*?)", pattern)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(piece, re.escape(piece)) for piece in pieces))
