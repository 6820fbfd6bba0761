"""Lays a scenario over its system and fills in what neither says, so that nothing is left to guess.

Names are checked here, across files: a service, edge, journey, fallback or invariant that the system does
not have is a problem of the file that names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.errors import InvalidFile, Problem
from harness.model.aiming import aims_of, edges_hit, sees_requests
from harness.model.compose import Compose
from harness.model.expectations import EACH, ErrorRate, ExpectationItem, Margins, MarginWords, SteadyItem
from harness.model.experiment import Experiment, System
from harness.model.faults import FaultItem
from harness.model.kinds.edge import Outage
from harness.model.kinds.group import Isolate, Partition
from harness.model.limits import Course as FaultCourse
from harness.model.limits import excesses
from harness.model.load import BIND, IN_ROUNDS, PHASES, USERS_HEADROOM, Load, LoadWords, Phases, SteadyWords, stages_of
from harness.model.parts import NAME, NAMED
from harness.model.rates import Course
from harness.model.reading import Document, Loc, is_file, is_folder, nearest, read_document, read_text, refuse, shown, validate
from harness.model.scenario import ScenarioFile
from harness.model.shapes import SCENARIO, misshapen_faults, mistaken_for, unanswerable_conditions
from harness.model.stop_conditions import StopItem
from harness.model.stopping import Around, named, problems_of
from harness.model.system_reading import ReadSystem, compose_files_of, read_system
from harness.model.user_classes import classes_of
from harness.model.windows import SHORTEST_FAULT, cannot_be_seen, repeated, seed_of_round, windows_of

DEFAULT_SEED = 1
DEFAULT_RATE = 80.0
LOAD_CHOICES = ((("rate", "users", "shape"), "max_users"), (("processes", "expect_workers"), "bind"))
"""Keys of `load:` of which one is said, and what goes with them: where a scenario says one, the system's do not count."""

UNEVEN = 1.1
"""By how much the load of one phase may exceed that of another before a person should know."""

DRAIN_SECONDS = 15.0
"""How long the drain lasts where an invariant is expected and nothing else is said."""

SHORTEST_PHASE = 5.0
"""A judged phase must leave something between its guards."""

HEALTHY_ERRORS = 0.01
"""The error rate that the baseline must stay under where no steady state is written."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A scenario and its system, read whole.

    `queries` are the texts of the invariants' queries; `files` the texts that were read, by the name each has
    in a run's folder; `documents` are the scenario and the system, with the place of each value.
    """

    experiment: Experiment
    system: ReadSystem
    scenario_path: Path
    locustfile: Path
    queries: dict[str, str]
    files: dict[str, str]
    documents: tuple[Document, Document]
    cautions: tuple[str, ...] = ()
    """What in the scenario has no effect, and is no mistake for sure."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know before it is run."""
        return (*self.system.warnings, *self.cautions)


ComposeReader: TypeAlias = Callable[[Sequence[Path], Mapping[str, str]], Compose]


def resolve(
    scenario: Path,
    *,
    seed: int | None = None,
    environ: Mapping[str, str] | None = None,
    compose_of: ComposeReader | None = None,
) -> Resolved:
    """Read a scenario, its system and its Compose files; raises InvalidFile with every problem of each.

    `compose_of` reads the Compose files, where somebody else than this package is to do so.
    """
    document = read_document(scenario, "a scenario")
    if not NAME.fullmatch(scenario.stem):
        raise refuse(scenario, f"expected a file called by {NAMED}, with .yaml behind it; found {scenario.name!r}")
    if mistaken := mistaken_for(document, SCENARIO):
        raise InvalidFile(mistaken)
    written, problems = validate(ScenarioFile, document, {**misshapen_faults(document), **unanswerable_conditions(document)})
    if written is None:
        raise InvalidFile(problems)
    return _Resolving(document, written, scenario, os.environ if environ is None else environ, compose_of).resolved(seed)


