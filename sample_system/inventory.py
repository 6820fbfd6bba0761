"""Knows what there is, and holds it for an order until the order has ended."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager

import asyncpg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sample_system.background import Repeatedly
from sample_system.database import Database
from sample_system.defects import Defect, planted
from sample_system.events import Events, Subscription
from sample_system.serving import application, serve, setting

SCHEMA = """
    CREATE TABLE IF NOT EXISTS stock (
        sku text PRIMARY KEY,
        price integer NOT NULL,
        delivered integer NOT NULL,
        available integer NOT NULL CHECK (available >= 0)
    );
    CREATE TABLE IF NOT EXISTS reservations (
        order_id text PRIMARY KEY,
        sku text,
        quantity integer NOT NULL,
        status text NOT NULL CHECK (status IN ('HELD', 'GONE', 'RELEASED'))
    );
    INSERT INTO stock (sku, price, delivered, available)
        SELECT sku, price, 100000000, 100000000
        FROM (VALUES ('tea', 420), ('coffee', 690), ('cocoa', 510), ('honey', 880),
                     ('biscuits', 350), ('jam', 470), ('pot', 2900), ('mug', 1200)) AS goods (sku, price)
    ON CONFLICT DO NOTHING;
"""

CATALOG = "SELECT sku, price, available FROM stock ORDER BY sku"
RESERVE = """
    WITH taken AS (
        UPDATE stock SET available = available - $3
        WHERE sku = $2 AND available >= $3 AND NOT EXISTS (SELECT FROM reservations WHERE order_id = $1)
        RETURNING price
    ),
    held AS (INSERT INTO reservations (order_id, sku, quantity, status) SELECT $1, $2, $3, 'HELD' FROM taken)
    SELECT price FROM taken
"""
HELD = "SELECT price FROM reservations JOIN stock USING (sku) WHERE order_id = $1 AND status <> 'RELEASED'"
TAKE_AWAY = "UPDATE reservations SET status = 'GONE' WHERE order_id = ANY($1) AND status = 'HELD'"
RELEASE = """
    WITH released AS (
        INSERT INTO reservations (order_id, quantity, status) VALUES ($1, 0, 'RELEASED')
        ON CONFLICT (order_id) DO UPDATE SET status = 'RELEASED' WHERE reservations.status = 'HELD'
        RETURNING sku, quantity
    )
    UPDATE stock SET available = available + released.quantity FROM released WHERE stock.sku = released.sku
"""
"""A release of what was not reserved yet is kept too: should the reservation still be under way, it will find it."""


class Inventory:
    """Asked by order to reserve, by customers, through the gateway, for the catalog; told by events how orders ended."""

    def __init__(self, database: Database, orders: Subscription, *, defects: frozenset[Defect]) -> None:
        self.database, self.orders = database, orders
        self.at_most_once = Defect.AT_MOST_ONCE in defects

    async def catalog(self, _: Request) -> Response:
        """What there is."""
        return JSONResponse([dict(row) for row in await self.database.rows(CATALOG)])

    async def reserve(self, request: Request) -> Response:
        """Hold stock for an order; asked again for the same order, it is the same reservation."""
        wanted = await request.json()
        row = await self._reserve(wanted["order"], wanted["sku"], wanted["quantity"])
        return JSONResponse({"error": "not available"}, 409) if row is None else JSONResponse({"price": row["price"]}, 201)

    async def _reserve(self, order: str, sku: str, quantity: int) -> asyncpg.Record | None:
        try:
            reserved = await self.database.row(RESERVE, order, sku, quantity)
        except asyncpg.UniqueViolationError:  # the same request, at the same time
            reserved = None
        return reserved or await self.database.row(HELD, order)

    async def follow_orders(self) -> bool:
        """Let stock go with orders that were shipped, and take it back from orders that were cancelled."""
        events = await self.orders.next_events()
        if not events:
            return False
        if self.at_most_once:
            await self.orders.acknowledge(events)
        await self.database.rows(TAKE_AWAY, [event.order for event in events if event.kind == "shipped"])
        for event in events:
            if event.kind == "cancelled":
                await self.database.rows(RELEASE, event.order)
        if not self.at_most_once:
            await self.orders.acknowledge(events)
        return True

    def routes(self) -> list[Route]:
        """What inventory can be asked."""
        return [Route("/catalog", self.catalog), Route("/reservations", self.reserve, methods=["POST"])]


def main() -> None:
    """Run the service."""
    database, events = Database(setting("DATABASE_URL"), SCHEMA), Events(setting("REDIS_URL"))
    inventory = Inventory(database, Subscription(events, "inventory"), defects=planted("inventory", os.environ))
    parts: list[AbstractAsyncContextManager[object]] = [database, events, Repeatedly(inventory.follow_orders, idle=0.0)]
    serve("inventory", application(inventory.routes(), parts=parts, ready=lambda: database.ready))


if __name__ == "__main__":
    main()
