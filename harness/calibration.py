"""What a system allows on a machine: one run of it without any fault, first at its own rate, then at ever higher ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InvalidInput
from harness.experiment import Run, Stage, prepare
from harness.history.events import RunHalted
from harness.history.history import History, Window, read_history
from harness.judge import words
from harness.judge.case import Case
from harness.judge.doubts import CROWDED, QUIETER, drift, foreign_share, load_doubts
from harness.judge.floor import MOST_ERRORS, Floor, Step, cut, floors_of, margins_for, step_of, without_floor
from harness.judge.statistics import BLOCK_SECONDS, FEWEST_BLOCKS
from harness.model.expectations import Margins
from harness.model.load import GUARD_SECONDS, Phases
from harness.model.margins import with_margins
from harness.model.quantities import format_duration, format_rate
from harness.model.reading import is_file, is_folder
from harness.model.resolving import DEFAULT_RATE
from harness.runtime.stop_file import refuse_where_stopped

WINDOWS = 10
FEWEST_WINDOWS = 4
STEP_SECONDS = 6.0
SETTLING_SECONDS = 1.0
"""What of each step is left to the change of rate itself."""

STEP_FACTOR = 1.5
MOST_STEPS = 12
WARMUP_SECONDS = 5.0
MOST_USERS = 1000
SHORTEST_WINDOW = FEWEST_BLOCKS * BLOCK_SECONDS + 2 * GUARD_SECONDS
"""With shorter phases no latency is judged at all."""

FAULT_SECONDS = 5.0
"""The fault phase in which nothing happens: a run has one."""


@dataclass(frozen=True, slots=True)
class Course:
    """What is going to be run: so many windows as long as a phase at one rate, then a step at each of the others."""

    windows: int
    seconds: float
    warmup: float
    rate: float
    rates: tuple[float, ...]

    @property
    def total(self) -> float:
        """How long the load is on, in seconds."""
        return self.quiet + len(self.rates) * STEP_SECONDS

    @property
    def quiet(self) -> float:
        """How long it stays at its own rate."""
        return self.warmup + self.windows * self.seconds + FAULT_SECONDS


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found. `run` is where it was recorded; without floors and margins where the run showed nothing.

    `why` tells why there are no margins, or of which journeys they say nothing.
    """

    run: Run
    course: Course
    floors: tuple[Floor, ...]
    margins: Margins | None
    steps: tuple[Step, ...]
    why: str = ""
    others: float | None = None
    """The share of the machine that other programs used meanwhile, where that was seen."""


def calibrate(system: Path, stage: Stage, windows: int = WINDOWS, up_to: float | None = None) -> Calibration:
    """Run a system without any fault, and tell what it does by itself. `up_to` bounds the rate, eight times its own without."""
    refuse_where_stopped()
    path = system_path(system)
    scenario = stage.options.reports / f"calibrate-{path.resolve().parent.name}.yaml"
    _put(scenario, _scenario(path, Course(windows, 20.0, WARMUP_SECONDS, DEFAULT_RATE, ())))
    course = _course(scenario, stage, windows, up_to)
    _put(scenario, _scenario(path, course))
    run = stage.run(scenario)
    return found_in(run, read_history(run.folder), course)


def _put(scenario: Path, text: str) -> None:
    """It stays beside the runs that are made of it, so that they can be made again."""
    try:
        scenario.parent.mkdir(parents=True, exist_ok=True)
        scenario.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{scenario}: expected a folder that reports can be written to, found: {error.strerror}") from error


def _course(scenario: Path, stage: Stage, windows: int, up_to: float | None) -> Course:
    """The system's own rate and phases, which a scenario of it would have."""
    resolved = prepare(scenario, stage.options)[0]
    rate, phases = resolved.experiment.load.rate, resolved.system.file.phases
    if rate is None:
        raise InvalidInput("expected a system whose load has a rate: how much of one it carries is what is asked")
    highest = up_to if up_to is not None else rate * 8
    rates = [rate * STEP_FACTOR**turn for turn in range(1, MOST_STEPS + 1)]
    seconds = max(phases.fault or Phases.model_fields["fault"].default, SHORTEST_WINDOW)
    return Course(windows, seconds, WARMUP_SECONDS, rate, tuple(float(round(one)) for one in rates if one <= highest))


