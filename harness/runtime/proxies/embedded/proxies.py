"""The proxies of one engine: each listens for one edge, forwards to its callee, and bears its toxics."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Any

from harness.runtime.proxies.embedded.alarm import Alarm
from harness.runtime.proxies.embedded.counts import Counts
from harness.runtime.proxies.embedded.draws import draw
from harness.runtime.proxies.embedded.listening import CAN_BE_DEAF, Listener
from harness.runtime.proxies.embedded.log import SILENT, Log
from harness.runtime.proxies.embedded.lookups import Upstream
from harness.runtime.proxies.embedded.matching import HttpFaults
from harness.runtime.proxies.embedded.refusals import Refusals
from harness.runtime.proxies.embedded.relay import Connection, End, Held
from harness.runtime.proxies.embedded.sources import Sources
from harness.runtime.proxies.embedded.toxics import HttpEffect, Refused, StreamEffect, Toxic, Unreachable

RESOLVED_WITHIN = 5.0
"""Seconds for finding the address of a name to listen on."""

TOLD_EVERY = 60.0
"""Seconds in which it is told once that an upstream cannot be reached; the other times, only at debug."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all proxies of one engine share. Connections from `ignored` are not counted."""

    loop: asyncio.AbstractEventLoop
    alarm: Alarm
    seed: int | None
    refusals: Refusals
    ignored: Sources = field(default_factory=Sources)
    any_address: bool = False
    log: Log = SILENT
    held: Held = field(default_factory=Held)


