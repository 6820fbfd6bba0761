"""The commands about the runs of this machine: `abort` ends one, or all, and `gc` removes what they left.

With `cli` and `terminal`, the only one that prints.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import CouldNotRun, UnreadableRun
from harness.saying import say, say_data

if TYPE_CHECKING:
    from harness.runtime.leftovers import Found
    from harness.runtime.registry import Registered
    from harness.runtime.retention import Kept

LEFT_BEHIND = 6
REPORTS = Path("reports")
ABORT_SECONDS = 300.0
"""How long an aborted run is waited for: it is healed within seconds, but taking down containers may take minutes."""

JUDGING_SECONDS = 60.0


def _finite(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """A range takes what is no number, too, and no run is younger than that."""
    if value is not None and not isfinite(value):
        raise click.BadParameter(f"expected a number of days, found {value}")
    return value


KEEP = (
    click.option(
        "--keep-runs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of each scenario keep the newest N runs, and remove the folders of older ones; else all are kept.",
    ),
    click.option(
        "--keep-days",
        type=click.FloatRange(min=0),
        callback=_finite,
        metavar="N",
        help="Keep runs of the last N days. With --keep-runs, what either of the two keeps is kept.",
    ),
)


def keeping(command: Any) -> Any:
    """A command with options for how many runs are kept."""
    for option in reversed(KEEP):
        command = option(command)
    return command


def remove_expired(made: Collection[Path], keep_runs: int | None, keep_days: float | None) -> None:
    """Remove the runs beside those that were made now that need not be kept any more; each is told, and what would not go."""
    from harness.runtime.retention import Kept, expired_beside, remove_run

    for path in expired_beside(made, Kept(keep_runs, keep_days)):
        why = remove_run(path)
        told = f"removed the old run {path}" if why is None else f"warning: an old run could not be removed: {why}"
        say(told, err=True)


@click.command()
@click.argument("run", required=False)
@click.option("--why", default="", metavar="TEXT", help="The reason; in the run's history and report.")
@click.option(
    "--all", "every", is_flag=True, help="End all runs of this machine, of every user, and let none begin until --lift."
)
@click.option("--lift", is_flag=True, help="Let runs begin again.")
def abort(run: str | None, why: str, every: bool, lift: bool) -> None:
    """End a run from another terminal, healing first.

    RUN is its folder, its name or its id; it need not be said where only one is under way.
    """
    if every + lift + (run is not None) > 1:
        raise click.UsageError("expected one of RUN, --all and --lift, found several")
    if lift:
        _lift()
    elif every:
        _abort_all(why)
    else:
        from harness.runtime.aborting import chosen

        raise click.exceptions.Exit(_abort([chosen(run)], why))


def _lift() -> None:
    from harness.runtime.stop_file import lift, stop_path

    lifted = lift()
    say(f"lifted: {lifted}" if lifted is not None else f"nothing was stopped: there is no {stop_path()}")


def _abort_all(why: str) -> None:
    from harness.runtime.aborting import under_way
    from harness.runtime.registry import is_here, whereabouts
    from harness.runtime.stop_file import write_stop_file

    say(f"nothing begins any more until chaos abort --lift: {write_stop_file(why)}")
    entries = under_way()
    for entry in entries:
        if not is_here(entry):
            say(f"{entry.run} ({whereabouts(entry)}) does not see that file, and goes on; end it: chaos abort {entry.run}")
    raise click.exceptions.Exit(_wait_for([entry for entry in entries if is_here(entry)]))


def _abort(entries: Sequence[Registered], why: str) -> int:
    from harness.runtime.aborting import ask_to_end
    from harness.runtime.registry import whereabouts

    for entry in entries:
        ask_to_end(entry, why)
        say(f"asked {entry.run} ({whereabouts(entry)}) to end; it heals first, then takes everything down")
    return _wait_for(entries)


def _wait_for(entries: Sequence[Registered]) -> int:
    """Wait for their end, and tell what each came to; the exit code. One that does not end hides none of the others."""
    from harness.runtime.aborting import wait_for_end

    code, until, at_work = 0, time.monotonic() + ABORT_SECONDS, []
    for entry in entries:
        if wait_for_end(entry, until - time.monotonic(), _is_over):
            code = max(code, _tell_end(entry))
        else:
            at_work.append(_still_at_work(entry))
    if at_work:
        raise CouldNotRun("\n".join(at_work))
    return code


def _still_at_work(entry: Registered) -> str:
    """Why to wait no longer. A number is told as one to kill where it surely is the harness's."""
    from harness.runtime.ending import started_at
    from harness.runtime.registry import is_here, whereabouts

    is_seen = is_here(entry) and started_at(entry.pid) == entry.started
    return (
        f"expected {entry.run} to be over within {ABORT_SECONDS:g} s, found it at work ({whereabouts(entry)}); "
        f"its log is in {entry.folder}/logs" + (f"; kill -9 {entry.pid} leaves the rest to its guardian" if is_seen else "")
    )


