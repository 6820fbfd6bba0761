"""Ending a run from elsewhere: one asks by a file beside the run's entry, the run looks for it and ends as by a signal.

Not by a signal: a number may belong to another process by now, and a signal cannot say who asked, and why.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import CouldNotRun, InvalidInput
from harness.history.drafts import draft_of
from harness.runtime.registry import ABORT, Registered, is_alive, runs, runs_folder
from harness.runtime.stop_file import UNSAID, one_line, user_name, why_stopped
from harness.runtime.stopping import Stop

LOOK_EVERY = 0.25
"""Seconds; whoever aborts a run waits at most that long for it to be noticed."""


@contextmanager
def heeding(run: str, stop: Stop) -> Iterator[None]:
    """While this lasts, the run ends where somebody asked for it, or for the end of all runs of the machine."""
    over, asked = threading.Event(), _asked_in(run)

    def look() -> None:
        while not over.wait(LOOK_EVERY):
            why = why_stopped() or why_aborted(asked)
            if why is not None:
                stop.ask(why)
                return

    watcher = threading.Thread(target=look, daemon=True, name="aborting")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _asked_in(run: str) -> Path:
    return runs_folder() / f"{run}{ABORT}"


def why_aborted(path: Path) -> str | None:
    """Who asked for the end of a run by this file, and why; None where nobody did."""
    try:
        asked = json.loads(path.read_text(encoding="utf-8"))
        return f"aborted by {asked['by']}: {asked['why']}"
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"aborted: {UNSAID}"


def ask_to_end(entry: Registered, why: str) -> None:
    """Ask for the end of a run; it is noticed within a second, or by its guardian where it is stuck."""
    path = _asked_in(entry.run)
    said = {"by": user_name(os.getuid()), "why": one_line(why) or UNSAID}
    try:
        with draft_of(path) as draft, open(os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(said))
    except OSError as error:
        raise CouldNotRun(f"{path}: expected to note what is asked for, found: {error.strerror}") from error


def under_way() -> tuple[Registered, ...]:
    """The runs that are on, as far as this user's registry tells: those of other machines, and containers, that see it too."""
    return tuple(entry for entry in runs() if is_alive(entry))


def chosen(named: str | None) -> Registered:
    """The run that is meant: by its folder, its scenario's name or its id; without a name the only one there is."""
    there = under_way()
    if not there:
        raise InvalidInput("expected a run that is under way, found none; what dead runs left is removed by chaos gc")
    found = there if named is None else tuple(entry for entry in there if named in _names_of(entry, named))
    if len(found) == 1:
        return found[0]
    what = f"one run called {named}" if named is not None else "one run"
    count = f"found {len(found)}" if found else "found none"
    raise InvalidInput(f"expected {what} under way, {count}; there {_told(there)}")


def _names_of(entry: Registered, named: str) -> Iterator[str]:
    folder = Path(entry.folder)
    yield from (entry.run, entry.run.rpartition("-")[2], folder.parent.name)
    with suppress(OSError, ValueError, RuntimeError):  # what can be no path is none
        if Path(named).is_dir() and Path(named).resolve() == folder:
            yield named


def _told(there: Sequence[Registered]) -> str:
    lines = "".join(f"\n  {entry.run}  {Path(entry.folder).parent.name}  ({entry.folder})" for entry in there)
    return f"is{lines}" if len(there) == 1 else f"are{lines}"


def wait_for_end(entry: Registered, patience: float, is_over: Callable[[Registered], bool]) -> bool:
    """Wait until a run is over; whether it was, in time."""
    until = time.monotonic() + patience
    while not is_over(entry):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_EVERY)
    return True
