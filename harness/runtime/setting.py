"""What a run needs beside its plan: how the system runs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.model.compose import Compose
from harness.model.system import LocalService


@dataclass(frozen=True, slots=True)
class Setting:
    """How the system of a run is brought up.

    `overrides` are variables laid over a service's environment, by service (a planted defect, `--env`); `why` says
    why this runtime was taken, `command` how to run the same again. `config` is what `docker compose config` made of
    the Compose files, for the runtime `docker`; `warnings` are what a reader of the verdict has to know.
    """

    run: str
    compose: Compose
    local: Mapping[str, LocalService]
    folder: Path
    locustfile: Path
    why: str
    command: str
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    runtime: Literal["local", "docker"] = "local"
    engine: Literal["embedded", "toxiproxy"] = "embedded"
    config: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
