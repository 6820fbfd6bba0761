"""The bugs that can be planted, each by name, in the environment of one service: `DEFECTS=no_timeout,no_fallback`.

Without them the system is as sound as we can make it. Each exists to show that a scenario can say no.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Defect(Enum):
    """One planted bug: its name, the service that it lives in, and what it does."""

    NO_FALLBACK = ("no_fallback", "order", "an order fails when shipping is away, instead of being shipped later")
    SILENT_FALLBACK = ("silent_fallback", "order", "a shipment is deferred, and neither the answer nor a counter says so")
    NO_TIMEOUT = ("no_timeout", "order", "shipping is waited for without any limit")
    FORGETS_DEFERRED = ("forgets_deferred", "order", "a deferred shipment is never done")
    SAGA_IN_MEMORY = ("saga_in_memory", "order", "which orders are under way is known to the process alone, and ends with it")
    NO_REFUND = ("no_refund", "order", "an order whose charge was not answered is cancelled as if nothing had been charged")
    NON_IDEMPOTENT_CHARGE = (
        "non_idempotent_charge",
        "order",
        "each try of a charge has an idempotency key of its own, so that payment takes the second for another charge",
    )
    NO_RETRY = ("no_retry", "order", "payment is asked once, and an order fails with that")
    RETRY_STORM = ("retry_storm", "order", "payment is asked twenty times before it is given up")
    STICKY_FALLBACK = ("sticky_fallback", "order", "once shipping has failed, every shipment is deferred from then on")
    NO_QUERY_TIMEOUT = ("no_query_timeout", "order", "its database is waited for without any limit")
    NO_OUTBOX = ("no_outbox", "order", "what became of an order is told directly, and nobody keeps what could not be told")
    AT_MOST_ONCE = ("at_most_once", "inventory", "what became of orders is acknowledged before it is dealt with")
    NO_BULKHEAD = ("no_bulkhead", "gateway", "calls of all backends wait in one queue, for thirty turns in all")
    GATEWAY_AWAITS_ALL = (
        "gateway_awaits_all",
        "gateway",
        "every request waits until all backends have said that they are well",
    )

    def __init__(self, title: str, service: str, effect: str) -> None:
        self.title, self.service, self.effect = title, service, effect


class UnknownDefect(ValueError):
    """A name in DEFECTS that is no defect of this service: acting on nothing would look like being sound."""


def planted(service: str, environment: Mapping[str, str]) -> frozenset[Defect]:
    """The defects that the environment of a service asks for."""
    names = {name.strip() for name in environment.get("DEFECTS", "").split(",") if name.strip()}
    own = {defect.title: defect for defect in Defect if defect.service == service}
    if unknown := sorted(names - own.keys()):
        known = ", ".join(own) or "none"
        raise UnknownDefect(f"DEFECTS: expected defects of {service} ({known}), found {', '.join(unknown)}")
    return frozenset(own[name] for name in names)
