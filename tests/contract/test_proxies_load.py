"""The embedded engine under load: crowds, churn while faults come and go, callers that never read, no descriptors left."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from harness.history.events import EdgeSeen
from harness.plan.plan import CLEAN, ProxyState
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.starting import StartedEngine
from tests.contract.proxies_rig import PATIENCE, bearing, connect, embedded, ends, eventually, free_address, read_all, toxic

pytestmark = pytest.mark.slow

BODY = b"x" * 500 + b"\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
REQUEST = b"GET / HTTP/1.1\r\nHost: callee\r\n\r\n"
LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: callee\r\nConnection: close\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: callee\r\n\r\n"
LONGEST = 50_000_000
DESCRIPTORS = 60
"""Those that no connection of a crowd can have: listeners, logs, timers, the control API."""


class Answering(asyncio.Protocol):
    """The callee: short answers to all, and one of 50 MB to whoever asks for that."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /large"):
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONGEST + bytes(LONGEST))
            return
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))
        if b"Connection: close" in data:
            self._transport.close()


def answer_all(listener: socket.socket) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, sock=listener, backlog=4096)
        await server.serve_forever()

    _allow_descriptors()
    uvloop.run(serve())


def _allow_descriptors() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


@pytest.fixture(scope="module")
def callee() -> Iterator[Address]:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        process = multiprocessing.get_context("fork").Process(target=answer_all, args=(listener,), daemon=True)
        process.start()
        yield Address(*listener.getsockname())
        process.terminate()
        process.join()


@dataclass(frozen=True)
class Whole:
    """An engine with two edges to one callee."""

    started: StartedEngine
    one: ProxyMade
    other: ProxyMade

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.started.process.pid)

    def seen(self) -> EdgeSeen:
        return next(edge for edge in self.started.engine.seen() if edge.proxy == self.one.name)

    def put(self, state: ProxyState) -> None:
        self.started.engine.put(self.one.name, state)

    def is_rid_of_all(self, descriptors: int) -> bool:
        """Whether no connection is left, in the counts or as a descriptor."""
        return eventually(lambda: self.seen().open == 0 and self.process.num_fds() <= descriptors)


@pytest.fixture
def whole(tmp_path: Path, callee: Address) -> Iterator[Whole]:
    with embedded(tmp_path) as started:
        edges = [ProxyMade(name, free_address(), callee) for name in ("one", "other")]
        started.engine.create(edges)
        yield Whole(started, *edges)


# Churn


class Churn:
    """Connections one after another, as callers have them; what an answer was awaited for and did not bring is lost."""

    def __init__(self, listen: Address, count: int) -> None:
        self._listen, self._left = listen, count
        self.seen: Counter[str] = Counter()
        self._random = random.Random(5)
        self._habits = (self.closes, self.keeps, self.half_closes, self.goes, self.resets, self.pipelines)

    async def run(self) -> Counter[str]:
        await asyncio.gather(*(self._go_on() for _ in range(48)))
        return self.seen

    async def _go_on(self) -> None:
        while self._left > 0:
            self._left -= 1
            habit = self._random.choice(self._habits)
            try:
                async with asyncio.timeout(PATIENCE):
                    reader, writer = await asyncio.open_connection(self._listen.host, self._listen.port)
                    try:
                        await habit(reader, writer)
                    finally:
                        writer.close()
                self.seen["done"] += 1
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as problem:
                self.seen[f"lost: {habit.__name__}: {problem!r}"] += 1

    async def closes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(LAST_REQUEST)
        if await reader.read(-1) != ANSWER:
            raise ValueError("not the answer, to its end")

    async def keeps(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            writer.write(REQUEST)
            await reader.readexactly(len(ANSWER))

    async def half_closes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(LAST_REQUEST)
        writer.write_eof()
        if await reader.read(-1) != ANSWER:
            raise ValueError("not the answer, to its end")

    async def pipelines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST * 4)
        if await reader.readexactly(4 * len(ANSWER)) != 4 * ANSWER:
            raise ValueError("not the answers")

    async def goes(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST)

    async def resets(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST * 3)
        await reader.read(100)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()


