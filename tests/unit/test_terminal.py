"""The command line's screen where there is no terminal: each piece of news is told, to the last."""

from __future__ import annotations

import pytest

from harness.history.events import RunEnded
from harness.terminal import Terminal
from tests.histories.building import BEGAN, Story, plan


def test_what_is_still_to_be_told_when_the_run_is_over_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(quiet=False, plain=True, to_stderr=False)
    view = terminal.audience(plan(Story()))
    assert view is not None
    view.see_event(RunEnded(BEGAN + 60.0))

    terminal.leave()

    assert "everything is down again" in capsys.readouterr().out
