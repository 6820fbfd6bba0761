"""What is happening now: told while a run goes on, from the same events and requests that are recorded.

`LiveView` is shown what happens by the threads of the run and asked for its lines by another; it prints nothing.
Every line keeps its place and every column its width, so that nothing jumps.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, assert_never

import numpy as np
from rich.text import Text

from harness.history.events import (
    EngineRestarted,
    Event,
    FaultBegan,
    FaultEnded,
    FaultRefused,
    LoadBegan,
    LoadEnded,
    NameUnknown,
    PhaseBegan,
    PhaseEnded,
    PhaseMoved,
    RunBegan,
    RunEnded,
    RunFailed,
    RunHalted,
    RunInterrupted,
    ServiceExited,
    ServiceReady,
    ServiceStarted,
    SystemReady,
    UndoFailed,
    WedgeNoticed,
)
from harness.history.requests import Request
from harness.model.experiment import Experiment
from harness.model.load import IN_ROUNDS
from harness.report.faults import fault_in_words
from harness.report.plain import clean
from harness.report.series import quantile
from harness.report.summary import PHASE_NAMES, Answer, answer_of, began_in_words, restart_in_words, wedge_in_words
from harness.report.wording import duration

LATE = 1.0
"""Seconds by which records may come later than what they tell of."""

WINDOW = 5.0
"""Seconds that the figures of a journey look back."""

LINE_EVERY = 10.0
"""Seconds between two lines where there is no terminal."""

MOST_JOURNEYS = 10
EVENTS_SHOWN = 4
NAME = 18
BAR = 20


@dataclass
class _Journey:
    """The answers of one journey: those of the last seconds, and the latencies of its baseline."""

    recent: deque[tuple[float, float, Answer]] = field(default_factory=deque)
    baseline: array[float] = field(default_factory=lambda: array("d"))
    usual: tuple[float, float] | None = None

    def forget(self, before: float) -> None:
        """Drop what ended before this moment."""
        while self.recent and self.recent[0][0] < before:
            self.recent.popleft()


@dataclass(frozen=True, slots=True)
class Now:
    """What one journey looks like at this moment; quantiles are None where nothing was answered."""

    rate: float
    failed: float
    fallback: float
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase of one round, in seconds since the load began, as far as is known by now."""

    name: str
    round: int
    at: float
    until: float

    def is_of(self, phase: str, number: int) -> bool:
        """Whether it is this phase of this round."""
        return (self.name, self.round) == (phase, number)


