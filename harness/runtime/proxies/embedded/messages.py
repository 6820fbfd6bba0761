"""Where the messages of HTTP/1.1 begin and end in a stream of bytes, to the byte.

The parser reports what it has read and not where, so it is fed in pieces that end where a message may: after an
empty line while a head or a chunked body is read, after the last byte of a body whose length was said.
"""

from __future__ import annotations

from typing import Any

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

LONGEST_HEAD = 256 * 1024
"""Bytes of one head; what has a longer one is not taken for HTTP."""

_EMPTY_LINE = b"\r\n\r\n"


class NotHttp(Exception):
    """These bytes are no HTTP/1.1, or no more."""


class Framer:
    """Reads the messages of one direction one after another; whoever feeds it calls `begin` after each."""

    __slots__ = ("_head_size", "_kind", "_left", "_parser", "_tail", "began", "complete", "headers", "in_body")

    def __init__(self, kind: type[HttpRequestParser] | type[HttpResponseParser]) -> None:
        self._kind = kind
        self.begin_anew()

    def begin(self) -> None:
        """The message is over, another one may follow."""
        self.began = self.in_body = self.complete = False
        self.headers: list[tuple[bytes, bytes]] = []
        self._tail = b""
        self._left: int | None = None
        self._head_size = 0

    def begin_anew(self) -> None:
        """The message is over though the parser waits for a body: the answer to a HEAD has none."""
        self._parser: Any = self._kind(self)
        self.begin()

    def feed(self, data: bytes, start: int) -> int:
        """Read on from there up to where the message or its head may end; that place is what is told."""
        end = self._place(data, start)
        try:
            self._parser.feed_data(data if not start and end == len(data) else memoryview(data)[start:end])
        except HttpParserUpgrade:
            self.complete = True
        except (HttpParserError, HttpParserCallbackError) as error:
            raise NotHttp from error
        if self._left is not None:
            self._left -= end - start
            if self.complete != (self._left == 0):
                raise NotHttp
        elif not self.in_body:
            self._head_size += end - start
            if self._head_size > LONGEST_HEAD:
                raise NotHttp
        elif self._head_size >= 0:
            self._enter_body()
        return end

    @property
    def upgrades(self) -> bool:
        """Whether what follows this message will be something else."""
        return bool(self._parser.should_upgrade())

    @property
    def keeps_alive(self) -> bool:
        """Whether another message may follow on this connection."""
        return bool(self._parser.should_keep_alive())

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self._parser.get_status_code())

    @property
    def length(self) -> int | None:
        """The bytes of the body that are still to come, where the head said so."""
        return self._left

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        found = [value for name, value in self.headers if name.lower() == b"transfer-encoding"]
        return bool(found) and found[-1].strip().lower().endswith(b"chunked")

    def on_message_begin(self) -> None:
        if self.began:
            raise NotHttp  # one ended where none can: nothing of this is understood
        self.began = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_body:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_body = True

    def on_message_complete(self) -> None:
        self.complete = True

    def _enter_body(self) -> None:
        """The head has just ended."""
        self._head_size = -1
        if not self.complete and not any(name.lower() == b"transfer-encoding" for name, _ in self.headers):
            said = [value for name, value in self.headers if name.lower() == b"content-length"]
            self._left = int(said[0]) if said else None

    def _place(self, data: bytes, start: int) -> int:
        if self._left is not None:
            return min(start + self._left, len(data))
        tail, self._tail = self._tail, b""
        if tail:
            found = (tail + data[start : start + 3]).find(_EMPTY_LINE)
            if found >= 0:
                return start + found + 4 - len(tail)
        found = data.find(_EMPTY_LINE, start)
        if found >= 0:
            return found + 4
        self._tail = (tail + data[max(start, len(data) - 3) :])[-3:]
        return len(data)
