"""A trial in a process and a session of its own. Whatever comes of it, nothing of it is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.reliability_left import remove_abandoned
from benchmarks.reliability_run import FOLDERS, PROJECT, traces_of
from benchmarks.reliability_state import Broken
from benchmarks.reliability_trial import Order
from harness.errors import HarnessError

PROGRAM = (sys.executable, "-m", "benchmarks.reliability_trial")
TRIAL_SECONDS = 900.0
CLEAR_SECONDS = 150.0
"""How long a trial that was told to end may take to clear up; an engine alone is given a minute for a run."""


def told_by_trial(order: Order, kept: Path) -> dict[str, Any]:
    """What came of a trial, in its own words; where something was wrong, its folder is `kept`."""
    with tempfile.TemporaryDirectory(prefix=FOLDERS, ignore_cleanup_errors=True) as folder:
        own = {"PYTHONPATH": str(PROJECT), "RELIABILITY_KEEP": str(kept), "TMPDIR": folder}
        trial = subprocess.Popen(
            PROGRAM,
            cwd=PROJECT,
            env={**os.environ, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with trial:
            try:
                return _answer_of(trial, json.dumps(asdict(order)))
            finally:
                _end(trial, Path(folder), order.runtime)


def _answer_of(trial: subprocess.Popen[str], order: str) -> dict[str, Any]:
    try:
        said, complained = trial.communicate(order, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Broken(f"expected a trial to be over within {TRIAL_SECONDS:g} s, found that it was not") from error
    if trial.returncode != 0:
        raise Broken(complained.strip()[-1000:] or f"it ended with {trial.returncode}")
    answer: dict[str, Any] = json.loads(said)
    return answer


def _end(trial: subprocess.Popen[str], folder: Path, runtime: str) -> None:
    """A trial that is not over is asked to clear up, which it does best: whatever comes of its run is of its family."""
    if trial.returncode is None:
        trial.terminate()
        try:
            trial.communicate(timeout=CLEAR_SECONDS)
        except subprocess.TimeoutExpired:
            trial.kill()
            trial.wait()
    for own in folder.resolve().glob(f"{FOLDERS}*"):
        try:
            remove_abandoned(traces_of(own, runtime))
        except HarnessError as error:
            raise Broken(f"the engine was not asked what is left of {own.name}: {error}") from error
