"""Programs that wheels bring along: where they are, and whether another user can run them."""

from __future__ import annotations

import importlib.util
import os
import stat
from pathlib import Path

from harness.errors import CouldNotRun, MissingPart

NOBODY = 65534
"""The user that databases run as when root runs the harness, where the system knows none named `nobody`."""


def package_folder(package: str, what: str) -> Path:
    """Where a package lies, found without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        distribution = package.replace("_", "-")
        raise MissingPart(
            f"expected {what} from the package {distribution}, found it not installed; "
            f"install it with: pip install 'chaos-harness[local]' (in a clone: make env)"
        )
    return Path(next(iter(found.submodule_search_locations)))


def program_in(folder: Path, pattern: str, what: str) -> Path:
    """The program of this pattern, of the highest version where there are several."""
    found = sorted(folder.glob(pattern), key=lambda path: (len(str(path)), str(path)))
    if not found:
        raise MissingPart(
            f"expected {what} at {folder}/{pattern}, found none: this wheel was made for another system, or is damaged; "
            f"install it anew with: pip install --force-reinstall 'chaos-harness[local]'"
        )
    return found[-1]


def user_for_databases() -> int | None:
    """The user that PostgreSQL runs as, which refuses root: an unprivileged one that exists; None for the user we are."""
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return NOBODY


def can_be_entered(folder: Path) -> bool:
    """Whether users that own nothing here can pass through a folder and all folders above it."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents))


def need_passage(folder: Path, uid: int) -> None:
    """A folder that a database's user must reach can be reached."""
    if not can_be_entered(folder):
        raise CouldNotRun(
            f"PostgreSQL does not run as root, so it runs as user {uid}, who cannot enter {folder}; "
            f"set TMPDIR to a folder that everybody can enter, such as /tmp"
        )
