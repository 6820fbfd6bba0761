"""The embedded engine and whatever is sent to its control API: an answer or a close, bounded memory, and the edges undisturbed."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import fields

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.runtime.proxies.embedded.toxics import EFFECTS
from tests.contract.proxies_rig import PATIENCE, Echo, connect, free_address, read_all
from tests.contract.toxiproxy_conformance import NOBODY, Engine, error, running

MOST_GROWN = 64 * 1024 * 1024

# No colons: what looks like an address with a name in it would be looked up.
WORDS = st.text(st.characters(exclude_characters=":", max_codepoint=0x3FF), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.sampled_from([NOBODY, "127.0.0.1:0", "[::1]:0", "1.2.3.4:5", ":0", "127.0.0.1:99999", "x" * 5000])
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=4
)
KINDS = st.sampled_from(sorted(EFFECTS))
ATTRIBUTES = st.sampled_from(sorted({each.name for effect in EFFECTS.values() for each in fields(effect)} | {"path", "every"}))
TOXICS = st.fixed_dictionaries(
    {},
    optional={
        "type": KINDS | JSON,
        "name": WORDS | JSON,
        "stream": st.sampled_from(["upstream", "DOWNSTREAM", ""]) | JSON,
        "toxicity": st.floats(0, 1) | JSON,
        "seed": st.integers() | JSON,
        "attributes": st.dictionaries(ATTRIBUTES, st.integers(0, 1000) | JSON, max_size=3) | JSON,
    },
)
PROXIES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from("abc") | JSON,
        "upstream": st.just(NOBODY) | JSON,
        "listen": st.just("127.0.0.1:0") | JSON,
        "enabled": st.booleans() | JSON,
        "toxics": st.lists(TOXICS, max_size=2) | JSON,
    },
)
BODIES = st.one_of(
    JSON.map(lambda data: json.dumps(data).encode()),
    PROXIES.map(lambda data: json.dumps(data).encode()),
    st.lists(PROXIES, max_size=3).map(lambda data: json.dumps(data).encode()),
    TOXICS.map(lambda data: json.dumps(data).encode()),
    st.binary(max_size=40),
)
PARTS = st.sampled_from(["a", "b", "c", "%2F", "%00", "..", "latency_downstream", "toxics", "", "%ff%fe", "*"])
PATHS = st.one_of(
    st.sampled_from(["/proxies", "/populate", "/reset", "/version", "/edges", "/metrics", "/health", "*", "/", "//"]),
    st.builds("/proxies/{}".format, PARTS),
    st.builds("/proxies/{}/toxics".format, PARTS),
    st.builds("/proxies/{}/toxics/{}".format, PARTS, PARTS),
)
METHODS = st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"])


class Whole:
    """An engine with an edge that works, which it has to do at any time."""

    def __init__(self, engine: Engine, beside: socket.socket) -> None:
        self.engine, self._beside = engine, beside
        self._process = psutil.Process(engine.pid)
        self._before = self.memory()
        self._api: socket.socket | None = None

    def memory(self) -> int:
        return int(self._process.memory_info().rss)

    def check(self) -> None:
        self._beside.sendall(b"ping")
        assert read_all(self._beside, 4) == b"ping"
        assert self.engine("GET", "/version").status_code == 200
        assert self.memory() - self._before < MOST_GROWN

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to one request, over a connection that is kept where it can be."""
        if self._api is None:
            self._api = connect(self.engine.control)
        self._api.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += (piece := self._api.recv(65536))
            assert piece, f"no whole answer to {request!r}: {answer!r}"
        head, _, body = answer.partition(b"\r\n\r\n")
        found = re.search(rb"Content-Length: (\d+)", head)
        size = int(found[1]) if found else 0
        status = int(head.split(b" ", 2)[1])
        body += read_all(self._api, size - len(body))
        if status == 400 and b'"bad request"' in body:  # it was no HTTP, and nothing more is heard
            self.close()
        return status, body

    def close(self) -> None:
        if self._api is not None:
            self._api.close()
            self._api = None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with ExitStack() as stack:
        engine = stack.enter_context(running("embedded", tmp_path_factory.mktemp("bad")))
        callee = stack.enter_context(closing(Echo()))
        whole = Whole(engine, stack.enter_context(connect(engine.made("beside", upstream=callee.address))))
        stack.callback(whole.close)
        whole.check()
        yield whole
        whole.check()


