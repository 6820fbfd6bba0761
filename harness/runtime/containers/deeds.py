"""Faults on services that are containers: what is done to them, how it is taken back, and what is read back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from harness.errors import ServiceFaultFailed
from harness.plan.plan import ServiceChange
from harness.runtime.containers.crash_loops import CrashLoops
from harness.runtime.containers.project import Project
from harness.runtime.containers.removal import NUMBER_LABEL

CPU_PERIOD = 100_000
"""Microseconds over which a share of processors is meted out; Docker's own default."""

GRACE_SECONDS = 10
"""How long a service may take to end when it is asked to; after that it is killed, as by `docker stop`."""

NAMES_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
"""What an engine mounts into each container from the container's own folder."""

NEAR = 0.9
"""The share of its memory limit that a service which was pressed by it uses."""

SEEN_WITHIN = 8.0
LOOK_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class Strain:
    """What the engine counted of a container at its limits: periods throttled, times turned away, memory used."""

    throttled: int
    turned_away: int
    share: float


def strain_of(stats: dict[str, Any]) -> Strain:
    """From the engine's statistics. Control groups v2 do not count who was turned away; caches that can be dropped at
    any time are no use of memory.
    """
    memory = stats.get("memory_stats") or {}
    more = memory.get("stats") or {}
    caches = more.get("total_inactive_file", more.get("inactive_file", 0))
    used, limit = max(0, memory.get("usage", 0) - caches), memory.get("limit", 0)
    throttling = (stats.get("cpu_stats") or {}).get("throttling_data") or {}
    return Strain(throttling.get("throttled_periods", 0), memory.get("failcnt", 0), used / limit if limit else 0.0)