def _is_over(entry: Registered) -> bool:
    """Whether it has undone everything, or nobody is there any more who could."""
    from harness.runtime.registry import is_alive, is_registered

    return not is_registered(entry.run) or not is_alive(entry)


def _tell_end(entry: Registered) -> int:
    from harness.experiment import judge_folder
    from harness.history.store import VERDICT
    from harness.runtime.aborting import wait_for_end
    from harness.runtime.registry import forget, is_alive, is_registered

    folder = Path(entry.folder)
    if not is_registered(entry.run):
        forget(entry.run)  # what was asked of it came too late
    if not folder.is_dir():
        say(f"over; its report is not seen from here: {folder} on {entry.host}")
        return LEFT_BEHIND if is_registered(entry.run) else 0
    wait_for_end(entry, JUDGING_SECONDS, lambda entry: (folder / VERDICT).exists() or not is_alive(entry))
    try:
        verdict = judge_folder(folder).verdict
    except UnreadableRun:
        say(f"over before anything was recorded\n  {folder}")
        return LEFT_BEHIND if is_registered(entry.run) else 0
    say(f"{verdict.word}: {verdict.sentence}\n  {folder}")
    if is_registered(entry.run) or verdict.left_behind:
        say("  something of it is left behind: chaos gc")
        return LEFT_BEHIND
    return 0


@click.command()
@click.option(
    "--dry-run", is_flag=True, help="Show what is left, and remove nothing; exit code 6 where a run left something behind."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found, and what would not go, as JSON.")
@click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    show_default=str(REPORTS),
    help="Where the runs' folders are, of which --keep-runs and --keep-days leave some.",
)
@keeping
def gc(dry_run: bool, as_json: bool, reports: Path | None, keep_runs: int | None, keep_days: float | None) -> None:
    """Remove what runs of this machine left: processes, containers, networks, volumes, faults, limits, temporary files.

    Runs that are under way are not touched. Exit code 0 where nothing is left, 6 with what would not go, 2 where the folder
    given with --reports is not there.
    """
    from harness.judge.verdict import INVALID
    from harness.runtime.leftovers import GUARDIAN_SECONDS, alone, find
    from harness.runtime.retention import Kept

    with alone():
        found = find(os.environ, patience=0.0 if dry_run else GUARDIAN_SECONDS)
        is_left_behind = any(left.lines for left in found.left)
        is_looked_for = _add_expired(found, reports or REPORTS, Kept(keep_runs, keep_days))
        failed = _clear(found, remove=not dry_run, told=not as_json)
    lines = [{"run": left.of, "what": line} for left in found.left for line in left.lines]
    if as_json:
        said = {"removed": not dry_run, "left": lines, "not_removed": failed, "notes": found.notes}
        say_data(json.dumps(said, indent=2, ensure_ascii=False) + "\n")
    else:
        _tell_sum(len(lines), len(failed), found.notes, dry_run=dry_run)
    if failed or (dry_run and is_left_behind):
        raise click.exceptions.Exit(LEFT_BEHIND)
    if reports is not None and not is_looked_for:  # misspelt, and runs would pile up unseen
        raise click.exceptions.Exit(INVALID)


def _add_expired(found: Found, reports: Path, kept: Kept) -> bool:
    """Add the runs that need not be kept any more; whether there was where to look for them."""
    from functools import partial

    from harness.runtime.leftovers import Left
    from harness.runtime.retention import expired, remove_run

    if kept.everything:
        return True
    if not reports.is_dir():
        found.notes.append(f"old runs were not looked for: there is no folder of reports at {reports}")
        return False

    def removed(path: Path) -> list[str]:
        why = remove_run(path)
        return [why] if why is not None else []

    for path in expired(reports, kept):
        found.left.append(Left(path.name, (f"remove the old run {path}",), partial(removed, path)))
    return True


def _clear(found: Found, *, remove: bool, told: bool) -> list[dict[str, str]]:
    """Show each thing, then remove it; what would not go."""
    failed = []
    for left in found.left:
        if told:
            say("\n".join(f"{f'{left.of}: ' if left.of else ''}{line}" for line in left.lines))
        for why in left.remove() if remove else ():
            failed.append({"run": left.of, "why": why})
            if told:
                say(f"  NOT REMOVED: {why}")
    return failed


def _tell_sum(found: int, failed: int, notes: Sequence[str], *, dry_run: bool) -> None:
    for note in notes:
        say(f"note: {note}")
    if not found:
        say("nothing is left behind")
    elif dry_run:
        say(f"{found} to remove; nothing was done")
    else:
        say("everything else is gone" if failed else "all of it is gone")
