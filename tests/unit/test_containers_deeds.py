"""Faults on containers, by an engine that is made up: what is refused, what is translated, and whose process is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from docker.errors import APIError

from harness.errors import ServiceFaultFailed
from harness.plan.plan import ServiceChange
from harness.runtime.containers.deeds import Deeds
from harness.runtime.containers.project import Project

ID = "4f1e" * 16


class FakeContainer:
    """A container that runs; `breaks` is raised when it is looked at again."""

    def __init__(self, pid: int = 0, **limits: Any) -> None:
        self.id, self.name, self.status, self.breaks = ID, "order-1", "running", None
        self.labels = {"com.docker.compose.container-number": "1"}
        self.starts = self.deaths = 0
        self.attrs: dict[str, Any] = {
            "Image": "order:1",
            "State": {
                "Running": True,
                "Restarting": False,
                "Paused": False,
                "Pid": pid,
                "StartedAt": "first",
                "FinishedAt": "never",
            },
            "HostConfig": {"CpuQuota": 0, "Memory": 0, "MemorySwap": 0, "NetworkMode": "shop_default", **limits},
            "NetworkSettings": {"Networks": {"shop_default": {"NetworkID": "7"}}},
        }

    def reload(self) -> None:
        if self.breaks is not None:
            raise self.breaks

    def pause(self) -> None:
        self.attrs = {**self.attrs, "State": {**self.attrs["State"], "Paused": True}}

    def start(self) -> None:
        self.starts += 1
        self.status = "running"
        state = self.attrs["State"]
        up = {"Running": True, "Restarting": False, "StartedAt": f"start {self.starts}"}
        self.attrs = {**self.attrs, "State": {**state, **up}}

    def restart(self, **_how: Any) -> None:
        self.start()

    def die(self, *, restarting: bool = False) -> None:
        self.deaths += 1
        self.status = "restarting" if restarting else "exited"
        died = {"Running": restarting, "Restarting": restarting, "FinishedAt": f"death {self.deaths}"}
        self.attrs = {**self.attrs, "State": {**self.attrs["State"], **died}}

    def update(self, **limits: Any) -> None:
        names = {"cpu_quota": "CpuQuota", "mem_limit": "Memory", "memswap_limit": "MemorySwap"}
        found = {names[name]: max(0, limit) for name, limit in limits.items() if name in names}
        self.attrs = {**self.attrs, "HostConfig": {**self.attrs["HostConfig"], **found}}


class FakeEngine:
    """A client with one container; remembers the containers that were run beside it."""

    def __init__(self, container: FakeContainer) -> None:
        self.container, self.beside = container, []
        self.containers = self.api = self
        self.counted: list[dict[str, Any] | Exception] = []

    def list(self, **_filters: Any) -> list[FakeContainer]:
        return [self.container]

    def info(self) -> dict[str, Any]:
        return {"NCPU": 2, "MemTotal": 8 * 1024**3}

    def stats(self, _id: str, *, stream: bool, one_shot: bool) -> dict[str, Any]:
        assert not stream
        assert one_shot
        counted = self.counted.pop(0)
        if isinstance(counted, Exception):
            raise counted
        return counted

    def run(self, _image: str, **how: Any) -> None:
        self.beside.append(how["entrypoint"][-1])
        state = {**self.container.attrs["State"], "FinishedAt": "now"}
        self.container.attrs = {**self.container.attrs, "State": state}


def deeds_on(container: FakeContainer, **more: Any) -> tuple[Deeds, FakeEngine]:
    engine = FakeEngine(container)
    return Deeds(Project(engine, "chaos-test"), is_here=True, **more), engine


def change(deed: str, **limits: Any) -> ServiceChange:
    return ServiceChange.model_validate({"service": "order", "deed": deed, **limits})


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this machine that is no container's."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    "error",
    [APIError("the engine is ending"), requests.ConnectionError("no engine"), OSError(104, "reset")],
    ids=["docker", "requests", "system"],
)
def test_an_engine_that_fails_while_it_is_read_back_is_a_fault_that_failed(error: Exception) -> None:
    container = FakeContainer()
    container.breaks = error  # type: ignore[assignment]
    deeds, _ = deeds_on(container)

    with pytest.raises(ServiceFaultFailed, match="pause of order: "):
        deeds.strike(change("pause"))


def test_a_process_that_bears_the_number_here_and_is_not_the_containers_is_not_killed(
    stranger: subprocess.Popen[bytes],
) -> None:
    deeds, engine = deeds_on(FakeContainer(stranger.pid))

    deeds.strike(change("crash"))

    assert stranger.poll() is None
    assert engine.beside == [f"kill -9 {stranger.pid}"]


def test_a_process_that_is_gone_already_is_left_to_the_engines_side(stranger: subprocess.Popen[bytes]) -> None:
    stranger.kill()
    stranger.wait()
    deeds, engine = deeds_on(FakeContainer(stranger.pid))

    deeds.strike(change("crash"))

    assert engine.beside == [f"kill -9 {stranger.pid}"]


@pytest.mark.parametrize("mode", ["host", "none", f"container:{ID}"])
def test_a_service_on_no_network_of_its_own_cannot_be_taken_off(mode: str) -> None:
    deeds, _ = deeds_on(FakeContainer(NetworkMode=mode))

    with pytest.raises(
        ServiceFaultFailed, match=f"expected it on a network of its own, found it on none .network_mode: {mode}"
    ):
        deeds.strike(change("disconnect"))


@pytest.mark.parametrize(
    ("had", "asked", "why"),
    [
        ({}, {"deed": "cpu", "cores": 2}, "below the 2 processors that it has, found 2"),
        ({"CpuQuota": 50_000}, {"deed": "cpu", "cores": 0.5}, "below the 0.5 processors that it has, found 0.5"),
        ({"NanoCpus": 500_000_000}, {"deed": "cpu", "cores": 1}, "below the 0.5 processors that it has, found 1"),
        ({}, {"deed": "memory", "bytes": 8 * 1024**3}, "below the 8589934592 bytes that it has"),
        ({"Memory": 64 * 1024**2}, {"deed": "memory", "bytes": 64 * 1024**2}, "below the 67108864 bytes that it has"),
        ({"Memory": 2**40}, {"deed": "memory", "bytes": 2**39}, "below the 8589934592 bytes that it has"),
    ],
)
def test_a_limit_that_limits_nothing_is_refused(had: dict[str, Any], asked: dict[str, Any], why: str) -> None:
    deeds, _ = deeds_on(FakeContainer(**had))

    with pytest.raises(ServiceFaultFailed, match=why):
        deeds.strike(ServiceChange.model_validate({"service": "order", **asked}))


def cpu(throttled: int) -> dict[str, Any]:
    return {"cpu_stats": {"throttling_data": {"throttled_periods": throttled}}, "memory_stats": {}}


def memory(usage: int, failures: int | None = None, caches: int = 0) -> dict[str, Any]:
    counts = {"usage": usage, "limit": 100, "stats": {"inactive_file": caches}}
    return {"cpu_stats": {}, "memory_stats": counts if failures is None else {**counts, "failcnt": failures}}


CPU, MEMORY = change("cpu", cores=0.2), change("memory", bytes=64 * 1024**2)


@pytest.mark.parametrize(
    ("limit", "counted", "told"),
    [
        (CPU, [cpu(5), cpu(17)], [("order", "order-1", "throttled", "12 periods")]),
        (CPU, [cpu(5), cpu(5)], []),
        (CPU, [cpu(50), cpu(3)], [("order", "order-1", "throttled", "3 periods")]),
        (MEMORY, [memory(20, 0), memory(30, 4)], [("order", "order-1", "pressed", "4 times at its limit")]),
        (MEMORY, [memory(20), memory(95)], [("order", "order-1", "pressed", "95 % of its limit used")]),
        (MEMORY, [memory(20), memory(95, caches=50)], []),
        (MEMORY, [memory(20), memory(80)], []),
        (CPU, [cpu(5), requests.ConnectionError("no engine")], []),
        (CPU, [requests.ConnectionError("no engine")], []),
    ],
)
def test_what_a_limit_did_is_told_before_it_is_lifted(
    limit: ServiceChange, counted: list[Any], told: list[tuple[str, str, str, str]]
) -> None:
    heard: list[tuple[str, str, str, str]] = []
    container = FakeContainer()
    deeds, engine = deeds_on(container, tell=lambda *said: heard.append(said))
    engine.counted = counted

    deeds.strike(limit)
    deeds.relieve(limit)

    assert heard == told
    assert engine.counted == []
    assert (container.attrs["HostConfig"]["CpuQuota"], container.attrs["HostConfig"]["Memory"]) == (0, 0)


def test_a_limit_is_lifted_whatever_telling_of_it_raises() -> None:
    def full(*_told: str) -> None:
        raise OSError(28, "No space left on device")

    container = FakeContainer()
    deeds, engine = deeds_on(container, tell=full)
    engine.counted = [cpu(5), cpu(17)]
    deeds.strike(CPU)

    with pytest.raises(ServiceFaultFailed, match="No space left"):
        deeds.relieve(CPU)

    assert container.attrs["HostConfig"]["CpuQuota"] == 0


VARIED = [change("cpu", cores=0.8), change("cpu", cores=0.3), change("cpu", cores=0.5)]


def test_a_limit_that_is_varied_is_counted_from_the_first_and_lifted_to_what_was_before_it() -> None:
    heard: list[tuple[str, ...]] = []
    container = FakeContainer(CpuQuota=90_000)
    deeds, engine = deeds_on(container, tell=lambda *said: heard.append(said))
    engine.counted = [cpu(5), cpu(17)]

    found = [deeds.strike(one) for one in VARIED]
    relieved = deeds.relieve(VARIED[-1])

    assert [state["cores"] for state in found] == [0.8, 0.3, 0.5]
    assert heard == [("order", "order-1", "throttled", "12 periods")]
    assert relieved["limited"] is False
    assert container.attrs["HostConfig"]["CpuQuota"] == 90_000


def test_a_limit_is_varied_on_a_service_that_it_was_the_end_of_and_lifting_it_brings_that_back() -> None:
    container = FakeContainer()
    deeds, engine = deeds_on(container)
    engine.counted = [memory(1, 0), memory(1, 3)]
    deeds.strike(change("memory", bytes=64 * 1024**2))
    container.die()

    assert deeds.strike(change("memory", bytes=32 * 1024**2)) == {"bytes": 32 * 1024**2}
    assert deeds.relieve(change("memory", bytes=32 * 1024**2))["running"] is True


def test_a_limit_in_numbers_finer_than_an_engine_can_say_is_read_back_as_asked() -> None:
    deeds, engine = deeds_on(FakeContainer())
    engine.counted = [cpu(0)]

    assert deeds.strike(change("cpu", cores=1 / 3))["cores"] == 1 / 3


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[FakeContainer]:
    """The containers whose main process was killed, each time."""
    found: list[FakeContainer] = []

    def kill(_deeds: Deeds, container: FakeContainer) -> None:
        found.append(container)
        container.die(restarting=len(found) == 2)

    monkeypatch.setattr(Deeds, "_crash", kill)
    return found


def wait_for(holds: Any, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_container_in_a_crash_loop_is_started_by_its_policy_or_else_from_here(killed: list[FakeContainer]) -> None:
    container = FakeContainer()
    deeds, _ = deeds_on(container)

    assert deeds.strike(change("crash_loop", lives=0.2)) == {"looping": True}
    wait_for(lambda: len(killed) == 2)
    time.sleep(0.4)
    assert (container.starts, container.status) == (1, "restarting")  # its policy is to start it now, and nobody else does
    container.start()
    wait_for(lambda: len(killed) == 3)

    assert deeds.relieve(change("crash_loop", lives=0.2)) == {"running": True, "paused": False}
    deaths = len(killed)
    time.sleep(0.5)
    assert len(killed) == deaths


def test_a_container_that_waits_to_be_started_again_is_started_when_its_crash_loop_is_over(killed: list[FakeContainer]) -> None:
    container = FakeContainer()
    deeds, _ = deeds_on(container)
    deeds.strike(change("crash_loop", lives=0.2))
    wait_for(lambda: len(killed) == 2)

    assert deeds.relieve(change("crash_loop", lives=0.2)) == {"running": True, "paused": False}
    assert container.starts == 2


def test_a_crash_loop_that_broke_off_is_told_when_it_is_relieved_and_the_service_runs(killed: list[FakeContainer]) -> None:
    container = FakeContainer()
    deeds, _ = deeds_on(container)
    deeds.strike(change("crash_loop", lives=0.2))
    container.breaks = requests.ConnectionError("the engine is restarted")  # type: ignore[assignment]
    time.sleep(0.4)
    container.breaks = None

    with pytest.raises(ServiceFaultFailed, match="it was not killed again to the end: the engine is restarted"):
        deeds.relieve(change("crash_loop", lives=0.2))

    assert container.status == "running"
    assert deeds.relieve(change("crash_loop", lives=0.2)) == {"running": True, "paused": False}


def test_nobody_is_killed_any_more_when_the_run_is_over(killed: list[FakeContainer]) -> None:
    deeds, _ = deeds_on(FakeContainer())
    deeds.strike(change("crash_loop", lives=0.2))

    deeds.close()

    deaths = len(killed)
    time.sleep(0.5)
    assert len(killed) == deaths
