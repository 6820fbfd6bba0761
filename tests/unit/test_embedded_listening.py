"""Listeners and the proxies that have them, where the system gives no more descriptors."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from harness.runtime.proxies.embedded.alarm import Alarm
from harness.runtime.proxies.embedded.proxies import Place, Registry, Surroundings
from harness.runtime.proxies.embedded.refusals import Packets, Refusals
from harness.runtime.proxies.embedded.sources import Sources
from harness.runtime.proxies.embedded.toxics import Refused, Toxic, Unreachable

NOBODY = "127.0.0.1:1"


def with_proxies(use: Callable[[Registry], Awaitable[None]]) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        around = Surroundings(loop, Alarm(loop), 1, Refusals(loop, Sources(), Packets()))
        registry = Registry(around)
        async with asyncio.timeout(10):
            await use(registry)
        registry.close()
        around.alarm.close()

    uvloop.run(serve())


def out_of_descriptors(*_: object, **__: object) -> socket.socket:
    raise OSError(errno.EMFILE, "Too many open files")


def connects(listen: str) -> bool:
    host, _, port = listen.rpartition(":")
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) == 0


@pytest.mark.parametrize("lacking", ["dup", "__init__"])
def test_a_proxy_that_cannot_listen_for_lack_of_descriptors_says_so_and_heals_later(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(registry: Registry) -> None:
        names = ("a", "b", "c")
        proxies = [await registry.create(name, Place("127.0.0.1:0", NOBODY), (), enabled=True) for name in names]
        listen = proxies[0].listen
        for proxy in proxies:
            await proxy.disable()
        with monkeypatch.context() as lack:
            lack.setattr(socket.socket, lacking, out_of_descriptors)
            with pytest.raises(Refused, match="too many open files"):
                await proxies[0].enable()
            with pytest.raises(Refused, match="too many open files"):
                await proxies[0].become(listen, NOBODY, enabled=True)
            with pytest.raises(Refused, match=r"a: .*; b: .*; c: "):
                await registry.heal()
        assert [proxy.enabled for proxy in proxies] == [False] * 3
        assert not connects(listen)

        await registry.heal()

        assert [proxy.enabled for proxy in proxies] == [True] * 3
        assert connects(listen)

    with_proxies(use)


def test_an_edge_that_cannot_be_reachable_again_for_lack_of_descriptors_keeps_its_toxic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def use(registry: Registry) -> None:
        away, other = Toxic("away", "upstream", 1.0, Unreachable()), Toxic("beside", "downstream", 1.0, Unreachable())
        proxy = await registry.create("a", Place("127.0.0.1:0", NOBODY), (away, other), enabled=True)
        with monkeypatch.context() as lack:
            lack.setattr(socket.socket, "dup", out_of_descriptors)
            with pytest.raises(Refused, match="too many open files"):
                await registry.heal()
        assert (proxy.unreachable, [toxic.name for toxic in proxy.toxics]) == (True, ["beside"])

        await registry.heal()

        assert (proxy.unreachable, proxy.toxics, proxy.enabled) == (False, [], True)
        assert connects(proxy.listen)

    with_proxies(use)
