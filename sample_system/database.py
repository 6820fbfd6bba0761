"""A service's own PostgreSQL database. No service looks into another's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import asyncpg

from sample_system.unavailable import DependencyUnavailable, pause_after

log = logging.getLogger(__name__)

CONNECTIONS = 10

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)
"""What asyncpg raises when the server, not the statement, is the trouble."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a connection, and then the statement on it, is waited for; None where nothing limits it."""

    connection: float | None = 1.0
    statement: float | None = 2.0


async def _keep_session(_: asyncpg.Connection) -> None:
    """Nothing to reset between two users of a connection: no statement here changes its session. Saves a round trip."""


class Database:
    """A pool of connections, opened in the background: the service boots, and stays up, without its database."""

    def __init__(self, url: str, schema: str, limits: Limits = Limits()) -> None:
        self.url, self.schema, self.limits = url, schema, limits
        self.pool: asyncpg.Pool | None = None

    @property
    def ready(self) -> bool:
        """Whether the pool is open and the tables are there."""
        return self.pool is not None

    async def __aenter__(self) -> Database:
        self._opening = asyncio.create_task(self._open())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opening.cancel()
        with suppress(asyncio.CancelledError):
            await self._opening
        if self.pool is not None:
            self.pool.terminate()

    async def _open(self) -> None:
        failures = 0
        while self.pool is None:
            try:
                pool = await asyncpg.create_pool(
                    self.url,
                    min_size=CONNECTIONS,
                    max_size=CONNECTIONS,
                    timeout=5.0,
                    command_timeout=self.limits.statement,
                    reset=_keep_session,
                )
                await pool.execute(self.schema)
                self.pool = pool
            except (*_AWAY, asyncpg.PostgresError) as error:
                failures += 1
                log.warning("database not there yet", extra={"dependency": "postgres", "reason": str(error)})
                await asyncio.sleep(pause_after(failures))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        if self.pool is None:
            raise DependencyUnavailable("postgres", "no connection yet")
        try:
            async with self.pool.acquire(timeout=self.limits.connection) as connection:
                yield connection
        except _AWAY as error:
            log.warning("dependency failed", extra={"dependency": "postgres", "reason": repr(error)})
            raise DependencyUnavailable("postgres", repr(error), timed_out=isinstance(error, TimeoutError)) from error

    async def rows(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """Run one statement, a transaction of its own, and return its rows."""
        async with self._connection() as connection:
            found: list[asyncpg.Record] = await connection.fetch(statement, *values)
            return found

    async def row(self, statement: str, *values: Any) -> asyncpg.Record | None:
        """Run one statement, a transaction of its own, and return its only row."""
        found = await self.rows(statement, *values)
        return found[0] if found else None
