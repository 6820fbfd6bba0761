"""From an experiment to its plan: a pure function, so that the same seed gives the same plan byte for byte."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from harness.model.experiment import Experiment
from harness.model.load import IN_ROUNDS
from harness.plan.observations import observations_of
from harness.plan.plan import Arrivals, Plan, PlannedPhase
from harness.plan.proxies import proxies_of
from harness.plan.timeline import phases_of, steps_of


def plan_of(experiment: Experiment, queries: Mapping[str, str]) -> Plan:
    """Decide a run. `queries` are the texts of the invariants' queries, by the invariants' names."""
    proxies = proxies_of(experiment.system)
    phases = phases_of(experiment)
    steps = steps_of(experiment, phases)
    return Plan(
        experiment=experiment,
        load=_arrivals(experiment, phases),
        proxies=proxies,
        phases=phases,
        steps=steps,
        observations=observations_of(experiment, phases, steps, proxies, queries),
    )


def _arrivals(experiment: Experiment, phases: Sequence[PlannedPhase]) -> Arrivals:
    load, system = experiment.load, experiment.system
    return Arrivals(
        locustfile=load.locustfile,
        rate=load.rate,
        stages=load.stages,
        users=load.users,
        shape=load.shape,
        processes=load.processes,
        bind=load.bind,
        arrivals=load.arrivals,
        timeout=load.timeout,
        classes=load.classes,
        allow_hosts=load.allow_hosts,
        journeys=tuple(system.journeys.values()),
        accepted=system.accepted,
        seed=experiment.seed,
        seconds=_longest(experiment, phases),
    )


def _longest(experiment: Experiment, phases: Sequence[PlannedPhase]) -> float:
    """How long the load is on, where each window of each round is lengthened."""
    room = len(IN_ROUNDS) * experiment.rounds * (experiment.extend or 0.0)
    return max(phase.until for phase in phases if phase.name != "drain") + room


def plan_to_json(plan: Plan) -> str:
    """The plan as it begins a run's folder: sorted keys, two spaces."""
    data = plan.model_dump(mode="json", exclude_none=True)
    return json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
