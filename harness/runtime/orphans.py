"""Who is in the session, or the group, of a process that is gone.

Where everybody in it has ended since, its number may have been given away, and been left by a stranger in just that way. A
guardian, which is at work within seconds, need not ask; whoever comes days later ends those alone that show whose they are.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.runtime.ending import PROC, EndProcessGroup, Table, family_of, process_table
from harness.runtime.undo import RemoveFolder, Undo

STARTED = 19
"""Where /proc/<pid>/stat tells when a process was started, behind its program's name."""

UNSEEN = (
    "pid {pid} is in the session that {name} (pid {first}) had, which is gone, and nothing shows that it is this run's: "
    "it is left alone, and told this once; see what it is, and end it where it is the run's"
)


@dataclass(slots=True)
class Orphans:
    """`groups` are the undos of such sessions, by their names in the journal; `seen` end those in them that show that they are
    the run's, and `unseen` tells of the others.
    """

    groups: list[str] = field(default_factory=list)
    seen: list[Undo] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def orphans_of(folder: Path, left: Mapping[str, Undo]) -> Orphans:
    """Those of a run in `folder`, of which this is left to be undone."""
    found, table = Orphans(), process_table()
    folders = [folder, *(Path(undo.path) for undo in left.values() if isinstance(undo, RemoveFolder))]
    for name, group in left.items():
        if isinstance(group, EndProcessGroup) and _is_collected(group, table) and (family := family_of(group, table)):
            found.groups.append(name)
            for process in sorted(family, key=lambda process: process.pid):
                if _shows(process.pid, folders):
                    found.seen.append(replace(group, pid=process.pid, started=process.started))
                else:
                    found.unseen.append(UNSEEN.format(pid=process.pid, name=group.name, first=group.pid))
    return found


def who_shows(run: str) -> list[int]:
    """Who else is seen to be of a run of this name, wherever its folder is."""
    return [pid for pid in sorted(process_table()) if pid != os.getpid() and _shows(pid, [Path(run)])]


def _is_collected(group: EndProcessGroup, table: Table) -> bool:
    """Whether the first process of a session is gone; one that has ended keeps its number until it is collected."""
    if group.pid in table:
        return False
    try:
        stat = (PROC / str(group.pid) / "stat").read_bytes()
    except OSError:
        return True
    return int(stat.rpartition(b")")[2].split()[STARTED]) != group.started


def _shows(pid: int, folders: Collection[Path]) -> bool:
    """Whether a process is seen to be of the run that has these folders: it works there, or has its output go there, or they
    are named in its command or its environment.
    """
    here, shown = PROC / str(pid), list[str]()
    for link in ("cwd", "fd/1", "fd/2"):
        with suppress(OSError):
            shown.append(str((here / link).readlink()))
    for words in ("cmdline", "environ"):
        with suppress(OSError):
            shown.append(os.fsdecode((here / words).read_bytes()))
    return any(str(folder) in text for folder in folders for text in shown)