def system_path(system: Path) -> Path:
    """The file of a system, which may be named by its folder."""
    path = system / "system.yaml" if is_folder(system) else system
    if not is_file(path):
        raise InvalidInput(f"{system}: expected a folder with a system.yaml in it, or such a file, found none")
    return path


def _scenario(system: Path, course: Course) -> str:
    stages = [f"{{to: {format_rate(course.rate)}}}", f"{{hold: {format_duration(course.quiet)}}}"]
    for rate in course.rates:
        stages += [f"{{to: {format_rate(rate)}}}", f"{{hold: {format_duration(STEP_SECONDS)}}}"]
    recovery = max(FAULT_SECONDS, len(course.rates) * STEP_SECONDS)
    phases = {
        "warmup": course.warmup,
        "baseline": course.windows * course.seconds,
        "fault": FAULT_SECONDS,
        "recovery": recovery,
    }
    load = f"load: {{rate: [{', '.join(stages)}], max_users: {MOST_USERS}}}\n" if course.rates else ""
    told = ", ".join(f"{name}: {format_duration(seconds)}" for name, seconds in phases.items())
    return (
        "version: 1\n"
        "question: What does this system allow on this machine, where nothing is wrong?\n"
        f"system: '{str(system.resolve()).replace(chr(39), chr(39) * 2)}'\n"
        f"{load}phases: {{{told}, drain: 0s}}\nextend: 0s\nfaults: []\n"
        "expect:\n  - error_rate: {max: 1%, during: baseline}\n"
    )


def found_in(run: Run, history: History, course: Course) -> Calibration:
    """What a run shows of its system."""
    case = Case(history)
    baseline = case.judged("baseline")
    if run.verdict.word in ("error", "interrupted") or history.of(RunHalted) or baseline is None:
        return Calibration(run, course, (), None, (), run.verdict.sentence)
    windows = cut(baseline, course.seconds)
    floors = floors_of(case, windows)
    if len(windows) < FEWEST_WINDOWS or not floors or not all(floor.needed for floor in floors):
        why = "the baseline is too short, or holds too few requests of each journey, to be cut into windows"
        return Calibration(run, course, floors, None, (), why)
    steps, others = tuple(_steps(case, course)), foreign_share(case, baseline)
    why = next(_void(case, windows, floors, others), "")
    if why:
        return Calibration(run, course, floors, None, steps, why, others)
    rare = without_floor(case, windows)
    why = f"the margins leave out {words.several(rare)}, of which some windows hold no request" if rare else ""
    return Calibration(run, course, floors, margins_for(floors, Margins()), steps, why, others)


def _void(case: Case, windows: Sequence[Window], floors: Sequence[Floor], others: float | None) -> Iterator[str]:
    """Why windows show something other than what the system does by itself: margins made of them would hide faults.

    A drift is one by the usual margins: by those of the system's own file a noisier machine could never be calibrated.
    """
    if others is not None and others > CROWDED:
        yield f"the machine was too busy to tell: {QUIETER}"
    for window in windows:
        yield from (f"{doubt.told}: {doubt.advice}" for doubt in load_doubts(case, "baseline", window))
    for floor in floors:
        if floor.errors > MOST_ERRORS:
            yield f"{words.share(floor.errors)} of the requests of {floor.journey} failed: make it healthy first"
    yield from (f"{doubt.told}: {doubt.advice}" for doubt in drift(case, Margins()))


def _steps(case: Case, course: Course) -> Iterator[Step]:
    """The steps up to the first that was not carried."""
    began = case.history.began
    before = Window(began + course.warmup, began + course.quiet)
    own = step_of(case, course.rate, before)
    yield own
    if own.broke:
        return
    for turn, rate in enumerate(course.rates):
        begin = began + course.quiet + turn * STEP_SECONDS
        step = step_of(case, rate, Window(begin + SETTLING_SECONDS, begin + STEP_SECONDS), own.p95)
        yield step
        if step.broke:
            return


def expect_place_for_margins(system: Path) -> None:
    """Refuse a file that margins cannot be put into: before minutes of running, not after."""
    with_margins(system_path(system), Margins())


def write_margins(system: Path, margins: Margins) -> Path:
    """Put margins into a system's file, which keeps everything else; the file."""
    path = system_path(system)
    text = with_margins(path, margins)
    draft = path.with_name(f"{path.name}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        shutil.copymode(path, draft)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InvalidInput(f"{path}: expected a file that margins can be written to, found: {error.strerror}") from error
    return path
