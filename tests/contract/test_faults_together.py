"""Faults that overlap on one edge: they compose in the order they began, and each heals alone, in any order.

Sequences of begin, heal and traffic are drawn; whatever was drawn, the proxy ends as it was, and connections fare as the
pages of the faults say.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.model.edges import Edge
from harness.model.faults import FaultItem
from harness.plan.plan import CLEAN, ProxyState
from harness.plan.proxies import state_under
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from tests.contract.proxies_rig import (
    PROBE_HOST,
    Echo,
    connect,
    embedded_command,
    free_address,
    read_all,
    served,
    toxiproxy_command,
)

EDGE = Edge(name="a -> b", caller="a", callee="b", port=80, protocol="tcp")
HTTP_EDGE = EDGE.model_copy(update={"protocol": "http"})

SPARING = {
    "slow": "latency: {edge: a -> b, latency: 30ms}",
    "slow-up": "latency: {edge: a -> b, latency: 20ms, stream: upstream}",
    "narrow": "bandwidth: {edge: a -> b, rate: 1MB/s, stream: both}",
    "late-close": "slow_close: {edge: a -> b, delay: 100ms}",
    "sliced": "slicer: {edge: a -> b, average_size: 16B, size_variation: 4B, delay: 100us}",
    "limited": "limit_data: {edge: a -> b, bytes: 1MB}",
}
"""Faults that leave connections alive, and their data whole."""

SILENCING = {
    "hang": "outage: {edge: a -> b, mode: hang}",
    "parted": "partition: {between: [[a], [b]]}",
    "lost": "lost_reply: {edge: a -> b}",
}
ENDING = {
    "reset": "outage: {edge: a -> b, mode: reset}",
    "close": "outage: {edge: a -> b, mode: close}",
}
REFUSING = {"refuse": "outage: {edge: a -> b}"}
REQUESTS = {
    "broken": "http_error: {edge: a -> b, status: 503}",
    "teapot": "http_error: {edge: a -> b, status: 418}",
    "some": "http_error: {edge: a -> b, status: 500, share: 50%}",
    "delayed": "http_delay: {edge: a -> b, delay: 30ms}",
    "delayed-too": "http_delay: {edge: a -> b, delay: 20ms}",
    "slow": "latency: {edge: a -> b, latency: 10ms}",
}
"""Faults on requests, on all of them or on a share; and one beneath them."""

STATUS = {"broken": 503, "teapot": 418, "some": 500}
DELAYS = {"delayed": 0.03, "delayed-too": 0.02, "slow": 0.01}

UNREACHING = {"unreachable": "outage: {edge: a -> b, mode: unreachable}"}

NUMBERS = count()

WORD = b"a sentence that is longer than one slice"

Found = str
"""What became of a sentence that was said: answered, refused, ended, silent, unreachable."""


def items(*groups: dict[str, str]) -> dict[str, FaultItem]:
    return {
        name: FaultItem.model_validate({"id": name, **yaml.safe_load(text)}) for group in groups for name, text in group.items()
    }


class Pages:
    """A callee that answers every request of HTTP with what was asked for."""

    def __init__(self) -> None:
        class Page(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.path.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_said: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._server.daemon_threads = True
        self.address = Address("127.0.0.1", self._server.server_port)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class Edges:
    """One proxy of an engine before an echo, and the faults that are on there."""

    def __init__(self, engine: ToxiproxyEngine, faults: dict[str, FaultItem], echo: Echo | Pages | None = None) -> None:
        self.engine, self.faults = engine, faults
        self.echo = echo or Echo()
        self.made = ProxyMade(f"a -> b {next(NUMBERS)}", free_address(), self.echo.address)
        self.active: list[str] = []
        engine.create([self.made])

    @property
    def state(self) -> ProxyState:
        return state_under(
            [self.faults[name] for name in self.active], EDGE if isinstance(self.echo, Echo) else HTTP_EDGE, 1, {}
        )

    def begin(self, name: str) -> None:
        self.active.append(name)
        self.engine.put(self.made.name, self.state)

    def heal(self, name: str) -> None:
        self.active.remove(name)
        self.engine.put(self.made.name, self.state)

    def is_as_it_should_be(self) -> bool:
        """Whether what the engine shows is the composed state; it sorts toxics by stream."""
        found, asked = self.engine.read(self.made.name), self.state
        return (found.enabled, [t.name for t in found.toxics]) == (
            asked.enabled,
            [t.name for s in ("upstream", "downstream") for t in asked.toxics if t.stream == s],
        )

    def expected(self) -> tuple[Found, ...]:
        """What a new connection must find under the faults that are on: any of these."""
        on = set(self.active)
        if on & set(REFUSING):
            return ("refused",)
        if on & set(UNREACHING):
            return ("unreachable",)
        if on & set(ENDING) and on & set(SILENCING):
            return ("ended", "silent")  # who comes first in the chain swallows what the other waits for
        if on & set(ENDING):
            return ("ended",)
        return ("silent",) if on & set(SILENCING) else ("answered",)

    def close(self) -> None:
        self.echo.close()


def said_on(connection: socket.socket, patience: float = 0.4) -> Found:
    connection.settimeout(patience)
    try:
        connection.sendall(WORD)
        connection.settimeout(5.0 if patience > 1 else patience)
        return "answered" if read_all(connection, len(WORD)) == WORD else "ended"
    except TimeoutError:
        return "silent"
    except OSError:
        return "ended"


def said_anew(edges: Edges) -> Found:
    """A new connection, one sentence; patient where an answer is expected."""
    try:
        address = edges.made.listen
        connection = socket.create_connection((address.host, address.port), timeout=0.4, source_address=(PROBE_HOST, 0))
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:  # before the caller looked whether it was through
        return "ended"
    except TimeoutError:
        return "unreachable"
    with connection:
        return said_on(connection, 5.0 if edges.expected() == ("answered",) else 0.4)


def ended(connection: socket.socket) -> bool:
    """Whether a connection is over, at the latest a little from now; what comes before its end is of no interest."""
    connection.settimeout(5.0)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


@contextmanager
def edge_of(engine: ToxiproxyEngine, faults: dict[str, FaultItem], echo: Pages | None = None) -> Iterator[Edges]:
    """An edge of its own on an engine that is shared."""
    edges = Edges(engine, faults, echo)
    try:
        yield edges
    finally:
        engine.put(edges.made.name, CLEAN)
        edges.close()


@pytest.fixture(params=["embedded", "toxiproxy"], scope="module")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ToxiproxyEngine]]:
    folder: Path = tmp_path_factory.mktemp("together")
    command = embedded_command
    if request.param == "toxiproxy":
        program = os.environ.get("TOXIPROXY_SERVER")
        if not program:
            pytest.skip("TOXIPROXY_SERVER names no Toxiproxy")
        command = toxiproxy_command(program)
    with served(command, folder) as server:
        yield request.param, server.engine


Deeds = list[tuple[str, str]]

DRAWN = settings(
    max_examples=int(os.environ.get("DRAWN_SEQUENCES", "3")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def deeds_of(data: st.DataObject, faults: dict[str, FaultItem]) -> Deeds:
    deed = st.tuples(st.sampled_from(["begin", "begin", "heal"]), st.sampled_from(sorted(faults)))
    return data.draw(st.lists(deed, min_size=2, max_size=8), label="deeds")


def done(edges: Edges, deeds: Deeds) -> Iterator[tuple[str, str]]:
    """Each deed that can be done, done; at the end every fault that is on is healed, the first one first."""
    for verb, name in deeds:
        if (verb == "begin") == (name not in edges.active):
            (edges.begin if verb == "begin" else edges.heal)(name)
            yield verb, name
    for name in tuple(edges.active):
        edges.heal(name)
        yield "heal", name


@DRAWN
@given(data=st.data())
def test_whatever_overlaps_new_connections_meet_what_is_on_and_the_proxy_ends_as_it_was(
    engine: tuple[str, ToxiproxyEngine], data: st.DataObject
) -> None:
    name, adapter = engine
    faults = items(SPARING, SILENCING, ENDING, REFUSING, UNREACHING if name == "embedded" else {})
    with edge_of(adapter, faults) as edges:
        for deed in done(edges, deeds_of(data, faults)):
            assert edges.is_as_it_should_be(), deed
            assert said_anew(edges) in edges.expected(), (deed, edges.active)
        assert adapter.read(edges.made.name) == CLEAN
        assert said_anew(edges) == "answered"


@DRAWN
@given(data=st.data())
def test_faults_that_spare_connections_spare_an_open_one_whatever_comes_and_goes(
    engine: tuple[str, ToxiproxyEngine], data: st.DataObject
) -> None:
    faults = items(SPARING)
    with edge_of(engine[1], faults) as edges, connect(edges.made.listen) as connection:
        assert said_on(connection, 5.0) == "answered"
        for deed in done(edges, deeds_of(data, faults)):
            assert said_on(connection, 5.0) == "answered", (deed, edges.active)
        assert len(edges.echo.accepted) == 1


@pytest.mark.parametrize("name", sorted({**SILENCING, **ENDING, **REFUSING}))
@DRAWN
@given(data=st.data())
def test_a_fault_that_ends_connections_ends_an_open_one_among_others_that_do_not(
    engine: tuple[str, ToxiproxyEngine], name: str, data: st.DataObject
) -> None:
    faults = items(SPARING, SILENCING, ENDING, REFUSING)
    with edge_of(engine[1], faults) as edges, connect(edges.made.listen) as connection:
        assert said_on(connection, 5.0) == "answered"
        for other in data.draw(st.lists(st.sampled_from(sorted(SPARING)), max_size=3, unique=True), label="others"):
            edges.begin(other)
        assert said_on(connection, 5.0) == "answered"
        edges.begin(name)
        assert said_on(connection) == ("silent" if name in SILENCING else "ended")
        edges.heal(name)
        assert ended(connection)


@DRAWN
@given(data=st.data())
def test_a_connection_outlives_that_its_edge_was_unreachable(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    faults = items(SPARING, UNREACHING)
    with (
        served(embedded_command, tmp_path_factory.mktemp("unreachable")) as server,
        edge_of(server.engine, faults) as edges,
        connect(edges.made.listen) as connection,
    ):
        assert said_on(connection, 5.0) == "answered"
        for deed in done(edges, deeds_of(data, faults)):
            if "unreachable" in edges.active:
                assert said_anew(edges) == "unreachable", (deed, edges.active)
            else:
                assert said_on(connection, 5.0) == "answered", (deed, edges.active)


@dataclass(frozen=True)
class Met:
    """What a request met: its answer's status, the fault that made it up, and how long it took."""

    status: int
    injected: str
    seconds: float


