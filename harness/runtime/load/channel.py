"""How a load process and the harness talk to each other, and how records get home from another machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

BATCH_SECONDS = 0.05
"""How long a record may wait for others before they are sent home together."""


class Channel:
    """The control channel to the harness: one JSON object a line, both ways. `turns` is held by who says something."""

    def __init__(self, connection: socket.socket, turns: AbstractContextManager[Any]) -> None:
        self._socket = connection
        self._rest = b""
        self._turns = turns

    def tell(self, **message: Any) -> None:
        """Say something to the harness; where it is gone, nobody needs to know."""
        try:
            with self._turns:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return

    def heard(self) -> dict[str, Any] | None:
        """The next message, empty where it is none, or None when the harness is gone."""
        while b"\n" not in self._rest:
            try:
                more = self._socket.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self._rest += more
        line, self._rest = self._rest.split(b"\n", 1)
        message = json.loads(line)
        return message if isinstance(message, dict) else {}


class Wire:
    """Sends records home in batches: where they go to is another machine."""

    def __init__(self, channel: Channel, later: Callable[[float, Callable[[], None]], object]) -> None:
        self._channel, self._later = channel, later
        self._waiting: list[bytes] = []

    def write(self, line: bytes) -> int:
        """Take a line; it is on its way within BATCH_SECONDS."""
        if not self._waiting:
            self._later(BATCH_SECONDS, self.flush)
        self._waiting.append(line)
        return len(line)

    def flush(self) -> None:
        """Send what waits."""
        lines, self._waiting = self._waiting, []
        if lines:
            self._channel.tell(records=b"".join(lines).decode("utf-8", "surrogateescape"))
