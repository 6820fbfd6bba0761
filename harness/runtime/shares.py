"""What a run would share with another one that is under way: then it is refused, for each would see what the other does.

Nearly nothing is shared. On containers every network, every published port and every volume that is not external is the
run's own; processes have addresses, databases and temporary files of their own. What is left is what outlives a run:
external volumes and folders of the host on containers, SQLite's files on processes.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.model.compose import Compose
from harness.model.system import LocalService
from harness.runtime.containers.engine import DockerEngine

SQLITE = re.compile(r"\bsqlite3?(?:\+\w+)?:///(?P<path>[^\s?#'\"]+)(?P<options>\?\S*)?")
IN_MEMORY = ":memory:"


def shared_at(engine: DockerEngine, compose: Compose) -> tuple[str, ...]:
    """What containers would write to that no run has for itself, in words that are the same for every run, wherever it is
    and by whatever address it asks the engine.
    """
    volumes = [f"the volume {name}" for name in compose.volumes_kept]
    paths = [path for path in compose.host_paths_written if not (engine.is_here and _is_door(Path(path)))]
    return tuple(f"{thing} at the Docker engine {engine.id}" for thing in (*volumes, *paths))


def _is_door(path: Path) -> bool:
    """Sockets and devices hold nothing themselves."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISDIR(mode) or stat.S_ISREG(mode))


def shared_here(
    compose: Compose, local: Mapping[str, LocalService], overrides: Mapping[str, Mapping[str, str]], folder: Path
) -> tuple[str, ...]:
    """What processes would write to that no run has for itself: databases that are files, named in the system's `folder`."""
    found: dict[str, None] = {}
    for name, service in compose.services.items():
        variables = {**service.environment, **overrides.get(name, {})}
        command = local[name].command if name in local else None
        for text in (*variables.values(), command or ""):
            found |= dict.fromkeys(str((folder / path).resolve()) for path in _sqlite_files(text))
    return tuple(found)


def _sqlite_files(text: str) -> Iterator[str]:
    for match in SQLITE.finditer(text):
        if match["path"] != IN_MEMORY and "mode=ro" not in (match["options"] or ""):
            yield match["path"]
