"""Linux control groups, as files: where a group can be made, what limits it, what it has counted, and how it is removed.

Version 1 has a tree for each controller, and a group may be made below the one that this process is in. Version 2 has one
tree for all, in which a group with members of its own hands no controller on: so a group is made below the nearest one
above this process that does.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["cpu", "memory"]
"""What can be limited; a controller has the same name."""

PROC = Path("/proc")
MEMBERS = "cgroup.procs"
PREFIX = "chaos-"
"""Every group of a run begins with this; another is never removed."""

PERIOD = 100_000
"""Microseconds over which a share of processors is meted out."""

UNLIMITED = 2**62
"""From here on a limit of memory limits nothing: version 1 tells its highest number."""

NEEDED = {
    ("cpu", 1): "cpu.cfs_quota_us",
    ("memory", 1): "memory.limit_in_bytes",
}
"""The file without which a kernel cannot limit it; in version 2 a controller is whole or not there."""

REMOVE_TRIES = 40
TRY_AGAIN_SECONDS = 0.05


class CannotLimit(Exception):
    """Nothing can be limited here, and why."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where groups with one controller can be made, and `back`, the group that members of them go back to."""

    version: Literal[1, 2]
    folder: Path
    back: Path


@dataclass(frozen=True, slots=True)
class Counted:
    """What a group has counted at its limits: periods throttled, times that memory was refused, processes killed for it."""

    throttled: int = 0
    refused: int = 0
    killed: int = 0


def home_of(kind: Kind, proc: Path = PROC) -> Home:
    """Where a group that limits it can be made; raises CannotLimit with the reason where there is no such place."""
    mounts = _mounts(proc)
    if not mounts:
        raise CannotLimit("this system has no control groups (they are Linux's, mounted under /sys/fs/cgroup)")
    own = _own_paths(proc)
    first = next((mount for mount in mounts if kind in mount.controllers), None)
    if first is not None:
        folder = first.folder_of(own.get(kind, "/"))
        return _usable(Home(1, folder, folder), kind)
    second = next((mount for mount in mounts if mount.version == 2), None)
    if second is None:
        raise CannotLimit(f"the controller {kind} of Linux's control groups is not there")
    back = second.folder_of(own.get("", "/"))
    return _usable(Home(2, _handing_on(kind, back, second), back), kind)


@dataclass(frozen=True, slots=True)
class _Mount:
    version: int
    controllers: frozenset[str]
    root: str
    at: Path

    def folder_of(self, path: str) -> Path:
        """The folder of a group; a mount may show a part of the tree alone."""
        inside = os.path.relpath(path, self.root)
        if inside.startswith("..") or path.startswith("/.."):
            raise CannotLimit(f"the control group of this process ({path}) is outside of what {self.at} shows")
        return self.at / inside


