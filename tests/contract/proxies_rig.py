"""Callees, callers and engines for the tests of the proxies: real sockets on loopback."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import ProxyError
from harness.plan.plan import ProxyState, Toxic
from harness.runtime.ports import Address
from harness.runtime.proxies.starting import StartedEngine, start_embedded
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from tests.contract.launching import plain_launch

PATIENCE = 10.0
"""Seconds after which something that must happen counts as not happening."""

PROBE_HOST = "127.9.9.9"


def toxic(kind: str, stream: str = "downstream", name: str = "", toxicity: float = 1.0, **attributes: int) -> Toxic:
    return Toxic(name=name or f"{kind}-{stream}", type=kind, stream=stream, attributes=attributes, toxicity=toxicity)


def bearing(*toxics: Toxic) -> ProxyState:
    return ProxyState(toxics=toxics)


def free_address() -> Address:
    """An address that nobody listens on: a loopback host of its own, a port from the kernel."""
    host = f"127.{random.randint(20, 220)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
    with socket.socket() as sock:
        sock.bind((host, 0))
        return Address(host, sock.getsockname()[1])


def connect(address: Address, source: str | None = None) -> socket.socket:
    return socket.create_connection(
        (address.host, address.port), timeout=PATIENCE, source_address=(source, 0) if source else None
    )


def refuses(address: Address) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((address.host, address.port)) != 0


def read_all(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where the connection ends before."""
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def ends(sock: socket.socket) -> bool:
    """Whether the connection ends, by its close or by a reset, without any data before."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def silent(sock: socket.socket, seconds: float = 0.4) -> bool:
    """Whether nothing comes, neither data nor an end."""
    sock.settimeout(seconds)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(PATIENCE)
    return False


def eventually(holds: Callable[[], bool], within: float = PATIENCE) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.01)
    return holds()


class Callee:
    """Serves every connection in a thread of its own with `serve`; remembers the connections it got."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = Address(*self._listener.getsockname())
        self.accepted: list[socket.socket] = []
        self.received = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self.accepted:
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.accepted.append(sock)
                threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        with suppress(OSError):
            self._serve(sock)


class Echo(Callee):
    """Sends back what it gets, says `bye` when the caller has no more to send, and closes."""

    def __init__(self) -> None:
        super().__init__(self._echo)

    def _echo(self, sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(65536):
                self.received += data
                sock.sendall(data)
            sock.sendall(b"bye")


def control_socket() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@contextmanager
def embedded(folder: Path, *more: str) -> Iterator[StartedEngine]:
    """An embedded engine for as long as it is needed; its log must be empty at the end."""
    log = folder / "engine.log"

    def launch(name: str, argv: Sequence[str], **how: object) -> subprocess.Popen[bytes]:
        return plain_launch(name, [*argv, *more], **how)

    started = start_embedded(launch, control_socket(), log, PROBE_HOST)
    try:
        yield started
    finally:
        started.stop()
    assert log.read_text() == ""


class Server:
    """An engine as a process at a fixed address, which may be ended and started again."""

    def __init__(self, command: Callable[[Address], list[str]], log: Path) -> None:
        self.control = free_address()
        self.engine = ToxiproxyEngine(self.control, str(log))
        self.starts = 0
        self._command, self._log, self._lock = command, log, threading.Lock()
        self.process = self._start()

    def restart(self) -> Address:
        """By one at a time: whoever looks after it may notice that it is gone while somebody else starts it anew."""
        with self._lock:
            self.end()
            self.process = self._start()
        return self.control

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        environment = {"LOG_LEVEL": "info", **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}}
        process = plain_launch("engine", self._command(self.control), environment=environment, log=self._log)
        assert eventually(lambda: answers(self.engine))
        return process


def toxiproxy_command(program: str) -> Callable[[Address], list[str]]:
    return lambda control: [program, "-host", control.host, "-port", str(control.port)]


def embedded_command(control: Address) -> list[str]:
    module = [sys.executable, "-P", "-m", "harness.runtime.proxies.embedded"]
    return [*module, "--host", control.host, "--port", str(control.port), "--ignore-source", PROBE_HOST]


@contextmanager
def served(command: Callable[[Address], list[str]], folder: Path) -> Iterator[Server]:
    """An engine as a process for as long as it is needed."""
    server = Server(command, folder / "engine.log")
    try:
        yield server
    finally:
        server.end()


def answers(engine: ToxiproxyEngine) -> bool:
    try:
        return bool(engine.version())
    except ProxyError:
        return False
