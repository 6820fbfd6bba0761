"""Whether the faults of a scenario keep to what its system allows to be struck at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.model.aiming import edges_hit
from harness.model.edges import Edge
from harness.model.faults import FaultItem
from harness.model.kinds.edge import Flaky, Flap, Outage, ResetPeer, Timeout
from harness.model.kinds.group import Isolate, Partition
from harness.model.system import Limits
from harness.model.windows import Stretch, repeated, seed_of_round, windows_of

TAKING_DOWN = ("kill", "stop", "restart", "pause", "crash", "crash_loop", "disconnect")
"""What is done to a service and leaves it without an answer; with less of a processor or memory it goes on."""


SAME_MOMENT = 1e-9
"""Seconds by which sums of the same moments may differ."""


@dataclass(frozen=True, slots=True)
class Excess:
    """More than a limit allows, from a moment on; `index` is the fault that is one too many, `adds_up` what is struck then."""

    limit: str
    allowed: int
    index: int
    round: int
    at: float
    adds_up: tuple[str, ...]

    def told(self, rounds: int, place: str) -> str:
        """The excess in words; `place` is where the limit stands."""
        one, struck = ("service", "down") if self.limit == "services_down" else ("edge", "under a fault")
        most = f"{self.allowed} {one if self.allowed == 1 else one + 's'} {struck}"
        when = f"{self.at:g}s into the fault phase" + (f" of round {self.round}" if rounds > 1 else "")
        found = f"{len(self.adds_up)} from {when} on: {', '.join(self.adds_up)}"
        return f"expected at most {most} at once ({self.limit}, {place}), found {found}"


@dataclass(frozen=True, slots=True)
class Course:
    """The faults of a scenario with `id`, `at` and `for`; `room` is how long each fault phase lasts, `seed` draws in it."""

    faults: Sequence[FaultItem]
    edges: Sequence[Edge]
    room: float
    rounds: int
    seed: int

    def windows(self, number: int) -> list[tuple[int, Stretch]]:
        """When each fault is on in a round, by its place."""
        seed = seed_of_round(self.seed, number)
        return [
            (index, window)
            for index, item in enumerate(self.faults)
            for turn in repeated(item, self.room)
            for window in windows_of(turn, seed)
        ]


Count: TypeAlias = Callable[[Sequence[FaultItem], Sequence[Edge]], tuple[str, ...]]


def excesses(limits: Limits, course: Course) -> Iterator[Excess]:
    """The first moment at which each limit is not kept."""
    for limit, count in (("services_down", _down), ("edges", _under_fault)):
        allowed = getattr(limits, limit)
        if allowed is not None:
            beyond = (moment for moment in _moments(course, count) if len(moment[-1]) > allowed)
            if (first := next(beyond, None)) is not None:
                yield Excess(limit, allowed, *first)


def _moments(course: Course, count: Count) -> Iterator[tuple[int, int, float, tuple[str, ...]]]:
    """Each moment at which faults begin: the last of them in the file, the round, the moment, and what is struck then."""
    for number in range(1, course.rounds + 1):
        windows = course.windows(number)
        for at in sorted({window.begin for _, window in windows}):
            on = dict.fromkeys(index for index, window in windows if window.begin <= at < window.end - SAME_MOMENT)
            latest = max(index for index, window in windows if window.begin == at)
            yield latest, number, at, count([course.faults[index] for index in on], course.edges)


def _under_fault(faults: Sequence[FaultItem], edges: Sequence[Edge]) -> tuple[str, ...]:
    """The edges that carry a fault, each with the faults that it carries."""
    by_edge: dict[str, list[str]] = {}
    for item in faults:
        for edge in () if item.on_service is not None else edges_hit(item, edges):
            by_edge.setdefault(edge.name, []).append(str(item.id))
    return tuple(f"{edge} ({', '.join(ids)})" for edge, ids in by_edge.items())


def _down(faults: Sequence[FaultItem], edges: Sequence[Edge]) -> tuple[str, ...]:
    """The services that are struck down or isolated, and those to which every edge is cut, each with the faults that do it."""
    by_service: dict[str, list[str]] = {}
    for item in faults:
        if item.on_service is not None and item.kind in TAKING_DOWN:
            by_service.setdefault(item.on_service.service, []).append(str(item.id))
    cut = [(item, {edge.name for edge in edges_hit(item, edges)}) for item in faults if _cuts(item)]
    for service in dict.fromkeys(edge.callee for edge in edges):
        into = {edge.name for edge in edges if edge.callee == service}
        cutting = {
            str(item.id): into & found for item, found in cut if not (into <= found and _isolates_another(item, service))
        }
        if into <= _all_of(cutting.values()):
            by_service.setdefault(service, []).extend(name for name, found in cutting.items() if found)
    for item in faults:
        if isinstance(item.fault, Isolate):
            by_service.setdefault(item.fault.service, []).append(str(item.id))
    return tuple(f"{service} ({', '.join(dict.fromkeys(ids))})" for service, ids in by_service.items())


def _all_of(sets: Collection[set[str]]) -> set[str]:
    return set().union(*sets)


def _isolates_another(item: FaultItem, service: str) -> bool:
    """Whether the fault isolates another service: what that one alone calls is as healthy as ever."""
    return isinstance(item.fault, Isolate) and item.fault.service != service


def _cuts(item: FaultItem) -> bool:
    """Whether nothing comes back on an edge while the fault is on."""
    match item.fault:
        case Outage(share=share) | Timeout(share=share) | ResetPeer(share=share):
            return share is None
        case fault:
            return isinstance(fault, Flap | Flaky | Isolate | Partition)
