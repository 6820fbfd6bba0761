"""Load processes on other machines: they join over TCP, are told the same as those here, and send their records home.

Each line of the connection is one JSON object, both ways, as on the control channel of a process here; `{"records": …}`
is added, with whole lines for the file of records. A connection that ends is a process that is gone: what it had not
sent is missing, and the counts in its last line say so.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import LoadError
from harness.history.store import write_whole
from harness.model.secrets import without_secrets
from harness.runtime.load.token import HOW, RUN, WORKER, proof_of, proves, worker_token

PORT = 5557
"""As of Locust's own distributed mode."""

JOIN_SECONDS = 300.0
"""How long whoever starts the processes on the other machines may take."""


SEND_SECONDS = 2
"""How long a message may take to be taken, in whole seconds: one that stands still reads none."""

LONGEST_LINE = 16 << 20
MOST_MESSAGES = 1000
"""Bytes of a message, and messages that wait to be read: who sends more is no load process."""

GREETING_SECONDS = 10.0
"""How long one that connected may take to say what it is."""


def address_of(text: str) -> tuple[str, int]:
    """`HOST` or `HOST:PORT`; raises ValueError for what is neither."""
    host, separator, port = text.rpartition(":")
    found = (host, int(port)) if separator else (text, PORT)
    if not found[0] or not 0 < found[1] < 65536:
        raise ValueError(f"expected HOST or HOST:PORT, found {text!r}")
    return found


class RemoteProcess:
    """A load process on another machine, at the other end of a connection."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        self.peer = peer
        self.challenge = secrets.token_hex(16)
        self.records: Path | None = None
        self.known: frozenset[str] = frozenset()
        self._connection = connection
        self._file: int | None = None
        self._told: queue.Queue[dict[str, Any]] = queue.Queue(MOST_MESSAGES)
        self._gone = threading.Event()
        self._unkept = ""
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def lives(self) -> bool:
        """Whether it is still connected."""
        return not self._gone.is_set()

    def send(self, message: dict[str, Any]) -> None:
        """Tell it something; where it is gone, nobody needs to know."""
        with suppress(OSError), self._sending:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def message(self, deadline: float) -> dict[str, Any] | None:
        """The next thing it says, or None when it says nothing more, or nothing by then."""
        while (left := deadline - time.monotonic()) > 0:
            with suppress(queue.Empty):
                return self._told.get(timeout=min(left, 0.05))
            if self._gone.is_set() and self._told.empty():
                return None
        return None

    def waited_for(self, seconds: float) -> bool:
        """Wait for the end of its connection, and with it of its records; whether it came."""
        return self._gone.wait(seconds)

    def exit_words(self) -> str:
        """How it ended, as far as that can be known from here."""
        return self._unkept or f"the end of its connection from {self.peer}"

    def log_words(self) -> str:
        """Where its log is."""
        return f"its log is on {self.peer}"

    def end(self) -> None:
        """It is let go of: without its connection it ends."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join(2.0)
        self._connection.close()

    def _read(self) -> None:
        try:
            for message in _messages(self._connection):
                if "ping" in message:
                    self.send({"pong": time.time(), "challenge": self.challenge})
                elif "records" in message:
                    self._keep(message["records"])
                else:
                    self._told.put_nowait(message)
        except (OSError, queue.Full, ValueError, RecursionError):
            return  # what follows cannot be read: it is missing, and the counts say so
        finally:
            self._gone.set()
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            if self._file is not None:  # by nobody else: its number would be another file's when this thread writes late
                os.close(self._file)

    def _keep(self, lines: object) -> None:
        if not isinstance(lines, str):
            raise ValueError(f"expected lines, found {lines!r}")  # noqa: TRY004 - as all else that it sends and nobody can read
        text = without_secrets(lines, self.known).encode("utf-8", "surrogateescape")
        try:
            if self._file is None and self.records is not None:
                self._file = os.open(self.records, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            if self._file is not None:
                write_whole(self._file, text)
        except OSError as error:
            self._unkept = f"records from {self.peer} that could not be written: {error}"
            raise


def _messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    with connection.makefile("rb") as lines:
        while line := lines.readline(LONGEST_LINE):
            message = json.loads(line)
            if isinstance(message, dict):
                yield message


def joined(number: int, bind: str) -> tuple[RemoteProcess, ...]:
    """Wait at an address until so many processes have joined; raises LoadError when they do not.

    Who does not know the token is let go.
    """
    host, port = address_of(bind)
    token = worker_token(os.environ)
    found: list[RemoteProcess] = []
    deadline = time.monotonic() + JOIN_SECONDS
    try:
        with socket.create_server((host, port), backlog=number) as door:
            while len(found) < number:
                door.settimeout(max(0.01, deadline - time.monotonic()))
                connection, peer = door.accept()
                process = RemoteProcess(connection, f"{peer[0]}:{peer[1]}")
                if _is_of_ours(process, token):
                    found.append(process)
    except BaseException as error:
        for process in found:
            process.end()
        if isinstance(error, TimeoutError):
            raise LoadError(_missing(len(found), number, bind)) from error
        if isinstance(error, OSError):
            raise LoadError(f"expected to listen for load processes at {bind}, found: {error}") from error
        raise
    return tuple(found)


def _is_of_ours(process: RemoteProcess, token: bytes) -> bool:
    """Whether who connected is a load process; raises LoadError for one of another release, which may count differently."""
    greeting = process.message(time.monotonic() + GREETING_SECONDS) or {}
    said = greeting.get("joined")
    is_known = proves(token, process.challenge, greeting.get("proof"), WORKER)
    if is_known and said == __version__:
        process.send({"proof": proof_of(token, str(greeting.get("challenge")), RUN)})
        return True
    if not is_known:
        process.send({"refused": f"expected the token that the run has, found another; {HOW}"})
    process.end()
    if not is_known or said is None:
        return False
    raise LoadError(f"expected load processes of chaos-harness {__version__}, found {said} on {process.peer}")


def _missing(found: int, number: int, bind: str) -> str:
    command = "python -m harness.runtime.load.worker HOST:PORT LOCUSTFILE"
    return f"{found} of {number} load processes joined at {bind} within {JOIN_SECONDS:g} s; on each machine: {command}"
