"""A small system and a scenario for it, written into a folder: what tests of reading and planning start from."""

from __future__ import annotations

from pathlib import Path

COMPOSE = """\
services:
  gateway:
    image: gateway
    environment:
      ORDER_URL: http://order:8000
    expose: ["8000"]
  order:
    image: order
    environment:
      DATABASE_URL: postgresql://order:secret@postgres/orders
      SHIPPING_URL: http://shipping:8000
      REDIS_HOST: redis
    expose: ["8000"]
  shipping:
    image: shipping
    expose: ["8000"]
  postgres:
    image: postgres
    expose: ["5432"]
  redis:
    image: redis
    expose: ["6379"]
"""

SYSTEM = """\
version: 1
compose: compose.yaml
entry: gateway
load: {rate: 60/s}
journeys:
  place order: POST /orders
  browse: GET /catalog
fallbacks:
  shipping-deferred:
    for: order -> shipping
    journeys: [place order]
    marker: {header: X-Fallback, equals: shipping-deferred}
invariants:
  every order is shipped: {sql: {service: postgres, database: orders, file: paid.sql}, over: {min: 50}}
local:
  postgres: {provided: postgresql, databases: [orders]}
  redis: {provided: redis}
  gateway: {command: "{python} gateway.py {host} {port}"}
  order: {command: "{python} order.py {host} {port}"}
  shipping: {command: "{python} shipping.py {host} {port}"}
"""

SCENARIO = """\
version: 1
question: Can customers still order when shipping refuses every connection?
system: .
faults:
  - outage: {service: shipping}
expect:
  - blast_radius: {may_degrade: [place order]}
  - fallback: shipping-deferred
  - recovery: {within: 10s}
"""


def write_system(folder: Path, *, scenario: str = SCENARIO, system: str = SYSTEM, compose: str = COMPOSE) -> Path:
    """Write all files of a system and one scenario for it; the scenario's path."""
    (folder / "compose.yaml").write_text(compose, encoding="utf-8")
    (folder / "system.yaml").write_text(system, encoding="utf-8")
    (folder / "locustfile.py").write_text("from locust import HttpUser\n", encoding="utf-8")
    (folder / "paid.sql").write_text("SELECT 0 AS value, 100 AS over\n", encoding="utf-8")
    path = folder / "scenario.yaml"
    path.write_text(scenario, encoding="utf-8")
    return path
