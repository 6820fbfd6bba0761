"""The embedded proxy engine beside a real Toxiproxy: requests a second, and how late a delay of 100 ms comes.

    python benchmarks/proxy.py --toxiproxy-server PATH

Everything runs at once on this machine: a backend (nginx where it is installed, else a small one of its own), a
client (wrk where it is installed, else a small one of its own), and the two engines, each with one clean proxy; the
embedded one reads HTTP along. In each round every engine is measured once, in an order that alternates; a ratio is
the median of the rounds' own ratios, so that a machine that slows down slows both. Figures are of this machine alone.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from harness.errors import ProxyError
from harness.plan.plan import CLEAN, ProxyState, Toxic
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.starting import start_embedded
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine

BODY = b"x" * 512
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
REQUEST = b"GET / HTTP/1.1\r\nHost: backend\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
DELAY = 0.100
TICK = 0.010


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toxiproxy-server", help="path of a toxiproxy-server; without it the embedded engine stands alone")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each number of connections (5)")
    parser.add_argument("--seconds", type=float, default=3, help="seconds for each measurement (3)")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--ticks", type=int, default=1000, help="delayed messages, one every 10 ms (1000)")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend, echo = stack.enter_context(backend_server(folder)), stack.enter_context(served(echo_server))
        engines = {"embedded": stack.enter_context(embedded_engine(folder))}
        if given.toxiproxy_server:
            engines = {"Toxiproxy": stack.enter_context(toxiproxy_engine(given.toxiproxy_server, folder)), **engines}
        print(f"{', '.join(engine.version() for engine in engines.values())}; {os.cpu_count()} cores")
        print(f"client: {'wrk' if shutil.which('wrk') else 'own'}; backend: {'nginx' if nginx() else 'own'}\n")
        ways = {"direct": backend, **{name: forwarding(engine, "http", backend) for name, engine in engines.items()}}
        for connections in given.connections:
            report_requests(connections, measured(ways, connections, given.rounds, given.seconds))
        for name, engine in engines.items():
            report_lateness(name, lateness(engine, forwarding(engine, "echo", echo), given.ticks))


# Requests a second


def measured(ways: Mapping[str, Address], connections: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Requests a second of every way, round by round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    client = wrk if shutil.which("wrk") else own_client
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            found[name].append(client(ways[name], connections, seconds))
    return found


def report_requests(connections: int, found: Mapping[str, Sequence[float]]) -> None:
    print(f"keep-alive HTTP, {connections} connections, requests/s (median of {len(found['direct'])} rounds)")
    for name, values in found.items():
        line = f"  {name:<10} {statistics.median(values):>9,.0f}"
        if "Toxiproxy" in found:
            ratios = [mine / theirs for mine, theirs in zip(values, found["Toxiproxy"], strict=True)]
            line += f"   {statistics.median(ratios):.2f} x Toxiproxy (rounds {min(ratios):.2f} to {max(ratios):.2f})"
        print(line)
    print(flush=True)


def wrk(way: Address, connections: int, seconds: float) -> float:
    header = REQUEST.split(b"\r\n")[2].decode()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}", "-H", header, f"http://{way}/"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Socket errors" in output or "Non-2xx" in output:
        raise SystemExit(f"the measurement is void, requests failed:\n{output}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert found is not None
    return float(found[1])


def own_client(way: Address, connections: int, seconds: float) -> float:
    command = [sys.executable, __file__, "--as-client", way.host, str(way.port), str(connections), str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Asking(asyncio.Protocol):
    """One connection of the small client: the next request goes out when the answer is complete."""

    answered = 0

    def connection_made(self, transport: Any) -> None:
        self._transport, self._left = transport, 0
        self._ask()

    def data_received(self, data: bytes) -> None:
        if self._left == 0:
            head, _, data = data.partition(b"\r\n\r\n")
            self._left = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        self._left -= len(data)
        if self._left <= 0:
            Asking.answered += 1
            self._ask()

    def _ask(self) -> None:
        self._left = 0
        self._transport.write(REQUEST)


async def ask_for(way: Address, connections: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(Asking, way.host, way.port)
    before, begin = Asking.answered, time.perf_counter()
    await asyncio.sleep(seconds)
    return (Asking.answered - before) / (time.perf_counter() - begin)


# Lateness


def lateness(engine: ToxiproxyEngine, way: Address, ticks: int) -> list[float]:
    """Seconds that messages come later than their delay of 100 ms, the way there and back included."""
    delay = Toxic(name="delay", type="latency", stream="downstream", attributes={"latency": 100, "jitter": 0})
    engine.put("echo", ProxyState(toxics=(delay,)))
    with socket.create_connection((way.host, way.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = list(_ticks(sock, ticks))
    engine.put("echo", CLEAN)
    return sorted(found)


def _ticks(sock: socket.socket, ticks: int) -> Iterator[float]:
    sent: list[float] = []
    begin = time.perf_counter()
    answered = 0
    while answered < ticks:
        due = begin + len(sent) * TICK if len(sent) < ticks else time.perf_counter() + 1
        if select.select([sock], [], [], max(0.0, due - time.perf_counter()))[0]:
            now = time.perf_counter()
            for _ in sock.recv(4096):
                yield now - sent[answered] - DELAY
                answered += 1
        elif len(sent) < ticks:
            sent.append(time.perf_counter())
            sock.sendall(b"x")


def report_lateness(name: str, found: Sequence[float]) -> None:
    at = [f"{share} {1000 * found[int(len(found) * part)]:.2f}" for share, part in (("p50", 0.5), ("p99", 0.99))]
    early = sum(late < 0 for late in found)
    print(
        f"{name}: a delay of 100 ms, {len(found)} messages, late by ms: {', '.join(at)}, most {1000 * found[-1]:.2f}; ", end=""
    )
    print(f"early: {early}" + (f", by up to {-1000 * found[0]:.2f} ms" if early else ""), flush=True)


# The engines


@contextmanager
def embedded_engine(folder: Path) -> Iterator[ToxiproxyEngine]:
    control = socket.socket()
    control.bind(("127.0.0.1", 0))
    started = start_embedded(launch, control, folder / "embedded.log", "127.9.9.9")
    try:
        yield started.engine
    finally:
        started.stop()


@contextmanager
def toxiproxy_engine(program: str, folder: Path) -> Iterator[ToxiproxyEngine]:
    control = free_address()
    command = [program, "-host", control.host, "-port", str(control.port)]
    process = launch("toxiproxy", command, environment={"LOG_LEVEL": "error"}, log=folder / "toxiproxy.log")
    engine = ToxiproxyEngine(control)
    try:
        wait_until(engine.version)
        yield engine
    finally:
        process.terminate()
        process.wait()


def launch(_name: str, argv: Sequence[str], *, environment: Mapping[str, str], log: Path, **how: Any) -> Any:
    with log.open("ab") as output:
        return subprocess.Popen(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **how
        )


def forwarding(engine: ToxiproxyEngine, name: str, upstream: Address) -> Address:
    listen = free_address()
    engine.create([ProxyMade(name, listen, upstream)])
    return listen


def free_address() -> Address:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
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


# The backends


def nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen {address}; location / {{ return 200 "{body}"; }} }} }}
"""


@contextmanager
def backend_server(folder: Path) -> Iterator[Address]:
    program = nginx()
    if program is None:
        with served(http_server) as address:
            yield address
        return
    address = free_address()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, address=address, body=BODY.decode()))
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: socket.create_connection((address.host, address.port)).close())
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def served(server: Callable[[socket.socket], None]) -> Iterator[Address]:
    """A server in a process of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        process = multiprocessing.get_context("fork").Process(target=server, args=(listener,), daemon=True)
        process.start()
        try:
            yield Address(*listener.getsockname())
        finally:
            process.terminate()
            process.join()


class Answering(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


class Echoing(Answering):
    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


def http_server(listener: socket.socket) -> None:
    uvloop.run(_serve(listener, Answering))


def echo_server(listener: socket.socket) -> None:
    uvloop.run(_serve(listener, Echoing))


async def _serve(listener: socket.socket, protocol: type[asyncio.Protocol]) -> None:
    await (await asyncio.get_running_loop().create_server(protocol, sock=listener)).serve_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-client"]:
        print(uvloop.run(ask_for(Address(sys.argv[2], int(sys.argv[3])), int(sys.argv[4]), float(sys.argv[5]))))
    else:
        main()
