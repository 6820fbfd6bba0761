"""Faults on services that are containers: what is done to them, how it is taken back, and what is read back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
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

SEEN_WITHIN = 8.0
LOOK_EVERY = 0.05


class Deeds:
    """What faults do to the containers of one run; remembers how each was before."""

    def __init__(self, project: Project, *, is_here: bool) -> None:
        self._project, self._is_here = project, is_here
        self._before: dict[tuple[str, str], dict[str, Any]] = {}

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
            self._each(change, containers, self._relieve)
            found = self._read_back(change, containers, struck=False)
            for container in containers:
                self._before.pop((change.deed, container.id), None)
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
            case "disconnect":
                self._disconnect(container)
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
    import requests
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, requests.RequestException, OSError) as error:
        raise ServiceFaultFailed(f"{change.deed} of {change.service}: {_words(error)}") from error


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
