"""The shop as a whole, on its real PostgreSQL and Redis, without a proxy in between."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import requests

from harness.history.events import Event, ServiceStarted
from harness.model.system_reading import read_system
from harness.plan.plan import ServiceChange
from harness.runtime.processes import JournaledLaunch
from harness.runtime.services.addresses import RunAddresses
from harness.runtime.services.local import LocalServices, LocalSystem, listening_ports
from harness.runtime.undo import UndoJournal, make_run_folder

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_system"
SERVICES = ("gateway", "order", "payment", "inventory", "shipping")
CHARGE = {"order": "some-order", "amount": 5}


def wait_until(holds: Callable[[], object], seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.02)


@dataclass
class Shop:
    """The running system, asked as its customers and its operators ask it."""

    services: LocalServices
    pids: dict[str, int]
    http: requests.Session

    def ask(self, method: str, path: str, *, service: str = "gateway", **more: Any) -> requests.Response:
        return self.http.request(method, f"http://{self.services.address(service)}{path}", timeout=10, **more)

    def place(self, sku: str = "tea", quantity: int = 2) -> requests.Response:
        return self.ask("POST", "/orders", json={"sku": sku, "quantity": quantity})

    def sql(self, database: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        async def fetch() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.services.database_url("postgres", database))
            try:
                return [tuple(row) for row in await connection.fetch(query, *values)]
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def status(self, order: str) -> str:
        return str(self.ask("GET", f"/orders/{order}").json()["status"])

    def tell(self, order: str, *kinds: str) -> None:
        """Have order tell what became of an order; return once it was told."""
        for kind in kinds:
            self.sql("orders", "INSERT INTO outbox (kind, order_id) VALUES ($1, $2)", kind, order)
        wait_until(lambda: self.sql("orders", "SELECT count(*) FROM outbox") == [(0,)])

    def fallbacks(self) -> float:
        found = re.search(
            r'^fallback_total\{dependency="shipping",name="shipping-deferred"\} (\S+)$',
            self.ask("GET", "/metrics", service="order").text,
            re.MULTILINE,
        )
        assert found is not None
        return float(found[1])

    @contextmanager
    def frozen(self, service: str) -> Iterator[None]:
        """The service takes connections, and answers nothing."""
        os.kill(self.pids[service], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pids[service], signal.SIGCONT)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    read = read_system(SAMPLE / "system.yaml", {})
    with ExitStack() as opened:
        addresses = RunAddresses.claim()
        opened.callback(addresses.close)
        journal = UndoJournal(folder / "undo.jsonl")
        launch = JournaledLaunch(journal)
        opened.callback(launch.collect)
        opened.callback(journal.undo_all, lambda _: None)
        ports = listening_ports(read.compose, read.file.local, read.system.edges)
        own = {name: addresses.service(name, port) for name, port in ports.items()}
        system = LocalSystem(
            compose=read.compose,
            local=read.file.local,
            edges=read.system.edges,
            proxies={edge.name: own[edge.callee] for edge in read.system.edges},
            addresses=own,
            folder=read.folder,
            temporary=make_run_folder(journal),
        )
        events: list[Event] = []
        services = LocalServices(system, launch, events.append, lambda name: folder / f"{name}.log", remember=journal.before)
        services.start()
        http = opened.enter_context(requests.Session())
        yield Shop(services, {event.service: event.pid for event in events if isinstance(event, ServiceStarted)}, http)


def test_an_order_is_shipped_and_can_be_read_and_tracked(shop: Shop) -> None:
    placed = shop.place("coffee", 3)

    order = placed.json()
    assert (placed.status_code, order["status"], order["amount"]) == (201, "SHIPPED", 3 * 690)
    assert "X-Fallback" not in placed.headers
    assert shop.ask("GET", f"/orders/{order['id']}").json() == order
    assert shop.ask("GET", f"/shipments/{order['id']}").json()["status"] == "SCHEDULED"


def test_the_catalog_tells_what_there_is(shop: Shop) -> None:
    items = shop.ask("GET", "/catalog").json()

    assert {"sku": "mug", "price": 1200}.items() <= next(item for item in items if item["sku"] == "mug").items()


def test_stock_is_held_while_an_order_lasts_and_goes_when_it_is_shipped(shop: Shop) -> None:
    order = shop.place().json()["id"]

    query = "SELECT status FROM reservations WHERE order_id = $1"
    wait_until(lambda: shop.sql("stock", query, order) == [("GONE",)])


@pytest.mark.parametrize(("path", "status"), [("/orders/none", 404), ("/shipments/none", 404), ("/nowhere", 404)])
def test_what_does_not_exist_is_not_found(shop: Shop, path: str, status: int) -> None:
    assert shop.ask("GET", path).status_code == status


@pytest.mark.parametrize(("body", "status"), [(b"no order", 422), (b'{"sku": "gold", "quantity": 1}', 409)])
def test_what_cannot_be_ordered_is_declined(shop: Shop, body: bytes, status: int) -> None:
    assert shop.ask("POST", "/orders", data=body).status_code == status


def test_one_order_is_charged_once_however_often_it_is_asked_for(shop: Shop) -> None:
    def charge() -> requests.Response:
        return shop.ask("POST", "/charges", service="payment", json=CHARGE, headers={"Idempotency-Key": "asked-for-twice"})

    assert [charge().status_code, charge().status_code] == [201, 201]
    assert shop.sql("payments", "SELECT amount, status FROM charges WHERE key = 'asked-for-twice'") == [(5, "CHARGED")]


def test_what_was_refunded_is_not_charged_any_more(shop: Shop) -> None:
    key = {"Idempotency-Key": "refunded-before-charged"}
    shop.ask("POST", "/refunds", service="payment", json={"order": "some-order"}, headers=key)

    assert shop.ask("POST", "/charges", service="payment", json=CHARGE, headers=key).status_code == 409


def test_one_reservation_takes_stock_once_however_often_it_is_asked_for(shop: Shop) -> None:
    def reserve() -> int:
        wanted = {"order": "reserved-twice", "sku": "jam", "quantity": 7}
        return shop.ask("POST", "/reservations", service="inventory", json=wanted).status_code

    before = shop.sql("stock", "SELECT available FROM stock WHERE sku = 'jam'")[0][0]

    assert [reserve(), reserve()] == [201, 201]
    assert shop.sql("stock", "SELECT available FROM stock WHERE sku = 'jam'") == [(before - 7,)]
    shop.tell("reserved-twice", "cancelled")


def test_stock_comes_back_once_however_often_it_is_told_that_an_order_was_cancelled(shop: Shop) -> None:
    available = "SELECT available FROM stock WHERE sku = 'cocoa'"
    before = shop.sql("stock", available)
    wanted = {"order": "cancelled-twice", "sku": "cocoa", "quantity": 7}
    shop.ask("POST", "/reservations", service="inventory", json=wanted)

    shop.tell("cancelled-twice", "cancelled", "cancelled")

    wait_until(lambda: shop.sql("stock", available) == before)
    wait_until(lambda: violations(shop, "stock", "stock.sql") == 0)


@pytest.mark.parametrize("status", ["CREATED", "RESERVED", "PAID", "SHIPMENT_DEFERRED"])
def test_an_order_that_a_crash_left_half_way_is_taken_up_and_shipped(shop: Shop, status: str) -> None:
    order = f"left-at-{status}"

    shop.sql(
        "orders",
        "INSERT INTO orders (id, sku, quantity, amount, status, resume_at) VALUES ($1, 'honey', 1, 880, $2, now())",
        order,
        status,
    )

    wait_until(lambda: shop.status(order) == "SHIPPED")
    assert shop.ask("GET", f"/shipments/{order}").status_code == 200


def test_an_order_that_a_crash_left_being_cancelled_is_refunded_and_its_stock_comes_back(shop: Shop) -> None:
    order = "left-at-CANCELLING"
    wanted = {"order": order, "sku": "pot", "quantity": 9}
    available = "SELECT available FROM stock WHERE sku = 'pot'"
    before = shop.sql("stock", available)
    shop.ask("POST", "/reservations", service="inventory", json=wanted)
    shop.ask("POST", "/charges", service="payment", json={"order": order, "amount": 9}, headers={"Idempotency-Key": order})

    shop.sql(
        "orders",
        "INSERT INTO orders (id, sku, quantity, amount, status, resume_at) VALUES ($1, 'pot', 9, 9, 'CANCELLING', now())",
        order,
    )

    wait_until(lambda: shop.status(order) == "CANCELLED")
    assert shop.sql("payments", "SELECT status FROM charges WHERE key = $1", order) == [("REFUNDED",)]
    wait_until(lambda: shop.sql("stock", available) == before)


def test_a_refund_is_written_down_when_payment_has_confirmed_it_and_not_before(shop: Shop) -> None:
    order = "refund-confirmed-late"
    refunded = "SELECT refunded_at IS NOT NULL, status FROM orders WHERE id = $1"
    with shop.frozen("payment"):
        shop.sql(
            "orders",
            "INSERT INTO orders (id, sku, quantity, amount, status, resume_at) VALUES ($1, 'tea', 1, 420, 'CANCELLING', now())",
            order,
        )
        time.sleep(0.5)
        before = shop.sql("orders", refunded, order)

    assert before == [(False, "CANCELLING")]
    wait_until(lambda: shop.sql("orders", refunded, order) == [(True, "CANCELLED")])


def test_what_orders_came_to_waits_for_an_inventory_that_hangs_and_is_heard_once(shop: Shop) -> None:
    order = "heard-late"
    status = "SELECT status FROM reservations WHERE order_id = $1"
    shop.ask("POST", "/reservations", service="inventory", json={"order": order, "sku": "pot", "quantity": 2})
    with shop.frozen("inventory"):
        shop.tell(order, "shipped", "shipped", "cancelled")
        before = shop.sql("stock", status, order)

    assert before == [("HELD",)]
    wait_until(lambda: shop.sql("stock", status, order) == [("GONE",)])
    wait_until(lambda: violations(shop, "stock", "stock.sql") == 0)


def test_while_shipping_hangs_an_order_is_accepted_says_so_and_is_shipped_afterwards(shop: Shop) -> None:
    counted = shop.fallbacks()
    with shop.frozen("shipping"):
        placed = shop.place()
        tracked = shop.ask("GET", "/shipments/any")

    assert (placed.status_code, placed.headers["X-Fallback"]) == (201, "shipping-deferred")
    assert (placed.json()["status"], placed.json()["degraded"]) == ("SHIPMENT_DEFERRED", ["shipping-deferred"])
    assert shop.fallbacks() == counted + 1
    assert (tracked.status_code, tracked.json()["dependency"]) == (504, "shipping")
    wait_until(lambda: shop.status(placed.json()["id"]) == "SHIPPED")


def test_while_payment_hangs_an_order_fails_by_name_and_ends_cancelled(shop: Shop) -> None:
    with shop.frozen("payment"):
        placed = shop.place()

    assert (placed.status_code, placed.json()["dependency"]) == (504, "payment")
    unfinished = "SELECT count(*) FROM orders WHERE status IN ('RESERVED', 'CANCELLING')"
    wait_until(lambda: shop.sql("orders", unfinished) == [(0,)])


def test_in_the_end_every_paid_order_is_shipped_or_refunded(shop: Shop) -> None:
    query = (SAMPLE / "invariants" / "paid.sql").read_text()
    shop.place()

    wait_until(lambda: shop.sql("orders", query)[0][0] == 0)
    violations, looked_at = shop.sql("orders", query)[0]
    assert violations == 0
    assert looked_at == shop.sql("orders", "SELECT count(*) FROM orders WHERE paid_at IS NOT NULL")[0][0] > 0


def test_the_invariant_counts_what_was_paid_and_never_shipped(shop: Shop) -> None:
    query = (SAMPLE / "invariants" / "paid.sql").read_text()
    forgotten = "INSERT INTO orders (id, sku, quantity, status, paid_at) VALUES ('forgotten', 'tea', 1, 'PAID', now())"
    shop.sql("orders", forgotten)

    assert shop.sql("orders", query)[0][0] == 1
    shop.sql("orders", "DELETE FROM orders WHERE id = 'forgotten'")


def violations(shop: Shop, database: str, invariant: str) -> int:
    return int(shop.sql(database, (SAMPLE / "invariants" / invariant).read_text())[0][0])


@pytest.mark.parametrize("status", ["CREATED", "RESERVED", "PAID", "SHIPMENT_DEFERRED", "CANCELLING"])
def test_the_invariant_counts_orders_that_are_left_half_way(shop: Shop, status: str) -> None:
    wait_until(lambda: violations(shop, "orders", "ended.sql") == 0)
    shop.sql("orders", "INSERT INTO orders (id, sku, quantity, status) VALUES ('left', 'tea', 1, $1)", status)

    counted = violations(shop, "orders", "ended.sql")
    shop.sql("orders", "DELETE FROM orders WHERE id = 'left'")

    assert counted == 1


@pytest.mark.parametrize(
    ("status", "amount", "counted"),
    [("CANCELLED", 420, 1), ("CANCELLING", 420, 1), ("CANCELLED", None, 0), ("SHIPPED", 420, 0)],
    ids=["cancelled", "being cancelled", "never charged", "shipped"],
)
def test_the_invariant_counts_cancelled_orders_without_a_confirmed_refund(
    shop: Shop, status: str, amount: int | None, counted: int
) -> None:
    wait_until(lambda: violations(shop, "orders", "refunded.sql") == 0)
    statement = "INSERT INTO orders (id, sku, quantity, status, amount) VALUES ('cancelled', 'tea', 1, $1, $2)"
    shop.sql("orders", statement, status, amount)

    found = violations(shop, "orders", "refunded.sql")
    shop.sql("orders", "DELETE FROM orders WHERE id = 'cancelled'")

    assert found == counted


@pytest.mark.parametrize(("status", "counted"), [("CHARGED", 1), ("REFUNDED", 0)])
def test_the_invariant_counts_orders_that_are_charged_twice_under_different_keys(shop: Shop, status: str, counted: int) -> None:
    assert violations(shop, "payments", "charged.sql") == 0
    statement = "INSERT INTO charges (key, order_id, amount, status) VALUES ($1, 'twice', 5, $2)"
    shop.sql("payments", statement, "one key", "CHARGED")
    shop.sql("payments", statement, "another key", status)

    found = violations(shop, "payments", "charged.sql")
    shop.sql("payments", "DELETE FROM charges WHERE order_id = 'twice'")

    assert found == counted


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (
            "INSERT INTO reservations (order_id, sku, quantity, status) VALUES ('unheard', 'tea', 0, 'HELD')",
            "DELETE FROM reservations WHERE order_id = 'unheard'",
        ),
        (
            "UPDATE stock SET available = available + 1 WHERE sku = 'mug'",
            "UPDATE stock SET available = available - 1 WHERE sku = 'mug'",
        ),
    ],
    ids=["still held", "came back twice"],
)
def test_the_invariant_counts_stock_that_is_still_held_and_stock_that_does_not_add_up(
    shop: Shop, wrong: str, right: str
) -> None:
    wait_until(lambda: violations(shop, "stock", "stock.sql") == 0)
    shop.sql("stock", wrong)

    counted = violations(shop, "stock", "stock.sql")
    shop.sql("stock", right)

    assert counted == 1


def test_while_the_database_stands_still_the_answer_comes_in_time_and_names_it_and_all_comes_back(shop: Shop) -> None:
    pause = ServiceChange(service="postgres", deed="pause")
    shop.services.strike(pause)
    try:
        began = time.monotonic()
        read = shop.ask("GET", "/orders/any", service="order")
        took = time.monotonic() - began
    finally:
        shop.services.relieve(pause)

    assert (read.status_code, read.json()["dependency"]) == (504, "postgres")
    assert took < 3.0 + 2.0  # a connection, a statement, and giving the connection back; and a busy machine
    wait_until(lambda: shop.place().status_code == 201)


def test_orders_that_a_crash_of_order_meets_half_way_are_shipped_once_it_runs_again(shop: Shop) -> None:
    paid = "SELECT id FROM orders WHERE status = 'PAID'"
    with ThreadPoolExecutor(6) as customers, shop.frozen("shipping"):
        for _ in range(6):
            customers.submit(shop.place)
        wait_until(lambda: len(shop.sql("orders", paid)) == 6)
        left = [order for (order,) in shop.sql("orders", paid)]
        shop.services.strike(ServiceChange(service="order", deed="crash"))

    shipped = "SELECT count(*) FROM orders WHERE status = 'SHIPPED' AND id = ANY($1)"
    wait_until(lambda: shop.sql("orders", shipped, left) == [(6,)], 30)


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[subprocess.Popen[bytes], str]]]:
    """Every service, with nothing where its dependencies should be."""
    folder = tmp_path_factory.mktemp("lonely")
    nowhere = "127.0.0.1:1"
    urls = {f"{name}_URL": f"http://{nowhere}" for name in ("ORDER", "INVENTORY", "PAYMENT", "SHIPPING")}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "REDIS_URL": f"redis://{nowhere}/0"} | urls
    environment["DATABASE_URL"] = f"postgresql://nobody:nothing@{nowhere}/nothing"
    started = {}
    with ExitStack() as opened:
        for name in SERVICES:
            with socket.create_server(("127.0.0.1", 0)) as found:
                port = found.getsockname()[1]
            argv = [sys.executable, "-m", f"sample_system.{name}", "--port", str(port)]
            log = opened.enter_context((folder / f"{name}.log").open("wb"))
            process = opened.enter_context(subprocess.Popen(argv, env=environment, stdout=log, stderr=subprocess.STDOUT))
            opened.callback(process.kill)
            started[name] = (process, f"http://127.0.0.1:{port}")
        yield started


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_boots_without_its_dependencies(lonely: dict[str, tuple[subprocess.Popen[bytes], str]], service: str) -> None:
    _, url = lonely[service]

    wait_until(lambda: answers(f"{url}/health/live"))

    assert requests.get(f"{url}/health/ready", timeout=5).status_code == (200 if service == "gateway" else 503)


@pytest.mark.parametrize(
    ("service", "method", "path", "missing"),
    [
        ("gateway", "GET", "/catalog", "inventory"),
        ("gateway", "POST", "/orders", "order"),
        ("order", "GET", "/orders/any", "postgres"),
        ("inventory", "GET", "/catalog", "postgres"),
        ("shipping", "GET", "/shipments/any", "postgres"),
    ],
)
def test_without_a_dependency_the_answer_names_it(
    lonely: dict[str, tuple[subprocess.Popen[bytes], str]], service: str, method: str, path: str, missing: str
) -> None:
    _, url = lonely[service]
    wait_until(lambda: answers(f"{url}/health/live"))

    answer = requests.request(method, url + path, timeout=5)

    assert (answer.status_code, answer.json()["dependency"]) == (503, missing)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_asked_to_end_does_so_at_once_and_without_complaint(
    lonely: dict[str, tuple[subprocess.Popen[bytes], str]], service: str
) -> None:
    process, url = lonely[service]
    wait_until(lambda: answers(f"{url}/health/live"))

    process.terminate()

    assert process.wait(3) == 0


def test_a_service_that_is_asked_to_end_does_not_wait_for_a_dependency_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
        found.close()
        urls = {f"{name}_URL": f"http://127.0.0.1:{silent.getsockname()[1]}" for name in ("ORDER", "INVENTORY", "SHIPPING")}
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | urls
        argv = [sys.executable, "-m", "sample_system.gateway", "--port", str(port)]
        with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL) as gateway:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/health/live"))
            with socket.create_connection(("127.0.0.1", port)) as customer:
                customer.sendall(b"GET /catalog HTTP/1.1\r\nhost: shop\r\n\r\n")
                with silent.accept()[0]:  # the call of the gateway is under way, and nobody answers it
                    gateway.terminate()

                    assert gateway.wait(2.0) == 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, "DATABASE_URL: expected it in the environment"), ({"DEFECTS": "no_timeouts"}, "expected defects of order")],
)
def test_a_service_that_is_set_up_wrongly_says_why_and_does_not_start(settings: dict[str, str], expected: str) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | settings

    ended = subprocess.run(
        [sys.executable, "-m", "sample_system.order", "--port", "1"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert expected in ended.stderr
