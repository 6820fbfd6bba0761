"""Every fault on every proxy: what was planned, and all that was recorded of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any

from harness.history.events import EdgeProbed, FaultBegan, FaultEnded, FaultRefused
from harness.history.history import Window
from harness.judge.case import Case
from harness.judge.sights import Sight, is_clean, sight_of


@dataclass(frozen=True)
class Strike:
    """One fault on one proxy; or, seen through it, on the service behind it."""

    fault: str
    proxy: str
    protocol: str
    began: FaultBegan | None
    ended: FaultEnded | None
    refused: FaultRefused | None
    probes: tuple[EdgeProbed, ...]

    @property
    def is_set(self) -> bool:
        """Whether something was asked for, and was found when it was read back: on the proxy, or on the service behind it."""
        if self.began is not None and self.began.service:
            return is_as(self.began.asked, self.began.found)
        return self.began is not None and not is_clean(self.began.asked) and _same(self.began.asked, self.began.found)

    @property
    def sight(self) -> Sight | None:
        """What it must show, once set."""
        return sight_of(self.began.asked) if self.began is not None else None

    @property
    def window(self) -> Window | None:
        """From the moment it was set to the moment it was asked to heal."""
        return Window(self.began.at, self.ended.asked_at) if self.began is not None and self.ended is not None else None

    @property
    def is_healed(self) -> bool:
        """Whether its healing was asked for, and was found when the proxy was read back."""
        return self.ended is not None and _same(self.ended.asked, self.ended.found)

    def probe(self, moment: str) -> EdgeProbed | None:
        """What the harness saw when it looked through the proxy before, during or after the fault."""
        return next((probe for probe in self.probes if probe.moment == moment), None)


def _same(asked: Any, found: Any) -> bool:
    """Whether two states say the same; a list may have become a tuple on its way."""
    if isinstance(asked, dict) and isinstance(found, dict):
        return asked.keys() == found.keys() and all(_same(asked[key], found[key]) for key in asked)
    if isinstance(asked, list | tuple) and isinstance(found, list | tuple):
        return len(asked) == len(found) and all(map(_same, asked, found))
    return bool(asked == found)


def is_as(asked: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether a service, read back, is as asked; what was found may say more."""
    return all(name in found and _equals(value, found[name]) for name, value in asked.items())


def _equals(asked: Any, found: Any) -> bool:
    if isinstance(asked, float) and isinstance(found, int | float):
        return isclose(asked, found, rel_tol=0.01)
    return bool(asked == found)


def strikes_of(case: Case) -> tuple[Strike, ...]:
    """One for each fault and proxy that the plan's steps name, in their order."""
    plan = case.history.plan
    protocols = {proxy["name"]: proxy["protocol"] for proxy in plan.get("proxies", ())}
    pairs = [
        (step["fault"], change["proxy"])
        for step in plan.get("steps", ())
        if step["verb"] == "begin"
        for change in step["changes"]
    ]
    return tuple(_strike(case, fault, proxy, protocols.get(proxy, "tcp")) for fault, proxy in dict.fromkeys(pairs))


def _strike(case: Case, fault: str, proxy: str, protocol: str) -> Strike:
    def its(events: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(event for event in events if (event.fault, event.proxy) == (fault, proxy))

    return Strike(
        fault,
        proxy,
        protocol,
        next(iter(its(case.history.of(FaultBegan))), None),
        next(iter(its(case.history.of(FaultEnded))), None),
        next(iter(its(case.history.of(FaultRefused))), None),
        its(case.history.of(EdgeProbed)),
    )
