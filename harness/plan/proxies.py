"""Translates faults into the words of the proxies: what state each edge's proxy is in while they last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.model.edges import CLIENT, Edge
from harness.model.experiment import System
from harness.model.faults import FaultItem
from harness.plan.plan import PlannedProxy, ProxyState
from harness.plan.toxics import refuses, toxics_of

SPARE = " (spare)"
"""Ends the name of a proxy that leads where its edge's proxy leads, and that nobody calls."""


def proxies_of(system: System) -> tuple[PlannedProxy, ...]:
    """One proxy for each edge."""
    return tuple(
        PlannedProxy(name=edge.name, caller=edge.caller, callee=edge.callee, port=edge.port, protocol=edge.protocol)
        for edge in system.edges
    )


def spare_of(proxy: PlannedProxy) -> PlannedProxy:
    """A second proxy to the same callee, which no service knows of."""
    return proxy.model_copy(update={"name": proxy.name + SPARE, "caller": CLIENT, "spare": True})


def state_under(faults: Iterable[FaultItem], edge: Edge, seed: int, journeys: Mapping[str, str]) -> ProxyState:
    """The state of an edge's proxy while these faults last, in the order they began: so their toxics follow each other.

    A proxy that refuses keeps the toxics of the others, which act again once it listens.
    """
    active = tuple(faults)
    toxics = [toxic for item in active for toxic in toxics_of(item, edge, seed, journeys)]
    return ProxyState(enabled=not any(map(refuses, active)), toxics=tuple(toxics))
