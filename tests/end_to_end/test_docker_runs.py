"""Three runs in a row on Docker: a dependency that is cut, a service that stands still, and the gentle way between them.

They are made once, one after the other, and looked at by many tests; and then nothing may be left of any.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.history import read_history
from tests.end_to_end.chaos import Answer, chaos, evidence, outcomes, verdict_of
from tests.end_to_end.docker_rig import (
    CUT,
    built_system,
    everything,
    kinds_of,
    left_of,
    measured,
    only_folder,
    project_of,
    run_on_docker,
    scenario_of,
    tiny_system,
)

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.alone]

SHOWN = ("set", "bit", "met", "healed")
PHASES = "phases: {warmup: 1s, baseline: 6s, fault: 6s, recovery: 7s}"
PHASES_SECONDS = 20
DEFERRED = "[{id: deferred, fallback: without-back}, {id: recovered, recovery: {within: 4s, hold: 3s}}]"
ALONE = "[{id: alone, error_rate: {journey: alone, during: pause-1, max: 40%}}]"
KEPT = {
    "services": {"back": {"volumes": ["/anonymous", "named:/named"]}},
    "volumes": {"named": {}},
}


@dataclass
class Made:
    """One run that is over."""

    reports: Path
    answer: Answer
    seconds: float

    @property
    def folder(self) -> Path:
        return only_folder(self.reports)

    @property
    def told(self) -> str:
        return self.answer.out + self.answer.err

    def shown(self) -> dict[str, str]:
        found = evidence(verdict_of(self.reports))
        return {name: found.get(name, "not there") for name in SHOWN}

    def failed(self) -> dict[str, str]:
        return {name: outcome for name, outcome in outcomes(verdict_of(self.reports)).items() if outcome == "failed"}

    def warnings(self) -> str:
        return " ".join(verdict_of(self.reports)["warnings"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """The three, and what the engine had before and after them as `before` and `after`."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, Made] = {}

    def run(name: str, scenario: Callable[[Path], Path]) -> None:
        path = scenario(folder / name)
        began = time.monotonic()
        answer = run_on_docker(path, folder / name / "reports")
        made[name] = Made(folder / name / "reports", answer, time.monotonic() - began)

    run("cut", lambda own: scenario_of(built_system(own, KEPT), CUT, DEFERRED, PHASES))
    run("pause", lambda own: scenario_of(tiny_system(own), "[pause: {service: back}]", ALONE, PHASES))
    run("gentle", lambda own: scenario_of(tiny_system(own, None, {"interpose": "faulted"}), CUT, DEFERRED, PHASES))
    return made


@pytest.mark.parametrize("name", ["cut", "pause", "gentle"])
def test_a_fault_is_shown_to_be_set_to_bite_to_meet_traffic_and_to_be_healed(runs: dict[str, Made], name: str) -> None:
    assert runs[name].shown() == dict.fromkeys(SHOWN, "passed"), runs[name].told


@pytest.mark.parametrize("name", ["cut", "pause", "gentle"])
def test_a_system_that_holds_is_not_failed(runs: dict[str, Made], name: str) -> None:
    assert runs[name].failed() == {}, runs[name].told
    assert runs[name].answer.code in (0, 3), runs[name].told  # a noisy machine may leave it undecided


@pytest.mark.parametrize("name", ["cut", "pause", "gentle"])
def test_a_run_leaves_the_engine_and_the_machine_as_they_were(runs: dict[str, Made], name: str) -> None:
    assert left_of(runs[name].folder) == []
    assert kinds_of(runs[name].folder, "UndoFailed") == []


def test_the_first_line_says_on_what_a_run_is_carried_out_and_why(runs: dict[str, Made]) -> None:
    first = runs["cut"].answer.out.splitlines()[0]

    assert re.search(
        r"docker \d+\.\d+\.\S+ containers, Toxiproxy 2\.12\.0 engine, seed 1 \(asked for by --runtime; a Docker engine answers at ",
        first,
    )


def test_the_history_says_on_what_a_run_was_carried_out(runs: dict[str, Made]) -> None:
    (began,) = kinds_of(runs["cut"].folder, "RunBegan")

    assert (began["runtime"], began["engine"]) == ("docker", "Toxiproxy 2.12.0")
    assert {"docker", "docker compose"} <= began["versions"].keys()
    assert "--runtime docker" in began["command"]


