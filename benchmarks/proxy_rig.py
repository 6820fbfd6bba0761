"""What `proxy.py` measures with: the two engines, the callees behind them, and the load clients, each a process."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from proxy_load import answer_http, echo, send_much

from harness.errors import ProxyError
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.starting import start_embedded
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine

THEIRS, OURS = "Toxiproxy", "embedded"
BODY = "x" * 512


class Void(Exception):
    """A measurement that says nothing."""


LOAD = Path(__file__).with_name("proxy_load.py")
FACES = 64
QUIET = 0.05
"""Of all processors, the share that others may take where a measurement is to begin."""


@dataclass(slots=True)
class Engine:
    """One engine, and its control API, raw and through the harness's own adapter."""

    name: str
    control: Address
    process: psutil.Process
    adapter: ToxiproxyEngine
    made: int = field(default=0)

    def forward(self, upstream: Address) -> Edge:
        """A new clean proxy."""
        self.made += 1
        edge = Edge(f"edge-{self.made}", free_address())
        self.adapter.create([ProxyMade(edge.name, edge.listen, upstream)])
        return edge

    @contextmanager
    def api(self) -> Iterator[Callable[[str, str, Any], Any]]:
        """`ask(method, path, body)` on one kept connection; an error voids the measurement."""
        connection = http.client.HTTPConnection(self.control.host, self.control.port, timeout=10)

        def ask(method: str, path: str, body: Any = None) -> Any:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 400:
                raise Void(f"{self.name}: {method} {path}: {answer.status} {text.decode()}")
            return json.loads(text) if text else None

        try:
            yield ask
        finally:
            connection.close()

    @property
    def resident(self) -> float:
        """MB in memory."""
        return float(self.process.memory_info().rss) / 1e6


@dataclass(frozen=True, slots=True)
class Edge:
    name: str
    listen: Address


