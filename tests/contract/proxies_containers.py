"""Engines in containers for the tests of the proxies. All that is made here is named `chaos-test-…` and removed again."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path

import requests

from harness.runtime.ports import Address
from harness.runtime.proxies.image import build_args, image_tag, write_build_context
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from tests.contract.proxies_rig import answers, eventually

TOXIPROXY_IMAGE = os.environ.get("TOXIPROXY_IMAGE") or "ghcr.io/shopify/toxiproxy:2.12.0"
BASE_IMAGE = os.environ.get("PYTHON_IMAGE", "")

FIRST_PULLED_WITHIN = 300.0


def docker(*words: str, within: float = 60.0) -> str:
    """What a command of Docker writes; it must succeed."""
    done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True, timeout=within)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}{done.stdout}"
    return done.stdout.strip()


@cache
def embedded_image() -> str:
    """The image of the embedded engine, built where it is not there yet."""
    tag = image_tag(BASE_IMAGE)
    if docker("image", "ls", "-q", tag):
        return tag
    with tempfile.TemporaryDirectory() as folder:
        write_build_context(Path(folder))
        args = [word for name, value in build_args(BASE_IMAGE).items() for word in ("--build-arg", f"{name}={value}")]
        docker("build", "-q", "-t", tag, *args, folder, within=FIRST_PULLED_WITHIN)
    return tag


@contextmanager
def container(image: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[str]:
    """A container for as long as it is needed, by its name."""
    name = f"chaos-test-{secrets.token_hex(4)}"
    docker("create", "--name", name, *options, image, *command, within=FIRST_PULLED_WITHIN)
    try:
        docker("start", name)
        yield name
    finally:
        docker("rm", "-f", "-v", name)


@contextmanager
def network(subnet: IPv4Network) -> Iterator[str]:
    """An internal network for as long as it is needed, by its name."""
    name = f"chaos-test-{secrets.token_hex(4)}"
    docker("network", "create", "--internal", "--subnet", str(subnet), name)
    try:
        yield name
    finally:
        docker("network", "rm", name)


def free_subnets(count: int) -> list[IPv4Network]:
    """Small networks out of a block that is unlikely to be in use."""
    block = IPv4Network(f"10.{secrets.randbelow(56) + 200}.{secrets.randbelow(256)}.0/24")
    return list(block.subnets(new_prefix=28))[:count]


@contextmanager
def engine_on_host(image: str, *command: str) -> Iterator[Address]:
    """An engine in a container that shares the host's network, so that the addresses of callees and callers hold in it."""
    control = Address("127.0.0.1", _free_port())
    options = ("--network", "host", "-e", "LOG_LEVEL=info")
    with container(image, "--host", control.host, "--port", str(control.port), *command, options=options) as name:
        up = eventually(lambda: answers(ToxiproxyEngine(control)))
        assert up, docker("logs", name)
        yield control


def remove_proxies(control: Address) -> None:
    """Leave an engine without any proxy, for the next test."""
    with requests.Session() as session:
        session.trust_env = False
        for name in session.get(f"http://{control}/proxies", timeout=5).json():
            session.delete(f"http://{control}/proxies/{requests.utils.quote(name, safe='')}", timeout=5).raise_for_status()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Edge:
    """An embedded engine between two networks: at `address` it answers for the edge, at `control` to the host."""

    container: str
    networks: tuple[str, str]
    subnets: tuple[IPv4Network, IPv4Network]
    control: Address
    address: str

    @property
    def gateway(self) -> str:
        """Where the host's own connections to the edge come from."""
        return str(self.subnets[1].network_address + 1)


@contextmanager
def embedded_on_an_edge(folder: Path, upstream: Address, *more: str) -> Iterator[Edge]:
    """As a run starts it: fixed addresses, proxies in its configuration, the control API on the first network alone."""
    subnets = tuple(free_subnets(2))
    control, address = (str(subnet.broadcast_address - 1) for subnet in subnets)
    config = folder / "proxies.json"
    config.write_text(json.dumps([{"name": "a -> b", "listen": f"{address}:8000", "upstream": str(upstream), "enabled": True}]))
    ignored = str(subnets[1].network_address + 1)
    command = ["--host", control, "--allow-any-address", "--config", "/proxies.json", "--any-interface"]
    with network(subnets[0]) as first, network(subnets[1]) as second:
        name = f"chaos-test-{secrets.token_hex(4)}"
        docker(
            "create", "--name", name, "--network", first, "--ip", control, "-v", f"{config}:/proxies.json:ro",
            "--health-cmd", f"python -m harness.runtime.proxies.embedded --check {control}:8474", "--health-interval", "1s",
            embedded_image(), *command, "--ignore-source", ignored, "--ignore-source", f"{subnets[0]}", *more,
        )  # fmt: skip
        try:
            docker("network", "connect", "--ip", address, second, name)
            docker("start", name)
            yield Edge(name, (first, second), subnets, Address(control, 8474), address)
        finally:
            docker("rm", "-f", "-v", name)
