"""Files that are there only when they are complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """A place beside it for what is to take its place once it is complete, and is gone where it never was.

    Nobody else has the same: several may write one file at a time, and the last to be done has its way. What takes the
    place of a file can be read by those who could read that; a new one by its owner alone.
    """
    draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        draft.chmod(mode)
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
