"""The command line's screen: the run while it lasts, and the end of it. With `cli`, the only one that prints."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.report.plain import clean_lines

if TYPE_CHECKING:
    from harness.experiment import Run
    from harness.plan.plan import Plan
    from harness.report.live import LiveView

FRAMES_PER_SECOND = 4
WIDEST = 110
"""Columns beyond which lines are hard to read."""


class Terminal:
    """Where a run is watched: live where there is a terminal, one plain line at a time where there is none."""

    def __init__(self, *, quiet: bool, plain: bool, to_stderr: bool) -> None:
        self._as_data = to_stderr
        no_color = plain or bool(os.environ.get("NO_COLOR")) or None
        self._console = Console(stderr=to_stderr, no_color=no_color, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._live: Any = None
        self._over = threading.Event()
        self._teller: threading.Thread | None = None

    def audience(self, plan: Plan) -> LiveView | None:
        """What watches the run that is about to begin."""
        if self._quiet:
            return None
        from harness.report.live import LiveView

        view = LiveView(plan.model_dump(mode="json"))
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                get_renderable=view.renderable,
                console=self._console,
                refresh_per_second=FRAMES_PER_SECOND,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        else:
            self._over = threading.Event()
            self._teller = threading.Thread(target=self._tell_plainly, args=(view, self._over), daemon=True)
            self._teller.start()
        return view

    def _tell_plainly(self, view: LiveView, over: threading.Event) -> None:
        last = False
        while not last:
            last = over.wait(0.25)  # known before the lines are asked for: what came until then is still told
            while (line := view.plain_line()) is not None:
                self._console.print(clean_lines(line), markup=False)

    def leave(self) -> None:
        """The run is over."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._teller is not None:
            self._over.set()
            self._teller.join(2.0)
            self._teller = None

    @property
    def is_watched(self) -> bool:
        """Whether somebody sees the run go on, and may wait a little longer for what is undecided."""
        return self._console.is_terminal and not self._quiet

    def say(self, line: str) -> None:
        """One line about the runs themselves."""
        self._console.print(f"\n{clean_lines(line)}", markup=False)

    def tell(self, run: Run) -> None:
        """The end of a run, in words; where verdicts are printed as data, these are all."""
        if self._as_data:
            return
        from harness.experiment import HTML
        from harness.history.history import read_history
        from harness.report.text import text_report

        self._console.print()
        told = text_report(
            read_history(run.folder),
            run.verdict,
            _short(run.folder / HTML),
            run.command,
            width=min(WIDEST, self._console.width),
        )
        for line in told:
            self._console.print(line)


def _short(path: Path) -> str:
    latest = path.parent.parent / "latest"
    shown = latest / path.name if latest.is_symlink() and latest.resolve() == path.parent.resolve() else path
    return str(shown)
