"""Whoever answers byte by byte, or without end, is listened to for no longer than whoever does not answer at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from harness.errors import ProxyError
from harness.runtime.bounded import BoundedConnection
from harness.runtime.bounded_session import bounded_session
from harness.runtime.ports import Address
from harness.runtime.probes.metrics import read_counter
from harness.runtime.proxies.session import CALL_WITHIN
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from harness.runtime.services.waiting import LOOK_SECONDS, why_no_answer

SLACK = 0.7
HEAD = b"HTTP/1.1 200 OK\r\n"

Says = Callable[[socket.socket], None]


def drips_its_head(sock: socket.socket) -> None:
    sock.sendall(HEAD)
    while True:
        sock.sendall(b"X")
        time.sleep(0.05)


def drips_its_body(sock: socket.socket) -> None:
    sock.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        sock.sendall(b" ")
        time.sleep(0.05)


def never_ends(sock: socket.socket) -> None:
    sock.sendall(HEAD + b"\r\n")
    while True:
        sock.sendall(b"a 1\n" * 10_000)


def says_nothing(sock: socket.socket) -> None:
    time.sleep(30)


class Server:
    """Takes connections, and says to each what it is told to."""

    def __init__(self, says: Says) -> None:
        self._says = says
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = Address(*self._door.getsockname()[:2])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._door.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(4096)
            self._says(connection)

    def close(self) -> None:
        self._door.close()


@pytest.fixture(params=[drips_its_head, drips_its_body, says_nothing])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with closing(Server(request.param)) as started:
        yield started


def seconds_of(deed: Callable[[], object]) -> float:
    began = time.monotonic()
    deed()
    return time.monotonic() - began


def test_the_proxy_engine_is_given_up_in_time(server: Server) -> None:
    def ask() -> None:
        with pytest.raises(ProxyError, match="it hangs"):
            ToxiproxyEngine(server.address).version()

    assert seconds_of(ask) < CALL_WITHIN + SLACK


def test_a_page_of_metrics_is_given_up_in_time(server: Server) -> None:
    def ask() -> None:
        reading = read_counter(server.address, "a", bounded_session(), patience=0.5)
        assert reading.value is None
        assert "did not answer within 0.5 s" in reading.detail

    assert seconds_of(ask) < 0.5 + SLACK


def test_a_page_of_metrics_without_end_is_not_kept(server_without_end: Server) -> None:
    reading = read_counter(server_without_end.address, "a", bounded_session(), patience=5.0)

    assert reading.value is None
    assert "more than" in reading.detail


@pytest.fixture
def server_without_end() -> Iterator[Server]:
    with closing(Server(never_ends)) as started:
        yield started


@pytest.mark.parametrize("says", [drips_its_head, says_nothing])
def test_a_service_that_is_to_say_whether_it_is_ready_is_given_up_in_time(says: Says) -> None:
    with closing(Server(says)) as server:
        assert seconds_of(lambda: why_no_answer(server.address, "/ready")) < LOOK_SECONDS + SLACK


def test_a_connection_is_bounded_as_a_whole(server: Server) -> None:
    def ask() -> None:
        with closing(BoundedConnection(server.address.host, server.address.port, timeout=0.4)) as connection:
            connection.request("GET", "/")
            with pytest.raises(TimeoutError):
                connection.getresponse().read()

    assert seconds_of(ask) < 0.4 + SLACK


def test_a_session_keeps_its_connection_and_each_answer_has_its_own_time() -> None:
    def answers(sock: socket.socket) -> None:
        while True:
            time.sleep(0.3)
            sock.sendall(HEAD + b"Content-Length: 2\r\n\r\nok")
            if not sock.recv(4096):
                return

    with closing(Server(answers)) as server:
        session = bounded_session()
        texts = [session.get(f"http://{server.address}/", timeout=0.8).text for _ in range(4)]

    assert texts == ["ok"] * 4


def test_a_session_obeys_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    with closing(Server(lambda sock: sock.sendall(HEAD + b"Content-Length: 2\r\n\r\nok"))) as server:
        assert bounded_session().get(f"http://{server.address}/", timeout=1).text == "ok"
