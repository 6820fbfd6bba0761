"""What a run needs beside its plan: how the system runs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.model.compose import Compose
from harness.model.system import LocalService
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.guardian import LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Setting:
    """How the system of a run is brought up.

    `overrides` are variables laid over a service's environment, by service (a planted defect, `--env`); `why` says
    why this runtime was taken, `command` how to run the same again. `warnings` are what a reader of the verdict has to
    know. `docker` is the engine for containers, None for local processes. `lease` is for how many seconds the harness may
    give its guardian no sign of life.
    """

    run: str
    compose: Compose
    local: Mapping[str, LocalService]
    folder: Path
    locustfile: Path
    why: str
    command: str
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    engine: Literal["embedded", "toxiproxy"] = "embedded"
    compose_files: tuple[Path, ...] = ()
    docker: DockerEngine | None = None
    warnings: tuple[str, ...] = ()
    lease: float = LEASE_SECONDS