class LiveView:
    """One run while it goes on. `plan` is the plan as plain data; `now` tells the time."""

    def __init__(self, plan: dict[str, Any], now: Callable[[], float] = time.time) -> None:
        experiment = Experiment.model_validate(plan["experiment"])
        self._name = experiment.name
        self._phases = [
            Stage(str(phase["name"]), int(phase.get("round", 1)), float(phase["at"]), float(phase["until"]))
            for phase in plan["phases"]
        ]
        self._rounds, self._ends_early = experiment.rounds, experiment.warmup_until is not None
        self._round = 1
        self._faults = {item.id: item for item in experiment.faults}
        self._plain = {request: name for name, request in experiment.system.journeys.items()}
        self._journeys: dict[str, _Journey] = {name: _Journey() for name in experiment.system.journeys}
        self._services: dict[str, str] = dict.fromkeys(experiment.system.services, "waiting")
        self._now = now
        self._lock = Lock()
        self._began: float | None = None
        self._started: float | None = None
        self._on = ""
        self._load_is_off = False
        self._phase, self._counted_from = "", 0.0
        self._active: dict[tuple[str, str], str] = {}
        self._news: deque[tuple[float, str]] = deque(maxlen=EVENTS_SHOWN)
        self._unprinted: deque[str] = deque()
        self._next_line: float | None = None
        self._latest = 0.0

    def see_event(self, event: Event) -> None:
        """Something was recorded; most kinds, and all samples, change nothing here."""
        with self._lock:
            if isinstance(event, RunBegan):
                self._started, self._on = event.at, began_in_words(event)
            self._see_services(event)
            self._see_progress(event)
            notes = [f"note: {clean(warning)}" for warning in event.warnings] if isinstance(event, RunBegan) else []
            for said in filter(None, (self._in_words(event), *notes)):
                self._news.append((event.at, said))
                self._unprinted.append(f"{self._clock(event.at)}  {said}")

    def see_requests(self, requests: Sequence[Request]) -> None:
        """Requests were recorded."""
        with self._lock:
            for request in requests:
                name = self._plain.get(request.journey, request.journey)
                journey = self._journeys.setdefault(name, _Journey())
                journey.recent.append((request.end, request.latency, answer_of(request)))
                self._latest = max(self._latest, request.end)
                if self._phase == "baseline":
                    journey.baseline.append(request.latency)
            for journey in self._journeys.values():
                journey.forget(self._latest - WINDOW)

    def renderable(self) -> Text:
        """The screen of this moment; it has as many lines as the one before."""
        with self._lock:
            lines = self._starting() if self._began is None else self._running(self._began)
            return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def plain_line(self) -> str | None:
        """The next line to print where there is no terminal: each piece of news, and how it goes every ten seconds."""
        with self._lock:
            if self._unprinted:
                return self._unprinted.popleft()
            now = self._now()
            if self._began is None or self._load_is_off or self._next_line is None or now < self._next_line:
                return None
            self._next_line = now + LINE_EVERY
            return f"{self._clock(now)}  {self._in_short(now)}"

    def _see_services(self, event: Event) -> None:
        match event:
            case ServiceStarted(service=service):
                self._services[service] = "starting"
            case ServiceReady(service=service, seconds=seconds):
                self._services[service] = f"ready in {duration(seconds)}"
            case ServiceExited(service=service):
                self._services[service] = "ended"
            case _:
                pass

    def _see_progress(self, event: Event) -> None:
        match event:
            case LoadBegan(at=at):
                self._began, self._next_line = at, at + LINE_EVERY
            case LoadEnded():
                self._load_is_off = True
            case PhaseBegan(at=at, phase=phase, round=number):
                self._phase, self._counted_from = phase, at
                self._round = number if phase in IN_ROUNDS else self._round
            case PhaseMoved():
                self._phases = list(self._moved(event))
            case PhaseEnded(phase="baseline"):
                self._settle_baseline()
            case FaultBegan(fault=fault, kind=kind) if not _is_withheld(event):
                where = event.proxy or event.service
                self._active[fault, where] = f"{where.replace('->', '→')} {fault_in_words(self._faults.get(fault), kind)}"
            case FaultEnded(at=at, fault=fault):
                self._counted_from = at if self._phase == "recovery" else self._counted_from
                self._active.pop((fault, event.proxy or event.service), None)
            case _:
                pass

    def _moved(self, event: PhaseMoved) -> Iterator[Stage]:
        """The phases, from the end of one on moved."""
        by = 0.0
        for stage in self._phases:
            begin = stage.at + by
            by = event.seconds if stage.is_of(event.phase, event.round) else by
            yield replace(stage, at=begin, until=stage.until + by)

    def _settle_baseline(self) -> None:
        for journey in self._journeys.values():
            if journey.baseline:
                ordered = np.sort(journey.baseline)
                journey.usual = quantile(ordered, 0.5), quantile(ordered, 0.95)
                journey.baseline = array("d")

    def _in_words(self, event: Event) -> str:
        """The event as a line of news; empty for what is none."""
        match event:
            case RunBegan():
                return began_in_words(event)
            case SystemReady(seconds=seconds):
                return f"system ready in {duration(seconds)}"
            case PhaseBegan(phase=phase, round=number):
                lasts = next((stage.until - stage.at for stage in self._phases if stage.is_of(phase, number)), None)
                most = "at most " if phase == "warmup" and self._ends_early else ""
                told = f"{PHASE_NAMES.get(phase, phase)} begins" + (f", {most}{duration(lasts)}" if lasts else "")
                return told + (f", round {number} of {self._rounds}" if phase == "baseline" and self._rounds > 1 else "")
            case PhaseMoved(phase=phase, seconds=seconds, reason=reason):
                if seconds <= 0:
                    return f"{PHASE_NAMES.get(phase, phase)} is over: {clean(reason)}"
                return f"{PHASE_NAMES.get(phase, phase)} is lengthened by {duration(seconds)}: {clean(reason)}"
            case RunEnded():
                return "everything is down again"
            case FaultBegan() | FaultEnded() | FaultRefused():
                return self._fault_in_words(event)
            case _:
                return _mishap(event)

    def _fault_in_words(self, event: FaultBegan | FaultEnded | FaultRefused) -> str:
        proxy = clean(event.proxy or event.service)
        match event:
            case FaultBegan() if _is_withheld(event):
                return f"fault withheld: {proxy}"
            case FaultBegan(fault=fault, kind=kind):
                return f"fault on: {proxy} {fault_in_words(self._faults.get(fault), kind)}"
            case FaultEnded():
                return f"fault off: {proxy}"
            case FaultRefused(reason=reason):
                return f"fault not taken: {proxy}: {clean(reason)}"
            case _:
                assert_never(event)

    def _clock(self, at: float) -> str:
        begin = self._began if self._began is not None else self._started
        return f"{at - begin if begin is not None else 0.0:6.1f} s"

    def _starting(self) -> list[Text]:
        lines = [Text.assemble((clean(self._name, 60), "bold"), " · starting the system"), Text(f"  {self._on}", "dim"), Text()]
        for service, state in self._services.items():
            style = {"waiting": "dim", "starting": "", "ended": "bold red"}.get(state, "green")
            lines.append(Text.assemble(f"  {_column(service, NAME)} ", (state, style)))
        return [*lines, Text(), *self._news_lines()]

    def _running(self, began: float) -> list[Text]:
        now = self._now()
        whole = max((stage.until for stage in self._phases), default=0.0)
        lines = [
            Text.assemble((clean(self._name, 60), "bold"), f" · {min(max(0.0, now - began), whole):3.0f} of {whole:.0f} s")
        ]
        lines += [Text(f"  {self._on}", "dim"), self._phase_line(now - began), self._faults_line(), Text()]
        head = f"  {'journey':<{NAME}} {'rate':>7} {'failed':>7} {'fallback':>8} {'p50':>7} {'p95':>7}"
        head += " p50/base p95/base"  # 79 columns in all: the last must not be cut off where a terminal has 80
        lines.append(Text(head, "dim"))
        names = list(self._journeys)
        for name in names[:MOST_JOURNEYS]:
            lines.append(self._journey_line(name, now))
        more = len(names) - MOST_JOURNEYS
        lines.append(Text(f"  and {more} more" if more > 0 else "", "dim"))
        return [*lines, *self._news_lines()]

    def _phase_line(self, at: float) -> Text:
        """The phases of this round in order; the one that is on has a bar and its countdown, always of one width."""
        line = Text("  ")
        if self._rounds > 1:
            line.append(f"round {self._round} of {self._rounds}  ", "bold")
        for stage in self._phases:
            if stage.name in IN_ROUNDS and stage.round != self._round:
                continue
            name, begin, until = stage.name, stage.at, stage.until
            shown = PHASE_NAMES.get(name, name)
            if name != self._phase:
                line.append(f"{shown}  ", "dim" if begin > at else "green")
                continue
            share = min(1.0, max(0.0, (at - begin) / max(0.001, until - begin)))
            full = round(share * BAR)
            style = "bold red" if name == "fault" else "bold cyan"
            line.append(shown, style).append(" " + "━" * full, style).append("━" * (BAR - full), "dim")
            line.append(f" {max(0.0, until - at):4.0f} s left  ")
        return line.append("  taking everything down" if self._load_is_off and self._phase != "drain" else "")

    def _faults_line(self) -> Text:
        active = list(self._active.values())
        if not active:
            return Text("  no fault", "dim")
        more = f" and {len(active) - 3} more" if len(active) > 3 else ""
        return Text.assemble("  ", ("✗ " + clean(", ".join(active[:3]), 160) + more, "red"))

    def _journey_line(self, name: str, now: float) -> Text:
        journey = self._journeys[name]
        seen = self._seen(journey, now)
        line = Text(f"  {_column(name, NAME)} {seen.rate:5.1f}/s ")
        line.append(f"{_share(seen.failed):>7}", "bold red" if seen.failed >= 0.005 else "")
        line.append(f" {_share(seen.fallback):>8}", "yellow" if seen.fallback >= 0.005 else "")
        line.append(f" {_latency(seen.p50):>7} {_latency(seen.p95):>7}")
        if journey.usual is None or seen.p50 is None or seen.p95 is None:
            return line.append(f" {'–':>8} {'–':>8}", "dim")
        for value, usual in zip((seen.p50, seen.p95), journey.usual, strict=True):
            times = value / max(usual, 1e-6)
            line.append(f" {f'×{times:.1f}':>8}", "bold" if times >= 1.5 else "dim")
        return line

    def _seen(self, journey: _Journey, now: float) -> Now:
        """Its answers of the last seconds to what was due in this phase: a recovery is not told what failed in its fault."""
        told = max(self._latest, now - LATE)  # what has ended since is not known here yet
        journey.forget(told - WINDOW)
        recent = [(latency, answer) for end, latency, answer in journey.recent if end - latency >= self._counted_from]
        total = len(recent)
        span = min(WINDOW, max(1.0, told - max(self._began or told, self._counted_from)))
        if not total:
            return Now(0.0, 0.0, 0.0, None, None)
        ordered = sorted(latency for latency, _ in recent)
        answers = [answer for _, answer in recent]
        return Now(
            total / span,
            answers.count("failed") / total,
            answers.count("fallback") / total,
            quantile(ordered, 0.5),
            quantile(ordered, 0.95),
        )

    def _in_short(self, now: float) -> str:
        """How it goes, in one line: all journeys together, then those in which requests fail."""
        seen = {name: self._seen(journey, now) for name, journey in self._journeys.items()}
        rate = sum(found.rate for found in seen.values())
        failing = [f"{clean(name, 40)} {_share(found.failed)} failed" for name, found in seen.items() if found.failed >= 0.005]
        number = self._round if self._phase in IN_ROUNDS else 1
        until = next((stage.until for stage in self._phases if stage.is_of(self._phase, number)), None)
        left = f", {max(0.0, until - (now - (self._began or now))):.0f} s left" if until is not None else ""
        what = PHASE_NAMES.get(self._phase, self._phase) or "load"
        return f"{what}{left} · {rate:.0f} answers/s · " + (", ".join(failing[:MOST_JOURNEYS]) if failing else "none failed")

    def _news_lines(self) -> Iterator[Text]:
        news = list(self._news)
        for at, said in [*news, *[(0.0, "")] * (EVENTS_SHOWN - len(news))]:
            yield Text(f"  {self._clock(at)}  {said}" if said else "", "dim")