def test_volumes_named_or_not_go_with_the_run(runs: dict[str, Made]) -> None:
    log = (runs["cut"].folder / "logs" / "compose.log").read_text(encoding="utf-8")

    assert f"{project_of(runs['cut'].folder)}_named" in log
    assert not [name for name in everything()["volumes"] if name.startswith(project_of(runs["cut"].folder))]


def test_a_service_that_was_paused_is_told_by_the_engine_itself(runs: dict[str, Made]) -> None:
    told = [(event["service"], event["what"]) for event in kinds_of(runs["pause"].folder, "ServiceChanged")]

    assert told == [("back", "pause"), ("back", "unpause")]


def test_the_gentle_way_says_that_a_way_around_was_not_excluded(runs: dict[str, Made]) -> None:
    assert "way around" in runs["gentle"].warnings()
    assert "way around" not in runs["cut"].warnings()
    assert "way around" in runs["gentle"].answer.out


def test_a_run_on_docker_can_be_judged_again_to_the_same_byte(runs: dict[str, Made]) -> None:
    folder = runs["cut"].folder
    before = (folder / "verdict.json").read_bytes()

    chaos("judge", str(folder))

    assert (folder / "verdict.json").read_bytes() == before
    assert json.loads(before)["evidence"]


def test_beside_its_phases_a_run_takes_little(runs: dict[str, Made]) -> None:
    beside = min(made.seconds for made in runs.values()) - PHASES_SECONDS
    measured("coming up and going down", beside)

    assert beside < 32  # up in 20 s, down in 12 s; on a machine that does something else too


DEEDS = {
    "kill": "{service: back}",
    "stop": "{service: back}",
    "restart": "{service: back}",
    "crash": "{service: back}",
    "disconnect": "{service: back}",
    "cpu": "{service: back, cores: 0.05}",
    "memory": "{service: back, limit: 32MB}",
}


@pytest.mark.nightly
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("replicas", [1, 2])
def test_every_fault_on_a_service_is_shown_and_taken_back(tmp_path: Path, deed: str, replicas: int) -> None:
    changes = {"services": {"back": {"init": True, "restart": "always", "deploy": {"replicas": replicas}}}}
    path = scenario_of(tiny_system(tmp_path, changes), f"[{deed}: {DEEDS[deed]}]", ALONE.replace("pause-1", "fault"), PHASES)

    answer = run_on_docker(path, tmp_path / "reports")

    made = Made(tmp_path / "reports", answer, 0.0)
    # Who calls an address that was a container's a moment ago hears nothing for three seconds: a look then leaves it open.
    shown = [name for name in SHOWN if (name, deed) not in (("bit", "kill"), ("bit", "stop"))]
    assert {name: made.shown()[name] for name in shown} == dict.fromkeys(shown, "passed"), made.told
    assert made.failed() == {}, made.told
    assert kinds_of(made.folder, "EngineRestarted") == [], made.told
    instances = {event["instance"] for event in kinds_of(made.folder, "ServiceChanged") if event["service"] == "back"}
    assert len(instances) == replicas
    assert left_of(made.folder) == []


@pytest.mark.nightly
def test_a_callee_that_was_killed_is_soon_told_to_be_gone(tmp_path: Path) -> None:
    path = scenario_of(
        tiny_system(tmp_path), "[kill: {service: back}]", ALONE.replace("pause-1", "fault"), "phases: {fault: 12s}"
    )

    answer = run_on_docker(path, tmp_path / "reports")

    made = Made(tmp_path / "reports", answer, 0.0)
    (began,) = kinds_of(made.folder, "FaultBegan")
    met = read_history(made.folder).requests.between([(began["at"] + 5, began["at"] + 11)])
    late = [request for request in met if request.journey == "GET /with-back"]
    assert len(late) > 100
    assert sorted(request.end - request.start for request in late)[len(late) // 2] < 0.5


@pytest.mark.nightly
def test_twenty_runs_in_a_row_leave_the_engine_as_it_was(tmp_path: Path) -> None:
    path = scenario_of(tiny_system(tmp_path, KEPT))
    left, shown = {}, []
    for number in range(20):
        reports = tmp_path / str(number)
        answer = run_on_docker(path, reports)
        left[number] = left_of(only_folder(reports))
        shown.append(Made(reports, answer, 0.0).shown()["healed"])

    assert left == {number: [] for number in range(20)}
    assert shown.count("passed") == 20