class Proxy:
    """One proxy. Disabled, it has no listener and no connections, and keeps its toxics."""

    def __init__(self, name: str, listen: str, upstream: str, around: Surroundings) -> None:
        self.name, self.listen = name, listen
        self.loop, self.alarm, self.held = around.loop, around.alarm, around.held
        self.upstream_text = upstream
        self.upstream = Upstream(around.loop, *split_upstream(upstream))
        self.counts = Counts()
        self.connections: set[Connection] = set()
        self.http = HttpFaults(self.random_of)
        self.unreachable = False
        self._around = around
        self._accepted = 0
        self._toxics: list[Toxic] = []
        self._numbers: dict[str, Numbers] = {}
        self._randoms: dict[str, Random] = {}
        self._listener: Listener | None = None
        self._refusing: tuple[str, int] | None = None
        self._told_at = -TOLD_EVERY

    @property
    def enabled(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    @property
    def toxics(self) -> list[Toxic]:
        """All upstream toxics, then all downstream ones, each in the order in which they were added."""
        return sorted(self._toxics, key=lambda toxic: toxic.stream == "downstream")

    def toxics_of(self, stream: str) -> list[Toxic]:
        """What acts on the bytes of one direction, in order."""
        return [toxic for toxic in self._toxics if toxic.stream == stream and isinstance(toxic.effect, StreamEffect)]

    async def enable(self) -> None:
        """Listen; a port that was given as 0 is known afterwards."""
        if self._listener is None:
            await self._serve(Listener(self.loop, await resolve(self.listen, self._around), self._accept))

    async def disable(self) -> None:
        """Stop listening: new connections are refused from now on, open ones are closed."""
        address = await resolve(self.listen, self._around)
        self._stop()
        self._turn_away_at(address)

    async def take_over(self, other: Proxy) -> None:
        """Listen where another proxy does, which then is no more. Where that is refused, the other goes on as it was."""
        listener = other._listener
        assert listener is not None
        if self.unreachable and not other.unreachable:
            listener.deafen()
        elif other.unreachable and not self.unreachable:
            await listener.open()
        listener.accept = self._accept
        self._listener, other._listener = listener, None
        other.forget()
        self.listen = _as_text(listener.address)
        if self.unreachable:
            self._turn_away_at(listener.address)

    def forget(self) -> None:
        """Close everything: this proxy is no more."""
        self._stop()
        self._turn_nobody_away()

    async def become(self, listen: str, upstream: str, *, enabled: bool) -> None:
        """Listen there, forward there, or do neither. What changes closes open connections; where it cannot be, nothing has."""
        target, address = split_upstream(upstream), await resolve(listen, self._around)
        moved = address != await resolve(self.listen, self._around)
        if not (moved or upstream != self.upstream_text or enabled != self.enabled):
            return
        fresh = Listener(self.loop, address, self._accept) if enabled and (moved or not self.enabled) else None
        kept = self._listener if enabled and fresh is None else None
        self._listener = None if kept is not None else self._listener
        self._stop()
        self._listener = kept
        self.upstream_text, self.upstream = upstream, Upstream(self.loop, *target)
        self.listen = listen if moved else self.listen
        if fresh is not None:
            await self._serve(fresh)
        elif kept is None:
            self._turn_nobody_away()
            self._turn_away_at(address)

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
        if isinstance(toxic.effect, Unreachable):
            self._become_unreachable()
        self._toxics.append(toxic)
        self.counts.toxic_added(toxic.name)
        if isinstance(toxic.effect, StreamEffect):
            if toxic.seed is not None:
                self._numbers[toxic.name] = Numbers(self._accepted, sorted(each.number for each in self.connections))
            for connection in tuple(self.connections):
                connection.add(toxic)
        elif isinstance(toxic.effect, HttpEffect):
            self.http.add(toxic)
            for connection in tuple(self.connections):
                connection.follow()

    def change(self, toxic: Toxic) -> None:
        """Replace a toxic by one of the same name and kind, in its place."""
        self._toxics[self._toxics.index(self.toxic(toxic.name))] = toxic
        if isinstance(toxic.effect, StreamEffect):
            for connection in tuple(self.connections):
                connection.change(toxic)
        elif isinstance(toxic.effect, HttpEffect):
            fault = self.http.change(toxic)
            for connection in tuple(self.connections):
                connection.recount(fault)

    async def remove(self, name: str) -> None:
        """A toxic acts no more. One that keeps the listener deaf stays where it cannot be opened."""
        toxic = self.toxic(name)
        if isinstance(toxic.effect, Unreachable):
            await self._become_reachable(toxic)
        self._toxics.remove(toxic)
        self._numbers.pop(name, None)
        self._randoms.pop(name, None)
        if isinstance(toxic.effect, StreamEffect):
            for connection in tuple(self.connections):
                connection.remove(toxic)
        elif isinstance(toxic.effect, HttpEffect):
            fault = self.http.remove(name)
            for connection in tuple(self.connections):
                connection.forgive(fault)

    def accept(self, connection: Connection) -> int:
        """One more connection; its number among all that this proxy ever had."""
        self.connections.add(connection)
        self._accepted += 1
        return self._accepted - 1

    def draw(self, toxic: Toxic, connection: Connection) -> float:
        """What a connection drew for a toxic: by the toxic's seed, where it has one, and how many came before it."""
        if toxic.seed is None:
            return self.random_of(toxic.name).random()
        return draw(toxic.seed, self._numbers[toxic.name].of(connection.number))

    def random_of(self, toxic: str) -> Random:
        """The chance of the toxic of this name, its own; with a seed it is the same each time the toxic is added."""
        if toxic not in self._randoms:
            seed = self._around.seed
            self._randoms[toxic] = Random(None if seed is None else f"{seed}/{self.name}/{toxic}")  # noqa: S311 -- to be repeated
        return self._randoms[toxic]

    async def heal(self) -> None:
        """Enabled, and without toxics. One that cannot be removed keeps no other from it."""
        failure: Refused | None = None
        for toxic in self.toxics:
            try:
                await self.remove(toxic.name)
            except Refused as refused:
                failure = refused
        await self.enable()
        if failure is not None:
            raise failure

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

    async def _serve(self, listener: Listener) -> None:
        self._listener = listener
        try:
            if self.unreachable:
                listener.deafen()
            else:
                await listener.open()
        except BaseException:
            self._listener = None
            listener.close()
            raise
        self.listen = _as_text(listener.address)
        self._turn_nobody_away()
        if self.unreachable:
            self._turn_away_at(listener.address)

    def _stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in tuple(self.connections):
            connection.cut()

    def _turn_away_at(self, address: tuple[str, int]) -> None:
        """Who comes here is not let in from now on, and counted."""
        if self._refusing is None:
            self._refusing = address
            self._around.refusals.watch(address, self.counts)
            if self.counts.cannot_refused:
                self._around.log.info("Refused attempts go uncounted", proxy=self.name, reason=self.counts.cannot_refused)

    def _turn_nobody_away(self) -> None:
        if self._refusing is not None:
            self._around.refusals.unwatch(self._refusing, self.counts)
            self._refusing = None

    def _become_unreachable(self) -> None:
        """Nobody gets in any more, and who is in hears nothing."""
        if not CAN_BE_DEAF:
            raise Refused(400, "unreachable: this system has no listener that neither accepts nor refuses; Linux has")
        if self._listener is not None:
            self._listener.deafen()
            self._turn_away_at(self._listener.address)
        for connection in self.connections:
            connection.silence()
        self.unreachable = True

    async def _become_reachable(self, without: Toxic) -> None:
        """Unless another toxic still keeps it as it is."""
        if any(isinstance(toxic.effect, Unreachable) for toxic in self._toxics if toxic is not without):
            return
        if self._listener is not None:
            await self._listener.open()
            self._turn_nobody_away()
        self.unreachable = False
        for connection in tuple(self.connections):
            connection.speak()


@dataclass(frozen=True, slots=True)
class Numbers:
    """Connections counted from when a toxic was added: those `open` then, in order, and all from the `first` new one on."""

    first: int
    open: Sequence[int]

    def of(self, number: int) -> int:
        """A connection's number here, by its number on the proxy."""
        if number < self.first:
            return bisect_left(self.open, number)
        return len(self.open) + number - self.first


def split_upstream(upstream: str) -> tuple[str, int]:
    """Host and port to forward to."""
    try:
        return split_address(upstream)
    except ValueError as error:
        raise Refused(400, f"upstream: expected host:port, found {upstream!r}") from error


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[host]:port`; raises ValueError with Toxiproxy's words for what is none."""
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        raise ValueError(f"address {address}: missing port in address")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"address {address}: too many colons in address")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"address {port}: invalid port")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def resolve(listen: str, around: Surroundings) -> tuple[str, int]:
    """The address to listen on; without a host it is loopback, and outside of loopback it must be allowed."""
    try:
        host, port = split_address(listen)
        async with asyncio.timeout(RESOLVED_WITHIN):
            found = await around.loop.getaddrinfo(host or "127.0.0.1", port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise Refused(500, f"listen tcp: lookup {host}: no answer within {RESOLVED_WITHIN:g} s") from error
    except OSError as error:
        raise Refused(500, f"listen tcp: lookup {host}: {error.strerror}") from error
    except ValueError as error:  # UnicodeError too, for what can be no name
        raise Refused(500, f"listen tcp: {error}") from error
    resolved = str(found[0][4][0])
    if not around.any_address and not ipaddress.ip_address(resolved).is_loopback:
        raise Refused(400, f"listen: expected a loopback address, found {listen}; --allow-any-address lifts this")
    return resolved, port


def _as_text(name: tuple[Any, ...]) -> str:
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy listens and whom it forwards to."""

    listen: str
    upstream: str


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

    async def create(self, name: str, place: Place, toxics: Sequence[Toxic], *, enabled: bool) -> Proxy:
        """Make a proxy, which has its toxics when it takes its first connection; one that cannot listen is not kept."""
        if name in self._proxies:
            raise Refused(409, "proxy already exists")
        proxy = await self._make(name, place, toxics)
        await (proxy.enable() if enabled else proxy.disable())
        self._proxies[name] = proxy
        return proxy

    async def replace(self, proxy: Proxy, place: Place, toxics: Sequence[Toxic], *, enabled: bool) -> Proxy:
        """Put a new proxy in the place of one of the same name, which goes on as it was where the new one cannot listen."""
        fresh = await self._make(proxy.name, place, toxics)
        if enabled and proxy.enabled and await self.same_address(proxy, place.listen):
            await fresh.take_over(proxy)
        else:
            await (fresh.enable() if enabled else fresh.disable())
            proxy.forget()
        self._proxies[proxy.name] = fresh
        return fresh

    async def _make(self, name: str, place: Place, toxics: Sequence[Toxic]) -> Proxy:
        """A proxy that has its toxics, and neither listens nor turns anybody away."""
        proxy = Proxy(name, place.listen, place.upstream, self._around)
        await resolve(place.listen, self._around)
        for toxic in toxics:
            proxy.add(toxic)
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