def _is_withheld(event: FaultBegan) -> bool:
    """Whether the clean state itself was asked for, as a free twin does."""
    return event.asked == {"enabled": True, "toxics": []}


def _mishap(event: Event) -> str:
    match event:
        case ServiceExited(service=service, how=how):
            return f"{clean(service)} ended by itself: {clean(how)}"
        case EngineRestarted() | NameUnknown() | WedgeNoticed():
            return _of_the_network(event)
        case RunHalted(reason=reason):
            return f"halted: {clean(reason)}"
        case RunInterrupted(how=how):
            return f"{clean(how)}: healing, then taking everything down"
        case RunFailed(reason=reason):
            return f"could not go on: {clean(reason)}"
        case UndoFailed(undo=undo, reason=reason):
            return f"could not undo {clean(undo)}: {clean(reason)}"
        case _:
            return ""


def _of_the_network(event: EngineRestarted | NameUnknown | WedgeNoticed) -> str:
    match event:
        case EngineRestarted():
            return clean(restart_in_words(event))
        case WedgeNoticed():
            return clean(wedge_in_words(event))
        case NameUnknown(service=service, name=name):
            return f"{clean(service)} asked for {clean(name)}, a name that nobody has there"
        case _:
            assert_never(event)


def _column(text: str, width: int) -> str:
    return f"{clean(text, width):<{width}}"


def _share(share: float) -> str:
    return f"{share * 100:.1f} %"


def _latency(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 9.9995 else f"{seconds:.1f} s"
