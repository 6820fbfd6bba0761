"""Whose connections do not count: those of the harness itself, told from traffic by where they come from."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache


class Sources:
    """Hosts, each written as an IPv4 address or as a network."""

    def __init__(self, networks: Sequence[ipaddress.IPv4Network] = ()) -> None:
        self._networks = tuple(networks)
        self._known = lru_cache(1024)(self._look)  # asked for every connection, and the hosts are few

    def __contains__(self, host: str) -> bool:
        return self._known(host)

    def _look(self, host: str) -> bool:
        try:
            address = ipaddress.IPv4Address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