def _mounts(proc: Path) -> list[_Mount]:
    found = []
    for line in _lines(proc / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind in ("cgroup", "cgroup2"):
            _, _, _, root, at, *_ = before.split()
            controllers = frozenset(options.split()[-1].split(",")) if kind == "cgroup" else frozenset()
            found.append(_Mount(2 if kind == "cgroup2" else 1, controllers, root, Path(at.replace("\\040", " "))))
    return found


def _own_paths(proc: Path) -> dict[str, str]:
    """The group of this process, by controller; in the tree of version 2 under no name."""
    found: dict[str, str] = {}
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _handing_on(kind: Kind, own: Path, mount: _Mount) -> Path:
    """The nearest group, from the own one upwards, whose children have the controller."""
    above = [own, *(folder for folder in own.parents if folder.is_relative_to(mount.at))]
    for folder in above:
        if kind in " ".join(_lines(folder / "cgroup.subtree_control")).split():
            return folder
    if kind not in " ".join(_lines(mount.at / "cgroup.controllers")).split():
        raise CannotLimit(f"the controller {kind} of Linux's control groups is not there ({mount.at}/cgroup.controllers)")
    raise CannotLimit(
        f"no control group from {own} upwards hands the controller {kind} on (cgroup.subtree_control), "
        f"and one that has processes of its own cannot begin to"
    )


def _usable(home: Home, kind: Kind) -> Home:
    needed = NEEDED.get((kind, home.version))
    if needed is not None and not (home.folder / needed).exists():
        raise CannotLimit(f"this kernel has no limit of {kind} for control groups ({home.folder}/{needed} is not there)")
    for path in (home.folder, home.folder / MEMBERS):
        if not os.access(path, os.W_OK):
            raise CannotLimit(
                f"no control group can be made, since {path} cannot be written to: run it as root, or, "
                f"with systemd, in a scope of your own (systemd-run --user --scope -p Delegate=yes)"
            )
    return home


@dataclass(frozen=True, slots=True)
class Group:
    """One control group of a run's own: a folder whose files are its limits."""

    version: int
    folder: Path

    def make(self) -> None:
        """It is there when this returns."""
        self.folder.mkdir(exist_ok=True)

    def members(self) -> set[int]:
        """The processes in it, by their numbers."""
        return {int(line) for line in _lines(self.folder / MEMBERS)}

    def take_in(self, pids: Iterable[int]) -> None:
        """Put processes into it; one that is gone is left out. Whatever they start from now on is in it too."""
        _move(pids, self.folder)

    def limit(self, kind: Kind, value: float) -> None:
        """Let its members have so many processors, or so many bytes of memory and swap together, and no more."""
        match kind, self.version:
            case "cpu", 1:
                self._write("cpu.cfs_period_us", PERIOD)
                self._write("cpu.cfs_quota_us", round(value * PERIOD))
            case "cpu", _:
                self._write("cpu.max", f"{round(value * PERIOD)} {PERIOD}")
            case "memory", 1:
                self._limit_memory_and_swap(int(value))
            case _:
                self._write_if_there("memory.swap.max", 0)
                self._write("memory.max", int(value))

    def lift(self, kind: Kind) -> None:
        """Limit it no longer."""
        match kind, self.version:
            case "cpu", 1:
                self._write("cpu.cfs_quota_us", -1)
            case "cpu", _:
                self._write("cpu.max", f"max {PERIOD}")
            case "memory", 1:
                self._write_if_there("memory.memsw.limit_in_bytes", -1)
                self._write("memory.limit_in_bytes", -1)
            case _:
                self._write("memory.max", "max")
                self._write_if_there("memory.swap.max", "max")

    def limit_of(self, kind: Kind) -> float | None:
        """The limit that is on; None where there is none."""
        match kind, self.version:
            case "cpu", 1:
                quota, period = self._number("cpu.cfs_quota_us"), self._number("cpu.cfs_period_us")
                return quota / period if quota > 0 else None
            case "cpu", _:
                told, _, per = self._text("cpu.max").partition(" ")
                return None if told == "max" else int(told) / int(per or PERIOD)
            case "memory", 1:
                limit = self._number("memory.limit_in_bytes")
                return limit if limit < UNLIMITED else None
            case _:
                text = self._text("memory.max")
                return None if text == "max" else int(text)

    def counted(self, kind: Kind) -> Counted:
        """What has become of it at its limits since it was made."""
        if kind == "cpu":
            return Counted(throttled=self._rows("cpu.stat").get("nr_throttled", 0))
        if self.version == 1:
            refused = self._number("memory.failcnt")
            return Counted(refused=refused, killed=self._rows("memory.oom_control").get("oom_kill", 0))
        events = self._rows("memory.events")
        return Counted(refused=events.get("max", 0), killed=events.get("oom_kill", 0))

    def _limit_memory_and_swap(self, value: int) -> None:
        """Memory with swap may never be less than memory alone: which comes first depends on whether it grows or shrinks."""
        names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        if (self.folder / names[1]).exists() and value > self._number(names[1]):
            names.reverse()
        for name in names:
            self._write_if_there(name, value) if "memsw" in name else self._write(name, value)

    def _write(self, name: str, value: object) -> None:
        (self.folder / name).write_text(f"{value}\n", encoding="ascii")

    def _write_if_there(self, name: str, value: object) -> None:
        """A kernel that does not count swap has no file for it."""
        if (self.folder / name).exists():
            self._write(name, value)

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="ascii").strip()

    def _number(self, name: str) -> int:
        return int(self._text(name))

    def _rows(self, name: str) -> dict[str, int]:
        rows = (line.split() for line in _lines(self.folder / name))
        return {row[0]: int(row[1]) for row in rows if len(row) == 2}


def _move(pids: Iterable[int], folder: Path) -> None:
    for pid in pids:
        try:
            (folder / MEMBERS).write_text(f"{pid}\n", encoding="ascii")
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise


def remove_group(path: str, back: str) -> str | None:
    """Remove a group of a run, its members put back; tells why it is left. One that is gone already is no failure."""
    folder = Path(path)
    if not folder.exists():
        return None
    if not folder.name.startswith(PREFIX) or not (folder / MEMBERS).exists():
        return f"expected a control group named {PREFIX}…, found {path}; nothing else is ever removed"
    reason = ""
    for _ in range(REMOVE_TRIES):
        try:
            _move(Group(1, folder).members(), Path(back))
            folder.rmdir()
        except FileNotFoundError:
            return None
        except OSError as error:  # somebody was born in it meanwhile, or the kernel still counts one who has just left
            reason = str(error)
            time.sleep(TRY_AGAIN_SECONDS)
        else:
            return None
    return f"{path}: {reason}"
