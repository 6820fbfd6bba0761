"""Work that goes on beside the requests, for as long as the service runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType

from sample_system.unavailable import DependencyUnavailable, pause_after

log = logging.getLogger(__name__)


class Repeatedly:
    """Does a piece of work again and again: at once while there is more to do, with pauses while a dependency is away.

    The work says whether it found something to do. Nothing that goes wrong in it ends the repetition: what
    was promised to be done later has to be done later.
    """

    def __init__(self, work: Callable[[], Awaitable[bool]], *, idle: float = 0.2) -> None:
        self.work, self.idle = work, idle

    async def __aenter__(self) -> Repeatedly:
        self.task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                found = await self.work()
                failures = 0
                await asyncio.sleep(0 if found else self.idle)
            except DependencyUnavailable as away:
                failures += 1
                if failures == 1:
                    log.warning("background work waits", extra={"dependency": away.dependency, "reason": away.reason})
                await asyncio.sleep(pause_after(failures))
            except Exception:
                failures += 1
                log.exception("background work failed")
                await asyncio.sleep(pause_after(failures))
