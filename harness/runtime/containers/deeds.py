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
from harness.runtime.containers.project import Project

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

    def strike(self, change: ServiceChange) -> dict[str, Any]:
        """Do it to every container of the service; the state read back, as `harness.plan.services.struck` words it."""
        with _told_as_failed(change):
            containers = self._containers(change)
            for container in containers:
                self._check(change, container)
            for container in containers:
                self._before.setdefault((change.deed, container.id), container.attrs)
            self._each(change, containers, self._strike)
            return self._read_back(change, containers, struck=True)

    def relieve(self, change: ServiceChange) -> dict[str, Any]:
        """Take it back; the state read back, as `relieved` words it. What runs already is left alone."""
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
            return found

    def _containers(self, change: ServiceChange) -> Sequence[Any]:
        containers = self._project.containers(change.service)
        if not containers:
            raise ServiceFaultFailed(f"{change.deed} of {change.service}: expected a container of it, found none")
        return containers

    def _each(self, change: ServiceChange, containers: Sequence[Any], deed: Callable[[ServiceChange, Any], None]) -> None:
        with ThreadPoolExecutor(len(containers)) as pool:
            list(pool.map(lambda container: deed(change, container), containers))

    def _check(self, change: ServiceChange, container: Any) -> None:
        """What would do nothing is refused."""
        what = f"{change.deed} of {change.service}"
        if container.status != "running":
            raise ServiceFaultFailed(f"{what}: expected it to run, found it {container.status}")
        if change.deed == "disconnect" and not _own_networks(container):
            mode = container.attrs["HostConfig"]["NetworkMode"]
            raise ServiceFaultFailed(f"{what}: expected it on a network of its own, found it on none (network_mode: {mode})")
        if change.deed == "cpu":
            cores = _least(_cores(container.attrs["HostConfig"]), self._project.client.info()["NCPU"])
            if (change.cores or 0) >= cores:
                raise ServiceFaultFailed(
                    f"{what}: expected a limit below the {cores:g} processors that it has, found {change.cores:g}"
                )
        if change.deed == "memory":
            has = _least(container.attrs["HostConfig"]["Memory"], self._project.client.info()["MemTotal"])
            if (change.bytes or 0) >= has:
                raise ServiceFaultFailed(f"{what}: expected a limit below the {has} bytes that it has, found {change.bytes}")

    # doing

    def _strike(self, change: ServiceChange, container: Any) -> None:
        match change.deed:
            case "kill":
                container.kill()
            case "stop":
                container.stop(timeout=GRACE_SECONDS)
            case "restart":
                container.restart(timeout=GRACE_SECONDS)
            case "pause":
                container.pause()
            case "crash":
                self._crash(container)
            case "cpu" | "memory":
                _limit(change, container)
                with suppress(*_failures()):  # without it nothing is told, and the limit is on all the same
                    self._strained[change.deed, container.id] = self._strain(container)
            case "disconnect":
                self._disconnect(container)
            case "crash_loop" | "scale":
                raise ServiceFaultFailed("it cannot be done yet")
            case _:
                assert_never(change.deed)

    def _relieve(self, change: ServiceChange, container: Any) -> None:
        before = self._before.get((change.deed, container.id), container.attrs)
        match change.deed:
            case "kill" | "stop" | "restart" | "crash":
                if container.status != "running":
                    container.start()
            case "pause":
                if container.status == "paused":
                    container.unpause()
            case "cpu":
                container.update(cpu_period=CPU_PERIOD, cpu_quota=before["HostConfig"]["CpuQuota"] or -1)
            case "memory":
                limits = before["HostConfig"]
                container.update(mem_limit=limits["Memory"], memswap_limit=limits["MemorySwap"])
            case "disconnect":
                self._reconnect(container, before["NetworkSettings"]["Networks"])
            case "crash_loop" | "scale":
                raise ServiceFaultFailed("it cannot be done yet")
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
            reduced = [{key: state[key] for key in wanted} for state in found]
            off = next((state for state in reduced if state != wanted), None)
            if off is None or time.monotonic() > until:
                return off or reduced[0]
            time.sleep(LOOK_EVERY)

    def _state(self, change: ServiceChange, container: Any) -> dict[str, Any]:
        container.reload()
        before = self._before.get((change.deed, container.id), container.attrs)
        state, limits, limits_before = container.attrs["State"], container.attrs["HostConfig"], before["HostConfig"]
        return {
            "running": bool(state["Running"]),
            "paused": bool(state["Paused"]),
            "restarted": state["FinishedAt"] != before["State"]["FinishedAt"],
            "cores": limits["CpuQuota"] / CPU_PERIOD if limits["CpuQuota"] > 0 else None,
            "bytes": limits["Memory"] or None,
            "limited": (limits["Memory"], max(0, limits["CpuQuota"]))
            != (limits_before["Memory"], max(0, limits_before["CpuQuota"])),
            "connected": bool(_networks(container)),
        }


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
