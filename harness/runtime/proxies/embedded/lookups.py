"""Where an upstream is. A name is looked up for every connection: a callee that was restarted may have moved.

Each proxy looks up in a thread of its own, one at a time: a name that nobody answers for keeps no other proxy waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from threading import Thread
from typing import TypeAlias

Addresses: TypeAlias = list[tuple[str, int]]


class Upstream:
    """Host and port to forward to. What comes while the name is being looked up shares what is found."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        self._loop, self._host, self._port = loop, host, port
        self._is_address = _is_address(host)
        self._asked: asyncio.Future[Addresses | Exception] | None = None

    async def addresses(self) -> Addresses:
        """Where to dial, the best first; raises OSError or ValueError where the name leads nowhere."""
        if self._is_address:
            return [(self._host, self._port)]
        if self._asked is None:
            self._asked = self._ask()
        found = await asyncio.shield(self._asked)
        if isinstance(found, Exception):
            raise found
        return found

    def _ask(self) -> asyncio.Future[Addresses | Exception]:
        asked = self._loop.create_future()
        try:
            Thread(target=self._look_up, args=(asked,), name="lookup", daemon=True).start()
        except RuntimeError as error:  # no more threads
            raise OSError(str(error)) from error
        return asked

    def _look_up(self, asked: asyncio.Future[Addresses | Exception]) -> None:
        found: Addresses | Exception
        try:
            answers = socket.getaddrinfo(self._host or None, self._port, type=socket.SOCK_STREAM)
            found = [(str(address[0]), self._port) for *_, address in answers]
        except Exception as error:  # whoever waits is told
            found = error
        with contextlib.suppress(RuntimeError):  # the engine has ended
            self._loop.call_soon_threadsafe(self._tell, asked, found)

    def _tell(self, asked: asyncio.Future[Addresses | Exception], found: Addresses | Exception) -> None:
        self._asked = None
        asked.set_result(found)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
