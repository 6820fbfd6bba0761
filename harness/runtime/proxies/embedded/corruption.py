"""What http_corrupt makes of the body of an answer."""

from __future__ import annotations

from typing import Any, Protocol

from httptools import HttpParserError, HttpResponseParser

BLOCK = 64
"""One byte in so many is changed, the first of each block."""

_FLIPPED = bytes(255 - byte for byte in range(256))


class Corruption(Protocol):
    """Takes the body piece by piece as it is on the wire."""

    def take(self, piece: bytes) -> bytes:
        """What is passed on in its place."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the answer ends here, and its connection with it."""
        ...


class Flipped:
    """A body with the bits of every 64th byte turned over, its length and its framing kept."""

    is_over = False

    def __init__(self) -> None:
        self._offset = 0

    def take(self, piece: bytes) -> bytes:
        first = -self._offset % BLOCK
        self._offset += len(piece)
        changed = bytearray(piece)
        changed[first::BLOCK] = changed[first::BLOCK].translate(_FLIPPED)
        return bytes(changed)


class FlippedChunks:
    """The same for a body in chunks: they are read by a parser of their own and written anew, without their trailers."""

    is_over = False

    def __init__(self) -> None:
        self._plain = Flipped()
        self._out = bytearray()
        self._parser: Any = HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def take(self, piece: bytes) -> bytes:
        try:
            self._parser.feed_data(piece)
        except HttpParserError:  # what is in no chunks after all
            return self._plain.take(piece)
        out, self._out = bytes(self._out), bytearray()
        return out

    def on_body(self, body: bytes) -> None:
        self._out += b"%x\r\n%b\r\n" % (len(body), self._plain.take(body))

    def on_message_complete(self) -> None:
        self._out += b"0\r\n\r\n"


class Truncated:
    """Half of the body where its length is known, else half of its first piece."""

    def __init__(self, length: int | None) -> None:
        self._left = length // 2 if length is not None else None
        self.is_over = False

    def take(self, piece: bytes) -> bytes:
        if self._left is None:
            self._left = len(piece) // 2
        passed = piece[: self._left]
        self._left -= len(passed)
        self.is_over = self._left == 0
        return passed


def corruption(how: str, length: int | None, *, is_chunked: bool) -> Corruption:
    """What is done to a body of this length, None where it is not known."""
    if how == "truncate":
        return Truncated(length)
    return FlippedChunks() if is_chunked else Flipped()
