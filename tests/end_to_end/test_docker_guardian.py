"""The guardian at the engine: what becomes of a run on Docker when every one of its processes is killed, and of the guardian.

So it is where a CI job is cancelled: the harness and the guardian on its machine end in the same moment.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from harness.history.events import EngineGuarded
from harness.history.store import UNDO, read_events
from harness.runtime.containers.removal import GUARDIAN_LABEL
from harness.runtime.ending import EndProcessGroup, Process, family_of, process_table
from harness.runtime.undo import UndoJournal
from tests.end_to_end.chaos import chaos, evidence, verdict_of
from tests.end_to_end.docker_rig import (
    SHORTEST,
    DockerRun,
    docker,
    everything,
    kinds_of,
    left_of,
    measured,
    of_project,
    run_on_docker,
    scenario_of,
    seconds_until,
    seconds_until_nothing_is_left,
    tiny_system,
)
from tests.end_to_end.test_docker_elsewhere import relayed, socket_of_the_engine

pytestmark = [pytest.mark.slow, pytest.mark.docker]

LONG = "phases: {warmup: 1s, baseline: 5s, fault: 60s, recovery: 5s}"
LEASE = 5.0
BOUND = LEASE + 10.0
VOLUMES = {
    "services": {"back": {"volumes": ["/anonymous", "named:/named"]}},
    "volumes": {"named": {}},
}
SHOWN = ("set", "bit", "met", "healed")

StartRun = Callable[[], DockerRun]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartRun]:
    """Start a run with a long fault; whatever becomes of the test, nothing of it is left."""
    started: list[DockerRun] = []

    def start() -> DockerRun:
        started.append(DockerRun(scenario_of(tiny_system(tmp_path, VOLUMES), more=LONG), tmp_path / "reports"))
        return started[-1]

    yield start
    for run in started:
        run.make_sure_it_is_over()
        if run.folder is not None and (run.folder / UNDO).exists():
            journal = UndoJournal(run.folder / UNDO)
            journal.undo_all(lambda _event: None, by="test")
            journal.close()


def guardians_of(project: str) -> list[str]:
    return docker("ps", "-aq", "--filter", f"label={GUARDIAN_LABEL}={project}").split()


def at_the_engine(project: str) -> list[str]:
    """All that there is of a run at the engine, by label and by name."""
    found = [name for names in of_project(project).values() for name in names]
    return found + guardians_of(project) + [name for names in everything().values() for name in names if project in name]


def family(run: DockerRun) -> list[Process]:
    """Every process that came of the run, in whatever session it is."""
    table = process_table()
    leader = EndProcessGroup(run.process.pid, table[run.process.pid].started, "harness")
    return sorted(family_of(leader, table), key=lambda process: process.pid)


def to_all(processes: list[Process], number: signal.Signals) -> None:
    for process in processes:
        os.kill(process.pid, number)


def test_of_a_run_all_of_whose_processes_are_killed_at_once_nothing_is_left_at_the_engine(start: StartRun) -> None:
    run = start()
    run.wait_for("FaultBegan")
    processes = family(run)
    assert len(processes) > 2  # the harness, its guardian, the load
    assert len(guardians_of(run.project)) == 1

    to_all(processes, signal.SIGSTOP)  # so that none of them sees another end
    to_all(processes, signal.SIGKILL)
    run.process.wait(10)
    seconds = seconds_until(lambda: not at_the_engine(run.project), within=3 * BOUND)

    measured("until nothing was left at the engine, all processes killed", seconds)
    assert run.folder is not None
    (acted,) = kinds_of(run.folder, "GuardianActed")
    (done,) = kinds_of(run.folder, "UndoDone")
    assert acted["failed"] == 0
    assert acted["why"] == "the harness and the guardian on its machine were gone"
    assert (done["undo"].split()[0], done["by"]) == ("remove", "guardian at the Docker engine")
    answer = chaos("judge", str(run.folder))
    assert answer.code not in (0, 1), answer.out + answer.err
    assert "Traceback" not in answer.out + answer.err


def test_of_a_run_all_of_whose_processes_stand_still_nothing_is_left_at_the_engine(start: StartRun) -> None:
    run = start()
    run.wait_for("FaultBegan")
    processes = family(run)

    to_all(processes, signal.SIGSTOP)
    seconds = seconds_until(lambda: not at_the_engine(run.project), within=3 * BOUND)
    to_all(processes, signal.SIGCONT)
    run.end(within=60)

    measured("until nothing was left at the engine, all processes stopped", seconds)
    assert run.folder is not None
    assert "the harness was not heard of for 10 s" in [event["why"] for event in kinds_of(run.folder, "GuardianActed")]
    seconds_until_nothing_is_left(run.folder)  # the guardian on the machine does the rest
    assert chaos("judge", str(run.folder)).code not in (0, 1)


@pytest.mark.parametrize(
    "how", ["kill", pytest.param("rm", marks=pytest.mark.nightly), pytest.param("pause", marks=pytest.mark.nightly)]
)
def test_a_guardian_that_is_gone_or_does_not_answer_ends_the_run_healed(start: StartRun, how: str) -> None:
    run = start()
    run.wait_for("FaultBegan")
    (guardian,) = guardians_of(run.project)

    docker(how, *(["-f"] if how == "rm" else []), guardian)
    began = time.monotonic()
    code, out = run.end(within=60)

    measured(f"until the run was over, its guardian at the engine struck by docker {how}", time.monotonic() - began)
    assert code == 5, out
    assert "the guardian at the Docker engine" in " ".join(out.split())
    assert run.folder is not None
    assert kinds_of(run.folder, "FaultEnded")[0]["found"] == {"enabled": True, "toxics": []}
    assert left_of(run.folder) == []


@pytest.mark.parametrize(
    ("engine", "elsewhere"),
    [
        ("toxiproxy", True),
        pytest.param("embedded", False, marks=pytest.mark.nightly),
        pytest.param("toxiproxy", False, marks=pytest.mark.nightly),
    ],
)
def test_a_run_that_ends_by_itself_is_none_of_its_business(tmp_path: Path, engine: str, elsewhere: bool) -> None:
    path = scenario_of(tiny_system(tmp_path, VOLUMES), more=SHORTEST)

    with relayed(socket_of_the_engine()) if elsewhere else nullcontext("") as host:
        answer = run_on_docker(path, tmp_path / "reports", "--engine", engine, extra={"DOCKER_HOST": host} if host else None)

    (folder,) = (tmp_path / "reports").glob("*/2*")
    assert answer.code in (0, 3), answer.out + answer.err
    shown = evidence(verdict_of(tmp_path / "reports"))
    assert {name: shown[name] for name in SHOWN} == dict.fromkeys(SHOWN, "passed"), answer.out
    (guarded,) = [event for event in read_events(folder) if isinstance(event, EngineGuarded)]
    assert guarded.why_not == ""
    measured("until the guardian at the engine watched", guarded.seconds)
    (ready,) = kinds_of(folder, "SystemReady")
    assert guarded.at < ready["at"]
    assert kinds_of(folder, "GuardianActed") == []
    assert {event["service"] for event in kinds_of(folder, "ServiceStarted")} == {"front", "back", "unused"}
    assert left_of(folder) == []


@pytest.mark.nightly
def test_where_no_image_with_python_can_be_had_the_run_goes_on_and_says_so(tmp_path: Path) -> None:
    path = scenario_of(tiny_system(tmp_path))
    nowhere = "127.0.0.1:1/none:1"

    answer = run_on_docker(path, tmp_path / "reports", extra={"PYTHON_IMAGE": nowhere})

    (folder,) = (tmp_path / "reports").glob("*/2*")
    assert answer.code in (0, 3), answer.out + answer.err
    (warning,) = [told for told in verdict_of(tmp_path / "reports")["warnings"] if "guardian" in told]
    assert nowhere in warning
    assert "PYTHON_IMAGE names" in warning
    assert left_of(folder) == []


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["networks", "containers"])
def test_of_a_run_that_is_killed_as_a_whole_while_its_system_comes_up_nothing_is_left(start: StartRun, kind: str) -> None:
    run = start()
    seconds_until(lambda: run.folder is not None and guardians_of(run.project), within=60)
    seconds_until(lambda: of_project(run.project)[kind], within=60)

    processes = family(run)
    to_all(processes, signal.SIGSTOP)
    to_all(processes, signal.SIGKILL)
    run.process.wait(10)

    measured(
        f"until nothing was left at the engine, killed when {kind} were there",
        seconds_until(lambda: not at_the_engine(run.project), within=4 * BOUND),
    )
    time.sleep(3.0)  # an engine that was asked for something may still have been making it
    assert at_the_engine(run.project) == []
