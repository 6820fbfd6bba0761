"""What Compose itself made of the user's files is taken over whole, with the places it does not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import InvalidFile, InvalidInput
from harness.model.compose import Compose, HealthCheck
from harness.model.compose_config import CONFIG, compose_from_config, places_in
from harness.model.system_reading import ReadSystem, compose_files_of, read_system
from tests.systems import SYSTEM, write_system


def composed(**services: dict[str, Any]) -> Compose:
    return compose_from_config({"name": "run", "services": services})


def test_a_dollar_sign_that_compose_escaped_is_a_dollar_sign_again() -> None:
    compose = composed(a={"environment": {"PRICE": "$$5 and $${X}", "UNSET": None}, "command": ["echo", "$$HOME"]})

    assert compose.services["a"].environment == {"PRICE": "$5 and ${X}"}
    assert compose.services["a"].command == ("echo", "$HOME")


def test_ports_are_told_apart_by_protocol_and_ranges_are_unfolded() -> None:
    service = composed(
        a={
            "ports": [
                {"mode": "ingress", "target": 80, "published": "8080", "protocol": "tcp"},
                {"mode": "ingress", "target": 53, "published": "53", "protocol": "udp"},
                {"target": 80, "published": "8081"},
            ],
            "expose": ["7000", "7001-7003", "9/udp", "80"],
        }
    ).services["a"]

    assert service.ports == (80, 7000, 7001, 7002, 7003)
    assert service.udp_ports == (53, 9)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (
            {"test": ["CMD-SHELL", "curl $$X"], "interval": "1m30s", "timeout": "2s", "start_period": "100ms", "retries": 5},
            HealthCheck(("/bin/sh", "-c", "curl $X"), 90.0, 2.0, 5, 0.1),
        ),
        ({"test": ["CMD", "true"], "interval": 2_000_000_000}, HealthCheck(("true",), interval=2.0)),
        ({"test": "true", "interval": "0s"}, HealthCheck(("/bin/sh", "-c", "true"))),
        ({"test": ["CMD", "true"], "timeout": "1h0m0.5s"}, HealthCheck(("true",), timeout=3600.5)),
        ({"test": ["NONE"]}, None),
        ({"disable": True, "test": ["CMD", "true"]}, None),
        ({"interval": "2s"}, None),
    ],
)
def test_a_health_check_is_read_as_compose_writes_it(written: dict[str, Any], read: HealthCheck | None) -> None:
    assert composed(a={"healthcheck": written}).services["a"].healthcheck == read


def test_conditions_names_and_replicas_are_kept() -> None:
    compose = composed(
        a={
            "depends_on": {"b": {"condition": "service_completed_successfully", "required": True}, "c": {}},
            "links": ["b:bee", "c"],
            "extra_hosts": ["c=1.2.3.4", "v6=::1"],
            "dns": ["10.0.0.2"],
            "deploy": {"replicas": 2},
        },
        b={"networks": {"n": {"aliases": ["bb", "b"], "ipv4_address": "10.0.0.2"}}, "scale": 3, "container_name": "one-b"},
        c={},
    )

    a, b, c = compose.services.values()
    assert a.depends_on == {"b": "service_completed_successfully", "c": "service_started"}
    assert (a.links, a.extra_hosts, a.dns) == ({"bee": "b"}, (("c", "1.2.3.4"), ("v6", "::1")), ("10.0.0.2",))
    assert (b.aliases, b.addresses) == (("one-b", "bb"), ("10.0.0.2",))
    assert (a.replicas, b.replicas, c.replicas) == (2, 3, 1)
    assert compose.names_for("a") == {"b": "b", "one-b": "b", "bb": "b", "10.0.0.2": "b", "c": "c", "bee": "b"}
    assert "bee" not in compose.names_for("c")


def test_a_service_in_anothers_network_is_at_home_there_through_however_many_steps() -> None:
    compose = composed(a={}, b={"network_mode": "service:a"}, c={"network_mode": "service:b"}, d={"network_mode": "host"})

    assert [compose.at_home(name) for name in "abcd"] == ["a", "a", "a", "d"]
    assert compose.services["d"].network_mode == "host"
    assert compose.names_for("c") == {"d": "d"}


@pytest.mark.parametrize("config", [{}, {"services": {}}, {"services": None}])
def test_a_file_without_a_service_is_refused_with_what_may_be_the_cause(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"expected at least one service, found none .*profiles"):
        compose_from_config(config)


def test_places_come_from_the_files_the_last_one_counting(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text("# first\nFROM_FILE=1\nA=2\n", encoding="utf-8")
    first, second, third = (tmp_path / name for name in ("first.yaml", "second.yaml", "third.yaml"))
    first.write_text("services:\n  a:\n    env_file: one.env\n    environment:\n      A: x\n      B: y\n", encoding="utf-8")
    second.write_text('services:\n  a:\n    environment: ["B=z"]\n    ports: ["53:53/udp"]\n', encoding="utf-8")
    third.write_text("services:\n  a:\n    ports: !reset null\n", encoding="utf-8")

    places = places_in([first, second, third, tmp_path / "none.yaml"])
    environment = {"A": "x", "B": "z", "FROM_FILE": "1", "INCLUDED": "?"}
    compose = compose_from_config({"services": {"a": {"environment": environment}}}, places)

    service = compose.services["a"]
    assert service.places == {
        "A": f"{first}:5:10",
        "B": f"{second}:3:19",
        "FROM_FILE": f"{tmp_path / 'one.env'}:2:1",
        "INCLUDED": CONFIG,
    }
    assert service.place_of("ports") == (str(second), 4, 5)
    assert service.place_of("network_mode") == (str(second), 2, 3)


def test_services_and_variables_come_in_the_order_of_the_files_those_from_elsewhere_last(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("services:\n  z:\n    environment: {Y: 1, X: 2}\n  b:\n    environment: []\n", encoding="utf-8")
    config = {"services": {"a": {}, "b": {}, "z": {"environment": {"INCLUDED": "3", "X": "2", "Y": "1"}}}}

    compose = compose_from_config(config, places_in([path]))

    assert list(compose.services) == ["z", "b", "a"]
    assert list(compose.services["z"].environment) == ["Y", "X", "INCLUDED"]


# the system on top of it


def read(folder: Path, config: dict[str, dict[str, Any]], system: str = SYSTEM) -> ReadSystem:
    write_system(folder, system=system)
    return read_system(folder / "system.yaml", {}, compose_from_config({"services": config}))


BARE = "version: 1\ncompose: [a.yaml, b.yaml]\nentry: gateway\n"


def test_the_compose_files_of_a_system_are_told_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "system.yaml").write_text(BARE, encoding="utf-8")

    assert compose_files_of(tmp_path / "system.yaml") == (tmp_path / "a.yaml", tmp_path / "b.yaml")


def test_edges_are_read_from_what_compose_made_of_the_files(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {
            "gateway": {"environment": {"ORDERS": "http://orders.internal:8000"}, "expose": ["8000"]},
            "order": {
                "networks": {"n": {"aliases": ["orders.internal"]}},
                "links": ["redis:cache"],
                "environment": {"C": "cache:6379"},
            },
            "redis": {"expose": ["6379"]},
        },
        BARE,
    )

    assert [(edge.name, edge.port) for edge in found.system.edges] == [
        ("client -> gateway", 8000),
        ("gateway -> order", 8000),
        ("order -> redis", 6379),
    ]


def test_the_edges_of_a_sidecar_are_those_of_the_service_whose_network_it_shares(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {
            "gateway": {"expose": ["8000"], "environment": {"SIDE": "http://sidecar:9000"}},
            "sidecar": {"network_mode": "service:order", "environment": {"REDIS": "redis:6379", "UP": "http://order:8000"}},
            "order": {"environment": {"REDIS": "redis:6379"}},
            "redis": {},
        },
        BARE,
    )

    assert [edge.name for edge in found.system.edges] == ["client -> gateway", "order -> redis"]
    assert found.warnings == (
        f"{CONFIG} SIDE names sidecar, which has no name of its own in the network of order: not taken as an edge",
    )


def test_a_port_that_is_shown_for_udp_alone_still_makes_an_edge(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"gateway": {"expose": ["8000"], "environment": {"STATSD_HOST": "statsd"}}, "statsd": {"expose": ["8125/udp"]}},
        BARE,
    )

    assert [(edge.name, edge.port) for edge in found.system.edges][1:] == [("gateway -> statsd", 8125)]


@pytest.mark.parametrize(
    ("written", "protocol"),
    [
        ("gateway -> api", "tcp"),
        ("gateway -> api:9000", "tcp"),
        ("gateway -> api:9000/http", "http"),
        ("gateway -> api/redis", "redis"),
        ("gateway -> api:5432", "postgresql"),
        ("gateway -> api:5432/tcp", "tcp"),
        ("gateway->api:7000/postgresql", "postgresql"),
    ],
)
@pytest.mark.parametrize("also", [{}, {"environment": {"API_HOST": "api"}}], ids=["written alone", "mentioned too"])
def test_an_edge_can_be_told_what_is_spoken_on_it(tmp_path: Path, also: dict[str, Any], written: str, protocol: str) -> None:
    port = int(written.partition(":")[2].partition("/")[0] or 9000)
    services = {"gateway": {"expose": ["8000"], **also}, "api": {"expose": [str(port)]}}

    found = read(tmp_path, services, f"{BARE}edges: ['{written}']\n")

    assert found.problems == ()
    assert [(edge.name, edge.port, edge.protocol) for edge in found.system.edges][1:] == [("gateway -> api", port, protocol)]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "edges: ['gateway -> search:80/grpc']",
            "system.yaml:4:9: expected one of http, postgresql, redis, tcp behind the slash, found 'grpc'",
        ),
        (
            "edges: ['gateway -> search/http']",
            "system.yaml:4:9: expected a port, as in 'gateway -> search:8000/http', since search shows none",
        ),
        ("egress: [serch]", "system.yaml:4:10: expected a service of the Compose file, found 'serch'; did you mean 'search'?"),
        (
            "edges: ['search -> side:80']",
            "system.yaml:4:9: expected two services with networks of their own, found 'search -> side:80': "
            "nothing can be put between them",
        ),
    ],
)
def test_names_that_lead_nowhere_in_containers_are_problems_of_the_system(tmp_path: Path, line: str, told: str) -> None:
    services = {"gateway": {"expose": ["8000"]}, "search": {}, "side": {"network_mode": "service:search"}}

    found = read(tmp_path, services, f"{BARE}{line}\n")

    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in found.problems] == [told]


def test_a_system_without_a_file_of_compose_is_still_read_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "system.yaml").write_text(BARE, encoding="utf-8")

    with pytest.raises(InvalidFile, match="expected a Compose file, found no such file"):
        read_system(tmp_path / "system.yaml", {})
