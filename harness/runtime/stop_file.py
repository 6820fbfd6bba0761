"""The stop file: while it is there, no run of this machine begins, and one that is under way is ended.

Its text is why, its owner is who; any user may write it, by hand too (`echo page storm > /tmp/chaos-harness.stop`).
"""

from __future__ import annotations

import os
import pwd
import secrets
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InvalidInput

STOP_FILE = "CHAOS_STOP_FILE"
EVERYBODYS = Path("/tmp/chaos-harness.stop")  # noqa: S108 -- one place for all users; TMPDIR may be each user's own
LONGEST_REASON = 300
UNSAID = "no reason was given"
SOMEBODY = "somebody"


@dataclass(frozen=True, slots=True)
class StopFile:
    """That nothing may run: who said so, why, and since when (seconds since the epoch)."""

    path: Path
    by: str
    why: str
    since: float

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(self.since))
        return f"{self.path}, written by {self.by} at {since}: {self.why}"


def stop_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the stop file is: where CHAOS_STOP_FILE says, else at one place for every user of the machine.

    Raises InvalidInput for what is another place in each folder: it would stop those alone who stand in the same.
    """
    path = Path(environ.get(STOP_FILE) or EVERYBODYS)
    if not path.is_absolute():
        raise InvalidInput(
            f"{STOP_FILE}: expected an absolute path, found {one_line(str(path))!r}: another file in each folder"
        )
    return path


def found_stop_file() -> StopFile | None:
    """Whether nothing may run: whatever has the stop file's name stops them, and that nobody can tell whether it is there."""
    path = stop_path()
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return StopFile(path, SOMEBODY, f"nobody can tell whether it is there: {error.strerror}", time.time())
    return StopFile(path, user_name(status.st_uid), _reason_in(path) or UNSAID, status.st_mtime)


def refuse_where_stopped() -> None:
    """Raises InvalidInput where nothing may run."""
    found = found_stop_file()
    if found is not None:
        raise InvalidInput(
            f"expected no stop file, found {found}; as long as it is there nothing runs. To lift it: chaos abort --lift"
        )


def why_stopped() -> str | None:
    """Why a run that is under way has to end, in words for its history; None where it need not."""
    found = found_stop_file()
    return None if found is None else f"aborted by {found.by}, with all runs of this machine: {found.why}"


def write_stop_file(why: str) -> StopFile:
    """Let nothing run on this machine; where that is so already, what was said first stays."""
    path = stop_path()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            _put(draft, why)
            os.link(draft, path, follow_symlinks=False)
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise InvalidInput(f"{path}: expected a file that can be written, found: {error.strerror}") from error
    return found_stop_file() or StopFile(path, user_name(os.getuid()), one_line(why) or UNSAID, time.time())


def _put(draft: Path, why: str) -> None:
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        os.fchmod(descriptor, 0o644)  # whatever the mask: everybody is to read why
        file.write(f"{why}\n")


def lift() -> StopFile | None:
    """Let runs begin again; what stopped them, None where nothing did."""
    found = found_stop_file()
    if found is None:
        return None
    try:
        found.path.unlink(missing_ok=True)
    except OSError as error:
        who = f"{found.by} or root can" if not found.path.is_dir() else "it is removed by hand"
        raise InvalidInput(f"expected to remove {found}; found: {error.strerror}; {who}") from error
    return found


def _reason_in(path: Path) -> str:
    """What the file says, on one line; "" where it says nothing that can be read. A pipe is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return one_line(os.read(descriptor, 4 * LONGEST_REASON).decode("utf-8", "replace")) if is_file else ""
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def one_line(text: str) -> str:
    """Somebody's words on one line, without anything that a terminal would obey, and not too many."""
    said = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(said.split())[:LONGEST_REASON]


def user_name(uid: int) -> str:
    """Who has a user id."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
