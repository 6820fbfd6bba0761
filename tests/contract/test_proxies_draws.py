"""Whom a toxic strikes: drawn once for each connection, by a seed where there is one, and counted when it acts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from harness.plan.draws import draw
from harness.runtime.ports import Address
from tests.contract.proxies_rig import Callee, Echo, connect, ends, eventually, read_all, silent
from tests.contract.toxiproxy_conformance import Controlled, Engine, running


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running("embedded", tmp_path_factory.mktemp("draws")) as engine:
        yield engine


@pytest.fixture
def engine(process: Engine) -> Iterator[Engine]:
    yield process
    process.clear()


def struck(engine: Engine, proxy: str = "p") -> dict[str, int]:
    return next(dict(edge["struck"]) for edge in engine("GET", "/edges").json() if edge["proxy"] == proxy)


class Line:
    """Connections through one proxy, one after the other."""

    def __init__(self, listen: Address, callee: Controlled) -> None:
        self._listen, self._callee = listen, callee
        self.ends: list[tuple[socket.socket, socket.socket]] = []

    def grow(self, times: int) -> None:
        self.ends += [self._callee.pair(self._listen) for _ in range(times)]

    def stalled(self) -> list[bool]:
        """Which of them let nothing pass up."""
        for ours, _ in self.ends:
            ours.sendall(b"x")
        return [silent(theirs, 0.03) for _, theirs in self.ends]


@pytest.fixture
def line(engine: Engine) -> Iterator[Line]:
    with closing(Controlled()) as callee:
        yield Line(engine.made(upstream=callee.address), callee)


def drawn(seed: int, times: int, toxicity: float = 0.5) -> list[bool]:
    return [draw(seed, n) < toxicity for n in range(times)]


def test_open_connections_are_drawn_in_their_order_and_then_each_new_one(engine: Engine, line: Line) -> None:
    line.grow(3)
    for end in line.ends.pop(1):
        end.close()
    assert eventually(lambda: engine("GET", "/edges").json()[0]["open"] == 2)
    line.grow(2)

    engine.toxic("bandwidth", "upstream", more={"toxicity": 0.5, "seed": 7, "name": "t"})
    line.grow(8)

    assert line.stalled() == drawn(7, 12)
    assert {True, False} <= set(drawn(7, 12))
    assert struck(engine) == {"t": sum(drawn(7, 12))}
    assert engine.shown()["toxics"][0]["seed"] == 7


def test_what_was_drawn_stays_whatever_comes_and_goes(engine: Engine, line: Line) -> None:
    line.grow(6)
    engine.toxic("bandwidth", "upstream", more={"toxicity": 0.5, "seed": 3, "name": "t"})
    first = line.stalled()

    engine.remove(engine.toxic("latency", "upstream", latency=1))
    engine.change("t", rate=0)
    engine("PATCH", "/proxies/p/toxics/t", {})

    assert line.stalled() == first == drawn(3, 6)


def test_a_share_that_grows_strikes_who_was_struck_and_more(engine: Engine, line: Line) -> None:
    line.grow(12)
    engine.toxic("bandwidth", "upstream", more={"toxicity": 0.1, "seed": 11, "name": "t"})

    for toxicity in (0.1, 0.4, 0.8, 1.0, 0.4):
        engine("PATCH", "/proxies/p/toxics/t", {"toxicity": toxicity})
        assert line.stalled() == drawn(11, 12, toxicity)


def test_added_again_it_counts_from_0_again(engine: Engine, line: Line) -> None:
    line.grow(5)
    for seed in (1, 2):
        toxic = engine.toxic("bandwidth", "upstream", more={"toxicity": 0.5, "seed": seed})
        line.grow(2)
        stalled = line.stalled()
        assert stalled == drawn(seed, len(line.ends))
        engine.remove(toxic)
        assert [theirs.recv(1) for (_, theirs), held in zip(line.ends, stalled, strict=True) if held] == [b"x"] * sum(stalled)


def test_a_seed_stays_as_it_is(engine: Engine) -> None:
    engine.made()
    engine.toxic("noop", more={"seed": 1, "name": "t"})

    assert engine("PATCH", "/proxies/p/toxics/t", {"seed": 1}).status_code == 200
    assert engine("PATCH", "/proxies/p/toxics/t", {"seed": 2}).status_code == 400
    assert engine("POST", "/proxies/p/toxics", {"type": "latency", "seed": 1.5}).status_code == 400


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("latency", {"latency": 20}),
        ("timeout", {"timeout": 0}),
        ("reset_peer", {"timeout": 0}),
        ("bandwidth", {"rate": 1000}),
        ("slicer", {"average_size": 1}),
        ("limit_data", {"bytes": 2}),
        ("slow_close", {"delay": 10}),
    ],
)
def test_a_toxic_is_counted_once_for_each_connection_on_which_it_acts(
    engine: Engine, kind: str, attributes: dict[str, int]
) -> None:
    with closing(Echo()) as callee, ExitStack() as stack:
        listen = engine.made(upstream=callee.address)
        engine.toxic(kind, more={"name": "t"}, **attributes)
        stack.enter_context(connect(listen))  # on which nothing happens
        assert struck(engine) == {"t": 0}

        for _ in range(2):
            sock = stack.enter_context(connect(listen))
            sock.sendall(b"12345678")
            if kind == "slow_close":
                read_all(sock, 8)
                sock.shutdown(socket.SHUT_WR)
        assert eventually(lambda: struck(engine) == {"t": 2})
        engine.remove("t")

        assert struck(engine) == {"t": 3 if kind == "timeout" else 2}, "removed, a timeout ends the idle one too"


@pytest.mark.parametrize("ends_by", ["its time", "its removal"])
def test_an_idle_connection_that_a_timeout_finds_open_and_ends_did_not_meet_it(engine: Engine, ends_by: str) -> None:
    with closing(Echo()) as callee:
        with connect(engine.made(upstream=callee.address)) as idle:
            idle.sendall(b"x")
            assert idle.recv(1) == b"x"
            engine.toxic("timeout", more={"name": "t"}, timeout=50 if ends_by == "its time" else 0)
            if ends_by == "its removal":
                engine.remove("t")

            assert ends(idle)

        assert struck(engine) == {"t": 0}


def test_a_connection_that_began_under_a_timeout_and_was_ended_by_it_met_it(engine: Engine) -> None:
    with closing(Echo()) as callee:
        listen = engine.made(upstream=callee.address)
        engine.toxic("timeout", more={"name": "t"}, timeout=50)
        with connect(listen) as sock:
            assert ends(sock)

        assert struck(engine) == {"t": 1}


def test_what_does_nothing_is_never_counted(engine: Engine) -> None:
    with closing(Echo()) as callee:
        listen = engine.made(upstream=callee.address)
        for kind, attributes in (
            ("noop", {}),
            ("latency", {}),
            ("limit_data", {"bytes": 1000}),
            ("slow_close", {}),
            ("slicer", {"average_size": 1000}),
        ):
            engine.toxic(kind, **attributes)
        with connect(listen) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"

        assert set(struck(engine).values()) == {0}


def test_a_connection_that_reached_its_limit_is_told_as_cut(engine: Engine) -> None:
    with closing(Callee(lambda sock: sock.sendall(b"x" * 100))) as callee:
        listen = engine.made(upstream=callee.address)
        engine.toxic("limit_data", bytes=10)

        with connect(listen) as sock:
            assert len(read_all(sock, 100)) == 10
            assert ends(sock)

        assert eventually(lambda: engine("GET", "/edges").json()[0]["open"] == 0)
        assert engine("GET", "/edges").json()[0]["cut"] == 1
