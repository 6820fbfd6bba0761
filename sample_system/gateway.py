"""The way in: hands each request to the service that answers it, and lets none of them hold up the others.

Every backend has a deadline and a number of calls at the same time of its own. There is no business logic here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sample_system.defects import Defect, planted
from sample_system.dependency import Dependency, Patience
from sample_system.flawed_calls import InOneQueue
from sample_system.serving import application, serve, setting

HANDED_BACK = ("content-type", "x-fallback", "retry-after")


class Gateway:
    """The backends, and the way to them."""

    def __init__(self, order: Dependency, inventory: Dependency, shipping: Dependency, *, defects: frozenset[Defect]) -> None:
        self.order, self.inventory, self.shipping = order, inventory, shipping
        self.backends = (order, inventory, shipping)
        self.awaits_all = Defect.GATEWAY_AWAITS_ALL in defects

    def routes(self) -> list[Route]:
        """Which backend answers what."""
        return [
            Route("/orders", self.to(self.order), methods=["POST"]),
            Route("/orders/{id}", self.to(self.order)),
            Route("/catalog", self.to(self.inventory)),
            Route("/shipments/{id}", self.to(self.shipping)),
        ]

    def to(self, backend: Dependency) -> Callable[[Request], Awaitable[Response]]:
        """Hand a request on as it is, and its answer back."""

        async def forward(request: Request) -> Response:
            if self.awaits_all:
                await asyncio.gather(*(each.ask("GET", "/health/live") for each in self.backends))
            content = await request.body()
            headers = {"content-type": request.headers.get("content-type", "application/json")}
            answer = await backend.send(request.method, request.url.path, content or None, headers=headers)
            handed_back = {name: answer.headers[name] for name in HANDED_BACK if name in answer.headers}
            return Response(answer.body, answer.status, handed_back)

        return forward


def main() -> None:
    """Run the service."""
    defects = planted("gateway", os.environ)
    kind = InOneQueue if Defect.NO_BULKHEAD in defects else Dependency
    gateway = Gateway(
        # Longer than order takes at worst (see order.JOURNEY_SECONDS), shorter than a client waits.
        kind("order", setting("ORDER_URL"), Patience(attempt=3.5, at_once=200)),
        kind("inventory", setting("INVENTORY_URL"), Patience(attempt=2.5)),
        kind("shipping", setting("SHIPPING_URL"), Patience(attempt=2.5)),
        defects=defects,
    )
    serve("gateway", application(gateway.routes(), parts=gateway.backends, ready=lambda: True))


if __name__ == "__main__":
    main()