HARMLESS = [
    bearing(toxic("latency", latency=4, jitter=3)),
    bearing(toxic("latency", "upstream", latency=2), toxic("slicer", average_size=64, size_variation=32, delay=10)),
    bearing(toxic("bandwidth", rate=2000), toxic("slow_close", "upstream", delay=3)),
    bearing(toxic("slow_close", delay=5), toxic("bandwidth", "upstream", rate=1000), toxic("latency", latency=1, jitter=0)),
    CLEAN,
]
HARMFUL = [
    bearing(toxic("timeout", timeout=3, toxicity=0.5), toxic("latency", latency=2, jitter=2)),
    bearing(toxic("reset_peer", "upstream", timeout=1, toxicity=0.5)),
    bearing(toxic("limit_data", bytes=300), toxic("slicer", "upstream", average_size=8, size_variation=4, delay=5)),
    ProxyState(enabled=False),
    bearing(toxic("reset_peer", timeout=0), toxic("slow_close", "upstream", delay=2)),
    CLEAN,
]


@contextmanager
def changing(whole: Whole, states: Sequence[ProxyState]) -> Iterator[Callable[[], int]]:
    """One state after another for as long as this lasts; told is how often that was."""
    over = threading.Event()
    times: list[float] = []

    def change() -> None:
        while not over.is_set():
            whole.put(states[len(times) % len(states)])
            times.append(time.monotonic())
            over.wait(0.02)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        yield lambda: len(times)
    finally:
        over.set()
        changer.join()
        whole.put(CLEAN)


def test_no_answer_is_lost_while_faults_that_lose_nothing_come_and_go(whole: Whole) -> None:
    descriptors = whole.process.num_fds()
    with changing(whole, HARMLESS) as changes:
        found = uvloop.run(Churn(whole.one.listen, 14_000).run())

    assert found == {"done": 14_000}
    assert changes() > 50
    assert whole.is_rid_of_all(descriptors)
    assert whole.seen().accepted == 14_000


def test_connections_that_faults_end_in_any_moment_leave_nothing_behind(whole: Whole) -> None:
    descriptors = whole.process.num_fds()
    with changing(whole, HARMFUL) as changes:
        found = uvloop.run(Churn(whole.one.listen, 6_000).run())

    lost = Counter({what: times for what, times in found.items() if what != "done"})
    turned_away = sum(times for what, times in lost.items() if "ConnectionRefusedError" in what)
    assert sum(found.values()) == 6_000
    assert not [what for what in lost if "TimeoutError" in what], "a connection was left hanging"
    seen = whole.seen()
    never_accepted = 6_000 - turned_away - seen.accepted
    """Those that the kernel had taken in when the edge was disabled."""
    assert 0 < lost.total() - turned_away <= seen.cut + never_accepted, "answers were lost that no fault took"
    assert changes() > 10
    assert whole.is_rid_of_all(descriptors)
    assert uvloop.run(Churn(whole.one.listen, 200).run()) == {"done": 200}


# Crowds


def crowd(listen: Address, size: int, stack: ExitStack) -> list[socket.socket]:
    """So many connections at once: all are begun before any is waited for."""
    socks = []
    for _ in range(size):
        sock = stack.enter_context(socket.socket())
        sock.setblocking(False)
        sock.connect_ex((listen.host, listen.port))
        socks.append(sock)
    for sock in socks:
        sock.settimeout(PATIENCE)
    return socks


def round_trips(sock: socket.socket, seconds: float) -> tuple[float, float]:
    """How many a second, and the longest."""
    begin, longest, times = time.perf_counter(), 0.0, 0
    while (now := time.perf_counter()) - begin < seconds:
        sock.sendall(REQUEST)
        assert read_all(sock, len(ANSWER)) == ANSWER
        longest, times = max(longest, time.perf_counter() - now), times + 1
    return times / seconds, longest


