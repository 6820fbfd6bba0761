"""Order books with a planted bug: see defects.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from sample_system.database import Database
from sample_system.events import Events, OrderEvent
from sample_system.order_book import TOLD_AS, OrderBook
from sample_system.saga import Order, Status
from sample_system.unavailable import DependencyUnavailable

log = logging.getLogger(__name__)


class BookInMemory(OrderBook):
    """Of what it wrote down it takes up again only what it remembers."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.remembered: set[str] = set()

    async def create(self, sku: str, quantity: int) -> Order:
        """A new order."""
        order = await super().create(sku, quantity)
        self.remembered.add(order.id)
        return order

    async def take_up(self, statuses: Collection[Status], at_most: int) -> list[Order]:
        """Orders whose time has come, but for those of an earlier life of this process."""
        return [order for order in await super().take_up(statuses, at_most) if order.id in self.remembered]


class BookWithoutOutbox(OrderBook):
    """Tells what became of an order once that is written down; nobody looks into the outbox for what could not be told."""

    def __init__(self, database: Database, events: Events) -> None:
        super().__init__(database)
        self.events = events
        self.being_told: set[asyncio.Task[None]] = set()

    async def move(self, order: Order, to: Status, *, amount: int | None = None) -> Order:
        """Write down that an order has moved on, and tell it beside that."""
        moved = await super().move(order, to, amount=amount)
        if moved.status is to and to in TOLD_AS:
            telling = asyncio.create_task(self._tell(OrderEvent(TOLD_AS[to], order.id)))
            self.being_told.add(telling)
            telling.add_done_callback(self.being_told.discard)
        return moved

    async def _tell(self, event: OrderEvent) -> None:
        try:
            await self.events.publish([event])
        except DependencyUnavailable as away:
            log.warning("an event was lost", extra={"dependency": away.dependency, "reason": away.reason})
