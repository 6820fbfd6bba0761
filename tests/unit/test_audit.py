"""`make audit` says what is known, and where nobody could tell it says that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit"


def audited(folder: Path, answer: str, said: str = "", code: int = 0) -> tuple[int, str]:
    """What the script says with a pip-audit that gives this answer."""
    program, releases = folder / "pip-audit", folder / "constraints.txt"
    releases.write_text("one==1.0\n")
    told = f"import sys\nsys.stderr.write({said!r})\nprint({answer!r})\nsys.exit({code})\n"
    program.write_text(f"#!{sys.executable}\n{told}")
    program.chmod(0o700)
    environment = {**os.environ, "PIP_AUDIT": str(program)}
    done = subprocess.run([sys.executable, SCRIPT, releases], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def answer(*vulns: dict[str, Any], skip_reason: str = "") -> str:
    one: dict[str, Any] = {"name": "one", "version": "1.0", "vulns": list(vulns)}
    return json.dumps({"dependencies": [one | ({"skip_reason": skip_reason} if skip_reason else {})], "fixes": []})


def test_where_nothing_is_known_it_ends_with_0(tmp_path: Path) -> None:
    assert audited(tmp_path, answer()) == (0, "nothing is known to be wrong with 1 releases\n")


def test_what_is_known_is_told_with_what_mends_it_and_ends_with_1(tmp_path: Path) -> None:
    code, said = audited(tmp_path, answer({"id": "PYSEC-1", "fix_versions": ["1.1"]}), code=1)

    assert code == 1
    assert "one 1.0: PYSEC-1; mended in 1.1" in said


@pytest.mark.parametrize(
    ("answered", "said"),
    [("", "ConnectionError: no route to host"), ("not JSON", "what?"), ("[]", "what?"), ('{"dependencies": []}', "")],
)
def test_where_nobody_could_tell_it_says_so_and_why_and_ends_with_3(tmp_path: Path, answered: str, said: str) -> None:
    code, told = audited(tmp_path, answered, f"first line\n{said}", code=1)

    assert code == 3
    assert told.startswith("NOT AUDITED: ")
    assert said in told


def test_a_release_that_was_left_out_is_not_called_sound(tmp_path: Path) -> None:
    code, said = audited(tmp_path, answer(skip_reason="not found on the index"))

    assert code == 3
    assert "one (not found on the index)" in said


def test_without_the_program_it_says_how_to_get_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PIP_AUDIT": str(tmp_path / "nowhere")}

    done = subprocess.run([sys.executable, SCRIPT], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert "pip install pip-audit" in done.stdout
