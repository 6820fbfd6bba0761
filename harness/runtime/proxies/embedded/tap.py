"""Reads along where HTTP/1.1 is spoken: requests as the caller sends them, answers as they reach it.

A tap changes nothing and holds nothing back. It gives up for good on a connection whose first bytes are not
HTTP/1.1, and on one that becomes something else (CONNECT, an upgrade, nonsense).
"""

from __future__ import annotations

from typing import Any

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from harness.runtime.proxies.embedded.counts import UNANSWERED, Counts

LONGEST_HEAD = 256 * 1024
"""Bytes of an answer to HEAD that are waited for; after that the tap gives up."""

_NOT_HTTP = (HttpParserError, HttpParserCallbackError, HttpParserUpgrade)


class Tap:
    """Reads along on one connection."""

    __slots__ = ("_answers", "_counts", "_head", "_is_http", "_requests", "_waiting", "on")

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._requests: Any = HttpRequestParser(_RequestReader(self))
        self._answers: Any = HttpResponseParser(_AnswerReader(self))
        self._waiting = 0
        self._head: bytearray | None = None
        self._is_http = False
        self.on = True

    def read_requests(self, data: bytes) -> None:
        """Bytes of the caller."""
        try:
            self._requests.feed_data(data)
        except _NOT_HTTP:
            self._give_up()

    def read_answers(self, data: bytes) -> None:
        """Bytes that reach the caller."""
        if not self._is_http:
            self.on = False
            return
        if self._head is not None:
            self._read_head(data)
            return
        try:
            self._answers.feed_data(data)
        except _NOT_HTTP:
            self._give_up()

    def end(self) -> None:
        """The connection is over: whatever waits is unanswered. Ending twice is ending once."""
        if self._waiting:
            self._counts.answered(UNANSWERED, self._waiting)
            self._waiting = 0
        self.on = False
        self._requests = self._answers = None

    def _request(self) -> None:
        if not self.on:
            return
        self._is_http = True
        self._counts.request()
        if self._requests.get_method() == b"HEAD":
            if self._waiting:  # the answer before it would have to be told from this one's head
                self._give_up()
                return
            self._head = bytearray()
        elif self._head is not None:
            self._give_up()
            return
        self._waiting += 1

    def _answer(self, status: int) -> None:
        if status >= 200 and self._waiting:
            self._waiting -= 1
            self._counts.answered(str(status))

    def _read_head(self, data: bytes) -> None:
        """An answer to HEAD announces a body that never comes, which the parser cannot be told: it is read here."""
        assert self._head is not None
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > LONGEST_HEAD:
                self._give_up()
            return
        status, rest = self._head[9:12], bytes(self._head[end + 4 :])
        if not self._head.startswith(b"HTTP/1.") or not status.isdigit():
            self._give_up()
            return
        final = int(status) >= 200
        self._head = None if final else bytearray()
        self._answer(int(status))
        if rest:
            self.read_answers(rest)

    def _give_up(self) -> None:
        if self.on and self._is_http:
            self._counts.lost_track += 1
        self._waiting = 0
        self.on = False


class _RequestReader:
    """What the parser calls while it reads requests. It has no more methods than needed: each costs time."""

    __slots__ = ("_tap",)

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 11 and name.lower() == b"traceparent" and len(value) >= 55:
            self._tap._counts.attempt(value[3:35])

    def on_headers_complete(self) -> None:
        self._tap._request()


class _AnswerReader:
    """What the parser calls while it reads answers."""

    __slots__ = ("_tap",)

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    def on_headers_complete(self) -> None:
        self._tap._answer(self._tap._answers.get_status_code())
