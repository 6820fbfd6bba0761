"""The load clients and the callees of `proxy.py`. As a program: one client, which prints what it found as JSON.

    python benchmarks/proxy_load.py KIND HOST PORT …

`ask` CONNECTIONS SECONDS [RATE]: requests on kept connections, as many as come through, or so many a second.
`connect` CONNECTIONS SECONDS: every request on a connection of its own.
`trickle` CONNECTIONS SECONDS: a few requests a second on an edge that may do anything with them.
`churn` CONNECTIONS COUNT: so many connections with the habits of real callers; every answer that is due is awaited.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from typing import Any

import uvloop

SIZE = 512
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (SIZE, b"x" * SIZE)
_ID = b"%032x"
_REQUEST = b"GET / HTTP/1.1\r\nHost: callee\r\ntraceparent: 00-" + _ID + b"-b7ad6b7169203331-01\r\n\r\n"
_LAST_REQUEST = _REQUEST.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost")
_IDS = count(random.getrandbits(96) << 32)
PATIENCE = 20.0


def request() -> bytes:
    """One with a trace id of its own, as each request of a run has."""
    return _REQUEST % next(_IDS)


def last_request() -> bytes:
    """One after which the callee closes."""
    return _LAST_REQUEST % next(_IDS)


# Callees


def answer_http(listener: socket.socket) -> None:
    uvloop.run(_serve(listener, Answering))


def echo(listener: socket.socket) -> None:
    uvloop.run(_serve(listener, Echoing))


def send_much(listener: socket.socket) -> None:
    """Sends until the caller has enough."""
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_send, args=(sock,), daemon=True).start()


def _send(sock: socket.socket) -> None:
    piece = bytes(1024 * 1024)
    with sock, suppress(OSError):
        while True:
            sock.sendall(piece)


class Answering(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))
        if b"Connection: close" in data:
            self._transport.close()


class Echoing(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def _serve(listener: socket.socket, protocol: type[asyncio.Protocol]) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=4096)
    await server.serve_forever()


# Clients


class Asking(asyncio.Protocol):
    """One kept connection: `ask` once it is `idle`. `answered` is called when the answer is complete."""

    total = 0

    def __init__(self, *, goes_on: bool) -> None:
        self.idle, self._goes_on, self._left = True, goes_on, 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._goes_on:
            self.ask()

    def ask(self) -> None:
        self.idle, self._left = False, 0
        self._transport.write(request())

    def data_received(self, data: bytes) -> None:
        if self._left == 0:
            head, _, data = data.partition(b"\r\n\r\n")
            found = re.search(rb"(?i)content-length: (\d+)", head)
            assert found is not None
            self._left = int(found[1])
        self._left -= len(data)
        if self._left <= 0:
            Asking.total += 1
            self.idle = True
            if self._goes_on:
                self.ask()


async def ask(host: str, port: int, connections: float, seconds: float, rate: float = 0) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Asking(goes_on=not rate), host, port) for _ in range(int(connections))]
    before, begin = Asking.total, time.perf_counter()
    if rate:
        await _paced([protocol for _, protocol in made], seconds, rate)
    else:
        await asyncio.sleep(seconds)
    return {"rate": (Asking.total - before) / (time.perf_counter() - begin)}


async def _paced(callers: list[Asking], seconds: float, rate: float) -> None:
    """So many requests a second, by whoever is idle; what is late is made up for while there are idle ones."""
    begin, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - begin) < seconds:
        for caller in callers:
            if sent >= now * rate:
                break
            if caller.idle:
                caller.ask()
                sent += 1
        await asyncio.sleep(0.001)


async def connect(host: str, port: int, connections: float, seconds: float) -> dict[str, float]:
    end = time.perf_counter() + seconds
    done = await asyncio.gather(*(_connect_until(host, port, end) for _ in range(int(connections))))
    return {"rate": sum(done) / seconds}


async def _connect_until(host: str, port: int, end: float) -> int:
    done = 0
    while time.perf_counter() < end:
        await _whole_answer(host, port)
        done += 1
    return done


async def _whole_answer(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(last_request())
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"x" * SIZE):
        raise SystemExit(f"an answer was lost: {answer[:80]!r}")


async def trickle(host: str, port: int, connections: float, seconds: float) -> dict[str, float]:
    end = time.perf_counter() + seconds
    answered = await asyncio.gather(*(_trickle(host, port, end) for _ in range(int(connections))))
    return {"rate": sum(answered) / seconds}


async def _trickle(host: str, port: int, end: float) -> int:
    answered = 0
    while time.perf_counter() < end:
        await asyncio.sleep(0.05)
        with suppress(
            OSError, TimeoutError, EOFError, asyncio.LimitOverrunError, RuntimeError
        ):  # the last for writing to what was closed
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection(host, port)
            try:
                for _ in range(10):
                    writer.write(request())
                    async with asyncio.timeout(0.5):
                        await reader.readuntil(b"x" * SIZE)
                    answered += 1
                    await asyncio.sleep(0.05)
            finally:
                writer.close()
    return answered


class Churn:
    """Connections one after another, each with one of the habits of callers; counts what became of them."""

    def __init__(self, host: str, port: int, times: int) -> None:
        self._host, self._port, self._left = host, port, times
        self.seen: Counter[str] = Counter()
        self._habits = (self.closes, self.keeps, self.half_closes, self.goes, self.resets, self.says_nothing, self.pipelines)
        self._weights = (30, 25, 15, 10, 10, 5, 5)
        self._random = random.Random(7)

    async def run(self, connections: int) -> dict[str, float]:
        begin = time.perf_counter()
        await asyncio.gather(*(self._go_on() for _ in range(connections)))
        return {**self.seen, "seconds": time.perf_counter() - begin}

    async def _go_on(self) -> None:
        while self._left > 0:
            self._left -= 1
            (habit,) = self._random.choices(self._habits, self._weights)
            self.seen["connections"] += 1
            try:
                async with asyncio.timeout(PATIENCE):
                    await habit()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as problem:
                self.seen[f"lost: {habit.__name__}: {type(problem).__name__}"] += 1

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port)

    async def _answers(self, reader: asyncio.StreamReader, times: int = 1) -> None:
        for _ in range(times):
            if not (await reader.readuntil(b"x" * SIZE)).startswith(b"HTTP/1.1 200"):
                raise ValueError("not the answer")
            self.seen["answers"] += 1

    async def closes(self) -> None:
        """The callee closes after its answer."""
        reader, writer = await self._open()
        writer.write(last_request())
        await self._answers(reader)
        if await reader.read():
            raise ValueError("more than the answer")
        writer.close()

    async def keeps(self) -> None:
        """A few requests, then the caller closes."""
        reader, writer = await self._open()
        for _ in range(3):
            writer.write(request())
            await self._answers(reader)
        writer.close()

    async def half_closes(self) -> None:
        """Says that nothing more comes, and still expects the answer."""
        reader, writer = await self._open()
        writer.write(last_request())
        writer.write_eof()
        await self._answers(reader)
        await reader.read()
        writer.close()

    async def goes(self) -> None:
        """Does not wait for the answer."""
        _, writer = await self._open()
        writer.write(request())
        await asyncio.sleep(0)
        writer.close()

    async def resets(self) -> None:
        """Breaks off half-way in the answer."""
        reader, writer = await self._open()
        writer.write(b"".join(request() for _ in range(3)))
        await reader.read(100)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def says_nothing(self) -> None:
        _, writer = await self._open()
        writer.close()

    async def pipelines(self) -> None:
        reader, writer = await self._open()
        writer.write(b"".join(request() for _ in range(4)))
        await self._answers(reader, 4)
        writer.close()


async def churn(host: str, port: int, connections: float, times: float) -> dict[str, float]:
    return await Churn(host, port, int(times)).run(int(connections))


CLIENTS = {"ask": ask, "connect": connect, "trickle": trickle, "churn": churn}

if __name__ == "__main__":
    client, host, port, *how = sys.argv[1:]
    print(json.dumps(uvloop.run(CLIENTS[client](host, int(port), *map(float, how)))))
