"""Packets received on the network interfaces of another process's network namespace, read from the host.

Where every edge has a network of its own, what comes in on its interface is traffic of that edge: also an attempt
that is refused, which nothing else can tell of a Toxiproxy. A few packets are the network's own (ARP). Linux alone,
and only where that process runs on this machine; it need not be this user's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

PROC = Path("/proc")


def packets_by_subnet(pid: int, proc: Path = PROC) -> Mapping[IPv4Network, int] | None:
    """Packets received so far by each of the subnets that a process is connected to; None where it cannot be read."""
    try:
        routes = (proc / str(pid) / "net" / "route").read_text("utf-8")
        devices = (proc / str(pid) / "net" / "dev").read_text("utf-8")
    except OSError:
        return None
    received = _received(devices)
    return {subnet: received[name] for name, subnet in _connected(routes) if name in received}


class EdgePackets:
    """Packets received on every edge since it was made, by proxy.

    `subnets` are the edges' networks by proxy, `pid` the process of the proxies, None where there is none; after a
    restart it is another one, whose interfaces begin at nothing again.
    """

    def __init__(self, subnets: Mapping[str, IPv4Network], pid: Callable[[], int | None], proc: Path = PROC) -> None:
        self._subnets, self._pid, self._proc = subnets, pid, proc
        self._of: int | None = None
        self._before: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def read(self) -> dict[str, int]:
        """The packets of every edge whose network is there; another machine's process id leads to none."""
        pid = self._pid()
        found = packets_by_subnet(pid, self._proc) if pid else None
        if found is None:
            return {}
        if pid != self._of:
            self._of, self._before = pid, dict(self._last)
        self._last |= {
            proxy: self._before.get(proxy, 0) + found[subnet] for proxy, subnet in self._subnets.items() if subnet in found
        }
        return {proxy: self._last[proxy] for proxy, subnet in self._subnets.items() if subnet in found}


def _connected(routes: str) -> list[tuple[str, IPv4Network]]:
    """Interfaces and the subnets they are connected to: routes without a gateway and with a mask."""
    found = []
    for line in routes.splitlines()[1:]:
        name, destination, gateway, _, _, _, _, mask, *_ = line.split()
        if int(gateway, 16) == 0 and int(mask, 16) != 0:
            found.append((name, IPv4Network(f"{_address(destination)}/{_address(mask)}")))
    return found


def _address(text: str) -> IPv4Address:
    """An address as the kernel writes it there: in hexadecimal, in the order in which this machine keeps numbers."""
    return IPv4Address(int(text, 16).to_bytes(4, sys.byteorder))


def _received(devices: str) -> dict[str, int]:
    """Packets received by each interface: the second number of its row."""
    rows = (line.partition(":") for line in devices.splitlines()[2:])
    return {name.strip(): int(numbers.split()[1]) for name, _, numbers in rows}
