"""What came of every kind of fault on each runtime, kept for the table in the documentation where its file is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def note(request: pytest.FixtureRequest, row: str, runtime: str, what: str) -> None:
    """Keep what came of a row on a runtime."""
    file = request.config.getoption("--record-faults")
    if file:
        path = Path(file)
        tables = json.loads(path.read_text("utf-8")) if path.exists() else {}
        tables.setdefault("runtimes", {}).setdefault(row, {})[runtime] = what
        path.write_text(json.dumps(tables, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
