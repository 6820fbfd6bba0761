"""The control API's own HTTP server: as much of HTTP/1.1 as its clients speak, over one loop with the data."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

MOST_BODY = 1024 * 1024
"""Bytes of a request's body that are taken."""

MOST_HEAD = 64 * 1024
"""Bytes of its request line and headers."""

MOST_WAITING = 64
"""Requests of one client that may wait for their answers before it is read no further."""

REQUEST_WITHIN = 15.0
"""Seconds that a request may take to come in; Toxiproxy's."""

IDLE_FOR = 60.0
"""Seconds for which a connection without requests is kept; Toxiproxy's."""

_LINGERS_FOR = 5.0
"""Seconds in which a client that is still sending may read why it is turned away."""

_MOST_UNHEARD = 4 * 1024 * 1024
"""Bytes that it may send meanwhile."""

JSON = "application/json;charset=utf-8"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the control API."""

    method: str
    path: str
    body: bytes
    user_agent: str = ""
    is_last: bool = False
    authorization: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is answered with."""

    status: int
    body: bytes = b""
    kind: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def as_bytes(self, *, is_last: bool = False) -> bytes:
        """The answer on the wire; with the last one the client is told to ask no more over this connection."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if is_last:
            lines.append("Connection: close")
        if self.kind:
            lines.append(f"Content-Type: {self.kind}")
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + self.body


def json_answer(status: int, data: Any) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(data).encode() + b"\n", JSON)


def error_answer(status: int, message: str) -> Answer:
    """An error as Toxiproxy writes it: JSON that calls itself plain text."""
    body = json.dumps({"error": message, "status": status}).encode() + b"\n"
    return Answer(status, body, TEXT, {"X-Content-Type-Options": "nosniff"})


TOO_LONG = error_answer(413, f"bad request: its body is longer than {MOST_BODY} bytes")


class ControlConnection(asyncio.Protocol):
    """One client of the control API. Requests are answered in the order in which they came, one at a time.

    Whatever a client sends or does not send or does not read, what it costs is bounded.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: Callable[[Asked], Awaitable[Answer]]) -> None:
        self._loop, self._answer = loop, answer
        self._parser: Any = HttpRequestParser(self)
        self._transport: Any = None
        self._asked: deque[Asked | Answer] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._url = self._agent = self._authorization = b""
        self._body = bytearray()
        self._is_last = self._has_head = False
        self._taken = 0
        self._since = loop.time()
        self._minding: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._mind()

    def data_received(self, data: bytes) -> None:
        if not self._taken:
            self._since = self._loop.time()
        self._taken += len(data)
        if self._parser is not None:
            self._read(data)
        elif self._taken > _MOST_UNHEARD:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- why is the client's affair
        self._transport = None
        self._asked.clear()
        self._may_write.set()
        if self._minding is not None:
            self._minding.cancel()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def on_message_begin(self) -> None:
        self._url = self._agent = self._authorization = b""
        self._body = bytearray()
        self._has_head = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"user-agent":
            self._agent = value
        elif name.lower() == b"authorization":
            self._authorization = value

    def on_headers_complete(self) -> None:
        self._is_last = not self._parser.should_keep_alive()
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MOST_BODY:
            raise ValueError("the body is too long")

    def on_message_complete(self) -> None:
        path = self._url.split(b"?", 1)[0].decode("latin-1")
        method = self._parser.get_method().decode("latin-1")
        agent = self._agent.decode("latin-1")
        self._asked.append(Asked(method, path, bytes(self._body), agent, self._is_last, self._authorization))
        self._taken = 0

    def _read(self, data: bytes) -> None:
        try:
            self._feed(data)
        except HttpParserCallbackError:  # from `on_body`
            self._hear_no_more(TOO_LONG)
        except HttpParserError:
            self._hear_no_more(error_answer(400, "bad request"))
        else:
            if self._taken > MOST_HEAD and not self._has_head:
                self._hear_no_more(error_answer(431, f"bad request: its head is longer than {MOST_HEAD} bytes"))
            elif self._taken > MOST_HEAD + 2 * MOST_BODY:  # chunks have heads of their own
                self._hear_no_more(TOO_LONG)
        if len(self._asked) > MOST_WAITING:
            self._transport.pause_reading()
        self._go_on()

    def _feed(self, data: bytes) -> None:
        """An upgrade that is offered is declined: the request is one like any other."""
        while data:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as offer:
                self._parser = HttpRequestParser(self)
                data = data[offer.args[0] :]
            else:
                return

    def _hear_no_more(self, answer: Answer) -> None:
        """What comes is thrown away; when all before it is answered, this is the last answer."""
        self._parser = None
        self._taken = 0
        self._asked.append(answer)

    def _mind(self) -> None:
        """Let go of a client that is silent in the middle of a request, or has none for long."""
        if self._transport is None:
            return
        patience = REQUEST_WITHIN if self._taken else IDLE_FOR
        left = self._since + patience - self._loop.time()
        if left <= 0 and not self._asked and self._answering is None:
            self._transport.abort()
        else:
            self._minding = self._loop.call_later(max(1.0, min(left, REQUEST_WITHIN)), self._mind)

    def _go_on(self) -> None:
        if self._asked and self._answering is None:
            self._answering = self._loop.create_task(self._answer_all())

    async def _answer_all(self) -> None:
        try:
            while self._asked:
                asked = self._asked.popleft()
                answer = asked if isinstance(asked, Answer) else await self._answered(asked)
                await self._may_write.wait()
                if self._transport is None:
                    return
                is_last = isinstance(asked, Answer) or asked.is_last
                self._transport.write(answer.as_bytes(is_last=is_last))
                self._since = self._loop.time()
                if is_last:
                    self._end()
                    return
                if len(self._asked) == MOST_WAITING // 2:
                    self._transport.resume_reading()
        finally:
            self._answering = None

    async def _answered(self, asked: Asked) -> Answer:
        try:
            return await self._answer(asked)
        except Exception as defect:  # whose client waits for an answer all the same
            self._loop.call_exception_handler({"message": f"{asked.method} {asked.path}", "exception": defect})
            return error_answer(500, "a defect of the engine: its log says more")

    def _end(self) -> None:
        """Close, once the client has had time to read: a close while it still sends would be a reset."""
        if self._parser is not None:
            self._transport.close()
            return
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._transport.write_eof()
        self._loop.call_later(_LINGERS_FOR, self._transport.abort)
