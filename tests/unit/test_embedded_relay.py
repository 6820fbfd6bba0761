"""One connection through the embedded engine, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import uvloop

from harness.runtime.proxies.embedded import relay
from harness.runtime.proxies.embedded.alarm import Alarm
from harness.runtime.proxies.embedded.proxies import Proxy, Surroundings
from harness.runtime.proxies.embedded.refusals import Packets, Refusals
from harness.runtime.proxies.embedded.sources import Sources
from harness.runtime.proxies.embedded.toxics import Latency, Toxic, Unreachable
from tests.contract.proxies_rig import read_all


def through(upstream: tuple[str, int], use: Callable[[Proxy, str, int], Awaitable[None]]) -> None:
    """A proxy to this upstream for as long as it is used."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        around = Surroundings(loop, Alarm(loop), 1, Refusals(loop, Sources(), Packets()))
        proxy = Proxy("edge", "127.0.0.1:0", f"{upstream[0]}:{upstream[1]}", around)
        await proxy.enable()
        host, _, port = proxy.listen.rpartition(":")
        async with asyncio.timeout(10):
            await use(proxy, host, int(port))
        proxy.forget()
        around.alarm.close()

    uvloop.run(serve())


@pytest.fixture
def silent_upstream() -> Iterator[tuple[str, int]]:
    """Lets no handshake complete: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


async def gone(proxy: Proxy) -> None:
    while proxy.connections:
        await asyncio.sleep(0.01)


def test_a_caller_whose_upstream_is_silent_for_too_long_is_let_go_of(
    silent_upstream: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "DIAL_WITHIN", 0.2)

    async def use(proxy: Proxy, host: str, port: int) -> None:
        begin = asyncio.get_running_loop().time()
        reader, writer = await asyncio.open_connection(host, port)

        assert await reader.read() == b""

        assert asyncio.get_running_loop().time() - begin > 0.15
        writer.close()
        await gone(proxy)
        assert (proxy.counts.unreached, proxy.counts.open) == (1, 0)

    through(silent_upstream, use)


def test_a_connection_outlives_the_time_for_reaching_its_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "DIAL_WITHIN", 0.1)

    async def use(proxy: Proxy, host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"x")
        await asyncio.sleep(0.3)
        callee, _ = listener.accept()
        with callee:
            callee.sendall(callee.recv(1) + b"y")
        assert await reader.read() == b"xy"
        writer.close()
        await gone(proxy)
        assert proxy.counts.unreached == 0

    with socket.create_server(("127.0.0.1", 0)) as listener:
        through(listener.getsockname(), use)


def test_a_caller_that_goes_while_its_upstream_is_being_reached_leaves_nothing_behind(
    silent_upstream: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "DIAL_WITHIN", 0.2)

    async def use(proxy: Proxy, host: str, port: int) -> None:
        _, writer = await asyncio.open_connection(host, port)
        while not proxy.connections:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        await gone(proxy)
        await asyncio.sleep(0.3)
        assert proxy.counts.open == 0

    through(silent_upstream, use)


def test_of_several_addresses_of_an_upstream_the_first_that_is_there_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    found = socket.getaddrinfo

    def several(host: str, port: int, **how: Any) -> list[Any]:
        return [*found("127.0.0.2", port, **how), *found("127.0.0.1", port, **how)] if host == "callee" else found(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", several)

    async def use(proxy: Proxy, host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        callee, _ = await asyncio.to_thread(listener.accept)
        with callee:
            callee.sendall(b"x")
        assert await reader.read() == b"x"
        writer.close()
        await gone(proxy)
        assert proxy.counts.unreached == 0

    with socket.create_server(("127.0.0.1", 0)) as listener:
        through(("callee", listener.getsockname()[1]), use)


def test_bytes_that_pass_while_the_edge_is_unreachable_are_never_counted_back() -> None:
    async def use(proxy: Proxy, host: str, port: int) -> None:
        proxy.add(Toxic("slow", "downstream", 1.0, Latency(latency=100)))
        reader, writer = await asyncio.open_connection(host, port)
        callee, _ = await asyncio.to_thread(listener.accept)
        read = lambda: proxy.counts.bytes_down + proxy.counts.kept_down  # noqa: E731
        with callee:
            callee.sendall(b"12345678")
            while read() < 8:
                await asyncio.sleep(0.01)
            proxy.add(Toxic("away", "downstream", 1.0, Unreachable()))
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert read() == 8
            await proxy.remove("away")
            assert await reader.readexactly(8) == b"12345678"
            assert (proxy.counts.bytes_down, proxy.counts.kept_down) == (8, 0)
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        through(listener.getsockname(), use)


def test_connections_that_together_hold_too_much_are_read_no_further_until_it_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    most, size, chunk = 1024 * 1024, 8, 512 * 1024
    monkeypatch.setattr(relay, "MOST_HELD", most)

    async def use(proxy: Proxy, host: str, port: int) -> None:
        proxy.add(Toxic("slow", "upstream", 1.0, Latency(latency=500)))
        ends = [await asyncio.open_connection(host, port) for _ in range(size)]
        callees = [(await asyncio.to_thread(listener.accept))[0] for _ in range(size)]
        for _, writer in ends:
            writer.write(bytes(chunk))
        await asyncio.sleep(0.4)
        assert most // 2 < proxy.held.size < most + size * 320 * 1024, "each may be over by what is read at once"
        for callee in callees:
            with callee:
                callee.settimeout(9)
                assert len(await asyncio.to_thread(read_all, callee, chunk)) == chunk
        for _, writer in ends:
            writer.close()
        await gone(proxy)
        assert proxy.held.size == 0

    with socket.create_server(("127.0.0.1", 0)) as listener:
        through(listener.getsockname(), use)


def test_what_waits_for_a_caller_that_does_not_read_counts_as_held_until_the_connection_is_over() -> None:
    async def use(proxy: Proxy, host: str, port: int) -> None:
        proxy.add(Toxic("slow", "downstream", 1.0, Latency(latency=300)))
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((host, port))
            callee, _ = await asyncio.to_thread(listener.accept)
            with callee:
                callee.setblocking(False)
                sent = 0
                for _ in range(100):
                    with contextlib.suppress(BlockingIOError):
                        sent += callee.send(bytes(1024 * 1024))
                    await asyncio.sleep(0.01)
                assert sent > 4 * 1024 * 1024
                assert proxy.held.size > 2 * 1024 * 1024
        await gone(proxy)
        assert proxy.held.size == 0

    with socket.create_server(("127.0.0.1", 0)) as listener:
        through(listener.getsockname(), use)


def test_with_a_seed_chance_falls_the_same_each_time_whatever_the_other_toxics_do() -> None:
    drawn: list[list[float]] = []

    async def use(proxy: Proxy, _host: str, _port: int) -> None:
        for others in (0, 5):
            proxy.add(Toxic("one", "downstream", 0.5, Latency()))
            proxy.add(Toxic("two", "downstream", 0.5, Latency()))
            for _ in range(others):
                proxy.random_of("two").random()
            drawn.append([proxy.random_of("one").random() for _ in range(5)])
            await proxy.heal()
        assert proxy.random_of("two").random() not in drawn[0]

    through(("127.0.0.1", 1), use)
    assert drawn[0] == drawn[1]
