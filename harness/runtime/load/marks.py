"""Which fallbacks' markers an answer bears; evaluated where the answer is, so that bodies need not be kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


class Marks:
    """The declared markers, by the name of the fallback."""

    def __init__(self, declared: Mapping[str, Mapping[str, str]]) -> None:
        for name, mark in declared.items():
            if not mark.get("header") and not mark.get("json"):
                raise ValueError(f"marker of {name}: expected a header or a json path, found {dict(mark)}")
        self._headers = [(name, mark["header"], mark["equals"]) for name, mark in declared.items() if mark.get("header")]
        self._paths = [
            (name, mark["json"].removeprefix("$.").split("."), mark["equals"])
            for name, mark in declared.items()
            if mark.get("json")
        ]

    def found(self, header: Callable[[str], Any], body: Callable[[], bytes | None]) -> tuple[str, ...]:
        """The names whose marker is there, in the order in which they were declared within each kind.

        `body` is called only where a JSON marker is declared, and parsed only where it can hold one.
        """
        names = [name for name, wanted, value in self._headers if _says(header(wanted), value)]
        if self._paths:
            content = body() or b""
            paths = [path for path in self._paths if f'"{path[1][-1]}"'.encode() in content]
            data = _parsed(content) if paths else None
            names += [name for name, path, value in paths if _says(_at(data, path), value)]
        return tuple(names)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _at(data: Any, path: list[str]) -> Any:
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return None
        data = data[key]
    return data


def _says(value: Any, wanted: str) -> bool:
    """Whether a header or a JSON value says what was declared; `true` and `3` are compared as they are written."""
    if value is None or isinstance(value, dict):
        return False
    if isinstance(value, list | tuple):
        return any(_says(item, wanted) for item in value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text.strip() == wanted
