"""What the engine tells while a run lasts: what becomes of its containers, and what they write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CouldNotRun
from harness.runtime.containers.project import how_ended
from harness.runtime.containers.removal import PROJECT_LABEL, SERVICE_LABEL

TOLD = ("start", "die", "kill", "stop", "pause", "unpause", "restart", "oom", "update", "health_status")
"""The events of containers that are asked for; those of health checks' own commands would be a flood."""

TOLD_OF_NETWORKS = ("connect", "disconnect")
"""These do not say whose project they belong to, so they are asked for from everybody."""


OPENED_WITHIN = 4.5
"""Seconds until an engine must have begun to tell."""


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something that became of a container. `engine_time` is on the engine's clock, seconds since the epoch."""

    at: float
    engine_time: float
    container: str
    name: str
    service: str
    what: str
    detail: str


class EventStream:
    """Hands every event of a run's containers on, from `begin` until `end`, in a thread of its own."""

    def __init__(self, client: Any, project: str, hand_on: Callable[[ContainerEvent], None]) -> None:
        self._client, self._project, self._hand_on = client, project, hand_on
        self._stream: Any = None
        self._opened = threading.Event()
        self._ended = False
        self.failure: Exception | None = None
        self._known: dict[str, tuple[str, str]] = {}

    def begin(self) -> None:
        """Events from now on are told. Raises CouldNotRun where the engine does not begin to tell."""
        threading.Thread(target=self._follow, daemon=True, name="docker events").start()
        if not self._opened.wait(OPENED_WITHIN):
            self.end()
            found = f"expected a stream of events within {OPENED_WITHIN:g} s, found none: it hangs"
            raise CouldNotRun(f"the Docker engine: {found}; restart it, then: chaos gc")
        if self.failure is not None:
            raise self.failure

    def end(self) -> None:
        """No more is told."""
        self._ended = True
        if self._stream is not None:
            with suppress(Exception):  # whatever is wrong with a stream that is given up
                self._stream.close()

    def _follow(self) -> None:
        """Until the stream is closed here; one that ends otherwise is a `failure`: what it would have told is missing."""
        filters = {"type": ["container", "network"], "event": [*TOLD, *TOLD_OF_NETWORKS]}
        try:
            self._stream = self._client.events(decode=True, filters=filters)
            self._opened.set()
            for told in self._stream:
                event = self._event_of(told)
                if event is not None:
                    self._hand_on(event)
            failure: Exception = CouldNotRun("the Docker engine's stream of events ended: did the engine end?")
        except Exception as error:
            failure = error
        if not self._ended:
            self.failure = failure
        self._opened.set()

    def _event_of(self, told: dict[str, Any]) -> ContainerEvent | None:
        """An event of this run, None for somebody else's."""
        actor = told.get("Actor", {})
        attributes = actor.get("Attributes", {})
        if told.get("Type") == "container":
            if attributes.get(PROJECT_LABEL) != self._project:
                return None
            self._known[actor.get("ID", "")] = (attributes.get("name", ""), attributes.get(SERVICE_LABEL, ""))
            return _event(told, attributes)
        known = self._known.get(attributes.get("container", ""))
        if known is None:
            return None
        name, service = known
        at, engine_time = time.time(), told.get("timeNano", 0) / 1e9
        return ContainerEvent(
            at, engine_time, attributes["container"], name, service, told["Action"], attributes.get("name", "")
        )


def _event(told: dict[str, Any], attributes: dict[str, str]) -> ContainerEvent:
    what, _, detail = str(told.get("Action", "")).partition(": ")
    if what == "die":
        code = attributes.get("exitCode", "")
        detail = how_ended(int(code) if code.isdigit() else None)
    elif what == "kill":
        detail = f"signal {attributes.get('signal', '?')}"
    return ContainerEvent(
        at=time.time(),
        engine_time=told.get("timeNano", 0) / 1e9,
        container=told.get("Actor", {}).get("ID", ""),
        name=attributes.get("name", ""),
        service=attributes.get(SERVICE_LABEL, ""),
        what=what,
        detail=detail,
    )


class LogFollower:
    """Writes what containers say to the run's logs, as they say it; `listen` is given each line of a service."""

    def __init__(
        self, client: Any, log_file: Callable[[str], Path], listen: Callable[[str, bytes], None] | None = None
    ) -> None:
        self._client, self._log_file, self._listen = client, log_file, listen
        self._lock = threading.Lock()

    def follow(self, container: str, service: str, since: float) -> None:
        """Follow a container that was just started, until it stops."""
        thread = threading.Thread(target=self._follow, args=(container, service, since), daemon=True, name=f"log {service}")
        thread.start()

    def _follow(self, container: str, service: str, since: float) -> None:
        path = self._log_file(service)
        with suppress(Exception):  # the container is gone, or the engine: what it said until then is written
            stream = self._client.api.logs(container, stream=True, follow=True, since=since)
            rest = b""
            with path.open("ab", buffering=0) as log:
                for piece in stream:
                    *lines, rest = (rest + piece).split(b"\n")
                    self._write(log, service, lines)
                if rest:
                    self._write(log, service, [rest])

    def _write(self, log: Any, service: str, lines: list[bytes]) -> None:
        with self._lock:
            for line in lines:
                log.write(line + b"\n")
        if self._listen is not None:
            for line in lines:
                self._listen(service, line)
