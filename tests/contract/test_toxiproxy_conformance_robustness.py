"""What wedges Toxiproxy or ends it, and what the embedded engine makes of the same."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from harness.runtime.ports import Address
from tests.contract.proxies_rig import Echo, connect, eventually, read_all
from tests.contract.toxiproxy_conformance import ENGINES, Asked, Controlled, Engine, Sender, has_ended, running


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A process for each test: it may not be of use afterwards."""
    with running(request.param, tmp_path) as engine:
        yield engine


class LeavesEarly(threading.Thread):
    """A caller that asks again and again, and goes away in the middle of the answer."""

    def __init__(self, listen: Address) -> None:
        super().__init__()
        self._listen = listen
        self.over = False

    def run(self) -> None:
        while not self.over:
            with suppress(OSError), connect(self._listen) as sock:
                sock.settimeout(0.05)
                sock.recv(1000)


def test_a_client_that_never_reads(engine: Engine) -> None:
    with closing(Sender(b"x" * 30_000_000)) as callee, ExitStack() as stack:
        listen = engine.made(upstream=callee.address)
        other = engine.made("q", upstream=callee.address)
        stack.enter_context(connect(listen))
        time.sleep(0.3)

        found = engine.outcome("POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latency": 10}})

        assert found == engine.says("a client that never reads")
        assert len(read_all(stack.enter_context(connect(other)), 100_000)) == 100_000, "other proxies work in any case"


def test_clients_that_leave_early(engine: Engine) -> None:
    with closing(Sender(b"x" * 3_000_000)) as callee:
        listen = engine.made(upstream=callee.address)
        callers = [LeavesEarly(listen) for _ in range(8)]
        for caller in callers:
            caller.start()
        try:
            found: object = 200
            for _ in range(8):
                added = engine.outcome("POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latency": 100}})
                removed = engine.outcome("DELETE", "/proxies/p/toxics/latency_downstream") if added == 200 else added
                if removed != 204:
                    found = removed
                    break
        finally:
            for caller in callers:
                caller.over = True
            for caller in callers:
                caller.join()

    assert found == engine.says("clients that leave early")


@pytest.mark.parametrize(
    ("what", "kind", "attributes"),
    [
        ("a bandwidth below 0", "bandwidth", {"rate": -1}),
        ("a variation above the average", "slicer", {"average_size": 5, "size_variation": 50}),
        ("a jitter beyond all bounds", "latency", {"jitter": 2**62 + 1}),
        ("an average size of 0", "slicer", {"average_size": 0}),
    ],
)
def test_values_that_end_toxiproxy(engine: Engine, what: str, kind: str, attributes: dict[str, int]) -> None:
    wanted = engine.says(what)
    if wanted is None:
        pytest.skip("Toxiproxy would take 1 GB of memory before it ends")
    with closing(Asked()) as callee:
        listen = engine.made(upstream=callee.address)

        answer = engine("POST", "/proxies/p/toxics", {"type": kind, "stream": "upstream", "attributes": attributes})
        for _ in range(20):  # what a slicer's variation comes to is drawn: one connection may fare well
            with suppress(OSError), connect(listen) as sock:
                sock.sendall(b"x" * 1000)
                sock.settimeout(0.5)
                sock.recv(1)
            if wanted != "ends" or eventually(lambda: has_ended(engine), within=0.5):
                break

        if wanted == "ends":
            assert has_ended(engine)
        else:
            assert answer.status_code == wanted
            assert not has_ended(engine)


def test_a_reader_that_is_slow_holds_up_nobody_else(tmp_path: Path) -> None:
    """Of the embedded engine alone: every toxic comes and goes while one caller does not read and one callee neither."""
    with running("embedded", tmp_path) as engine, closing(Controlled()) as stuck, closing(Echo()) as echo:
        listen = engine.made(upstream=stuck.address)
        alive = engine.made("alive", upstream=echo.address)
        ours, theirs = stuck.pair(listen)
        for sock in (ours, theirs):
            sock.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    sock.send(b"x" * 1_000_000)
        with connect(alive) as beside:
            for kind, attributes in (
                ("latency", {"latency": 50, "jitter": 50}),
                ("bandwidth", {"rate": 100}),
                ("slow_close", {"delay": 100}),
                ("slicer", {"average_size": 100, "delay": 10}),
                ("unreachable", {}),
                ("noop", {}),
                ("limit_data", {"bytes": 2**40}),
            ):
                for stream in ("upstream", "downstream"):
                    toxic = engine.toxic(kind, stream, **attributes)
                    began = time.monotonic()
                    beside.sendall(b"ping")
                    assert read_all(beside, 4) == b"ping"
                    engine.remove(toxic)
                    assert time.monotonic() - began < 1
        assert engine("GET", "/proxies").json()["p"]["toxics"] == []


def test_a_port_nobody_answers_behind_is_no_wedge(tmp_path: Path) -> None:
    with running("embedded", tmp_path) as engine, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()
        listen = engine.made(upstream=f"{host}:{port}")
        for _ in range(50):
            connect(listen).close()

        assert engine.outcome("POST", "/reset") == 204
