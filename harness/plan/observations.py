"""What must be asked of the system so that the judge can decide, derived from the expectations and the faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from harness.model.expectations import Invariant
from harness.model.experiment import Experiment
from harness.plan.looking import asking_for, chosen_stretch
from harness.plan.plan import (
    Begin,
    Heal,
    Observation,
    PlannedPhase,
    PlannedProxy,
    ServiceChange,
    Step,
    WatchBite,
    WatchCounter,
    WatchInvariant,
)
from harness.plan.services import sights_of

AFTER_BEGIN = 0.5
AFTER_HEAL = 0.3
"""Seconds after a change at which the probe looks whether it is there."""


def observations_of(
    experiment: Experiment,
    phases: Sequence[PlannedPhase],
    steps: Sequence[Step],
    proxies: Sequence[PlannedProxy],
    queries: Mapping[str, str],
) -> tuple[Observation, ...]:
    """Counters of expected fallbacks, queries of expected invariants, probes of every proxy that a fault strikes."""
    return (*_counters(experiment), *_invariants(experiment, phases, queries), *bites_of(steps, proxies))


def _counters(experiment: Experiment) -> list[WatchCounter]:
    found = []
    for item in experiment.expect:
        declared = experiment.system.fallbacks[item.fallback.name] if item.fallback is not None else None
        if item.fallback is not None and declared is not None and declared.counter is not None:
            counter = declared.counter
            found.append(WatchCounter(fallback=item.fallback.name, service=counter.service, metric=counter.metric))
    return found


def _invariants(experiment: Experiment, phases: Sequence[PlannedPhase], queries: Mapping[str, str]) -> list[WatchInvariant]:
    found = []
    for item in experiment.expect:
        if item.invariant is None:
            continue
        declared = experiment.system.invariants[item.invariant.name]
        drain = next(phase for phase in phases if phase.name == "drain")
        found.append(
            WatchInvariant(
                invariant=item.invariant.name,
                service=declared.sql.service,
                database=declared.sql.database,
                query=queries[item.invariant.name],
                equals=declared.equals,
                at=drain.at,
                until=min(drain.until, drain.at + _within(item.invariant) + item.invariant.hold),
                hold=item.invariant.hold,
            )
        )
    return found


def _within(invariant: Invariant) -> float:
    return invariant.within if invariant.within is not None else 0.0


def bites_of(steps: Sequence[Step], proxies: Sequence[PlannedProxy]) -> list[WatchBite]:
    """In each round a probe for every proxy that a fault strikes, and for every edge into a service that one strikes itself."""
    rounds = dict.fromkeys(step.round for step in steps)
    return [bite for number in rounds for bite in _in_round([step for step in steps if step.round == number], proxies)]


def _in_round(steps: Sequence[Step], proxies: Sequence[PlannedProxy]) -> list[WatchBite]:
    by_name = {proxy.name: proxy for proxy in proxies}
    begins = [step for step in steps if isinstance(step, Begin)]
    on_edges = dict.fromkeys((step.fault, change.proxy) for step in begins for change in step.changes)
    on_services = dict.fromkeys((step.fault, change) for step in begins for change in step.services)
    return [
        *(_on_edge(steps, fault, by_name[proxy]) for fault, proxy in on_edges),
        *(
            _on_service(steps, fault, change, proxy)
            for fault, change in on_services
            for proxy in proxies
            if proxy.callee == change.service and not proxy.spare
        ),
    ]


def _on_edge(steps: Sequence[Step], fault: str, proxy: PlannedProxy) -> WatchBite:
    chosen = chosen_stretch(steps, fault, proxy.name)
    last = next(step for step in reversed(steps) if step.fault == fault)
    after = min(AFTER_BEGIN, chosen.seconds / 2)
    return WatchBite(
        round=last.round,
        fault=fault,
        proxy=proxy.name,
        protocol=proxy.protocol,
        at=chosen.begin + after,
        again=last.at + AFTER_HEAL,
        asking=asking_for(fault, chosen.state, proxy.protocol, chosen.seconds - after),
    )


def _on_service(steps: Sequence[Step], fault: str, change: ServiceChange, proxy: PlannedProxy) -> WatchBite:
    at, again = _looks([step for step in steps if step.fault == fault])
    return WatchBite(
        round=steps[0].round,
        fault=fault,
        proxy=proxy.name,
        protocol=proxy.protocol,
        service=change.service,
        sees=tuple(sight for sight in sights_of(change) if sight != "silent" or proxy.protocol != "tcp"),
        at=at,
        again=again,
    )


def _looks(steps: Sequence[Step]) -> tuple[float, float]:
    """When to look while a fault lasts, and after it: in the longest stretch without a change, and after the last heal."""
    stretches = [(after.at - before.at, before.at) for before, after in pairwise(steps) if not isinstance(before, Heal)]
    seconds, begin = max(stretches, key=lambda stretch: (stretch[0], -stretch[1]))
    return begin + min(AFTER_BEGIN, seconds / 2), steps[-1].at + AFTER_HEAL
