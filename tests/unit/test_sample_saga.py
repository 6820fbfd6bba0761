"""What the sample system's order goes through, with neighbours that are there, away, or say no."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from sample_system.defects import Defect
from sample_system.dependency import Answer
from sample_system.saga import ANSWERED, ENDED, MOVES, Order, Saga, Status
from sample_system.unavailable import DependencyUnavailable, pause_after

UNFINISHED = sorted(set(Status) - ENDED)


class MemoryBook:
    """Keeps orders in memory, and every status that they had."""

    def __init__(self, *orders: Order) -> None:
        self.orders = {order.id: order for order in orders}
        self.past = [order.status for order in orders]
        self.refunded: set[str] = set()

    async def note_refund(self, order: Order) -> None:
        self.refunded.add(order.id)

    async def move(self, order: Order, to: Status, *, amount: int | None = None) -> Order:
        assert to in MOVES[order.status]
        if self.orders[order.id].status is order.status:
            self.orders[order.id] = replace(order, status=to, amount=order.amount if amount is None else amount)
            self.past.append(to)
        return self.orders[order.id]


@dataclass
class Neighbour:
    """A service that keeps what it was asked to do, by key; it may be away, lose its answers, or say no."""

    name: str
    answer: dict[str, Any] = field(default_factory=dict)
    away: bool = False
    loses_answers: bool = False
    refuses: bool = False
    done: list[tuple[str, str]] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None, *, key: str = "", deadline: float | None = None) -> Answer:
        if self.away:
            raise DependencyUnavailable(self.name, "refused")
        if self.refuses and path != "/refunds":
            return Answer(409, {}, b"{}")
        effect = (path, key or body["order"])
        if effect not in self.done:
            self.done.append(effect)
        if self.loses_answers and path != "/refunds":
            raise DependencyUnavailable(self.name, "did not answer in time", timed_out=True)
        return Answer(201, {}, json.dumps(self.answer).encode())


@dataclass
class Shop:
    """A saga with its neighbours, and one order."""

    status: Status = Status.CREATED
    defects: frozenset[Defect] = frozenset()
    inventory: Neighbour = field(default_factory=lambda: Neighbour("inventory", {"price": 400}))
    payment: Neighbour = field(default_factory=lambda: Neighbour("payment"))
    shipping: Neighbour = field(default_factory=lambda: Neighbour("shipping"))

    def __post_init__(self) -> None:
        self.order = Order("order-1", "tea", 3, None if self.status is Status.CREATED else 1200, self.status)
        self.book = MemoryBook(self.order)
        neighbours: Any = (self.inventory, self.payment, self.shipping)
        self.saga = Saga(self.book, *neighbours, defects=self.defects)

    @property
    def now(self) -> Order:
        return self.book.orders["order-1"]

    def place(self) -> Order:
        return asyncio.run(self.saga.advance(self.now, until=ANSWERED))

    def resume(self) -> Order:
        return asyncio.run(self.saga.advance(self.now, until=ENDED))


def test_an_order_is_reserved_then_paid_then_shipped() -> None:
    shop = Shop()

    order = shop.place()

    assert shop.book.past == [Status.CREATED, Status.RESERVED, Status.PAID, Status.SHIPPED]
    assert order.amount == 1200
    assert shop.payment.done == [("/charges", "order-1")]


def test_when_shipping_is_away_the_order_is_accepted_and_its_shipment_deferred() -> None:
    shop = Shop()
    shop.shipping.away = True

    assert shop.place().status is Status.SHIPMENT_DEFERRED


def test_a_deferred_shipment_waits_for_shipping_and_is_done_once_it_is_back() -> None:
    shop = Shop(Status.SHIPMENT_DEFERRED)
    shop.shipping.away = True
    with pytest.raises(DependencyUnavailable, match="shipping"):
        shop.resume()

    shop.shipping.away = False

    assert shop.resume().status is Status.SHIPPED
    assert shop.shipping.done == [("/shipments", "order-1")]


@pytest.mark.parametrize("trouble", ["away", "loses_answers"])
def test_when_inventory_is_away_the_order_fails_and_nothing_is_charged(trouble: str) -> None:
    shop = Shop()
    setattr(shop.inventory, trouble, True)

    with pytest.raises(DependencyUnavailable, match="inventory"):
        shop.place()

    assert shop.now.status is Status.CANCELLED
    assert shop.payment.done == []


@pytest.mark.parametrize("trouble", ["away", "loses_answers"])
def test_when_payment_is_away_the_order_fails_and_a_charge_that_went_through_is_refunded(trouble: str) -> None:
    shop = Shop()
    setattr(shop.payment, trouble, True)
    with pytest.raises(DependencyUnavailable, match="payment"):
        shop.place()
    assert shop.now.status is Status.CANCELLING

    shop.payment.away = False

    assert shop.resume().status is Status.CANCELLED
    assert shop.payment.done[-1] == ("/refunds", "order-1")
    assert shop.book.refunded == {"order-1"}


def test_a_refund_that_payment_does_not_confirm_is_not_written_down_and_the_order_goes_on_being_cancelled() -> None:
    shop = Shop(Status.CANCELLING)
    shop.payment.away = True

    with pytest.raises(DependencyUnavailable, match="payment"):
        shop.resume()

    assert shop.now.status is Status.CANCELLING
    assert shop.book.refunded == set()


def test_without_refunds_an_order_whose_charge_was_not_answered_is_cancelled_and_stays_charged() -> None:
    shop = Shop(defects=frozenset({Defect.NO_REFUND}))
    shop.payment.loses_answers = True
    with pytest.raises(DependencyUnavailable, match="payment"):
        shop.place()

    assert shop.resume().status is Status.CANCELLED
    assert shop.payment.done == [("/charges", "order-1")]
    assert shop.book.refunded == set()


@pytest.mark.parametrize(("who", "refunded"), [("inventory", False), ("payment", True), ("shipping", True)])
def test_when_a_neighbour_says_no_the_order_is_cancelled(who: str, refunded: bool) -> None:
    shop = Shop()
    getattr(shop, who).refuses = True

    shop.place()

    assert shop.resume().status is Status.CANCELLED
    assert (("/refunds", "order-1") in shop.payment.done) is refunded


@pytest.mark.parametrize("status", UNFINISHED)
def test_an_order_left_half_way_is_taken_to_its_end(status: Status) -> None:
    shop = Shop(status)

    assert shop.resume().status in ENDED


def test_an_order_that_somebody_else_has_moved_meanwhile_goes_on_from_there() -> None:
    shop = Shop(Status.PAID)
    stale = shop.now
    asyncio.run(shop.book.move(stale, Status.SHIPMENT_DEFERRED))

    order = asyncio.run(shop.saga.advance(stale, until=ENDED))

    assert order.status is Status.SHIPPED
    assert shop.book.past == [Status.PAID, Status.SHIPMENT_DEFERRED, Status.SHIPPED]


def test_without_a_fallback_an_order_fails_with_shipping_and_is_refunded() -> None:
    shop = Shop(defects=frozenset({Defect.NO_FALLBACK}))
    shop.shipping.away = True
    with pytest.raises(DependencyUnavailable, match="shipping"):
        shop.place()

    assert shop.resume().status is Status.CANCELLED
    assert shop.payment.done == [("/charges", "order-1"), ("/refunds", "order-1")]


@pytest.mark.parametrize(
    ("defects", "reached"),
    [(frozenset(), Status.SHIPPED), (frozenset({Defect.STICKY_FALLBACK}), Status.SHIPMENT_DEFERRED)],
    ids=["sound", "sticky"],
)
def test_shipping_is_asked_for_the_next_order_again_unless_the_fallback_sticks(
    defects: frozenset[Defect], reached: Status
) -> None:
    shop = Shop(defects=defects)
    shop.shipping.away = True
    assert shop.place().status is Status.SHIPMENT_DEFERRED
    shop.shipping.away = False

    following = Order("order-2", "tea", 1, None, Status.CREATED)
    shop.book.orders[following.id] = following

    assert asyncio.run(shop.saga.advance(following, until=ANSWERED)).status is reached
    assert shop.resume().status is Status.SHIPPED


def test_every_status_can_be_reached_and_leads_to_an_end() -> None:
    def reached(start: Status, moves: Callable[[Status], frozenset[Status]]) -> set[Status]:
        seen, ahead = {start}, [start]
        while ahead:
            new = moves(ahead.pop()) - seen
            seen |= new
            ahead += new
        return seen

    assert reached(Status.CREATED, MOVES.__getitem__) == set(Status)
    assert all(reached(status, MOVES.__getitem__) & ENDED for status in Status)


def test_a_paid_order_ends_shipped_or_by_way_of_a_refund() -> None:
    after_payment = {Status.PAID, Status.SHIPMENT_DEFERRED}

    onward = {to for status in after_payment for to in MOVES[status]} - after_payment

    assert onward == {Status.SHIPPED, Status.CANCELLING}


def test_pauses_grow_and_never_exceed_a_second() -> None:
    longest = [max(pause_after(failures) for _ in range(50)) for failures in (1, 2, 3, 1000)]

    assert longest == sorted(longest)
    assert longest[0] <= 0.1
    assert longest[-1] <= 1.0
