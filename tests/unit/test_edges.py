"""Services named in the values of an environment are found, and nothing else is."""

from __future__ import annotations

import pytest

from harness.model.edges import find_mentions

SERVICES = ("shipping", "postgres", "redis", "kafka1", "kafka2", "a")


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("SHIPPING_URL", "http://shipping:8000/x", [("shipping", 8000, "http", "shipping:8000")]),
        ("SHIPPING_URL", "http://shipping", [("shipping", None, "http", "shipping")]),
        ("D", "postgresql://order:pw@postgres:5432/orders", [("postgres", 5432, "postgresql", "postgres:5432")]),
        ("D", "postgresql+asyncpg://a:redis@postgres/orders", [("postgres", None, "postgresql", "postgres")]),
        ("CACHE", "redis:6379", [("redis", 6379, "redis", "redis:6379")]),
        ("REDIS_HOST", "redis", [("redis", None, "tcp", "redis")]),
        ("K", "kafka1:9092,kafka2:9092", [("kafka1", 9092, "tcp", "kafka1:9092"), ("kafka2", 9092, "tcp", "kafka2:9092")]),
        ("K", "mongodb://u:p@kafka1:1,kafka2:2/db", [("kafka1", 1, "tcp", "kafka1:1"), ("kafka2", 2, "tcp", "kafka2:2")]),
    ],
)
def test_a_service_is_found_where_a_value_leads_to_it(variable: str, value: str, found: list[tuple[object, ...]]) -> None:
    mentions = find_mentions(variable, value, SERVICES)

    assert [(m.service, m.port, m.protocol, value[m.start : m.end]) for m in mentions] == found


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POSTGRES_USER", "postgres"),
        ("CACHE", "redis"),
        ("URL", "http://example.org/redis:6379"),
        ("URL", "http://redis.example.org:6379/"),
        ("PASSWORD", "postgresql://redis:shipping@example.org/postgres"),
        ("TEXT", "a shipping of goods"),
        ("EMPTY", ""),
    ],
)
def test_a_word_that_only_looks_like_a_service_is_left_alone(variable: str, value: str) -> None:
    assert find_mentions(variable, value, SERVICES) == ()
