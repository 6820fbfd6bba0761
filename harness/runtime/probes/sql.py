"""Asks a database how many violations of an invariant it holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg


@dataclass(frozen=True, slots=True)
class Answer:
    """`value` violations among `over` rows; None where the database gave no such answer, and why."""

    value: float | None
    over: int | None
    detail: str = ""


def ask(url: str, query: str, *, patience: float = 5.0) -> Answer:
    """Run a query that gives one row, `value` and then, where it can say so, `over`; it may change nothing."""
    try:
        row = asyncio.run(_fetch(url, query, patience))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        return Answer(None, None, f"{type(error).__name__}: {error}".strip(": "))
    if row is None or not 1 <= len(row) <= 2:
        return Answer(None, None, "expected one row of one or two columns (value, over)")
    try:
        return Answer(float(row[0]), int(row[1]) if len(row) == 2 else None)
    except (TypeError, ValueError):
        return Answer(None, None, f"expected numbers, found {row[0]!r}")


async def _fetch(url: str, query: str, patience: float) -> Any:
    async with asyncio.timeout(patience):
        connection = await asyncpg.connect(url, timeout=patience)
        try:
            async with connection.transaction(readonly=True):
                rows = await connection.fetch(query)
        finally:
            connection.terminate()
    return rows[0] if len(rows) == 1 else None
