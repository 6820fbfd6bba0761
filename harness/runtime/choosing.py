"""Decides what a system is run on, and says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.errors import InvalidInput, MissingPart
from harness.runtime.containers.engine import DockerEngine, find_engine

RuntimeAsked: TypeAlias = Literal["auto", "docker", "local"]
EngineAsked: TypeAlias = Literal["auto", "toxiproxy", "embedded"]
Engine: TypeAlias = Literal["toxiproxy", "embedded"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a system is run on: containers of the engine `docker`, or local processes where that is None; and why.

    `engine` is auto where the proxies are those that can do what a scenario asks for.
    """

    engine: EngineAsked
    why: str
    docker: DockerEngine | None = None


def choose(runtime: RuntimeAsked, engine: EngineAsked, environ: Mapping[str, str]) -> Choice:
    """Containers where a Docker engine answers, else local processes; raises MissingPart where what was asked for is away."""
    if runtime == "local":
        return _local(engine, "asked for by --runtime")
    try:
        docker = find_engine(environ)
    except MissingPart as missing:
        if runtime == "docker":
            raise MissingPart(f"--runtime docker: {missing}") from missing
        return _local(engine, str(missing))
    why = f"a Docker engine answers at {docker.host}"
    why = f"asked for by --runtime; {why}" if runtime == "docker" else why
    return Choice(engine, why, docker)


def _local(engine: EngineAsked, why: str) -> Choice:
    if engine == "toxiproxy":
        raise InvalidInput(
            f"--engine toxiproxy: expected containers, found local processes ({why}); "
            f"Toxiproxy runs as a container, local processes have the embedded engine"
        )
    return Choice("embedded", why)
