"""Every fault on a service itself: what was planned, and all that was recorded of it, through every edge into it too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, get_args

from harness.history.events import EdgeProbed, FaultBegan, FaultEnded, FaultRefused, ServiceChanged
from harness.judge.case import Case
from harness.judge.strikes import Strike, is_as
from harness.model.faults import Deed

DEEDS: tuple[str, ...] = get_args(Deed)

TELLS_EARLY = 0.5
"""An engine's clock may be this much behind the harness's: what it tells of a deed may bear an earlier time."""


SUMMED_UP = ("throttled", "pressed")
"""What is counted over the whole fault, and so told while it is being taken back."""


@dataclass(frozen=True)
class Glimpse:
    """What was seen of the service through one edge into it; `sees` is what a probe must see of it, one of these."""

    strike: Strike
    sees: tuple[str, ...]

    @property
    def edge(self) -> str:
        """The edge's name."""
        return self.strike.proxy

    @property
    def after(self) -> EdgeProbed | None:
        """The last look after healing: it was repeated until it was answered, or the recovery was over."""
        looks = [probe for probe in self.strike.probes if probe.moment == "after"]
        return looks[-1] if looks else None


@dataclass(frozen=True)
class Blow:
    """One fault on one service itself. `changes` are what its runtime told of the service while the fault lasted."""

    fault: str
    service: str
    deed: str
    withheld: bool
    began: FaultBegan | None
    ended: FaultEnded | None
    refused: FaultRefused | None
    changes: tuple[ServiceChanged, ...]
    glimpses: tuple[Glimpse, ...]

    @property
    def is_set(self) -> bool:
        """Whether the service, read back, was in the state that was asked for."""
        return self.began is not None and is_as(self.began.asked, self.began.found)

    @property
    def is_healed(self) -> bool:
        """Whether the service, read back after the healing, was well."""
        return self.ended is not None and is_as(self.ended.asked, self.ended.found)


def blows_of(case: Case) -> tuple[Blow, ...]:
    """One for each fault and service that the plan's steps name, in their order; one that was withheld is told as such."""
    return tuple(_blow(case, *one) for one in _planned(case))


def _planned(case: Case) -> Iterator[tuple[str, str, str, bool]]:
    """Fault, service, deed, and whether it was withheld."""
    for step in case.history.plan.get("steps", ()):
        services = step.get("services") or ()
        if step["verb"] != "begin":
            continue
        for change in services:
            yield step["fault"], change["service"], change["deed"], False
        if not services and not step["changes"] and step["kind"] in DEEDS:
            item = case.fault(step["fault"])
            fault = item.on_service if item is not None else None
            yield step["fault"], fault.service if fault is not None else "?", step["kind"], True


def _blow(case: Case, fault: str, service: str, deed: str, withheld: bool) -> Blow:
    def its(events: Iterable[Any]) -> Any:
        return next((event for event in events if (event.fault, event.service) == (fault, service)), None)

    began, ended, refused = (its(case.history.of(kind)) for kind in (FaultBegan, FaultEnded, FaultRefused))
    begin = began.asked_at - TELLS_EARLY if began is not None else inf

    def is_of_it(event: ServiceChanged) -> bool:
        until = inf if ended is None else ended.at if event.what in SUMMED_UP else ended.asked_at
        return event.service == service and begin <= event.at < until

    changes = [event for event in case.history.of(ServiceChanged) if is_of_it(event)]
    return Blow(
        fault,
        service,
        deed,
        withheld,
        began,
        ended,
        refused,
        tuple(changes),
        tuple(_glimpses(case, (fault, service), (began, ended, refused))),
    )


def _glimpses(case: Case, target: tuple[str, str], recorded: tuple[Any, Any, Any]) -> Iterator[Glimpse]:
    for seen in case.history.plan.get("observations", ()):
        if seen["what"] == "bite" and (seen["fault"], seen.get("service")) == target:
            probes = [
                event for event in case.history.of(EdgeProbed) if (event.fault, event.proxy) == (target[0], seen["proxy"])
            ]
            strike = Strike(target[0], seen["proxy"], seen["protocol"], *recorded, tuple(probes))
            yield Glimpse(strike, tuple(seen.get("sees") or ()))
