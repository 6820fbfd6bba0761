"""Nothing that is printed raises, once that was asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from harness.standard_streams import print_undisturbed
print("before")
print_undisturbed()
print_undisturbed()
sys.stdin.read()
for stream in (sys.stdout, sys.stderr):
    print("words " * 10000, file=stream, flush=True)
os.write({told}, b"went on")
"""


@pytest.mark.parametrize("full", [False, True], ids=["nobody reads", "the disk is full"])
def test_what_cannot_be_printed_disturbs_nothing(full: bool) -> None:
    ours, theirs = os.pipe()
    reading, writing = os.pipe()
    if full:
        os.close(writing)
        writing = os.open("/dev/full", os.O_WRONLY)
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(told=theirs)],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=writing,
        pass_fds=[theirs],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    for descriptor in (reading, writing, theirs):
        os.close(descriptor)
    program.communicate(timeout=20)

    assert os.read(ours, 100) == b"went on"
    assert program.returncode == 0
    os.close(ours)


def test_a_pipe_that_is_full_and_not_waited_for_disturbs_nothing() -> None:
    ours, theirs = os.pipe()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(told=theirs)],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=writing,
        pass_fds=[theirs],
    )
    os.close(theirs)

    program.communicate(timeout=20)

    assert os.read(ours, 100) == b"went on"
    assert program.returncode == 0
    for descriptor in (ours, reading, writing):
        os.close(descriptor)


def test_what_can_be_printed_is_printed_in_order() -> None:
    program = PROGRAM.replace('"words " * 10000', '"words"').format(told=1)

    answer = subprocess.run([sys.executable, "-c", program], input="", capture_output=True, text=True, check=True)

    assert answer.stdout == "before\nwords\nwent on"
    assert answer.stderr == "words\n"
