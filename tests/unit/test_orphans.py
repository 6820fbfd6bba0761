"""Whose number may have been given away, and whose may not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.runtime.ending import EndProcessGroup, Process, process_table, started_at
from harness.runtime.orphans import orphans_of

WORKER = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"


@contextmanager
def session_whose_first_has_ended() -> Iterator[tuple[EndProcessGroup, Process]]:
    """A session whose first process has ended and is not collected, and who is left in it."""
    first = subprocess.Popen(
        [sys.executable, "-c", f"{WORKER}; sys.stdin.read()"], start_new_session=True, stdin=subprocess.PIPE
    )
    group = EndProcessGroup(first.pid, started_at(first.pid) or -1, "order")
    assert first.stdin is not None
    first.stdin.close()
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    (worker,) = [process for process in process_table().values() if process.session == first.pid]
    try:
        yield group, worker
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        first.wait()


@pytest.mark.skipif(
    sys.platform != "linux", reason="only /proc tells of who has ended and is not collected when it was started"
)
def test_the_number_of_a_process_that_is_not_collected_is_still_its_own(tmp_path: Path) -> None:
    with session_whose_first_has_ended() as (group, _):
        found = orphans_of(tmp_path, {"order": group})

    assert (found.groups, found.unseen) == ([], [])


def test_where_it_is_anothers_that_is_not_collected_who_is_left_there_is_left_alone(tmp_path: Path) -> None:
    with session_whose_first_has_ended() as (group, worker):
        found = orphans_of(tmp_path, {"order": replace(group, started=group.started - 1)})

    assert (found.groups, found.seen) == (["order"], [])
    assert f"pid {worker.pid} is in the session" in found.unseen[0]
