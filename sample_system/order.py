"""Takes orders, and sees each through to its end: at once where it can, later where it must."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AbstractAsyncContextManager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sample_system.background import Repeatedly
from sample_system.database import Database, Limits
from sample_system.defects import Defect, planted
from sample_system.dependency import Dependency, Patience, seconds_from_now
from sample_system.events import Events
from sample_system.flawed_books import BookInMemory, BookWithoutOutbox
from sample_system.flawed_calls import KeyForEachTry
from sample_system.order_book import SCHEMA, OrderBook
from sample_system.saga import ANSWERED, ENDED, MOVES, Order, Saga, Status
from sample_system.serving import application, serve, setting
from sample_system.telemetry import FALLBACKS

JOURNEY_SECONDS = 3.0
"""How long a customer's order may take in all: two tries of a second for the last step, and some for those before."""

FALLBACK = "shipping-deferred"
DEFERRED_AT_ONCE = 6
EVENTS_AT_ONCE = 100


class Ordering:
    """What customers ask of order."""

    def __init__(self, book: OrderBook, saga: Saga, *, defects: frozenset[Defect]) -> None:
        self.book, self.saga, self.defects = book, saga, defects
        self.fallbacks = FALLBACKS.labels(name=FALLBACK, dependency="shipping")

    async def place(self, request: Request) -> Response:
        """Take an order."""
        wanted = read_wanted(await request.body())
        if wanted is None:
            return JSONResponse({"error": "expected a sku and a quantity from 1 to 100"}, 422)
        deadline = seconds_from_now(JOURNEY_SECONDS)
        order = await self.saga.advance(await self.book.create(*wanted), until=ANSWERED, deadline=deadline)
        if order.status in (Status.CANCELLING, Status.CANCELLED):
            return JSONResponse(described(order) | {"error": "declined"}, 409)
        if order.status is Status.SHIPMENT_DEFERRED and Defect.SILENT_FALLBACK not in self.defects:
            self.fallbacks.inc()
            return JSONResponse(described(order) | {"degraded": [FALLBACK]}, 201, {"X-Fallback": FALLBACK})
        return JSONResponse(described(order), 201)

    async def read(self, request: Request) -> Response:
        """How far an order has come."""
        order = await self.book.find(request.path_params["id"])
        return JSONResponse({"error": "no such order"}, 404) if order is None else JSONResponse(described(order))

    def routes(self) -> list[Route]:
        """What order can be asked."""
        return [Route("/orders", self.place, methods=["POST"]), Route("/orders/{id}", self.read)]


def read_wanted(body: bytes) -> tuple[str, int] | None:
    """What a customer wants, and how many; None where that cannot be made out."""
    try:
        wanted = json.loads(body)
        sku, quantity = wanted["sku"], wanted["quantity"]
    except (ValueError, TypeError, KeyError):
        return None
    understood = isinstance(sku, str) and isinstance(quantity, int) and 1 <= quantity <= 100
    return (sku, quantity) if understood else None


def described(order: Order) -> dict[str, object]:
    """An order, as customers see it."""
    return {"id": order.id, "sku": order.sku, "quantity": order.quantity, "amount": order.amount, "status": order.status}


class Unfinished:
    """Takes up orders that nobody is busy with, and takes them on.

    One order first, to see whether the way is clear, then several at once: a dependency that just came
    back is not run over, and one that is away is asked about once a second at most.
    """

    def __init__(self, book: OrderBook, saga: Saga, statuses: frozenset[Status], until: frozenset[Status]) -> None:
        self.book, self.saga, self.statuses, self.until = book, saga, statuses, until
        self.at_once = 1

    async def take_on(self) -> bool:
        """Take up what is due; whether there may be more."""
        at_once, self.at_once = self.at_once, 1
        orders = await self.book.take_up(self.statuses, at_once)
        results = await asyncio.gather(
            *(self.saga.advance(order, until=self.until) for order in orders), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        self.at_once = DEFERRED_AT_ONCE
        return len(orders) == at_once


class Telling:
    """Tells the others what became of orders. What is told is in the outbox first, so nothing is lost; twice is possible."""

    def __init__(self, book: OrderBook, events: Events) -> None:
        self.book, self.events = book, events

    async def tell(self) -> bool:
        """Tell the oldest events; whether there may be more."""
        untold = await self.book.untold(EVENTS_AT_ONCE)
        if untold:
            await self.events.publish(untold)
            await self.book.forget(untold)
        return len(untold) == EVENTS_AT_ONCE


def book_in(database: Database, events: Events, defects: frozenset[Defect]) -> OrderBook:
    """The book that order keeps."""
    if Defect.SAGA_IN_MEMORY in defects:
        return BookInMemory(database)
    if Defect.NO_OUTBOX in defects:
        return BookWithoutOutbox(database, events)
    return OrderBook(database)


def payment_at(url: str, defects: frozenset[Defect]) -> Dependency:
    """Payment, as order calls it."""
    tries = 1 if Defect.NO_RETRY in defects else 20 if Defect.RETRY_STORM in defects else 2
    kind = KeyForEachTry if Defect.NON_IDEMPOTENT_CHARGE in defects else Dependency
    return kind("payment", url, Patience(attempt=1.0, tries=tries))


def main() -> None:
    """Run the service."""
    defects = planted("order", os.environ)
    limits = Limits(None, None) if Defect.NO_QUERY_TIMEOUT in defects else Limits()
    database, events = Database(setting("DATABASE_URL"), SCHEMA, limits), Events(setting("REDIS_URL"))
    inventory = Dependency("inventory", setting("INVENTORY_URL"), Patience(attempt=1.0, tries=2))
    payment = payment_at(setting("PAYMENT_URL"), defects)
    shipping = Dependency(
        "shipping", setting("SHIPPING_URL"), Patience(attempt=None if Defect.NO_TIMEOUT in defects else 1.0, tries=2)
    )
    book = book_in(database, events, defects)
    saga = Saga(book, inventory, payment, shipping, defects=defects)
    half_way = Unfinished(book, saga, frozenset(MOVES) - ENDED - {Status.SHIPMENT_DEFERRED}, ENDED | {Status.SHIPMENT_DEFERRED})
    deferred = Unfinished(book, saga, frozenset({Status.SHIPMENT_DEFERRED}), ENDED)
    background = [Repeatedly(half_way.take_on)]
    if Defect.NO_OUTBOX not in defects:
        background.append(Repeatedly(Telling(book, events).tell))
    if Defect.FORGETS_DEFERRED not in defects:
        background.append(Repeatedly(deferred.take_on))
    parts: list[AbstractAsyncContextManager[object]] = [database, events, inventory, payment, shipping, *background]
    ordering = Ordering(book, saga, defects=defects)
    serve("order", application(ordering.routes(), parts=parts, ready=lambda: database.ready))


if __name__ == "__main__":
    main()
