"""What containers cannot carry: edges that a proxy of TCP connections cannot stand on, or that lead around it.

Refused where a fault aims at such an edge, with what to do. Where none does the edge stays as it is, without a
proxy, and whoever reads the verdict is told.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from harness.errors import Problem
from harness.model.compose import Compose, ComposeService, Place
from harness.model.edges import CLIENT, Edge

ADVERTISED = re.compile(r"advertise|announce", re.IGNORECASE)
"""Variables and options that tell clients where to come back to: Kafka's, Redis', etcd's and others'."""

_LISTENER = re.compile(r"(?:[\w.+-]+://)?(?P<host>\[[^\]]*\]|[\w.-]*)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Uncarried:
    """`edges` get no proxy; `problems` are those that a fault aims at, `warnings` tell of the others."""

    edges: tuple[Edge, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an edge cannot be carried, what to do, and where it stands. `both_ways` also holds for its callee's calls back."""

    why: str
    advice: str
    place: Place
    both_ways: bool = False


def uncarried(struck: Collection[str], compose: Compose, edges: Iterable[Edge]) -> Uncarried:
    """The edges that get no proxy. `struck` are the names of those that faults aim at.

    A caller that reaches one port of a callee past its proxy reaches all of them, so edges of one pair go together.
    The way in must be carried: no load goes anywhere but through it.
    """
    every = tuple(edges)
    pairs = _pairs(compose, every)
    found = [(edge, pairs[edge.caller, edge.callee]) for edge in every if (edge.caller, edge.callee) in pairs]
    aimed = [(edge, reason) for edge, reason in found if edge.name in struck or edge.caller == CLIENT]
    spared = [(edge, reason) for edge, reason in found if (edge, reason) not in aimed]
    return Uncarried(
        edges=tuple(edge for edge, _ in found),
        problems=tuple(dict.fromkeys(_problem(edge, reason) for edge, reason in aimed)),
        warnings=tuple(dict.fromkeys(_warning(edge, reason) for edge, reason in spared)),
    )


def _pairs(compose: Compose, edges: tuple[Edge, ...]) -> dict[tuple[str, str], Reason]:
    found: dict[tuple[str, str], Reason] = {}
    for edge in edges:
        for reason in _reasons(compose, edge, edges):
            found.setdefault((edge.caller, edge.callee), reason)
            if reason.both_ways:
                found.setdefault((edge.callee, edge.caller), reason)
    return found


def _problem(edge: Edge, reason: Reason) -> Problem:
    aim = "it is the way in" if edge.caller == CLIENT else f"a fault aims at {edge.name}"
    return Problem(
        *reason.place, f"expected an edge that a proxy can carry, since {aim}; found that {reason.why}: {reason.advice}"
    )


def _warning(edge: Edge, reason: Reason) -> str:
    file, line, _ = reason.place
    return f"{edge.name} has no proxy: {reason.why} ({f'{file}:{line}' if line else file})"


def _reasons(compose: Compose, edge: Edge, edges: tuple[Edge, ...]) -> Iterator[Reason]:
    callee = compose.services[edge.callee]
    ends = [compose.services[name] for name in (edge.caller, edge.callee) if name != CLIENT]
    for service in ends:
        yield from _network(service)
    yield from _udp(callee, edge)
    if edge.caller != CLIENT:
        yield from _around(compose.services[edge.caller], callee)
        yield from _elsewhere(callee, edge, edges)


def _network(service: ComposeService) -> Iterator[Reason]:
    mode = service.network_mode
    if mode == "host" or mode.startswith("container:") or mode == "none":
        why = f"{service.name} has network_mode: {mode}, where nothing can be put in its way"
        advice = f"take network_mode out of {service.name}, or aim the fault elsewhere"
        yield Reason(why, advice, service.place_of("network_mode"), both_ways=True)


def _udp(callee: ComposeService, edge: Edge) -> Iterator[Reason]:
    if edge.port in callee.udp_ports and edge.port not in callee.ports:
        why = f"{callee.name} shows port {edge.port} for UDP alone, and the proxies carry TCP"
        advice = "aim the fault at an edge of TCP, or strike the service itself"
        key = "ports" if "ports" in callee.key_places else "expose"
        yield Reason(why, advice, callee.place_of(key), both_ways=True)


