"""Tells what a run can see before it is run: for each expectation, and what to change to see more."""

from __future__ import annotations

from collections.abc import Iterator

from harness.judge.conditions import never_met
from harness.judge.power import journeys_told, powers_of
from harness.model.experiment import Experiment
from harness.report.plain import clean


def power_text(experiment: Experiment) -> str:
    """Lines to stand under a plan."""
    lines = [f"what this run can see, in 90 of 100 runs ({journeys_told(experiment)})"]
    for power in powers_of(experiment):
        name = f"{clean(power.id)}: "
        for number, sight in enumerate(power.sights):
            lines.append(f"  {name if number == 0 else ' ' * len(name)}{sight}")
        if power.hopeless:
            lines.append(f"  {' ' * len(name)}at best inconclusive: {power.hopeless}")
        if power.advice:
            lines.append(f"  {' ' * len(name)}→ {power.advice}")
    return "\n".join(lines) + "\n"


def never_halts(experiment: Experiment) -> Iterator[tuple[int, str]]:
    """Stop conditions that too few requests come for: the place of each in `stop_when:`, and why."""
    rate = None if experiment.load.course is None else experiment.load.rate
    return never_met(experiment.stop_when, rate)


def too_small(experiment: Experiment) -> Iterator[tuple[int, str]]:
    """Expectations that can at best be inconclusive: the place of each in `expect:`, and why."""
    for index, power in enumerate(powers_of(experiment)):
        if power.hopeless:
            yield index, f"{clean(power.id)} can at best be inconclusive: {power.hopeless}"
