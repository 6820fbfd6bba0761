"""What an edge costs on Docker: a caller and a callee in containers, direct and through the proxy, in one run.

    python benchmarks/docker_edge.py [--rounds 5] [--seconds 3] [--connections 1 16]

As in a run, caller and callee share no network on the way through the proxy: the caller reaches the proxy on the edge's
network, the proxy reaches the callee on its door. Beside these they share one, which is the direct way. Every round
measures every way once, in an order that alternates; figures are medians of the rounds, ratios those of the rounds' own.
Callee and caller are small programs on one core each; the machine's cores are shared by all. Figures are of this machine
alone. TOXIPROXY_IMAGE and PYTHON_IMAGE name other images than the public ones.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from harness.runtime.proxies.image import build_args, image_tag, write_build_context

TOXIPROXY_IMAGE = os.environ.get("TOXIPROXY_IMAGE") or "ghcr.io/shopify/toxiproxy:2.12.0"
BASE_IMAGE = os.environ.get("PYTHON_IMAGE", "")
PORT = 8000

CALLEE = """
import asyncio, sys, uvloop
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 512\\r\\n\\r\\n" + b"x" * 512
class Callee(asyncio.Protocol):
    def connection_made(self, transport): self.transport, self.rest = transport, b""
    def data_received(self, data):
        *asked, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        self.transport.write(ANSWER * len(asked))
