"""HTTP that is over in time: whoever answers byte by byte is not listened to for longer than whoever does not answer.

A socket's own timeout is for each piece that it receives. Here it is for all that comes from the moment it was set.
"""

from __future__ import annotations

import socket
import time
from http.client import HTTPConnection
from typing import Any


class BoundedSocket(socket.socket):
    """A socket whose timeout is for everything that is received after it was set."""

    _until: float | None = None

    @classmethod
    def of(cls, plain: socket.socket, seconds: float | None) -> BoundedSocket:
        """The same connection; the other object is of no use any more."""
        bounded = cls(plain.family, plain.type, plain.proto, fileno=plain.detach())
        bounded.settimeout(seconds)
        return bounded

    def settimeout(self, seconds: float | None) -> None:
        """From now on, all together."""
        self._until = None if seconds is None else time.monotonic() + seconds
        super().settimeout(seconds)

    def recv_into(self, *args: Any) -> int:
        """What has come, where time is left; raises TimeoutError where none is."""
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out: the answer does not end")
            super().settimeout(left)
        return super().recv_into(*args)


class BoundedConnection(HTTPConnection):
    """A connection whose `timeout` is for connecting, and once more for the whole answer."""

    def connect(self) -> None:
        """Connect, and answer for every byte from then on."""
        super().connect()
        self.sock = BoundedSocket.of(self.sock, self.timeout)
