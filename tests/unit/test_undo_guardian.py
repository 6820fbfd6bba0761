"""What the guardian makes of the end of its pipe, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.runtime.guardian import harness_is_gone


@pytest.mark.parametrize(("said", "gone"), [(b"", True), (b"done", False), (b"do", True), (b"donedone", True)])
def test_only_the_whole_word_says_that_everything_is_done(said: bytes, gone: bool) -> None:
    reading, writing = os.pipe()
    os.write(writing, said)
    os.close(writing)

    assert harness_is_gone(reading) is gone
    os.close(reading)


def test_the_guardian_loads_none_of_the_heavy_packages() -> None:
    program = (
        "import sys, harness.runtime.guardian; print(sorted({'pydantic', 'yaml', 'asyncio', 'asyncpg'} & set(sys.modules)))"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout == "[]\n"
