"""One load process: started, told what to do over its control channel, and ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.history.lines import object_in
from harness.history.store import LOGS
from harness.model.secrets import last_lines
from harness.runtime.ending import signal_name
from harness.runtime.load.token import TOKEN
from harness.runtime.ports import Launch

LOAD = "load"
"""What a load process is called."""

LOG_LINES = 20
MOST_HEARD = 1 << 20
"""Bytes: no message is longer."""

TAIL_BYTES = 64 * 1024
SEND_SECONDS = 2.0
"""How long a message may take to be taken: one that stands still reads none."""

KILLED_SECONDS = 5.0
"""How long the kernel may take to end what was killed."""

PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy"})


class LoadProcess:
    """A Locust with the agent around it. It leads a session of its own, and ends when its channel does."""

    def __init__(self, launch: Launch, folder: Path, log: Path) -> None:
        self._log, self._log_begin = log, log.stat().st_size if log.exists() else 0
        self._heard = b""
        self.records: Path | None = None
        self.known: frozenset[str] = frozenset()
        self._channel, theirs = socket.socketpair()
        try:
            with theirs:
                argv = [sys.executable, "-P", str(Path(__file__).with_name("agent.py")), str(theirs.fileno())]
                self._process: subprocess.Popen[bytes] = launch(
                    LOAD, argv, environment=_environment(), log=log, folder=folder, pass_fds=(theirs.fileno(),)
                )
        except BaseException:
            self._channel.close()
            raise

    @property
    def lives(self) -> bool:
        """Whether it is still there."""
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """Tell it something; where it is gone, or does not listen, that shows by what it does not do."""
        self._channel.settimeout(SEND_SECONDS)
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return
        finally:
            self._channel.settimeout(None)

    def message(self, deadline: float) -> dict[str, Any] | None:
        """The next thing it says, or None when it says nothing more, or nothing by then. What is no message is passed over."""
        while (line := self._line(deadline)) is not None:
            if (message := object_in(line)) is not None:
                return message
        return None

    def _line(self, deadline: float) -> bytes | None:
        while b"\n" not in self._heard:
            left = deadline - time.monotonic()
            if left <= 0:
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
            self._heard = (self._heard + more)[-MOST_HEARD:]
        line, self._heard = self._heard.split(b"\n", 1)
        return line

    def waited_for(self, seconds: float) -> bool:
        """Wait for its end; whether it came."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def exit_words(self) -> str:
        """How it ended."""
        code = self._process.returncode
        return f"exit code {code}" if code >= 0 else f"signal {signal_name(-code)}"

    def end(self) -> None:
        """It is gone when this returns, and its channel is closed; what not even SIGKILL ends is left to the undo."""
        if self.lives:
            os.killpg(self._process.pid, signal.SIGKILL)
            self.waited_for(KILLED_SECONDS)
        self._channel.close()

    def log_words(self) -> str:
        """The end of what it wrote to its log."""
        with self._log.open("rb") as file:
            file.seek(max(self._log_begin, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = last_lines(file.read().decode("utf-8", "replace"), LOG_LINES)
        tail = "".join(f"\n    {line}" for line in lines) or "\n    (it wrote no log)"
        return f"the last lines of {LOGS}/{self._log.name}:{tail}"


def _environment() -> dict[str, str]:
    """The harness's own environment, without what would configure Locust or send its requests elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LOCUST_", TOKEN)) and name.lower() not in PROXY_VARIABLES
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}
