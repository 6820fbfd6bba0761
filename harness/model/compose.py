"""The user's Compose file, as far as a run without containers honours it."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.errors import Problem


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

    `depends_on` maps a service to its condition: service_started or service_healthy. `ports` are the
    container ports that `ports` and `expose` show. `places` tells where each variable of `environment`
    stands, as `file:line:column`. `not_honoured` are the keys that a run without containers would have to
    ignore, each as the problem to report when such a run is asked for.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    depends_on: dict[str, str] = field(default_factory=dict)
    healthcheck: HealthCheck | None = None
    ports: tuple[int, ...] = ()
    places: dict[str, str] = field(default_factory=dict)
    not_honoured: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Compose:
    """All services by name, in the order of the file."""

    services: dict[str, ComposeService]
    not_honoured: tuple[Problem, ...] = ()
