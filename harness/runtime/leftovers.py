"""What the runs of this machine left behind: found, and removed.

A run whose harness is gone is found by the registry, and its journal tells how to undo it. What no registry knows any more
is found by its name or its label: temporary folders, control groups, what is at the Docker engine. Nothing of a run that is
under way is touched: one that is registered and whose harness or guardian holds the lock of its entry.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
from psutil import Process

from harness.errors import HarnessError
from harness.history.events import GuardianActed, UndoDone, UndoFailed, event_to_data
from harness.history.store import EVENTS, UNDO, append_line
from harness.runtime import registry
from harness.runtime.containers.removal import project_of
from harness.runtime.ending import EndProcessGroup, started_at
from harness.runtime.locks import is_held
from harness.runtime.orphans import orphans_of, who_shows
from harness.runtime.proxies.starting import PROXY_ENGINE
from harness.runtime.registry import (
    ABORT,
    ENTRY,
    Registered,
    forget,
    how_to_clear,
    is_alive,
    is_here,
    is_registered,
    is_said_elsewhere,
    leave,
    runs,
    runs_folder,
    unreadable,
    whereabouts,
)
from harness.runtime.remains import remains
from harness.runtime.retention import RUN
from harness.runtime.strays import Claims, places_in_use, stray_folders, stray_groups, stray_projects, writers_into
from harness.runtime.undo import (
    RemoveFolder,
    RemoveProject,
    RestoreProxies,
    Undo,
    UndoJournal,
    describe,
    end_last_line,
    left_in,
    undo_now,
)

GC = "gc"
GUARDIAN = "harness.runtime.guardian"
LOCK = ".gc"
LOCK_SECONDS = 300.0
GUARDIAN_SECONDS = 120.0
"""How long a guardian that is at work is waited for; taking down containers may take it a minute and more."""

DRAFT = re.compile(r".+\.[0-9a-f]{8}\.part")
DRAFT_SECONDS = 60.0
"""A draft so old is nobody's any more."""

FIRST_PROCESS = 1
ROUNDING_SECONDS = 1.0
"""Some file systems and process tables tell whole seconds alone."""

WHY = "neither the harness nor its guardian was there any more, and chaos gc was called"


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one run, "" where nobody knows of which; `remove` tells why some of it is still there."""

    of: str
    lines: tuple[str, ...]
    remove: Callable[[], Sequence[str]]


@dataclass(slots=True)
class Found:
    """All that is left; `notes` tell what was not touched or not looked at, and why."""

    left: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def alone() -> AbstractContextManager[None]:
    """Nobody else clears up meanwhile."""
    return registry.alone(LOCK, LOCK_SECONDS, "another chaos gc")


def find(environ: Mapping[str, str], patience: float = GUARDIAN_SECONDS) -> Found:
    """Everything that is left. Guardians that are at work are waited for, for so long, since they do it themselves."""
    found = Found()
    places = [tempfile.gettempdir(), *(entry.temporary for entry in runs() if is_here(entry))]
    if unreadable():  # nobody knows where such a run has its temporary folders
        places += places_in_use()
    strays = [*stray_folders(places), *stray_groups(), *stray_projects(environ, found.notes.append)]
    # what there is first, then whose it is: a run is registered before there is anything of it
    entries, unread, guardians = runs(), unreadable(), guardians_at_work()
    folders = {Path(entry.folder) for entry in entries} | guardians.keys()
    named = [folder.name for folder in guardians] + [path.stem for path in unread if _is_kept(path)]
    claims = Claims.of(folders, [entry.project for entry in entries] + list(map(project_of, named)))
    for undo in strays:
        if not claims.have(undo):
            writers = writers_into(Path(undo.path)) if isinstance(undo, RemoveFolder) else ()
            undos: tuple[Undo, ...] = (*writers, undo)
            found.left.append(Left("", tuple(remains(undos)), partial(undo_now, undos)))
    for entry in entries:
        if _is_left(entry, guardians.get(Path(entry.folder)), patience, found.notes):
            found.left.append(_left_of(entry, claims))
    found.left += map(_left_unreadable, unread)
    found.left += [Left("", (f"remove {draft}",), partial(_unlink, (draft,))) for draft in _drafts_of_the_registry()]
    return found


def _is_left(entry: Registered, guardian: Process | None, patience: float, notes: list[str]) -> bool:
    """Whether something of a run that is registered is to be cleared up from here; noted is why not."""
    if guardian is not None and _has_lost(guardian, entry) and not _has_ended(guardian, patience):
        notes.append(f"{entry.run} is gone; its guardian (pid {guardian.pid}) is at work on what it left")
    elif is_alive(entry):
        notes.append(f"{entry.run} is under way ({whereabouts(entry)})")
    elif not is_here(entry):
        notes.append(f"{entry.run} {how_to_clear(entry)}")
    else:
        return is_registered(entry.run)  # its guardian may have done it meanwhile
    return False


def guardians_at_work() -> dict[Path, Process]:
    """The guardians on this machine, by the folder of the run that each watches."""
    found: dict[Path, Process] = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if GUARDIAN in words and "--run" in words[:-1]:
            found[Path(words[words.index("--run") + 1])] = process
    return found


def _has_lost(guardian: Process, entry: Registered) -> bool:
    """Whether the harness is gone. As long as it is there, it is the guardian's parent, whatever number it has from here."""
    try:
        parent = guardian.ppid()
    except psutil.NoSuchProcess:
        return True
    return parent != entry.pid if not entry.started else started_at(parent) != entry.started


