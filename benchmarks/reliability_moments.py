"""When a trial strikes, and with what: drawn from a seed, the same each time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

STAGES = ("starting", "bringing up", "baseline", "fault", "recovery", "taking down", "reporting")
"""The life of a run. Each begins with something that can be seen from outside."""

BEGINS: Mapping[str, Mapping[str, str]] = {
    "bringing up": {"event": "RunBegan"},
    "baseline": {"event": "SystemReady"},
    "fault": {"event": "PhaseBegan", "phase": "fault"},
    "recovery": {"event": "PhaseBegan", "phase": "recovery"},
    "taking down": {"event": "LoadEnded"},
    "reporting": {"event": "RunEnded"},
}
"""The event with which a stage begins; the first begins with the command."""

GUARDED = STAGES[1:-1]
"""The stages in which there is a guardian: to be killed, to end a harness that stands still, or to outlive it elsewhere."""

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
LONGEST_BETWEEN = 2.0
"""Seconds between two signals of one interrupt: from the same moment to the middle of the undo."""


@dataclass(frozen=True, slots=True)
class Moment:
    """So many seconds after the begin of a stage; `signals` are sent then, each with how long after the first."""

    stage: str
    after: float
    signals: tuple[tuple[str, float], ...]


def draw(kind: str, seed: int, number: int, life: Mapping[str, float]) -> Moment:
    """The moment of one trial.

    `life` says how long each stage takes. Every second trial draws from the whole life, where long stages are met more often;
    the others draw the stage first, so that short ones, where most is begun or undone, are met as often as long ones.
    """
    chance = random.Random(f"{seed} {kind} {number}")
    stages = [stage for stage in (GUARDED if kind in ("guardians", "stops", "jobs") else STAGES) if life.get(stage, 0.0) > 0.0]
    lengths = [life[stage] for stage in stages]
    stage = chance.choices(stages, lengths)[0] if number % 2 == 0 else chance.choice(stages)
    return Moment(stage, round(chance.uniform(0.0, life[stage]), 3), signals_of(kind, chance))


def signals_of(kind: str, chance: random.Random) -> tuple[tuple[str, float], ...]:
    """What is sent to the harness, or, of guardians, to its guardian."""
    if kind == "stops":
        return (("SIGSTOP", 0.0),)
    if kind != "interrupts":
        return (("SIGKILL", 0.0),)
    first = (chance.choice(SIGNALS), 0.0)
    if chance.random() < 0.5:
        return (first,)
    return (first, (chance.choice(SIGNALS), round(chance.uniform(0.0, LONGEST_BETWEEN), 3)))
