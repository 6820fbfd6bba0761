"""Takes over what Compose itself made of the user's files: the JSON of `docker compose config`.

Compose has interpolated, merged and extended, and dropped the services of profiles that are off. What it does
not tell is where a value stands; that is looked up in the files by `places_in`, as far as they say it themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.errors import InvalidFile, InvalidInput, Problem
from harness.model.compose import Compose, ComposeService, HealthCheck, Place
from harness.model.compose_reading import read_env_file
from harness.model.parts import NAME, NAMED
from harness.model.reading import Document, Loc, read_document, shown

Places: TypeAlias = Mapping[Loc, Place]
"""Where things stand: ("services", NAME), (…, KEY), (…, "environment", VARIABLE), (…, "ports", INDEX)."""

CONFIG = "docker compose config"
"""What is named as the place of what stands in none of the files that were read."""

HOURS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_STRETCH = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_EXPOSED = re.compile(r"(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?(?:/(?P<protocol>\w+))?")


def compose_from_config(config: Mapping[str, Any], places: Places | None = None) -> Compose:
    """The services of `docker compose config --format json`, which escapes every `$` as `$$` and puts all in order of name.

    Services and variables come in the order of the files again, so that a plan is the same however they were read.
    """
    try:
        return _compose_of(config, places or {})
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"{CONFIG}: expected services as Compose writes them, found something else ({error})") from error


def _compose_of(config: Mapping[str, Any], places: Places) -> Compose:
    services = config.get("services")
    if not isinstance(services, Mapping) or not services:
        raise InvalidInput(
            f"{CONFIG}: expected at least one service, found none (are all of them behind profiles that are off?)"
        )
    reader = _Reader(places)
    names = reader.in_order(("services",), map(str, services))
    strange = next((name for name in names if not NAME.fullmatch(name)), None)
    if strange is not None:
        raise InvalidFile((Problem(*reader.place(("services", strange)), f"expected {NAMED}, found {strange!r}"),))
    read = {name: reader.service(name, _mapping(services[name])) for name in names}
    return Compose(
        {name: replace(service, shares_network_with=_home(name, read)) for name, service in read.items()},
        external_volumes=_external(config, "volumes"),
        external_networks=_external(config, "networks"),
        volumes_kept=tuple(_volumes_kept(config)),
        host_paths_written=tuple(dict.fromkeys(_host_paths_written(config))),
    )


def _external(config: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    return tuple(str(name) for name, written in _mapping(config.get(kind)).items() if _mapping(written).get("external"))


def _volumes_kept(config: Mapping[str, Any]) -> Iterator[str]:
    """The names that external volumes have at the engine."""
    for key, written in _mapping(config.get("volumes")).items():
        if _mapping(written).get("external"):
            yield str(_mapping(written).get("name") or key)


def _host_paths_written(config: Mapping[str, Any]) -> Iterator[str]:
    """Folders and files of the engine's host that services may write to, mounted themselves or under a volume's name."""
    for service in _mapping(config.get("services")).values():
        for mount in _sequence(_mapping(service).get("volumes")):
            said = _mapping(mount)
            if said.get("type") == "bind" and said.get("source") and not said.get("read_only"):
                yield str(said["source"])
    for volume in _mapping(config.get("volumes")).values():
        device = _mapping(_mapping(volume).get("driver_opts")).get("device")
        if device and not _mapping(volume).get("external"):
            yield str(device)


def _home(name: str, services: Mapping[str, ComposeService]) -> str:
    """The service at the end of a chain of `network_mode: service:x`; "" where there is none."""
    seen = [name]
    while (mode := services[seen[-1]].network_mode).startswith("service:"):
        host = mode.removeprefix("service:")
        if host in seen or host not in services:
            break
        seen.append(host)
    return seen[-1] if len(seen) > 1 else ""


class _Reader:
    """Takes over one service after the other."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._rank = {loc: rank for rank, loc in enumerate(places)}

    def place(self, path: Loc) -> Place:
        """Where something stands, as far as the files say it."""
        return self._places.get(path, (CONFIG, 0, 0))

    def in_order(self, path: Loc, names: Iterable[str]) -> list[str]:
        """Names as the files have them, those that stand in none last."""
        return sorted(names, key=lambda name: self._rank.get((*path, name), len(self._rank)))

    def service(self, name: str, written: Mapping[str, Any]) -> ComposeService:
        path: Loc = ("services", name)
        variables = {name: value for name, value in _mapping(written.get("environment")).items() if value is not None}
        in_order = self.in_order((*path, "environment"), variables)
        networks = _mapping(written.get("networks"))
        return ComposeService(
            name,
            environment={variable: unescaped(str(variables[variable])) for variable in in_order},
            depends_on={
                other: str(_mapping(how).get("condition", "service_started"))
                for other, how in _mapping(written.get("depends_on")).items()
            },
            healthcheck=_healthcheck(_mapping(written.get("healthcheck"))),
            ports=_ports(written, "tcp"),
            places={variable: self._place_of(path, variable) for variable in in_order},
            key_places=self._key_places(path),
            udp_ports=_ports(written, "udp"),
            network_mode=str(written.get("network_mode") or ""),
            aliases=tuple(_aliases(name, written, networks)),
            links=dict(_links(written)),
            addresses=tuple(_addresses(networks)),
            extra_hosts=tuple(_extra_hosts(written)),
            dns=tuple(map(str, _sequence(written.get("dns")))),
            command=tuple(unescaped(str(word)) for key in ("entrypoint", "command") for word in _sequence(written.get(key))),
            replicas=_replicas(written),
        )

    def _place_of(self, path: Loc, variable: str) -> str:
        """Where a variable stands, as `file:line:column`."""
        place = self._places.get((*path, "environment", variable))
        return f"{place[0]}:{place[1]}:{place[2]}" if place is not None else CONFIG

    def _key_places(self, path: Loc) -> dict[str, Place]:
        own = {loc[2]: place for loc, place in self._places.items() if loc[:2] == path and len(loc) == 3}
        return {"": self.place(path), **{str(key): place for key, place in own.items()}}


