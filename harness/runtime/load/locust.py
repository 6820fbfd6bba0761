"""Locust as a child process: started, told when to begin and when to end, and believed only by its records.

Never imported here: Locust patches the interpreter. Its exit code and its percentiles are not used; a run ended well
when its own last line in the records says so.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from harness.errors import InvalidLocustfile, LoadError
from harness.plan.plan import Arrivals
from harness.runtime.ports import Launch

LOAD = "load"
"""What its process is called."""

START_SECONDS = 60.0
"""How long users may take to get ready, beyond two client timeouts."""

STOP_SLACK = 4.0
LOG_LINES = 20
PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy"})


class LocustLoad:
    """The load, by a Locust of its own. `folder` is where it works: relative paths that the user's file opens begin there."""

    def __init__(self, launch: Launch, folder: Path, log: Path) -> None:
        self._launch = launch
        self._folder = folder
        self._log = log
        self._log_begin = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._heard = b""
        self._timeout = 0.0
        self._ending = False
        self._early: str | None = None

    def start(self, arrivals: Arrivals, entry: str, marks: dict[str, Any], records: Path) -> None:
        """Start Locust and return when its users wait for the first arrival."""
        locustfile = _locustfile(arrivals.locustfile)
        self._timeout = arrivals.timeout
        self._log_begin = self._log.stat().st_size if self._log.exists() else 0
        try:
            self._begin_process()
            self._send(_settings(arrivals, locustfile, entry, marks, records))
            self._wait_until_ready(time.monotonic() + START_SECONDS + 2 * arrivals.timeout)
        except BaseException:
            self._end_process()
            raise

    def go(self, at: float) -> None:
        """Let the first request be due at this time (seconds since the epoch)."""
        self._send({"go": at})

    def stop(self) -> None:
        """No further arrival; return when the process is gone, having recorded what was open."""
        if self._process is None:
            return
        self._early = self.ended_early()
        self._ending = True
        self._send({"stop": time.time()})
        try:
            self._process.wait(2 * self._timeout + STOP_SLACK)
        except subprocess.TimeoutExpired:
            self._early = self._early or f"Locust did not end when told to, and was killed; its log is {self._log}"
        self._end_process()

    def ended_early(self) -> str | None:
        """Why Locust ended before it was told to, or None."""
        if self._early is not None or self._ending or self._process is None or self._process.poll() is None:
            return self._early
        message = self._message(time.monotonic() + 0.2) or {}
        reason = message.get("failed") or f"Locust ended with {_exit_words(self._process.returncode)}"
        self._early = f"{reason}; {self._log_words()}"
        return self._early

    def _begin_process(self) -> None:
        self._heard, self._ending, self._early = b"", False, None
        self._channel, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-P", str(Path(__file__).with_name("agent.py")), str(theirs.fileno())]
            self._process = self._launch(
                LOAD, argv, environment=_environment(), log=self._log, folder=self._folder, pass_fds=(theirs.fileno(),)
            )

    def _wait_until_ready(self, deadline: float) -> None:
        message = self._message(deadline)
        if message is None:
            raise LoadError(f"the load did not come up: {self._why_silent()}; {self._log_words()}")
        if "invalid" in message:
            raise InvalidLocustfile(message["invalid"])
        if "ready" not in message:
            raise LoadError(f"the load did not come up: {message.get('failed', message)}; {self._log_words()}")

    def _why_silent(self) -> str:
        assert self._process is not None
        try:
            return f"Locust ended with {_exit_words(self._process.wait(2.0))}"
        except subprocess.TimeoutExpired:
            return f"its users were not ready within {START_SECONDS + 2 * self._timeout:g} s"

    def _send(self, message: dict[str, Any]) -> None:
        if self._channel is None:
            return
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return  # it is gone; `ended_early` says why

    def _message(self, deadline: float) -> dict[str, Any] | None:
        """The next thing Locust says, or None when it says nothing more."""
        while b"\n" not in self._heard:
            left = deadline - time.monotonic()
            if self._channel is None or left <= 0:
                return None
            self._channel.settimeout(left)
            try:
                more = self._channel.recv(65536)
            except OSError:
                return None
            finally:
                self._channel.settimeout(None)
            if not more:
                return None
            self._heard += more
        line, self._heard = self._heard.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def _end_process(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._channel is not None:
            self._channel.close()
        self._process = self._channel = None

    def _log_words(self) -> str:
        with self._log.open("rb") as file:
            file.seek(self._log_begin)
            lines = file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
        tail = "".join(f"\n    {line}" for line in lines) or "\n    (it wrote no log)"
        return f"the last lines of {self._log}:{tail}"


def _settings(arrivals: Arrivals, locustfile: Path, entry: str, marks: dict[str, Any], records: Path) -> dict[str, Any]:
    """What the agent is told first. The kernel ends a child with the *thread* that started it, so only the main one may."""
    return {
        "locustfile": str(locustfile),
        "entry": entry.rstrip("/"),
        "rate": arrivals.rate,
        "stages": [(stage.to, stage.over) for stage in arrivals.stages],
        "users": arrivals.users,
        "shape": arrivals.shape,
        "arrivals": arrivals.arrivals,
        "timeout": arrivals.timeout,
        "classes": list(arrivals.classes),
        "groups": list(arrivals.groups),
        "accepted": arrivals.accepted,
        "seed": arrivals.seed,
        "seconds": arrivals.seconds,
        "marks": marks,
        "records": str(records.resolve()),
        "ends_with_parent": threading.current_thread() is threading.main_thread() and sys.platform == "linux",
    }


def _locustfile(path: str) -> Path:
    file = Path(path).resolve()
    if not file.is_file():
        raise InvalidLocustfile(f"{path}: expected a locustfile, found no such file")
    if file.suffix != ".py" or "," in str(file):
        raise InvalidLocustfile(f"{path}: expected a locustfile whose name ends with .py and whose path holds no comma")
    return file


def _environment() -> dict[str, str]:
    """The harness's own environment, without what would configure Locust or send its requests elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LOCUST_") and name.lower() not in PROXY_VARIABLES
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}


def _exit_words(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
