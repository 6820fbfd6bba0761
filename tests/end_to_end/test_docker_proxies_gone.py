"""The container of the proxies is killed, or frozen, in mid-fault: it is noticed, mended, told, and never passed."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.history import Requests, read_history
from tests.end_to_end.chaos import evidence, verdict_of
from tests.end_to_end.docker_rig import (
    CUT,
    PROXIES,
    DockerRun,
    docker,
    kinds_of,
    left_of,
    measured,
    scenario_of,
    tiny_system,
)

pytestmark = [pytest.mark.slow, pytest.mark.docker]

PHASES = "phases: {warmup: 1s, baseline: 5s, fault: 16s, recovery: 6s}"
EXPECT = "[{id: deferred, fallback: without-back}]"
HOW = {"killed": ("kill",), "frozen": ("pause",)}


@dataclass
class Broken:
    """A run whose proxies were broken at `at`, and that is over."""

    run: DockerRun
    at: float
    ports: tuple[Any, Any]
    code: int
    out: str

    @property
    def folder(self) -> Path:
        assert self.run.folder is not None
        return self.run.folder

    def only(self, kind: str) -> dict[str, Any]:
        (event,) = kinds_of(self.folder, kind)
        return event

    def requests_between(self, begin: float, end: float) -> Requests:
        return read_history(self.folder).requests.between([(begin, end)])


def broken_by(how: str, folder: Path) -> Broken:
    run = DockerRun(scenario_of(tiny_system(folder), CUT, EXPECT, PHASES), folder / "reports")
    try:
        run.wait_for("FaultBegan")
        time.sleep(2.0)
        container, before = run.container(PROXIES), run.inspect(PROXIES)["NetworkSettings"]["Ports"]
        at = time.time()
        docker(*HOW[how], container)
        run.wait_for("EngineRestarted")
        after = run.inspect(PROXIES)["NetworkSettings"]["Ports"]
        code, out = run.end(within=90)
        return Broken(run, at, (before, after), code, out)
    finally:
        run.make_sure_it_is_over()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Broken]]:
    """Both ways, at the same time."""
    with ThreadPoolExecutor(len(HOW)) as pool:
        return {how: pool.submit(broken_by, how, tmp_path_factory.mktemp(how)) for how in HOW}


@pytest.fixture(params=HOW)
def broken(request: pytest.FixtureRequest, runs: dict[str, Future[Broken]]) -> Broken:
    return runs[request.param].result()


def test_it_is_noticed_soon_and_mended(broken: Broken) -> None:
    restarted = broken.only("EngineRestarted")

    measured("until it was noticed", restarted["at"] - broken.at)
    measured("until it was mended", restarted["seconds"])
    assert restarted["at"] - broken.at < 8  # five seconds, on a machine that does nothing else
    assert restarted["seconds"] < 20
    assert broken.ports[0] == broken.ports[1]


def test_the_fault_is_on_again_and_healed_at_its_end(broken: Broken) -> None:
    ended = broken.only("FaultEnded")

    assert ended["found"] == {"enabled": True, "toxics": []}
    assert [probe["outcome"] for probe in kinds_of(broken.folder, "EdgeProbed") if probe["moment"] == "after"] == ["answered"]
    assert kinds_of(broken.folder, "FaultRefused") == []
    mended = broken.only("EngineRestarted")
    met = broken.requests_between(mended["at"] + mended["seconds"] + 1, ended["at"] - 1)
    assert met.bears("without-back").sum() > 50


def test_the_verdict_is_inconclusive_for_that_reason(broken: Broken) -> None:
    verdict = verdict_of(broken.run.reports)

    assert verdict["word"] == "inconclusive"
    assert broken.code == 3, broken.out
    assert evidence(verdict)["engine"] == "inconclusive"
    assert "had to be started again" in " ".join(broken.out.split())


def test_the_load_goes_on_afterwards(broken: Broken) -> None:
    assert broken.only("LoadEnded")["finished"] is True
    recovery = next(event for event in kinds_of(broken.folder, "PhaseBegan") if event["phase"] == "recovery")
    assert len(broken.requests_between(recovery["at"] + 1, recovery["at"] + 5)) > 200


def test_nothing_is_left(broken: Broken) -> None:
    assert left_of(broken.folder) == []
