"""What a run left on this machine, found without the help of the harness's own clearing up.

A trial keeps everything of its run in one folder (temporary files, reports, the machine's register of runs), and is the
kernel's heir of every orphan of that run, so that no process can leave its family. The journal is read for names alone: which
control group, which engine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil
from docker.errors import DockerException

from benchmarks.reliability_kernel import (
    PREFIX,
    PROC,
    bury,
    command_of,
    family,
    groups_of,
    lines_of,
    listening,
    marked,
    sockets_of,
)

ANSWERS_WITHIN = 1.0
GUARDIAN = "harness.runtime.guardian"


class Left(NamedTuple):
    """One thing that is still there."""

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


@dataclass
class Traces:
    """What is known of the run of one trial in `folder`; the rest is gathered by looking while it lives.

    `engine` is a client of the Docker engine at `host`, where the run has containers.
    """

    folder: Path
    engine: Any = None
    host: str = ""
    pids: set[int] = field(default_factory=set)
    listeners: set[str] = field(default_factory=set)
    groups: set[Path] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)

    @property
    def temporary(self) -> Path:
        """Where the run has its temporary files, and nobody else."""
        return self.folder / "tmp"

    @property
    def register(self) -> Path:
        """Where the run is registered, and no other."""
        return self.folder / "state" / "runs"

    def runs(self) -> list[Path]:
        """The folders of runs that were begun: one, or none yet."""
        return [path for path in self.folder.glob("reports/*/2*") if path.is_dir() and not path.is_symlink()]

    def look(self) -> None:
        """See what there is to be found later; often enough, for who is gone cannot be asked."""
        living = list(family())
        self.pids |= {process.pid for process in living}
        sockets = {socket for process in living for socket in sockets_of(process.pid)}
        self.listeners |= sockets & listening().keys()
        for process in living:
            self.groups |= set(groups_of(process.pid))
        self.groups |= self.groups_of_journal()
        if self.engine is not None:
            self.volumes |= {mount["Name"] for one in self._containers() for mount in one["Mounts"] if mount.get("Name")}

    def groups_of_journal(self) -> set[Path]:
        """The control groups that the run says it has."""
        return {Path(undo["path"]) for undo in self._journal("RemoveControlGroup")}

    def _journal(self, kind: str) -> Iterator[dict[str, Any]]:
        for run in self.runs():
            for line in lines_of(run / "undo.jsonl"):
                with suppress(ValueError):
                    data = json.loads(line)
                    if data.get("undo") == kind:
                        yield data

    # what is left

    def left(self, but: Iterable[int] = ()) -> list[Left]:
        """Everything of the run that is still there, but for processes of the trial itself."""
        spared = {os.getpid(), *but}
        found = [*_processes(self.folder, spared), *self._files(), *self._kernel()]
        return found + (list(self._of_engine()) if self.engine is not None else [])

    def _files(self) -> Iterator[Left]:
        if self.temporary.is_dir():
            yield from (Left("temporary", str(path)) for path in self.temporary.iterdir())
        if self.register.is_dir():
            yield from (Left("registered", path.name) for path in self.register.glob("[!.]*"))
        yield from (Left("draft", str(path)) for path in (self.folder / "reports").rglob("*.part"))

    def _kernel(self) -> Iterator[Left]:
        yield from (Left("control group", str(path)) for path in sorted(self.groups) if path.is_dir())
        there = listening()
        yield from (Left("listener", there[socket]) for socket in sorted(self.listeners & there.keys()))
        for row in lines_of(PROC / "sysvipc/shm")[1:]:
            creator = int(row.split()[4])
            if creator in self.pids:
                yield Left("shared memory", f"of process {creator}")

    def projects(self) -> list[str]:
        """What everything of these runs is labelled with on an engine."""
        return [f"{PREFIX}{run.name}".lower() for run in self.runs()]

    def _containers(self) -> list[Any]:
        return [
            one
            for project in self.projects()
            for one in self.engine.api.containers(all=True, filters={"label": f"com.docker.compose.project={project}"})
        ]

    def _of_engine(self) -> Iterator[Left]:
        api = self.engine.api
        for project in self.projects():
            for one in api.containers(all=True):
                if project in json.dumps([one["Names"], one["Labels"]]):
                    yield Left("container", f"{one['Names'][0]} {one['State']}")
            for one in api.networks():
                if project in json.dumps([one["Name"], one["Labels"]]):
                    yield Left("network", one["Name"])
            for one in api.volumes()["Volumes"] or []:
                if project in json.dumps([one["Name"], one["Labels"]]) or one["Name"] in self.volumes:
                    yield Left("volume", one["Name"])

    # faults that are on

    def faults(self, but: Iterable[int] = ()) -> list[Left]:
        """Every fault that is on: on an engine that lives, on a process or container that stands still, in a control group."""
        found = list(self._impaired())
        for process in family():
            with suppress(psutil.Error):
                if process.pid not in but and process.status() == psutil.STATUS_STOPPED:
                    found.append(Left("paused", f"process {process.pid}"))
        found += [Left("limited", str(path)) for path in sorted(self.groups) if path.is_dir()]
        if self.engine is not None:
            found += self._faults_of_containers()
        return found

    def _faults_of_containers(self) -> Iterator[Left]:
        for one in self._containers():
            if one["State"] == "paused":
                yield Left("paused", one["Names"][0])
            with suppress(DockerException):
                if self.engine.api.inspect_container(one["Id"])["HostConfig"]["CpuQuota"] > 0:
                    yield Left("limited", one["Names"][0])

    def _impaired(self) -> Iterator[Left]:
        for undo in self._journal("RestoreProxies"):
            control = urlsplit(undo["control"])
            address = f"{control.hostname}:{control.port}"
            if self._is_ours(address):
                told = toxics_on(address)
                if not any(one.kind == "proxy" for one in told) or self._is_ours(address):  # it may have ended while asked
                    yield from told

    def _is_ours(self, address: str) -> bool:
        """Whether this run's engine listens there still: another run may have been given the address since."""
        if self.engine is not None:
            return any(
                address.endswith(f":{port.get('PublicPort')}") for one in self._containers() for port in one["Ports"] or []
            )
        return any(there == address and socket in self.listeners for socket, there in listening().items())


