"""Proofs: a scenario run clean, on each of its defects, and as each of its free twins.

A scenario is proven when the clean system passes, each defect is caught by the expectation or stop condition that it
names, and each twin, which needs no planted bug, ends as it must.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.errors import InvalidInput
from harness.experiment import Run, Stage, prepare
from harness.judge.verdict import Outcome
from harness.model.resolving import Resolved
from harness.plan.plan import Plan
from harness.plan.twins import EXPECTED, TWINS, twin_of, twins_for
from harness.runtime.stop_file import refuse_where_stopped

CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a proof: what it was, what it must come to (one or another), and what it came to."""

    name: str
    kind: Literal["clean", "defect", "twin"]
    must: str
    run: Run

    @property
    def seen(self) -> str:
        """The verdict's word, with the expectations that failed, or the stop condition that halted it."""
        word, by = self.run.verdict.word, _caught_by(self.run)
        return f"{word} by {', '.join(by)}" if by else word

    @property
    def proven(self) -> bool:
        """Whether it came to what it must."""
        return any(self._came_to(end) for end in self.must.split(" or "))

    def _came_to(self, end: str) -> bool:
        word, _, by = end.partition(" by ")
        return self.run.verdict.word == word and (not by or by in _caught_by(self.run))


@dataclass(frozen=True, slots=True)
class Tellers:
    """Who is told when a trial begins (in words), and when it is over."""

    begun: Callable[[str], None]
    over: Callable[[Trial], None]


def trials_of(resolved: Resolved) -> tuple[str, ...]:
    """The names of all trials of a proof, in order; a twin that means nothing for its faults is left out."""
    return (CLEAN, *resolved.experiment.defects, *twins_for(resolved.experiment))


def prove(scenario: Path, stage: Stage, only: Sequence[str], told: Tellers) -> tuple[Trial, ...]:
    """Run the trials, all or only those named, telling when each begins and is over; ends early when asked to stop."""
    resolved, plan = prepare(scenario, stage.options)
    names = trials_of(resolved)
    for name in only:
        if name not in names:
            raise InvalidInput(f"--only: expected one of {', '.join(names)}; found {name!r}")
    trials = []
    chosen = only or names
    for number, name in enumerate(chosen, 1):
        refuse_where_stopped()
        told.begun(f"trial {number} of {len(chosen)}: {name}, {plan.seconds:g} s")
        trial = _try(name, resolved, plan, stage)
        trials.append(trial)
        told.over(trial)
        if stage.stop.signal is not None:
            break
    return tuple(trials)


def _try(name: str, resolved: Resolved, plan: Plan, stage: Stage) -> Trial:
    if name == CLEAN:
        return Trial(name, "clean", "passed", stage.carry_out(resolved, plan))
    if name in resolved.experiment.defects:
        return _try_defect(name, resolved, plan, stage)
    twin = next(twin for twin in TWINS if twin == name)
    blast = next((str(item.id) for item in resolved.experiment.expect if item.blast_radius is not None), "")
    must = f"{EXPECTED[twin]} by {blast}" if EXPECTED[twin] == "failed" and blast else EXPECTED[twin]
    if EXPECTED[twin] == "failed" and resolved.experiment.stop_when:
        must += " or halted"  # to be halted is to say no, too
    return Trial(name, "twin", must, stage.carry_out(resolved, twin_of(plan, twin)))


def _try_defect(name: str, resolved: Resolved, plan: Plan, stage: Stage) -> Trial:
    defect = resolved.experiment.defects[name]
    given = stage.options.environment
    laid_over = {service: {**given.get(service, {}), **values} for service, values in defect.environment.items()}
    planted = replace(stage, options=replace(stage.options, environment={**given, **laid_over}))
    halts = any(item.id == defect.caught_by for item in resolved.experiment.stop_when)
    must = f"{'halted' if halts else 'failed'} by {defect.caught_by}"
    return Trial(name, "defect", must, planted.carry_out(resolved, plan))


def _caught_by(run: Run) -> list[str]:
    """What said no: the expectations that failed, or the stop condition that was met."""
    if run.verdict.word == "halted":
        return [run.verdict.halted_by] if run.verdict.halted_by else []
    failed = [finding.id for finding in run.verdict.expectations if finding.counts_as is Outcome.FAILED]
    return failed if run.verdict.word == "failed" else []
