"""`python -m harness.runtime.proxies.embedded.healthy HOST:PORT`: ends with 0 when the engine there answers, with 1 otherwise.

For the health check of a container.
"""

from __future__ import annotations

import socket
import sys

WITHIN = 3.0
"""Seconds for connecting, and for each piece of the answer."""

QUESTION = b"GET /version HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"


def is_healthy(host: str, port: int) -> bool:
    """Whether an embedded engine's control API answers there."""
    try:
        with socket.create_connection((host, port), WITHIN) as connection:
            connection.sendall(QUESTION)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200 ") and b'"engine"' in answer


def main() -> None:
    """Look once."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m harness.runtime.proxies.embedded.healthy HOST:PORT")
    host, _, port = sys.argv[1].rpartition(":")
    if not port.isascii() or not port.isdigit():
        sys.exit(f"expected HOST:PORT, found {sys.argv[1]!r}")
    if not is_healthy(host, int(port)):
        sys.exit(f"no embedded engine answers at {sys.argv[1]}")


if __name__ == "__main__":
    main()
