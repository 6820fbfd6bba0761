"""When everything happens: the phases, and every fault's begin and heal in their order."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.edges import Edge
from harness.model.experiment import Experiment
from harness.model.faults import FaultItem
from harness.model.load import PHASES
from harness.model.resolving import edges_hit
from harness.plan.plan import Begin, Heal, PlannedPhase, ProxyChange, Step
from harness.plan.proxies import state_under
from harness.plan.services import changes_of


def phases_of(experiment: Experiment) -> tuple[PlannedPhase, ...]:
    """The phases one after the other; without a fault there is no fault phase to wait through, but it is kept as a control."""
    planned = []
    at = 0.0
    for name in PHASES:
        seconds = getattr(experiment.phases, name)
        if seconds > 0:
            planned.append(PlannedPhase.model_validate({"name": name, "at": at, "until": at + seconds}))
            at += seconds
    return tuple(planned)


def steps_of(experiment: Experiment, phases: Sequence[PlannedPhase]) -> tuple[Step, ...]:
    """Every begin and heal in the order in which they happen; at one instant heals come first."""
    start = next(phase.at for phase in phases if phase.name == "fault")
    moments = [(start + _at(item) + _lasts(item), False, item) for item in experiment.faults]
    moments += [(start + _at(item), True, item) for item in experiment.faults]
    active: list[FaultItem] = []
    steps: list[Step] = []
    for at, begins, item in sorted(moments, key=lambda moment: moment[:2]):
        if begins:
            active.append(item)
        else:
            active.remove(item)
        services = changes_of(item)
        changes = () if services else _proxy_changes(item, active, experiment.system.edges)
        step = Begin if begins else Heal
        steps.append(step(at=at, fault=str(item.id), kind=item.kind, changes=changes, services=services))
    return tuple(steps)


def _proxy_changes(item: FaultItem, active: Sequence[FaultItem], edges: Sequence[Edge]) -> tuple[ProxyChange, ...]:
    """The state of every proxy that a fault strikes, under all the faults that are on then."""
    return tuple(
        ProxyChange(proxy=edge.name, state=state_under([other for other in active if edge in edges_hit(other, edges)], edge))
        for edge in edges_hit(item, edges)
    )


def _at(item: FaultItem) -> float:
    return item.at or 0.0


def _lasts(item: FaultItem) -> float:
    return item.for_ or 0.0
