"""Containers that are killed again and again, each by a loop of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from harness.errors import ServiceFaultFailed
from harness.runtime.services.looping import Loop

LOOK_EVERY = 0.1
SOON = 0.05
DEAD_WITHIN = 8.0
"""How long an engine may take to notice that a container's main process was killed."""


class CrashLoops:
    """The crash loops of one run's containers; `crash` kills the main process of one, as it was last looked at."""

    def __init__(self, crash: Callable[[Any], None]) -> None:
        self._crash = crash
        self._loops: dict[str, list[Loop]] = {}

    def begin(self, service: str, containers: Sequence[Any], lives: float) -> None:
        """Kill each of them, and again whenever it has lived for so long. Returns when each was seen dead once."""
        for container in containers:
            self._kill(container)
        self._loops[service] = [Loop(container.name, _Lives(container, lives, self._kill).look) for container in containers]
        for loop in self._loops[service]:
            loop.begin()

    def are_at_work(self, service: str) -> bool:
        """Whether there are any, and each will go on."""
        loops = self._loops.get(service, [])
        return bool(loops) and all(loop.is_at_work for loop in loops)

    def end(self, service: str) -> Exception | None:
        """Nobody is killed any more when this returns; why one was not killed to the end, where that is so."""
        loops = self._loops.pop(service, [])
        for loop in loops:
            loop.end()
        return next((loop.failure for loop in loops if loop.failure is not None), None)

    def end_all(self) -> None:
        """Nobody is."""
        for service in tuple(self._loops):
            self.end(service)

    def _kill(self, container: Any) -> None:
        """Return when the engine has noticed: else it would still be told as running by whoever looks next."""
        finished = container.attrs["State"]["FinishedAt"]
        self._crash(container)
        until = time.monotonic() + DEAD_WITHIN
        while container.attrs["State"]["FinishedAt"] == finished:
            if time.monotonic() > until:
                raise ServiceFaultFailed(f"expected {container.name} to be dead within {DEAD_WITHIN:g} s, found it running")
            time.sleep(SOON)
            container.reload()


class _Lives:
    """One container that lives for a while, dies, is started by its restart policy or else from here, and so on."""

    def __init__(self, container: Any, lives: float, kill: Callable[[Any], None]) -> None:
        self._container, self._lives, self._kill = container, lives, kill
        self._started_at, self._seen = "", 0.0

    def look(self) -> float:
        """Do what is due; the seconds until there may be something again."""
        self._container.reload()
        state = self._container.attrs["State"]
        if state["Restarting"]:
            return LOOK_EVERY
        if not state["Running"]:
            self._container.start()
            return SOON
        if state["StartedAt"] != self._started_at:
            self._started_at, self._seen = state["StartedAt"], time.monotonic()
        left = self._seen + self._lives - time.monotonic()
        if left > 0:
            return min(left, LOOK_EVERY)
        self._kill(self._container)
        return SOON
