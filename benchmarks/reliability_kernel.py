"""What the kernel tells of processes: whose they are, which sockets listen, which control groups they are in."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

PROC = Path("/proc")
PR_SET_CHILD_SUBREAPER = 36
LISTENS = "0A"
PREFIX = "chaos-"
"""What the name of every control group of a run begins with."""


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


def family() -> Iterator[psutil.Process]:
    """Every living descendant of this process."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def command_of(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:200]
    except OSError:
        return "?"


def marked(folder: Path) -> Iterator[int]:
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


def sockets_of(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for entry in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]


def listening() -> dict[str, str]:
    """Every socket of this machine that listens, by its number, which is never given away again, with its address."""
    found = {}
    for name in ("tcp", "tcp6"):
        for row in lines_of(PROC / "net" / name)[1:]:
            fields = row.split()
            if fields[3] == LISTENS:
                found[fields[9]] = address_of(fields[1])
    return found


def address_of(local: str) -> str:
    """`0100007F:1F90` is 127.0.0.1:8080, as the kernel of a machine with small ends writes it."""
    host, _, port = local.partition(":")
    numbers = bytes.fromhex(host)[::-1] if len(host) == 8 else b""
    return f"{'.'.join(str(number) for number in numbers) or host}:{int(port, 16)}"


def groups_of(pid: int) -> Iterator[Path]:
    """The control groups of a run that a process is in."""
    for line in lines_of(PROC / str(pid) / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if Path(path).name.startswith(PREFIX):
            for top in (Path("/sys/fs/cgroup") / controllers, Path("/sys/fs/cgroup")):
                if (top / path.lstrip("/")).is_dir():
                    yield top / path.lstrip("/")


def lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