class Deeds:
    """What faults do to the containers of one run; remembers how each was before.

    `tell` is given a service, an instance, what a limit did to it, and how much: `throttled` or `pressed`.
    """

    def __init__(
        self, project: Project, *, is_here: bool, tell: Callable[[str, str, str, str], None] = lambda *_told: None
    ) -> None:
        self._project, self._is_here, self._tell = project, is_here, tell
        self._before: dict[tuple[str, str], dict[str, Any]] = {}
        self._strained: dict[tuple[str, str], Strain] = {}
        self._loops = CrashLoops(self._crash)

    def close(self) -> None:
        """Nothing more is done to anybody."""
        self._loops.end_all()

    def strike(self, change: ServiceChange) -> dict[str, Any]:
        """Do it to every container of the service; the state read back, as `harness.plan.services.struck` words it."""
        with _told_as_failed(change):
            containers = self._containers(change)
            for container in containers:
                self._check(change, container)
            if change.deed == "scale":
                _check_scale(change, containers)
            for container in containers:
                self._before.setdefault((change.deed, container.id), container.attrs)
            if change.deed == "crash_loop":
                self._loops.begin(change.service, containers, change.lives or 0.0)
            else:
                struck = containers[change.to :] if change.deed == "scale" else containers
                self._each(change, struck, self._strike)
            return self._read_back(change, containers, struck=True)

    def relieve(self, change: ServiceChange) -> dict[str, Any]:
        """Take it back; the state read back, as `relieved` words it. What runs already is left alone."""
        broken = self._loops.end(change.service) if change.deed == "crash_loop" else None
        with _told_as_failed(change):
            containers = self._containers(change)
            try:
                self._tell_of_strain(change, containers)
            finally:
                self._each(change, containers, self._relieve)
            found = self._read_back(change, containers, struck=False)
            for container in containers:
                self._before.pop((change.deed, container.id), None)
                self._strained.pop((change.deed, container.id), None)
            if broken is not None:
                raise ServiceFaultFailed(f"crash_loop of {change.service}: it was not killed again to the end: {broken}")
            return found

    def _containers(self, change: ServiceChange) -> Sequence[Any]:
        containers = self._project.containers(change.service)
        if not containers:
            raise ServiceFaultFailed(f"{change.deed} of {change.service}: expected a container of it, found none")
        return sorted(containers, key=_number)

    def _each(self, change: ServiceChange, containers: Sequence[Any], deed: Callable[[ServiceChange, Any], None]) -> None:
        with ThreadPoolExecutor(len(containers)) as pool:
            list(pool.map(lambda container: deed(change, container), containers))

    def _check(self, change: ServiceChange, container: Any) -> None:
        """What would do nothing is refused."""
        what = f"{change.deed} of {change.service}"
        varied = (change.deed, container.id) in self._before  # what a limit that is on made of it is no obstacle to another
        if container.status != "running" and not varied:
            raise ServiceFaultFailed(f"{what}: expected it to run, found it {container.status}")
        if change.deed == "disconnect" and not _own_networks(container):
            mode = container.attrs["HostConfig"]["NetworkMode"]
            raise ServiceFaultFailed(f"{what}: expected it on a network of its own, found it on none (network_mode: {mode})")
        has = self._before.get((change.deed, container.id), container.attrs)["HostConfig"]
        if change.deed == "cpu":
            cores = _least(_cores(has), self._project.client.info()["NCPU"])
            if (change.cores or 0) >= cores:
                raise ServiceFaultFailed(
                    f"{what}: expected a limit below the {cores:g} processors that it has, found {change.cores:g}"
                )
        if change.deed == "memory":
            limit = _least(has["Memory"], self._project.client.info()["MemTotal"])
            if (change.bytes or 0) >= limit:
                raise ServiceFaultFailed(f"{what}: expected a limit below the {limit} bytes that it has, found {change.bytes}")

    # doing

    def _strike(self, change: ServiceChange, container: Any) -> None:  # noqa: C901 - a line or two for each deed
        match change.deed:
            case "kill":
                container.kill()
            case "stop" | "scale":
                container.stop(timeout=GRACE_SECONDS)
            case "restart":
                container.restart(timeout=GRACE_SECONDS)
            case "pause":
                container.pause()
            case "crash":
                self._crash(container)
            case "cpu" | "memory":
                _limit(change, container)
                if (change.deed, container.id) not in self._strained:
                    with suppress(*_failures()):  # without it nothing is told, and the limit is on all the same
                        self._strained[change.deed, container.id] = self._strain(container)
            case "disconnect":
                self._disconnect(container)
            case "crash_loop":
                raise AssertionError(change)
            case _:
                assert_never(change.deed)

    def _relieve(self, change: ServiceChange, container: Any) -> None:  # noqa: C901 - a line or two for each deed
        before = self._before.get((change.deed, container.id), container.attrs)
        match change.deed:
            case "kill" | "stop" | "restart" | "crash" | "crash_loop":
                _bring_back(container)
            case "scale":
                if (change.deed, container.id) in self._before:
                    _bring_back(container)
            case "pause":
                if container.status == "paused":
                    container.unpause()
            case "cpu":
                container.update(cpu_period=CPU_PERIOD, cpu_quota=before["HostConfig"]["CpuQuota"] or -1)
            case "memory":
                limits = before["HostConfig"]
                container.update(mem_limit=limits["Memory"], memswap_limit=limits["MemorySwap"])
                if (change.deed, container.id) in self._before:  # it may have been the end of it
                    _bring_back(container)
            case "disconnect":
                self._reconnect(container, before["NetworkSettings"]["Networks"])
            case _:
                assert_never(change.deed)

    def _crash(self, container: Any) -> None:
        """Kill the main process from outside: the API's own kill would count as wanted, and no restart policy would act."""
        pid = container.attrs["State"]["Pid"]
        if not pid:
            raise ServiceFaultFailed(f"crash: {container.name} does not run")
        if self._is_here and _is_process_of(pid, container.id):
            with suppress(PermissionError, ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return
        self._kill_from_beside(container, pid)

    def _kill_from_beside(self, container: Any, pid: int) -> None:
        """Where this process may not: a container of the service's own image that sees the engine's processes."""
        self._project.client.containers.run(
            container.attrs["Image"],
            entrypoint=["/bin/sh", "-c", f"kill -9 {int(pid)}"],
            command=[],
            pid_mode="host",
            user="0:0",
            privileged=True,
            network_mode="none",
            labels={"com.docker.compose.project": self._project.name, "com.docker.compose.service": "chaos-crash"},
            remove=True,
        )

    def _disconnect(self, container: Any) -> None:
        for network in _network_ids(container):
            self._project.client.networks.get(network).disconnect(container, force=True)

    def _reconnect(self, container: Any, networks: dict[str, dict[str, Any]]) -> None:
        """To each network it was on, under the names and the address it had there."""
        now = _network_ids(container)
        for network in networks.values():
            if network["NetworkID"] not in now:
                given = network.get("IPAMConfig") or {}
                self._project.client.networks.get(network["NetworkID"]).connect(
                    container, aliases=network.get("Aliases"), ipv4_address=given.get("IPv4Address")
                )

    # what a limit did

    def _tell_of_strain(self, change: ServiceChange, containers: Sequence[Any]) -> None:
        """What the engine counted of a limit while it was on; nothing where it did not count, or no longer can."""
        for container in containers:
            before = self._strained.get((change.deed, container.id))
            if before is None:
                continue
            try:
                now = self._strain(container)
            except _failures():
                continue
            if change.deed == "cpu" and (periods := _rise(before.throttled, now.throttled)):
                self._tell(change.service, container.name, "throttled", f"{periods} periods")
            elif change.deed == "memory" and (times := _rise(before.turned_away, now.turned_away)):
                self._tell(change.service, container.name, "pressed", f"{times} times at its limit")
            elif change.deed == "memory" and now.share >= NEAR:
                self._tell(change.service, container.name, "pressed", f"{100 * now.share:.0f} % of its limit used")

    def _strain(self, container: Any) -> Strain:
        return strain_of(self._project.client.api.stats(container.id, stream=False, one_shot=True))

    # reading back

    def _read_back(self, change: ServiceChange, containers: Sequence[Any], *, struck: bool) -> dict[str, Any]:
        """The state of all containers together, once it is what it should be, or after a while as it is."""
        from harness.plan.services import relieved
        from harness.plan.services import struck as struck_by

        wanted = struck_by(change) if struck else relieved(change)
        until = time.monotonic() + SEEN_WITHIN
        while True:
            found = [self._state(change, container) for container in containers]
            if change.deed == "scale":
                found = [self._state_of_all(change, containers)]
            reduced = [{key: state[key] for key in wanted} for state in found]
            off = next((state for state in reduced if state != wanted), None)
            if off is None or time.monotonic() > until:
                more = {"of": found[0]["of"]} if struck and "of" in found[0] else {}
                return {**(off or reduced[0]), **more}
            time.sleep(LOOK_EVERY)

    def _state(self, change: ServiceChange, container: Any) -> dict[str, Any]:
        container.reload()
        before = self._before.get((change.deed, container.id), container.attrs)
        state, limits, limits_before = container.attrs["State"], container.attrs["HostConfig"], before["HostConfig"]
        return {
            "running": _runs(container),
            "paused": bool(state["Paused"]),
            "restarted": state["FinishedAt"] != before["State"]["FinishedAt"],
            "looping": self._loops.are_at_work(change.service),
            "cores": _cores_found(change, limits),
            "bytes": limits["Memory"] or None,
            "limited": _is_limited(change, limits, limits_before),
            "connected": bool(_networks(container)),
        }

    def _state_of_all(self, change: ServiceChange, containers: Sequence[Any]) -> dict[str, Any]:
        """How many of a service's containers run, of how many; they were looked at just now."""
        there = sum(_runs(container) for container in containers)
        of = sum((change.deed, container.id) in self._before for container in containers) or there
        paused = any(container.attrs["State"]["Paused"] for container in containers)
        return {"running": there > 0, "paused": paused, "replicas": there, "of": of, "scaled": there != of}


def _check_scale(change: ServiceChange, containers: Sequence[Any]) -> None:
    if (change.to or 0) >= len(containers):
        raise ServiceFaultFailed(
            f"scale of {change.service}: expected fewer than the {len(containers)} of it that run, found to: {change.to}"
        )


def _number(container: Any) -> int:
    """The number that Compose gave to a container of a service."""
    return int(container.labels.get(NUMBER_LABEL, 0))


def _runs(container: Any) -> bool:
    """An engine tells of one that waits to be started again that it runs."""
    state = container.attrs["State"]
    return bool(state["Running"]) and not state["Restarting"]


def _bring_back(container: Any) -> None:
    """Start it where it is down; one that waits to be started again, for up to a minute, is started now."""
    if container.status == "restarting":
        container.restart(timeout=0)
    elif container.status not in ("running", "paused"):
        container.start()


def _cores_found(change: ServiceChange, limits: dict[str, Any]) -> float | None:
    """The processors that it may use; those that were asked for, where they differ by less than an engine can say."""
    if limits["CpuQuota"] <= 0:
        return None
    asked = change.cores or 0.0
    return asked if round(asked * CPU_PERIOD) == limits["CpuQuota"] else float(limits["CpuQuota"] / CPU_PERIOD)


def _is_limited(change: ServiceChange, now: dict[str, Any], before: dict[str, Any]) -> bool:
    if change.deed == "memory":
        return bool(now["Memory"] != before["Memory"])
    return bool(max(0, now["CpuQuota"]) != max(0, before["CpuQuota"]))


def _limit(change: ServiceChange, container: Any) -> None:
    if change.deed == "cpu":
        container.update(cpu_period=CPU_PERIOD, cpu_quota=round((change.cores or 0) * CPU_PERIOD))
    else:
        container.update(mem_limit=change.bytes, memswap_limit=change.bytes)


def _networks(container: Any) -> list[dict[str, Any]]:
    return [network for network in container.attrs["NetworkSettings"]["Networks"].values() if network["NetworkID"]]


def _network_ids(container: Any) -> set[str]:
    return {network["NetworkID"] for network in _networks(container)}


@contextmanager
def _told_as_failed(change: ServiceChange) -> Iterator[None]:
    """Whatever is wrong with the engine, or on the way to it, is a deed that could not be done."""
    try:
        yield
    except _failures() as error:
        raise ServiceFaultFailed(f"{change.deed} of {change.service}: {_words(error)}") from error


def _failures() -> tuple[type[Exception], ...]:
    """What is raised where an engine does not do what it was asked, or does not answer."""
    import requests
    from docker.errors import DockerException

    return DockerException, requests.RequestException, OSError


def _rise(before: int, now: int) -> int:
    """How much was counted; a container that was started again counts anew."""
    return now - before if now >= before else now


def _is_process_of(pid: int, container: str) -> bool:
    """Whether the process that bears this number here is the container's; where that is not sure, it is not.

    An engine on this machine may count processes otherwise than this process does: in a virtual machine of its own, or
    where the harness is in a container. The control group names the container, but for one that is seen as `/`; the
    names' files are mounted from the container's own folder, at paths that no other process has them at.
    """
    of_process = Path("/proc") / str(pid)
    try:
        if container in (of_process / "cgroup").read_text(encoding="utf-8", errors="replace"):
            return True
        mounts = (of_process / "mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(container in root and at in NAMES_FILES for _, _, _, root, at, *_ in map(str.split, mounts))


def _cores(limits: dict[str, Any]) -> float:
    """The share of processors that a container may use; 0 where nothing limits it."""
    if limits["CpuQuota"] > 0:
        return float(limits["CpuQuota"] / (limits.get("CpuPeriod") or CPU_PERIOD))
    return float((limits.get("NanoCpus") or 0) / 1e9)


def _least(limit: float, there: float) -> float:
    return min(limit, there) if limit > 0 else there


def _own_networks(container: Any) -> list[dict[str, Any]]:
    """Those it can be taken off: none where it shares somebody else's."""
    mode = str(container.attrs["HostConfig"].get("NetworkMode", ""))
    return [] if mode in ("host", "none") or mode.startswith("container:") else _networks(container)


def _words(error: BaseException) -> str:
    return str(getattr(error, "explanation", None) or error)
