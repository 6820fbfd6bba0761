"""The container of the guardian at a Docker engine: how it is started there, and spoken to."""

from __future__ import annotations

import inspect
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.runtime.containers import watch_inside
from harness.runtime.containers.images import PYTHON_IMAGE, images_with_python
from harness.runtime.containers.removal import GUARDIAN_LABEL, PROJECT_LABEL

STANDARD_SOCKET = "/var/run/docker.sock"
SOCKET_INSIDE = "/engine.sock"
EVENTS_INSIDE = "/events.jsonl"
FIRST_WORDS_SECONDS = 10.0
FRAME = 8
"""Bytes before each piece of a container's output: which stream it is of, and how long it is."""

MEMORY = 128 * 2**20
PROCESSES = 64


class NotGuarded(Exception):
    """No guardian can be had at this engine; says why."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What the guardian of a run is asked to do, as `watch_inside.Asked` says it; `events` is where the run's are."""

    project: str
    lease: float
    patience: float
    undo: str
    by: str
    events: Path


@dataclass(frozen=True, slots=True)
class Way:
    """What may be handed in, on the engine's host: its socket, and the file of the run's events where it may be there."""

    socket: str
    events: str = ""


def ways_in(host: str, events: Path) -> Iterator[Way]:
    """What to try, best first: the socket that leads to the engine from here may be called otherwise where the engine is, as
    in a virtual machine, and files of this machine may not be there.
    """
    is_local = host.startswith("unix://")
    sockets = [*([host.removeprefix("unix://")] if is_local else []), STANDARD_SOCKET]
    for path in dict.fromkeys(sockets):
        if is_local:
            yield Way(path, str(events.resolve()))
        yield Way(path)


def container_config(image: str, name: str, errand: Errand, way: Way) -> dict[str, Any]:
    """The container, as the engine's API words it: no network, no rights beyond the socket's, gone when it ends.

    It may pass over the owner of the file of events, which is whoever runs the harness.
    """
    own = f"{GUARDIAN_LABEL}={errand.project}"
    asked = watch_inside.Asked(
        engine=SOCKET_INSIDE,
        label=f"{PROJECT_LABEL}={errand.project}",
        container=name,
        own=own,
        lease=errand.lease,
        patience=errand.patience,
        events=EVENTS_INSIDE,
        undo=errand.undo,
        by=errand.by,
    )
    handed_in = [(way.socket, SOCKET_INSIDE), *([(way.events, EVENTS_INSIDE)] if way.events else [])]
    return {
        "Image": image,
        "Entrypoint": ["python3", "-I", "-S", "-B", "-c", inspect.getsource(watch_inside)],
        "Cmd": [json.dumps(asdict(asked))],
        "Labels": {GUARDIAN_LABEL: errand.project},
        "User": "0:0",
        "WorkingDir": "/",
        "Healthcheck": {"Test": ["NONE"]},
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "AutoRemove": True,
            "Mounts": [{"Type": "bind", "Source": source, "Target": target} for source, target in handed_in],
            "NetworkMode": "none",
            "UsernsMode": "host",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "CapAdd": ["DAC_OVERRIDE"],
            "SecurityOpt": ["label=disable", "no-new-privileges"],
            "Memory": MEMORY,
            "PidsLimit": PROCESSES,
            "LogConfig": {"Type": "none"},
        },
    }


class GuardianContainer:
    """One such container, and its standard streams; the engine closes them when whoever holds this is gone."""

    def __init__(self, client: Any, name: str) -> None:
        self.name = name
        self._client = client
        self._raw = client.api.attach_socket(name, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        self._socket: socket.socket = getattr(self._raw, "_sock", self._raw)

    def say(self, what: bytes) -> None:
        """Say it; one that is not there any more does not answer."""
        with suppress(OSError):
            self._socket.sendall(what)

    def hear(self, within: float) -> bytes | None:
        """What it writes within so many seconds, with what frames it: nothing at its end, None where it is silent."""
        self._socket.settimeout(max(0.001, within))
        try:
            return self._socket.recv(4096)
        except TimeoutError:
            return None
        except OSError:
            return b""

    def first_words(self) -> str:
        """What it writes first: that it watches, or why it cannot."""
        until, said = time.monotonic() + FIRST_WORDS_SECONDS, b""
        while len(said) < (whole := FRAME + int.from_bytes(said[4:FRAME], "big")) or not said[FRAME:]:
            piece = self.hear(until - time.monotonic())
            if piece is None:
                return f"it said nothing for {FIRST_WORDS_SECONDS:g} s"
            if not piece:
                break
            said += piece
        return said[FRAME:whole].decode("utf-8", "replace").strip() or "it ended at once"

    def why_ended(self) -> str:
        """How the engine tells its end; raises what docker's SDK raises where the engine does not answer."""
        from docker.errors import NotFound

        try:
            state = self._client.api.inspect_container(self.name)["State"]
        except NotFound:
            return "it was removed"
        return "what led to it was closed" if state["Running"] else f"it ended with exit code {state['ExitCode']}"

    def close(self) -> None:
        """Nothing more is said, which it takes for the end of the harness."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            getattr(self._raw, "_response", self._raw).close()  # docker's SDK keeps the answer that the socket is of
            self._socket.close()


def image_for(client: Any) -> str:
    """An image with Python in it: one that is there, else one that is pulled; raises NotGuarded where none can be had."""
    import requests
    from docker.errors import DockerException, ImageNotFound

    names = images_with_python()
    for name in names:
        with suppress(ImageNotFound):
            client.images.get(name)
            return name
    try:
        client.images.pull(names[0])
    except (DockerException, requests.RequestException) as error:
        raise NotGuarded(
            f"expected {names[0]}, or another image with Python that {PYTHON_IMAGE} names, found that it could not be had: "
            f"{said_by(error)}"
        ) from error
    return names[0]


def start_container(client: Any, image: str, name: str, errand: Errand, way: Way) -> GuardianContainer:
    """Start it, and return when it watches; raises NotGuarded where it cannot watch in this way, and leaves nothing then."""
    import requests
    from docker.errors import DockerException

    container: GuardianContainer | None = None
    try:
        client.api.create_container_from_config(container_config(image, name, errand, way), name)
        container = GuardianContainer(client, name)
        client.api.start(name)
        said = container.first_words()
        if said == watch_inside.HERE.decode().strip():
            return container
    except (DockerException, requests.RequestException, OSError) as error:
        said = said_by(error)
    if container is not None:
        container.close()
    with suppress(DockerException, requests.RequestException, OSError):
        client.api.remove_container(name, force=True, v=True)
    raise NotGuarded(said)


def said_by(error: Exception) -> str:
    """The engine's own words where there are such."""
    return str(getattr(error, "explanation", None) or error).strip()
