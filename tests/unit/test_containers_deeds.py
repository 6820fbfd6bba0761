"""Faults on containers, by an engine that is made up: what is refused, what is translated, and whose process is killed."""

from __future__ import annotations

import subprocess
import sys
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
        self.attrs: dict[str, Any] = {
            "Image": "order:1",
            "State": {"Running": True, "Restarting": False, "Paused": False, "Pid": pid, "FinishedAt": "never"},
            "HostConfig": {"CpuQuota": 0, "Memory": 0, "MemorySwap": 0, "NetworkMode": "shop_default", **limits},
            "NetworkSettings": {"Networks": {"shop_default": {"NetworkID": "7"}}},
        }

    def reload(self) -> None:
        if self.breaks is not None:
            raise self.breaks

    def pause(self) -> None:
        self.attrs["State"]["Paused"] = True

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
        self.container.attrs["State"]["FinishedAt"] = "now"


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
