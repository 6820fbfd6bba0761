"""What is left of a run that has come to an end, however it did."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.end_to_end.chaos import Running, events_of, processes_mentioning, started_by

CUT = "[outage: {edge: front -> back}]"
DEFERRED = "[{id: deferred, fallback: without-back}]"
SHORT = "phases: {warmup: 1s, baseline: 5s, fault: 5s, recovery: 5s, drain: 1s}"


def left_of(folder: Path) -> list[str]:
    """Processes, addresses, folders and the guardian of a run, of those that are still there; empty where nothing is."""
    journal = [json.loads(line) for line in (folder / "undo.jsonl").read_text(encoding="utf-8").splitlines()]
    folders = [data["path"] for data in journal if data.get("path") and Path(data["path"]).exists()]
    addresses = [event["address"] for event in events_of(folder) if event["event"] == "ServiceStarted"]
    noted = Path(os.environ["CHAOS_STATE_DIR"], "runs", f"{folder.name}.json")
    return [
        *(f"process {pid}" for pid in started_by(folder)),
        *folders,
        *(f"listening at {address}" for address in addresses if listens(address)),
        *processes_mentioning(str(folder)),
        *([str(noted)] if noted.exists() else []),
    ]


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as asking:
        asking.settimeout(1)
        return asking.connect_ex((host, int(port))) == 0


def wait_until(holds: Callable[[], Any], seconds: float) -> Any:
    """Wait for it; what it then gave."""
    until = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < until, f"not so after {seconds:g} s"
        time.sleep(0.02)
    return found


def of_kind(folder: Path, kind: str) -> list[dict[str, Any]]:
    """What was recorded of one kind."""
    return [event for event in events_of(folder) if event["event"] == kind]


def soon(running: Running, kind: str, **having: object) -> dict[str, Any]:
    """The event as soon as it is recorded: what follows it may be over in a moment."""

    def recorded() -> dict[str, Any] | None:
        assert running.process.poll() is None, f"it ended before {kind}"
        fitting = (event for event in running.events() if event["event"] == kind)
        return next((event for event in fitting if all(event[key] == value for key, value in having.items())), None)

    found: dict[str, Any] = wait_until(recorded, 90)
    return found


def guardian_of(folder: Path) -> int:
    """The process of a run's guardian."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"harness.runtime.guardian" in words and str(folder.resolve()).encode() in words:
            return int(path.parent.name)
    raise AssertionError(f"{folder}: expected its guardian, found none")
