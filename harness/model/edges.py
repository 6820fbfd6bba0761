"""Edges: who depends on whom, and how that is read from the environment of a service.

Every edge has its own proxy.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from harness.model.parts import Name, Part

CLIENT = "client"
"""The caller of the edge that leads into the system: whoever drives the load."""

Protocol = Literal["http", "postgresql", "redis", "tcp"]
"""What is spoken on an edge, as far as its address tells; it decides which probe can see a fault."""

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

EDGE = re.compile(r"\s*(?P<caller>[\w.-]+)\s*->\s*(?P<callee>[\w.-]+?)(?::(?P<port>\d{1,5}))?(?:/(?P<protocol>[\w.-]*))?\s*")
"""An edge as `edges:` has it: `web -> api`, `web -> api:9000`, `web -> api:9000/http`."""


class Edge(Part):
    """A dependency: `caller` opens connections to `callee` on `port`.

    `name` is `caller -> callee`, with `:port` behind it where the caller uses several ports of one callee.
    `read_from` tells where the edge was found, as file, line and key.
    """

    name: str
    caller: Name
    callee: Name
    port: int
    protocol: Protocol = "tcp"
    read_from: str = ""


def is_port(number: int) -> bool:
    """Whether something can listen there."""
    return 0 < number < 65536


SCHEMES: dict[str, tuple[Protocol, int]] = {
    "http": ("http", 80),
    "https": ("tcp", 443),
    "ws": ("http", 80),
    "grpc": ("tcp", 0),
    "postgres": ("postgresql", 5432),
    "postgresql": ("postgresql", 5432),
    "redis": ("redis", 6379),
    "rediss": ("tcp", 6379),
    "mysql": ("tcp", 3306),
    "mariadb": ("tcp", 3306),
    "mongodb": ("tcp", 27017),
    "amqp": ("tcp", 5672),
    "amqps": ("tcp", 5671),
    "nats": ("tcp", 4222),
    "kafka": ("tcp", 9092),
}
"""What a URL's scheme says about what is spoken, and the port where the URL names none (0: none known)."""

WELL_KNOWN: dict[int, Protocol] = {5432: "postgresql", 6379: "redis", 80: "http", 8000: "http", 8080: "http"}
"""What is most likely spoken on a port that no URL tells anything about."""

HOST_VARIABLE = re.compile(
    r"(^|_)(HOST|HOSTNAME|HOSTS|ADDR|ADDRESS|SERVER|SERVERS|ENDPOINT|BROKER|BROKERS|URL|URI)$", re.IGNORECASE
)
"""Variables whose bare value is a host; a `POSTGRES_USER: postgres` is not one."""

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30})://(?P<rest>[^\s/?#\"']+)")
_HOST = re.compile(r"(?P<host>[A-Za-z0-9_][\w.-]*)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Mention:
    """A place in a value that names a service: `value[start:end]` is `host` or `host:port` as written.

    `port` is None where none is written; `default_port` is then the one its scheme stands for, 0 where none does.
    """

    service: str
    port: int | None
    protocol: Protocol
    default_port: int
    start: int
    end: int


def find_mentions(variable: str, value: str, services: Collection[str]) -> tuple[Mention, ...]:
    """Every service that the value of a variable leads to: in URLs, as `host:port`, or as a bare host."""
    in_urls = _mentions_in_urls(value, services)
    return in_urls if in_urls or "://" in value else _mentions_of_hosts(variable, value, services)


def _mentions_in_urls(value: str, services: Collection[str]) -> tuple[Mention, ...]:
    found = []
    for url in _URL.finditer(value):
        scheme = url["scheme"].lower().split("+")[0]
        protocol, default_port = SCHEMES.get(scheme, ("tcp", 0))
        offset = url.start("rest") + url["rest"].rfind("@") + 1
        for host in _HOST.finditer(value, offset, url.end("rest")):
            if host["host"] in services and value[host.start() - 1] in "/@,":
                port = int(host["port"]) if host["port"] else None
                found.append(Mention(host["host"], port, protocol, default_port, host.start(), host.end()))
    return tuple(found)


def _mentions_of_hosts(variable: str, value: str, services: Collection[str]) -> tuple[Mention, ...]:
    found = []
    position = 0
    for piece in re.split(r"([,;\s]+)", value):
        host = _HOST.fullmatch(piece)
        if host is not None and host["host"] in services and (host["port"] or HOST_VARIABLE.search(variable)):
            port = int(host["port"]) if host["port"] else None
            protocol = WELL_KNOWN.get(port or 0, "tcp")
            found.append(Mention(host["host"], port, protocol, 0, position, position + len(piece)))
        position += len(piece)
    return tuple(found)
