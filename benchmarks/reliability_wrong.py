"""Everything that was wrong with what was tried, or was to be tried and was not: what the exit code says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import reliability_growth
from benchmarks.reliability_figures import problems_of
from benchmarks.reliability_state import State, last_attempt
from harness.judge.verdict import EXIT_CODES

JUDGED = {EXIT_CODES["passed"], EXIT_CODES["failed"], EXIT_CODES["inconclusive"]}
"""What a run comes to that nobody disturbs; on a busy machine it need not pass."""


def wrong_with(state: State, trials: Sequence[str], wanted: Mapping[str, int]) -> list[str]:
    """A sentence for each thing. `trials` are the series of trials there are, `wanted` tells how long what was asked for is."""
    found = [told for name in trials for told in _of_trials(name, state)]
    found += [told for kind in reliability_growth.SHOWN for told in _of_runs(kind, state)]
    found += _of_wedges(state.rows("wedges"))
    found += [
        f"plants: {kind} was not found" for row in state.rows("plants")[-1:] for kind, seen in row["found"].items() if not seen
    ]
    for name, count in wanted.items():
        rows = state.rows(name) if name in trials else last_attempt(state.rows(name))
        made = sum(bool(row["struck"]) for row in rows) if name in trials else len(rows)
        if made < count:
            found.append(f"{name}: expected {count}, found {made}")
    return found


def _of_trials(name: str, state: State) -> Iterator[str]:
    for row in state.rows(name):
        yield from (f"{name} {row['number']}: {problem}" for problem in problems_of(row))
    yield from (f"{name} {row['number']}: the trial itself is broken: {row['why']}" for row in state.rows(f"{name}-broken"))


def _of_runs(kind: str, state: State) -> Iterator[str]:
    rows = last_attempt(state.rows(kind))
    yield from (f"{kind} {row['number']}: ended with {row['code']}" for row in rows if row["code"] not in JUDGED)
    last = max((row["attempt"] for row in rows), default=0)
    yield from (f"{kind}: {row['why']}" for row in state.rows(f"{kind}-broken") if row["attempt"] >= last)
    yield from (f"{kind}: {name} grows" for name in reliability_growth.growing(kind, rows))


def _of_wedges(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows[-1:]:
        if row["code"] != 0 or " skipped" in row["last"]:
            yield f"wedges: expected all to be tried and noticed, found: {row['last']}"
