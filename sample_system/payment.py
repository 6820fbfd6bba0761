"""Charges orders, each once, however often it is asked to."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sample_system.database import Database
from sample_system.serving import application, serve, setting

SCHEMA = """
    CREATE TABLE IF NOT EXISTS charges (
        key text PRIMARY KEY,
        order_id text NOT NULL,
        amount integer NOT NULL,
        status text NOT NULL CHECK (status IN ('CHARGED', 'REFUNDED')),
        at timestamptz NOT NULL DEFAULT now()
    )
"""

CHARGE = """
    INSERT INTO charges (key, order_id, amount, status) VALUES ($1, $2, $3, 'CHARGED')
    ON CONFLICT (key) DO NOTHING RETURNING status
"""
STATUS = "SELECT status FROM charges WHERE key = $1"
REFUND = """
    INSERT INTO charges (key, order_id, amount, status) VALUES ($1, $2, 0, 'REFUNDED')
    ON CONFLICT (key) DO UPDATE SET status = 'REFUNDED' RETURNING status
"""
"""A refund of what was not charged yet is kept too: should the charge still be under way, it will find it and not be made."""


class Payment:
    """Of requests with one idempotency key only the first is carried out; which order it is for is written down beside it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def charge(self, request: Request) -> Response:
        """Charge, or say what became of the charge with this key."""
        key, wanted = request.headers["idempotency-key"], await request.json()
        charged = await self.database.row(CHARGE, key, wanted["order"], wanted["amount"])
        row = charged or await self.database.row(STATUS, key)
        status = row["status"] if row else "UNKNOWN"
        return JSONResponse({"status": status}, 201 if status == "CHARGED" else 409)

    async def refund(self, request: Request) -> Response:
        """Give back what was charged with this key."""
        await self.database.row(REFUND, request.headers["idempotency-key"], (await request.json())["order"])
        return JSONResponse({"status": "REFUNDED"}, 201)

    def routes(self) -> list[Route]:
        """What payment can be asked."""
        return [Route("/charges", self.charge, methods=["POST"]), Route("/refunds", self.refund, methods=["POST"])]


def main() -> None:
    """Run the service."""
    database = Database(setting("DATABASE_URL"), SCHEMA)
    serve("payment", application(Payment(database).routes(), parts=[database], ready=lambda: database.ready))


if __name__ == "__main__":
    main()
