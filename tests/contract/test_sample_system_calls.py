"""How a service of the sample system calls another: real sockets, and a callee that misbehaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from sample_system.background import Repeatedly
from sample_system.dependency import Answer, Dependency, Patience, seconds_from_now
from sample_system.flawed_calls import InOneQueue, KeyForEachTry
from sample_system.telemetry import traceparent
from sample_system.unavailable import DependencyUnavailable

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answers(status: int, body: bytes = b"{}") -> Behaviour:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d It\r\ncontent-length: %d\r\nX-Fallback: some\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()

    return behave


async def says_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(10)


async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


class Callee:
    """A server that treats each request as the next of its behaviours says, the last one for ever; it keeps what it heard."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours)
        self.heard: list[bytes] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Callee:
        self.server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.ensure_future(self._serve(reader, writer))
        serving.add_done_callback(lambda _: writer.close())  # also where it is cancelled before it has begun
        self._connections.add(serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            try:
                self.heard.append(await reader.readuntil(b"\r\n\r\n"))
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            behave = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
            await behave(reader, writer)


def ask(callee: Callee, patience: Patience, within: float | None = None) -> Answer:
    async def call() -> Answer:
        async with callee, Dependency("shipping", f"http://127.0.0.1:{callee.port}", patience) as dependency:
            deadline = None if within is None else seconds_from_now(within)
            return await dependency.ask("GET", "/shipments", deadline=deadline)

    return asyncio.run(call())


@pytest.fixture(autouse=True)
def _trace() -> Iterator[None]:
    before = traceparent.set("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    yield
    traceparent.reset(before)


def test_an_answer_comes_back_with_its_status_its_headers_in_lower_case_and_its_body() -> None:
    answer = ask(Callee(answers(404, b'{"error": "none"}')), Patience(2.0))

    assert (answer.status, answer.headers["x-fallback"], answer.json()) == (404, "some", {"error": "none"})


@pytest.mark.parametrize("misbehaves", [answers(500), answers(503), hangs_up, says_nothing])
def test_what_fails_once_is_tried_again_in_the_same_trace(misbehaves: Behaviour) -> None:
    callee = Callee(misbehaves, answers(201))

    answer = ask(callee, Patience(1.0, tries=2))

    assert answer.status == 201
    assert len(callee.heard) >= 2
    assert all(b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" in heard for heard in callee.heard)


@pytest.mark.parametrize(("kind", "keys"), [(Dependency, 1), (KeyForEachTry, 2)])
def test_every_try_has_the_key_of_the_first_unless_that_defect_is_planted(kind: type[Dependency], keys: int) -> None:
    async def call() -> set[bytes]:
        async with (
            Callee(answers(503), answers(201)) as callee,
            kind("payment", f"http://127.0.0.1:{callee.port}", Patience(2.0, tries=2)) as dependency,
        ):
            await dependency.ask("POST", "/charges", {}, key="order-1")
        return {line for heard in callee.heard for line in heard.lower().split(b"\r\n") if line.startswith(b"idempotency-key")}

    assert len(asyncio.run(call())) == keys


def test_what_is_refused_as_wrong_is_not_tried_again() -> None:
    callee = Callee(answers(409))

    assert ask(callee, Patience(2.0, tries=3)).status == 409
    assert len(callee.heard) == 1


def test_tries_are_bounded() -> None:
    callee = Callee(answers(500))

    with pytest.raises(DependencyUnavailable, match="shipping: answered 500"):
        ask(callee, Patience(2.0, tries=3))

    assert len(callee.heard) == 3


def test_a_callee_that_says_nothing_is_waited_for_no_longer_than_patience_allows() -> None:
    began = time.monotonic()

    with pytest.raises(DependencyUnavailable, match="did not answer in time") as raised:
        ask(Callee(says_nothing), Patience(0.2, tries=2))

    assert raised.value.timed_out
    assert 0.4 <= time.monotonic() - began < 3.0


def test_no_try_goes_beyond_the_deadline() -> None:
    began = time.monotonic()
    callee = Callee(says_nothing)

    with pytest.raises(DependencyUnavailable) as raised:
        ask(callee, Patience(5.0, tries=3), within=0.2)

    assert raised.value.timed_out
    assert len(callee.heard) == 1
    assert time.monotonic() - began < 3.0


def test_a_callee_that_is_not_there_is_told_by_name() -> None:
    async def call() -> None:
        async with Callee(answers(200)) as callee:
            port = callee.port
        async with Dependency("shipping", f"http://127.0.0.1:{port}", Patience(1.0)) as dependency:
            await dependency.ask("GET", "/")

    with pytest.raises(DependencyUnavailable, match="shipping: ClientConnectorError") as raised:
        asyncio.run(call())

    assert not raised.value.timed_out


def ask_at_the_same_time(calls: int, callee: Callee, patience: Patience) -> list[BaseException | Answer]:
    async def call() -> list[BaseException | Answer]:
        async with callee, Dependency("shipping", f"http://127.0.0.1:{callee.port}", patience) as dependency:
            return await asyncio.gather(*(dependency.ask("GET", "/") for _ in range(calls)), return_exceptions=True)

    return asyncio.run(call())


def test_no_more_calls_are_open_at_the_same_time_than_allowed() -> None:
    open_now, most = 0, 0

    async def takes_a_while(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.02)
        open_now -= 1
        await answers(200)(reader, writer)

    answered = ask_at_the_same_time(6, Callee(takes_a_while), Patience(10.0, at_once=2))

    assert [type(each) for each in answered] == [Answer] * 6
    assert most == 2


def test_a_call_that_waits_for_its_turn_spends_its_own_time() -> None:
    began = time.monotonic()

    answered = ask_at_the_same_time(10, Callee(says_nothing), Patience(0.5, at_once=1))

    assert [type(each) for each in answered] == [DependencyUnavailable] * 10
    assert time.monotonic() - began < 4.0, "one after the other, each with all of its time, takes 5 s"


@pytest.mark.parametrize(
    ("kind", "outcome"), [(Dependency, Answer), (InOneQueue, DependencyUnavailable)], ids=["of their own", "one queue"]
)
def test_a_dependency_that_hangs_holds_up_no_other_unless_they_share_one_queue(
    kind: type[Dependency], outcome: type[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InOneQueue, "turns", asyncio.Semaphore(3))

    async def call() -> Answer | BaseException:
        async with Callee(says_nothing) as hanging, Callee(answers(200)) as sound:
            at = "http://127.0.0.1:%d"
            async with (
                kind("inventory", at % hanging.port, Patience(None)) as inventory,
                kind("order", at % sound.port, Patience(2.0)) as order,
            ):
                stuck = [asyncio.ensure_future(inventory.ask("GET", "/")) for _ in range(3)]
                while len(hanging.heard) < 3:
                    await asyncio.sleep(0.01)
                (found,) = await asyncio.gather(order.ask("GET", "/"), return_exceptions=True)
                for each in stuck:
                    each.cancel()
                await asyncio.gather(*stuck, return_exceptions=True)
                return found

    assert isinstance(asyncio.run(call()), outcome)


@pytest.mark.parametrize("trouble", [DependencyUnavailable("shipping", "refused"), RuntimeError("a bug")])
def test_background_work_goes_on_after_whatever_goes_wrong(trouble: Exception) -> None:
    done = asyncio.Event()
    rounds = 0

    async def work() -> bool:
        nonlocal rounds
        rounds += 1
        if rounds < 3:
            raise trouble
        done.set()
        return False

    async def watch() -> None:
        async with Repeatedly(work):
            await asyncio.wait_for(done.wait(), 5)

    asyncio.run(watch())

    assert rounds == 3
