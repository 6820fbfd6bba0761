"""Translates faults into the words of the proxies: what state each edge's proxy is in while they last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from harness.model.edges import CLIENT, Edge
from harness.model.experiment import System
from harness.model.faults import FaultItem, Latency, OnService, Outage, Partition
from harness.plan.plan import PlannedProxy, ProxyState, Toxic

SPARE = " (spare)"
"""Ends the name of a proxy that leads where its edge's proxy leads, and that nobody calls."""

CLOSE_AT_ONCE_MS = 1
"""Toxiproxy's shortest timeout that is not `never`: the connection is accepted, and closed this much later."""


def proxies_of(system: System) -> tuple[PlannedProxy, ...]:
    """One proxy for each edge."""
    return tuple(
        PlannedProxy(name=edge.name, caller=edge.caller, callee=edge.callee, port=edge.port, protocol=edge.protocol)
        for edge in system.edges
    )


def spare_of(proxy: PlannedProxy) -> PlannedProxy:
    """A second proxy to the same callee, which no service knows of."""
    return proxy.model_copy(update={"name": proxy.name + SPARE, "caller": CLIENT, "spare": True})


def state_under(faults: Iterable[FaultItem], edge: Edge) -> ProxyState:
    """The state of an edge's proxy while these faults last, in the order they began."""
    enabled = True
    toxics: list[Toxic] = []
    for item in faults:
        fault = item.fault
        match fault:
            case Outage(mode="refuse"):
                enabled = False
            case Outage():
                toxics += _outage(str(item.id), fault)
            case Latency():
                toxics.append(_latency(str(item.id), fault))
            case Partition():
                toxics += _partition(str(item.id), fault, edge)
            case OnService():
                pass  # the proxy passes on what the service makes of it
            case _:
                assert_never(fault)
    return ProxyState(enabled=enabled, toxics=tuple(toxics))


def _outage(fault: str, outage: Outage) -> list[Toxic]:
    match outage.mode:
        case "refuse":
            return []
        case "reset":
            return [_toxic(fault, "reset_peer", "upstream", {"timeout": 0})]
        case "hang":
            return [_toxic(fault, "timeout", stream, {"timeout": 0}) for stream in ("upstream", "downstream")]
        case "close":
            return [_toxic(fault, "timeout", "upstream", {"timeout": CLOSE_AT_ONCE_MS})]
        case _:
            assert_never(outage.mode)


def _latency(fault: str, latency: Latency) -> Toxic:
    attributes = {"latency": round(latency.latency * 1000), "jitter": round(latency.jitter * 1000)}
    return _toxic(fault, "latency", "downstream", attributes)


def _partition(fault: str, partition: Partition, edge: Edge) -> list[Toxic]:
    """Both streams lose everything; one-way, only the stream from the first group to the second does."""
    if partition.direction == "both":
        streams = ["upstream", "downstream"]
    else:
        streams = ["upstream" if edge.caller in partition.between[0] else "downstream"]
    return [_toxic(fault, "timeout", stream, {"timeout": 0}) for stream in streams]


def _toxic(fault: str, kind: str, stream: str, attributes: dict[str, int]) -> Toxic:
    data = {"name": f"{fault}-{kind}-{stream}", "type": kind, "stream": stream, "attributes": attributes}
    return Toxic.model_validate(data)
