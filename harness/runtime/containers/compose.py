"""The Compose command line: what it makes of the user's files, and bringing up what was rewritten."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InvalidInput, MissingPart
from harness.history.lines import object_in

CONFIG_SECONDS = 60.0
READING = "chaos-reading"
"""The project's name while files are only read."""

BUILDING = "chaos-building"
"""The project's name while images are built."""


def compose_config(files: Sequence[Path], environ: Mapping[str, str], project: str = READING) -> dict[str, Any]:
    """The system as Compose resolves it: includes, extends, env files, variables, profiles.

    `project` is the name that volumes and networks are given. Raises InvalidInput with Compose's own words.
    """
    argv = ["docker", "compose", "-p", project]
    for file in files:
        argv += ["-f", str(file)]
    try:
        done = subprocess.run(
            [*argv, "config", "--format", "json"],
            env=dict(environ),
            capture_output=True,
            timeout=CONFIG_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPart(f"docker compose config could not be run: {error}") from error
    if done.returncode != 0:
        told = "; ".join(str(file) for file in files)
        said = done.stderr.decode("utf-8", "replace").strip()
        raise InvalidInput(f"{told}: expected Compose files, docker compose found: {said}")
    config = object_in(done.stdout)
    if config is None:
        raise MissingPart(f"docker compose config: expected JSON, found something else: {done.stdout[:100]!r}")
    return config


def build_command(model: Path) -> list[str]:
    """Builds what is out of date. Compose writes its project's name into an image, so all runs build under one: what has
    not changed stays the same image.
    """
    return [*_compose(BUILDING, model), "build"]


def up_command(project: str, model: Path, *services: str) -> list[str]:
    """Starts these services, or all, in the order of `depends_on`; what is built was built before."""
    return [*_compose(project, model), "up", "--detach", "--no-build", "--quiet-pull", *services]


def _compose(project: str, model: Path) -> list[str]:
    file = ["-f", str(model), "--project-directory", str(model.parent)]
    return ["docker", "compose", "--progress", "plain", "-p", project, *file]
