"""The guardian at the Docker engine, as the harness sees it: a container that removes the run when nobody else can.

The guardian on this machine goes first; but whoever ends every process of a job, as CI runners do, ends it too, and the
containers stay. This one is out of their reach. What it does is in `watch_inside`. Here it is started, beside the bring-up and
never before it, and told every second that the run goes on, on its standard input, which the engine closes when the harness
is gone. It takes an image with Python, and the engine's socket; where one of them cannot be had, the run goes on without,
and says so. Once it watches, its end ends the run, as the other guardian's does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import CouldNotRun
from harness.history.events import EngineGuarded
from harness.history.store import EVENTS
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.containers.watch_container import (
    Errand,
    GuardianContainer,
    NotGuarded,
    image_for,
    said_by,
    start_container,
    ways_in,
)
from harness.runtime.recorder import now
from harness.runtime.stopping import Stop
from harness.runtime.undo import RemoveProject, describe

BEAT = b"beat\n"
BEAT_SECONDS = 1.0

PATIENCE_SECONDS = 3.0
"""For how long nothing may have become of a run until its guardian at the engine takes its turn: others go first, and tell
what they heal within a second.
"""

START_SECONDS = 10.0
"""How long a system that stands waits for its guardian at the engine, which was started when it was."""

LATE_SECONDS = 5.0
"""How much longer than the lease a beat and its answer may take, for either side: they come by way of the engine."""

ENGINE_SECONDS = 3.0
"""An engine that is gone is told by whoever follows its events; until then its guardian's end is no news."""

LET_GO_SECONDS = 20.0
BY = "guardian at the Docker engine"


class EngineGuardian:
    """The guardian of one run at its engine, between `begin` and `close`."""

    def __init__(
        self,
        undo: RemoveProject,
        engine: DockerEngine,
        folder: Path,
        *,
        lease: float,
        stop: Stop,
        record: Callable[[EngineGuarded], None],
    ) -> None:
        self._engine, self._lease, self._stop, self._record = engine, lease, stop, record
        self._errand = Errand(undo.project, lease + LATE_SECONDS, PATIENCE_SECONDS, describe(undo), BY, folder / EVENTS)
        self._starting = threading.Lock()
        self._known = threading.Event()
        self._let_go = threading.Event()
        self._over = threading.Event()
        self._container: GuardianContainer | None = None
        self._thread = threading.Thread(target=self._guard, daemon=True, name="guardian at the engine")

    def begin(self) -> None:
        """Start it, beside everything else."""
        self._thread.start()

    def wait_until_known(self) -> None:
        """Until it watches, or cannot; one that takes too long is done without."""
        until = now() + START_SECONDS
        while not self._known.is_set() and now() < until:
            self._stop.wait_until(min(until, now() + 0.05))
        if not self._known.is_set():
            self._stop.busy(LET_GO_SECONDS)
            self.let_go()
            self._tell(f"it was not there {START_SECONDS:g} s after the system stood: an image with Python is being pulled")

    def let_go(self) -> None:
        """The run is over: it goes on watching until nothing else is left; where it is not there yet, it never will be."""
        self._let_go.set()
        if self._starting.acquire(timeout=LET_GO_SECONDS):  # what is being started is there when what there is is removed
            self._starting.release()

    def close(self) -> None:
        """Everything is undone; or what is not is left to it."""
        self._over.set()
        if self._container is not None:
            self._container.close()
            self._thread.join(BEAT_SECONDS)

    def _tell(self, why_not: str, image: str = "", seconds: float = 0.0) -> None:
        self._record(EngineGuarded(now(), image, round(seconds, 3), why_not))

    # in a thread of its own

    def _guard(self) -> None:
        import requests
        from docker.errors import DockerException

        began, image, why_not = time.monotonic(), "", ""
        client = None
        try:
            client = self._engine.client()
            image = image_for(client)
            self._start(client, image)
        except (NotGuarded, DockerException, requests.RequestException, OSError) as error:
            why_not = said_by(error)
        if not self._let_go.is_set():
            self._tell(why_not, image, time.monotonic() - began)
        self._known.set()
        if self._container is not None:
            self._beat(self._container)
        if client is not None:
            client.close()

    def _start(self, client: Any, image: str) -> None:
        """In the first way in which it can watch; raises NotGuarded where there is none, or nobody wants it any more."""
        reasons = []
        for number, way in enumerate(ways_in(self._engine.host, self._errand.events)):
            name = f"{self._errand.project}-guardian" + (f"-{number + 1}" if number else "")
            with self._starting:
                if self._let_go.is_set():
                    raise NotGuarded("the run was over before it was there")
                try:
                    self._container = start_container(client, image, name, self._errand, way)
                except NotGuarded as error:
                    reasons.append(str(error))
                else:
                    return
        raise NotGuarded(reasons[0])

    def _beat(self, container: GuardianContainer) -> None:
        """As long as the run goes on, say so; the run ends where no answer comes."""
        unanswered: float | None = None
        while not self._over.is_set():
            due = time.monotonic() + BEAT_SECONDS
            if self._stop.goes_on:
                container.say(BEAT)
                unanswered = unanswered or time.monotonic()
            while (left := due - time.monotonic()) > 0 and not self._over.is_set():
                said = container.hear(left)
                if said == b"":
                    return self._tell_gone(container)
                unanswered = None if said else unanswered
            if unanswered is not None and time.monotonic() - unanswered > self._lease + LATE_SECONDS:
                return self._fail(container, f"did not answer for {self._lease + LATE_SECONDS:g} s")
        return None

    def _tell_gone(self, container: GuardianContainer) -> None:
        """Where the engine answers, it is for the run to end; where it does not, that is told by others first."""
        import requests
        from docker.errors import DockerException

        try:
            why = container.why_ended()
        except (DockerException, requests.RequestException, OSError):
            self._let_go.wait(ENGINE_SECONDS)
            why = "the engine does not answer"
        self._fail(container, f"is gone: {why}")

    def _fail(self, container: GuardianContainer, how: str) -> None:
        if not self._let_go.is_set():
            told = f"the guardian at the Docker engine (container {container.name}) {how}"
            self._stop.fail(CouldNotRun(f"{told}; nobody would have removed this run if all of its processes were killed"))