def request_of(method: str, path: str, body: bytes) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def is_answered(whole: Whole, method: str, path: str, body: bytes) -> None:
    for each in variants(body):
        status, told = whole.exchange(request_of(method, path, each))

        assert status in {200, 201, 204, 400, 404, 405, 409, 413, 500}
        assert b"defect" not in told


def is_survived(whole: Whole, data: bytes) -> None:
    for each in variants(data):
        with connect(whole.engine.control) as sock, suppress(OSError):
            sock.sendall(each)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass


def variants(data: bytes) -> list[bytes]:
    """As it is, cut off, said twice, and with a byte turned over: to think of something new takes longer than to send it."""
    half = len(data) // 2
    return [data, data[:half], data * 2, data[:half] + bytes([data[half] ^ 0x10]) + data[half + 1 :] if data else b"?"]


REQUESTS = (METHODS, PATHS, BODIES)
PIECES = st.lists(st.binary(max_size=60) | st.builds(request_of, METHODS, PATHS, BODIES), max_size=5).map(b"".join)
QUICK = settings(max_examples=250, suppress_health_check=list(HealthCheck), database=None)
LONG = settings(QUICK, max_examples=12_500)


@QUICK
@given(*REQUESTS)
def test_any_request_is_answered(whole: Whole, method: str, path: str, body: bytes) -> None:
    is_answered(whole, method, path, body)


@QUICK
@given(PIECES)
def test_any_bytes_are_survived(whole: Whole, data: bytes) -> None:
    is_survived(whole, data)


@pytest.mark.nightly
@LONG
@given(*REQUESTS)
def test_any_request_is_answered_all_night(whole: Whole, method: str, path: str, body: bytes) -> None:
    is_answered(whole, method, path, body)


@pytest.mark.nightly
@LONG
@given(PIECES)
def test_any_bytes_are_survived_all_night(whole: Whole, data: bytes) -> None:
    is_survived(whole, data)


@pytest.mark.parametrize(
    ("begin", "filling", "status"),
    [
        (b"GET /version HTTP/1.1\r\nX: ", b"x" * 65536, b"431"),
        (b"GET /", b"x" * 65536, b"431"),
        (b"GET /version HTTP/1.1\r\n", b"X: y\r\n" * 10_000, b"431"),
        (b"POST /proxies HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n", b"[" * 65536, b"413"),
        (b"POST /proxies HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n" * 10_000, b"413"),
    ],
)
def test_a_gigabyte_in_one_request_is_turned_away_at_once(whole: Whole, begin: bytes, filling: bytes, status: bytes) -> None:
    sent = 0
    with connect(whole.engine.control) as sock:
        sock.sendall(begin)
        began = time.monotonic()
        with suppress(OSError):
            while sent < 2**30 and time.monotonic() - began < PATIENCE:
                sock.sendall(filling)
                sent += len(filling)
        with suppress(ConnectionResetError):
            answer = sock.recv(100)
            assert not answer or answer.split(b" ")[1] == status, "who sends on and on is reset, whatever was said before"

    assert sent < 2**30
    whole.check()


def test_who_is_turned_away_may_read_why(whole: Whole) -> None:
    for _ in range(3):
        long = whole.engine("POST", "/proxies", b"[" * (1024 * 1024 + 1))
        wide = whole.engine("GET", "/version", headers={"X": "x" * 600_000})

        assert (error(long)[0], error(wide)[0]) == (413, 431)
        assert [answer.headers["Connection"] for answer in (long, wide)] == ["close", "close"], "it would ask there again"


