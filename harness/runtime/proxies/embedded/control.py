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


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is answered with."""

    status: int
    body: bytes = b""
    kind: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def as_bytes(self) -> bytes:
        """The answer on the wire."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
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


class ControlConnection(asyncio.Protocol):
    """One client of the control API. Requests are answered in the order in which they came."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: Callable[[Asked], Awaitable[Answer]]) -> None:
        self._loop, self._answer = loop, answer
        self._parser = HttpRequestParser(self)
        self._transport: Any = None
        self._asked: deque[Asked | None] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._url = self._agent = b""
        self._body = bytearray()
        self._is_last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserCallbackError, HttpParserUpgrade):
            self._asked.append(None)
            self._transport.pause_reading()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- why is the client's affair
        self._transport = None
        self._asked.clear()

    def on_message_begin(self) -> None:
        self._url = self._agent = b""
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"user-agent":
            self._agent = value

    def on_headers_complete(self) -> None:
        self._is_last = not self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MOST_BODY:
            raise ValueError("the body is too long")

    def on_message_complete(self) -> None:
        path = self._url.split(b"?", 1)[0].decode("latin-1")
        method = self._parser.get_method().decode("latin-1")
        self._asked.append(Asked(method, path, bytes(self._body), self._agent.decode("latin-1"), self._is_last))

    def _go_on(self) -> None:
        if self._asked and self._answering is None:
            self._answering = self._loop.create_task(self._answer_all())

    async def _answer_all(self) -> None:
        try:
            while self._asked:
                asked = self._asked.popleft()
                answer = error_answer(400, "bad request") if asked is None else await self._answer(asked)
                if self._transport is None:
                    return
                self._transport.write(answer.as_bytes())
                if asked is None or asked.is_last:
                    self._transport.close()
                    return
        finally:
            self._answering = None
