"""The user's Compose file, as far as edges, local runs, and what containers cannot carry are read from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from harness.errors import Problem

Place: TypeAlias = tuple[str, int, int]
"""File, line and column; both are 0 where nothing but the file is known."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A health check's `test` as an argument list (`CMD-SHELL` and strings become `/bin/sh -c …`), times in seconds."""

    test: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    retries: int = 3
    start_period: float = 0.0


@dataclass(frozen=True, slots=True)
class ComposeService:
    """One entry of `services:`, interpolated, with its `env_file` already merged under its `environment`.

    `depends_on` maps a service to its condition: service_started, service_healthy or (in containers)
    service_completed_successfully. `ports` are the container ports that `ports` and `expose` show for TCP, `udp_ports`
    those for UDP. `places` tells where each variable of `environment` stands, as `file:line:column`; `key_places`
    where each key of the service stands, and under "" the service itself. `restart` is the policy as Compose writes it:
    no, always, unless-stopped, on-failure or on-failure:N, "" where none is written. `not_honoured` are the keys that a run
    without containers would have to ignore, each as the problem to report when such a run is asked for.

    What follows is known only of a file that Compose itself has read. `shares_network_with` is the service in whose
    network this one lives (`network_mode: service:x`, followed to its end), "" for one with a network of its own.
    `aliases` are further names it answers to everywhere, `links` such names of others that only it knows,
    `addresses` the fixed addresses it asks for, `extra_hosts` pairs of a host and its address.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    depends_on: dict[str, str] = field(default_factory=dict)
    healthcheck: HealthCheck | None = None
    ports: tuple[int, ...] = ()
    places: dict[str, str] = field(default_factory=dict)
    not_honoured: tuple[Problem, ...] = ()
    restart: str = ""
    key_places: dict[str, Place] = field(default_factory=dict)
    udp_ports: tuple[int, ...] = ()
    network_mode: str = ""
    shares_network_with: str = ""
    aliases: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    replicas: int = 1

    def place_of(self, key: str) -> Place:
        """Where a key of the service stands, or else the service itself."""
        return self.key_places.get(key) or self.key_places.get("") or ("compose", 0, 0)


@dataclass(frozen=True, slots=True)
class Compose:
    """All services by name, in the order of the file. `external_volumes` and `external_networks` are not the run's own.

    What follows is known only of a file that Compose itself has read, and is what two runs of it would write to:
    `volumes_kept` are the real names of the external volumes, `host_paths_written` what of the engine's host is mounted
    and not read-only.
    """

    services: dict[str, ComposeService]
    not_honoured: tuple[Problem, ...] = ()
    external_volumes: tuple[str, ...] = ()
    external_networks: tuple[str, ...] = ()
    volumes_kept: tuple[str, ...] = ()
    host_paths_written: tuple[str, ...] = ()

    def at_home(self, service: str) -> str:
        """The service in whose network this one lives: itself, unless it shares another's."""
        found = self.services.get(service)
        return found.shares_network_with or service if found is not None else service

    def names_for(self, caller: str) -> dict[str, str]:
        """Every name by which a service can call another, and whose it is; one without a network of its own has none."""
        home = self.at_home(caller)
        found: dict[str, str] = {}
        for name, service in self.services.items():
            if self.at_home(name) != home:
                found.update(dict.fromkeys((name, *service.aliases, *service.addresses), name))
        own = {alias: name for alias, name in self.services[caller].links.items() if name in found}
        return {**found, **own}
