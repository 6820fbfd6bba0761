"""What is seen on the edges of a real Toxiproxy: connections by its log, packets by the interface of each edge."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Network
from threading import Lock

from harness.history.events import EdgeSeen
from harness.runtime.containers.subnets import own_addresses
from harness.runtime.proxies.interfaces import EdgePackets
from harness.runtime.proxies.toxiproxy_log import AcceptedCounts


class SeenEdges:
    """Counts for every edge of one run, without the harness's own probes."""

    def __init__(self, networks: Mapping[str, IPv4Network], proxies: Collection[str]) -> None:
        self._accepted = AcceptedCounts(proxies, ignored=own_addresses(networks.values()))
        self._packets = EdgePackets(networks, lambda: self._pid)
        self._pid: int | None = None
        self._lock = Lock()

    def read_log(self, line: bytes) -> None:
        """Toxiproxy wrote a line."""
        self._accepted.feed(line)

    def seen(self, at: float, pid: int | None) -> Sequence[EdgeSeen]:
        """All edges at this time; `pid` is that of Toxiproxy's process, None where it is not on this machine."""
        with self._lock:
            self._pid = pid
            return self._accepted.seen(at, self._packets.read())