def toxics_on(address: str) -> list[Left]:
    """What is wrong with the proxies of the engine there; one that does not answer may hold anything."""
    connection = HTTPConnection(address, timeout=ANSWERS_WITHIN)
    try:
        connection.request("GET", "/proxies")
        proxies = json.loads(connection.getresponse().read())
    except ConnectionRefusedError:
        return []
    except (OSError, HTTPException, ValueError) as error:
        return [Left("proxy", f"{address} does not say what is on: {error!r}")]
    finally:
        connection.close()
    found = [Left("toxic", f"{toxic['type']} on {name}") for name, proxy in proxies.items() for toxic in proxy["toxics"]]
    return found + [Left("disabled", name) for name, proxy in proxies.items() if not proxy["enabled"]]


def guardian_of(process: psutil.Process) -> psutil.Process | None:
    """The guardian that a harness has started."""
    with suppress(psutil.Error):
        for child in process.children():
            if GUARDIAN in child.cmdline():
                return child
    return None


def remove_all(traces: Traces, but: Iterable[int] = ()) -> None:
    """Take away whatever a trial has left, so that it is not found by the next; roughly, since it has been told."""
    spared = {os.getpid(), *but}
    for _ in range(3):
        _kill({*marked(traces.folder), *(process.pid for process in family())} - spared)
        bury(but)
    _remove_things(traces)


def remove_abandoned(traces: Traces) -> None:
    """The same for a trial that is gone: its family is unknown then, and what shows its folder and its journal is removed."""
    for _ in range(3):
        _kill(set(marked(traces.folder)))
    traces.groups |= traces.groups_of_journal()
    _remove_things(traces)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, 9)


def _remove_things(traces: Traces) -> None:
    for group in traces.groups:
        with suppress(OSError):
            group.rmdir()
    if traces.engine is not None:
        from harness.runtime.containers.removal import remove_project

        for project in traces.projects():
            remove_project(project, traces.host, "")


def _processes(folder: Path, spared: set[int]) -> Iterator[Left]:
    there = {process.pid for process in family()} | set(marked(folder))
    for pid in sorted(there - spared):
        yield Left("process", f"{pid} {command_of(pid)}")
