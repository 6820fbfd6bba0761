"""What the command line says: nothing that steers the terminal, nothing that lets anybody in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NoReturn

import click
import pytest

from harness.cli import _outcome_of
from harness.errors import CouldNotRun, InvalidFile, InvalidInput, Problem
from harness.saying import say, say_data

FOREIGN = "\x1b[31mred\x07 \u202etxt postgresql://shop:pw@db/shop"
TOLD = "red txt postgresql://shop:***@db/shop"


def raising(error: Exception) -> Callable[[], NoReturn]:
    def command() -> NoReturn:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (InvalidInput(FOREIGN), 2, f"chaos: {TOLD}\n"),
        (
            InvalidFile((Problem("a.yaml", 1, 2, FOREIGN), Problem("b.yaml", 3, 4, "x"))),
            2,
            f"a.yaml:1:2: {TOLD}\nb.yaml:3:4: x\n",
        ),
        (CouldNotRun(f"{FOREIGN}; its last log lines:\n    {FOREIGN}"), 5, f"chaos: {TOLD}; its last log lines:\n    {TOLD}\n"),
        (click.BadParameter(FOREIGN), 2, f"Error: Invalid value: {TOLD}\n"),
    ],
)
def test_an_error_is_told_harmless_and_without_secrets(
    error: Exception, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _outcome_of(raising(error)) == code
    assert capsys.readouterr().err == told


def test_a_defect_is_told_with_its_traceback_and_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    assert _outcome_of(raising(RuntimeError(FOREIGN))) == 5

    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert f"RuntimeError: {TOLD}" in said
    assert "\x1b" not in said
    assert "pw@" not in said


def test_lines_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\n  two\tthree\n\nfour")

    assert capsys.readouterr().out == "one\n  two three\n\nfour\n"


def test_data_stays_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say_data(json.dumps({"text": FOREIGN}, ensure_ascii=False) + "\n")

    said = capsys.readouterr().out
    assert json.loads(said) == {"text": FOREIGN}
    assert "\u202e" not in said
