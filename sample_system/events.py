"""What became of orders, told through Redis to whoever wants to know."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from sample_system.unavailable import DependencyUnavailable

log = logging.getLogger(__name__)

STREAM = "orders"
KEPT = 10_000
"""Events that the stream keeps at least; consumers are expected not to fall behind further."""

NOT_ACKNOWLEDGED, NEW = "0", ">"
"""Where in the stream to read on, in the words of Redis."""

SECONDS_FOR_AN_ANSWER = 3.0
SECONDS_TO_WAIT_FOR_EVENTS = 1.0


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """Something that happened to an order: `shipped` or `cancelled`. `position` is its place in the stream."""

    kind: str
    order: str
    position: str = ""


class Events:
    """The stream of order events."""

    def __init__(self, url: str) -> None:
        # Whoever publishes or reads tries again by himself: nothing is to be tried again behind his back.
        self.redis: Redis = Redis.from_url(
            url,
            socket_timeout=SECONDS_FOR_AN_ANSWER,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), retries=0),
            decode_responses=True,
        )

    async def __aenter__(self) -> Events:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.redis.aclose()

    async def publish(self, events: list[OrderEvent]) -> None:
        """Append events to the stream, in order."""
        try:
            async with self.redis.pipeline(transaction=True) as pipeline:
                for event in events:
                    pipeline.xadd(STREAM, {"kind": event.kind, "order": event.order}, maxlen=KEPT, approximate=True)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            raise DependencyUnavailable("redis", repr(error)) from error


class Subscription:
    """One service's place in the stream. An event comes again until it is acknowledged: at least once."""

    def __init__(self, events: Events, group: str) -> None:
        self.redis, self.group = events.redis, group
        self.joined = False
        self.place = NOT_ACKNOWLEDGED

    async def next_events(self) -> list[OrderEvent]:
        """The next events, waiting a moment for them; after every batch, what of it was not acknowledged comes again."""
        try:
            await self._join()
            answer: Any = await self.redis.xreadgroup(
                self.group,
                self.group,
                {STREAM: self.place},
                count=100,
                block=int(SECONDS_TO_WAIT_FOR_EVENTS * 1000),
            )
        except (RedisError, OSError) as error:
            self.joined, self.place = False, NOT_ACKNOWLEDGED
            raise DependencyUnavailable("redis", repr(error)) from error
        entries = [entry for _, entries in answer for entry in entries]
        found = [OrderEvent(fields.get("kind", ""), fields.get("order", ""), place) for place, fields in entries]
        self.place = NOT_ACKNOWLEDGED if found else NEW
        return found

    async def acknowledge(self, events: list[OrderEvent]) -> None:
        """These events were dealt with."""
        try:
            await self.redis.xack(STREAM, self.group, *(event.position for event in events))
        except (RedisError, OSError) as error:
            raise DependencyUnavailable("redis", repr(error)) from error

    async def _join(self) -> None:
        if self.joined:
            return
        try:
            await self.redis.xgroup_create(STREAM, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self.joined = True