def asked_for_a_page(connection: HTTPConnection) -> Met:
    began = time.monotonic()
    connection.request("GET", "/page")
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status != 200 or body == b"/page"
    return Met(answer.status, answer.getheader("X-Chaos-Fault", ""), time.monotonic() - began)


def may_decide(active: list[str]) -> list[str]:
    """The faults that may answer a request, in order: the first that strikes does; last the callee, as an empty name."""
    found = []
    for name in active:
        if name in STATUS:
            found.append(name)
            if name != "some":
                return found
    return [*found, ""]


def meets_what_is_on(met: Met, active: list[str]) -> bool:
    decided = next((name for name in STATUS if met.injected.startswith(f"{name}-http_error")), "")
    late = sum(delay for name, delay in DELAYS.items() if name in active)
    return (
        decided in may_decide(active)
        and met.status == STATUS.get(decided, 200)
        and bool(met.injected) == bool(decided)
        and (bool(decided) or met.seconds >= late)
    )


@pytest.fixture(scope="module")
def embedded_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToxiproxyEngine]:
    with served(embedded_command, tmp_path_factory.mktemp("requests")) as server:
        yield server.engine


@DRAWN
@given(data=st.data())
def test_whatever_overlaps_on_requests_the_next_one_meets_what_is_on_and_the_proxy_ends_as_it_was(
    embedded_alone: ToxiproxyEngine, data: st.DataObject
) -> None:
    faults = items(REQUESTS)
    with edge_of(embedded_alone, faults, Pages()) as edges:
        listen = edges.made.listen
        with closing(HTTPConnection(listen.host, listen.port, timeout=5)) as kept:
            for deed in done(edges, deeds_of(data, faults)):
                assert edges.is_as_it_should_be(), deed
                with closing(HTTPConnection(listen.host, listen.port, timeout=5)) as anew:
                    met = [asked_for_a_page(connection) for connection in (kept, anew, kept)]
                assert all(meets_what_is_on(one, edges.active) for one in met), (deed, edges.active, met)
            assert embedded_alone.read(edges.made.name) == CLEAN
            assert asked_for_a_page(kept).status == 200


def test_a_share_of_the_requests_passes_to_those_behind_it(embedded_alone: ToxiproxyEngine) -> None:
    with edge_of(embedded_alone, items(REQUESTS), Pages()) as edges:
        edges.begin("some")
        edges.begin("teapot")
        with closing(HTTPConnection(edges.made.listen.host, edges.made.listen.port, timeout=5)) as connection:
            met = {asked_for_a_page(connection).status for _ in range(40)}

    assert met == {500, 418}
