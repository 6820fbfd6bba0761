"""Runs on Docker that are ended while they come up, and two at the same time: nothing is left, and nobody meets."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.chaos import evidence, processes_mentioning, verdict_of
from tests.end_to_end.docker_rig import (
    DockerRun,
    docker,
    kinds_of,
    left_of,
    measured,
    of_project,
    python_image,
    scenario_of,
    seconds_until,
    seconds_until_nothing_is_left,
    tiny_system,
)

pytestmark = [pytest.mark.slow, pytest.mark.docker]

VOLUMES = {
    "services": {"back": {"volumes": ["/anonymous", "named:/named"]}},
    "volumes": {"named": {}},
}

MOMENTS: dict[str, Callable[[DockerRun], object]] = {
    "it has begun": lambda run: bool(run.events()),
    "networks are there": lambda run: bool(of_project(run.project)["networks"]),
    "containers are there": lambda run: bool(of_project(run.project)["containers"]),
    "all run": lambda run: sum("Up" in line for line in of_project(run.project)["containers"]) == 4,
}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[DockerRun]:
    """A run that was just started."""
    running = DockerRun(scenario_of(tiny_system(tmp_path, VOLUMES)), tmp_path / "reports")
    yield running
    running.make_sure_it_is_over()


def wait_for_moment(run: DockerRun, moment: str) -> Path:
    until = time.monotonic() + 60
    while run.folder is None or not MOMENTS[moment](run):
        assert time.monotonic() < until, f"not so within 60 s: {moment}"
        assert run.process.poll() is None, run.end()
        time.sleep(0.02)
    return run.folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_while_the_system_comes_up_leaves_nothing(run: DockerRun, moment: str) -> None:
    folder = wait_for_moment(run, moment)

    run.signal(signal.SIGINT)
    time.sleep(0.3)
    run.signal(signal.SIGINT)  # a second one changes nothing about the clean-up
    code, out = run.end(within=60)

    assert code == 130, out
    assert left_of(folder) == []
    assert kinds_of(folder, "UndoFailed") == []
    assert "Traceback" not in out


@pytest.mark.parametrize("moment", ["networks are there", "containers are there", "all run"])
def test_of_a_harness_that_is_killed_while_the_system_comes_up_nothing_is_left(run: DockerRun, moment: str) -> None:
    folder = wait_for_moment(run, moment)

    run.signal(signal.SIGKILL)
    run.end(within=10)

    measured(f"until nothing was left, killed when {moment}", seconds_until_nothing_is_left(folder))
    time.sleep(2.0)  # an engine that was asked for something may still have been making it
    assert left_of(folder) == []
    (acted,) = kinds_of(folder, "GuardianActed")
    assert acted["failed"] == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_of_a_run_that_is_ended_while_an_image_is_built_nothing_is_left(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    built = {"build": {"context": ".", "dockerfile": "Slow"}, "image": "chaos-harness/slow"}
    system = tiny_system(tmp_path, {"services": {"unused": built}})
    step = f"sleep 300.{time.time_ns()}"
    (system / "Slow").write_text(f"FROM {python_image()}\nRUN {step}\n", encoding="utf-8")
    run = DockerRun(scenario_of(system), tmp_path / "reports")
    try:
        seconds_until(lambda: any(line.startswith("sleep") for line in processes_mentioning(step)), within=60)
        run.signal(number)
        found, out = run.end(within=60)
    finally:
        run.make_sure_it_is_over()

    assert found == code, out
    assert run.folder is not None
    measured("until nothing was left of a build", seconds_until_nothing_is_left(run.folder))
    seconds_until(lambda: not processes_mentioning(step), within=10)


def test_two_runs_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    path = scenario_of(tiny_system(tmp_path, VOLUMES))
    runs = [DockerRun(path, tmp_path / name) for name in ("one", "other")]
    try:
        for run in runs:
            run.wait_for("FaultBegan")
        projects = {run.project for run in runs}
        subnets = [
            docker("network", "inspect", network, "--format", "{{range .IPAM.Config}}{{.Subnet}}{{end}}").strip()
            for project in projects
            for network in of_project(project)["networks"]
        ]
        ends = [run.end(within=120) for run in runs]
    finally:
        for run in runs:
            run.make_sure_it_is_over()

    assert len(projects) == 2
    assert len(set(subnets)) == len(subnets) == 12
    for run, (code, out) in zip(runs, ends, strict=True):
        assert code in (0, 3), out
        shown = evidence(verdict_of(run.reports))
        assert {name: shown[name] for name in ("set", "bit", "met", "healed")} == dict.fromkeys(
            ("set", "bit", "met", "healed"), "passed"
        ), out
        assert run.folder is not None
        assert left_of(run.folder) == []
