"""On processes nothing keeps a service in: one that names a host outside the system is refused, unless that is allowed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InvalidFile
from harness.model.outside import outside_hosts
from harness.model.resolving import resolve
from harness.model.runnable import check_runs_in_containers, check_runs_locally
from tests.systems import COMPOSE, SCENARIO, SYSTEM, write_system

SERVICES = ("order", "postgres")


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("PAY_URL", "https://api.pay.example/v1", ("api.pay.example",)),
        ("WHATEVER", "https://api.pay.example/v1", ("api.pay.example",)),
        ("DSN", "postgresql://order:p%40ss@db.example:5432/orders", ("db.example",)),
        ("BROKERS", "kafka://one.example:9092,two.example:9092", ("one.example", "two.example")),
        ("HOOKS", "http://a.example/x http://b.example/y http://a.example/z", ("a.example", "b.example")),
        ("PAY_HOST", "api.pay.example", ("api.pay.example",)),
        ("PAY_HOST", "192.0.2.7:443", ("192.0.2.7",)),
        ("PAY_URL", "http://[2001:db8::1]:80/", ("2001:db8::1",)),
        ("PAY_URL", "http://bare", ("bare",)),
        ("PAY_URL", "http://order:8000", ()),
        ("PAY_URL", "http://ORDER:8000", ()),
        ("DSN", "postgresql://order:secret@postgres/orders", ()),
        ("BIND_ADDR", "0.0.0.0:8000", ()),
        ("PAY_URL", "http://localhost:1", ()),
        ("PAY_URL", "http://127.0.0.1:1", ()),
        ("PAY_URL", "http://[::1]:1", ()),
        ("PAY_HOST", "word", ()),
        ("VERSION", "1.2.3", ()),
        ("GREETING", "see example.org", ()),
        ("EMPTY_URL", "", ()),
        ("PAY_URL", "http://api.pay.example./x", ("api.pay.example",)),
        ("PAY_URL", "http://my_host.pay.example/x", ("my_host.pay.example",)),
        ("PAY_URL", "https://bücher.example/", ("bücher.example",)),
        ("PAY_URL", "http://pay.example:070000/", ("pay.example",)),
        ("PAY_URL", "http://pay.example:", ("pay.example",)),
        ("PAY_URL", "http://u:p@ss@pay.example/", ("pay.example",)),
        ("PAY_URL", "http://pay.example\\@order/", ("pay.example\\",)),
        ("PAY_URL", "http://[fe80::1%25eth0]/", ("fe80::1%25eth0",)),
        ("PAY_URL", "http://2130706433/", ("2130706433",)),
        ("DSN", "user:pw@mysql://tcp(pay.example:3306)/db", ("pay.example",)),
        ("DSN", "mysql://u:p@tcp(order:3306)/db", ()),
        ("DSN", "mysql://u:p@unix(/run/mysqld.sock)/db", ()),
        ("DSN", "postgresql://order:Tr0ub4dor/3x@postgres/orders", ()),
        ("DSN", "postgresql://order:Tr0ub4dor/3x@db.example/orders", ("db.example",)),
        ("DSN", "postgresql://order:s3cr3t@postgres/orders?application_name=a@b", ()),
        ("DSN", "postgres://u:p1@postgres/x,postgres://u:p2@db.example/y", ("db.example",)),
        ("DSN", "jdbc:sqlserver://postgres:1433;databaseName=shop;encrypt=true", ()),
        ("DSN", "jdbc:sqlserver://db.example:1433;databaseName=shop", ("db.example",)),
        ("DSN", "jdbc:sqlserver://;serverName=db.example;databaseName=shop", ("db.example",)),
        ("DSN", "jdbc:sqlserver://;servername=order;hostNameInCertificate=*.db.example", ()),
        ("DSN", "jdbc:sqlserver://order:1433;failoverPartner=db.example:1433;encrypt=true", ("db.example",)),
        ("DSN", "redis://order:6379;db=1", ()),
        ("DSN", "nats://order:4222;pay.example:4222", ("pay.example",)),
        ("DSN", "jdbc:x://order:1;url=http://pay.example/", ("url=http",)),
        ("PAY_URL", "http://order=1", ("order=1",)),
        ("PAY_URLS", "[http://order:80]", ()),
        ("PAY_URLS", "[http://[::1]:80, http://pay.example]", ("pay.example",)),
        ("PAY_URL", "http://${HOST}:80", ()),
        ("PAY_URL", "http://${pay.host}:80", ()),
        ("PAY_URL", "http://{host}/x", ()),
        ("PAY_URL", "http://{pay-host}/x", ()),
        ("PAY_URL", "http://{api.pay.example}/x", ("{api.pay.example",)),
        ("PAY_URL", "http://${PAY_HOST:-api.pay.example}/x", ("api.pay.example",)),
        ("PAY_URL", "http://${PAY_HOST-api.pay.example}/x", ("${pay_host-api.pay.example",)),
        ("PAY_URL", "http://${PAY_HOST:-order}:${PORT:-80}/x", ()),
        ("PAY_URL", "${PAY_URL:-http://api.pay.example/x}", ("api.pay.example",)),
        ("PAY_URL", "http://${A:-${B:-api.pay.example}}/x", ("${a:-api.pay.example",)),
        ("DSN", "jdbc:postgresql://${DB_HOST:db.example}:5432/x", ("db.example",)),
        ("DSN", "jdbc:postgresql://${DB_HOST:postgres}:5432/x", ()),
        ("DSN", "postgresql://order:${DB_PASSWORD:-Tr0ub4dor/3x}@db.example/orders", ("db.example",)),
        ("PAY_URL", "http://{tenant}.pay.example/x", ("{tenant}.pay.example",)),
        ("PAY_URLS", "http://order:8000,http://pay.example", ("pay.example",)),
        ("PAY_URLS", "http://order:8000;http://postgres:1|http://order/", ()),
        ("PAY_URLS", "http://order.:8000", ()),
        ("BIND_URLS", "http://+:8080;http://*:8081", ()),
        ("SOCKET_URL", "unix:///run/some.sock", ()),
        ("PAY_HOST", "pay.example:80/path", ("pay.example",)),
        ("PAY_HOST", "pay.example.", ("pay.example",)),
        ("PAY_HOST", "pa_y.example:80", ("pa_y.example",)),
        ("PAY_HOST", "tcp:pay.example:80", ("pay.example",)),
        ("PAY_HOST", "a.example.com|b.example.com", ("a.example.com", "b.example.com")),
        ("PAY_HOST", "bücher.example", ("bücher.example",)),
        ("PAY_HOST", "/run/pay.sock", ()),
        ("PAY_HOST", "order:8000/path", ()),
        ("BIND_ADDR", ":8000", ()),
    ],
)
def test_a_host_that_is_neither_a_service_nor_this_machine_is_outside(
    variable: str, value: str, found: tuple[str, ...]
) -> None:
    assert outside_hosts(variable, value, SERVICES) == found


@given(st.text(max_size=100), st.text(max_size=300))
def test_any_text_can_be_read(variable: str, value: str) -> None:
    assert all(host for host in outside_hosts(variable, value, SERVICES))


@pytest.mark.parametrize(
    "value",
    [
        "http://mssql" + "," * 100_000,
        "http://mssql" + " ;" * 50_000,
        "http://" * 15_000,
        "http://a:" * 12_000,
        "http://" + "a@" * 50_000 + "@",
        "http://a" + ";" * 100_000,
        "http://a" + ";b=" * 30_000 + ":",
        "http://a" + ":1" * 50_000 + "x",
        "http://" + "a(" * 50_000,
        "http://" + "a" * 100_000 + "(",
        "http://" + "{" * 100_000,
        "http://" + "${a:-" * 20_000,
        "http://${a:" + "-" * 100_000,
        "http://${" + "a" * 100_000,
        "http://${" + "a." * 50_000 + "!",
        "http://a" + ";server=" * 12_000,
        "http://a" + ";servername" * 9_000,
        "http://" + "]" * 100_000 + "x",
        "http://a:" + "b/" * 50_000,
        "http://a:b/" * 9_000,
    ],
    ids=lambda value: value[:20],
)
def test_a_long_value_is_read_at_once(value: str) -> None:
    begin = time.process_time()
    outside_hosts("PAY_URL", value, SERVICES)

    assert time.process_time() - begin < 1.0


def refused(folder: Path, *, system: str = SYSTEM, value: str = "https://api.pay.example", more: str = "") -> list[str]:
    compose = COMPOSE.replace("REDIS_HOST: redis\n", f"REDIS_HOST: redis\n      PAY_URL: {value}\n")
    resolved = resolve(write_system(folder, system=system, compose=compose, scenario=SCENARIO + more), environ={})
    check_runs_in_containers(resolved)  # where a network of their own keeps them in
    try:
        check_runs_locally(resolved)
    except InvalidFile as error:
        return [str(problem) for problem in error.problems]
    return []


def test_it_is_refused_by_line_on_processes_and_not_in_containers(tmp_path: Path) -> None:
    assert refused(tmp_path) == [
        f"{tmp_path}/compose.yaml:13:16: expected order to call services of the system alone, found api.pay.example in PAY_URL: "
        "egress: [order] in system.yaml allows it"
    ]


def test_who_may_go_out_by_name_is_let_out(tmp_path: Path) -> None:
    assert refused(tmp_path, system=SYSTEM + "egress: [order]\n") == []


def test_that_another_service_may_go_out_is_not_enough(tmp_path: Path) -> None:
    assert len(refused(tmp_path, system=SYSTEM + "egress: [gateway]\n")) == 1


def test_a_defect_is_no_way_out_either(tmp_path: Path) -> None:
    defect = "defects: {away: {environment: {order: {PAY_URL: 'http://elsewhere.example'}}, caught_by: recovery-1}}\n"

    (told,) = refused(tmp_path, value="http://shipping:8000", more=defect)

    assert told.startswith(f"{tmp_path}/scenario.yaml:10:49: expected order to call")
    assert "found elsewhere.example in PAY_URL" in told


def test_what_a_password_is_is_not_told(tmp_path: Path) -> None:
    (told,) = refused(tmp_path, value="https://anna:hunter2@api.pay.example")

    assert "hunter2" not in told


@pytest.mark.parametrize("password", ["Tr0ub4dor/3x", "Tr0ub4dor@3x/y", "Tr0ub4dor#3x@y"])
def test_nor_is_half_of_it(tmp_path: Path, password: str) -> None:
    told = refused(tmp_path, value=f"'postgresql://anna:{password}@elsewhere.example/orders'")

    assert len(told) == 1
    assert "tr0ub4dor" not in told[0].lower()
    assert "3x" not in told[0]
