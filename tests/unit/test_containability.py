"""What containers cannot carry is refused where a fault aims at it, and told where none does."""

from __future__ import annotations

from typing import Any

import pytest

from harness.model.compose import Compose
from harness.model.compose_config import compose_from_config
from harness.model.containability import Uncarried, uncarried
from harness.model.edges import Edge, Protocol

PLACES = {
    ("services", "statsd"): ("compose.yaml", 20, 3),
    ("services", "statsd", "expose"): ("compose.yaml", 22, 5),
    ("services", "order", "extra_hosts"): ("compose.yaml", 9, 5),
    ("services", "agent", "network_mode"): ("compose.yaml", 30, 5),
    ("services", "kafka", "environment"): ("compose.yaml", 40, 5),
}


def composed(**services: dict[str, Any]) -> Compose:
    return compose_from_config({"services": services}, PLACES)


def edge(caller: str, callee: str, port: int = 80, protocol: Protocol = "tcp") -> Edge:
    return Edge(name=f"{caller} -> {callee}", caller=caller, callee=callee, port=port, protocol=protocol)


def struck(edge: Edge, compose: Compose, *others: Edge) -> str:
    """What is said where a fault aims at an edge."""
    found = uncarried({edge.name}, compose, [edge, *others])
    (problem,) = found.problems
    assert found.warnings == ()
    return str(problem)


UDP = composed(order={}, statsd={"expose": ["8125/udp"]})


def test_an_edge_of_udp_is_refused_where_a_fault_aims_at_it() -> None:
    assert struck(edge("order", "statsd", 8125), UDP) == (
        "compose.yaml:22:5: expected an edge that a proxy can carry, since a fault aims at order -> statsd; found that "
        "statsd shows port 8125 for UDP alone, and the proxies carry TCP: "
        "aim the fault at an edge of TCP, or strike the service itself"
    )


def test_an_edge_of_udp_that_no_fault_aims_at_is_left_as_it_is_and_told() -> None:
    statsd = edge("order", "statsd", 8125)

    assert uncarried({"order -> redis"}, UDP, [statsd]) == Uncarried(
        edges=(statsd,),
        warnings=(
            "order -> statsd has no proxy: statsd shows port 8125 for UDP alone, and the proxies carry TCP (compose.yaml:22)",
        ),
    )


def test_a_port_that_is_shown_for_both_is_carried_as_tcp() -> None:
    both = composed(order={}, consul={"expose": ["8600/udp", "8600"]})

    assert uncarried(set(), both, [edge("order", "consul", 8600)]) == Uncarried()


def test_whoever_reaches_one_port_past_the_proxy_reaches_all_of_them() -> None:
    consul = composed(order={}, consul={"expose": ["8500", "8600/udp"]})
    tcp, udp, back = edge("order", "consul", 8500), edge("order", "consul", 8600), edge("consul", "order", 80)
    tcp = tcp.model_copy(update={"name": "order -> consul:8500"})

    found = uncarried({tcp.name}, consul, [tcp, udp, back])

    assert found.edges == (tcp, udp, back)
    assert [problem.message.partition(";")[0] for problem in found.problems] == [
        "expected an edge that a proxy can carry, since a fault aims at order -> consul:8500"
    ]
    assert [warning.partition(":")[0] for warning in found.warnings] == [
        "order -> consul has no proxy",
        "consul -> order has no proxy",
    ]


@pytest.mark.parametrize("mode", ["host", "container:other", "none"])
@pytest.mark.parametrize(("caller", "callee"), [("order", "agent"), ("agent", "order")])
def test_a_network_that_is_not_composes_own_carries_no_proxy(mode: str, caller: str, callee: str) -> None:
    told = struck(edge(caller, callee), composed(order={}, agent={"network_mode": mode}))

    assert told.startswith("compose.yaml:30:5: ")
    assert f"agent has network_mode: {mode}, where nothing can be put in its way" in told
    assert told.endswith("take network_mode out of agent, or aim the fault elsewhere")


