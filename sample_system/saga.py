"""What an order goes through, step by step, and what happens when a step cannot be done.

CREATED ──reserve──▶ RESERVED ──charge──▶ PAID ──ship──▶ SHIPPED
   │                    │                  │ ╲              ▲
   ▼                    ▼                  ▼  ▶ SHIPMENT_DEFERRED   shipping is away: accepted, shipped later
CANCELLED ◀──refund── CANCELLING ◀─────────┴────────┘               shipping says no for good

Each arrow is one write in order's own database, made after the step that it stands for. Every step may be
repeated, because the order's id lets the other services recognise it; so an order that was left half-way,
by a crash or a failure, is simply taken up where its status says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, assert_never

from sample_system.defects import Defect
from sample_system.dependency import Dependency
from sample_system.unavailable import DependencyUnavailable


class Status(StrEnum):
    """How far an order has come."""

    CREATED = "CREATED"
    RESERVED = "RESERVED"
    PAID = "PAID"
    SHIPMENT_DEFERRED = "SHIPMENT_DEFERRED"
    SHIPPED = "SHIPPED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


MOVES: dict[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.RESERVED, Status.CANCELLED}),
    Status.RESERVED: frozenset({Status.PAID, Status.CANCELLING}),
    Status.PAID: frozenset({Status.SHIPPED, Status.SHIPMENT_DEFERRED, Status.CANCELLING}),
    Status.SHIPMENT_DEFERRED: frozenset({Status.SHIPPED, Status.CANCELLING}),
    Status.CANCELLING: frozenset({Status.CANCELLED}),
    Status.SHIPPED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""Where an order may go from where it is."""

ENDED = frozenset(status for status, onward in MOVES.items() if not onward)

ANSWERED = ENDED | {Status.SHIPMENT_DEFERRED, Status.CANCELLING}
"""How far an order is taken while its customer waits; the rest is done later."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order as it was last seen. `amount` is known once stock is reserved."""

    id: str
    sku: str
    quantity: int
    amount: int | None
    status: Status


class Book(Protocol):
    """Where orders are kept."""

    async def move(self, order: Order, to: Status, *, amount: int | None = None) -> Order:
        """Write down that an order has moved on, and return it; or as it is, if somebody else has moved it meanwhile."""
        ...

    async def note_refund(self, order: Order) -> None:
        """Write down that payment has said that nothing is charged for this order any more."""
        ...


class Saga:
    """Takes orders from status to status, with the help of the other services."""

    def __init__(
        self, book: Book, inventory: Dependency, payment: Dependency, shipping: Dependency, *, defects: frozenset[Defect]
    ) -> None:
        self.book, self.inventory, self.payment, self.shipping = book, inventory, payment, shipping
        self.defects = defects
        self.given_up_on_shipping = False

    async def advance(self, order: Order, *, until: frozenset[Status], deadline: float | None = None) -> Order:
        """Take an order on until it has one of these statuses.

        Raises DependencyUnavailable where it cannot get there now; what was reached by then is written down.
        """
        while order.status not in until:
            order = await self._step(order, deadline)
        return order

    async def _step(self, order: Order, deadline: float | None) -> Order:
        match order.status:
            case Status.CREATED:
                return await self._reserve(order, deadline)
            case Status.RESERVED:
                return await self._charge(order, deadline)
            case Status.PAID | Status.SHIPMENT_DEFERRED:
                return await self._ship(order, deadline)
            case Status.CANCELLING:
                return await self._refund(order)
            case Status.SHIPPED | Status.CANCELLED:
                return order
            case _:
                assert_never(order.status)

    async def _reserve(self, order: Order, deadline: float | None) -> Order:
        wanted = {"order": order.id, "sku": order.sku, "quantity": order.quantity}
        try:
            answer = await self.inventory.ask("POST", "/reservations", wanted, deadline=deadline)
        except DependencyUnavailable:
            await self.book.move(order, Status.CANCELLED)
            raise
        if answer.status != 201:
            return await self.book.move(order, Status.CANCELLED)
        return await self.book.move(order, Status.RESERVED, amount=answer.json()["price"] * order.quantity)

    async def _charge(self, order: Order, deadline: float | None) -> Order:
        try:
            wanted = {"order": order.id, "amount": order.amount}
            answer = await self.payment.ask("POST", "/charges", wanted, key=order.id, deadline=deadline)
        except DependencyUnavailable:
            # The customer is told no, and may have been charged all the same: that is undone.
            await self.book.move(order, Status.CANCELLING)
            raise
        return await self.book.move(order, Status.PAID if answer.status == 201 else Status.CANCELLING)

    async def _ship(self, order: Order, deadline: float | None) -> Order:
        if order.status is Status.PAID and self.given_up_on_shipping:
            return await self.book.move(order, Status.SHIPMENT_DEFERRED)
        patient_until = None if Defect.NO_TIMEOUT in self.defects else deadline
        try:
            answer = await self.shipping.ask("POST", "/shipments", {"order": order.id}, deadline=patient_until)
        except DependencyUnavailable:
            if order.status is Status.SHIPMENT_DEFERRED:
                raise
            if Defect.NO_FALLBACK in self.defects:
                await self.book.move(order, Status.CANCELLING)
                raise
            self.given_up_on_shipping = Defect.STICKY_FALLBACK in self.defects
            return await self.book.move(order, Status.SHIPMENT_DEFERRED)
        return await self.book.move(order, Status.SHIPPED if answer.status == 201 else Status.CANCELLING)

    async def _refund(self, order: Order) -> Order:
        if Defect.NO_REFUND not in self.defects:
            await self.payment.ask("POST", "/refunds", {"order": order.id}, key=order.id)
            await self.book.note_refund(order)
        return await self.book.move(order, Status.CANCELLED)
