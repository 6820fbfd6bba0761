"""The history of one run, and the questions one asks of it: windows, intervals, requests, samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from harness.history.events import (
    EdgeProbed,
    Event,
    FaultBegan,
    FaultEnded,
    FaultVaried,
    GuardianActed,
    LoadBegan,
    LoadEnded,
    PhaseBegan,
    PhaseEnded,
    PhaseMoved,
    RunEnded,
    Sample,
    UndoDone,
    UndoFailed,
)
from harness.history.requests import Request
from harness.history.store import read_events, read_plan, read_requests
from harness.history.table import Requests, Times, requests_of

E = TypeVar("E")

AFTERWARDS = (UndoDone, UndoFailed, GuardianActed, RunEnded)
MEASURED = (PhaseBegan, PhaseEnded, PhaseMoved, FaultBegan, FaultVaried, FaultEnded, EdgeProbed, LoadEnded, *get_args(Sample))

SETTING_OUT = 60.0
"""Seconds before the begin of the load in which something may have been looked at already."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of recorded time, in seconds since the epoch; the end does not belong to it.

    Where it has `parts`, in order and apart from each other, they alone count, and what lies between them does not.
    """

    begin: float
    end: float
    parts: tuple[Window, ...] = ()

    def narrowed(self, guard: float) -> Window:
        """Without `guard` seconds on both sides, of each part where there are several; empty where nothing is left."""
        if self.parts:
            left = together(part for part in (part.narrowed(guard) for part in self.parts) if part.seconds > 0)
            return left or self.parts[0].narrowed(guard)
        return Window(self.begin + guard, max(self.begin + guard, self.end - guard))

    @property
    def pieces(self) -> tuple[Window, ...]:
        """What of it counts."""
        return self.parts or (self,)

    @property
    def seconds(self) -> float:
        """How long it is, all that counts together."""
        return sum(part.seconds for part in self.parts) if self.parts else self.end - self.begin

    def holds(self, at: float) -> bool:
        """Whether a moment counts."""
        return any(piece.begin <= at < piece.end for piece in self.pieces)

    def elapsed(self, at: Times) -> Times:
        """How much of it had passed by each of several moments."""
        if self.parts:
            passed: Times = np.sum([np.clip(at - part.begin, 0.0, part.seconds) for part in self.parts], axis=0)
            return passed
        return at - self.begin

    def shared(self, other: Window) -> tuple[Window, ...]:
        """What counts of this window and of another."""
        pairs = [Window(max(one.begin, two.begin), min(one.end, two.end)) for one in self.pieces for two in other.pieces]
        return tuple(pair for pair in pairs if pair.seconds > 0)


def together(windows: Iterable[Window]) -> Window | None:
    """All that counts of several windows as one; None where there is none."""
    found: list[Window] = []
    for window in sorted(windows, key=lambda window: window.begin):
        if found and window.begin <= found[-1].end:
            found[-1] = Window(found[-1].begin, max(found[-1].end, window.end))
        else:
            found.append(window)
    return Window(found[0].begin, found[-1].end, tuple(found) if len(found) > 1 else ()) if found else None


@dataclass(frozen=True, slots=True)
class PhaseTurn:
    """One phase of one round, as it was recorded."""

    phase: str
    round: int
    window: Window


def _apart(windows: Sequence[Window]) -> Window:
    """Windows that come one after the other, each a part of one."""
    return Window(windows[0].begin, windows[-1].end, tuple(windows)) if len(windows) > 1 else windows[0]


def _is_of(event: Event, number: int, window: Window) -> bool:
    if isinstance(event, PhaseBegan | PhaseEnded):
        return event.round == number
    return window.begin <= event.at < window.end


class History:
    """What was recorded of one run; `plan` is the plan as plain data.

    `notes` are the lines the load process wrote about itself: `{"load": "began" | "finished" | "failed" | …}`; `unread`
    is how many lines of its records are neither these nor requests: cut off, or damaged. `left` is what its journal still has
    to undo, where nobody is there any more who would.
    """

    def __init__(
        self,
        plan: dict[str, Any],
        events: Iterable[Event],
        requests: Iterable[Request],
        notes: Iterable[dict[str, Any]] = (),
        unread: int = 0,
        *,
        left: Iterable[str] = (),
    ) -> None:
        self.plan = plan
        self.events = tuple(sorted(events, key=lambda event: event.at))
        self.requests = requests_of(requests)
        self.notes = tuple(notes)
        self.unread = unread
        self.left = tuple(left)
        self._of_kind: dict[type[Any], tuple[Any, ...]] = {}

    def of(self, kind: type[E]) -> tuple[E, ...]:
        """Every event of one kind, in order of time; looked for once, for an hour has hundreds of thousands."""
        if kind not in self._of_kind:
            self._of_kind[kind] = tuple(event for event in self.events if isinstance(event, kind))
        return self._of_kind[kind]

    @cached_property
    def began(self) -> float:
        """When the load began, or the first thing recorded where it never did."""
        loads = self.of(LoadBegan)
        return loads[0].at if loads else (self.events[0].at if self.events else 0.0)

    @cached_property
    def ended(self) -> float:
        """The time of the last thing recorded of the run; what was undone after it may have been so days later."""
        last = next((event.at for event in reversed(self.events) if not isinstance(event, AFTERWARDS)), 0.0)
        return max(last, float(self.requests.end.max(initial=0.0)))

    def out_of_time(self, longest: float) -> str:
        """What was recorded of the load at a time when there was none: `longest` is how long it can have lasted at most.

        Whoever measures by the clock of a machine measures nothing where that was set, and nobody waits for a judgement of
        years.
        """
        measured = [event for event in self.events if isinstance(event, MEASURED)]
        began = next((event.at for event in (*self.of(LoadBegan), *measured)), self.began)
        first, last = began - SETTING_OUT, began + longest
        for event in measured:
            if not first <= event.at <= last:
                return f"{type(event).__name__} {event.at - began:+,.0f} s from the begin of its load"
        for times in (self.requests.due, self.requests.start, self.requests.end):
            if len(times) and not (first <= times.min() and times.max() <= last):
                return "requests at other times"
        return ""

    @property
    def moved(self) -> float:
        """By how many seconds the end of the load was moved, all in all."""
        return sum(event.seconds for event in self.of(PhaseMoved))

    @cached_property
    def turns(self) -> tuple[PhaseTurn, ...]:
        """Every phase of every round as it was recorded; one that never ended lasts to the end of what was recorded."""
        ends = {(event.phase, event.round): event.at for event in self.of(PhaseEnded)}
        return tuple(
            PhaseTurn(event.phase, event.round, Window(event.at, ends.get((event.phase, event.round), self.ended)))
            for event in self.of(PhaseBegan)
        )

    @cached_property
    def phases(self) -> dict[str, Window]:
        """The recorded window of each phase: all rounds of it together, each of them a part."""
        found: dict[str, list[Window]] = {}
        for turn in self.turns:
            found.setdefault(turn.phase, []).append(turn.window)
        return {phase: _apart(windows) for phase, windows in found.items()}

    @cached_property
    def rounds(self) -> tuple[Window, ...]:
        """From the begin of each recorded round to that of the next; the first and the last reach as far as the run."""
        baselines = [turn.window.begin for turn in self.turns if turn.phase == "baseline"]
        return tuple(Window(begin, end) for begin, end in pairwise((-inf, *baselines[1:], inf)))

    def in_round(self, number: int) -> History:
        """What was planned and recorded of one round alone, with what the run began with, and the notes of all."""
        window = self.rounds[number - 1]
        events = [event for event in self.events if isinstance(event, LoadBegan) or _is_of(event, number, window)]
        plan = {
            key: [item for item in value if item.get("round", 1) == number] if key in ("steps", "observations") else value
            for key, value in self.plan.items()
        }
        return History(plan, events, self.requests.between([(window.begin, window.end)]), self.notes)

    @cached_property
    def faults(self) -> dict[str, Window]:
        """From the moment the last proxy of a fault was set first to the moment the first was asked to heal for good.

        Over all rounds, if there are several.
        """
        return {fault: Window(windows[0].begin, windows[-1].end) for fault, windows in self.windows.items()}

    @cached_property
    def windows(self) -> dict[str, tuple[Window, ...]]:
        """Every time that a fault was on, on all its proxies: one that comes and goes has several."""
        begun: dict[str, dict[str, list[float]]] = {}
        healed: dict[str, dict[str, list[float]]] = {}
        for began in self.of(FaultBegan):
            begun.setdefault(began.fault, {}).setdefault(began.proxy or began.service, []).append(began.at)
        for ended in self.of(FaultEnded):
            healed.setdefault(ended.fault, {}).setdefault(ended.proxy or ended.service, []).append(ended.asked_at)
        return {fault: tuple(self._turns(aims, healed.get(fault, {}))) for fault, aims in begun.items()}

    def _turns(self, begun: dict[str, list[float]], healed: dict[str, list[float]]) -> Iterator[Window]:
        """The first turn of every aim together, then the second, and so on; what has no end lasts to that of the history."""
        for turn in range(max(map(len, begun.values()))):
            begin = max(times[turn] for times in begun.values() if turn < len(times))
            ends = [times[turn] for times in healed.values() if turn < len(times)]
            yield Window(begin, min(ends, default=self.ended))

    def due_in(self, window: Window) -> Requests:
        """The requests whose intended start lies in the window."""
        return self.requests.between((piece.begin, piece.end) for piece in window.pieces)


def read_history(folder: Path | str, left: Iterable[str] = ()) -> History:
    """Read a run's folder, whole or cut off at any moment; `left` as a history has it."""
    folder = Path(folder)
    plan, records = read_plan(folder), read_requests(folder)
    return History(plan, read_events(folder), records.requests, records.notes, records.unread, left=left)