def _has_ended(guardian: Process, patience: float) -> bool:
    """Wait for a guardian whose harness is gone. One that was stopped would never end, and is ended."""
    until = time.monotonic() + patience
    with suppress(psutil.NoSuchProcess):
        while guardian.is_running() and guardian.status() != psutil.STATUS_ZOMBIE:
            if patience and guardian.status() == psutil.STATUS_STOPPED:
                guardian.kill()
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)
    return True


# one run that is gone


def _left_of(entry: Registered, claims: Claims) -> Left:
    folder = Path(entry.folder)
    try:
        if any((folder / name).is_symlink() for name in (".", UNDO, EVENTS)):
            return _left_unread(entry, f"{folder}: expected a run's folder, found links in it, which are not followed")
        if not folder.is_dir():
            return _left_without_folder(entry, folder, claims)
        left = left_in(folder / UNDO)
        moot = _moot(left, folder / UNDO)
        orphans = orphans_of(folder, {name: undo for name, undo in left.items() if name not in moot})
    except (HarnessError, OSError) as error:
        return _left_unread(entry, str(error))
    lines = remains([*orphans.seen, *(undo for name, undo in left.items() if name not in {*moot, *orphans.groups})])
    drafts = [path for path in _scan(folder) if DRAFT.fullmatch(path.name)]
    drafts += [path for path in (folder.parent / f".latest-{folder.name}",) if path.is_symlink()]
    lines += [f"remove {draft}" for draft in drafts]
    return Left(entry.run, (*lines, f"forget the run of {folder}"), partial(_clear, folder, moot, drafts))


def _left_unread(entry: Registered, why: str) -> Left:
    return Left(entry.run, (f"what {entry.folder} tells",), lambda: [f"{why}; remove {entry.folder} and call chaos gc again"])


def _clear(folder: Path, moot: Collection[str], drafts: Sequence[Path]) -> Sequence[str]:
    """Undo what the run's journal tells, and tell its history; what cannot be written down is done all the same."""
    try:
        left = left_in(folder / UNDO)
    except (HarnessError, OSError) as error:
        return [f"{error}; see to it, and call chaos gc again"]
    orphans = orphans_of(folder, {name: undo for name, undo in left.items() if name not in moot})
    moot = {*moot, *orphans.groups}
    try:
        failed = _undo_by_journal(folder, moot, orphans.seen) if left else []
    except OSError as error:
        undos = [undo for name, undo in left.items() if name not in moot]
        failed = [
            *undo_now([*orphans.seen, *undos]),
            f"{folder}: it could not be written down that this was done: {error.strerror or error}",
        ]
    failed = [*failed, *orphans.unseen, *_unlink(drafts)]
    if not failed and not leave(folder):
        failed = [f"{folder}: something is left in its journal"]
    return failed