def test_the_way_in_must_be_carried_whether_or_not_a_fault_aims_at_it() -> None:
    found = uncarried(set(), composed(agent={"network_mode": "host"}), [edge("client", "agent")])

    assert [str(problem).partition(";")[0] for problem in found.problems] == [
        "compose.yaml:30:5: expected an edge that a proxy can carry, since it is the way in"
    ]


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ({"extra_hosts": ["redis=10.0.0.9"]}, "order finds redis by extra_hosts at 10.0.0.9, past any proxy"),
        ({"extra_hosts": ["cache=10.0.0.9"], "links": ["redis:cache"]}, "order finds cache by extra_hosts at 10.0.0.9"),
        ({"extra_hosts": ["store=10.0.0.2"]}, "order finds store by extra_hosts at 10.0.0.2, past any proxy"),
        ({"dns": ["10.0.0.2"]}, "order asks redis for names at its fixed address 10.0.0.2, by UDP"),
        ({"environment": {"CACHE": "redis://10.0.0.2:80"}}, "CACHE of order names 10.0.0.2, the fixed address of redis"),
    ],
)
def test_a_way_around_the_proxy_is_refused(order: dict[str, Any], told: str) -> None:
    redis = {"networks": {"n": {"ipv4_address": "10.0.0.2"}}}

    assert told in struck(edge("order", "redis"), composed(order=order, redis=redis))


@pytest.mark.parametrize(
    "order",
    [
        {"extra_hosts": ["host.docker.internal=host-gateway"]},
        {"dns": ["1.1.1.1"]},
        {"environment": {"OTHER": "redis://110.0.0.2:80", "ANOTHER": "10.0.0.22"}},
    ],
)
def test_other_hosts_and_name_servers_lead_around_nothing(order: dict[str, Any]) -> None:
    redis = {"networks": {"n": {"ipv4_address": "10.0.0.2"}}}

    assert uncarried({"order -> redis"}, composed(order=order, redis=redis), [edge("order", "redis")]) == Uncarried()


@pytest.mark.parametrize(
    ("kafka", "told"),
    [
        (
            {"environment": {"KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://localhost:9092"}},
            "kafka tells its clients by KAFKA_ADVERTISED_LISTENERS to come back to localhost:9092, past the proxy: "
            "advertise kafka:9092",
        ),
        (
            {"environment": {"KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:29092"}},
            "to come back to kafka:29092, which has no proxy: "
            "advertise kafka:9092, or declare it, as 'order -> kafka:29092' under edges: of system.yaml",
        ),
        ({"command": ["redpanda", "--advertise-kafka-addr", "PLAINTEXT://10.1.1.1:9092"]}, "come back to 10.1.1.1:9092, past"),
        ({"command": ["redis-server --replica-announce-ip 10.1.1.1 --replica-announce-port 9092"]}, "10.1.1.1, past the proxy"),
        ({"environment": {"REDIS_CLUSTER_ANNOUNCE_IP": "10.1.1.1"}}, "to come back to 10.1.1.1, past the proxy"),
        ({"environment": {"REDIS_ANNOUNCE_PORT": "7000"}}, "to come back to port 7000, which has no proxy"),
    ],
)
def test_an_address_that_clients_are_sent_to_past_the_proxy_is_refused(kafka: dict[str, Any], told: str) -> None:
    assert told in struck(edge("order", "kafka", 9092), composed(order={}, kafka=kafka))


@pytest.mark.parametrize(
    "kafka",
    [
        {"environment": {"KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:9092"}},
        {"environment": {"KAFKA_ADVERTISED_LISTENERS": "IN://kafka:9092,OUT://localhost:29092"}},
        {"environment": {"KAFKA_ADVERTISED_LISTENERS": "IN://broker:9092"}, "container_name": "broker"},
        {"command": ["--advertise-client-urls=http://kafka:9092", "--initial-advertise-peer-urls", "http://kafka:2380"]},
        {"command": ["redis-server", "--cluster-announce-hostname", "kafka", "--cluster-announce-bus-port", "19092"]},
        {},
    ],
)
def test_an_address_that_leads_back_to_the_proxy_is_carried(kafka: dict[str, Any]) -> None:
    assert uncarried(set(), composed(order={}, kafka=kafka), [edge("order", "kafka", 9092)]) == Uncarried()


def test_an_advertised_port_that_is_declared_is_carried() -> None:
    kafka = composed(order={}, kafka={"environment": {"KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:29092"}})

    assert uncarried(set(), kafka, [edge("order", "kafka", 9092), edge("order", "kafka", 29092)]) == Uncarried()
