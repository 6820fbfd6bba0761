"""What the harness looks at from outside: edges through real sockets, counters through real pages."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests

from harness.plan.plan import Asking
from harness.runtime.ports import Address
from harness.runtime.probes.bite import QUESTIONS, look
from harness.runtime.probes.metrics import find_counter, read_counter
from harness.runtime.probes.sql import ask

Behaviour = Callable[[socket.socket], None]


@contextmanager
def server(behave: Behaviour) -> Iterator[Address]:
    """A server for one connection after the other, each treated by `behave`."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                behave(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Address(*listener.getsockname())
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def answer(reply: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(reply)

    return behave


REPLIES = {"http": b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "postgresql": b"N", "redis": b"-NOAUTH\r\n"}


def lose_the_answer(connection: socket.socket) -> None:
    """As a server whose answers are lost: its closing, which a question may ask for, comes through."""
    if b"connection: close" not in connection.recv(4096).lower():
        say_nothing(connection)


def say_nothing(connection: socket.socket) -> None:
    connection.settimeout(3)
    while connection.recv(4096):
        pass


def reset(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("protocol", sorted(QUESTIONS))
def test_a_server_that_answers_is_seen_to_answer(protocol: str) -> None:
    with server(answer(REPLIES[protocol])) as address:
        seen = look(address, protocol, Asking(patience=2))

    assert seen.outcome == "answered"
    assert 0 <= seen.seconds < 2


def test_a_closed_port_is_seen_to_refuse() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = Address(*free.getsockname())

    assert look(address, "http", Asking(patience=2)).outcome == "refused"


@pytest.mark.parametrize(
    ("behave", "outcome"), [(reset, "reset"), (say_nothing, "silent"), (close, "closed")], ids=["reset", "silent", "closed"]
)
def test_each_way_of_not_answering_is_told_apart(behave: Behaviour, outcome: str) -> None:
    with server(behave) as address:
        assert look(address, "redis", Asking(patience=0.3)).outcome in (
            {"closed", "reset"} if outcome == "closed" else {outcome}
        )


def test_of_an_unknown_protocol_only_opening_and_closing_are_seen() -> None:
    with server(say_nothing) as address:
        assert look(address, "tcp", Asking(patience=2)).outcome == "answered"
    with server(lambda connection: None) as address:
        assert look(address, "tcp", Asking(patience=2)).outcome == "closed"


def test_a_probe_comes_from_the_address_it_was_given() -> None:
    sources: list[str] = []

    def note(connection: socket.socket) -> None:
        sources.append(connection.getpeername()[0])
        connection.sendall(b"x")

    with server(note) as address:
        look(address, "tcp", Asking(patience=2), source="127.0.0.1")

    assert sources == ["127.0.0.1"]


PAGE = """\
# HELP fallback_total fallbacks
# TYPE fallback_total counter
fallback_total{dependency="shipping",name="shipping-deferred"} 12.0
fallback_total{dependency="stock",name="shipping-deferred"} 3.0
fallback_total{dependency="shipping",name="other"} 100.0
fallback_total_created{name="shipping-deferred"} 1.7e9
plain 5
escaped{name="a\\"b"} 1
"""


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ('fallback_total{name="shipping-deferred"}', 15.0),
        ('fallback_total{name="shipping-deferred",dependency="stock"}', 3.0),
        ("fallback_total", 115.0),
        ("plain", 5.0),
        ('escaped{name="a\\"b"}', 1.0),
        ('fallback_total{name="nobody"}', None),
        ("fallback", None),
        ("not a metric", None),
    ],
)
def test_a_counter_is_the_sum_of_the_series_that_carry_its_labels(metric: str, value: float | None) -> None:
    assert find_counter(PAGE, metric) == value


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n", "answered 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx\n", "has no plain"),
        (b"", "did not answer"),
    ],
)
def test_a_counter_that_cannot_be_read_says_why(reply: bytes, detail: str) -> None:
    with server(answer(reply)) as address, requests.Session() as session:
        reading = read_counter(address, "plain", session)

    assert reading.value is None
    assert detail in reading.detail


def test_a_database_that_is_not_there_gives_no_answer_and_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    answered = ask(f"postgresql://nobody@127.0.0.1:{port}/none", "SELECT 1", patience=2)

    assert answered.value is None
    assert "refused" in answered.detail.lower() or "Connect" in answered.detail


@pytest.mark.parametrize("protocol", sorted(QUESTIONS))
def test_lost_answers_are_silence_whatever_is_spoken(protocol: str) -> None:
    with server(lose_the_answer) as address:
        assert look(address, protocol, Asking(patience=0.3)).outcome == "silent"
