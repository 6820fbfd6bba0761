"""The token that the embedded engine asks of whoever changes something: made for each run, handed over in a file."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def make_token_file(folder: Path) -> Path:
    """A file with a new token, which its owner alone can read: the guardian needs it, too."""
    path = folder / "proxy-engine.token"
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32))
    return path


def token_in(path: Path | None) -> str:
    """The token in such a file; "" where there is none."""
    return path.read_text(encoding="ascii") if path is not None else ""
