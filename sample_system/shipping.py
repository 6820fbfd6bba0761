"""Schedules one shipment for each order, and tells where it is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sample_system.database import Database
from sample_system.serving import application, serve, setting

SCHEMA = """
    CREATE TABLE IF NOT EXISTS shipments (
        order_id text PRIMARY KEY,
        status text NOT NULL DEFAULT 'SCHEDULED',
        scheduled_at timestamptz NOT NULL DEFAULT now()
    )
"""

SCHEDULE = "INSERT INTO shipments (order_id) VALUES ($1) ON CONFLICT (order_id) DO NOTHING"
FIND = "SELECT order_id, status, scheduled_at FROM shipments WHERE order_id = $1"


class Shipping:
    """Asked by order to ship, and by customers, through the gateway, to track."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def schedule(self, request: Request) -> Response:
        """Schedule a shipment; asked again for the same order, it is the same shipment."""
        order = (await request.json())["order"]
        await self.database.row(SCHEDULE, order)
        return JSONResponse({"order": order, "status": "SCHEDULED"}, 201)

    async def track(self, request: Request) -> Response:
        """Where the shipment of an order is."""
        row = await self.database.row(FIND, request.path_params["order"])
        if row is None:
            return JSONResponse({"error": "no shipment for this order"}, 404)
        return JSONResponse({"order": row["order_id"], "status": row["status"], "scheduled": row["scheduled_at"].isoformat()})

    def routes(self) -> list[Route]:
        """What shipping can be asked."""
        return [Route("/shipments", self.schedule, methods=["POST"]), Route("/shipments/{order}", self.track)]


def main() -> None:
    """Run the service."""
    database = Database(setting("DATABASE_URL"), SCHEMA)
    serve("shipping", application(Shipping(database).routes(), parts=[database], ready=lambda: database.ready))


if __name__ == "__main__":
    main()
