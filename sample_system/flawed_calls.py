"""Calls of another service with a planted bug: see defects.py."""

from __future__ import annotations

import asyncio
import uuid

from sample_system.dependency import Answer, Dependency
from sample_system.unavailable import DependencyUnavailable


class KeyForEachTry(Dependency):
    """Makes the idempotency key where a request is sent, below the retries: no two requests have the same."""

    async def send(
        self, method: str, path: str, content: bytes | None = None, *, headers: dict[str, str], deadline: float | None = None
    ) -> Answer:
        """Send one request, under a key of its own."""
        own = headers | {"idempotency-key": str(uuid.uuid4())}
        return await super().send(method, path, content, headers=own, deadline=deadline)


class InOneQueue(Dependency):
    """Waits for one of a few turns that all dependencies share: who hangs holds up who does not."""

    turns = asyncio.Semaphore(30)

    async def send(
        self, method: str, path: str, content: bytes | None = None, *, headers: dict[str, str], deadline: float | None = None
    ) -> Answer:
        """Send one request when it is its turn."""
        try:
            await asyncio.wait_for(self.turns.acquire(), self.patience.attempt)
        except TimeoutError as error:
            raise DependencyUnavailable(self.name, "its turn did not come in time", timed_out=True) from error
        try:
            return await super().send(method, path, content, headers=headers, deadline=deadline)
        finally:
            self.turns.release()
