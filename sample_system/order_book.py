"""Where orders are kept, with what is still to be told about them."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from asyncpg import Record

from sample_system.database import Database
from sample_system.events import OrderEvent
from sample_system.saga import ENDED, MOVES, Order, Status

SCHEMA = """
    CREATE TABLE IF NOT EXISTS orders (
        id text PRIMARY KEY,
        sku text NOT NULL,
        quantity integer NOT NULL,
        amount integer,
        status text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        paid_at timestamptz,
        shipped_at timestamptz,
        refunded_at timestamptz,
        resume_at timestamptz
    );
    CREATE INDEX IF NOT EXISTS orders_to_resume ON orders (resume_at) WHERE resume_at IS NOT NULL;
    CREATE TABLE IF NOT EXISTS outbox (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL,
        order_id text NOT NULL
    );
"""

ABANDONED_AFTER = "interval '5 seconds'"
"""Longer than a customer waits: an order that has not moved for so long is in nobody's hands."""

TRIED_AGAIN_AFTER = "interval '1 second'"

COLUMNS = "id, sku, quantity, amount, status"

CREATE = f"""
    INSERT INTO orders (id, sku, quantity, status, resume_at)
    VALUES ($1, $2, $3, '{Status.CREATED}', now() + {ABANDONED_AFTER}) RETURNING {COLUMNS}
"""
FIND = f"SELECT {COLUMNS} FROM orders WHERE id = $1"
TAKE_UP = f"""
    UPDATE orders SET resume_at = now() + {TRIED_AGAIN_AFTER}
    WHERE id IN (
        SELECT id FROM orders WHERE resume_at <= now() AND status = ANY($1)
        ORDER BY resume_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    RETURNING {COLUMNS}
"""
UNTOLD = "SELECT position, kind, order_id FROM outbox ORDER BY position LIMIT $1"
TOLD = "DELETE FROM outbox WHERE position = ANY($1)"

REFUNDED = "UPDATE orders SET refunded_at = now() WHERE id = $1"

NOTED = {Status.PAID: "paid_at = now()", Status.SHIPPED: "shipped_at = now()"}
"""What else is written when an order reaches a status."""

TOLD_AS = {Status.SHIPPED: "shipped", Status.CANCELLED: "cancelled"}
"""Which event tells the others that an order has reached a status."""


def _resumed_at(status: Status) -> str:
    if status in ENDED:
        return "NULL"
    later = status in (Status.SHIPMENT_DEFERRED, Status.CANCELLING)
    return "now()" if later else f"now() + {ABANDONED_AFTER}"


def move_statement(to: Status) -> str:
    """One statement, so one transaction: the order moves, if it still is where it was, and the event lies in the outbox."""
    changes = ["status = $3", "amount = coalesce($4, amount)", f"resume_at = {_resumed_at(to)}"]
    changes += [NOTED[to]] if to in NOTED else []
    told = f"INSERT INTO outbox (kind, order_id) SELECT '{TOLD_AS[to]}', id FROM moved" if to in TOLD_AS else "SELECT 1"
    return f"""
        WITH moved AS (UPDATE orders SET {", ".join(changes)} WHERE id = $1 AND status = $2 RETURNING {COLUMNS}),
             told AS ({told})
        SELECT {COLUMNS} FROM moved
    """


MOVE = {status: move_statement(status) for status in Status}


def _order(row: Record) -> Order:
    return Order(row["id"], row["sku"], row["quantity"], row["amount"], Status(row["status"]))


class OrderBook:
    """Orders in order's own database. A status is only ever replaced by one that may follow it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(self, sku: str, quantity: int) -> Order:
        """A new order."""
        return _order((await self.database.rows(CREATE, str(uuid.uuid4()), sku, quantity))[0])

    async def find(self, order: str) -> Order | None:
        """The order with this id."""
        row = await self.database.row(FIND, order)
        return None if row is None else _order(row)

    async def move(self, order: Order, to: Status, *, amount: int | None = None) -> Order:
        """Write down that an order has moved on; if somebody else has moved it meanwhile, what they wrote stands."""
        if to not in MOVES[order.status]:
            raise ValueError(f"order {order.id}: expected a status that may follow {order.status}, found {to}")
        row = await self.database.row(MOVE[to], order.id, order.status, to, amount)
        return _order(row) if row is not None else await self.find(order.id) or order

    async def note_refund(self, order: Order) -> None:
        """Write down that payment has said that nothing is charged for this order any more."""
        await self.database.rows(REFUNDED, order.id)

    async def take_up(self, statuses: Collection[Status], at_most: int) -> list[Order]:
        """Orders with one of these statuses whose time has come; nobody else gets them for a second."""
        return [_order(row) for row in await self.database.rows(TAKE_UP, list(statuses), at_most)]

    async def untold(self, at_most: int) -> list[OrderEvent]:
        """The oldest events that were not told yet."""
        rows = await self.database.rows(UNTOLD, at_most)
        return [OrderEvent(row["kind"], row["order_id"], str(row["position"])) for row in rows]

    async def forget(self, events: list[OrderEvent]) -> None:
        """These events were told."""
        await self.database.rows(TOLD, [int(event.position) for event in events])
