"""Reads a system: its `system.yaml`, its Compose files, and the edges that both show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InvalidFile, Problem
from harness.model.compose import Compose
from harness.model.compose_reading import read_compose
from harness.model.edges import CLIENT, EDGE, PROTOCOLS, WELL_KNOWN, Edge, Mention, Protocol, find_mentions, is_port
from harness.model.experiment import System
from harness.model.reading import Document, Loc, nearest, read_document, validate
from harness.model.shapes import SYSTEM, mistaken_for
from harness.model.system import SystemFile


@dataclass(frozen=True, slots=True)
class ReadSystem:
    """A system that was read; `problems` are the names in it that lead nowhere."""

    document: Document
    file: SystemFile
    compose: Compose
    folder: Path
    system: System
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def compose_files_of(path: Path) -> tuple[Path, ...]:
    """The Compose files that a `system.yaml` names; raises InvalidFile where it is none."""
    _, file = _read_file(path)
    return tuple(path.parent / name for name in file.compose)


def _read_file(path: Path) -> tuple[Document, SystemFile]:
    document = read_document(path, "a system")
    if mistaken := mistaken_for(document, SYSTEM):
        raise InvalidFile(mistaken)
    file, problems = validate(SystemFile, document)
    if file is None:
        raise InvalidFile(problems)
    return document, file


def read_system(path: Path, environ: Mapping[str, str], compose: Compose | None = None) -> ReadSystem:
    """Read `system.yaml` and all it leads to; raises InvalidFile where one of the files cannot be read as what it is.

    `compose` is what Compose itself made of its files, where that was asked; else they are read here.
    """
    document, file = _read_file(path)
    if compose is None:
        compose, _ = read_compose([path.parent / name for name in file.compose], environ)
    reading = _Reading(document, file, compose)
    edges = reading.edges()
    reading.check_names({edge.name for edge in edges})
    reading.check_journeys()
    system = System(
        services=tuple(compose.services),
        entry=file.entry,
        edges=edges,
        journeys={name: journey.request for name, journey in file.journeys.items()},
        accepted={journey.request: journey.ok for journey in file.journeys.values() if journey.ok},
        interpose=file.interpose,
        egress=file.egress,
        fallbacks=file.fallbacks,
        invariants=file.invariants,
    )
    return ReadSystem(document, file, compose, path.parent, system, tuple(reading.problems), tuple(reading.warnings))


class _Reading:
    """Looks for edges and checks names, collecting what is wrong."""

    def __init__(self, document: Document, file: SystemFile, compose: Compose) -> None:
        self.document, self.file, self.compose = document, file, compose
        self.services = tuple(compose.services)
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._found: dict[tuple[str, str, int], Edge] = {}

    def _need(self, name: str, known: Collection[str], what: str, at: Loc) -> None:
        if name not in known:
            message = f"expected {what}, found {name!r}{nearest(name, known)}"
            self.problems.append(self.document.problem(at, message, at_key=at[-1] == name))

    def check_names(self, edges: Collection[str]) -> None:
        """Every name in the system leads to something."""
        a_service = "a service of the Compose file"
        for name in self.file.local:
            self._need(name, self.services, a_service, ("local", name))
        for index, name in enumerate(self.file.egress):
            self._need(name, self.services, a_service, ("egress", index))
        for name, fallback in self.file.fallbacks.items():
            self._need(fallback.for_, edges, "an edge of the system", ("fallbacks", name, "for"))
            for index, journey in enumerate(fallback.journeys):
                self._need(journey, self.file.journeys, "one of journeys:", ("fallbacks", name, "journeys", index))
            if fallback.counter is not None:
                self._need(fallback.counter.service, self.services, a_service, ("fallbacks", name, "counter", "service"))
        for name, invariant in self.file.invariants.items():
            self._need(invariant.sql.service, self.services, a_service, ("invariants", name, "sql", "service"))

    def check_journeys(self) -> None:
        """Each request is one journey: a request that is two could be told under one name alone."""
        first: dict[str, str] = {}
        for name, journey in self.file.journeys.items():
            other = first.setdefault(journey.request, name)
            if other != name:
                line = self.document.problem(("journeys", other), "", at_key=True).line
                message = f"expected each request once, found {journey.request!r} again ({other!r} in line {line})"
                self.problems.append(self.document.problem(("journeys", name, "request"), message))

    def edges(self) -> tuple[Edge, ...]:
        """The way in, what the environments say, and what `edges:` adds."""
        self._add_way_in()
        for caller, service in self.compose.services.items():
            names = self.compose.names_for(caller)
            for variable, value in service.environment.items():
                for mention in find_mentions(variable, value, names):
                    self._add_mentioned(caller, (mention, names[mention.service]), f"{service.places[variable]} {variable}")
        for index, written in enumerate(self.file.edges):
            self._add_written(written, ("edges", index))
        return _named(self._found.values())

    def _add_way_in(self) -> None:
        entry = self.file.entry
        self._need(entry, self.services, "a service of the Compose file", ("entry",))
        if entry not in self.services:
            raise InvalidFile(tuple(self.problems))
        port = self._port_shown(entry)
        if port is None:
            message = f"expected the Compose file to show a port of {entry} (ports: or expose:), found none"
            raise InvalidFile((*self.problems, self.document.problem(("entry",), message)))
        self._add((CLIENT, entry, port), "http", self.document.place(("entry",)))

    def _add_mentioned(self, caller: str, mentioned: tuple[Mention, str], place: str) -> None:
        mention, callee = mentioned
        home = self.compose.at_home(callee)
        if home != callee:
            told = f"{place} names {callee}, which has no name of its own in the network of {home}: not taken as an edge"
            self.warnings.append(told)
            return
        port = mention.port or mention.default_port or self._port_shown(callee)
        if port is None:
            self.warnings.append(f"{place} names {callee}, which shows no port: not taken as an edge")
            return
        if not is_port(port):
            self.warnings.append(f"{place} names {callee} at {port}, which is no port: not taken as an edge")
            return
        self._add((caller, callee, port), mention.protocol, place)

    def _add_written(self, written: str, at: Loc) -> None:
        match = EDGE.fullmatch(written)
        if match is None:
            self.problems.append(
                self.document.problem(at, f"expected an edge such as 'order -> redis:6379', found {written!r}")
            )
            return
        caller, callee = match["caller"], match["callee"]
        for service in (caller, callee):
            self._need(service, self.services, "a service of the Compose file", at)
        protocol = next((known for known in PROTOCOLS if known == match["protocol"]), None)
        if protocol is None and match["protocol"] is not None:
            message = f"expected one of {', '.join(PROTOCOLS)} behind the slash, found {match['protocol']!r}"
            self.problems.append(self.document.problem(at, message))
            return
        if not {caller, callee} <= set(self.services):
            return
        if self.compose.at_home(caller) == self.compose.at_home(callee):
            message = f"expected two services with networks of their own, found {written!r}: nothing can be put between them"
            self.problems.append(self.document.problem(at, message))
            return
        port = int(match["port"]) if match["port"] else self._port_shown(callee)
        if port is None or not is_port(port):
            said = f"/{protocol}" if protocol is not None else ""
            found = f"since {callee} shows none" if port is None else f"found {port}, where they end at 65535"
            message = f"expected a port, as in '{caller} -> {callee}:8000{said}', {found}"
            self.problems.append(self.document.problem(at, message))
            return
        self._add((caller, callee, port), "tcp", self.document.place(at), said=protocol)

    def _port_shown(self, service: str) -> int | None:
        """The first port that a service shows, or else one that it shows for UDP, which no proxy carries."""
        shown = self.compose.services[service]
        local = self.file.local.get(service)
        own = (local.port,) if local is not None and local.port is not None else ()
        return next(iter((*shown.ports, *own, *shown.udp_ports)), None)

    def _add(self, key: tuple[str, str, int], protocol: Protocol, read_from: str, said: Protocol | None = None) -> None:
        """Add an edge that is not there yet; what is `said` to be spoken on it counts for one that is, too."""
        caller, callee, port = self.compose.at_home(key[0]), self.compose.at_home(key[1]), key[2]
        spoken = WELL_KNOWN.get(port, "tcp") if protocol == "tcp" else protocol
        edge = Edge(name=f"{caller} -> {callee}", caller=caller, callee=callee, port=port, protocol=spoken, read_from=read_from)
        found = self._found.setdefault((caller, callee, port), edge)
        if said is not None:
            self._found[caller, callee, port] = found.model_copy(update={"protocol": said})


def _named(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    """Edges with their names; the port is part of it where a caller uses several of one callee."""
    found = list(edges)
    pairs = Counter((edge.caller, edge.callee) for edge in found)
    return tuple(
        edge.model_copy(update={"name": f"{edge.name}:{edge.port}"}) if pairs[edge.caller, edge.callee] > 1 else edge
        for edge in found
    )
