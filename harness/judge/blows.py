"""Every fault on a service itself: what was planned, and all that was recorded of it, through every edge into it too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import get_args

from harness.history.events import EdgeProbed, FaultRefused, ServiceChanged
from harness.judge.case import Case
from harness.judge.strikes import Strike, Turn, is_as, strike_of
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
        looks = self.strike.looks("after")
        return looks[-1] if looks else None


@dataclass(frozen=True)
class Bout:
    """One time that the fault was on. `changes` are what its runtime told of the service meanwhile, in order of time."""

    turn: Turn
    changes: tuple[ServiceChanged, ...]

    @property
    def told(self) -> tuple[str, ...]:
        """What was told, each kind once."""
        return tuple(dict.fromkeys(change.what for change in self.changes))

    @property
    def is_healed(self) -> bool:
        """Whether the service, read back after the healing, was well."""
        ended = self.turn.ended
        return ended is not None and is_as(ended.asked, ended.found)


@dataclass(frozen=True)
class Blow:
    """One fault on one service itself; `recorded` is what was planned and recorded of it, `bouts` are its turns."""

    fault: str
    service: str
    deed: str
    withheld: bool
    recorded: Strike
    bouts: tuple[Bout, ...]
    glimpses: tuple[Glimpse, ...]

    @property
    def refused(self) -> FaultRefused | None:
        """That it, or its healing, could not be done."""
        return self.recorded.refused

    @property
    def is_set(self) -> bool:
        """Whether the service, read back each time, was in the state that was asked for."""
        return self.recorded.is_set


def blows_of(case: Case) -> tuple[Blow, ...]:
    """One for each fault and service that the plan's steps name, in their order; one that was withheld is told as such."""
    return tuple(_blow(case, *one) for one in dict.fromkeys(_planned(case)))


def _planned(case: Case) -> Iterator[tuple[str, str, str, bool]]:
    """Fault, service, deed, and whether it was withheld; as often as it was to begin."""
    for step in case.history.plan.get("steps", ()):
        services = step.get("services") or ()
        if step["verb"] != "begin":
            continue
        for change in services:
            yield step["fault"], change["service"], change["deed"], False
        if not services and not step.get("changes", ()) and step["kind"] in DEEDS:
            item = case.fault(step["fault"])
            fault = item.on_service if item is not None else None
            yield step["fault"], fault.service if fault is not None else "?", step["kind"], True


def _blow(case: Case, fault: str, service: str, deed: str, withheld: bool) -> Blow:
    recorded = strike_of(case, fault, "", "tcp", service)
    told = [event for event in case.history.of(ServiceChanged) if event.service == service]
    bouts = tuple(Bout(turn, tuple(event for event in told if _is_of(event, turn))) for turn in recorded.turns)
    return Blow(fault, service, deed, withheld, recorded, bouts, tuple(_glimpses(case, fault, service)))


def _is_of(event: ServiceChanged, turn: Turn) -> bool:
    """Whether it was told while the fault was on."""
    until = inf if turn.ended is None else turn.ended.at if event.what in SUMMED_UP else turn.ended.asked_at
    return turn.began.asked_at - TELLS_EARLY <= event.at < until


def _glimpses(case: Case, fault: str, service: str) -> Iterator[Glimpse]:
    for seen in case.history.plan.get("observations", ()):
        if seen["what"] == "bite" and (seen["fault"], seen.get("service")) == (fault, service):
            strike = strike_of(case, fault, seen["proxy"], seen["protocol"], service)
            yield Glimpse(strike, tuple(seen.get("sees") or ()))
