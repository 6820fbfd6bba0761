"""Every fault on every proxy: what was planned, and all that was recorded of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any, TypeAlias

from harness.history.events import EdgeProbed, FaultBegan, FaultEnded, FaultRefused, FaultVaried
from harness.history.history import Window
from harness.history.states import act_alike
from harness.judge.case import Case
from harness.judge.states import is_clean, own_toxics

ReadBack: TypeAlias = FaultBegan | FaultVaried | FaultEnded


@dataclass(frozen=True)
class Turn:
    """One time that a fault was on: how it began, how it was varied, how it ended."""

    began: FaultBegan
    varied: tuple[FaultVaried, ...] = ()
    ended: FaultEnded | None = None

    @property
    def window(self) -> Window | None:
        """From the moment it was set to the moment it was asked to heal."""
        return Window(self.began.at, self.ended.asked_at) if self.ended is not None else None


@dataclass(frozen=True)
class Strike:
    """One fault on one proxy; or, seen through it, on the service behind it.

    `planned` is how often it was to begin, and `varied` how often to be varied. `states` are what was read back of the
    proxy, whichever fault it was asked for.
    """

    fault: str
    proxy: str
    protocol: str
    planned: int
    varied: int
    turns: tuple[Turn, ...]
    refused: FaultRefused | None
    probes: tuple[EdgeProbed, ...]
    states: tuple[ReadBack, ...]

    @property
    def began(self) -> FaultBegan | None:
        """How it began first."""
        return self.turns[0].began if self.turns else None

    @property
    def ended(self) -> FaultEnded | None:
        """How it ended last; None where it was not healed the last time."""
        return self.turns[-1].ended if self.turns else None

    @property
    def changes(self) -> tuple[FaultBegan | FaultVaried, ...]:
        """Every time it was set, or set otherwise."""
        found: list[FaultBegan | FaultVaried] = []
        for turn in self.turns:
            found += [turn.began, *turn.varied]
        return tuple(found)

    @property
    def is_whole(self) -> bool:
        """Whether it was set as often as it was to be."""
        varied = sum(len(turn.varied) for turn in self.turns)
        return len(self.turns) >= self.planned and varied >= self.varied

    @property
    def is_set(self) -> bool:
        """Whether each time something was asked for, and was found when it was read back."""
        return bool(self.turns) and self.is_whole and all(map(_is_set, self.changes))

    @property
    def unset(self) -> str:
        """That it was not set, or seldomer than planned, as one says it."""
        if self.turns and not self.is_whole:
            return f"{self.fault} was set {len(self.changes)} of {self.planned + self.varied} times"
        return f"{self.fault} was not set"

    @property
    def windows(self) -> tuple[Window, ...]:
        """When it was on, as far as its ends are known."""
        return tuple(turn.window for turn in self.turns if turn.window is not None)

    @property
    def is_healed(self) -> bool:
        """Whether each healing was asked for, and was found when the proxy was read back."""
        return bool(self.turns) and all(
            turn.ended is not None and act_alike(turn.ended.asked, turn.ended.found) for turn in self.turns
        )

    @property
    def toxics(self) -> tuple[Mapping[str, Any], ...]:
        """The fault's own toxics, each as it was set last."""
        found = {toxic["name"]: toxic for change in self.changes for toxic in own_toxics(change.asked, self.fault)}
        return tuple(found.values())

    def probe(self, moment: str) -> EdgeProbed | None:
        """What the harness saw when it looked through the proxy before, during or after the fault."""
        return next(iter(self.looks(moment)), None)

    def looks(self, moment: str) -> tuple[EdgeProbed, ...]:
        """Everything it saw then."""
        return tuple(probe for probe in self.probes if probe.moment == moment)

    def state_at(self, at: float) -> Mapping[str, Any]:
        """The state of the proxy, as it was read back last before a moment."""
        found: Mapping[str, Any] = {}
        for state in self.states:
            if state.at <= at:
                found = state.found
        return found


def _is_set(change: FaultBegan | FaultVaried) -> bool:
    if change.service:
        return is_as(change.asked, change.found)
    return not is_clean(change.asked) and act_alike(change.asked, change.found)


def is_as(asked: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether a service, read back, is as asked; what was found may say more."""
    return all(name in found and _equals(value, found[name]) for name, value in asked.items())


def _equals(asked: Any, found: Any) -> bool:
    if isinstance(asked, float) and isinstance(found, int | float):
        return isclose(asked, found, rel_tol=0.01)
    return bool(asked == found)


def turns_of(events: Iterable[Any]) -> tuple[Turn, ...]:
    """The turns of one fault on one proxy or service, out of what was recorded of it, in order of time."""
    turns: list[Turn] = []
    for event in events:
        if isinstance(event, FaultBegan):
            turns.append(Turn(event))
        elif turns and turns[-1].ended is None:
            last = turns[-1]
            varied = (*last.varied, event) if isinstance(event, FaultVaried) else last.varied
            turns[-1] = Turn(last.began, varied, event if isinstance(event, FaultEnded) else None)
    return tuple(turns)


def strikes_of(case: Case) -> tuple[Strike, ...]:
    """One for each fault and proxy that the plan's steps name, in their order."""
    plan = case.history.plan
    protocols = {proxy["name"]: proxy["protocol"] for proxy in plan.get("proxies", ())}
    pairs = [
        (step["fault"], change["proxy"])
        for step in plan.get("steps", ())
        if step["verb"] == "begin"
        for change in step.get("changes", ())
    ]
    return tuple(strike_of(case, fault, proxy, protocols.get(proxy, "tcp")) for fault, proxy in dict.fromkeys(pairs))


def strike_of(case: Case, fault: str, proxy: str, protocol: str, service: str = "") -> Strike:
    """A fault on a proxy; with `service` the fault is on that service, and the proxy what it is seen through."""
    aim = (fault, "", service) if service else (fault, proxy, "")

    def its(kinds: Any) -> tuple[Any, ...]:
        return tuple(
            event
            for event in case.history.events
            if isinstance(event, kinds) and (event.fault, event.proxy, event.service) == aim
        )

    return Strike(
        fault,
        proxy,
        protocol,
        _planned(case, aim, "begin"),
        _planned(case, aim, "vary"),
        turns_of(its(ReadBack)),
        next(iter(its(FaultRefused)), None),
        tuple(probe for probe in case.history.of(EdgeProbed) if (probe.fault, probe.proxy) == (fault, proxy)),
        tuple(event for event in case.history.events if isinstance(event, ReadBack) and event.proxy == proxy),
    )


def _planned(case: Case, aim: tuple[str, str, str], verb: str) -> int:
    """How many steps of the plan do this to the proxy or the service."""
    fault, proxy, service = aim
    steps = [step for step in case.history.plan.get("steps", ()) if (step["fault"], step["verb"]) == (fault, verb)]
    struck = [
        {
            *(change["proxy"] for change in step.get("changes", ())),
            *(change["service"] for change in step.get("services") or ()),
        }
        for step in steps
    ]
    return sum((proxy or service) in names for names in struck)