def test_answers_that_nobody_reads_are_not_made(whole: Whole) -> None:
    """Each is small; without a bound, a million of them would not be."""
    many = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
    with connect(whole.engine.control) as sock:
        sock.setblocking(False)
        sent = 0
        began = time.monotonic()
        while sent < 64 * 1024 * 1024 and time.monotonic() - began < 2:
            try:
                sent += sock.send(many)
            except BlockingIOError:
                time.sleep(0.01)
        whole.check()

    assert sent < 64 * 1024 * 1024


def test_half_requests_and_silence_hold_up_nobody(whole: Whole) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(whole.engine.control)).sendall(b"POST /proxies HTTP/1.1\r\nContent-Le")
        whole.check()
        whole.engine.made("made-meanwhile")
    assert whole.engine("DELETE", "/proxies/made-meanwhile").status_code == 204


@pytest.mark.slow
def test_half_a_request_is_waited_for_as_long_as_toxiproxy_does(whole: Whole) -> None:
    with connect(whole.engine.control) as sock:
        sock.sendall(b"POST /proxies HTTP/1.1\r\nContent-Le")
        began = time.monotonic()
        sock.settimeout(30)
        with suppress(ConnectionResetError):
            assert sock.recv(100) == b""
        assert 14 < time.monotonic() - began < 25


def test_a_request_in_single_bytes_is_a_request(whole: Whole) -> None:
    with connect(whole.engine.control) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request_of("POST", "/reset", b""):
            sock.sendall(bytes([byte]))
        assert sock.recv(100).startswith(b"HTTP/1.1 204 ")


def test_an_upgrade_that_is_offered_is_declined_and_the_connection_goes_on(whole: Whole) -> None:
    offer = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with connect(whole.engine.control) as sock:
        sock.sendall(offer + request_of("POST", "/reset", b""))
        answered = b""
        while b"HTTP/1.1 204 " not in answered and (data := sock.recv(4096)):
            answered += data

    assert answered.startswith(b"HTTP/1.1 200 ")
    assert answered.count(b"HTTP/1.1 ") == 2


def test_toxics_of_a_proxy_that_is_there_with_others_are_not_dropped_in_silence(whole: Whole) -> None:
    entry = {"name": "again", "upstream": NOBODY, "listen": str(free_address())}
    slow = {**entry, "toxics": [{"type": "latency", "attributes": {"latency": 5}}]}
    assert whole.engine("POST", "/populate", [entry]).status_code == 201

    assert whole.engine("POST", "/populate", [slow]).status_code == 409
    assert whole.engine("DELETE", "/proxies/again").status_code == 204
    assert whole.engine("POST", "/populate", [slow]).status_code == 201
    assert whole.engine("POST", "/populate", [slow]).status_code == 201
    assert whole.engine("POST", "/populate", [entry]).status_code == 201
    assert whole.engine("DELETE", "/proxies/again").status_code == 204


def test_a_listen_address_whose_name_is_nobodys_is_told(whole: Whole) -> None:
    answer = whole.engine("POST", "/proxies", {"name": "x", "upstream": NOBODY, "listen": "nobody.invalid:80"})

    status, message = error(answer)
    assert (status, message.startswith("listen tcp: lookup nobody.invalid: ")) == (500, True)


def test_an_upstream_that_does_not_resolve_ends_its_connections_alone(whole: Whole) -> None:
    listen = whole.engine.made("x", upstream="nobody.invalid:80")
    for _ in range(20):
        with connect(listen) as sock:
            sock.settimeout(PATIENCE)
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b""
    whole.check()
    assert whole.engine("DELETE", "/proxies/x").status_code == 204


def test_very_many_toxics_and_proxies_come_and_go(whole: Whole) -> None:
    before = sorted(whole.engine("GET", "/proxies").json())
    for number in range(100):
        whole.engine.toxic("noop", proxy="beside", more={"name": f"t{number}"})
    whole.check()
    for number in range(100):
        whole.engine.remove(f"t{number}", "beside")
        whole.engine.made(f"p{number}")
    for number in range(100):
        assert whole.engine("DELETE", f"/proxies/p{number}").status_code == 204
    assert whole.engine.toxics("beside") == []
    assert sorted(whole.engine("GET", "/proxies").json()) == before
    assert whole.engine("GET", "/health").json()["proxies"] == len(before)
