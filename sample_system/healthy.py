"""Health check of a container: exit code 0 when the service in it is ready.

Started each second in each container, beside the load that is measured: it imports next to nothing.
"""

import socket
import sys

PORT = 8000
PATIENCE = 1.5


def answer(port: int) -> bytes:
    """The status line that the service answers with."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return connection.recv(256).partition(b"\r\n")[0]


if __name__ == "__main__":
    try:
        said = answer(int(sys.argv[1]) if len(sys.argv) > 1 else PORT)
    except OSError as error:
        sys.exit(f"not ready: {error}")
    if said.split(b" ")[1:2] != [b"200"]:
        sys.exit(f"not ready: {said!r}")
