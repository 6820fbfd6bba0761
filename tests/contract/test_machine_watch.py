"""What the machine was doing while a run went on: whose CPU it was, and whether anybody waited for a core."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.runtime.sampler import MachineWatch, seconds_waited

BURN = "import time\nwhile time.process_time() < 0.3: pass\nprint('burnt', flush=True)\ninput()"
"""Spends 0.3 s of CPU, says so, and waits to be ended."""

BY_A_CHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])"


@contextmanager
def burning(script: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.communicate(b"\n", timeout=20)


def wait_until_burnt(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"burnt\n"


@pytest.mark.parametrize("script", [BURN, BY_A_CHILD], ids=["itself", "a process it began"])
def test_what_a_process_spends_from_its_start_on_belongs_to_its_group(script):
    pids: list[int] = []
    watch, began = MachineWatch(lambda: {"system": pids}), time.monotonic()
    with burning(script) as process:
        wait_until_burnt(process)
        pids.append(process.pid)

        seen = watch.seen()

    assert seen.system * (time.monotonic() - began) >= 0.29
    assert seen.proxies == seen.load == 0.0


def test_what_was_spent_before_the_first_look_is_nobodys():
    with burning(BURN) as process:
        wait_until_burnt(process)
        watch = MachineWatch(lambda: {"load": [process.pid]})

        assert watch.seen().load < 0.1


def test_a_process_that_is_gone_or_was_never_there_spends_nothing():
    with burning(BURN) as process:
        wait_until_burnt(process)
        watch = MachineWatch(lambda: {"system": [process.pid, 2**22 + 1]})

    assert watch.seen().system == 0.0


def test_what_belongs_to_no_group_is_others():
    watch, began = MachineWatch(dict), time.monotonic()
    with burning(BURN) as process:
        wait_until_burnt(process)

        seen = watch.seen()

    assert seen.others * (time.monotonic() - began) >= 0.25


def test_pressure_is_the_share_of_time_that_somebody_waited(tmp_path):
    told = tmp_path / "cpu"
    told.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=5000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    watch = MachineWatch(dict, told)
    assert watch.seen().pressure == 0.0

    told.write_text("some avg10=9.00 avg60=0.00 avg300=0.00 total=5000100000\n")

    assert watch.seen().pressure == 1.0


@pytest.mark.parametrize("told", [None, "", "some avg10=0.00\n", "\xff", "some total=many\n"])
def test_a_kernel_that_does_not_tell_leaves_pressure_out(tmp_path, told):
    path = tmp_path / "cpu"
    if told is not None:
        path.write_text(told, encoding="utf-8")

    assert seconds_waited(path) is None
    assert MachineWatch(dict, path).seen().pressure is None


def test_this_kernel_tells_a_number_or_nothing():
    waited = seconds_waited(Path("/proc/pressure/cpu"))

    assert waited is None or waited >= 0
