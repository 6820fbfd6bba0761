"""Calls of another service with a planted bug: see defects.py."""

from __future__ import annotations

import uuid

from sample_system.dependency import Answer, Dependency


class KeyForEachTry(Dependency):
    """Makes the idempotency key where a request is sent, below the retries: no two requests have the same."""

    async def send(
        self, method: str, path: str, content: bytes | None = None, *, headers: dict[str, str], deadline: float | None = None
    ) -> Answer:
        """Send one request, under a key of its own."""
        own = headers | {"idempotency-key": str(uuid.uuid4())}
        return await super().send(method, path, content, headers=own, deadline=deadline)