def _undo_by_journal(folder: Path, moot: Collection[str], more: Sequence[Undo]) -> list[str]:
    end_last_line(folder / EVENTS)
    events = os.open(folder / EVENTS, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    failed: list[str] = []

    def record(event: UndoDone | UndoFailed | GuardianActed) -> None:
        append_line(events, event_to_data(event))
        if isinstance(event, UndoFailed):
            failed.append(f"{event.undo}: {event.reason}")

    journal = UndoJournal(folder / UNDO)
    try:
        for undo in more:
            journal.before(undo)
        for name in moot:
            journal.done(name)
        undone = journal.undo_all(record, by=GC)
        record(GuardianActed(time.time(), undone.done, undone.failed, WHY, GC))
    finally:
        journal.close()
        os.close(events)
    return failed


def _moot(left: Mapping[str, Undo], journal: Path) -> set[str]:
    """Undos that must not be done: what they would take back is gone, and its address or number may be somebody else's."""
    engines = [undo for undo in left.values() if isinstance(undo, EndProcessGroup) and undo.name == PROXY_ENGINE]
    has_engine = any(engine.started and started_at(engine.pid) == engine.started for engine in engines)
    return {
        name
        for name, undo in left.items()
        if (isinstance(undo, RestoreProxies) and not has_engine)
        or (isinstance(undo, EndProcessGroup) and _is_somebodys(undo, journal))
    }


def _is_somebodys(group: EndProcessGroup, journal: Path) -> bool:
    """Whether that number is none of the run's any more: since then this machine, or container, was started again."""
    if started_at(group.pid) != group.started and _is_younger(FIRST_PROCESS, journal):
        return True
    return not group.started and _is_younger(group.pid, journal)


def _is_younger(pid: int, journal: Path) -> bool:
    """Whether a process began after the last line of the journal, and so is none that it tells of."""
    with suppress(psutil.Error, OSError):
        return bool(Process(pid).create_time() > journal.stat().st_mtime + ROUNDING_SECONDS)
    return False


def _left_without_folder(entry: Registered, folder: Path, claims: Claims) -> Left:
    """The journal is gone too: its containers have its name, and a temporary folder that stays, and that no other run has,
    may be its own.
    """
    undos = [RemoveProject(entry.project, entry.engine, entry.certificates)] if entry.project else []

    def remove() -> Sequence[str]:
        failed = undo_now(undos)
        if not failed and all(map(claims.have, stray_folders([entry.temporary]))):
            forget(entry.run)
        return failed

    return Left(entry.run, (*map(describe, undos), f"forget the run of {folder}, which is no more"), remove)


# entries that cannot be read, and drafts


def _left_unreadable(entry: Path) -> Left:
    what = f"{entry}, an entry of the registry that cannot be read"
    return Left(entry.stem, (what if _is_kept(entry) else f"remove {what}",), partial(_remove_unreadable, entry))


def _is_kept(entry: Path) -> bool:
    """Whether its run is under way, or another machine's."""
    return is_held(entry) or is_said_elsewhere(entry)


def _remove_unreadable(entry: Path) -> list[str]:
    """Remove it where nothing lives that it could tell of: what else such a run left is found without it."""
    if _is_kept(entry):
        whose = (
            "that is under way; end that, and call chaos gc again" if is_held(entry) else "of another machine; see to it there"
        )
        return [f"{entry}: expected an entry that can be read, found one that cannot, of a run {whose}"]
    if RUN.fullmatch(entry.stem) and (there := who_shows(entry.stem)):
        numbers = ", ".join(map(str, there))
        return [
            f"{entry}: expected nobody who shows to be of the run {entry.stem}, found pid {numbers}; "
            f"end what is that run's, and call chaos gc again"
        ]
    return _unlink([entry])


def _scan(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _drafts_of_the_registry() -> list[Path]:
    """And requests to end runs that are over."""
    found = [path for path in _scan(runs_folder()) if DRAFT.fullmatch(path.name) or path.suffix == ABORT]
    return [path for path in found if not path.with_suffix(ENTRY).exists() and _is_old(path)]


def _is_old(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > DRAFT_SECONDS
    return False


def _unlink(paths: Sequence[Path]) -> list[str]:
    """Remove files, or links where they are such; why some are left."""
    failed = []
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
    return failed
