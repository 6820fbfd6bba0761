"""The proxies of one engine: each listens for one edge, forwards to its callee, and bears its toxics."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Any

from harness.runtime.proxies.embedded.alarm import Alarm
from harness.runtime.proxies.embedded.counts import Counts
from harness.runtime.proxies.embedded.log import SILENT, Log
from harness.runtime.proxies.embedded.refusals import Refusals
from harness.runtime.proxies.embedded.relay import Connection, End
from harness.runtime.proxies.embedded.sources import Sources
from harness.runtime.proxies.embedded.toxics import HttpEffect, Refused, StreamEffect, Toxic

BACKLOG = 4096

TOLD_EVERY = 60.0
"""Seconds in which it is told once that an upstream cannot be reached; the other times, only at debug."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all proxies of one engine share. Connections from `ignored` are not counted."""

    loop: asyncio.AbstractEventLoop
    alarm: Alarm
    random: Random
    refusals: Refusals
    ignored: Sources = field(default_factory=Sources)
    any_address: bool = False
    log: Log = SILENT


class Proxy:
    """One proxy. Disabled, it has no listener and no connections, and keeps its toxics."""

    def __init__(self, name: str, listen: str, upstream: str, around: Surroundings) -> None:
        self.name, self.listen = name, listen
        self.loop, self.alarm, self.random = around.loop, around.alarm, around.random
        self.upstream_text = upstream
        self.upstream = split_address(upstream, "upstream")
        self.counts = Counts()
        self.connections: set[Connection] = set()
        self._around = around
        self._toxics: list[Toxic] = []
        self._server: asyncio.AbstractServer | None = None
        self._refusing: tuple[str, int] | None = None
        self._told_at = -TOLD_EVERY

    @property
    def enabled(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    @property
    def toxics(self) -> list[Toxic]:
        """All upstream toxics, then all downstream ones, each in the order in which they were added."""
        return sorted(self._toxics, key=lambda toxic: toxic.stream == "downstream")

    def toxics_of(self, stream: str) -> list[Toxic]:
        """What acts on the bytes of one direction, in order."""
        return [toxic for toxic in self._toxics if toxic.stream == stream and isinstance(toxic.effect, StreamEffect)]

    def http_toxics(self) -> list[Toxic]:
        """What acts on requests, in order."""
        return [toxic for toxic in self._toxics if isinstance(toxic.effect, HttpEffect)]

    async def enable(self) -> None:
        """Listen; a port that was given as 0 is known afterwards."""
        if self._server is not None:
            return
        address = await resolve(self.listen, self._around)
        listener = _bound(address)
        self._server = await self.loop.create_server(self._accept, sock=listener, backlog=BACKLOG)
        self.listen = _as_text(listener.getsockname())
        if self._refusing is not None:
            self._around.refusals.unwatch(self._refusing)
            self._refusing = None

    async def disable(self) -> None:
        """Stop listening: new connections are refused from now on, open ones are closed."""
        if self._refusing is None:
            self._refusing = await resolve(self.listen, self._around)
            self._around.refusals.watch(self._refusing, self.counts)
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self.connections):
            connection.cut()

    def forget(self) -> None:
        """Close everything: this proxy is no more."""
        if self._refusing is not None:
            self._around.refusals.unwatch(self._refusing)
            self._refusing = None
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self.connections):
            connection.cut()

    async def move(self, listen: str, upstream: str) -> None:
        """Listen elsewhere or forward elsewhere; open connections are closed, toxics stay."""
        target = split_address(upstream, "upstream")
        await resolve(listen, self._around)
        was_enabled = self.enabled
        self.forget()
        self.listen, self.upstream_text, self.upstream = listen, upstream, target
        await (self.enable() if was_enabled else self.disable())

    def toxic(self, name: str) -> Toxic:
        """The toxic of this name, which must exist."""
        for toxic in self._toxics:
            if toxic.name == name:
                return toxic
        raise Refused(404, "toxic not found")

    def add(self, toxic: Toxic) -> None:
        """One more toxic, behind all others; open connections feel it at once."""
        if any(other.name == toxic.name for other in self._toxics):
            raise Refused(409, "toxic already exists")
        if toxic.effect.kind in {"bandwidth", "slow_close", "slicer", "limit_data", "noop", "unreachable"}:
            raise Refused(400, f"invalid toxic type: {toxic.effect.kind} is not built in")
        self._toxics.append(toxic)
        self.counts.toxic_added(toxic.name)
        if isinstance(toxic.effect, StreamEffect):
            for connection in tuple(self.connections):
                connection.add(toxic)

    def change(self, toxic: Toxic) -> None:
        """Replace a toxic by one of the same name and kind, in its place."""
        was = self.toxic(toxic.name)
        self._toxics[self._toxics.index(was)] = toxic
        if isinstance(toxic.effect, StreamEffect):
            for connection in tuple(self.connections):
                connection.change(toxic, was)

    def remove(self, name: str) -> None:
        """A toxic acts no more."""
        toxic = self.toxic(name)
        self._toxics.remove(toxic)
        if isinstance(toxic.effect, StreamEffect):
            for connection in tuple(self.connections):
                connection.remove(toxic)

    async def heal(self) -> None:
        """Enabled, and without toxics."""
        for toxic in self.toxics:
            self.remove(toxic.name)
        await self.enable()

    def as_data(self) -> dict[str, Any]:
        """What the control API shows of it, with the key that Toxiproxy shows by mistake."""
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream_text,
            "enabled": self.enabled,
            "Logger": {},
            "toxics": [toxic.as_data() for toxic in self.toxics],
        }

    def counts_for(self, source: str) -> Counts:
        """Where a connection from this address is counted: those of the harness itself count nowhere."""
        return Counts() if source in self._around.ignored else self.counts

    def unreached(self, reason: Exception) -> None:
        """A connection could not be led to the upstream."""
        log, now = self._around.log, monotonic()
        tell = log.info if now - self._told_at >= TOLD_EVERY else log.debug
        self._told_at = now if tell == log.info else self._told_at
        tell("Upstream cannot be reached", proxy=self.name, upstream=self.upstream_text, error=str(reason) or repr(reason))

    def _accept(self) -> End:
        return Connection(self).client


