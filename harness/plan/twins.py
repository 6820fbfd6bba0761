"""Free twins of a plan: runs that need no planted bug, and that must not pass.

They prove the harness rather than the system: a fault that was planned and withheld, one that was accepted and
not applied, a fault on a proxy that nobody calls, a cut where the load comes in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, assert_never, get_args

from harness.model.edges import CLIENT
from harness.model.experiment import Experiment
from harness.plan.observations import bites_of
from harness.plan.plan import CLEAN, Observation, Plan, PlannedProxy, ProxyChange, ProxyState, Step, WatchBite
from harness.plan.proxies import SPARE, spare_of

Twin: TypeAlias = Literal["no fault", "not applied", "wrong edge", "entry cut"]
TWINS: tuple[Twin, ...] = get_args(Twin)

NOT_APPLIED: Twin = "not applied"
"""The twin whose plan is the same: whoever carries it out takes each fault, and does nothing."""

EXPECTED: dict[Twin, str] = {
    "no fault": "inconclusive",
    "not applied": "inconclusive",
    "wrong edge": "inconclusive",
    "entry cut": "failed",
}
"""The verdict each twin must end with."""


def twins_for(experiment: Experiment) -> tuple[Twin, ...]:
    """The twins that mean something for an experiment.

    A fault on a service itself has no edge that it could be on in place of the right one: there is no spare service
    that nobody calls. So where no fault strikes an edge, there is no "wrong edge".
    """
    strikes_edges = not experiment.faults or any(item.on_service is None for item in experiment.faults)
    return tuple(twin for twin in TWINS if twin != "wrong edge" or strikes_edges)


def twin_of(plan: Plan, twin: Twin) -> Plan:
    """The plan's twin."""
    match twin:
        case "no fault":
            return _with_steps(plan, twin, plan.proxies, tuple(_withheld(step) for step in plan.steps))
        case "not applied":
            return plan.model_copy(update={"twin": twin})
        case "wrong edge":
            struck = {change.proxy for step in plan.steps for change in step.changes}
            spares = tuple(spare_of(proxy) for proxy in plan.proxies if proxy.name in struck)
            return _with_steps(plan, twin, (*plan.proxies, *spares), tuple(_moved(step) for step in plan.steps))
        case "entry cut":
            way_in = next(proxy.name for proxy in plan.proxies if proxy.caller == CLIENT)
            return _with_steps(plan, twin, plan.proxies, tuple(_at_entry(plan.steps, way_in)))
        case _:
            assert_never(twin)


def _with_steps(plan: Plan, twin: Twin, proxies: tuple[PlannedProxy, ...], steps: tuple[Step, ...]) -> Plan:
    others: list[Observation] = [seen for seen in plan.observations if not isinstance(seen, WatchBite)]
    observations = (*others, *bites_of(steps, proxies))
    return plan.model_copy(update={"twin": twin, "proxies": proxies, "steps": steps, "observations": observations})


def _withheld(step: Step) -> Step:
    changes = tuple(change.model_copy(update={"state": CLEAN}) for change in step.changes)
    return step.model_copy(update={"changes": changes, "services": ()})


def _moved(step: Step) -> Step:
    changes = tuple(change.model_copy(update={"proxy": change.proxy + SPARE}) for change in step.changes)
    return step.model_copy(update={"changes": changes, "services": ()})


def _at_entry(steps: Sequence[Step], way_in: str) -> Iterator[Step]:
    """Every fault on the way in, in each round from its first begin to its last heal.

    The way in stays cut until the last of them is healed.
    """
    first = {(step.round, step.fault): step for step in reversed(steps)}
    last = {(step.round, step.fault): step for step in steps}
    ends = {step.round: step for step in steps}
    for step in steps:
        turn = step.round, step.fault
        if step is first[turn] or step is last[turn]:
            state = CLEAN if step is ends[step.round] else ProxyState(enabled=False)
            yield step.model_copy(update={"changes": (ProxyChange(proxy=way_in, state=state),), "services": ()})
