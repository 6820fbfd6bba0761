"""Looks through a proxy as a caller would, to see whether a fault bites, and whether it is gone.

Each protocol has a question that every server of its kind answers at once and that changes nothing:
HTTP a GET of a path that need not exist, PostgreSQL an SSLRequest, Redis a PING. None asks for the
connection to be closed: where answers are lost on their way, the close would come through, and silence is what is
to be seen. Of a connection whose
protocol is not known only its opening and closing can be seen.
"""

from __future__ import annotations

import errno
import socket
import time
from dataclasses import dataclass
from typing import Literal

from harness.runtime.ports import Address

Outcome = Literal["answered", "refused", "reset", "closed", "silent", "failed"]

QUESTIONS: dict[str, bytes] = {
    "http": b"GET /health/live HTTP/1.1\r\nHost: probe\r\nUser-Agent: chaos-harness-probe\r\n\r\n",
    "postgresql": b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    "redis": b"PING\r\n",
}

STILL_OPEN = 0.2
"""Seconds after which a connection without a known question counts as open."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a probe saw, and how long it took; `closed`: the other side ended the connection without an answer."""

    outcome: Outcome
    seconds: float
    detail: str = ""


def look(address: Address, protocol: str, *, patience: float, source: str | None = None) -> Look:
    """Connect, ask, wait for the first byte of an answer, for at most `patience` seconds in all."""
    began = time.monotonic()
    try:
        with socket.create_connection((address.host, address.port), patience, (source, 0) if source else None) as connection:
            outcome = _ask(connection, protocol, began + patience)
        return Look(outcome, time.monotonic() - began)
    except TimeoutError:
        return Look("silent", time.monotonic() - began)
    except ConnectionRefusedError:
        return Look("refused", time.monotonic() - began)
    except (ConnectionResetError, BrokenPipeError):
        return Look("reset", time.monotonic() - began)
    except OSError as error:
        return Look("failed", time.monotonic() - began, errno.errorcode.get(error.errno or 0, str(error)))


def _ask(connection: socket.socket, protocol: str, deadline: float) -> Outcome:
    question = QUESTIONS.get(protocol)
    if question is None:
        connection.settimeout(STILL_OPEN)
        try:
            return "closed" if not connection.recv(1) else "answered"
        except TimeoutError:
            return "answered"
    connection.settimeout(max(0.001, deadline - time.monotonic()))
    connection.sendall(question)
    connection.settimeout(max(0.001, deadline - time.monotonic()))
    return "answered" if connection.recv(1) else "closed"