class _Resolving:
    """One scenario being laid over its system. Problems are collected and raised together."""

    def __init__(
        self,
        document: Document,
        scenario: ScenarioFile,
        path: Path,
        environ: Mapping[str, str],
        compose_of: ComposeReader | None,
    ) -> None:
        self.document, self.scenario, self.path = document, scenario, path
        self.problems: list[Problem] = []
        system = self._system_path()
        self.read = read_system(system, environ, compose_of(compose_files_of(system), environ) if compose_of else None)
        self.problems.extend(self.read.problems)
        self.system = self.read.file

    def _system_path(self) -> Path:
        path = self.path.parent / self.scenario.system
        if is_folder(path):
            path = path / "system.yaml"
        if not is_file(path):
            message = f"expected a folder with a system.yaml in it, or such a file, found none at {shown(path)}"
            raise InvalidFile((self.document.problem(("system",), message),))
        return path

    def resolved(self, seed: int | None) -> Resolved:
        system = self.read.system
        faults = self._faults(system)
        expect = self._expectations(system, faults)
        load, locustfile = self._load()
        extend = self._extend(load)
        phases = self._phases(expect)
        expect = tuple(self._settling(index, item, phases) for index, item in enumerate(expect))
        self._check_times(faults, phases, self._seed(seed))
        self._check_limits(faults, phases, self._seed(seed))
        steady = self._steady_state(system, expect)
        ids = [str(item.id) for item in expect]
        stop_when = self._stop_when(system, faults, phases, seed, [*ids, *(str(item.id) for item in steady)])
        self._check_defects([*ids, *(str(item.id) for item in stop_when)])
        self._check_known(expect)
        queries = self._queries(expect)
        if self.problems:
            raise InvalidFile(tuple(self.problems))
        experiment = Experiment(
            name=self.path.stem,
            question=self.scenario.question,
            owner=self.scenario.owner,
            tags=self.scenario.tags,
            seed=self._seed(seed),
            system=system,
            load=load,
            phases=phases,
            warmup_until=self._warmup_until,
            rounds=self.scenario.rounds,
            extend=extend,
            margins=self._margins(MarginWords()),
            steady_state=steady,
            faults=tuple(self._timed(item, phases) for item in faults),
            expect=expect,
            known=self.scenario.known,
            stop_when=stop_when,
            defects=self.scenario.defects,
        )
        return Resolved(
            experiment,
            self.read,
            scenario_path=self.path,
            locustfile=locustfile,
            queries=queries,
            files={"scenario.yaml": self.document.text, "system.yaml": self.read.document.text},
            documents=(self.document, self.read.document),
            cautions=(
                *self._doubled(faults, phases),
                *self._uneven(load, phases),
                *self._awaited(load),
                *self._outlived(),
                *self._unprovable(),
            ),
        )

    # what stands in the files, and where

    def _say(self, path: Loc, message: str) -> None:
        self.problems.append(self.document.problem(path, message))

    def _known(self, name: str, known: Collection[str], what: str, at: Loc) -> bool:
        if name in known:
            return True
        self._say(at, f"expected {what} of the system, found {name!r}{nearest(name, known)}")
        return False

    # the scenario

    def _seed(self, seed: int | None) -> int:
        if seed is not None:
            return seed
        return DEFAULT_SEED if self.scenario.seed is None else self.scenario.seed

    def _faults(self, system: System) -> tuple[FaultItem, ...]:
        named = []
        for index, item in enumerate(self.scenario.faults):
            self._check_aim(item, system, ("faults", index, item.kind))
            named.append(item.model_copy(update={"id": item.id or _default_id(item.kind, self.scenario.faults, index)}))
        self._check_unique("faults", [str(item.id) for item in named])
        return tuple(named)

    def _check_unique(self, key: str, ids: list[str], other: str = "", others: Sequence[str] = ()) -> None:
        """Each id once; not among those of another list of the scenario either, where that is told under the same names."""
        first = {name: (other, index) for index, name in reversed(list(enumerate(others)))}
        for index, name in enumerate(ids):
            if name in first:
                line = self.document.problem(first[name], "").line
                self._say((key, index, "id"), f"expected each id once, found {name!r} again (first in line {line})")
            first.setdefault(name, (key, index))

    def _check_aim(self, item: FaultItem, system: System, path: Loc) -> None:
        known = [self._known(name, names, what, (*path, *at)) for name, names, what, at in aims_of(item, system)]
        if all(known) and item.on_service is None and not edges_hit(item, system.edges):
            self._say(path, "expected a fault that strikes at least one edge of the system, found that it strikes none")
        others = [edge for edge in edges_hit(item, system.edges) if edge.protocol != "http"]
        if all(known) and sees_requests(item) and others:
            told = ", ".join(f"{edge.protocol} on {edge.name}" for edge in others)
            advice = "aim it at other edges, or write /http behind those that speak it, under edges: of the system"
            self._say(path, f"expected edges that speak HTTP/1.1, found {told}: {advice}")

    def _expectations(self, system: System, faults: tuple[FaultItem, ...]) -> tuple[ExpectationItem, ...]:
        items = []
        for index, item in enumerate(self.scenario.expect):
            path: Loc = ("expect", index, item.kind)
            name = item.id or _default_id(item.kind, self.scenario.expect, index)
            items.append(self._filled(item, path, system, faults).model_copy(update={"id": name}))
        self._check_unique("expect", [str(item.id) for item in items])
        return tuple(items)

    def _filled(self, item: ExpectationItem, path: Loc, system: System, faults: tuple[FaultItem, ...]) -> ExpectationItem:
        """The expectation with its names checked and its margins and fault filled in."""
        fault_ids = [str(fault.id) for fault in faults]
        if item.blast_radius is not None:
            blast = item.blast_radius
            for key in ("may_degrade", "may_fail"):
                for index, journey in enumerate(getattr(blast, key)):
                    self._known(journey, system.journeys, "a journey", (*path, key, index))
            margins = self._margins(blast.worse_by)
            words = MarginWords.model_construct(error_rate=margins.error_rate, p50=margins.p50, p95=margins.p95)
            return item.model_copy(update={"blast_radius": blast.model_copy(update={"worse_by": words})})
        if item.fallback is not None:
            self._known(item.fallback.name, system.fallbacks, "a fallback", (*path, "name"))
            return item.model_copy(update={"fallback": self._of_a_fault(item.fallback, path, fault_ids)})
        if item.invariant is not None:
            self._known(item.invariant.name, system.invariants, "an invariant", (*path, "name"))
        for rated in (item.error_rate, item.response_time):
            if rated is not None:
                self._check_window(rated.journey, rated.during, path, system, fault_ids)
        return item

    def _of_a_fault(self, fallback: Any, path: Loc, fault_ids: list[str]) -> Any:
        if fallback.fault is not None:
            self._known_fault(fallback.fault, fault_ids, (*path, "fault"))
            return fallback
        if len(fault_ids) > 1:
            self._say(path, f"expected the key 'fault', since there are several: {', '.join(fault_ids)}; found none")
        return fallback.model_copy(update={"fault": fault_ids[0]}) if fault_ids else fallback

    def _known_fault(self, name: str, fault_ids: list[str], at: Loc) -> None:
        if name not in fault_ids:
            self._say(at, f"expected the id of a fault of this scenario, found {name!r}{nearest(name, fault_ids)}")

    def _check_window(self, journey: str | None, during: str | None, path: Loc, system: System, fault_ids: list[str]) -> None:
        if journey is not None:
            self._known(journey, [*system.journeys, EACH], "a journey", (*path, "journey"))
        if during is not None and during not in PHASES:
            self._known_fault(during, [*fault_ids, *PHASES], (*path, "during"))

    def _margins(self, words: MarginWords) -> Margins:
        """Margins: of the expectation, else of the system, else the defaults."""
        filled = {}
        for name in Margins.model_fields:
            said, of_system = getattr(words, name), getattr(self.system.worse_by, name)
            filled[name] = (
                said if said is not None else of_system if of_system is not None else Margins.model_fields[name].default
            )
        return Margins.model_construct(**filled)

    def _load(self) -> tuple[Load, Path]:
        said: dict[str, Any] = {}
        own_load = self.scenario.load
        chosen: set[str] = set()
        for keys, beside in LOAD_CHOICES:
            if any(getattr(own_load, key) for key in keys):
                chosen |= {*keys, beside}
        for name in LoadWords.model_fields:
            own = getattr(own_load, name)
            said[name] = own if own is not None or name in chosen else getattr(self.system.load, name)
        self._check_open(said)
        locustfile = self.read.folder / (said["locustfile"] or "locustfile.py")
        own_file = self.scenario.load.locustfile
        if own_file is not None:
            locustfile = self.path.parent / own_file
        if not is_file(locustfile):
            at, document = (("load", "locustfile"), self.document if own_file else self.read.document)
            self.problems.append(document.problem(at, f"expected a locustfile, found no such file: {shown(locustfile)}"))
        else:
            self._check_classes(locustfile)
        timeout = said["timeout"] or Load.model_fields["timeout"].default
        stages = stages_of(said["rate"]) if isinstance(said["rate"], tuple) else ()
        closed = said["users"] or said["shape"]
        rate = None if closed else max((stage.to for stage in stages), default=said["rate"] or DEFAULT_RATE)
        users = said["users"] or said["max_users"] or max(1, round((rate or 0) * timeout * USERS_HEADROOM))
        load = Load.model_construct(
            locustfile=shown(locustfile),
            rate=rate,
            stages=stages,
            users=0 if said["shape"] else users,
            shape=bool(said["shape"]),
            processes=self._processes(said, users),
            bind=(said["bind"] or BIND) if said["expect_workers"] else None,
            arrivals=said["arrivals"] or "uniform",
            timeout=timeout,
            classes=said["classes"] or (),
            allow_hosts=said["allow_hosts"] or (),
        )
        return load, locustfile

    def _check_classes(self, locustfile: Path) -> None:
        """User classes that the locustfile cannot have; nothing where that is known only once it runs."""
        own = self.scenario.load.classes is not None
        document, asked = (self.document, self.scenario.load) if own else (self.read.document, self.system.load)
        there = classes_of(locustfile) if asked.classes else None
        for index, name in enumerate(asked.classes or ()):
            if there is not None and name not in there:
                message = f"expected a class of {shown(locustfile)}, found {name!r}{nearest(name, there)}"
                self.problems.append(document.problem(("load", "classes", index), message))

    def _check_open(self, said: Mapping[str, Any]) -> None:
        """What one file may not say, both may not say together."""
        closed = "users" if said["users"] else "shape"
        if said["max_users"] and said[closed]:
            found = f"found it beside {closed} of the system: write a rate too, or leave it out"
            self._say(("load", "max_users"), f"expected max_users beside a rate, {found}")

    def _processes(self, said: Mapping[str, Any], users: int) -> int:
        processes: int = said["expect_workers"] or said["processes"] or 1
        if processes > users and not said["shape"]:
            key = "expect_workers" if said["expect_workers"] else "processes"
            self._say(("load", key), f"expected no more processes than users, found {processes} for {users}")
        return processes

    def _phases(self, expect: Iterable[ExpectationItem]) -> Phases:
        defaults: dict[str, float] = {name: info.default for name, info in Phases.model_fields.items()}
        if any(item.invariant is not None for item in expect):
            defaults["drain"] = DRAIN_SECONDS
        filled: dict[str, float] = {}
        for name, default in defaults.items():
            said = getattr(self.scenario.phases, name)
            of_system = getattr(self.system.phases, name)
            chosen = said if said is not None else of_system if of_system is not None else default
            filled[name] = chosen.at_most if isinstance(chosen, SteadyWords) else chosen
            if name in ("baseline", "fault", "recovery") and filled[name] < SHORTEST_PHASE:
                self._say(
                    ("phases", name),
                    f"expected a phase of at least 5s (2s at each end are not judged), found {filled[name]:g}s",
                )
        return Phases.model_construct(None, **filled)

    @property
    def _warmup_until(self) -> Literal["steady"] | None:
        said = self.scenario.phases.warmup
        return "steady" if isinstance(said if said is not None else self.system.phases.warmup, SteadyWords) else None

    def _extend(self, load: Load) -> float | None:
        """By how much to lengthen a window; nobody can move a load whose course is written down."""
        said, fixed = self.scenario.extend, bool(load.stages) or load.shape
        for path, asked in ((("phases", "warmup"), self._warmup_until), (("extend",), said)):
            if fixed and asked:
                self._say(path, "expected a load that stays the same, found stages or a shape: its course cannot be moved")
        return 0.0 if fixed else said

    def _settling(self, index: int, item: ExpectationItem, phases: Phases) -> ExpectationItem:
        """An invariant with its `within` filled in: what the drain leaves beside `hold`."""
        if item.invariant is None:
            return item
        within = item.invariant.within if item.invariant.within is not None else phases.drain - item.invariant.hold
        if within <= 0 or within + item.invariant.hold > phases.drain:
            found = f"a drain of {phases.drain:g}s for a hold of {item.invariant.hold:g}s"
            found += f" within {within:g}s" if item.invariant.within is not None else ""
            self._say(("expect", index, "invariant"), f"expected within and hold to fit into the drain, found {found}")
        return item.model_copy(update={"invariant": item.invariant.model_copy(update={"within": within})})

    def _timed(self, item: FaultItem, phases: Phases) -> FaultItem:
        at = item.at if item.at is not None else 0.0
        lasts = item.for_ if item.for_ is not None else phases.fault - at
        return item.model_copy(update={"at": at, "for_": lasts})

    def _check_times(self, faults: tuple[FaultItem, ...], phases: Phases, seed: int) -> None:
        for index, item in enumerate(faults):
            timed = self._timed(item, phases)
            begin, end = timed.at or 0.0, (timed.at or 0.0) + (timed.for_ or 0.0)
            turns = repeated(timed, phases.fault)
            self._check_alone(index, faults, phases)
            message = "expected a fault that can be seen"
            if begin >= phases.fault or end > phases.fault + 1e-9 or end <= begin:
                found = f"one from {begin:g}s on" if end <= begin else f"one from {begin:g}s to {end:g}s"
                self._say(("faults", index), f"expected a fault within the fault phase of {phases.fault:g}s, found {found}")
            elif unseen := self._unseen(timed, seed):
                self._say(("faults", index), f"{message}, found {unseen}")
            elif item.repeat is not None and len(turns) < (item.repeat.times or 2):
                asked = f"{item.repeat.times} times" if item.repeat.times else "to be repeated"
                self._say(("faults", index), f"expected room for a fault {asked} within {phases.fault:g}s, found {len(turns)}")
            elif item.ramp is not None and item.ramp.over > end - begin - SHORTEST_FAULT:
                told = f"ramp over {item.ramp.over:g}s in a fault of {end - begin:g}s"
                self._say(("faults", index), f"expected a ramp that leaves {SHORTEST_FAULT:g}s at its end, found a {told}")

    def _check_limits(self, faults: tuple[FaultItem, ...], phases: Phases, seed: int) -> None:
        """What the system allows at once; where times are wrong already, nobody can add them up."""
        if self.system.limits is None or self.problems:
            return
        timed = tuple(self._timed(item, phases) for item in faults)
        course = FaultCourse(timed, self.read.system.edges, phases.fault, self.scenario.rounds, seed)
        for excess in excesses(self.system.limits, course):
            place = self.read.document.place(("limits", excess.limit))
            self._say(("faults", excess.index), excess.told(self.scenario.rounds, place))

    def _unseen(self, timed: FaultItem, seed: int) -> str:
        """Why nobody could see that the fault was on in some round; empty where somebody can in each."""
        for number in range(1, self.scenario.rounds + 1):
            if unseen := cannot_be_seen(timed, windows_of(timed, seed_of_round(seed, number))):
                return f"{unseen} in round {number}" if number > 1 else unseen
        return ""

    def _check_alone(self, index: int, faults: tuple[FaultItem, ...], phases: Phases) -> None:
        """What one fault does to a service itself, another would undo, or could not do any more."""
        struck = faults[index].on_service
        own = self._turns(faults[index], phases)
        for other in faults[:index]:
            if struck is None or other.on_service is None or other.on_service.service != struck.service:
                continue
            meeting = [
                (at, end) for at, end in self._turns(other, phases) if any(at < last and first < end for first, last in own)
            ]
            if meeting:
                message = "expected no two faults on one service itself at a time"
                found = f"{other.id} on {struck.service} until {meeting[0][1]:g}s"
                self._say(("faults", index), f"{message}, found {found}")

    def _doubled(self, faults: tuple[FaultItem, ...], phases: Phases) -> Iterator[str]:
        """Two that cut off the same, at a time: one of them does nothing then."""
        cutting = [(index, item) for index, item in enumerate(faults) if _cuts_all(item)]
        for (first, one), (second, other) in combinations(cutting, 2):
            edges, others = ([edge.name for edge in edges_hit(item, self.read.system.edges)] for item in (one, other))
            common = self._both_on(one, other, phases)
            if common is not None and (set(edges) <= set(others) or set(others) <= set(edges)):
                line = self.document.problem(("faults", first), "").line
                shared = ", ".join(edge for edge in edges if edge in others)
                yield (
                    f"{self.document.place(('faults', second))}: {other.id} and {one.id} (line {line}) both cut "
                    f"{shared} from {common[0]:g}s to {common[1]:g}s: one of them does nothing then"
                )

    def _uneven(self, load: Load, phases: Phases) -> Iterator[str]:
        """A load that changes from one judged phase to the next is compared with another load, and not with itself.

        Where each round is even, all of them together are.
        """
        if load.course is None:
            return
        rounds = _rates(load.course, phases, self.scenario.rounds)
        number, rates = max(rounds.items(), key=lambda item: max(item[1].values()) / min(item[1].values()))
        if max(rates.values()) > UNEVEN * min(rates.values()):
            told = ", ".join(f"{rate:.3g}/s in the {name}" for name, rate in rates.items())
            told += f" of round {number}" if len(rounds) > 1 else ""
            yield (
                f"{self.document.place(('load', 'rate'))}: the load changes between phases that are compared ({told}): "
                "what it changes by itself is taken for the fault's doing"
            )

    def _awaited(self, load: Load) -> Iterator[str]:
        """Somebody has to start what a run waits for."""
        if load.bind is not None:
            command = "python -m harness.runtime.load.worker HOST:PORT LOCUSTFILE --host URL"
            yield f"the load comes from {load.processes} processes of other machines, which join at {load.bind}: {command}"

    def _outlived(self) -> Iterator[str]:
        """What is no longer borne with. The verdict of a run goes by its own day, whatever is said here."""
        today = datetime.now(UTC).date()
        for index, known in enumerate(self.scenario.known):
            if known.until < today:
                place = self.document.place(("known", index, "until"))
                told = f"{known.expect} was known as {known.ticket} until {known.until.isoformat()}, which has passed"
                yield f"{place}: {told}: where it fails, so does the run; take it out of known"

    def _unprovable(self) -> Iterator[str]:
        """What is known not to hold fails no run, so that no defect can be caught by it."""
        known = {entry.expect: index for index, entry in enumerate(self.scenario.known)}
        for name, defect in self.scenario.defects.items():
            if defect.caught_by in known:
                line = self.document.problem(("known", known[defect.caught_by]), "").line
                place = self.document.place(("defects", name, "caught_by"))
                told = f"{name} cannot be proven: {defect.caught_by} is known not to hold (line {line}), and so fails no run"
                yield f"{place}: {told}; let another expectation catch it, or take {defect.caught_by} out of known"

    def _both_on(self, one: FaultItem, other: FaultItem, phases: Phases) -> tuple[float, float] | None:
        spans = [
            (max(at, begin), min(until, end))
            for at, until in self._turns(one, phases)
            for begin, end in self._turns(other, phases)
        ]
        return next(((begin, end) for begin, end in spans if begin < end), None)

    def _turns(self, item: FaultItem, phases: Phases) -> list[tuple[float, float]]:
        """From when to when it is on, each time."""
        turns = repeated(self._timed(item, phases), phases.fault)
        return [((turn.at or 0.0), (turn.at or 0.0) + (turn.for_ or 0.0)) for turn in turns]

    def _steady_state(self, system: System, expect: tuple[ExpectationItem, ...]) -> tuple[SteadyItem, ...]:
        if self.scenario.steady_state is None:
            healthy = ErrorRate.model_construct(max=HEALTHY_ERRORS, journey=None, during="baseline")
            return (SteadyItem.model_construct(id="steady-error_rate-1", error_rate=healthy, response_time=None),)
        items = []
        for index, item in enumerate(self.scenario.steady_state):
            path: Loc = ("steady_state", index, item.kind)
            if item.expectation.during not in (None, "baseline"):
                self._say((*path, "during"), "expected no 'during' here: a steady state is judged in the baseline")
            self._check_window(item.expectation.journey, None, path, system, [])
            name = item.id or f"steady-{_default_id(item.kind, self.scenario.steady_state, index)}"
            inner = item.expectation.model_copy(update={"during": "baseline"})
            items.append(item.model_copy(update={"id": name, item.kind: inner}))
        self._check_unique("steady_state", [str(item.id) for item in items], "expect", [str(item.id) for item in expect])
        return tuple(items)

    def _stop_when(
        self, system: System, faults: tuple[FaultItem, ...], phases: Phases, seed: int | None, others: Sequence[str]
    ) -> tuple[StopItem, ...]:
        """The stop conditions, each with an id that no expectation has."""
        timed = tuple(self._timed(item, phases) for item in faults)
        around = Around(tuple(system.journeys), timed, phases, self.scenario.rounds, self._seed(seed))
        self.problems.extend(problems_of(self.scenario.stop_when, around, self.document))
        items = named(self.scenario.stop_when)
        self._check_unique("stop_when", [str(item.id) for item in items])
        for index, item in enumerate(items):
            if item.id in others:
                self._say(("stop_when", index, "id"), f"expected each id once, found {item.id!r}, which an expectation has")
        return items

    def _check_defects(self, ids: Sequence[str]) -> None:
        for name, defect in self.scenario.defects.items():
            if defect.caught_by not in ids:
                hint = nearest(defect.caught_by, ids)
                self._say(
                    ("defects", name, "caught_by"),
                    f"expected the id of an expectation or of a stop condition, found {defect.caught_by!r}{hint}",
                )
            for service in defect.environment:
                self._known(service, self.read.compose.services, "a service", ("defects", name, "environment", service))

    def _check_known(self, expect: tuple[ExpectationItem, ...]) -> None:
        ids = [str(item.id) for item in expect]
        first: dict[str, int] = {}
        for index, known in enumerate(self.scenario.known):
            path: Loc = ("known", index, "expect")
            if known.expect not in ids:
                self._say(path, f"expected the id of an expectation, found {known.expect!r}{nearest(known.expect, ids)}")
            elif known.expect in first:
                line = self.document.problem(("known", first[known.expect], "expect"), "").line
                self._say(path, f"expected each expectation once, found {known.expect!r} again (first in line {line})")
            first.setdefault(known.expect, index)

    def _queries(self, expect: tuple[ExpectationItem, ...]) -> dict[str, str]:
        """The text of each query that an expected invariant asks."""
        found = {}
        for item in expect:
            declared = self.system.invariants.get(item.invariant.name) if item.invariant is not None else None
            if item.invariant is None or declared is None:
                continue
            path = self.read.folder / declared.sql.file
            try:
                found[item.invariant.name] = read_text(path, "an SQL file")
            except InvalidFile:
                at: Loc = ("invariants", item.invariant.name, "sql", "file")
                self.problems.append(self.read.document.problem(at, f"expected an SQL file, found none at {shown(path)}"))
        return found


def _default_id(kind: str, items: Iterable[Any], index: int) -> str:
    """`outage-1`, `outage-2`: the kind, and how many of it came so far."""
    return f"{kind}-{sum(item.kind == kind for item in list(items)[: index + 1])}"


def _rates(course: Course, phases: Phases, rounds: int) -> dict[int, dict[str, float]]:
    """The mean rate in each judged phase of each round."""
    at, rates = phases.warmup, dict[int, dict[str, float]]()
    for number in range(1, rounds + 1):
        for name in IN_ROUNDS:
            until = at + getattr(phases, name)
            rates.setdefault(number, {})[name] = (course.arrivals_by(until) - course.arrivals_by(at)) / (until - at)
            at = until
    return rates


def _cuts_all(item: FaultItem) -> bool:
    """Whether nothing at all passes any more where it strikes."""
    match item.fault:
        case Outage(share=share):
            return share is None
        case Partition(direction=direction):
            return direction == "both"
        case fault:
            return isinstance(fault, Isolate)