async def main():
    server = await asyncio.get_running_loop().create_server(Callee, "0.0.0.0", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()
uvloop.run(main())
"""

CALLER = """
import asyncio, json, sys, time, uvloop
REQUEST = b"GET / HTTP/1.1\\r\\nHost: callee\\r\\n\\r\\n"
SIZE = len(b"HTTP/1.1 200 OK\\r\\nContent-Length: 512\\r\\n\\r\\n") + 512
took, lost = [], []
class Caller(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport; self.ask()
    def ask(self): self.left, self.asked = SIZE, time.perf_counter(); self.transport.write(REQUEST)
    def data_received(self, data):
        self.left -= len(data)
        if self.left == 0:
            took.append(time.perf_counter() - self.asked)
            self.ask()
    def connection_lost(self, error): lost.append(error)
async def main(host, port, connections, seconds):
    loop = asyncio.get_running_loop()
    for _ in range(int(connections)):
        await loop.create_connection(Caller, host, int(port))
    await asyncio.sleep(0.5)
    took.clear()
    began = time.perf_counter()
    await asyncio.sleep(float(seconds))
    elapsed, times = time.perf_counter() - began, sorted(took)
    if lost or not times:
        sys.exit(f"{len(lost)} connections were lost, {len(times)} requests answered: the measurement is void")
    of = lambda share: times[min(len(times) - 1, int(share * len(times)))] * 1000
    print(json.dumps({"rate": len(times) / elapsed, "p50": of(0.5), "p99": of(0.99)}))
uvloop.run(main(*sys.argv[1:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each number of connections (5)")
    parser.add_argument("--seconds", type=float, default=3, help="seconds for each measurement (3)")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--engines", nargs="+", choices=["toxiproxy", "embedded"], default=["toxiproxy", "embedded"])
    given = parser.parse_args()
    with ExitStack() as stack:
        name = f"chaos-bench-{secrets.token_hex(3)}"
        ways, ask = stack.enter_context(standing(name, given.engines))
        print(f"Docker {docker('version', '--format', '{{.Server.Version}}')}, {os.cpu_count()} cores, 512 bytes, keep-alive\n")
        for connections in given.connections:
            report(connections, measured(ways, partial(ask, connections=connections, seconds=given.seconds), given.rounds))


def measured(ways: Sequence[str], ask: Callable[[str], dict[str, float]], rounds: int) -> dict[str, list[dict[str, float]]]:
    """What every way gave, round by round."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways[:: 1 if number % 2 else -1]:
            found[way].append(ask(way))
    return found


def report(connections: int, found: dict[str, list[dict[str, float]]]) -> None:
    print(f"{connections} connections{'requests/s':>17}{'of direct':>12}{'p50, ms':>12}{'p99, ms':>12}")
    for way, rounds in found.items():
        rate, p50, p99 = (statistics.median(each[what] for each in rounds) for what in ("rate", "p50", "p99"))
        share = statistics.median(mine["rate"] / direct["rate"] for mine, direct in zip(rounds, found["direct"], strict=True))
        print(f"  {way:<12}{rate:>16,.0f}{share:>12.2f}{p50:>12.3f}{p99:>12.3f}")
    print(flush=True)


@contextmanager
def standing(name: str, engines: Sequence[str]) -> Iterator[tuple[list[str], Callable[..., dict[str, float]]]]:
    """Callee, caller and proxies; how to measure a way by its name."""
    image = embedded_image()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subnets = iter(IPv4Network(f"10.{secrets.randbelow(56) + 200}.{secrets.randbelow(256)}.0/24").subnets(new_prefix=28))
        stack.callback(removed, name)
        straight, door = (network(name, each, next(subnets)) for each in ("straight", "door"))
        run(name, "callee", image, ["-c", CALLEE, str(PORT)], [door, straight], "--entrypoint", "python")
        run(name, "caller", image, ["-c", "import time; time.sleep(3600)"], [straight], "--entrypoint", "python")
        hosts = {"direct": f"{name}-callee"}
        for engine in engines:
            subnet = next(subnets)
            address = subnet.broadcast_address - 1
            edge = network(name, engine, subnet)
            proxy(name, engine, folder, (edge, address), door)
            docker("network", "connect", edge, f"{name}-caller")
            hosts[engine] = str(address)

        def ask(way: str, connections: int, seconds: float) -> dict[str, float]:
            words = ["exec", f"{name}-caller", "python", "-c", CALLER, hosts[way], str(PORT), str(connections), str(seconds)]
            found: dict[str, float] = json.loads(docker(*words))
            return found

        answered(ask, list(hosts))
        yield list(hosts), ask


def proxy(name: str, engine: str, folder: Path, edge: tuple[str, IPv4Address], door: str) -> None:
    """An engine with one proxy, made before its control API answers, which nobody but itself reaches."""
    config = folder / f"{engine}.json"
    config.write_text(json.dumps([{"name": "edge", "listen": f"{edge[1]}:{PORT}", "upstream": f"{name}-callee:{PORT}"}]))
    volume = ["-v", f"{config}:/proxies.json:ro", "-e", "LOG_LEVEL=info", "--ip", str(edge[1])]
    image = TOXIPROXY_IMAGE if engine == "toxiproxy" else embedded_image()
    more = [] if engine == "toxiproxy" else ["--allow-any-address", "--any-interface"]
    run(name, engine, image, ["--host", "127.0.0.1", "--config", "/proxies.json", *more], [edge[0], door], *volume)


def run(name: str, what: str, image: str, command: Sequence[str], networks: Sequence[str], *options: str) -> None:
    docker("create", "--name", f"{name}-{what}", "--network", networks[0], *options, image, *command)
    for other in networks[1:]:
        docker("network", "connect", other, f"{name}-{what}")
    docker("start", f"{name}-{what}")


def network(name: str, what: str, subnet: IPv4Network) -> str:
    docker("network", "create", "--internal", "--subnet", str(subnet), "--label", name, f"{name}-{what}")
    return f"{name}-{what}"


def answered(ask: Callable[..., Any], ways: Sequence[str]) -> None:
    """Wait until every way answers."""
    for way in ways:
        for attempt in range(20):
            try:
                ask(way, connections=1, seconds=0.1)
                break
            except SystemExit:
                if attempt == 19:
                    raise
                time.sleep(0.5)


def removed(name: str) -> None:
    """Take down all that bears this name."""
    for kind, remove in (("ps", ["rm", "-f", "-v"]), ("network", ["network", "rm"])):
        listed = ["ps", "-a"] if kind == "ps" else ["network", "ls"]
        names = docker(*listed, "--filter", f"name={name}", "--format", "{{.Names}}" if kind == "ps" else "{{.Name}}").split()
        with suppress(SystemExit):
            docker(*remove, *names) if names else None


def embedded_image() -> str:
    """The image of the embedded engine, which also runs callee and caller; built where it is not there yet."""
    tag = image_tag(BASE_IMAGE)
    if not docker("image", "ls", "-q", tag):
        with tempfile.TemporaryDirectory() as folder:
            write_build_context(Path(folder))
            args = [word for name, value in build_args(BASE_IMAGE).items() for word in ("--build-arg", f"{name}={value}")]
            docker("build", "-q", "-t", tag, *args, folder)
    return tag


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"docker {words[0]} failed: {done.stderr}{done.stdout}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
