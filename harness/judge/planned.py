"""The windows of an experiment as they are planned: how long each will be, and how many requests it will hold."""

from __future__ import annotations

from harness.history.history import Window, together
from harness.judge import words
from harness.judge.statistics import BLOCK_SECONDS, FEWEST_BLOCKS, blocks_of
from harness.model.experiment import Experiment
from harness.model.load import GUARD_SECONDS, IN_ROUNDS
from harness.model.windows import repeated, windows_of


class Size:
    """How many requests, and how long, the windows of an experiment are."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.journeys = max(1, len(experiment.system.journeys))

    def window(self, during: str) -> Window | None:
        """What `during` means, as it is planned, in seconds since the load began."""
        phases = self.experiment.phases
        if during == "warmup":
            return _narrowed(Window(0.0, phases.warmup))
        found: list[Window] = []
        at = phases.warmup
        for _ in range(self.experiment.rounds):
            for phase in IN_ROUNDS:
                whole = Window(at, at + getattr(phases, phase))
                at = whole.end
                if phase == during != "fault":
                    found += [_narrowed(whole)]
                elif phase == "fault" and during not in IN_ROUNDS:
                    found += self._spells(whole.begin, during)
                elif phase == during:
                    spells = together(self._spells(whole.begin))
                    found += _narrowed(whole).shared(spells) if spells is not None else [_narrowed(whole)]
        return together(window for window in found if window.seconds > 0)

    def _spells(self, begin: float, fault: str = "") -> list[Window]:
        """When a fault is on, or any of them, in a fault phase that begins at this moment."""
        return [
            Window(begin + stretch.begin, begin + stretch.end)
            for item in self.experiment.faults
            if fault in ("", item.id)
            for turn in repeated(item, self.experiment.phases.fault)
            for stretch in windows_of(turn, self.experiment.seed)
        ]

    def arrivals(self, during: str) -> float:
        """How many requests are due."""
        window, course = self.window(during), self.experiment.load.course
        if window is None or course is None:
            return 0.0
        return sum(course.arrivals_by(piece.end) - course.arrivals_by(piece.begin) for piece in window.pieces)

    def of(self, during: str, journey: str | None) -> float:
        """How many of them belong to one journey, if each gets the same."""
        return self.arrivals(during) / (1 if journey is None else self.journeys)

    def short_of_blocks(self, *phases: str) -> str:
        """Why latencies cannot be told of such short phases; empty where they can."""
        for phase in phases:
            window = self.window(phase)
            if window is None or blocks_of(window.seconds) < FEWEST_BLOCKS:
                judged = words.seconds(window.seconds if window is not None else 0.0)
                return f"{judged} of the {phase} are judged, latencies need {FEWEST_BLOCKS * BLOCK_SECONDS:g} s"
        return ""


def _narrowed(window: Window) -> Window:
    return window.narrowed(GUARD_SECONDS)
