"""A judged run, with the questions that every way of telling it asks.

Times are in seconds since the load began, as on the axis of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from harness.history.events import (
    EngineRestarted,
    Event,
    FaultBegan,
    FaultEnded,
    FaultRefused,
    FaultVaried,
    GuardianActed,
    RunBegan,
    RunEnded,
    RunFailed,
    RunHalted,
    RunInterrupted,
    ServiceExited,
    UndoFailed,
    WedgeNoticed,
)
from harness.history.history import History
from harness.history.requests import Request
from harness.history.table import Mask
from harness.judge.verdict import Verdict
from harness.model.experiment import Experiment
from harness.model.load import IN_ROUNDS
from harness.report.faults import fault_in_words
from harness.report.plain import clean
from harness.report.wording import duration

Answer: TypeAlias = Literal["answered", "fallback", "failed"]
"""The three outcomes that have a colour: answered, answered by a fallback, not answered as its user wanted."""

ANSWERS: tuple[Answer, ...] = ("answered", "fallback", "failed")

PHASE_NAMES = {"warmup": "warm-up"}


def answer_of(request: Request) -> Answer:
    """Which of the three outcomes a request had."""
    if not request.ok:
        return "failed"
    return "fallback" if request.marks else "answered"


def runtime_and_engine(began: RunBegan) -> tuple[str, str]:
    """On what a run was carried out: `local` or `docker 20.10.24`; `embedded 0.1.0` or `Toxiproxy 2.12.0`."""
    version = began.versions.get("docker", "") if began.runtime == "docker" else ""
    name, _, own = began.engine.partition(" ")
    of_engine = own or began.versions.get(name.lower(), "")
    shown = "Toxiproxy" if name.lower() == "toxiproxy" else name
    return clean(f"{began.runtime} {version}".strip()), clean(f"{shown} {of_engine}".strip())


def began_in_words(began: RunBegan) -> str:
    """The first line of a run: on what it is carried out, and why on that."""
    runtime, engine = runtime_and_engine(began)
    parts = "containers" if began.runtime == "docker" else "processes"
    return f"{runtime} {parts}, {engine} engine, seed {began.seed} ({clean(began.reason)})"


def restart_in_words(restart: EngineRestarted) -> str:
    """What became of a proxy engine that did not stand."""
    if not restart.back:
        return f"the proxy engine was gone for good: {restart.reason}"
    return f"the proxy engine was started again in {duration(restart.seconds)}: {restart.reason}"


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault on one proxy, or on the service named in its place, from when it was set to when it was asked to heal.

    One that grows is varied at `rises`, and is whole when it was set `levels` times.
    """

    fault: str
    proxy: str
    kind: str
    words: str
    begin: float
    end: float
    healed: bool
    rises: tuple[float, ...] = ()
    levels: int = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment to show on the time axis. `delay` counts from what it follows: fault, healing, or end of the load."""

    label: str
    at: float
    delay: str
    bad: bool


def wedge_in_words(wedge: WedgeNoticed) -> str:
    """What of the run stopped doing what it must."""
    return f"{wedge.what}: {wedge.detail}"


def _trouble(event: Event) -> tuple[str, tuple[str, ...]] | None:
    match event:
        case ServiceExited(service=service, how=how, log=log):
            return f"{service} ended by itself: {how}", log
        case EngineRestarted():
            return restart_in_words(event), ()
        case WedgeNoticed():
            return wedge_in_words(event), ()
        case RunHalted(reason=reason):
            return f"the run was halted: {reason}", ()
        case RunInterrupted(how=how):
            return f"the run was {how}", ()
        case RunFailed(reason=reason, defect=defect):
            first, *rest = reason.splitlines() or [""]
            return f"{'a defect of the harness' if defect else 'the run could not go on'}: {first}", tuple(rest)
        case FaultRefused(fault=fault, proxy=proxy, reason=reason):
            return f"{proxy} did not take {fault}, or its healing: {reason}", ()
        case _:
            told = _trouble_in_cleaning_up(event)
            return (told, ()) if told else None


def _trouble_in_cleaning_up(event: Event) -> str:
    match event:
        case UndoFailed(undo=undo, reason=reason):
            return f"could not undo {undo}: {reason}"
        case GuardianActed(undone=undone, failed=failed, why=why, who=who):
            told = f"{why or 'the harness was gone'}; {who} did {undone} undos"
            return told + (f", {failed} failed" if failed else "")
        case _:
            return ""


class Summary:
    """One run: what was asked, what was recorded, what it was judged to mean."""

    def __init__(self, history: History, verdict: Verdict) -> None:
        self.history = history
        self.verdict = verdict

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment the run was planned from."""
        return Experiment.model_validate(self.history.plan["experiment"])

    @cached_property
    def began(self) -> RunBegan | None:
        """How the run was started, if that was recorded."""
        return next(iter(self.history.of(RunBegan)), None)

    @cached_property
    def began_at(self) -> float:
        """When the first thing was recorded."""
        return self.began.at if self.began else (self.history.events[0].at if self.history.events else 0.0)

    @cached_property
    def seconds(self) -> float:
        """From the first thing recorded to the last."""
        ended = self.history.of(RunEnded)
        return max(0.0, (ended[-1].at if ended else self.history.ended) - self.began_at)

    @property
    def where(self) -> str:
        """Runtime and proxy engine."""
        return " · ".join(runtime_and_engine(self.began)) if self.began else "not started"

    @property
    def seed(self) -> int:
        """What all randomness was drawn from."""
        return self.began.seed if self.began else self.experiment.seed

    @cached_property
    def plain_names(self) -> dict[str, str]:
        """Locust's request names, to the names people use."""
        return {request: name for name, request in self.experiment.system.journeys.items()}

    def journey_of(self, request: Request) -> str:
        """The journey a request belongs to, by its plain name."""
        return self.plain(request.journey)

    def plain(self, journey: str) -> str:
        """A journey's plain name, whichever of its two names is given."""
        return self.plain_names.get(journey, journey)

    def of_journey(self, journey: str) -> Mask:
        """Which requests belong to a journey, named by its plain name."""
        return self.history.requests.of(lambda name: self.plain(name) == journey)

    def since(self, at: float) -> float:
        """A recorded time on the axis."""
        return at - self.history.began

    @cached_property
    def phases(self) -> dict[str, tuple[float, float]]:
        """The recorded phases on the axis, in order; all rounds of one together."""
        found = {name: (self.since(window.begin), self.since(window.end)) for name, window in self.history.phases.items()}
        return dict(sorted(found.items(), key=lambda item: item[1][0]))

    @cached_property
    def rounds(self) -> tuple[tuple[float, float], ...]:
        """From the begin of each recorded round to its end, on the axis; none where there is but one."""
        spans: dict[int, list[float]] = {}
        for turn in self.history.turns:
            if turn.phase in IN_ROUNDS:
                spans.setdefault(turn.round, []).extend((self.since(turn.window.begin), self.since(turn.window.end)))
        return tuple((min(times), max(times)) for _, times in sorted(spans.items())) if len(spans) > 1 else ()

    @cached_property
    def turns(self) -> tuple[tuple[str, float, float], ...]:
        """Every recorded phase of every round on the axis, in order: its name, its begin and its end."""
        found = [(turn.phase, self.since(turn.window.begin), self.since(turn.window.end)) for turn in self.history.turns]
        return tuple(sorted(found, key=lambda turn: turn[1]))

    @cached_property
    def until(self) -> float:
        """Where the axis ends: with the last phase, or with the last request of a run that had none."""
        ends = [end for _, end in self.phases.values()]
        return max([*ends, *(strike.end for strike in self.strikes)], default=0.0) or max(
            1.0, self.since(float(self.history.requests.end.max(initial=self.history.began)))
        )

    @cached_property
    def strikes(self) -> tuple[Strike, ...]:
        """Every fault on every proxy, in the order in which they began; one that comes and goes, each time."""
        items = {item.id: item for item in self.experiment.faults}
        healed: dict[tuple[str, str, str], list[float]] = {}
        for ended in self.history.of(FaultEnded):
            healed.setdefault((ended.fault, ended.proxy, ended.service), []).append(ended.asked_at)
        varied: dict[tuple[str, str, str], list[float]] = {}
        for change in self.history.of(FaultVaried):
            varied.setdefault((change.fault, change.proxy, change.service), []).append(change.at)
        found = []
        for began in self.history.of(FaultBegan):
            aim = (began.fault, began.proxy, began.service)
            ends = [at for at in healed.get(aim, ()) if at >= began.at]
            end = min(ends, default=self.history.ended)
            found.append(
                Strike(
                    began.fault,
                    began.proxy or began.service,
                    began.kind,
                    fault_in_words(items.get(began.fault), began.kind),
                    self.since(began.at),
                    self.since(end),
                    bool(ends),
                    tuple(self.since(at) for at in varied.get(aim, ()) if began.at <= at <= end),
                    self._levels(began.fault),
                )
            )
        return tuple(found)

    def _levels(self, fault: str) -> int:
        """How often a fault was to be set, each time that it was to be on."""
        verbs = [step["verb"] for step in self.history.plan.get("steps", ()) if step["fault"] == fault]
        return 1 + verbs.count("vary") // max(1, verbs.count("begin"))

    @cached_property
    def struck_time(self) -> tuple[tuple[float, float], ...]:
        """When any fault was on, as stretches that do not touch."""
        found: list[tuple[float, float]] = []
        for begin, end in sorted((strike.begin, strike.end) for strike in self.strikes):
            if found and begin <= found[-1][1]:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((begin, end))
        return tuple(found)

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        """The moments worth a dot on the axis: those the judge names, and what went wrong by itself."""
        told = [Mark(label, at, self._delay(at), False) for label, at in self.verdict.marks]
        return tuple(sorted([*told, *self._mishaps()], key=lambda mark: mark.at))

    def _mishaps(self) -> Iterator[Mark]:
        for event in self.history.events:
            match event:
                case ServiceExited(at=at, service=service):
                    yield Mark(f"{service} exited", self.since(at), "", True)
                case EngineRestarted(at=at):
                    yield Mark("engine restarted", self.since(at), "", True)
                case WedgeNoticed(at=at, what=what):
                    yield Mark(f"{what} wedged", self.since(at), "", True)
                case RunHalted(at=at):
                    yield Mark("halted", self.since(at), "", True)
                case RunInterrupted(at=at):
                    yield Mark("interrupted", self.since(at), "", True)
                case RunFailed(at=at):
                    yield Mark("could not go on", self.since(at), "", True)
                case _:
                    pass

    @cached_property
    def troubles(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What went wrong outside of what was expected, in words, with the log lines that tell of it."""
        return tuple(trouble for event in self.history.events if (trouble := _trouble(event)))

    def _delay(self, at: float) -> str:
        boundaries = [boundary for stretch in self.struck_time for boundary in stretch]
        boundaries += [self.phases["drain"][0]] if "drain" in self.phases else []
        before = max((boundary for boundary in boundaries if boundary <= at), default=None)
        return "" if before is None else f"+{duration(at - before)}"