def _around(caller: ComposeService, callee: ComposeService) -> Iterator[Reason]:
    """Ways that lead around a proxy: an entry in the caller's hosts file, or a fixed address instead of a name."""
    names = {callee.name, *callee.aliases, *(alias for alias, name in caller.links.items() if name == callee.name)}
    for host, address in caller.extra_hosts:
        if host in names or address in callee.addresses:
            why = f"{caller.name} finds {host} by extra_hosts at {address}, past any proxy"
            yield Reason(why, f"take {host} out of extra_hosts of {caller.name}", caller.place_of("extra_hosts"))
    for address in callee.addresses:
        if address in caller.dns:
            why = f"{caller.name} asks {callee.name} for names at its fixed address {address}, by UDP"
            yield Reason(why, f"take {address} out of dns of {caller.name}", caller.place_of("dns"), both_ways=True)
        for variable, value in caller.environment.items():
            if re.search(rf"(?<![\w.]){re.escape(address)}(?![\w.])", value):
                why = f"{variable} of {caller.name} names {address}, the fixed address of {callee.name}, which is not kept"
                yield Reason(why, f"name {callee.name} there instead", caller.place_of("environment"))


# where a callee tells its clients to come back to


def _elsewhere(callee: ComposeService, edge: Edge, edges: tuple[Edge, ...]) -> Iterator[Reason]:
    """An advertised address that is not the service, under a port that its caller's edges know."""
    told = list(_advertised(callee))
    names = {callee.name, *callee.aliases, ""}
    known = {other.port for other in edges if (other.caller, other.callee) == (edge.caller, edge.callee)}
    hosts = [entry for entry in told if entry.port is None]
    ports = [entry for entry in told if not entry.host]
    whole = [entry for entry in told if entry.host and entry.port is not None]
    on_this_port = [entry for entry in whole if entry.port == edge.port] or whole
    wrong = [entry for entry in hosts if entry.host not in names]
    for group in (on_this_port, ports):
        if group and not any(entry.host in names and entry.port in known for entry in group):
            wrong.append(group[0])
    for entry in wrong[:1]:
        why = f"{callee.name} tells its clients by {entry.said_by} to come back to {entry.address}"
        advice = f"advertise {callee.name}:{edge.port}"
        if entry.host in names:
            why += ", which has no proxy"
            advice += f", or declare it, as '{edge.caller} -> {callee.name}:{entry.port}' under edges: of system.yaml"
        else:
            why += ", past the proxy"
        yield Reason(why, advice, callee.place_of(entry.key))


@dataclass(frozen=True, slots=True)
class Advertised:
    """An address that a service gives to its clients; without a port that by which they came, without a host likewise."""

    host: str
    port: int | None
    said_by: str
    key: str

    @property
    def address(self) -> str:
        """As it was said."""
        if not self.host:
            return f"port {self.port}"
        return f"{self.host}:{self.port}" if self.port is not None else self.host


def _advertised(service: ComposeService) -> Iterator[Advertised]:
    for variable, value in service.environment.items():
        if ADVERTISED.search(variable):
            yield from _entries(value, variable, "environment")
    words = [word for text in service.command for word in text.split()]
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if ADVERTISED.search(option):
            following = words[index + 1] if index + 1 < len(words) else ""
            yield from _entries(value if equals else following, option, "command")


def _entries(value: str, said_by: str, key: str) -> Iterator[Advertised]:
    for piece in filter(None, re.split(r"[,;\s\"']+", value)):
        if piece.isdecimal():
            if not re.search(r"bus|peer", said_by, re.IGNORECASE):
                yield Advertised("", int(piece), said_by, key)
            continue
        match = _LISTENER.fullmatch(piece.rstrip("/"))
        if match is not None and (match["host"] or match["port"]):
            yield Advertised(match["host"], int(match["port"]) if match["port"] else None, said_by, key)
