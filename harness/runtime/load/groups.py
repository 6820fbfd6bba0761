"""Requests without a name, brought together by the patterns of the journeys: one order's page is like another's."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Groups:
    """Patterns such as `GET /orders/*`, in the order in which they were written: the first that fits counts."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [(pattern.partition(" ")[2], _compiled(pattern)) for pattern in patterns]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def name_for(self, method: str, url: str) -> str | None:
        """The name of the group that a request belongs to; what follows a `?` is not looked at."""
        path = _ORIGIN.sub("", url).partition("?")[0].partition("#")[0] or "/"
        asked = f"{method.upper()} {path}"
        return next((name for name, pattern in self._patterns if pattern.fullmatch(asked)), None)


_ORIGIN = re.compile("https?://[^/?#]*", re.IGNORECASE)


def _compiled(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*\*?)", pattern)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(piece, re.escape(piece)) for piece in pieces))
