"""Reads one answer off a connection, whole, in the words of what is spoken there."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from hashlib import blake2b

MOST_READ = 262_144
"""Bytes of one answer that are read; what is longer is no more asked for."""

PIECE = 65_536
WITHOUT_BODY = (204, 304)
HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{1,16}")


class Ended(Exception):
    """The other side ended the connection before its answer was whole."""


class Late(Exception):
    """An answer had begun, and did not end in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `status`, `injected` and `body` (a digest) of HTTP alone. On one that is not `reusable` nothing follows."""

    status: int = 0
    injected: str = ""
    body: str = ""
    reusable: bool = True


class Incoming:
    """What comes on a connection until `deadline`, byte by byte as it is needed; `got` is how much has come."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline
        self._held = b""
        self.got = 0
        self.status = 0

    def line(self) -> bytes:
        """Up to the next end of a line, without it."""
        while b"\n" not in self._held and len(self._held) < PIECE:
            self._more()
        line, _, self._held = self._held.partition(b"\n")
        return line.rstrip(b"\r")

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._held) < size:
            self._more()
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def until_end(self, most: int) -> bytes:
        """All there is until the other side ends the connection, or `most`."""
        try:
            while len(self._held) < most:
                self._more()
        except Ended:
            pass
        taken, self._held = self._held, b""
        return taken

    def _more(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:  # who sends without end is not listened to without end
            raise self._too_late()
        self._connection.settimeout(left)
        try:
            piece = self._connection.recv(PIECE)
        except TimeoutError:
            raise self._too_late() from None
        if not piece:
            raise Ended
        self.got += len(piece)
        self._held += piece

    def _too_late(self) -> Late | TimeoutError:
        return Late() if self.status else TimeoutError()


def read_answer(incoming: Incoming, protocol: str) -> Answer:
    """One answer; raises Ended, Late, TimeoutError, or what the socket raises."""
    incoming.status = 0
    if protocol == "http":
        return _http(incoming)
    if protocol == "redis":
        incoming.line()
    else:
        incoming.exactly(1)
    return Answer()


def _http(incoming: Incoming) -> Answer:
    status, headers = _head(incoming)
    while 100 <= status < 200:
        status, headers = _head(incoming)
    incoming.status = status
    stays = headers.get("connection", headers["version"]).lower() not in ("close", "http/1.0")
    length = _number(headers.get("content-length", ""))
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    bounded = chunked or length is not None or status in WITHOUT_BODY
    if status in WITHOUT_BODY:
        body = b""
    elif chunked:
        body = _chunks(incoming)
    else:
        body = incoming.until_end(MOST_READ) if length is None else incoming.exactly(min(length, MOST_READ))
    whole = bounded and len(body) < MOST_READ
    digest = blake2b(body, digest_size=8).hexdigest() if body else ""
    return Answer(status, headers.get("x-chaos-fault", ""), digest, whole and stays)


def _head(incoming: Incoming) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case; among them the version."""
    words = incoming.line().split(None, 2)
    is_http = len(words) > 1 and words[0].startswith(b"HTTP/")
    status = (_number(words[1].decode("latin-1")) or 0) if is_http else 0
    headers = {"version": words[0].decode("latin-1") if words else ""}
    while line := incoming.line():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return status, headers


def _number(text: str) -> int | None:
    """A whole number as HTTP writes one; None for what is none, or too long to be meant."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _chunks(incoming: Incoming) -> bytes:
    body = b""
    while len(body) < MOST_READ:
        word = incoming.line().partition(b";")[0].strip()
        if not HEXADECIMAL.fullmatch(word):
            return body  # damaged on its way, and nothing to go on by
        size = int(word, 16)
        body += incoming.exactly(min(size, MOST_READ))
        incoming.line()
        if size == 0:
            break
    return body
