"""Where everything of one run listens, so that two runs on one machine never meet.

On Linux every address of 127.0.0.0/8 can be bound without set-up. A run claims a network of its own,
127.A.0.0/16, by listening on 127.A.0.1 with the control API's port: who holds that socket holds the network.
Services listen on 127.A.1.x, the proxies of edges on 127.A.2.x, each on the port that the callee has, so that a
value that carries no port (`REDIS_HOST=redis`) works too. Elsewhere there is 127.0.0.1 alone, and free ports.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterable
from contextlib import suppress

from harness.errors import CouldNotRun
from harness.runtime.ports import Address

CONTROL_PORTS = (8474, 8475, 8476)
"""Toxiproxy's own port; the others are for machines where somebody listens on it at every address."""

ALONE = "127.0.0.1"
SERVICES, EDGES = 1, 2


class RunAddresses:
    """The addresses of one run. `control` listens already, at `control_url`, and is handed to the proxy engine."""

    def __init__(self, network: int | None, control: socket.socket) -> None:
        self.network = network
        self.control = control
        self.control_url = "http://{}:{}".format(*control.getsockname())
        self._services: dict[str, Address] = {}
        self._edges: dict[str, Address] = {}

    @classmethod
    def claim(cls, networks: Iterable[int] | None = None) -> RunAddresses:
        """Claim a free network; networks are tried from a random one on, so that runs seldom try the same."""
        tried = tuple(networks) if networks is not None else random.sample(range(1, 255), 254)
        for port in CONTROL_PORTS:
            for network in tried:
                try:
                    return cls(network, listen_on(Address(f"127.{network}.0.1", port)))
                except OSError as error:
                    if error.errno == errno.EADDRNOTAVAIL:
                        return cls(None, listen_on(Address(ALONE, 0)))
                    if error.errno != errno.EADDRINUSE:
                        raise CouldNotRun(f"expected to listen on 127.{network}.0.1:{port}, found: {error}") from error
        raise CouldNotRun(
            f"expected a free loopback network, found all {len(tried)} taken on the ports {CONTROL_PORTS}; "
            f"end other runs, or whatever listens on these ports at every address"
        )

    @property
    def probe_source(self) -> str:
        """The address that the harness's own probes come from, by which they can be told from traffic."""
        return ALONE if self.network is None else f"127.{self.network}.0.2"

    def service(self, name: str, port: int) -> Address:
        """Where a service listens: on `port` where that is free, else on a free one."""
        return self._once(self._services, SERVICES, name, port)

    def edge(self, name: str, port: int) -> Address:
        """Where the proxy of an edge listens: on the callee's `port` where that is free, else on a free one."""
        return self._once(self._edges, EDGES, name, port)

    def close(self) -> None:
        """Give the network back; what was handed to the proxy engine stays open there."""
        self.control.close()

    def _once(self, known: dict[str, Address], kind: int, name: str, port: int) -> Address:
        if name not in known:
            host = self._host(kind, len(known))
            known[name] = Address(host, port if self._is_free(Address(host, port)) else self._free_port(host))
        return known[name]

    def _host(self, kind: int, index: int) -> str:
        if self.network is None:
            return ALONE
        block, place = divmod(index, 254)
        return f"127.{self.network}.{kind + 2 * block}.{place + 1}"

    def _is_free(self, address: Address) -> bool:
        if address in (*self._services.values(), *self._edges.values()):
            return False
        with suppress(OSError), listen_on(address):
            return True
        return False

    def _free_port(self, host: str) -> int:
        while True:
            with listen_on(Address(host, 0)) as free:
                port: int = free.getsockname()[1]
            if Address(host, port) not in (*self._services.values(), *self._edges.values()):
                return port


def listen_on(address: Address) -> socket.socket:
    """A socket that listens there; OSError where that cannot be."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener
