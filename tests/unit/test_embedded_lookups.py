"""Where an upstream is: names that are slow, wrong, or lead to several addresses."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop

from harness.runtime.proxies.embedded.lookups import Upstream


class Names:
    """Answers for every name but those that begin with `slow`, until they are `let_go`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let_go = threading.Event()
        self.addresses = ["127.0.0.1"]

    def getaddrinfo(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.let_go.wait(20)
        if host.endswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    found = Names()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    yield found
    found.let_go.set()


def run(use: Callable[[Callable[[str], Upstream]], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(10):
            await use(lambda host: Upstream(asyncio.get_running_loop(), host, 80))

    uvloop.run(within())


def test_names_that_nobody_answers_for_keep_no_other_waiting(names: Names) -> None:
    async def use(upstream: Callable[[str], Upstream]) -> None:
        waiting = [asyncio.create_task(upstream(f"slow-{number}").addresses()) for number in range(30)]
        await asyncio.sleep(0)

        assert await upstream("there").addresses() == [("127.0.0.1", 80)]

        assert not any(task.done() for task in waiting)
        names.let_go.set()
        assert await asyncio.gather(*waiting) == [[("127.0.0.1", 80)]] * 30

    run(use)


def test_one_lookup_is_shared_by_all_who_come_meanwhile_and_its_result_is_not_kept(names: Names) -> None:
    async def use(upstream: Callable[[str], Upstream]) -> None:
        slow = upstream("slow")
        waiting = [asyncio.create_task(slow.addresses()) for _ in range(50)]
        await asyncio.sleep(0.05)
        assert names.asked == ["slow"]
        waiting[0].cancel()
        names.let_go.set()
        assert await asyncio.gather(*waiting[1:]) == [[("127.0.0.1", 80)]] * 49

        names.addresses = ["127.0.0.2"]

        assert await slow.addresses() == [("127.0.0.2", 80)]
        assert names.asked == ["slow", "slow"]

    run(use)


def test_a_name_that_is_unknown_is_told_to_all_who_wait_and_asked_again(names: Names) -> None:
    async def use(upstream: Callable[[str], Upstream]) -> None:
        unknown = upstream("slow-unknown")
        waiting = [asyncio.create_task(unknown.addresses()) for _ in range(3)]
        await asyncio.sleep(0.05)
        names.let_go.set()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in told] == [socket.gaierror] * 3
        with pytest.raises(socket.gaierror):
            await unknown.addresses()
        assert len(names.asked) == 2

    run(use)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_is_not_looked_up(host: str, names: Names) -> None:
    async def use(upstream: Callable[[str], Upstream]) -> None:
        assert await upstream(host).addresses() == [(host, 80)]

    run(use)
    assert names.asked == []
