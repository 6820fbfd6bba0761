"""The benchmarks: what they are asked is refused where they could not end with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.mark.parametrize("requests", ["100000", "3000"])
def test_an_hour_of_requests_that_are_not_three_phases_of_whole_seconds_is_refused(requests: str) -> None:
    told = subprocess.run(
        [sys.executable, str(BENCHMARKS / "records.py"), "hour", "--requests", requests],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert told.returncode == 2
    assert f"expected a multiple of 3,000 from 30,000 on, found {requests}" in told.stderr
    assert told.stdout == ""
