"""The file of `--config`: a JSON array as Toxiproxy reads it, each entry with its place."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INVALID = 2
"""The exit code for what was given and cannot be used."""

COULD_NOT_RUN = 5
"""The exit code for what was in the way."""

_BETWEEN = re.compile(r"[\s,]*")


class CannotStart(Exception):
    """Why the engine does not run, every reason of it, for the person who started it, and the exit code for it."""

    def __init__(self, code: int, *reasons: str) -> None:
        self.code, self.reasons = code, reasons
        super().__init__("\n".join(reasons))


class Object(dict[str, Any]):
    """A JSON object that knows which of its keys, in any case, were said more than once: the last one counts."""

    repeated: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: list[tuple[str, Any]]) -> Object:
        """As it stands in the file."""
        said = Counter(key.lower() for key, _ in pairs)
        made = cls(pairs)
        made.repeated = tuple(key for key, times in said.items() if times > 1)
        return made


@dataclass(frozen=True, slots=True)
class Entry:
    """One proxy of the file, not yet looked into. `place` is file, line and column, then its number and name."""

    place: str
    data: Any


def read_config(path: Path) -> tuple[Entry, ...]:
    """The entries of the file, in order."""
    text = _read(path)
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}" if text.strip() else str(path)
        raise CannotStart(INVALID, f"{place}: expected a JSON array of proxies, found no JSON: {error.msg}") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise CannotStart(INVALID, f"{path}: expected a JSON array of proxies, found what cannot be read: {error}") from error
    except RecursionError as error:
        raise CannotStart(INVALID, f"{path}: expected a JSON array of proxies, found one nested too deeply") from error
    if not isinstance(whole, list):
        raise CannotStart(INVALID, f"{path}: expected a JSON array of proxies, found {_kind(whole)}")
    return _placed(path, text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CannotStart(INVALID, f"--config: {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CannotStart(INVALID, f"{path}: expected text in UTF-8, found other bytes") from error


def _placed(path: Path, text: str) -> tuple[Entry, ...]:
    """Each element of the array that the text is."""
    entries: list[Entry] = []
    decoder = json.JSONDecoder(object_pairs_hook=Object.of)
    start = _after(text, text.index("[") + 1)
    while text[start] != "]":
        data, end = decoder.raw_decode(text, start)
        line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
        entries.append(Entry(f"{path}:{line}:{column}: {numbered('proxy', len(entries) + 1, data)}", data))
        start = _after(text, end)
    return tuple(entries)


def _after(text: str, start: int) -> int:
    between = _BETWEEN.match(text, start)
    assert between is not None
    return between.end()


def numbered(what: str, number: int, data: object) -> str:
    """How one of several is called: by its number, and its name where it has one."""
    name = name_of(data)
    shown = name if name.isprintable() else repr(name)
    return f"{what} {number} ({shown})" if name else f"{what} {number}"


def name_of(data: object) -> str:
    """Its name, where it has one: keys may be in any case."""
    found = next((data[key] for key in data if key.lower() == "name"), "") if isinstance(data, dict) else ""
    return found if isinstance(found, str) else ""


def _kind(data: object) -> str:
    return {dict: "an object", str: "text", bool: "true or false", type(None): "null"}.get(type(data), "a number")
