"""Systems whose parts can be made to hang in mid-run, and how their runs came out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.history.store import SAMPLES
from tests.end_to_end.chaos import PROJECT, TINY, Running, start_of, started_by

SHORT = "phases: {warmup: 1s, baseline: 6s, fault: 8s, recovery: 6s}\nload: {rate: 40/s, timeout: 2s}"
CUT = "[outage: {edge: front -> back}]"
FEW_ERRORS = "[{id: few_errors, error_rate: {max: 100%}}]"

Event = dict[str, Any]

DEAF = """
import runpy, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
runpy.run_path("service.py", run_name="__main__")
"""

FLOODS = """
import os, runpy, threading, time
from pathlib import Path

def flood():
    while not Path("wedge").exists():
        time.sleep(0.05)
    while Path("wedge").exists():
        os.write(1, b"the same line over and over\\n" * 20_000)

threading.Thread(target=flood, daemon=True).start()
runpy.run_path("service.py", run_name="__main__")
"""

HANGS_AT = """
import sys, time
from http.server import ThreadingHTTPServer
from pathlib import Path
import service

class Hangs(service.Pages):
    def do_GET(self):
        if self.path == "{path}":
            while {hangs}:
                time.sleep(0.1)
        return super().do_GET()

ThreadingHTTPServer.request_queue_size = 256
ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Hangs).serve_forever()
"""

ENGINE_CUSTOMIZED = """
import sys
from pathlib import Path

if "harness.runtime.proxies.embedded" in sys.orig_argv:
    import os
    from harness.runtime.proxies.embedded import control

    WEDGE = Path(__file__).with_name("wedge")
    made = control.ControlConnection.connection_made

    class Way:
        def __init__(self, transport):
            self.transport = transport

        def __getattr__(self, name):
            return getattr(self.transport, name)

        def write(self, data):
            try:
                pid, _, how = WEDGE.read_text().partition(" ")
            except OSError:
                pid, how = "0", ""
            if int(pid or 0) != os.getpid():
                return self.transport.write(data)
            if how == "nonsense":
                return self.transport.write(b"\\x00\\xff{]~ 42 %%% nonsense\\r\\n\\r\\n")
            self.drip(data)

        def drip(self, data):
            import asyncio

            if data and not self.transport.is_closing():
                self.transport.write(data[:1])
                asyncio.get_running_loop().call_later(0.2, self.drip, data[1:])

    def connection_made(self, transport):
        made(self, Way(transport))

    control.ControlConnection.connection_made = connection_made
"""

LOCUSTFILE = """
import resource, time
from locust import FastHttpUser, events, task

class Visitor(FastHttpUser):
    @task
    def with_back(self):
        self.client.get("/with-back")

    @task
    def alone(self):
        self.client.get("/alone")

{more}
"""


@dataclass
class Stand:
    """A folder with a system and a scenario of it, and the run, once it was started."""

    folder: Path
    run: Running | None = None
    seen: float = 0.0
    """When the wedge was seen to be noticed, where the event itself does not tell."""

    @property
    def system(self) -> Path:
        return self.folder / "system"

    @property
    def running(self) -> Running:
        assert self.run is not None
        return self.run

    def wedge(self, how: str = "") -> None:
        """What waits for it finds this file in the system's folder."""
        (self.system / "wedge").write_text(how, encoding="utf-8")

    def pid_of(self, name: str) -> int:
        """The process that was started last under a name, as the journal has it."""
        folder = self.running.folder
        assert folder is not None
        told = [json.loads(line) for line in (folder / "undo.jsonl").read_text("utf-8").splitlines()]
        return [int(one["pid"]) for one in told if one.get("name") == name and start_of(one["pid"]) == one["started"]][-1]

    def signal(self, name: str, number: signal.Signals) -> float:
        """Send it to that process; when it was."""
        os.kill(self.pid_of(name), number)
        return time.time()

    def seconds_into(self, kind: str, seconds: float = 1.0, **having: object) -> float:
        """Wait until so long after an event; its time."""
        at = float(self.running.wait_for(kind, **having)["at"])
        time.sleep(max(0.0, at + seconds - time.time()))
        return at

    def samples(self) -> list[Event]:
        folder = self.running.folder
        path = folder / SAMPLES if folder is not None else None
        lines = path.read_text("utf-8").splitlines() if path is not None and path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]


@dataclass(frozen=True)
class Case:
    """One wedge. `provoke` makes it and returns when it did, or when it was due; `noticed` picks the event that notices it.

    `says` are words that the verdict says of it. `parts` are the system's services that are not the tiny ones.
    """

    number: int
    name: str
    provoke: Callable[[Stand], float]
    noticed: Callable[[Event], bool]
    says: str
    faults: str = CUT
    expect: str = FEW_ERRORS
    parts: Mapping[str, str] = field(default_factory=dict)
    locustfile: str = ""
    query: str = ""
    more: str = SHORT
    ends_within: float = 90.0


def stand_of(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Write system and scenario, and start the run."""
    stand = Stand(folder)
    shutil.copytree(TINY, stand.system)
    text = (stand.system / "system.yaml").read_text("utf-8")
    for service, code in case.parts.items():
        (stand.system / f"{service}_wedged.py").write_text(code, encoding="utf-8")
        text = text.replace(
            f'{service}: {{command: "{{python}} service.py', f'{service}: {{command: "{{python}} {service}_wedged.py'
        )
    if case.query:
        text = _with_database(stand.system, text, case.query)
    (stand.system / "system.yaml").write_text(text, encoding="utf-8")
    (stand.system / "sitecustomize.py").write_text(ENGINE_CUSTOMIZED, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(stand.system), str(PROJECT))))
    if case.locustfile:
        (stand.system / "locustfile.py").write_text(LOCUSTFILE.format(more=case.locustfile), encoding="utf-8")
    scenario = folder / "wedged.yaml"
    scenario.write_text(
        f"version: 1\nquestion: Is it noticed?\nsystem: {stand.system}\nfaults: {case.faults}\n"
        f"expect: {case.expect}\n{case.more}\n",
        encoding="utf-8",
    )
    stand.run = Running(["run", str(scenario)], folder / "reports")
    return stand


def _with_database(system: Path, text: str, query: str) -> str:
    (system / "settled.sql").write_text(query, encoding="utf-8")
    compose = system / "compose.yaml"
    compose.write_text(
        compose.read_text("utf-8") + "  postgres:\n    image: postgres:16\n    expose: ['5432']\n", encoding="utf-8"
    )
    declared = "invariants: {settled: {sql: {service: postgres, database: orders, file: settled.sql}, equals: 0}}\n"
    return declared + text.replace("\nlocal:\n", "\nlocal:\n  postgres: {provided: postgresql, databases: [orders]}\n")


def nothing_is_left(folder: Path | None, events: list[Event]) -> None:
    """Everything that the journal in a folder names was undone, and was undone well."""
    assert folder is not None
    assert started_by(folder) == []
    assert [event for event in events if event["event"] == "UndoFailed"] == []
    removed = [json.loads(line) for line in (folder / "undo.jsonl").read_text("utf-8").splitlines()]
    assert [one["path"] for one in removed if one.get("undo") == "RemoveFolder" and Path(one["path"]).exists()] == []


def told_by(verdict: dict[str, Any]) -> str:
    """Everything that the verdict says."""
    found = [verdict["sentence"], *verdict["warnings"]]
    for finding in (*verdict["evidence"], *verdict["expectations"]):
        found += [finding["seen"], finding["why"], *finding["details"]]
    return "\n".join(found)