def split_address(address: str, what: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[host]:port`."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Refused(400, f"{what}: expected host:port, found {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def resolve(listen: str, around: Surroundings) -> tuple[str, int]:
    """The address to listen on; without a host it is loopback, and outside of loopback it must be allowed."""
    host, port = split_address(listen, "listen")
    try:
        found = await around.loop.getaddrinfo(host or "127.0.0.1", port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refused(500, f"listen tcp {listen}: {error.strerror}") from error
    resolved = str(found[0][4][0])
    if not around.any_address and not ipaddress.ip_address(resolved).is_loopback:
        raise Refused(400, f"listen: expected a loopback address, found {listen}; --allow-any-address lifts this")
    return resolved, port


def _bound(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Refused(500, f"listen tcp {address[0]}:{address[1]}: bind: {os.strerror(error.errno or 0).lower()}") from error
    return listener


def _as_text(name: tuple[Any, ...]) -> str:
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Registry:
    """All proxies of the engine by name. Changes come one at a time."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._proxies: dict[str, Proxy] = {}

    def all(self) -> list[Proxy]:
        """Every proxy, in the order in which they were made."""
        return list(self._proxies.values())

    def get(self, name: str) -> Proxy:
        """The proxy of this name, which must exist."""
        try:
            return self._proxies[name]
        except KeyError:
            raise Refused(404, "proxy not found") from None

    def find(self, name: str) -> Proxy | None:
        """The proxy of this name, or None."""
        return self._proxies.get(name)

    async def create(self, name: str, listen: str, upstream: str, *, enabled: bool) -> Proxy:
        """Make a proxy; one that cannot listen is not kept."""
        if name in self._proxies:
            raise Refused(409, "proxy already exists")
        proxy = Proxy(name, listen, upstream, self._around)
        await resolve(listen, self._around)
        await (proxy.enable() if enabled else proxy.disable())
        self._proxies[name] = proxy
        return proxy

    async def same_address(self, proxy: Proxy, listen: str) -> bool:
        """Whether a proxy listens there already, however it is written."""
        return await resolve(listen, self._around) == await resolve(proxy.listen, self._around)

    def delete(self, name: str) -> None:
        """A proxy is no more; its connections are closed."""
        self.get(name).forget()
        del self._proxies[name]

    async def heal(self) -> None:
        """Every proxy enabled and without toxics. One that cannot be enabled keeps no other from it."""
        failures = []
        for proxy in self.all():
            try:
                await proxy.heal()
            except Refused as failure:
                failures.append(f"{proxy.name}: {failure.message}")
        if failures:
            raise Refused(500, "; ".join(failures))

    def close(self) -> None:
        """Every proxy is gone."""
        for proxy in self.all():
            proxy.forget()
