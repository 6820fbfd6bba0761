"""A system of thirty edges on Docker: how long it takes to come up and go down, and how soon a fault is on all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.chaos import PATIENCE
from tests.end_to_end.docker_rig import (
    DockerRun,
    kinds_of,
    left_of,
    measured,
    python_image,
    tiny_system,
)

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.nightly]

SERVICES = 10
CALLEES = 3
EDGES = SERVICES * CALLEES

VISITOR = """
from locust import FastHttpUser, task


class Visitor(FastHttpUser):
    @task
    def alone(self) -> None:
        self.client.get("/alone")
"""


def callees_of(number: int) -> list[str]:
    return [f"s{(number + step) % SERVICES}" for step in range(1, CALLEES + 1)]


def thirty_edges(folder: Path) -> Path:
    """Ten services of which each calls three others, and one where the load comes in; a fault on every edge at once."""
    system = tiny_system(folder)
    program = (system / "service.py").read_text(encoding="utf-8")
    common = {
        "image": python_image(),
        "command": ["python3", "-u", "/service.py", "0.0.0.0", "8000"],
        "configs": [{"source": "service", "target": "/service.py"}],
        "expose": ["8000"],
    }
    callers = {
        f"s{number}": {**common, "environment": {f"{name.upper()}_URL": f"http://{name}:8000" for name in callees_of(number)}}
        for number in range(SERVICES)
    }
    configs = {"service": {"content": program.replace("$", "$$")}}
    compose = {"services": {"front": common, **callers}, "configs": configs}
    (system / "locustfile.py").write_text(VISITOR, encoding="utf-8")
    (system / "compose.yaml").write_text(json.dumps(compose), encoding="utf-8")
    described = yaml.safe_load((system / "system.yaml").read_text(encoding="utf-8"))
    for key in ("fallbacks", "local"):
        del described[key]
    described |= {"load": {"rate": "40/s", "timeout": "2s"}, "journeys": {"alone": "GET /alone"}}
    (system / "system.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    faults = [{"outage": {"service": f"s{number}"}} for number in range(SERVICES)]
    scenario = {
        "version": 1,
        "question": "How soon is it on?",
        "system": str(system),
        "phases": {"warmup": "1s", "baseline": "5s", "fault": "8s", "recovery": "5s"},
        "faults": faults,
        "expect": [{"error_rate": {"max": "100%"}}],
    }
    path = folder / "thirty.yaml"
    path.write_text(yaml.safe_dump(scenario, sort_keys=False), encoding="utf-8")
    return path


def test_thirty_edges_come_up_soon_and_are_struck_and_healed_together(tmp_path: Path) -> None:
    run = DockerRun(thirty_edges(tmp_path), tmp_path / "reports")
    try:
        up = run.wait_for("SystemReady")["seconds"]
        code, out = run.end(within=PATIENCE)
    finally:
        run.make_sure_it_is_over()
    folder = run.folder
    assert folder is not None
    phases = {event["phase"]: event["at"] for event in kinds_of(folder, "PhaseBegan")}
    on = sorted(event["at"] - phases["fault"] for event in kinds_of(folder, "FaultBegan"))
    off = sorted(event["at"] - phases["recovery"] for event in kinds_of(folder, "FaultEnded"))
    down = kinds_of(folder, "RunEnded")[0]["at"] - kinds_of(folder, "LoadEnded")[0]["at"]
    measured("thirty edges up", up)
    measured("until the last of thirty edges was struck", on[-1])
    measured("until the last of thirty edges was healed", off[-1])
    measured("thirty edges down", down)

    assert (len(on), len(off)) == (EDGES, EDGES), out
    assert kinds_of(folder, "FaultRefused") == kinds_of(folder, "EngineRestarted") == []
    assert code in (0, 3), out
    assert up < 60  # thirty seconds, on a machine that does nothing else
    assert on[-1] < 3  # one second
    assert off[-1] < 3
    assert left_of(folder) == []
