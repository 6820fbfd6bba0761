"""The sample system as a made-up history knows it: its edges, its journeys, how quick they usually are."""

from __future__ import annotations

from typing import Any

JOURNEYS = {
    "browse": "GET /catalog",
    "place order": "POST /orders",
    "read order": "GET /orders/:id",
    "track shipment": "GET /shipments/:id",
}
WEIGHTS = {"browse": 0.4, "place order": 0.3, "read order": 0.2, "track shipment": 0.1}
USUAL_SECONDS = {"browse": 0.008, "place order": 0.030, "read order": 0.010, "track shipment": 0.009}

WAYS = {
    "browse": ("client -> gateway", "gateway -> inventory", "inventory -> postgres"),
    "place order": (
        "client -> gateway",
        "gateway -> order",
        "order -> payment",
        "payment -> postgres",
        "order -> inventory",
        "inventory -> postgres",
        "order -> shipping",
        "shipping -> postgres",
        "order -> postgres",
        "order -> redis",
    ),
    "read order": ("client -> gateway", "gateway -> order", "order -> postgres"),
    "track shipment": ("client -> gateway", "gateway -> shipping", "shipping -> postgres"),
}
"""The edges that one request of a journey passes, outermost first."""

SERVICES = ("gateway", "order", "payment", "inventory", "shipping", "postgres", "redis")
PORTS = {"postgres": (5432, "postgresql"), "redis": (6379, "redis")}
EDGES = tuple(dict.fromkeys((*(edge for way in WAYS.values() for edge in way), "shipping -> redis")))

FALLBACK = "shipping-deferred"
INVARIANT = "every paid order is shipped or refunded"


def edge_data(name: str) -> dict[str, Any]:
    """One edge as plain data."""
    caller, callee = name.split(" -> ")
    port, protocol = PORTS.get(callee, (8000, "http"))
    return {"name": name, "caller": caller, "callee": callee, "port": port, "protocol": protocol, "read_from": "compose.yaml"}


SYSTEM: dict[str, Any] = {
    "services": list(SERVICES),
    "entry": "gateway",
    "edges": [edge_data(name) for name in EDGES],
    "journeys": JOURNEYS,
    "fallbacks": {
        FALLBACK: {
            "for": "order -> shipping",
            "journeys": ["place order"],
            "marker": {"header": "X-Fallback", "equals": FALLBACK},
            "counter": {"service": "order", "metric": f'fallback_total{{name="{FALLBACK}"}}'},
        }
    },
    "invariants": {
        INVARIANT: {
            "sql": {"service": "postgres", "database": "orders", "file": "invariants/paid.sql"},
            "equals": 0,
            "over": {"min": 50},
        }
    },
}
