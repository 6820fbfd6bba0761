"""Containers of a run are relieved before they are removed: an engine takes its time with one that stands still."""

from __future__ import annotations

from typing import Any

from harness.runtime.containers.removal import reliefs_of


class MemoryEngine:
    """The calls of an engine's API that are needed, and what became of each container."""

    def __init__(self, states: dict[str, tuple[str, int]]) -> None:
        self.states = states
        self.asked: dict[str, Any] = {}

    def containers(self, **asked: Any) -> list[dict[str, Any]]:
        self.asked = asked
        return [{"Id": name, "State": state} for name, (state, _) in self.states.items()]

    def unpause(self, name: str) -> None:
        self.states[name] = ("running", self.states[name][1])

    def inspect_container(self, name: str) -> dict[str, Any]:
        return {"HostConfig": {"CpuQuota": self.states[name][1]}}

    def update_container(self, name: str, cpu_quota: int) -> None:
        self.states[name] = (self.states[name][0], cpu_quota)


def test_what_stands_still_goes_on_and_what_is_limited_is_so_no_longer() -> None:
    engine = MemoryEngine({"still": ("paused", 0), "both": ("paused", 50), "slow": ("running", 50), "gone": ("exited", 50)})

    for relief in reliefs_of(engine, "chaos-1"):
        relief()

    assert engine.states == {"still": ("running", 0), "both": ("running", -1), "slow": ("running", -1), "gone": ("exited", 50)}
    assert engine.asked == {"all": True, "filters": {"label": "com.docker.compose.project=chaos-1"}}
