"""Asks a Docker engine again and again whether it is there: one that hangs tells nothing by itself.

An engine that is gone is told by the end of its stream of events; one that takes every call and answers none looks to
that stream as if nothing happened.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.errors import CouldNotRun
from harness.history.events import WedgeNoticed
from harness.runtime.containers.engine import DockerEngine, client_of, knock

if TYPE_CHECKING:
    import docker

EVERY = 0.5
ANSWER_WITHIN = 4.0
"""Seconds for one answer. With the pause before it, what hangs is noticed within 5 s."""


class EnginePulse:
    """Looks in a thread of its own between `begin` and `end`; `check` raises once the engine hung."""

    def __init__(self, engine: DockerEngine, tell: Callable[[WedgeNoticed], None], within: float = ANSWER_WITHIN) -> None:
        self._engine, self._tell, self._within = engine, tell, within
        self._ended = threading.Event()
        self._failure: CouldNotRun | None = None
        self._client: docker.DockerClient | None = None

    def begin(self) -> None:
        """Look from now on."""
        threading.Thread(target=self._work, daemon=True, name="docker pulse").start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def check(self) -> None:
        """Raise CouldNotRun where the engine did not answer in time."""
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            while not self._ended.wait(EVERY):
                if self._hangs() and not self._ended.is_set():
                    self._notice()
                    return
        finally:
            self._let_go()

    def _notice(self) -> None:
        found = f"expected an answer within {self._within:g} s, found none: it hangs"
        self._failure = CouldNotRun(f"the Docker engine at {self._engine.host}: {found}; restart it, then: chaos gc")
        self._tell(WedgeNoticed(time.time(), "Docker engine", f"{found}; the run ends"))

    def _hangs(self) -> bool:
        """One look. An engine that is gone does not hang: that is told by others."""
        import requests
        from docker.errors import DockerException

        began = time.monotonic()
        try:
            knock(self._engine.host)
            if self._client is None:
                self._client = client_of(self._engine.host, self._engine.certificates, self._within, version=None)
            self._client.ping()
        except BlockingIOError:  # so many wait at its socket that no more can
            return True
        except (DockerException, requests.RequestException, OSError):
            self._let_go()
            return time.monotonic() - began >= self._within
        return False

    def _let_go(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