@contextmanager
def engines(toxiproxy: str | None) -> Iterator[dict[str, Engine]]:
    """Fresh engines, the real one first where there is one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with embedded_engine(folder) as ours:
            if not toxiproxy:
                yield {OURS: ours}
                return
            with toxiproxy_engine(toxiproxy, folder) as theirs:
                yield {THEIRS: theirs, OURS: ours}


@contextmanager
def embedded_engine(folder: Path) -> Iterator[Engine]:
    control = socket.socket()
    control.bind(("127.0.0.1", 0))
    log = folder / "embedded.log"
    started = start_embedded(launch, control, log, "127.9.9.9")
    try:
        yield Engine(OURS, started.control, psutil.Process(started.process.pid), started.engine)
    finally:
        started.stop()
        if said := log.read_text():
            print(f"the embedded engine's log:\n{said}", file=sys.stderr)


@contextmanager
def toxiproxy_engine(program: str, folder: Path) -> Iterator[Engine]:
    control = free_address()
    command = [program, "-host", control.host, "-port", str(control.port)]
    process = launch(THEIRS, command, environment={"LOG_LEVEL": "error"}, log=folder / "toxiproxy.log")
    adapter = ToxiproxyEngine(control)
    try:
        wait_until(adapter.version)
        yield Engine(THEIRS, control, psutil.Process(process.pid), adapter)
    finally:
        process.terminate()
        process.wait()


def launch(_name: str, argv: Sequence[str], *, environment: Mapping[str, str], log: Path, **how: Any) -> Any:
    with log.open("ab") as output:
        return subprocess.Popen(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **how
        )


def free_address() -> Address:
    """On a loopback host of its own."""
    with socket.socket() as sock:
        sock.bind((f"127.{random.randint(70, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}", 0))
        return Address(*sock.getsockname())


def wait_until(works: Callable[[], object]) -> None:
    for _ in range(200):
        try:
            works()
        except (OSError, ProxyError):
            time.sleep(0.05)
        else:
            return
    raise SystemExit("it did not come up within 10 s")


# Whoever else is on this machine


class Others:
    """How much of the processors everybody else takes, who would slow down what is measured."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.shares: list[float] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """One measurement. It begins once others take next to nothing, or patience is at its end."""
        self._await_quiet()
        begin = _times()
        yield
        self.shares.append(_share_of_others(begin, _times()))

    def _await_quiet(self) -> None:
        end = time.monotonic() + self._patience
        while time.monotonic() < end:
            begin = _times()
            time.sleep(0.5)
            if _share_of_others(begin, _times()) < QUIET:
                return


def _times() -> tuple[float, float, float]:
    """Seconds of processor time: all there was, all that was used, and what this program and its processes used."""
    every = psutil.cpu_times()
    total = sum(every) - every.guest - every.guest_nice
    return total, total - every.idle - every.iowait, _own_time(psutil.Process())


def _own_time(process: psutil.Process) -> float:
    """Of a process, those it has started, and those of them that have ended."""
    try:
        times = process.cpu_times()
        below = sum(_own_time(child) for child in process.children())
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system) + below


def _share_of_others(begin: tuple[float, float, float], end: tuple[float, float, float]) -> float:
    total, used, own = (after - before for before, after in zip(begin, end, strict=True))
    return max(0.0, used - own) / total if total else 0.0


# Clients


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def requests_per_second(way: Address, connections: int, seconds: float, *, close: bool = False) -> float:
    """Of as many as come through; with `close` every request has a connection of its own."""
    if has_wrk():
        return _wrk(way, connections, seconds, close=close)
    return load("connect" if close else "ask", way, connections, seconds)["rate"]


def _wrk(way: Address, connections: int, seconds: float, *, close: bool) -> float:
    said = ["-H", "Connection: close"] if close else []
    ids = ["-s", str(LOAD.with_suffix(".lua")), f"http://{way}/", "--", f"{random.getrandbits(64):016x}"]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", *said, *ids]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Socket errors" in output or "Non-2xx" in output:
        raise Void(f"requests failed:\n{output}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert found is not None
    return float(found[1])


def load(kind: str, way: Address, *how: float) -> dict[str, float]:
    """What the load client of `proxy_load.py` found."""
    with loading(kind, way, *how) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise Void(f"the client `{kind}` failed")
    return dict(json.loads(output))


@contextmanager
def loading(kind: str, way: Address, *how: float) -> Iterator[subprocess.Popen[str]]:
    """A load client for as long as it is needed."""
    command = [sys.executable, str(LOAD), kind, way.host, str(way.port), *map(str, how)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


# Callees


def nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ {listen} location / {{ return 200 "{body}"; }} }} }}
"""


def faces(callee: Address) -> Iterator[Address]:
    """Other addresses of the callee: many connections to one leave it with many ports that may not be used again yet."""
    for number in range(1, FACES + 1):
        yield Address(f"127.66.0.{number}", callee.port) if nginx() else callee


@contextmanager
def http_callee() -> Iterator[Address]:
    """nginx where it is installed, else a small one of our own: 512 bytes for every request."""
    program = nginx()
    if program is None:
        with served(answer_http) as address:
            yield address
        return
    address = free_address()
    listen = " ".join(f"listen {face} backlog=4096;" for face in (address, *faces(address)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, listen=listen, body=BODY))
        process = subprocess.Popen([program, "-p", name, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: socket.create_connection((address.host, address.port)).close())
            yield address
        finally:
            process.terminate()
            process.wait()


@contextmanager
def served(server: Callable[[socket.socket], None]) -> Iterator[Address]:
    """A callee of our own in a process of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        process = multiprocessing.get_context("fork").Process(target=server, args=(listener,), daemon=True)
        process.start()
        try:
            yield Address(*listener.getsockname())
        finally:
            process.terminate()
            process.join()


def echo_callee() -> Any:
    return served(echo)


def bulk_callee() -> Any:
    return served(send_much)
