"""One run laid before the judge: what was expected, what was recorded, journeys under their plain names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from math import ceil

import numpy as np

from harness.errors import UnreadableRun
from harness.history.events import ServiceExited
from harness.history.history import History, Window, together
from harness.history.requests import Request
from harness.history.table import NONE, Requests, Times
from harness.judge import words
from harness.model.experiment import Experiment
from harness.model.faults import FaultItem
from harness.model.load import GUARD_SECONDS, PHASES

FEWEST_REQUESTS = 30
"""A window with fewer requests than this shows nothing."""

MOST_EXAMPLES = 5

MOST_UNNAMED = 50
"""More requests with a name of their own than this are most likely addresses that nobody grouped."""

GROUP_THEM = "bring them together by a pattern under journeys:, such as 'read order: GET /orders/*'"

LONGER = "let it be on for longer, or raise phases.fault"

LEAST_JUDGED = 0.5
"""The share of the time a fault was on that must be judged, to say anything of the whole."""


class Case:
    """The experiment and the history of one run, and what every judgement asks of the two."""

    def __init__(self, history: History) -> None:
        self.history = history
        try:
            self.experiment = Experiment.model_validate(history.plan.get("experiment"))
        except ValueError as error:
            raise UnreadableRun(f"the run's plan holds no experiment that can be read: {error}") from error
        self._plain = {request: plain for plain, request in self.experiment.system.journeys.items()}
        self._groups: dict[Window, dict[str, Requests]] = {}

    @cached_property
    def rounds(self) -> tuple[Case, ...]:
        """Each round by itself; the run itself where it has but one."""
        if self.experiment.rounds == 1:
            return (self,)
        return tuple(Case(self.history.in_round(number)) for number in range(1, len(self.history.rounds) + 1))

    def journey_of(self, request: Request) -> str:
        """The plain name of a request's journey; one that nobody named is a journey under its own name."""
        return self._plain.get(request.journey, request.journey)

    def plain(self, name: str) -> str:
        """A journey's plain name, whichever of its two names is given."""
        return self._plain.get(name, name)

    @cached_property
    def unnamed(self) -> frozenset[str]:
        """The journeys that the system does not name, where they are more than anybody meant; more load makes more of them."""
        found = frozenset(filter(None, self.history.requests.journeys.known)) - self._plain.keys()
        return found if len(found) > MOST_UNNAMED else frozenset()

    def grouping(self, journey: str | None) -> str:
        """What to do about a journey that is but one of many addresses; empty for any other."""
        return f"{len(self.unnamed)} journeys have no plain name: {GROUP_THEM}" if journey in self.unnamed else ""

    def judged(self, phase: str) -> Window | None:
        """The recorded window of a phase without its guards; None where it is not there, or nothing of it is left.

        Of the fault phase only that counts in which a fault was on: what lies between two says nothing of either. Where
        they come and go, the guards are those at the ends of the phase alone.
        """
        return together(window for part in self._recorded(phase) for window in self._judged(phase, part))

    def _recorded(self, phase: str) -> tuple[Window, ...]:
        """The recorded windows of a phase, one for each round."""
        recorded = self.history.phases.get(phase)
        return recorded.pieces if recorded is not None else ()

    def _spells(self, part: Window) -> tuple[Window, ...]:
        """When any fault was on in one fault phase, as stretches that do not touch."""
        on = together(window for windows in self.history.windows.values() for window in windows)
        return on.shared(part) if on is not None else ()

    def _judged(self, phase: str, part: Window) -> tuple[Window, ...]:
        spells = self._spells(part) if phase == "fault" else ()
        if len(spells) < 2:
            return self._inside(phase, part)
        within = part.narrowed(GUARD_SECONDS)
        return tuple(stretch for spell in spells for stretch in spell.shared(within))

    def inside(self, phase: str) -> Window | None:
        """The recorded window of a phase without its guards, whole.

        Of the fault phase the stretch from the first fault to the last healing, so that one that lasts less long is not
        watered down; what the guards leave out anyway is not taken off.
        """
        return together(window for part in self._recorded(phase) for window in self._inside(phase, part))

    def _inside(self, phase: str, part: Window) -> tuple[Window, ...]:
        """That of one round; none where nothing is left of it."""
        spells = self._spells(part) if phase == "fault" else ()
        if spells:
            begin, end = spells[0].begin, spells[-1].end
            part = Window(
                begin if begin - part.begin > GUARD_SECONDS else part.begin,
                end if part.end - end > GUARD_SECONDS else part.end,
            )
        window = part.narrowed(GUARD_SECONDS)
        return (window,) if window.seconds > 0 else ()

    def window(self, during: str) -> Window | None:
        """What `during` means: a phase without its guards, or the recorded windows of a fault."""
        return self.judged(during) if during in PHASES else together(self.history.windows.get(during, ()))

    def hidden(self, during: str) -> str:
        """How little of the time that a fault was on is judged, where that says nothing of it; empty where it is enough."""
        recorded, judged = self.history.phases.get("fault"), self.judged("fault")
        if during != "fault" or recorded is None or (judged is None and self.inside("fault") is None):
            return ""
        for fault, windows in self.history.windows.items():
            on = [part for window in windows for part in window.shared(recorded)]
            seen = sum(part.seconds for window in on for part in (judged.shared(window) if judged is not None else ()))
            if seen < LEAST_JUDGED * sum(map(_to_be_judged, on)):
                total = words.seconds(sum(window.seconds for window in on))
                return f"{words.seconds(seen)} of the {total} that {fault} was on lie between the guards of the fault phase"
        return ""

    def groups(self, window: Window) -> dict[str, Requests]:
        """The requests that were due in a window, by journey, in the order of the journeys' names.

        An arrival that found no user free was never drawn a journey: it counts only among all requests.
        """
        if window not in self._groups:
            due = self.history.due_in(window)
            found: dict[str, list[str]] = {}
            for place in np.unique(due.journey):
                if name := due.journeys.known[place]:
                    found.setdefault(self.plain(name), []).append(name)
            self._groups[window] = {journey: due.at(due.of(found[journey].__contains__)) for journey in sorted(found)}
        return self._groups[window]

    def group(self, journey: str | None, window: Window) -> Requests:
        """The requests of one journey, or of all together, that were due in a window."""
        return self.history.due_in(window) if journey is None else self.groups(window).get(self.plain(journey), NONE)

    def under_fault(self, journeys: Iterable[str], windows: Iterable[Window]) -> Requests:
        """Requests that met a fault from their start to their end: healing frees calls in flight, so those say nothing."""
        wanted = {self.plain(journey) for journey in journeys}
        spans = [(window.begin, window.end) for window in windows]
        due = self.history.requests.between(spans)
        met = np.zeros(len(due), dtype=bool)
        for begin, end in spans:
            met |= (due.due >= begin) & (due.start >= begin) & (due.end <= end)
        return due.at(met & due.of(lambda name: self.plain(name) in wanted))

    def waited(self, group: Requests) -> Times:
        """How long each request took; one that never ended counts as at least the client's timeout."""
        return np.where(group.never_ended, np.maximum(group.latency, self.experiment.load.timeout), group.latency)

    def slowest(self, group: Requests) -> tuple[Request, ...]:
        """A few examples, the slowest first."""
        return tuple(group.at(np.lexsort((group.due, -self.waited(group)))[:MOST_EXAMPLES]))

    def fault(self, name: str | None) -> FaultItem | None:
        """The fault of this id, or the only one where none is named."""
        faults = self.experiment.faults
        if name is None:
            return faults[0] if len(faults) == 1 else None
        return next((item for item in faults if item.id == name), None)

    @cached_property
    def exits(self) -> tuple[ServiceExited, ...]:
        """The services that ended although nobody had asked them to."""
        return self.history.of(ServiceExited)

    def since_load(self, at: float) -> float:
        """A time as seconds since the load began."""
        return at - self.history.began

    def more(self, during: str, have: int, need: int, journey: str | None = None) -> str:
        """What to change so that a window holds as many requests as are needed, of one journey where that is told."""
        if grouping := self.grouping(journey):
            return grouping
        factor = max(need, 1) / max(have, 1)
        phase = during if during in PHASES else "fault"
        load = self.experiment.load
        lever = "let the load shape have more users" if load.shape else f"raise load.users to {ceil(load.users * factor)}"
        if load.rate is not None:
            lever = f"raise load.rate to {ceil(load.rate * factor)}/s"
        judged = max(1.0, getattr(self.experiment.phases, phase) - 2 * GUARD_SECONDS)
        return f"{lever}, or phases.{phase} to {ceil(judged * factor + 2 * GUARD_SECONDS)}s"

    def example(self, request: Request) -> str:
        """One request, so that it can be found again."""
        status = f" {request.status}" if request.status else ""
        trace = f", trace {request.trace}" if request.trace else ""
        said = f" ({request.error[:160]})" if request.error else ""
        at = f"at {self.since_load(request.due):.2f} s"
        return f"{at}: {self.journey_of(request)}, {request.outcome}{status} after {request.latency:.2f} s{trace}{said}"


def _to_be_judged(window: Window) -> float:
    """How much of one time that a fault was on may be judged at most: guards at both its ends, where it is longer than they."""
    within = window.narrowed(GUARD_SECONDS).seconds
    return within if within > 0 else window.seconds
