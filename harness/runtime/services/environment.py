"""What a local service finds in its environment: the Compose file's variables, with every way to another service led
through that edge's proxy.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CouldNotRun
from harness.model.edges import Edge, Mention, find_mentions
from harness.runtime.ports import Address


@dataclass(frozen=True, slots=True)
class Route:
    """The way from one caller to one port of a callee: where that edge's proxy listens."""

    callee: str
    port: int
    proxy: Address


class NoWay(Exception):
    """A value that cannot be rewritten so that it leads through the proxy."""


def rewrite(value: str, mentions: Sequence[Mention], routes: Sequence[Route]) -> str:
    """The value with every mention of a service replaced by the address of the proxy on the way there.

    A mention that no edge was made of stays as it is. Raises NoWay where the proxy could not keep the callee's
    port and the value has no place for another.
    """
    for mention in sorted(mentions, key=lambda mention: mention.start, reverse=True):
        route = _route_for(mention, routes)
        if route is not None:
            value = value[: mention.start] + _written(value, mention, route) + value[mention.end :]
    return value


def _route_for(mention: Mention, routes: Sequence[Route]) -> Route | None:
    port = mention.port or mention.default_port
    fitting = (route for route in routes if route.callee == mention.service and port in (0, route.port))
    return next(fitting, None)


def _written(value: str, mention: Mention, route: Route) -> str:
    if mention.port is None and route.proxy.port == route.port:
        return route.proxy.host
    if mention.port is None and "://" not in value[: mention.start]:
        raise NoWay(f"port {route.port} of {route.callee} is taken on this machine, and the value has no port to change")
    return str(route.proxy)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the environment of every service is made of: the port each service shows, the edges, and the address of
    each edge's proxy. `folder` is the folder of the system.
    """

    ports: Mapping[str, int]
    edges: Sequence[Edge]
    proxies: Mapping[str, Address]
    folder: Path

    def routes_from(self, caller: str) -> tuple[Route, ...]:
        """Every way out of a service; to a port that the callee shows before others to the same callee."""
        routes = [Route(edge.callee, edge.port, self.proxies[edge.name]) for edge in self.edges if edge.caller == caller]
        return tuple(sorted(routes, key=lambda route: route.port != self.ports.get(route.callee)))


def environment_of(service: str, variables: Mapping[str, str], around: Surroundings) -> dict[str, str]:
    """All that a service's process gets: a small base, and over it its own `variables`, rewritten."""
    base = base_environment(around.folder)
    routes = around.routes_from(service)
    others = around.ports.keys() - {service}
    rewritten = {}
    for variable, value in variables.items():
        try:
            rewritten[variable] = rewrite(value, find_mentions(variable, value, others), routes)
        except NoWay as error:
            raise CouldNotRun(
                f"service {service}: {variable}={value} cannot be led through a proxy: {error}; "
                f"write it with its port, or free the port"
            ) from error
    path = [base["PYTHONPATH"], *filter(None, [rewritten.get("PYTHONPATH")])]
    return base | rewritten | {"PYTHONPATH": os.pathsep.join(path)}


def base_environment(folder: Path) -> dict[str, str]:
    """What a program needs to run at all, and nothing else of the user's environment."""
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return {
        "PATH": os.pathsep.join(programs),
        "HOME": os.environ.get("HOME", tempfile.gettempdir()),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "TMPDIR": tempfile.gettempdir(),
        "PYTHONPATH": str(folder.resolve().parent),
        "PYTHONUNBUFFERED": "1",
    }
