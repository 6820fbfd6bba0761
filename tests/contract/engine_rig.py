"""A Docker engine of which there is no more than its socket: it answers what is asked first, until it hangs."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

VERSION = {"ApiVersion": "1.43", "MinAPIVersion": "1.24", "Version": "24.0.0", "Os": "linux", "Arch": "amd64"}
HEAD = "HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nContent-Type: application/json\r\n"


class StubEngine:
    """`hangs`: it takes every connection and every question, and answers none."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs
        self._folder = Path(tempfile.mkdtemp(prefix="engine-"))  # a socket's path must be short
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self._folder / "docker.sock"))
        self._door.listen(64)
        self._held: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def host(self) -> str:
        """Its address, as in DOCKER_HOST."""
        return f"unix://{self._folder}/docker.sock"

    def close(self) -> None:
        """It is gone."""
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for connection in self._held:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        shutil.rmtree(self._folder)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._door.accept()
                self._held.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError):
            while asked := connection.recv(65536):
                if self.hangs:
                    continue
                path = asked.split()[1].decode()
                if "/events" in path:
                    connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
                    continue
                body = "OK" if path.endswith("/_ping") else json.dumps([] if "/json" in path else VERSION)
                connection.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n{body}".encode())
