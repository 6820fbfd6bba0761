"""What of a journal is still there, in words: a journal tells what there was to undo, and most of that may be gone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, assert_never

from harness.runtime.ending import EndProcessGroup, family_of, process_table
from harness.runtime.services.control_groups import MEMBERS
from harness.runtime.services.deeds import stands_still
from harness.runtime.undo import RemoveControlGroup, RemoveFolder, RemoveProject, RestoreProxies, Undo, describe

Families: TypeAlias = Mapping[EndProcessGroup, set[int]]
"""Who is left of each process that was started, by number."""


def remains(undos: Sequence[Undo]) -> list[str]:
    """Those that have something to undo, with what stands still or is limited; engines are not asked."""
    table = process_table()
    groups = [undo for undo in undos if isinstance(undo, EndProcessGroup)]
    families = {group: {process.pid for process in family_of(group, table)} for group in groups}
    return [line for undo in undos if (line := _remains(undo, families)) is not None]


def _remains(undo: Undo, families: Families) -> str | None:
    match undo:
        case EndProcessGroup():
            still = ", which stands still (SIGSTOP)" if any(map(stands_still, families[undo])) else ""
            return f"{describe(undo)}{still}" if families[undo] else None
        case RemoveControlGroup(path=path):
            return f"{describe(undo)}{_limited(Path(path), families)}" if os.path.lexists(path) else None
        case RemoveFolder(path=path):
            return describe(undo) if os.path.lexists(path) else None
        case RestoreProxies() | RemoveProject():
            return describe(undo)
        case _:
            assert_never(undo)


def _limited(group: Path, families: Families) -> str:
    """Who is in a control group; a process that none of the run's is, by its number."""
    with suppress(OSError, ValueError):
        members = set(map(int, (group / MEMBERS).read_text(encoding="ascii").split()))
        names = [leader.name for leader, family in families.items() if family & members]
        others = sorted(members.difference(*families.values()))
        named = [*names, *(f"pid {pid}" for pid in others)]
        return f", which limits {', '.join(named)}" if named else ""
    return ""
