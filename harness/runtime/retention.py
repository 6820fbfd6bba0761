"""How many runs are kept: what is older goes, so that a job of every night does not fill the disk."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.history.store import EVENTS, PLAN, is_over
from harness.runtime.registry import runs

LATEST = "latest"
RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
"""What a run's folder is called: the time it began, and something of its own."""

GOING = ".removing-"
"""What begins the name of a folder that is being removed: whoever is killed meanwhile leaves nothing that looks like a run."""

DAY = 86400.0

SILENT_DAYS = 1.0
"""Of a run that nothing was recorded of for so long, and not its end either, nobody is left who would."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept: the newest so many runs of each scenario, and all that ended within so many days. Where both are said,
    a run that one of them keeps is kept; where neither is, all are.
    """

    runs: int | None = None
    days: float | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing ever goes."""
        return self.runs is None and self.days is None


def expired(reports: Path, kept: Kept) -> list[Path]:
    """The folders under `reports` that need not be kept any more, and what is left of such; the oldest first.

    Never one that `latest` leads to, one that is registered (it is under way, or chaos gc needs its journal), one that may be
    another user's under way, or one that is no run's. Links are not followed.
    """
    return expired_in(_folders_in(reports), kept)


def expired_beside(made: Collection[Path], kept: Kept) -> list[Path]:
    """The same, of the scenarios that these runs are of alone, and none of these: they have just been told of."""
    spared = {path.resolve() for path in made}
    return [path for path in expired_in({path.parent for path in made}, kept) if path.resolve() not in spared]


def expired_in(scenarios: Collection[Path], kept: Kept) -> list[Path]:
    """The same, of these scenarios' folders alone."""
    if kept.everything:
        return []
    registered = {Path(entry.folder) for entry in runs()}
    return sorted(path for scenario in set(scenarios) for path in _expired_of(scenario, kept, registered))


def _expired_of(scenario: Path, kept: Kept, registered: Collection[Path]) -> Iterator[Path]:
    folders = _folders_in(scenario)
    yield from (path for path in folders if path.name.startswith(GOING))
    of_runs = [path for path in folders if RUN.fullmatch(path.name) and _is_run(path)]
    newest = of_runs[-kept.runs :] if kept.runs else []
    for path in of_runs:
        is_kept = path in newest or (kept.days is not None and _days_since(path) < kept.days)
        if not is_kept and path.resolve() not in registered and path.resolve() != _latest(scenario) and _has_ended(path):
            yield path


def _folders_in(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return []


def _is_run(path: Path) -> bool:
    return all((path / name).is_file() and not (path / name).is_symlink() for name in (PLAN, EVENTS))


def _has_ended(path: Path) -> bool:
    """Whether nobody goes on with it; other users' runs are in registries of their own."""
    with suppress(HarnessError, OSError):
        return is_over(path) or _days_since(path) > SILENT_DAYS
    return False


def _days_since(path: Path) -> float:
    """Days since something was recorded last."""
    with suppress(OSError):
        return (time.time() - (path / EVENTS).stat().st_mtime) / DAY
    return 0.0


def _latest(scenario: Path) -> Path | None:
    with suppress(OSError, RuntimeError):
        return (scenario / LATEST).resolve(strict=True)
    return None


def remove_run(path: Path) -> str | None:
    """Remove a run's folder; why it is left, where it is. It is no run's any more as soon as this begins."""
    going = path if path.name.startswith(GOING) else path.with_name(f"{GOING}{path.name}")
    try:
        if going != path:
            path.rename(going)
        shutil.rmtree(going)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None
