"""Asks a database how many violations of an invariant it holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg

MOST_ROWS = 2
"""More are not fetched: two are one too many already."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`value` violations among `over` rows; None where the database gave no such answer, and why."""

    value: float | None
    over: int | None
    detail: str = ""


PATIENCE = 4.0
"""Seconds for connecting and for the whole answer together: a database that hangs is noticed within 5 s."""


def ask(url: str, query: str, *, patience: float = PATIENCE) -> Answer:
    """Run a query that gives one row, `value` and then, where it can say so, `over`; it may change nothing.

    A query that takes longer than `patience` is ended by the database too, where that still answers.
    """
    try:
        row = asyncio.run(_fetch(url, query, patience))
    except TimeoutError:
        return Answer(None, None, f"expected an answer within {patience:g} s, found none: it hangs")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
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
            await connection.transaction(readonly=True).start()
            await connection.execute(f"SET LOCAL statement_timeout = {max(1, int(patience * 1000))}")
            rows = await (await connection.cursor(query)).fetch(MOST_ROWS)
        finally:
            connection.terminate()  # which ends the transaction; whoever hangs would not answer a ROLLBACK either
    return rows[0] if len(rows) == 1 else None
