"""What is decided before a service is started: its environment, its command, what its databases hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.errors import CouldNotRun, InvalidInput
from harness.model.compose import Compose, ComposeService
from harness.model.edges import Edge, find_mentions
from harness.model.system import LocalService
from harness.runtime.ports import Address
from harness.runtime.services.command import arguments_of
from harness.runtime.services.credentials import Credentials, credentials_for
from harness.runtime.services.environment import Route, Surroundings, environment_of, rewrite
from harness.runtime.services.local import listening_ports
from harness.runtime.services.postgresql import contents_of, statements_for
from harness.runtime.services.redis import redis_passwords
from harness.runtime.services.waiting import TAIL_BYTES, at_home, how_it_ended, is_loopback, tail_of

KEPT = (
    Route("shipping", 8000, Address("127.7.2.1", 8000)),
    Route("postgres", 5432, Address("127.7.2.2", 5432)),
    Route("redis", 6379, Address("127.7.2.3", 6379)),
)
MOVED = (
    Route("shipping", 8000, Address("127.0.0.1", 40001)),
    Route("postgres", 5432, Address("127.0.0.1", 40002)),
    Route("redis", 6379, Address("127.0.0.1", 40003)),
)
SERVICES = ("shipping", "postgres", "redis", "order")


def rewritten(variable: str, value: str, routes: tuple[Route, ...]) -> str:
    return rewrite(value, find_mentions(variable, value, SERVICES), routes)


@pytest.mark.parametrize(
    ("variable", "value", "kept", "moved"),
    [
        ("URL", "http://shipping:8000/x", "http://127.7.2.1:8000/x", "http://127.0.0.1:40001/x"),
        ("DB", "postgresql://o:o@postgres:5432/o", "postgresql://o:o@127.7.2.2:5432/o", "postgresql://o:o@127.0.0.1:40002/o"),
        ("DB", "postgresql://o:o@postgres/o", "postgresql://o:o@127.7.2.2/o", "postgresql://o:o@127.0.0.1:40002/o"),
        ("CACHE", "redis:6379", "127.7.2.3:6379", "127.0.0.1:40003"),
        ("ALL", "redis:6379,shipping:8000", "127.7.2.3:6379,127.7.2.1:8000", "127.0.0.1:40003,127.0.0.1:40001"),
        ("POSTGRES_USER", "postgres", "postgres", "postgres"),
        ("URL", "http://shipping:9999/", "http://shipping:9999/", "http://shipping:9999/"),
        ("URL", "http://example.com/shipping", "http://example.com/shipping", "http://example.com/shipping"),
    ],
)
def test_a_value_that_names_a_service_leads_to_the_proxy_of_that_edge(variable: str, value: str, kept: str, moved: str) -> None:
    assert rewritten(variable, value, KEPT) == kept
    assert rewritten(variable, value, MOVED) == moved


def test_a_bare_host_leads_to_the_proxy_where_it_keeps_the_port() -> None:
    assert rewritten("REDIS_HOST", "redis", KEPT) == "127.7.2.3"


EDGES = (
    Edge(name="order -> redis", caller="order", callee="redis", port=6379),
    Edge(name="order -> shipping:8000", caller="order", callee="shipping", port=8000),
    Edge(name="order -> shipping:9000", caller="order", callee="shipping", port=9000),
)
PORTS = {"order": 8000, "redis": 6379, "shipping": 8000}


def surroundings(redis: Address) -> Surroundings:
    to_shipping = {f"order -> shipping:{port}": Address("127.7.2.9", port) for port in (8000, 9000)}
    return Surroundings(PORTS, EDGES, {"order -> redis": redis, **to_shipping}, Path("/system"))


def test_a_bare_host_whose_port_is_taken_is_an_error_that_names_key_and_service() -> None:
    around = surroundings(redis=Address("127.0.0.1", 40003))

    with pytest.raises(CouldNotRun, match=r"service order: REDIS_HOST=redis cannot be led .* port 6379 of redis is taken"):
        environment_of("order", {"REDIS_HOST": "redis"}, around)


def test_a_bare_host_means_the_port_that_the_service_shows() -> None:
    around = Surroundings(PORTS | {"shipping": 9000}, EDGES, surroundings(Address("127.7.2.3", 6379)).proxies, Path("/system"))

    assert [route.port for route in around.routes_from("order") if route.callee == "shipping"] == [9000, 8000]


def test_a_service_gets_its_own_variables_and_a_small_base_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_USER", "x")

    environment = environment_of("order", {"REDIS_HOST": "redis", "DEFECTS": ""}, surroundings(Address("127.7.2.3", 6379)))

    base = {"PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "PYTHONUNBUFFERED"}
    assert environment.keys() == base | {"REDIS_HOST", "DEFECTS"}
    assert environment["REDIS_HOST"] == "127.7.2.3"


def test_the_parent_of_the_systems_folder_is_where_its_package_is_found() -> None:
    environment = environment_of("order", {"PYTHONPATH": "/own"}, surroundings(Address("127.7.2.3", 6379)))

    assert environment["PYTHONPATH"] == "/:/own"


def test_a_service_may_call_itself_what_it_is_called() -> None:
    environment = environment_of("order", {"OWN_URL": "http://order:8000"}, surroundings(Address("127.7.2.3", 6379)))

    assert environment["OWN_URL"] == "http://order:8000"


def test_a_command_is_split_like_in_a_shell_and_its_placeholders_are_filled_in() -> None:
    words = arguments_of("order", "{python} -m 'my order' --bind {host}:{port} {other}", "127.7.1.1", 8000)

    assert words == [sys.executable, "-m", "my order", "--bind", "127.7.1.1:8000", "{other}"]


@pytest.mark.parametrize("command", ["", "  ", "run 'unclosed"])
def test_a_command_that_is_none_is_named(command: str) -> None:
    with pytest.raises(InvalidInput, match=r"local\.order\.command: expected a command line"):
        arguments_of("order", command, "127.0.0.1", 1)


def test_the_users_of_a_database_are_read_from_the_urls_that_lead_to_it() -> None:
    environments = {
        "order": {
            "DATABASE_URL": "postgresql+asyncpg://or%40der:p%2Fw@postgres:5432/orders?x=1",
            "OTHER": "http://shipping:8000",
        },
        "audit": {"DB": "postgres://reader@postgres/orders", "PLAIN": "postgres:5432"},
    }

    assert credentials_for("postgres", environments) == (
        Credentials("or@der", "p/w", "orders", "order.DATABASE_URL"),
        Credentials("reader", "", "orders", "audit.DB"),
    )


def test_each_role_owns_its_database_and_later_ones_may_do_what_the_owner_may() -> None:
    found = (Credentials("orders", "it's", "orders", "a.URL"), Credentials("audit", "pw", "orders", "b.URL"))

    statements = statements_for(contents_of("postgres", ("orders", "spare"), {}, found))

    assert statements == (
        'CREATE ROLE "postgres" SUPERUSER LOGIN',
        "CREATE ROLE \"orders\" LOGIN PASSWORD 'it''s'",
        "CREATE ROLE \"audit\" LOGIN PASSWORD 'pw'",
        'CREATE DATABASE "orders" OWNER "orders"',
        'GRANT "orders" TO "audit"',
        'CREATE DATABASE "spare" OWNER "postgres"',
    )


def test_the_superuser_and_database_of_the_compose_file_are_there() -> None:
    variables = {"POSTGRES_USER": "shop", "POSTGRES_PASSWORD": "pw", "POSTGRES_DB": "shopping"}

    statements = statements_for(contents_of("postgres", (), variables, (Credentials("shop", "pw", "shopping", "a.URL"),)))

    assert statements == (
        "CREATE ROLE \"shop\" SUPERUSER LOGIN PASSWORD 'pw'",
        'CREATE DATABASE "shopping" OWNER "shop"',
    )


def test_a_database_that_nobody_creates_is_named_with_the_variable_that_uses_it() -> None:
    with pytest.raises(InvalidInput, match=r"order\.URL uses the database ordres of postgres, .* add it to databases:"):
        contents_of("postgres", ("orders",), {}, (Credentials("o", "o", "ordres", "order.URL"),))


def test_two_passwords_for_one_role_are_an_error() -> None:
    found = (Credentials("o", "one", "orders", "a.URL"), Credentials("o", "two", "orders", "b.URL"))

    with pytest.raises(InvalidInput, match=r"b\.URL: expected the same password for o at postgres"):
        contents_of("postgres", ("orders",), {}, found)


def test_redis_asks_for_the_passwords_of_the_urls() -> None:
    found = (
        Credentials("", "secret", "0", "a.URL"),
        Credentials("reader", "pw", "0", "b.URL"),
        Credentials("", "", "", "c.URL"),
    )

    assert redis_passwords("redis", found) == {"default": "secret", "reader": "pw"}


def test_two_passwords_for_one_redis_are_an_error() -> None:
    with pytest.raises(InvalidInput, match=r"b\.URL: expected the same password for redis"):
        redis_passwords("redis", (Credentials("", "one", "", "a.URL"), Credentials("", "two", "", "b.URL")))


def test_a_service_listens_where_the_compose_file_or_system_yaml_or_an_edge_says() -> None:
    compose = Compose(
        {name: ComposeService(name, ports=ports) for name, ports in {"a": (80, 81), "b": (), "c": (), "d": ()}.items()}
    )
    local = {"b": LocalService(command="run", port=9), "c": LocalService(provided="redis"), "d": LocalService(command="run")}
    edge = Edge(name="a -> d", caller="a", callee="d", port=7)

    assert listening_ports(compose, local, [edge]) == {"a": 80, "b": 9, "c": 6379, "d": 7}


def test_a_service_without_any_port_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(InvalidInput, match=r"service a: expected a port .* port: under local: a:"):
        listening_ports(Compose({"a": ComposeService("a")}), {"a": LocalService(command="run")}, ())


def test_localhost_in_a_health_check_is_the_service_itself() -> None:
    text = "curl -f http://localhost:8000/ || curl 127.0.0.1:8000 || curl localhost:80001"

    assert (
        at_home(text, 8000, Address("127.7.1.2", 4))
        == "curl -f http://127.7.1.2:4/ || curl 127.7.1.2:4 || curl localhost:80001"
    )


@pytest.mark.parametrize(
    ("status", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-63, "killed by signal 63")]
)
def test_how_a_process_ended_is_told_in_words(status: int, words: str) -> None:
    assert how_it_ended(status) == words


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.7.1.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_only_loopback_is_reached_from_this_machine_alone(host: str, inside: bool) -> None:
    assert is_loopback(host) is inside


@pytest.mark.parametrize(
    ("written", "tail"),
    [
        (b"secret" * TAIL_BYTES + b"\nlast\n", ("last",)),
        (b"secret" * TAIL_BYTES, (f"(a line of more than {TAIL_BYTES:,} bytes)",)),
    ],
)
def test_the_tail_of_a_log_begins_with_a_whole_line(tmp_path: Path, written: bytes, tail: tuple[str, ...]) -> None:
    (tmp_path / "log").write_bytes(written)

    assert tail_of(tmp_path / "log", 20) == tail


def test_the_tail_of_a_log_is_its_last_lines_whatever_bytes_are_in_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\n\xffthree\n")

    assert tail_of(log, 2) == ("two", "\ufffdthree")
    assert tail_of(tmp_path / "none", 2) == ()


def test_the_tail_of_a_log_holds_no_line_of_a_private_key(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "one\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\nBgkqhkiG9w0B\n-----END PRIVATE KEY-----\ntwo\n"
    )

    assert tail_of(tmp_path / "log", 3) == ("one", "***", "two")
