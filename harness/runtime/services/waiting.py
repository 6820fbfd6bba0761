"""Finding out whether a service is ready, and what it left behind when it is not."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import closing, suppress
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path

from harness.model.secrets import last_lines
from harness.runtime.bounded import BoundedConnection
from harness.runtime.ports import Address

LOOK_SECONDS = 1.0
"""How long one look at a service may take."""

TAIL_BYTES = 64 * 1024


def why_no_answer(address: Address, path: str) -> str | None:
    """Why a GET of `path` is not answered 2xx yet; None where it is."""
    with closing(BoundedConnection(address.host, address.port, timeout=LOOK_SECONDS)) as connection:
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            return f"GET http://{address}{path} found {_in_words(error)}"
    return None if 200 <= status < 300 else f"GET http://{address}{path} was answered {status}"


def why_not_accepted(address: Address) -> str | None:
    """Why no connection is accepted yet; None where one is."""
    try:
        socket.create_connection((address.host, address.port), LOOK_SECONDS).close()
    except OSError as error:
        return f"a connection to {address} found {_in_words(error)}"
    return None


def why_no_pong(address: Address) -> str | None:
    """Why Redis does not answer PING yet; None where it does. One that asks for a password is there."""
    try:
        with socket.create_connection((address.host, address.port), LOOK_SECONDS) as connection:
            connection.sendall(b"PING\r\n")
            answer = connection.recv(200)
    except OSError as error:
        return f"PING to {address} found {_in_words(error)}"
    return None if answer.startswith((b"+PONG", b"-NOAUTH")) else f"PING to {address} was answered {answer!r}"


def listening_outside(pid: int) -> tuple[str, ...]:
    """The addresses outside loopback at which a process or one that descends from it listens."""
    import psutil

    found = set()
    with suppress(psutil.Error):
        first = psutil.Process(pid)
        for process in (first, *first.children(recursive=True)):
            with suppress(psutil.Error):
                listeners = [one.laddr for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
                found |= {f"{listener.ip}:{listener.port}" for listener in listeners if not is_loopback(listener.ip)}
    return tuple(sorted(found))


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone, written as IPv4, as IPv6, or as the one in the other."""
    address = ip_address(host)
    inside = getattr(address, "ipv4_mapped", None) or address
    return inside.is_loopback


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def at_home(text: str, port: int, address: Address) -> str:
    """A health check's word for its own container, `localhost:8000`, as the address the service has here."""
    return re.sub(rf"\b(localhost|127\.0\.0\.1|0\.0\.0\.0):{port}\b", str(address), text)


def how_it_ended(status: int) -> str:
    """The status a process ended with, in words."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def tail_of(log: Path, lines: int) -> tuple[str, ...]:
    """The last lines of a log; a log that was never begun has none."""
    try:
        with log.open("rb") as file:
            begin = file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
            if begin:  # half a line may hold half a secret, which nobody knows any more
                text = text.partition("\n")[2] or f"(a line of more than {TAIL_BYTES:,} bytes)"
    except FileNotFoundError:
        return ()
    return last_lines(text, lines)
