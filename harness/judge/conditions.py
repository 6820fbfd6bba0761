"""Stop conditions while a run goes on: each is asked of the requests that ended within its last seconds.

What was observed is held against the limit, as `method: point` does, of no fewer requests than an expectation needs. It
must be beyond it in each of those seconds: what reaches back into health was not sustained. A request counts once it is
over: that nothing ends any more is no reason to halt. Requests are kept for as long as the longest condition looks back,
and no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.history.events import Event, FaultBegan, FaultEnded, LoadEnded, PhaseBegan, PhaseEnded, RunHalted
from harness.history.history import History
from harness.history.table import Mask, Requests, Times
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS
from harness.judge.expectations.response_time import NEEDED, QUANTILES
from harness.judge.statistics import quantile
from harness.model.expectations import EACH
from harness.model.experiment import Experiment
from harness.model.load import PHASES
from harness.model.stop_conditions import StopItem, TooManyErrors, TooSlow

WHOLE = "the run"
"""From the first baseline to the end of the load: what a condition is asked of where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Requests that ended, in columns; `waited` is how long each took, `journey` a place in the names known so far."""

    end: Times
    due: Times
    waited: Times
    failed: Mask
    journey: NDArray[np.int32]

    def at(self, chosen: Mask | NDArray[np.intp]) -> Ended:
        """Some of them."""
        return Ended(self.end[chosen], self.due[chosen], self.waited[chosen], self.failed[chosen], self.journey[chosen])

    def seconds(self, until: float) -> Iterator[Ended]:
        """Second by second, counted back from a moment; one in which nothing ended says nothing."""
        ago = np.floor(until - self.end)
        order = np.argsort(ago, kind="stable")
        return (self.at(places) for places in np.split(order, np.flatnonzero(np.diff(ago[order])) + 1))


class Conditions:
    """The stop conditions of one run."""

    def __init__(self, experiment: Experiment) -> None:
        self._items, self._timeout = experiment.stop_when, experiment.load.timeout
        self._plain = {request: plain for plain, request in experiment.system.journeys.items()}
        self._longest = max((item.condition.sustained for item in self._items), default=0.0)
        self._open: dict[str, float] = {}
        """Since when each phase and fault that is on has been on."""
        self._places: dict[str, int] = {}
        self._seen: list[Ended] = []
        self._until = 0.0
        self._is_news = False

    def see_event(self, event: Event) -> None:
        """Note what a condition may be asked of from now on, or no longer."""
        match event:
            case PhaseBegan(at=at, phase=phase):
                self._open[phase] = at
                if phase == "baseline":
                    self._open.setdefault(WHOLE, at)
            case PhaseEnded(phase=phase):
                self._open.pop(phase, None)
            case FaultBegan(at=at, fault=fault) if fault not in PHASES:
                self._open[fault] = at
            case FaultEnded(fault=fault) if fault not in PHASES:
                self._open.pop(fault, None)
            case LoadEnded():
                self._open.clear()
            case _:
                pass

    def see_requests(self, requests: Requests) -> None:
        """Note requests that ended, and forget what no condition looks back to any more."""
        if not self._items or not len(requests):
            return
        names = [self._plain.get(name, name) for name in requests.journeys.known]
        places = np.array([self._places.setdefault(name, len(self._places)) for name in names], dtype=np.int32)
        waited = np.where(requests.never_ended, np.maximum(requests.latency, self._timeout), requests.latency)
        self._seen.append(Ended(requests.end, requests.due, waited, ~requests.ok, places[requests.journey]))
        self._until = max(self._until, float(requests.end.max()))
        self._seen = [part for part in self._seen if float(part.end.max()) > self._until - self._longest]
        self._is_news = True

    @property
    def kept(self) -> int:
        """How many requests are kept."""
        return sum(len(part.end) for part in self._seen)

    def met(self, at: float) -> RunHalted | None:
        """The first condition that is met now, as the event that says so; None where none is."""
        if not self._is_news:
            return None
        self._is_news = False
        for item in self._items:
            if why := self._why(item):
                return RunHalted(at, f"stop condition {item.id} was met: {why}", condition=str(item.id))
        return None

    def _why(self, item: StopItem) -> str:
        """How a condition is met; empty where it is not, or nobody can say."""
        condition = item.condition
        begin, since = self._open.get(condition.during or WHOLE), self._until - condition.sustained
        if begin is None or since < begin or not self._seen:
            return ""
        lately = Ended(*(np.concatenate(columns) for columns in zip(*map(_columns, self._seen), strict=True)))
        lately = lately.at((lately.end > since) & (lately.due >= begin))
        told = (_judged(condition, name, group, self._until) for name, group in self._groups(condition.journey, lately))
        return next(filter(None, told), "")

    def _groups(self, journey: str | None, lately: Ended) -> Iterator[tuple[str, Ended]]:
        """The requests that are judged together: all, those of one journey, or those of each."""
        if journey is None:
            yield "", lately
            return
        for name in sorted(filter(None, self._places)) if journey == EACH else [self._plain.get(journey, journey)]:
            yield f" of {name}", lately.at(lately.journey == self._places.get(name, -1))


def _columns(part: Ended) -> tuple[NDArray[Any], ...]:
    return part.end, part.due, part.waited, part.failed, part.journey


def _judged(condition: TooManyErrors | TooSlow, name: str, group: Ended, until: float) -> str:
    """How a group exceeds a limit; empty where it does not, or there are too few to say."""
    within = words.seconds(condition.sustained)
    if isinstance(condition, TooSlow):
        return _too_slow(condition, name, group, until)
    number, limit = len(group.end), condition.max
    if number < FEWEST_REQUESTS or not _is_sustained(group, until, _share_failed, limit):
        return ""
    share, most = words.share(_share_failed(group)), words.limit_share(limit)
    return f"{share} of the {number} requests{name} that ended within {within} failed, more than {most}"


def _too_slow(condition: TooSlow, name: str, group: Ended, until: float) -> str:
    number, within = len(group.end), words.seconds(condition.sustained)
    for quantile_name, limit in condition.limits.items():
        latency = partial(_latency, QUANTILES[quantile_name])
        if number >= NEEDED["point"][quantile_name] and _is_sustained(group, until, latency, limit):
            told = f"the {quantile_name} of the {number} requests{name} that ended within {within}"
            return f"{told} was {words.seconds(latency(group))}, more than {words.seconds(limit)}"
    return ""


def _is_sustained(group: Ended, until: float, observed: Callable[[Ended], float], limit: float) -> bool:
    """Whether what is observed of a group, and of each second of it, is beyond a limit."""
    return observed(group) > limit and all(observed(part) > limit for part in group.seconds(until))


def _share_failed(group: Ended) -> float:
    return float(group.failed.mean())


def _latency(share: float, group: Ended) -> float:
    return quantile(np.sort(group.waited), share)


def halt_by_condition(history: History) -> RunHalted | None:
    """The halt that a stop condition asked for, where one did."""
    return next((event for event in history.of(RunHalted) if event.condition), None)


def never_met(items: Sequence[StopItem], rate: float | None) -> Iterator[tuple[int, str]]:
    """Conditions for which too few requests end at the highest rate there is, by their places, each with why."""
    for index, item in enumerate(items):
        condition = item.condition
        needed = FEWEST_REQUESTS
        if isinstance(condition, TooSlow):
            needed = min(NEEDED["point"][name] for name in condition.limits)
        most = (rate or np.inf) * condition.sustained
        if most < needed:
            told = f"some {most:.0f} requests end within {words.seconds(condition.sustained)} at {rate:g}/s"
            yield index, f"{item.id} is never met: {told}, and at least {needed} are needed: raise sustained or load.rate"
