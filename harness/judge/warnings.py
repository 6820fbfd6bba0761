"""What a reader of the verdict has to know beside it: what was not excluded, and what was not led through a proxy."""

from __future__ import annotations

from collections.abc import Iterator

from harness.history.events import RunBegan
from harness.judge.case import Case

WAY_AROUND = "a way around was not excluded: with interpose: faulted only the callers of faulted edges are led through proxies"


def warnings_of(case: Case) -> tuple[str, ...]:
    """Each once: what the experiment itself leaves open, then what the runtime said when it began."""
    return tuple(dict.fromkeys(_warnings(case)))


def _warnings(case: Case) -> Iterator[str]:
    if case.experiment.system.interpose == "faulted":
        yield WAY_AROUND
    for began in case.history.of(RunBegan):
        yield from began.warnings
