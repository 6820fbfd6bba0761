"""The listener of one proxy: its address is kept from the beginning to the end, whether anybody is let in or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from harness.runtime.proxies.embedded.toxics import Refused

BACKLOG = 4096

CAN_BE_DEAF = sys.platform == "linux"
"""Elsewhere a backlog of 0 is none, or a full one refuses."""

_TRIES = 64
_ESTABLISHED = 1


class Listener:
    """Bound to an address, and open or deaf.

    Deaf, it lets no handshake complete and refuses none: its backlog is 0, and the one place that Linux leaves in
    such a queue is taken by a connection of its own. The kernel drops every further SYN without a word.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: tuple[str, int], accept: Callable[[], asyncio.Protocol]
    ) -> None:
        self._loop = loop
        self.accept = accept
        """Makes the protocol of each connection; whoever it belongs to may change."""
        self._server: asyncio.AbstractServer | None = None
        self._filler: socket.socket | None = None
        self._taking_in: set[asyncio.Task[Any]] = set()
        self._sock = _bound(address)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; a port that was given as 0 is known."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    async def open(self) -> None:
        """Let in whoever comes, beginning with those who tried meanwhile. Where that is refused, it is as it was."""
        accepting = self._accepting_socket() if self._server is None else None
        self._listen(BACKLOG)
        self._take_in()
        self._drop_filler()
        if accepting is not None:
            self._server = await self._loop.create_server(self._protocol, sock=accepting, backlog=BACKLOG)

    def deafen(self) -> None:
        """Let nobody in from now on. Who is in the queue came before."""
        if self._filler is not None:
            return
        filler = self._new_filler()
        self._stop_accepting()
        self._listen(0)
        for _ in range(_TRIES):
            self._take_in()
            if _takes_a_place(filler, self._sock):
                break
            filler.close()  # somebody was quicker
            filler = self._new_filler()
        self._filler = filler

    def close(self) -> None:
        """The address is free."""
        self._stop_accepting()
        self._sock.close()
        self._drop_filler()

    def _protocol(self) -> asyncio.Protocol:
        return self.accept()

    def _listen(self, backlog: int) -> None:
        try:
            self._sock.listen(backlog)
        except OSError as error:
            raise _refused(self.address, error) from error

    def _accepting_socket(self) -> socket.socket:
        try:
            return self._sock.dup()
        except OSError as error:
            raise _refused(self.address, error) from error

    def _new_filler(self) -> socket.socket:
        try:
            filler = socket.socket(self._sock.family, socket.SOCK_STREAM)
        except OSError as error:
            raise _refused(self.address, error) from error
        filler.setblocking(False)
        return filler

    def _drop_filler(self) -> None:
        if self._filler is not None:
            self._filler.close()
            self._filler = None

    def _take_in(self) -> None:
        """Whoever is in the queue, but for the filler, is a connection like those that were accepted."""
        own = None if self._filler is None else self._filler.getsockname()
        while True:
            try:
                sock, source = self._sock.accept()
            except OSError:
                return
            if source == own:
                sock.close()
                continue
            sock.setblocking(False)
            task = self._loop.create_task(self._take_over(sock))
            self._taking_in.add(task)
            task.add_done_callback(self._taking_in.discard)

    async def _take_over(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is gone again
            await self._loop.connect_accepted_socket(self._protocol, sock)

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def _bound(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with contextlib.ExitStack() as stack:
        try:
            sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind(address)
        except OSError as error:
            raise _refused(address, error) from error
        stack.pop_all()
    return sock


def _refused(address: tuple[str, int], error: OSError) -> Refused:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return Refused(500, f"listen tcp {host}:{address[1]}: bind: {os.strerror(error.errno or 0).lower()}")


def _takes_a_place(filler: socket.socket, listener: socket.socket) -> bool:
    """Whether it got into the queue. Over loopback that is known at once."""
    host, *rest = listener.getsockname()
    nearby = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- not bound to here
    with contextlib.suppress(OSError):
        filler.connect_ex((nearby, *rest))
        return filler.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    return False
