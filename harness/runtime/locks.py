"""Files that are locked as long as somebody lives. The kernel gives the lock back however a process ends, and tells of it in
every container that sees the file, where a process's number would say nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path


def is_held(path: Path) -> bool:
    """Whether somebody has this file locked; of one that is gone nobody has, and where nobody can say, somebody has."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return error.errno != errno.ENOENT
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
