"""What came of every kind of fault on each engine and runtime: kept for the table in the documentation, and held to it.

With `--record-faults FILE` a run writes what it found, failures too; every other run compares what it finds with what is
kept, so that the table says what is so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

KEPT = Path(__file__).parent / "faults-matrix.json"
FAILED = "failed"
NOT_FOOLED = "not proved where it was not applied"

Found = Mapping[tuple[str, str], set[str]]
"""By row and engine: what came of it, and that it is not proved where it was not applied."""


def begin(request: pytest.FixtureRequest, row: str, runtime: str) -> None:
    """Until it is noted what came of a row on a runtime, it failed."""
    if file := recorded_to(request):
        _change(file, row, runtime, FAILED)


def note(request: pytest.FixtureRequest, row: str, runtime: str, what: str) -> None:
    """Keep what came of a row on a runtime, or compare it with what is kept."""
    if file := recorded_to(request):
        _change(file, row, runtime, what)
    else:
        compare("runtimes", row, runtime, what)


def recorded_to(request: pytest.FixtureRequest) -> Path | None:
    """The file that this run writes what it finds to."""
    file = request.config.getoption("--record-faults")
    return Path(file) if file else None


def compare(table: str, row: str, column: str, what: str, kept: Path = KEPT) -> None:
    """What was found is what the documentation says."""
    said = _read(kept).get(table, {}).get(row, {}).get(column)
    assert what == said, f"{kept.name} says {said!r} of {row} on {column}: record it anew with --record-faults"


def write_engines(file: Path, rows: Iterable[str], engines: Iterable[str], found: Found) -> None:
    """The table of the engines anew: what is not told whole has failed, and of what there is no row nothing is left."""
    columns = tuple(engines)
    anew = {row: {engine: outcome(found.get((row, engine), set())) for engine in columns} for row in rows}
    _write(file, {**_read(file), "engines": anew})


def outcome(words: set[str]) -> str:
    """What came of a row: it passed only where its proof is not fooled either."""
    told = words - {NOT_FOOLED}
    return told.pop() if len(told) == 1 and NOT_FOOLED in words else FAILED


def _change(file: Path, row: str, runtime: str, what: str) -> None:
    tables = _read(file)
    tables.setdefault("runtimes", {}).setdefault(row, {})[runtime] = what
    _write(file, tables)


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text("utf-8"))) if file.exists() else {}


def _write(file: Path, tables: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(tables, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