def test_ten_thousand_connections_at_once_disturb_no_other_edge(whole: Whole) -> None:
    size = min(10_000, (_allow_descriptors() - 200) // 2)
    descriptors, before = whole.process.num_fds(), whole.process.memory_info().rss
    with connect(whole.other.listen) as sock, ExitStack() as stack:
        alone, _ = round_trips(sock, 1)
        socks = crowd(whole.one.listen, size, stack)
        _, longest = round_trips(sock, 2)
        for each in socks:
            each.sendall(REQUEST)
        assert all(read_all(each, len(ANSWER)) == ANSWER for each in socks)
        beside, _ = round_trips(sock, 1)
        grown = whole.process.memory_info().rss - before

        assert whole.seen().open == size
        assert longest < 2
        assert beside > alone / 4
        assert grown / size < 20_000

    assert whole.is_rid_of_all(descriptors)


def test_an_engine_without_descriptors_for_all_serves_again_once_some_are_gone(whole: Whole) -> None:
    descriptors = whole.process.num_fds()
    whole.process.rlimit(psutil.RLIMIT_NOFILE, (descriptors + 200, descriptors + 200))
    with connect(whole.other.listen) as sock:
        round_trips(sock, 0.1)
        with ExitStack() as stack:
            socks = crowd(whole.one.listen, 500, stack)
            answered = sum(_is_answered(each) for each in socks[:50])
            round_trips(sock, 0.5)
            whole.started.engine.version()

    assert answered == 50
    assert whole.is_rid_of_all(descriptors)
    assert uvloop.run(Churn(whole.one.listen, 300).run()) == {"done": 300}


def _is_answered(sock: socket.socket) -> bool:
    with suppress(ConnectionError):
        sock.sendall(REQUEST)
        return read_all(sock, len(ANSWER)) == ANSWER
    return False


# Callers that never read


@pytest.mark.parametrize(
    "state",
    [
        CLEAN,
        bearing(toxic("bandwidth", rate=10_000)),
        bearing(toxic("slicer", average_size=1000, size_variation=500, delay=100)),
        bearing(toxic("slow_close", delay=1000), toxic("limit_data", bytes=2**40)),
    ],
    ids=["clean", "bandwidth", "slicer", "two"],
)
def test_callers_that_never_read_take_bounded_memory_and_nobodys_time(whole: Whole, state: ProxyState) -> None:
    whole.put(state)
    descriptors, before = whole.process.num_fds(), whole.process.memory_info().rss
    with connect(whole.other.listen) as sock, ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(connect(whole.one.listen)).sendall(LARGE)
        _, longest = round_trips(sock, 2)
        begin = time.monotonic()
        whole.put(bearing(toxic("latency", latency=50)))
        whole.put(CLEAN)
        took = time.monotonic() - begin
        grown = whole.process.memory_info().rss - before

        assert longest < 1
        assert took < 2
        assert grown < 30 * 1_000_000
        assert 0 < whole.seen().bytes_down < 30 * LONGEST / 4

    assert whole.is_rid_of_all(descriptors)


def test_callers_that_never_read_are_let_go_of_when_the_edge_is_disabled(whole: Whole) -> None:
    descriptors = whole.process.num_fds()
    with ExitStack() as stack:
        socks = [stack.enter_context(connect(whole.one.listen)) for _ in range(30)]
        for sock in socks:
            sock.sendall(LARGE)
        assert eventually(lambda: whole.seen().bytes_down > 0)

        whole.put(ProxyState(enabled=False))

        assert whole.is_rid_of_all(descriptors)
        assert all(_ends_at_last(sock) for sock in socks)


def _ends_at_last(sock: socket.socket) -> bool:
    """After what was under way."""
    with suppress(ConnectionResetError):
        while sock.recv(1_000_000):
            pass
    return ends(sock)
