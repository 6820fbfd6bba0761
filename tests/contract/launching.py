"""The port `Launch` without a journal: what a test starts, the test ends."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def plain_launch(
    name: str,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    folder: Path | None = None,
    pass_fds: Sequence[int] = (),
    uid: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=pass_fds,
            start_new_session=True,
            user=uid,
        )
