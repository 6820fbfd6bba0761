"""Starting the embedded engine so that it never outlives whoever started it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import CouldNotRun, ProxyError
from harness.history.store import LOGS
from harness.runtime.ports import Address, Launch
from harness.runtime.proxies.token import token_in
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine

PROXY_ENGINE = "proxy engine"
"""What its process is called."""

READY_WITHIN = 15.0
END_WITHIN = 3.0


@dataclass(slots=True)
class StartedEngine:
    """A running engine. `lifeline` is the write end of a pipe: once it is closed, the engine heals everything and ends."""

    process: subprocess.Popen[bytes]
    engine: ToxiproxyEngine
    control: Address
    lifeline: int = field(default=-1)

    def stop(self) -> None:
        """Let it heal and end, and wait for that; stopping twice is stopping once."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        try:
            self.process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProxyError(
                f"proxy engine: expected its end within {END_WITHIN:g} s, found it running: it was killed"
            ) from None

    def kill(self) -> None:
        """End it at once, whatever state it is in; killing twice is killing once."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        self.process.kill()
        try:
            self.process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            raise ProxyError(f"proxy engine: expected its end within {END_WITHIN:g} s of SIGKILL, found it there") from None


def start_embedded(
    launch: Launch, listen: socket.socket, log: Path, ignore_source: str, token_file: Path | None = None
) -> StartedEngine:
    """Start the embedded engine with its control API on `listen`, which is taken over; return once it answers.

    Connections from `ignore_source` are forwarded and impaired like others, and not counted. Who changes something needs
    the token in `token_file`. Raises CouldNotRun, with the last lines of the log, where the engine does not come up.
    """
    listen.listen(128)
    control = Address(*listen.getsockname()[:2])
    watched, lifeline = os.pipe()
    try:
        process = launch(
            PROXY_ENGINE,
            [*_command(listen.fileno(), watched, ignore_source), *(["--token-file", str(token_file)] if token_file else [])],
            environment=_environment(),
            log=log,
            pass_fds=(listen.fileno(), watched),
        )
    except BaseException:
        os.close(lifeline)
        raise
    finally:
        os.close(watched)
        listen.close()  # so that once the engine is gone, nobody seems to be listening
    engine = ToxiproxyEngine(control, f"{LOGS}/{log.name}", token_in(token_file))
    started = StartedEngine(process, engine, control, lifeline)
    _await_answer(started, log)
    return started


def _command(control: int, watched: int, ignore_source: str) -> list[str]:
    command = [sys.executable, "-P", "-m", "harness.runtime.proxies.embedded", "--control-fd", str(control)]
    return [*command, "--parent-fd", str(watched), "--ignore-source", ignore_source]


def _environment() -> dict[str, str]:
    """What Python needs to find this package, and nothing else of the user's. The engine tells of what is wrong alone."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL") if name in os.environ}
    return {**kept, "LOG_LEVEL": "warn"}


def _await_answer(started: StartedEngine, log: Path) -> None:
    """The socket takes connections from the start: the first answer comes as soon as the engine can give one."""
    end = time.monotonic() + READY_WITHIN
    while True:
        try:
            started.engine.version()
        except ProxyError as reason:
            if started.process.poll() is None and time.monotonic() < end:
                continue
            started.kill()
            raise CouldNotRun(f"the proxy engine did not come up: {reason}; its last log lines:{_tail(log)}") from reason
        return


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-10:] if log.exists() else []
    return "".join(f"\n    {line}" for line in lines) or "\n    (it wrote none)"