def unescaped(text: str) -> str:
    """A value as the container will see it."""
    return text.replace("$$", "$")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, Sequence) else ()


def _replicas(written: Mapping[str, Any]) -> int:
    asked = written.get("scale", _mapping(written.get("deploy")).get("replicas"))
    return int(asked) if asked is not None else 1


# ports


def _ports(written: Mapping[str, Any], protocol: str) -> tuple[int, ...]:
    """The ports shown for one protocol, those of `ports` before those of `expose`."""
    published = [
        int(entry["target"])
        for entry in _sequence(written.get("ports"))
        if isinstance(entry, Mapping) and "target" in entry and entry.get("protocol", "tcp") == protocol
    ]
    exposed = [port for entry in _sequence(written.get("expose")) for port in _exposed(str(entry), protocol)]
    return tuple(dict.fromkeys([*published, *exposed]))


def _exposed(entry: str, protocol: str) -> Iterator[int]:
    match = _EXPOSED.fullmatch(entry)
    if match is not None and (match["protocol"] or "tcp") == protocol:
        yield from range(int(match["first"]), int(match["last"] or match["first"]) + 1)


# names


def _aliases(name: str, written: Mapping[str, Any], networks: Mapping[str, Any]) -> Iterator[str]:
    own = [str(written[key]) for key in ("container_name",) if written.get(key)]
    for network in networks.values():
        own += [str(alias) for alias in _sequence(_mapping(network).get("aliases"))]
    yield from (alias for alias in dict.fromkeys(own) if alias != name)


def _links(written: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """`links: ["b:bee"]` lets this one service call b `bee`."""
    for link in _sequence(written.get("links")):
        service, colon, alias = str(link).partition(":")
        if colon and alias != service:
            yield alias, service


def _addresses(networks: Mapping[str, Any]) -> Iterator[str]:
    for network in networks.values():
        for key in ("ipv4_address", "ipv6_address"):
            address = _mapping(network).get(key)
            if address:
                yield str(address)


def _extra_hosts(written: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    entries = written.get("extra_hosts")
    if isinstance(entries, Mapping):
        yield from ((str(host), str(address)) for host, address in entries.items())
        return
    for entry in _sequence(entries):
        host, address = re.split(r"[=:]", str(entry), maxsplit=1) if re.search(r"[=:]", str(entry)) else (str(entry), "")
        yield host, address


# health


def _healthcheck(written: Mapping[str, Any]) -> HealthCheck | None:
    test = [unescaped(str(word)) for word in _sequence(written.get("test"))]
    if written.get("disable") or not test or test[0] == "NONE":
        return None
    kind, *words = test
    asked = tuple(words) if kind == "CMD" else ("/bin/sh", "-c", *words) if kind == "CMD-SHELL" else ("/bin/sh", "-c", *test)
    default = HealthCheck(asked)
    return HealthCheck(
        asked,
        interval=_seconds(written.get("interval")) or default.interval,
        timeout=_seconds(written.get("timeout")) or default.timeout,
        retries=int(written.get("retries") or default.retries),
        start_period=_seconds(written.get("start_period")),
    )


def _seconds(value: Any) -> float:
    """A duration as Compose writes it, "1m30s", or a number of nanoseconds; 0 where there is none."""
    if isinstance(value, int | float):
        return value / 1e9
    return sum(float(number) * HOURS[unit] for number, unit in _STRETCH.findall(str(value or "")))


# places


def places_in(paths: Sequence[Path]) -> dict[Loc, Place]:
    """Where services, their keys and variables stand in Compose files, the last file that says a thing counting.

    A file that only Compose can read (tags of its own, unusual YAML) says nothing here, and is no error.
    """
    found: dict[Loc, Place] = {}
    for path in paths:
        try:
            document = read_document(path, "a Compose file")
        except InvalidFile:
            continue
        services = document.data.get("services")
        for name, written in _mapping(services).items():
            found |= _places_of(document, name, _mapping(written), path.parent)
    return found


def _places_of(document: Document, name: str, written: Mapping[str, Any], folder: Path) -> dict[Loc, Place]:
    path: Loc = ("services", name)
    found = {path: _at(document, path)}
    for key, value in written.items():
        found[*path, key] = _at(document, (*path, key))
        if isinstance(value, list):
            found |= {(*path, key, index): _at(document, (*path, key, index)) for index in range(len(value))}
    found |= {(*path, "environment", variable): place for variable, place in _in_env_files(written, folder)}
    variables = written.get("environment")
    if isinstance(variables, list):
        named = {str(entry).partition("=")[0]: (*path, "environment", index) for index, entry in enumerate(variables)}
    else:
        named = {str(variable): (*path, "environment", variable) for variable in _mapping(variables)}
    return found | {(*path, "environment", variable): _at(document, loc, at_key=False) for variable, loc in named.items()}


def _in_env_files(written: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Place]]:
    for entry in _sequence(written.get("env_file")):
        file = folder / str(entry.get("path", "") if isinstance(entry, Mapping) else entry)
        try:
            for number, (variable, _) in read_env_file(file).items():
                yield variable, (shown(file), number, 1)
        except InvalidFile:
            continue


def _at(document: Document, path: Loc, *, at_key: bool = True) -> Place:
    problem = document.problem(path, "", at_key=at_key)
    return problem.file, problem.line, problem.column
