"""Customers of the shop: they look around, order, and ask what became of their orders. Each task is one request."""

from __future__ import annotations

from collections import deque
from random import Random

from locust import FastHttpUser, between, task

chance = Random()  # noqa: S311 - nothing secret is drawn

SKUS = ("tea", "coffee", "cocoa", "honey", "biscuits", "jam", "pot", "mug")

placed: deque[str] = deque(maxlen=500)
"""Orders that can be read."""

shipped: deque[str] = deque(maxlen=500)
"""Orders that can be tracked: an order whose shipment is deferred has nothing to track yet."""


class Customer(FastHttpUser):
    """Whoever asks about an order before there is any places one instead."""

    wait_time = between(0.5, 1.5)

    @task(30)
    def place_order(self) -> None:
        wanted = {"sku": chance.choice(SKUS), "quantity": chance.randint(1, 3)}
        response = self.client.post("/orders", json=wanted, name="/orders")
        if response.status_code != 201:
            return
        order = response.json()
        placed.append(order["id"])
        if order["status"] == "SHIPPED":
            shipped.append(order["id"])

    @task(25)
    def read_order(self) -> None:
        self._ask_about(placed, "/orders")

    @task(25)
    def browse(self) -> None:
        self.client.get("/catalog", name="/catalog")

    @task(20)
    def track_shipment(self) -> None:
        self._ask_about(shipped, "/shipments")

    def _ask_about(self, orders: deque[str], path: str) -> None:
        if orders:
            self.client.get(f"{path}/{chance.choice(orders)}", name=f"{path}/:id")
        else:
            self.place_order()
