"""Stop conditions while a run goes on: each is asked of the requests that ended within its last seconds.

What was observed is held against the limit, as `method: point` does, of no fewer requests than an expectation needs. It
must be beyond it in each of those seconds: what reaches back into health was not sustained. A request counts once it is
over: that nothing ends any more is no reason to halt. Requests are kept for as long as the longest condition looks back,
and no longer.
"""

from __future__ import annotations

from collections import deque
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
from harness.judge.case import FEWEST_REQUESTS, Case
from harness.judge.expectations.response_time import NEEDED, QUANTILES
from harness.judge.statistics import quantile
from harness.model.expectations import EACH
from harness.model.experiment import Experiment
from harness.model.load import PHASES
from harness.model.stop_conditions import StopItem, TooManyErrors, TooSlow

WHOLE = "the run"
"""From the first baseline to the end of the load: what a condition is asked of where nothing else is said."""


FAILED = "failed"


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


@dataclass(frozen=True, slots=True)
class Held:
    """What was held against a limit: a share of failures, or a quantile; of the stretch as a whole, and in each second of it.

    `least` is what it was at least in all of these: what would have had to be the limit for it to be met.
    """

    what: str
    whole: float
    least: float
    limit: float
    of: str
    """Which requests, how many, and within how long."""

    @property
    def is_met(self) -> bool:
        """Whether the limit was exceeded for as long as was asked for."""
        return self.least > self.limit

    @property
    def nearness(self) -> float:
        """How much of its limit it came to."""
        return self.least / self.limit if self.limit else self.least

    def __str__(self) -> str:
        if self.what == FAILED:
            return f"{words.share(self.whole)} of {self.of} failed, more than {words.limit_share(self.limit)}"
        return f"the {self.what} of {self.of} was {words.seconds(self.whole)}, more than {words.seconds(self.limit)}"

    @property
    def told(self) -> str:
        """How near it came."""
        if self.what == FAILED:
            return f"{words.share(self.least)} failed, more than {words.limit_share(self.limit)} halts"
        return f"a {self.what} of {words.seconds(self.least)}, more than {words.seconds(self.limit)} halts"


class Conditions:
    """The stop conditions of one run; `nearest` is what came nearest to the limit of each that was asked, and when."""

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
        self.nearest: dict[str, tuple[Held, float]] = {}

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
            for held in self._held(item):
                if str(item.id) not in self.nearest or held.nearness > self.nearest[str(item.id)][0].nearness:
                    self.nearest[str(item.id)] = held, at
                if held.is_met:
                    return RunHalted(at, f"stop condition {item.id} was met: {held}", condition=str(item.id))
        return None

    def _held(self, item: StopItem) -> Iterator[Held]:
        """What is held against the limits of a condition; nothing where it is not asked now, or nobody can say."""
        condition = item.condition
        begin, since = self._open.get(condition.during or WHOLE), self._until - condition.sustained
        if begin is None or since < begin or not self._seen:
            return
        lately = Ended(*(np.concatenate(columns) for columns in zip(*map(_columns, self._seen), strict=True)))
        lately = lately.at((lately.end > since) & (lately.due >= begin))
        for name, group in self._groups(condition.journey, lately):
            within = f"the {len(group.end)} requests{name} that ended within {words.seconds(condition.sustained)}"
            for what, observed, limit, needed in _limits(condition):
                if len(group.end) < needed:
                    continue
                whole, known = observed(group), self.nearest.get(str(item.id))
                if known is None or whole > limit or (whole / limit if limit else whole) > known[0].nearness:
                    yield Held(what, whole, min(whole, *map(observed, group.seconds(self._until))), limit, within)

    def _groups(self, journey: str | None, lately: Ended) -> Iterator[tuple[str, Ended]]:
        """The requests that are judged together: all, those of one journey, or those of each."""
        if journey is None:
            yield "", lately
            return
        for name in sorted(filter(None, self._places)) if journey == EACH else [self._plain.get(journey, journey)]:
            yield f" of {name}", lately.at(lately.journey == self._places.get(name, -1))


def _columns(part: Ended) -> tuple[NDArray[Any], ...]:
    return part.end, part.due, part.waited, part.failed, part.journey


def _limits(condition: TooManyErrors | TooSlow) -> Iterator[tuple[str, Callable[[Ended], float], float, int]]:
    """The limits of a condition: what is observed, how, what it must not exceed, and how many requests that needs."""
    if isinstance(condition, TooManyErrors):
        yield FAILED, _share_failed, condition.max, FEWEST_REQUESTS
        return
    for name, limit in condition.limits.items():
        yield name, partial(_latency, QUANTILES[name]), limit, NEEDED["point"][name]


def _share_failed(group: Ended) -> float:
    return float(group.failed.mean())


def _latency(share: float, group: Ended) -> float:
    return quantile(np.sort(group.waited), share)


def halt_by_condition(history: History) -> RunHalted | None:
    """The halt that a stop condition asked for, where one did."""
    return next((event for event in history.of(RunHalted) if event.condition), None)


def how_near(case: Case) -> Iterator[str]:
    """Of each stop condition that it was asked and how near it came, from the recorded requests, second by second."""
    items, requests, halt = case.experiment.stop_when, case.history.requests, halt_by_condition(case.history)
    if not items:
        return
    nearest = _nearest(case, requests.at(np.argsort(requests.end, kind="stable")))
    for item in items:
        name = str(item.id)
        if halt is not None and halt.condition == name:
            yield f"{name} was met, and halted the run"
        elif name in nearest:
            held, at = nearest[name]
            when = f"{case.since_load(at):.0f} s after the load began"
            stretch = f"throughout {words.seconds(item.condition.sustained)}"
            yield f"{name} did not halt the run; at the nearest, {stretch}: {held.told} ({when})"
        else:
            yield f"{name} was never asked: it was not on for long enough, or too few requests ended"


def _nearest(case: Case, requests: Requests) -> dict[str, tuple[Held, float]]:
    """The conditions asked again, as while the run went on; `requests` in the order in which they ended."""
    conditions = Conditions(case.experiment)
    events = deque(sorted(case.history.events, key=lambda event: event.at))
    places = np.floor(requests.end)
    for part in np.split(np.arange(len(requests)), np.flatnonzero(np.diff(places)) + 1):
        if not len(part):
            continue
        at = float(places[part[0]]) + 1.0
        while events and events[0].at < at:
            conditions.see_event(events.popleft())
        conditions.see_requests(requests.at(part))
        conditions.met(at)
    return conditions.nearest


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
