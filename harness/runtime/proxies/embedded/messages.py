"""Where the messages of HTTP/1.1 begin and end in a stream of bytes, to the byte.

The parser reports what it has read and not where, so it is fed in pieces that end where a message may: after an
empty line while a head or a chunked body is read, after the last byte of a body whose length was said.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

LONGEST_HEAD = 256 * 1024
"""Bytes of one head; what has a longer one is not taken for HTTP."""

LONGEST_TRAILERS = 16 * 1024 * 1024
"""Bytes in which nothing of a body in chunks comes: the trailers behind it, which the parser would keep all of."""

_EMPTY_LINE = b"\r\n\r\n"


class NotHttp(Exception):
    """These bytes are no HTTP/1.1, or no more."""


def plain_head(method: str, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of a request that offers no upgrade and is like this one otherwise, as far as its body goes."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers if header[0].lower() != b"upgrade")
    return f"{method} / HTTP/{version}\r\n".encode() + lines + b"\r\n"


class EmptyLines:
    """Finds where an empty line ends, also one that comes in two pieces."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def place(self, data: bytes, start: int) -> int:
        """The place behind the first empty line that ends in these bytes, or their end."""
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


class Framer:
    """Reads the messages of one direction one after another; whoever feeds it calls `begin` after each."""

    __slots__ = (
        "_chunk_size",
        "_head_size",
        "_kind",
        "_left",
        "_lines",
        "_named",
        "_parser",
        "began",
        "complete",
        "headers",
        "in_body",
        "keeps_alive",
        "offers",
        "version",
    )

    def __init__(self, kind: type[HttpRequestParser] | type[HttpResponseParser]) -> None:
        self._kind = kind
        self._parser: Any = kind(self)
        self._lines = EmptyLines()
        self.offers = False
        self.begin()

    def begin(self) -> None:
        """The message is over, another one may follow."""
        if self.offers:
            self._parser = self._kind(self)
        self.began = self.in_body = self.complete = self.offers = self.keeps_alive = False
        self.headers: list[tuple[bytes, bytes]] = []
        self._named: dict[bytes, bytes] = {}
        self._left: int | None = None
        self._head_size = self._chunk_size = 0

    def forget_body(self) -> None:
        """The message is over though its head announced a body: the answer to a HEAD has none."""
        self._parser = self._kind(self)
        self.complete = True

    def feed(self, data: bytes, start: int) -> int:
        """Read on from there up to where the message or its head may end; that place is what is told."""
        end = self._place(data, start)
        self._chunk_size += end - start
        try:
            self._parse(data if not start and end == len(data) else memoryview(data)[start:end])
        except (HttpParserError, HttpParserCallbackError) as error:
            raise NotHttp from error
        if self._left is not None:
            self._left -= end - start
            if self.complete != (self._left == 0):
                raise NotHttp
        elif not self.in_body or self._head_size >= 0:
            self._read_head(end - start)
        elif self.is_chunked and self._chunk_size > LONGEST_TRAILERS:
            raise NotHttp
        return end

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.offers = True
            if self._kind is HttpRequestParser and self.method != "CONNECT":  # the parser takes no body for one of it
                head = plain_head(self.method, self._parser.get_http_version(), self.headers)
                self.began = self.complete = False
                self._parser = self._kind(self)
                self._parser.feed_data(head)

    def _read_head(self, size: int) -> None:
        if self.in_body:
            self._enter_body()
            return
        self._head_size += size
        if self._head_size > LONGEST_HEAD:
            raise NotHttp

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self._parser.get_status_code())

    @property
    def method(self) -> str:
        """Of a request."""
        return str(self._parser.get_method(), "latin-1")

    @property
    def length(self) -> int | None:
        """The bytes of the body that are still to come, where the head said so."""
        return self._left

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self.header(b"transfer-encoding").lower().endswith(b"chunked")

    def header(self, name: bytes) -> bytes:
        """The last header of this name, which is given in lower case; empty where there is none."""
        return self._named.get(name, b"").strip()

    def on_message_begin(self) -> None:
        if self.began:
            raise NotHttp  # one ended where none can: nothing of this is understood
        self.began = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_body:
            small = name.lower()
            self.headers.append((small, value))
            self._named[small] = value

    def on_headers_complete(self) -> None:
        self.in_body = True
        self.keeps_alive = self._parser.should_keep_alive()  # what is said after the body is not of this message

    def on_chunk_header(self) -> None:
        self._chunk_size = 0

    def on_body(self, _body: bytes) -> None:
        self._chunk_size = 0

    def on_message_complete(self) -> None:
        self.complete = True

    def _enter_body(self) -> None:
        """The head has just ended."""
        self._head_size = -1
        self.version: str = self._parser.get_http_version()
        if not self.version.startswith("1."):
            raise NotHttp
        if not self.complete and not self.header(b"transfer-encoding"):
            length = self.header(b"content-length")
            self._left = int(length) if length else None

    def _place(self, data: bytes, start: int) -> int:
        return self._lines.place(data, start) if self._left is None else min(start + self._left, len(data))
