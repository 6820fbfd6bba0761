"""One connection through the embedded engine, in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from random import Random

import pytest
import uvloop

from harness.runtime.proxies.embedded import relay
from harness.runtime.proxies.embedded.alarm import Alarm
from harness.runtime.proxies.embedded.proxies import Proxy, Surroundings
from harness.runtime.proxies.embedded.refusals import Packets, Refusals
from harness.runtime.proxies.embedded.sources import Sources


def through(upstream: tuple[str, int], use: Callable[[Proxy, str, int], Awaitable[None]]) -> None:
    """A proxy to this upstream for as long as it is used."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        around = Surroundings(loop, Alarm(loop), Random(1), Refusals(loop, Sources(), Packets()))
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
