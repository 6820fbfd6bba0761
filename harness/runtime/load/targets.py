"""Keeps the load to the way into the system, and to hosts that its user allowed by name.

Python tells its audit hooks of every name that is looked up and of every connection before it does either, whichever client
asks, through redirects too, so that this holds for whatever a locustfile imports. It does not hold for what makes its
connections past Python: libraries in C with sockets of their own, and programs that a locustfile starts.
"""

from __future__ import annotations

import _socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from math import inf
from typing import Any
from urllib.parse import urlsplit

LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname")
REVERSED = "socket.gethostbyaddr"
CONNECTIONS = ("socket.connect", "socket.sendto", "socket.sendmsg")
EVENTS = frozenset((*LOOKUPS, REVERSED, *CONNECTIONS))

LOCALHOST = {"127.0.0.1", "::1"}
"""Both are meant by localhost, and clients try one after the other."""

LOOK_UP_EVERY = 1.0
"""Seconds after which an address that was kept back may have become one of an allowed name."""


class KeptBack(PermissionError):
    """The load asked for a host that it was not allowed, and nothing was sent."""


class Targets:
    """The hosts that a load may ask for: that of the `entry`, a URL, and those `allowed` by name or address."""

    def __init__(self, entry: str, allowed: Sequence[str], addresses_of: Callable[[str], set[str]] | None = None) -> None:
        hosts = {_plain(host) for host in (urlsplit(entry).hostname or "", *allowed)}
        self._addresses = {address for host in hosts if (address := _address(host))}
        self._names = {host for host in hosts if not _address(host)} - {""}
        if self._addresses & LOCALHOST or "localhost" in hosts:
            self._addresses |= LOCALHOST
            self._names |= {"localhost"}
        self._addresses_of = addresses_of or looked_up
        self._resolved: set[str] = set()
        self._resolved_at = -inf
        self.kept_back: set[str] = set()
        """The hosts that were asked for in vain."""

    def guard(self) -> None:
        """From here on nothing else is asked for in this process; that cannot be taken back."""
        sys.addaudithook(self.hear)

    def hear(self, event: str, told: tuple[Any, ...]) -> None:
        """What Python is about to do; raises KeptBack where that would reach a host that is not allowed."""
        if event not in EVENTS:
            return
        host = _host_of(told[1]) if event in CONNECTIONS else told[0]
        if host is not None and not self._may(_plain(host), connects=event not in LOOKUPS):
            self.kept_back.add(_plain(host))
            allows = f"load: {{allow_hosts: ['{_plain(host)}']}} allows it"
            raise KeptBack(f"{_plain(host)} is not the way in, nothing was sent: {allows}")

    def _may(self, host: str, *, connects: bool) -> bool:
        """Looking up an address asks nobody; a name that is looked up asks others already."""
        if host in ("", "localhost") and not connects:
            return True
        address = _address(host)
        if not address:
            return host in self._names
        return not connects or address in self._addresses or address in self._resolved or self._has_become(address)

    def _has_become(self, address: str) -> bool:
        """Whether an allowed name has this address by now; one that was just kept back is not looked for again."""
        if address not in self.kept_back or time.monotonic() - self._resolved_at >= LOOK_UP_EVERY:
            self.look_up()
        return address in self._resolved

    def look_up(self) -> None:
        """Find the addresses of every allowed name, before anybody has to wait for them, or anew."""
        self._resolved_at = time.monotonic()
        for name in self._names - {"localhost"}:
            self._resolved |= self._addresses_of(name)


def looked_up(name: str) -> set[str]:
    """The addresses of a name, none where it has none; whoever else is on this thread waits for them."""
    with suppress(OSError):
        return {_address(str(found[4][0])) for found in _socket.getaddrinfo(name, None)}
    return set()


def _host_of(address: Any) -> str | bytes | bytearray | None:
    """The host of where a connection leads; None where it stays within this machine's kernel, or leads where one is already."""
    return address[0] if isinstance(address, tuple) and address and isinstance(address[0], str | bytes | bytearray) else None


def _plain(host: str | bytes | bytearray | None) -> str:
    text = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host or "")
    return text.strip("[]").rstrip(".").lower()


def _address(host: str) -> str:
    """An address as it is compared; empty for what is none."""
    with suppress(ValueError):
        found = ip_address(host.partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None)
        return str(mapped or found)
    return ""
