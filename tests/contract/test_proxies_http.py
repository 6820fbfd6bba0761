"""Toxics of HTTP on a real engine between a real caller and a real callee: what reaches whom, and what of the connection."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
import requests

from harness.history.events import EdgeSeen
from harness.plan.draws import draw, journey_prefix
from harness.plan.plan import CLEAN, ProxyState, Toxic
from harness.runtime.ports import ProxyMade
from harness.runtime.proxies.changes import is_same
from harness.runtime.proxies.starting import StartedEngine
from tests.contract.proxies_rig import (
    PATIENCE,
    Callee,
    bearing,
    connect,
    embedded,
    ends,
    eventually,
    free_address,
    read_all,
    silent,
    toxic,
)

BODY = b'{"shipment": 8131, "state": "on its way"}' * 5
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
MEGABYTE = 1_000_000


class Shop(Callee):
    """Remembers each request whole, and answers it: in chunks, until its close, or with a length, as the path asks."""

    def __init__(self) -> None:
        super().__init__(self._serve)
        self.asked: list[tuple[str, str, bytes]] = []

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]

    def _serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as lines:
            while line := lines.readline():
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers = {}
                while (header := lines.readline()) not in {b"\r\n", b""}:
                    name, _, value = header.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                if "expect" in headers:
                    sock.sendall(GO_ON)
                self.asked.append((method, path, _body(lines, headers)))
                sock.sendall(answer(method, path))
                if path.startswith("/until-close"):
                    return


def _body(lines: Any, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int(lines.readline(), 16):
            body += lines.read(size)
            lines.readline()
        lines.readline()
        return body
    return bytes(lines.read(int(headers.get("content-length", 0))))


def answer(method: str, path: str) -> bytes:
    if path.startswith("/chunked"):
        head, body = b"Transfer-Encoding: chunked", b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
    elif path.startswith("/until-close"):
        head, body = b"Connection: close", BODY
    elif path.startswith("/number"):
        head, body = b"Content-Length: %d" % len(path), path.encode()
    elif path.startswith("/empty"):
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    elif path.startswith("/upgrade"):
        return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    else:
        head, body = b"Content-Length: %d" % len(BODY), BODY
    return b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (head, b"" if method == "HEAD" else body)


def question(method: str = "GET", path: str = "/", body: bytes = b"", trace: str = "", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: shipping", *(f"{name.replace('_', '-')}: {headers[name]}" for name in headers)]
    if trace:
        lines.append(f"traceparent: 00-{trace:0>32}-00000000000000ab-01")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "\r\n"]).encode() + body


DEFAULTS: dict[str, dict[str, Any]] = {
    "http_error": {"status": 503, "body": ""},
    "http_delay": {"delay": 0, "jitter": 0},
    "http_corrupt": {"how": "bytes"},
    "http_lost_reply": {"how": "hang"},
}


def http_toxic(kind: str, name: str = "it", seed: int | None = None, **attributes: Any) -> Toxic:
    return Toxic(name=name, type=kind, stream="downstream", attributes={**DEFAULTS[kind], **attributes}, seed=seed)


class Edge:
    """One edge of the engine, with a callee behind it."""

    _names = (f"order -> shop {number}" for number in count())

    def __init__(self, started: StartedEngine, shop: Callee) -> None:
        self.started, self.shop = started, shop
        self.made = ProxyMade(next(self._names), free_address(), shop.address)
        started.engine.create([self.made])

    def bears(self, *toxics: Toxic) -> None:
        self.put(bearing(*toxics))

    def put(self, state: ProxyState) -> None:
        assert is_same(self.started.engine.put(self.made.name, state), state)

    def connect(self) -> socket.socket:
        return connect(self.made.listen)

    @property
    def seen(self) -> EdgeSeen:
        return next(edge for edge in self.started.engine.seen() if edge.proxy == self.made.name)

    @property
    def struck(self) -> dict[str, int]:
        found = self.seen.struck
        assert found is not None
        return found


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedEngine]:
    with embedded(Path(tmp_path_factory.mktemp("engine"))) as engine:
        yield engine


@pytest.fixture
def shop() -> Iterator[Shop]:
    callee = Shop()
    yield callee
    callee.close()


@pytest.fixture
def edge(started: StartedEngine, shop: Shop) -> Edge:
    return Edge(started, shop)


@pytest.fixture
def other(started: StartedEngine, shop: Shop) -> Edge:
    return Edge(started, shop)


def read_answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One answer with a length, whole."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        assert piece, f"the connection ended after {head!r}"
        head += piece
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return int(status.split()[1]), headers, read_all(sock, int(headers.get("content-length", 0)))


def is_answered(sock: socket.socket, asked: bytes = b"") -> bool:
    sock.sendall(asked or question())
    return read_answer(sock)[::2] == (200, BODY)


def corrupted(body: bytes) -> bytes:
    return bytes(255 - byte if place % 64 == 0 else byte for place, byte in enumerate(body))


# What each kind does to a request that it strikes. Each returns whether the connection serves on.


def is_an_error(sock: socket.socket, asked: bytes) -> bool:
    sock.sendall(asked)
    status, headers, body = read_answer(sock)
    assert (status, body) == (429, b"slow down")
    assert headers == {"content-type": "text/plain", "content-length": "9", "x-chaos-fault": "it"}
    return True


def is_late(sock: socket.socket, asked: bytes) -> bool:
    begin = time.monotonic()
    assert is_answered(sock, asked)
    assert time.monotonic() - begin >= 0.1
    return True


def has_wrong_bytes(sock: socket.socket, asked: bytes) -> bool:
    sock.sendall(asked)
    status, headers, body = read_answer(sock)
    assert (status, headers, body) == (200, {"content-length": str(len(BODY))}, corrupted(BODY))
    return True


def ends_half_way(sock: socket.socket, asked: bytes) -> bool:
    sock.sendall(asked)
    whole = answer("GET", "/")
    assert read_all(sock, len(whole)) == whole[: len(whole) - len(BODY) + len(BODY) // 2]
    return False


def is_never_answered(sock: socket.socket, asked: bytes) -> bool:
    sock.sendall(asked)
    assert silent(sock, 0.15)
    return False


def is_reset(sock: socket.socket, asked: bytes) -> bool:
    sock.sendall(asked)
    with pytest.raises(ConnectionResetError):
        sock.recv(1)
    return False


KINDS = {
    "error": (is_an_error, False, "http_error", {"status": 429, "body": "slow down"}),
    "delay": (is_late, True, "http_delay", {"delay": 100}),
    "bytes": (has_wrong_bytes, True, "http_corrupt", {"how": "bytes"}),
    "truncate": (ends_half_way, True, "http_corrupt", {"how": "truncate"}),
    "hang": (is_never_answered, True, "http_lost_reply", {"how": "hang"}),
    "reset": (is_reset, True, "http_lost_reply", {"how": "reset"}),
}
DRAWN = [draw(11, number) < 0.4 for number in range(5)]
assert True in DRAWN
assert False in DRAWN
OF_ORDERS = journey_prefix("POST /orders") + "0" * 24
WAYS: dict[str, tuple[dict[str, Any], list[tuple[bytes, bool]]]] = {
    "all": ({}, [(question(), True), (question("POST", body=b"x" * 5000), True)]),
    "methods": ({"methods": ["POST", "PUT"]}, [(question(), False), (question("POST", body=b"x"), True), (question(), False)]),
    "path": ({"path": "/orders/*"}, [(question(path="/orders/1?a=b"), True), (question(path="/orders"), False)]),
    "header": ({"header": "x-tenant: bl?e*"}, [(question(X_Tenant="blue-1"), True), (question(X_Tenant="red"), False)]),
    "journey": (
        {"journey": "POST /orders"},
        [(question(trace=OF_ORDERS), True), (question(trace="1"), False), (question(), False)],
    ),
    "first attempt": (
        {"first_attempt": True},
        [(question(trace=trace), struck) for trace, struck in (("1", True), ("1", False), ("2", True), ("1", False))],
    ),
    "every": ({"every": 2}, [(question(), struck) for struck in (False, True, False, True)]),
    "share": ({"share": 0.4}, [(question(), struck) for struck in DRAWN]),
    "all of them": (
        {"methods": ["GET"], "path": "/o*", "header": "x-tenant: *", "journey": "POST /orders", "every": 2},
        [(question(path="/o", trace=OF_ORDERS, X_Tenant="x"), struck) for struck in (False, True, False)],
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_chosen_is_struck_and_nothing_else(edge: Edge, shop: Shop, kind: str, way: str) -> None:
    meets, reaches_callee, name, attributes = KINDS[kind]
    match, asked = WAYS[way]
    edge.bears(http_toxic(name, seed=11 if "share" in match else None, **attributes, **match))

    sock = edge.connect()
    for each, struck in asked:
        before = len(shop.asked)
        if not struck:
            assert is_answered(sock, each)
        elif not meets(sock, each):
            sock.close()
            sock = edge.connect()
        assert len(shop.asked) - before == (reaches_callee or not struck)
    sock.close()

    hits = sum(struck for _, struck in asked)
    assert edge.struck == {"it": hits}
    assert edge.seen.requests == len(asked)
    assert len([path for path in shop.paths() if path]) == len(asked) - (0 if reaches_callee else hits)


@pytest.mark.parametrize(
    ("kind", "answers", "cut"),
    [
        ("error", {"429": 1}, 0),
        ("delay", {"200": 1}, 0),
        ("bytes", {"200": 1}, 0),
        ("truncate", {"200": 1}, 1),
        ("hang", {"0": 1}, 0),
        ("reset", {"0": 1}, 1),
    ],
)
def test_what_the_caller_got_is_what_is_counted(edge: Edge, kind: str, answers: dict[str, int], cut: int) -> None:
    meets, _, name, attributes = KINDS[kind]
    edge.bears(http_toxic(name, **attributes))

    with edge.connect() as sock:
        meets(sock, question())

    assert eventually(lambda: edge.seen.answers == answers)
    assert eventually(lambda: (edge.seen.open, edge.seen.cut) == (0, cut))
    assert (edge.seen.requests, edge.seen.cannot) == (1, "")


@pytest.mark.parametrize("kind", KINDS)
def test_on_an_open_connection_it_acts_from_the_next_request_on_and_no_longer_than_it_is_there(edge: Edge, kind: str) -> None:
    meets, _, name, attributes = KINDS[kind]
    with edge.connect() as sock:
        assert is_answered(sock)
        edge.bears(http_toxic(name, **attributes))
        serves_on = meets(sock, question())
        edge.put(CLEAN)
        if serves_on:
            assert is_answered(sock)
        else:
            assert ends(sock)
    with edge.connect() as sock:
        assert is_answered(sock)

    assert edge.struck == {"it": 1}


class TestRequestsOfEveryKind:
    def test_requests_sent_in_one_go_are_answered_in_their_order(self, edge: Edge, shop: Shop) -> None:
        edge.bears(
            http_toxic("http_error", path="/bad/*", status=500), http_toxic("http_delay", "late", path="/late", delay=50)
        )
        paths = ["/1", "/bad/2", "/late", "/bad/4", "/5", "/bad/6"]

        with edge.connect() as sock:
            sock.sendall(b"".join(question(path=path) for path in paths))
            found = [read_answer(sock)[0] for _ in paths]

        assert found == [200, 500, 200, 500, 200, 500]
        assert shop.paths() == ["/1", "/late", "/5"]

    def test_an_answer_made_here_waits_for_the_one_before_it(self, edge: Edge) -> None:
        edge.bears(http_toxic("http_error", path="/bad"), toxic("latency", latency=300, jitter=0))

        with edge.connect() as sock:
            sock.sendall(question() + question(path="/bad"))
            assert silent(sock, 0.1)
            assert [read_answer(sock)[0] for _ in range(2)] == [200, 503]

    @pytest.mark.parametrize("kind", KINDS)
    def test_bodies_in_chunks_reach_the_callee_whole_or_not_at_all(self, edge: Edge, shop: Shop, kind: str) -> None:
        meets, reaches_callee, name, attributes = KINDS[kind]
        edge.bears(http_toxic(name, **attributes))
        chunks = b"".join(b"1000\r\n%b\r\n" % (b"x" * 4096) for _ in range(50))

        with edge.connect() as sock:
            meets(sock, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")

        assert shop.asked == ([("POST", "/", b"x" * 204_800)] if reaches_callee else [])

    @pytest.mark.parametrize("path", ["/chunked", "/until-close"])
    @pytest.mark.parametrize("how", ["bytes", "truncate"])
    def test_answers_of_unknown_length_are_corrupted_too(self, edge: Edge, path: str, how: str) -> None:
        edge.bears(http_toxic("http_corrupt", how=how))
        body = b"hello, world" if path == "/chunked" else BODY

        caller = http.client.HTTPConnection(edge.made.listen.host, edge.made.listen.port, timeout=PATIENCE)
        caller.request("GET", path)
        found = caller.getresponse()
        assert found.status == 200
        if how == "bytes":
            assert found.read() == corrupted(body)
        elif path == "/chunked":
            with pytest.raises(http.client.IncompleteRead):
                found.read()
        else:
            assert 0 < len(found.read()) < len(body), "which a caller cannot know"
        found.close()
        caller.close()

    def test_an_answer_without_a_body_cannot_be_corrupted(self, edge: Edge) -> None:
        edge.bears(http_toxic("http_corrupt"))

        with edge.connect() as sock:
            sock.sendall(question("HEAD") + question(path="/empty"))
            expected = answer("HEAD", "/") + answer("GET", "/empty")
            assert read_all(sock, len(expected)) == expected
            assert edge.struck == {"it": 0}
            assert not is_answered(sock)

    def test_a_caller_that_asks_whether_to_go_on_is_told_so(self, edge: Edge, shop: Shop) -> None:
        edge.bears(http_toxic("http_error", path="/bad"), http_toxic("http_lost_reply", "lost", path="/lost"))

        with edge.connect() as sock:
            for path, status in (("/", 200), ("/bad", 503)):
                sock.sendall(question("POST", path, Expect="100-continue", Content_Length="5"))
                assert read_all(sock, len(GO_ON)) == GO_ON
                sock.sendall(b"hello")
                assert read_answer(sock)[0] == status
            sock.sendall(question("POST", "/lost", Expect="100-continue", Content_Length="5"))
            assert read_all(sock, len(GO_ON)) == GO_ON
            sock.sendall(b"hello")
            assert silent(sock, 0.1)

        assert shop.asked == [("POST", "/", b"hello"), ("POST", "/lost", b"hello")]

    def test_a_head_is_answered_without_a_body(self, edge: Edge) -> None:
        edge.bears(http_toxic("http_error", body="oops", path="/bad"))

        with edge.connect() as sock:
            for path in ("/bad", "/", "/bad", "/"):
                sock.sendall(question("HEAD", path))
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += sock.recv(1)
                assert (b" 503 " in head) == (path == "/bad")
            assert is_answered(sock)

    @pytest.mark.parametrize(
        ("first", "ends_there"),
        [(b"GET / HTTP/1.0\r\n\r\n", True), (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False)],
    )
    def test_an_error_leaves_the_connection_as_the_request_wants_it(self, edge: Edge, first: bytes, ends_there: bool) -> None:
        edge.bears(http_toxic("http_error"))

        with edge.connect() as sock:
            sock.sendall(first)
            status, headers, _ = read_answer(sock)
            as_wanted = ends(sock) if ends_there else silent(sock, 0.1)

        assert (status, as_wanted) == (503, True)
        assert headers["connection"] == ("close" if ends_there else "keep-alive")
        assert eventually(lambda: (edge.seen.open, edge.seen.cut) == (0, 0))

    def test_a_client_of_the_street_gets_along(self, edge: Edge, shop: Shop) -> None:
        edge.bears(http_toxic("http_error", every=2, status=502, body="bad gateway"))

        with requests.Session() as session:
            found = [session.post(f"http://{edge.made.listen}/", data=b"x" * 300_000, timeout=PATIENCE) for _ in range(6)]

        assert [each.status_code for each in found] == [200, 502] * 3
        assert (found[1].text, found[1].reason) == ("bad gateway", "Bad Gateway")
        assert (len(shop.asked), edge.seen.accepted) == (3, 1)


class TestWhatIsNoHttp:
    @pytest.mark.parametrize(
        "first", [question(path="/upgrade", Connection="Upgrade", Upgrade="x"), b"CONNECT db:5432 HTTP/1.1\r\nHost: db\r\n\r\n"]
    )
    def test_what_an_upgrade_or_a_connect_leads_to_is_left_alone(self, started: StartedEngine, first: bytes) -> None:
        switched = answer("GET", "/upgrade")

        def switch(sock: socket.socket) -> None:
            with sock:
                read_all(sock, len(first))
                sock.sendall(switched)
                while data := sock.recv(1000):
                    sock.sendall(data)

        callee = Callee(switch)
        edge = Edge(started, callee)
        edge.bears(http_toxic("http_error", path="/"), http_toxic("http_corrupt", "wrong"))
        with edge.connect() as sock:
            sock.sendall(first)
            assert read_all(sock, len(switched)) == switched
            sock.sendall(question())
            assert read_all(sock, len(question())) == question()
        callee.close()

        assert edge.struck == {"it": 0, "wrong": 0}
        assert edge.seen.cannot.startswith("1 connections ceased to be plain HTTP/1.1")

    @pytest.mark.parametrize("is_there", [False, True])
    def test_an_offer_of_an_upgrade_that_the_callee_declines_changes_nothing(self, edge: Edge, is_there: bool) -> None:
        error = http_toxic("http_error", path="/bad")
        edge.bears(*([error] if is_there else []))
        offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}

        with edge.connect() as sock:
            assert is_answered(sock, question("POST", body=b"hello", **offer))
            edge.bears(error)
            sock.sendall(question("POST", "/bad", body=b"hello", **offer) + question("HEAD", "/bad", **offer))
            assert read_answer(sock)[0] == 503
            assert b" 503 " in read_all(sock, 50)
        with edge.connect() as sock:
            assert is_answered(sock, question(**offer))

        assert edge.struck == {"it": 2}
        assert (edge.seen.requests, edge.seen.answers, edge.seen.cannot) == (4, {"200": 2, "503": 2}, "")

    def test_other_protocols_are_left_alone(self, started: StartedEngine) -> None:
        def echo(sock: socket.socket) -> None:
            with sock:
                sock.sendall(b"220 ready\r\n")
                while data := sock.recv(1000):
                    sock.sendall(data)

        callee = Callee(echo)
        edge = Edge(started, callee)
        edge.bears(http_toxic("http_error"))
        with edge.connect() as sock:
            assert read_all(sock, 11) == b"220 ready\r\n"
            for data in (b"*1\r\n$4\r\nPING\r\n", question(), os.urandom(100)):
                sock.sendall(data)
                assert read_all(sock, len(data)) == data
        callee.close()

        assert (edge.seen.requests, edge.struck) == (None, {"it": 0})


class TestWithOtherToxics:
    """Nearest to the caller are those of HTTP: an answer made there meets none of TCP, and is not held up by any."""

    @pytest.mark.parametrize(
        "neighbour",
        [
            toxic("latency", "downstream", latency=60_000, jitter=0),
            toxic("latency", "upstream", latency=60_000, jitter=0),
            toxic("timeout", "downstream", timeout=0),
            toxic("timeout", "upstream", timeout=0),
            toxic("bandwidth", "downstream", rate=0),
            toxic("reset_peer", "upstream", timeout=0),
            toxic("limit_data", "downstream", bytes=0),
        ],
        ids=lambda neighbour: f"{neighbour.type} {neighbour.stream}",
    )
    def test_an_error_comes_all_the_same_and_at_once(self, edge: Edge, shop: Shop, neighbour: Toxic) -> None:
        edge.bears(neighbour, http_toxic("http_error"))

        with edge.connect() as sock:
            for _ in range(3):
                sock.sendall(question("POST", body=b"hello"))
                assert read_answer(sock)[0] == 503

            assert shop.asked == []
            assert edge.struck == {neighbour.name: 0, "it": 3}

    def test_delays_of_both_kinds_add_up(self, edge: Edge) -> None:
        edge.bears(
            toxic("latency", latency=60, jitter=0),
            http_toxic("http_delay", delay=70),
            http_toxic("http_delay", "too", delay=50),
        )

        with edge.connect() as sock:
            begin = time.monotonic()
            assert is_answered(sock)

        assert time.monotonic() - begin >= 0.18

    def test_what_a_toxic_of_tcp_makes_of_an_answer_is_corrupted_afterwards(self, edge: Edge) -> None:
        edge.bears(toxic("slicer", average_size=7, size_variation=2, delay=0), http_toxic("http_corrupt"))

        with edge.connect() as sock:
            assert has_wrong_bytes(sock, question())
            assert has_wrong_bytes(sock, question())

    def test_a_request_that_is_lost_upstream_was_struck_all_the_same(self, edge: Edge, shop: Shop) -> None:
        edge.bears(toxic("timeout", "upstream", timeout=0), http_toxic("http_delay", delay=10))

        with edge.connect() as sock:
            sock.sendall(question())
            assert silent(sock, 0.2)

        assert (shop.asked, edge.struck) == ([], {"timeout-upstream": 1, "it": 1})

    def test_a_disabled_proxy_answers_nobody(self, edge: Edge) -> None:
        with edge.connect() as sock:
            edge.put(ProxyState(enabled=False, toxics=(http_toxic("http_error"),)))
            assert ends(sock)
        with pytest.raises(ConnectionRefusedError):
            edge.connect()

    def test_an_upstream_that_refuses_ends_the_connection_as_ever(self, started: StartedEngine) -> None:
        made = ProxyMade("order -> nobody", free_address(), free_address())
        started.engine.create([made])
        started.engine.put(made.name, bearing(http_toxic("http_error")))

        with connect(made.listen) as sock, suppress(ConnectionError):
            sock.sendall(question())
            found = sock.recv(1000)
            assert found == b"" or found.startswith(b"HTTP/1.1 503 ")
            assert found == b"" or ends(sock)

    def test_while_an_edge_is_unreachable_nothing_is_answered_and_nothing_lost(self, edge: Edge, shop: Shop) -> None:
        error = http_toxic("http_error", path="/bad")
        with edge.connect() as sock:
            assert is_answered(sock)
            edge.bears(error, toxic("unreachable", name="away"))
            sock.sendall(question(path="/bad") + question())
            assert silent(sock, 0.2)
            edge.bears(error)

            assert [read_answer(sock)[0] for _ in range(2)] == [503, 200]
        assert len(shop.asked) == 2


class TestHealing:
    def test_what_is_delayed_goes_on_at_once(self, edge: Edge, shop: Shop) -> None:
        edge.bears(http_toxic("http_delay", delay=3_600_000))
        with edge.connect() as sock:
            sock.sendall(question())
            assert silent(sock, 0.2)
            assert shop.asked == []

            edge.put(CLEAN)

            assert read_answer(sock)[0] == 200
            assert is_answered(sock)

    def test_reset_of_the_whole_engine_does_the_same(self, edge: Edge) -> None:
        edge.bears(http_toxic("http_delay", delay=3_600_000))
        with edge.connect() as sock:
            sock.sendall(question())
            assert silent(sock, 0.1)

            requests.post(f"http://{edge.started.control}/reset", timeout=PATIENCE).raise_for_status()

            assert read_answer(sock)[0] == 200

    def test_a_request_under_way_is_answered_as_was_decided(self, edge: Edge, shop: Shop) -> None:
        edge.bears(http_toxic("http_error"))
        with edge.connect() as sock:
            sock.sendall(question("POST", body=b"hello")[:-1])
            assert eventually(lambda: edge.struck == {"it": 1})
            edge.put(CLEAN)
            sock.sendall(b"o" + question())

            assert [read_answer(sock)[0] for _ in range(2)] == [503, 200]
        assert shop.paths() == ["/"]

    def test_a_changed_toxic_acts_as_changed_from_the_next_request_on(self, edge: Edge) -> None:
        edge.bears(http_toxic("http_error", status=500))
        with edge.connect() as sock:
            sock.sendall(question())
            assert read_answer(sock)[0] == 500
            edge.bears(http_toxic("http_error", status=501))
            sock.sendall(question())
            assert read_answer(sock)[0] == 501

    def test_a_caller_left_hanging_that_gives_up_leaves_nothing_behind(self, edge: Edge) -> None:
        engine = psutil.Process(edge.started.process.pid)
        before = engine.num_fds()
        edge.bears(http_toxic("http_lost_reply"))

        for _ in range(20):
            with edge.connect() as sock:
                sock.sendall(question())
        assert eventually(lambda: edge.seen.accepted == 20)

        assert eventually(lambda: edge.seen.open == 0)
        assert eventually(lambda: engine.num_fds() <= before)
        assert edge.seen.answers == {"0": 20}


class TestBoundedMemory:
    def grown(self, edge: Edge, before: int) -> int:
        return int(psutil.Process(edge.started.process.pid).memory_info().rss) - before

    def now(self, edge: Edge) -> int:
        return int(psutil.Process(edge.started.process.pid).memory_info().rss)

    @pytest.mark.parametrize("toxics", [[], [http_toxic("http_error", path="/bad")]], ids=["clean", "with a toxic"])
    def test_a_head_without_end_is_read_along_no_further(self, edge: Edge, other: Edge, toxics: list[Toxic]) -> None:
        edge.bears(*toxics)
        before = self.now(edge)
        with edge.connect() as sock, other.connect() as neighbour:
            sock.sendall(b"GET / HTTP/1.1\r\nX: ")
            for _ in range(60):
                sock.sendall(b"x" * MEGABYTE)
                assert is_answered(neighbour)

            assert self.grown(edge, before) < 40 * MEGABYTE

    def test_half_a_request_and_then_silence_disturb_nobody(self, edge: Edge, other: Edge) -> None:
        edge.bears(http_toxic("http_error"))
        with edge.connect() as sock, other.connect() as neighbour:
            for size in (1, 10, 30):
                sock.sendall(question("POST", body=b"hello")[:size])
                assert is_answered(neighbour)
            assert silent(sock, 0.1)

        assert eventually(lambda: edge.seen.open == 0)

    def test_a_large_body_is_thrown_away_as_it_comes(self, edge: Edge, shop: Shop) -> None:
        edge.bears(http_toxic("http_error"))
        before = self.now(edge)
        with edge.connect() as sock:
            sock.sendall(question("POST", Content_Length=str(200 * MEGABYTE)))
            for _ in range(200):
                sock.sendall(bytes(MEGABYTE))
            assert read_answer(sock)[0] == 503

        assert (shop.asked, edge.seen.bytes_up) == ([], 0)
        assert self.grown(edge, before) < 40 * MEGABYTE

    def test_a_caller_that_does_not_read_the_errors_it_asks_for_is_read_no_longer(self, edge: Edge, other: Edge) -> None:
        edge.bears(http_toxic("http_error", body="x" * 65_536))
        before = self.now(edge)
        with edge.connect() as sock, other.connect() as neighbour:
            sock.settimeout(0.5)
            with suppress(TimeoutError):
                for _ in range(100):
                    sock.sendall(question() * 1000)

            assert is_answered(neighbour)
            assert self.grown(edge, before) < 40 * MEGABYTE
            sock.settimeout(PATIENCE)
            assert all(read_answer(sock)[0] == 503 for _ in range(100))

    def test_a_callee_that_never_answers_gets_no_more_requests_than_so_many(self, started: StartedEngine) -> None:
        callee = Callee(lambda sock: sock.recv(1) and time.sleep(PATIENCE))
        edge = Edge(started, callee)
        edge.bears(http_toxic("http_error", path="/bad"))
        with edge.connect() as sock:
            sock.settimeout(0.5)
            with suppress(TimeoutError):
                for _ in range(1000):
                    sock.sendall(question() * 1000)
            found = edge.seen.requests
        callee.close()

        assert found == 1000


COMING_AND_GOING = [
    http_toxic("http_error", "error", share=0.3),
    http_toxic("http_error", "error every", every=3, body="x" * 5000),
    http_toxic("http_delay", "delay", delay=2, jitter=1, share=0.5),
    http_toxic("http_corrupt", "wrong", path="/nothing"),
    toxic("latency", latency=1, jitter=1),
    toxic("slicer", "upstream", average_size=20, size_variation=5, delay=10),
]


def call_until(over: threading.Event, edge: Edge, caller: int) -> list[object]:
    """Send requests, several at once, cut anywhere; what was answered by neither the callee nor an error."""
    number, random, wrong = 0, Random(caller), []
    with edge.connect() as sock:
        while not over.is_set():
            paths = [f"/number/{caller}/{number + more}" for more in range(random.randint(1, 6))]
            number += len(paths)
            sent = b"".join(question("POST", path, body=b"x" * random.randint(1, 3000)) for path in paths)
            for place in range(0, len(sent), size := random.choice([7, 100, 100_000])):
                sock.sendall(sent[place : place + size])
            for path in paths:
                status, headers, body = read_answer(sock)
                if (status, body) != (200, path.encode()) and (status != 503 or "x-chaos-fault" not in headers):
                    wrong.append((path, status, body))
    return wrong


def test_while_toxics_come_and_go_every_request_gets_its_own_answer_or_an_error(edge: Edge, shop: Shop) -> None:
    over, random = threading.Event(), Random(5)
    with ThreadPoolExecutor(4) as callers:
        wrong = [callers.submit(call_until, over, edge, caller) for caller in range(4)]
        end = time.monotonic() + 3
        try:
            while time.monotonic() < end:
                edge.bears(*random.sample(COMING_AND_GOING, random.randint(0, len(COMING_AND_GOING))))
            edge.put(CLEAN)
        finally:
            over.set()

    assert [each.result(PATIENCE) for each in wrong] == [[], [], [], []]
    assert eventually(lambda: edge.seen.open == 0)
    found = edge.seen
    assert found.answers is not None
    assert set(found.answers) == {"200", "503"}
    assert found.requests == sum(found.answers.values()) > 100
    assert found.answers["200"] == len(shop.asked) == len(set(shop.paths()))
    assert found.answers["503"] == edge.struck["error"] + edge.struck["error every"]
    assert (found.accepted, found.cut, found.cannot) == (4, 0, "")
