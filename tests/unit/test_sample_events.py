"""How the sample system tells and hears what became of orders, and what it takes up again, sound and with planted bugs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sample_system.defects import Defect
from sample_system.events import OrderEvent
from sample_system.flawed_books import BookInMemory, BookWithoutOutbox
from sample_system.inventory import RELEASE, TAKE_AWAY, Inventory
from sample_system.order_book import CREATE, FIND, MOVE, TAKE_UP, OrderBook
from sample_system.saga import Order, Status
from sample_system.unavailable import DependencyUnavailable

SHIPPED, CANCELLED = OrderEvent("shipped", "order-1", "1-0"), OrderEvent("cancelled", "order-2", "2-0")


class MemoryDatabase:
    """Answers every statement with the rows it was given for it, and keeps what it was asked; it may be away."""

    def __init__(self) -> None:
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.away = False

    async def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        if self.away:
            raise DependencyUnavailable("postgres", "refused")
        self.asked.append((statement, values))
        return self.answers.get(statement, [])

    async def row(self, statement: str, *values: Any) -> dict[str, Any] | None:
        found = await self.rows(statement, *values)
        return found[0] if found else None


class MemoryStream:
    """A place in the stream: what is not acknowledged comes again."""

    def __init__(self, *events: OrderEvent) -> None:
        self.waiting = list(events)

    async def next_events(self) -> list[OrderEvent]:
        return list(self.waiting)

    async def acknowledge(self, events: list[OrderEvent]) -> None:
        self.waiting = [event for event in self.waiting if event not in events]


class MemoryBroker:
    """Keeps what was published; it may be away."""

    def __init__(self) -> None:
        self.published: list[OrderEvent] = []
        self.away = False

    async def publish(self, events: list[OrderEvent]) -> None:
        if self.away:
            raise DependencyUnavailable("redis", "refused")
        self.published += events


def row(order: str, status: Status) -> dict[str, Any]:
    return {"id": order, "sku": "tea", "quantity": 1, "amount": 420, "status": status.value}


def inventory_with(database: MemoryDatabase, stream: MemoryStream, *defects: Defect) -> Inventory:
    shared: Any = (database, stream)
    return Inventory(*shared, defects=frozenset(defects))


def test_inventory_acknowledges_what_it_has_dealt_with() -> None:
    database, stream = MemoryDatabase(), MemoryStream(SHIPPED, CANCELLED)

    assert asyncio.run(inventory_with(database, stream).follow_orders())

    assert database.asked == [(TAKE_AWAY, (["order-1"],)), (RELEASE, ("order-2",))]
    assert stream.waiting == []


def test_what_inventory_cannot_deal_with_comes_again() -> None:
    database, stream = MemoryDatabase(), MemoryStream(SHIPPED, CANCELLED)
    database.away = True
    inventory = inventory_with(database, stream)

    with pytest.raises(DependencyUnavailable, match="postgres"):
        asyncio.run(inventory.follow_orders())

    assert stream.waiting == [SHIPPED, CANCELLED]


def test_at_most_once_loses_what_inventory_cannot_deal_with() -> None:
    database, stream = MemoryDatabase(), MemoryStream(SHIPPED, CANCELLED)
    database.away = True
    inventory = inventory_with(database, stream, Defect.AT_MOST_ONCE)

    with pytest.raises(DependencyUnavailable, match="postgres"):
        asyncio.run(inventory.follow_orders())

    assert stream.waiting == []


def book_on(kind: type[OrderBook], database: MemoryDatabase, *more: object) -> OrderBook:
    given: Any = (database, *more)
    return kind(*given)


@pytest.mark.parametrize(("kind", "taken_up"), [(OrderBook, ["placed", "earlier"]), (BookInMemory, ["placed"])])
def test_after_a_crash_only_a_book_that_is_not_in_memory_takes_up_what_was_left(
    kind: type[OrderBook], taken_up: list[str]
) -> None:
    database = MemoryDatabase()
    database.answers = {
        CREATE: [row("placed", Status.CREATED)],
        TAKE_UP: [row("placed", Status.CREATED), row("earlier", Status.PAID)],
    }
    book = book_on(kind, database)

    async def place_and_take_up() -> list[Order]:
        await book.create("tea", 1)
        return await book.take_up(set(Status), 6)

    assert [order.id for order in asyncio.run(place_and_take_up())] == taken_up


def moved_without_outbox(to: Status, found: Status, broker: MemoryBroker) -> Order:
    """An order, PAID so far, is to move; afterwards it is found with another status, by whomever."""
    database = MemoryDatabase()
    database.answers[MOVE[to] if to is found else FIND] = [row("order-1", found)]
    book = book_on(BookWithoutOutbox, database, broker)

    async def move() -> Order:
        order = await book.move(Order("order-1", "tea", 1, 420, Status.PAID), to)
        await asyncio.sleep(0)
        return order

    return asyncio.run(move())


def test_without_an_outbox_what_became_of_an_order_is_told_at_once() -> None:
    broker = MemoryBroker()

    moved_without_outbox(Status.SHIPPED, Status.SHIPPED, broker)

    assert broker.published == [OrderEvent("shipped", "order-1")]


def test_without_an_outbox_what_cannot_be_told_is_lost_and_the_order_goes_on() -> None:
    broker = MemoryBroker()
    broker.away = True

    assert moved_without_outbox(Status.SHIPPED, Status.SHIPPED, broker).status is Status.SHIPPED
    assert broker.published == []


@pytest.mark.parametrize(
    ("to", "found"), [(Status.SHIPMENT_DEFERRED, Status.SHIPMENT_DEFERRED), (Status.SHIPPED, Status.CANCELLING)]
)
def test_nothing_is_told_of_a_move_that_is_no_end_or_was_somebody_elses(to: Status, found: Status) -> None:
    broker = MemoryBroker()

    moved_without_outbox(to, found, broker)

    assert broker.published == []
