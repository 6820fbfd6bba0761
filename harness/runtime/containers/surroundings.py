"""What is taken on a Docker engine and its host already: address blocks and ports."""

from __future__ import annotations

import random
import re
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from harness.errors import CouldNotRun
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.ports import Address

ELSEWHERE = (20_000, 29_999)
"""Ports of another host cannot be tried from here; these are seldom used, and below those a kernel hands out."""

_ROUTE = re.compile(r"^\S+\s+([0-9A-F]{8})\s+[0-9A-F]{8}\s+\S+\s+\S+\s+\S+\s+\S+\s+([0-9A-F]{8})", re.MULTILINE)


def taken_networks(client: Any, *, is_here: bool) -> list[IPv4Network]:
    """The address blocks of the engine's networks, and of this machine's routes where the engine runs here."""
    found = []
    for network in client.api.networks():
        for pool in (network.get("IPAM") or {}).get("Config") or ():
            with suppress(ValueError, KeyError):
                found.append(IPv4Network(pool["Subnet"], strict=False))
    return found + (routes_of(Path("/proc/net/route")) if is_here else [])


def routes_of(table: Path) -> list[IPv4Network]:
    """The destinations of a routing table as the kernel writes it, but for the default route."""
    try:
        text = table.read_text(encoding="utf-8")
    except OSError:
        return []
    found = []
    for destination, mask in _ROUTE.findall(text):
        if mask != "00000000":
            prefix = bin(int(mask, 16)).count("1")
            address = socket.inet_ntoa(struct.pack("<I", int(destination, 16)))
            found.append(IPv4Network(f"{address}/{prefix}", strict=False))
    return found


def free_ports(engine: DockerEngine, number: int) -> Sequence[int]:
    """So many ports to publish on: free ones where they can be tried, else unlikely ones."""
    if not engine.published_on.startswith("127."):
        return random.sample(range(*ELSEWHERE), number)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((engine.published_on, 0))
        return [one.getsockname()[1] for one in sockets]


REACHED_WITHIN = 5.0


def check_reached(engine: DockerEngine, published: Address) -> None:
    """Raise CouldNotRun where a port that the engine published cannot be reached from here."""
    try:
        socket.create_connection((published.host, published.port), REACHED_WITHIN).close()
    except OSError as error:
        raise CouldNotRun(
            f"the engine at {engine.host} published the proxies' control API at {published}, which cannot be reached from "
            f"here ({error}); let DOCKER_HOST name an address of the engine's host that this machine reaches, or run the "
            f"harness where the engine is"
        ) from error
