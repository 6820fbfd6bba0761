"""A service that runs by a command of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from harness.errors import InvalidInput
from harness.model.compose import HealthCheck
from harness.runtime.ports import Launch
from harness.runtime.services.spot import Spot
from harness.runtime.services.waiting import at_home, how_it_ended, tail_of, why_no_answer, why_not_accepted

CHECK_EVERY_SECONDS = 0.25
"""Between the starts of two health checks: what is usual in a Compose file is far too long to wait here."""

KILLED_SECONDS = 5.0
"""How long the kernel may take to end what was killed."""


def arguments_of(service: str, command: str, host: str, port: int) -> list[str]:
    """The words of a command, with {host} {port} and {python} filled in; no shell reads it."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidInput(
            f"system.yaml: local.{service}.command: expected a command line, found {command!r}: {error}"
        ) from error
    if not words:
        raise InvalidInput(f"system.yaml: local.{service}.command: expected a command line, found nothing in it")
    for placeholder, value in {"{host}": host, "{port}": str(port), "{python}": sys.executable}.items():
        words = [word.replace(placeholder, value) for word in words]
    return words


@dataclass(frozen=True, slots=True)
class Command:
    """One service of the user's own: run in the system's folder, ready when its path, its health check, or its port says so."""

    spot: Spot
    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    ready: str | None
    check: HealthCheckHere | None
    end_with: ClassVar[int] = signal.SIGTERM

    def start(self, launch: Launch) -> subprocess.Popen[bytes]:
        """Start it, the first time or again."""
        return launch(self.spot.service, self.argv, environment=self.environment, log=self.spot.log, folder=self.folder)

    def why_not_ready(self) -> str | None:
        """Why it is not ready yet."""
        if self.ready is not None:
            return why_no_answer(self.spot.address, self.ready)
        if self.check is not None:
            return self.check.why_not_healthy()
        return why_not_accepted(self.spot.address)


@dataclass(slots=True)
class HealthCheckHere:
    """A Compose file's health check, run here: `localhost:PORT` in it means the service's own address.

    A look never waits for the test: it starts one, or sees how the one that runs is getting on.
    """

    spot: Spot
    check: HealthCheck
    port: int
    environment: Mapping[str, str]
    folder: Path
    launch: Launch
    _running: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)
    _found: str = field(default="its health check has not ended yet", init=False)

    @property
    def log(self) -> Path:
        """Where the test's own output goes."""
        return self.spot.log.with_name(f"{self.spot.service}.healthcheck.log")

    def why_not_healthy(self) -> str | None:
        """None once the test has ended with exit code 0."""
        if self._running is None:
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + min(self.check.interval, CHECK_EVERY_SECONDS)
                self._running = self._start()
            return self._found
        status = self._running.poll()
        if status is None:
            self._end_when_late(self._running)
            return self._found
        self._running = None
        self._found = f"its health check ended with {how_it_ended(status)}: {' '.join(tail_of(self.log, 1))}"
        return None if status == 0 else self._found

    def _start(self) -> subprocess.Popen[bytes]:
        argv = [at_home(word, self.port, self.spot.address) for word in self.check.test]
        name = f"health check of {self.spot.service}"
        return self.launch(name, argv, environment=self.environment, log=self.log, folder=self.folder)

    def _end_when_late(self, process: subprocess.Popen[bytes]) -> None:
        if time.monotonic() > self._next + self.check.timeout:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(KILLED_SECONDS)
            self._running = None
            self._found = f"its health check took longer than {self.check.timeout:g} s"
