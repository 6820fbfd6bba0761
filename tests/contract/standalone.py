"""The embedded engine started by itself, as a person does, and what it says on its standard output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from harness.runtime.ports import Address
from tests.contract.proxies_rig import PATIENCE, eventually

MODULE = [sys.executable, "-P", "-m", "harness.runtime.proxies.embedded"]
CHAOS = [sys.executable, "-m", "harness", "proxy"]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name != "LOG_LEVEL"}, **more}


class Standalone:
    """One engine by itself; where its API is, it tells in its log."""

    def __init__(self, command: Sequence[str], **variables: str) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(variables)
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self._session = requests.Session()
        self._session.trust_env = False
        assert eventually(lambda: bool(self.told("Control API listens"))), self.lines
        host, _, port = self.told("Control API listens")[0]["addr"].rpartition(":")
        self.control = Address(host, int(port))

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in tuple(self.lines)]

    def told(self, message: str) -> list[dict[str, Any]]:
        """All that was said under this message, without its time."""
        lines = [line for line in self.log if line["message"] == message]
        return [{key: value for key, value in line.items() if key not in ("time", "message")} for line in lines]

    def __call__(self, method: str, path: str, data: Any = None, **more: Any) -> requests.Response:
        return self._session.request(method, f"http://{self.control}{path}", json=data, timeout=PATIENCE, **more)

    def made(self, name: str, upstream: object, **more: Any) -> Address:
        data = {"name": name, "upstream": str(upstream), "listen": "127.0.0.1:0", **more}
        host, _, port = self("POST", "/proxies", data).json()["listen"].rpartition(":")
        return Address(host, int(port))

    def metrics(self) -> dict[tuple[str, ...], float]:
        """The samples of /metrics, each under its name and the values of its labels in the order of their names."""
        families = text_string_to_metric_families(self("GET", "/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return {(each.name, *(each.labels[label] for label in sorted(each.labels))): each.value for each in samples}

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)


@contextmanager
def standalone(*options: str, command: Sequence[str] = MODULE, **variables: str) -> Iterator[Standalone]:
    """An engine by itself for as long as it is needed; it must end well."""
    port = () if "--port" in options or "-port" in options else ("--port", "0")
    engine = Standalone([*command, *port, *options], **variables)
    try:
        yield engine
    finally:
        if engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait(PATIENCE)
        for pipe in (engine.process.stdout, engine.process.stderr):
            if pipe is not None:
                pipe.close()
        engine._session.close()


def run(*options: str, command: Sequence[str] = MODULE, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line to its end, where it does not serve."""
    return subprocess.run(
        [*command, *options], check=False, capture_output=True, text=True, timeout=PATIENCE, env=environment(variables)
    )
