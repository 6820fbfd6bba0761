"""When everything happens: the phases of every round, and every fault's begin and heal in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.model.aiming import edges_hit
from harness.model.experiment import Experiment
from harness.model.faults import FaultItem
from harness.model.load import IN_ROUNDS
from harness.model.windows import repeated, seed_of_round, windows_of
from harness.plan.plan import Begin, Heal, PlannedPhase, ProxyChange, Step, Vary
from harness.plan.proxies import state_under
from harness.plan.ramps import ramped
from harness.plan.services import changes_of


def phases_of(experiment: Experiment) -> tuple[PlannedPhase, ...]:
    """The phases one after the other; without a fault there is no fault phase to wait through, but it is kept as a control."""
    order = [("warmup", 1)]
    order += [(name, number) for number in range(1, experiment.rounds + 1) for name in IN_ROUNDS]
    order += [("drain", 1)]
    planned = []
    at = 0.0
    for name, number in order:
        seconds = getattr(experiment.phases, name)
        if seconds > 0:
            planned.append(PlannedPhase.model_validate({"name": name, "at": at, "until": at + seconds, "round": number}))
            at += seconds
    return tuple(planned)


HEAL, VARY, BEGIN = range(3)
"""What comes first where several happen at one instant."""

STEPS: dict[int, type[Begin] | type[Vary] | type[Heal]] = {HEAL: Heal, VARY: Vary, BEGIN: Begin}


def steps_of(experiment: Experiment, phases: Sequence[PlannedPhase]) -> tuple[Step, ...]:
    """Every begin, change and heal in the order in which they happen; each round has all faults, and draws anew."""
    return tuple(step for phase in phases if phase.name == "fault" for step in _in_round(experiment, phase))


def _in_round(experiment: Experiment, phase: PlannedPhase) -> tuple[Step, ...]:
    seed, room = seed_of_round(experiment.seed, phase.round), experiment.phases.fault
    moments = [moment for item in experiment.faults for moment in _moments(item, seed, room)]
    active: dict[str, FaultItem] = {}
    steps: list[Step] = []
    for at, what, item in sorted(moments, key=lambda moment: moment[:2]):
        if what == HEAL:
            del active[str(item.id)]
        else:
            active[str(item.id)] = item
        services = changes_of(item)
        changes = () if services else _proxy_changes(item, tuple(active.values()), experiment, seed)
        said = {"fault": str(item.id), "kind": item.kind, "changes": changes, "services": services}
        steps.append(STEPS[what].model_validate({"at": phase.at + at, "round": phase.round, **said}))
    return tuple(steps)


def _moments(item: FaultItem, seed: int, room: float) -> Iterator[tuple[float, int, FaultItem]]:
    """When, from the start of the fault phase, what happens to a fault, and how it is from then on."""
    for turn in repeated(item, room):
        for window in windows_of(turn, seed):
            for after, grown in ramped(turn):
                yield window.begin + after, BEGIN if after == 0 else VARY, grown
            yield window.end, HEAL, turn


def _proxy_changes(item: FaultItem, active: Sequence[FaultItem], experiment: Experiment, seed: int) -> tuple[ProxyChange, ...]:
    """The state of every proxy that a fault strikes, under all the faults that are on then."""
    system = experiment.system
    return tuple(
        ProxyChange(
            proxy=edge.name,
            state=state_under(
                [other for other in active if edge in edges_hit(other, system.edges)], edge, seed, system.journeys
            ),
        )
        for edge in edges_hit(item, system.edges)
    )
