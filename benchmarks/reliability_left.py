"""What a run left on this machine, found without the help of the harness's own clearing up.

A trial keeps everything of its run in one folder (temporary files, reports, the machine's register of runs), and is the
kernel's heir of every orphan of that run (PR_SET_CHILD_SUBREAPER), so that no process can leave its family. The journal is
read for names alone: which control group, which engine, which project.
"""

from __future__ import annotations

import ctypes
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

PROC = Path("/proc")
PR_SET_CHILD_SUBREAPER = 36
LISTENS = "0A"
ANSWERS_WITHIN = 1.0
GUARDIAN = "harness.runtime.guardian"
PREFIX = "chaos-"


class Left(NamedTuple):
    """One thing that is still there."""

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def inherit_orphans(*, yes: bool = True) -> None:
    """From now on every descendant of this process whose parent ends becomes its child; or not any more."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "expected a kernel that hands orphans on (Linux 3.4 or newer)")


def bury(but: Iterable[int] = ()) -> None:
    """Take note of orphans that have ended, as the first process of a machine does."""
    spared = set(but)
    for child in psutil.Process().children():
        with suppress(psutil.Error, ChildProcessError):
            if child.pid not in spared and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


@dataclass
class Traces:
    """What is known of the run of one trial in `folder`; the rest is gathered by looking while it lives.

    `engine` is a client of the Docker engine where the run has containers.
    """

    folder: Path
    engine: Any = None
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
        family = list(_family())
        self.pids |= {process.pid for process in family}
        sockets = {socket for process in family for socket in _sockets_of(process.pid)}
        self.listeners |= sockets & _listening().keys()
        for process in family:
            self.groups |= set(_groups_of(process.pid))
        self.groups |= {Path(undo["path"]) for undo in self._journal("RemoveControlGroup")}
        if self.engine is not None:
            self.volumes |= {mount["Name"] for one in self._containers() for mount in one["Mounts"] if mount.get("Name")}

    def _journal(self, kind: str) -> Iterator[dict[str, Any]]:
        for run in self.runs():
            for line in _lines(run / "undo.jsonl"):
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
            yield from (Left("registered", path.name) for path in self.register.iterdir())
        yield from (Left("draft", str(path)) for path in (self.folder / "reports").rglob("*.part"))

    def _kernel(self) -> Iterator[Left]:
        yield from (Left("control group", str(path)) for path in sorted(self.groups) if path.is_dir())
        there = _listening()
        yield from (Left("listener", there[socket]) for socket in sorted(self.listeners & there.keys()))
        for row in _lines(PROC / "sysvipc/shm")[1:]:
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
        for process in _family():
            with suppress(psutil.Error):
                if process.pid not in but and process.status() == psutil.STATUS_STOPPED:
                    found.append(Left("paused", f"process {process.pid}"))
        found += [Left("limited", str(path)) for path in sorted(self.groups) if path.is_dir()]
        if self.engine is not None:
            found += [Left("paused", one["Names"][0]) for one in self._containers() if one["State"] == "paused"]
        return found

    def _impaired(self) -> Iterator[Left]:
        for undo in self._journal("RestoreProxies"):
            control = urlsplit(undo["control"])
            address = f"{control.hostname}:{control.port}"
            if self._is_ours(address):
                yield from toxics_on(address)

    def _is_ours(self, address: str) -> bool:
        """Whether this run's engine listens there still: another run may have been given the address since."""
        if self.engine is not None:
            return any(str(port.get("PublicPort")) in address for one in self._containers() for port in one["Ports"] or [])
        return any(there == address and socket in self.listeners for socket, there in _listening().items())


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
        for pid in {*_marked(traces.folder), *(process.pid for process in _family())} - spared:
            with suppress(OSError):
                os.kill(pid, 9)
        bury(but)
    for group in traces.groups:
        with suppress(OSError):
            group.rmdir()
    if traces.engine is not None:
        from harness.runtime.containers.removal import remove_project

        for project in traces.projects():
            remove_project(project, traces.engine.api.base_url, "")


def _family() -> Iterator[psutil.Process]:
    """Every living descendant of this process."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _processes(folder: Path, spared: set[int]) -> Iterator[Left]:
    there = {process.pid for process in _family()} | set(_marked(folder))
    for pid in sorted(there - spared):
        yield Left("process", f"{pid} {_command(pid)}")


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:200]
    except OSError:
        return "?"


def _marked(folder: Path) -> Iterator[int]:
    """Processes that show the folder: in what they were started with, or as the place where they work."""
    mark = str(folder).encode()
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _shows(entry, mark) and _lives(entry):
            yield int(entry.name)


def _shows(entry: Path, mark: bytes) -> bool:
    for name in ("cmdline", "environ"):
        with suppress(OSError):
            if mark in (entry / name).read_bytes():
                return True
    with suppress(OSError):
        return mark in os.fsencode((entry / "cwd").readlink())
    return False


def _lives(entry: Path) -> bool:
    with suppress(OSError):
        return (entry / "stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return False


def _sockets_of(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for entry in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]


def _listening() -> dict[str, str]:
    """Every socket of this machine that listens, by its number, which is never given away again, with its address."""
    found = {}
    for name in ("tcp", "tcp6"):
        for row in _lines(PROC / "net" / name)[1:]:
            fields = row.split()
            if fields[3] == LISTENS:
                found[fields[9]] = _address(fields[1])
    return found


def _address(local: str) -> str:
    """`0100007F:1F90` is 127.0.0.1:8080, as the kernel of a machine with small ends writes it."""
    host, _, port = local.partition(":")
    numbers = bytes.fromhex(host)[::-1] if len(host) == 8 else b""
    return f"{'.'.join(str(number) for number in numbers) or host}:{int(port, 16)}"


def _groups_of(pid: int) -> Iterator[Path]:
    """The control groups of a run that a process is in."""
    for line in _lines(PROC / str(pid) / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if Path(path).name.startswith(PREFIX):
            for top in (Path("/sys/fs/cgroup") / controllers, Path("/sys/fs/cgroup")):
                if (top / path.lstrip("/")).is_dir():
                    yield top / path.lstrip("/")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
