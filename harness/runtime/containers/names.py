"""Answers for names that no service has, so that they fail at once, and so that it is known who asked.

The engine's own name server knows the names on a container's networks, and asks outside for any other. On internal
networks nobody answers there, and a program waits for seconds. So this process listens where the engine asks: on the
host's address of one network of each service. That takes the right to listen on port 53, and an engine on this machine;
without them, a name fails after a second, and nobody knows who asked for it.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

DNS_PORT = 53
NO_SUCH_NAME = 3
_IP_FREEBIND = 15
_HEADER = struct.Struct("!HHHHHH")
LONGEST_QUESTION = 512


class NameResponder:
    """Listens at an address for each service, and tells `asked` of each name that one asked for, once.

    Raises OSError where it may not listen. An address need not exist yet.
    """

    def __init__(self, addresses: Mapping[str, str], asked: Callable[[str, str], None]) -> None:
        self._asked = asked
        self._told: set[tuple[str, str]] = set()
        self._sockets: dict[socket.socket, str] = {}
        self._closing, self._close = socket.socketpair()
        try:
            for service, address in addresses.items():
                self._sockets[_listen(address)] = service
        except OSError:
            self._close_sockets()
            raise
        self._thread = threading.Thread(target=self._serve, daemon=True, name="names")
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        with suppress(OSError):
            self._close.send(b"!")
        self._thread.join(2.0)
        self._close_sockets()

    def _serve(self) -> None:
        while True:
            readable, _, _ = select.select([self._closing, *self._sockets], [], [])
            if self._closing in readable:
                return
            for listener in readable:
                with suppress(OSError):
                    self._answer(listener)

    def _answer(self, listener: socket.socket) -> None:
        question, origin = listener.recvfrom(LONGEST_QUESTION)
        name = name_in(question)
        if name is None:
            return
        listener.sendto(refusal_of(question), origin)
        told = self._sockets[listener], name
        if told not in self._told and not name.endswith(".arpa"):
            self._told.add(told)
            self._asked(*told)

    def _close_sockets(self) -> None:
        for listener in (self._closing, self._close, *self._sockets):
            listener.close()


def _listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((address, DNS_PORT))
    except OSError:
        listener.close()
        raise
    return listener


def _end_of_name(question: bytes) -> int | None:
    """Where the name of the first question ends (RFC 1035, 4.1.2); None where there is none."""
    at = _HEADER.size
    while at < len(question) and question[at]:
        if question[at] > 63:  # a pointer: no question begins with one
            return None
        at += question[at] + 1
    return at + 1 if at + 5 <= len(question) else None


def name_in(question: bytes) -> str | None:
    """The name that a DNS question asks for; None where it is no question."""
    if len(question) < _HEADER.size:
        return None
    _, flags, questions, *_ = _HEADER.unpack_from(question)
    end = _end_of_name(question)
    if flags & 0x8000 or questions != 1 or end is None:
        return None
    labels, at = [], _HEADER.size
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace"))
        at += question[at] + 1
    return ".".join(labels).lower()


def refusal_of(question: bytes) -> bytes:
    """The answer that there is no such name (RFC 1035, 4.1.1: RCODE 3)."""
    identity, flags, *_ = _HEADER.unpack_from(question)
    end = _end_of_name(question)
    assert end is not None
    answered = 0x8000 | (flags & 0x0100) | 0x0080 | NO_SUCH_NAME
    return _HEADER.pack(identity, answered, 1, 0, 0, 0) + question[_HEADER.size : end + 4]
