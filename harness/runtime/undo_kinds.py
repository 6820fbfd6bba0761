"""What can be undone, as data and in words: a closed union, of which any process can do what is left of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

from harness.runtime.ending import EndProcessGroup

FOLDER_PREFIX = "chaos-"

OWNER = ".harness"
"""In a run's folder, a file with the number of the process that made it, when that was started, and its machine's name."""


@dataclass(frozen=True, slots=True)
class RestoreProxies:
    """Heal everything on the proxy engine whose control API is at this URL. One that is gone holds no fault.

    `token_file` holds what the engine asks of whoever changes something, "" where it asks nothing.
    """

    control: str
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class RemoveFolder:
    """Remove a folder of the run, with whoever still works in it; only one named `chaos-…`, among the temporary files or
    where it says that it is a run's of this user.
    """

    path: str


@dataclass(frozen=True, slots=True)
class RemoveProject:
    """Remove the containers, networks and volumes of a run from the Docker engine at `host`.

    `certificates` is the folder of DOCKER_CERT_PATH where that engine is reached by TLS.
    """

    project: str
    host: str
    certificates: str


@dataclass(frozen=True, slots=True)
class RemoveControlGroup:
    """Remove a control group of the run, with the limits in it; who is in it goes back to the group at `back`."""

    path: str
    back: str


Undo: TypeAlias = EndProcessGroup | RestoreProxies | RemoveProject | RemoveFolder | RemoveControlGroup
KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in Undo.__args__}


def describe(undo: Undo) -> str:
    """The undo in words, as the history tells it."""
    match undo:
        case EndProcessGroup(pid=pid, name=name):
            return f"end {name} (pid {pid})"
        case RestoreProxies(control=control):
            return f"heal every proxy of {control}"
        case RemoveProject(project=project, host=host):
            return f"remove the containers, networks and volumes of {project} at {host}"
        case RemoveFolder(path=path):
            return f"remove {path}"
        case RemoveControlGroup(path=path):
            return f"remove the control group {path}"
        case _:
            assert_never(undo)
