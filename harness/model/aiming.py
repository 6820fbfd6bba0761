"""Where a fault strikes: the names it aims by, and the edges that feel it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from harness.model.edges import Edge
from harness.model.experiment import System
from harness.model.faults import FaultItem
from harness.model.kinds.edge import Aim
from harness.model.kinds.group import Isolate, Partition
from harness.model.kinds.http import CHOOSING, Chosen, LostReply
from harness.model.kinds.service import OnService
from harness.model.reading import Loc

CHOOSING_REQUESTS = tuple("methods" if name == "method" else name for name in CHOOSING)
"""Attributes of a toxic by which it strikes some requests and not others: those of the faults, several methods at once."""


def toxic_name(fault: str, kind: str, stream: str) -> str:
    """The name of the toxic that a fault sets on one stream, which tells later whose it is."""
    return f"{fault}-{kind}-{stream}"


def edges_hit(item: FaultItem, edges: Iterable[Edge]) -> tuple[Edge, ...]:
    """The edges that feel a fault, in the order of the system: of a fault on a service itself, all that lead to it."""
    fault = item.fault
    if isinstance(fault, Aim):
        aims = (fault.edge, fault.service, fault.from_)
        return tuple(edge for edge in edges if any(map(_same, aims, (edge.name, edge.callee, edge.caller))))
    if isinstance(fault, OnService):
        return tuple(edge for edge in edges if edge.callee == fault.service)
    if isinstance(fault, Isolate):
        return tuple(edge for edge in edges if fault.service in (edge.caller, edge.callee))
    one, other = (set(group) for group in fault.between)
    return tuple(
        edge for edge in edges if (edge.caller in one and edge.callee in other) or (edge.caller in other and edge.callee in one)
    )


def _same(aim: str | None, name: str) -> bool:
    return aim is not None and aim == name


def aims_of(item: FaultItem, system: System) -> Iterator[tuple[str, Collection[str], str, Loc]]:
    """Every name a fault aims by: the name, those that there are, what they are, and where it stands."""
    fault = item.fault
    if isinstance(fault, Partition):
        for group_index, group in enumerate(fault.between):
            for index, service in enumerate(group):
                yield service, system.services, "a service", ("between", group_index, index)
        return
    if isinstance(fault, OnService | Isolate):
        yield fault.service, system.services, "a service", ("service",)
        return
    edges = [edge.name for edge in system.edges]
    said: list[tuple[str | None, Collection[str], str, str]] = [
        (fault.edge, edges, "an edge", "edge"),
        (fault.service, system.services, "a service", "service"),
        (fault.from_, system.services, "a service", "from"),
        (getattr(fault, "journey", None), system.journeys, "a journey", "journey"),
    ]
    yield from ((name, known, what, (key,)) for name, known, what, key in said if name is not None)


def sees_requests(item: FaultItem) -> bool:
    """Whether the fault strikes single requests, so that they must be seen; a lost reply of whole connections need not."""
    fault = item.fault
    return isinstance(fault, Chosen) and (fault.chooses or not isinstance(fault, LostReply))
