"""A rate that changes in stages, as straight lines; how many arrivals it makes by a moment, and when each is due.

Exact: the number by a moment is the area under the lines, and the moment of an arrival is where that area reaches its
number. Imports nothing of the harness, since the load process computes with it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True, slots=True)
class Stretch:
    """`seconds` in which the rate goes in a straight line from `begin` to `end`, both per second."""

    seconds: float
    begin: float
    end: float

    @property
    def arrivals(self) -> float:
        """The area under the whole line."""
        return self.seconds * (self.begin + self.end) / 2

    def arrivals_by(self, at: float) -> float:
        """The area from its begin to `at` seconds."""
        return at * (self.begin + (self.end - self.begin) * at / (2 * self.seconds)) if at > 0 else 0.0

    def moment_of(self, arrivals: float) -> float:
        """After how many seconds the area is this large: the root of its quadratic, in the form that cancels nothing."""
        if arrivals <= 0:
            return 0.0
        slope = (self.end - self.begin) / self.seconds
        return 2 * arrivals / (self.begin + sqrt(max(0.0, self.begin**2 + 2 * slope * arrivals)))


@dataclass(frozen=True, slots=True)
class Course:
    """How the rate goes: through the stretches, and then on at `last` without end. A constant rate has no stretches."""

    stretches: tuple[Stretch, ...]
    last: float

    def arrivals_by(self, at: float) -> float:
        """How many arrivals are due in the first `at` seconds, as a real number."""
        number = 0.0
        for stretch in self.stretches:
            if at <= stretch.seconds:
                return number + stretch.arrivals_by(at)
            number, at = number + stretch.arrivals, at - stretch.seconds
        return number + self.last * max(0.0, at)

    def moment_of(self, arrivals: float) -> float:
        """After how many seconds so many arrivals were due."""
        since = 0.0
        for stretch in self.stretches:
            if arrivals < stretch.arrivals:
                return since + stretch.moment_of(arrivals)
            since, arrivals = since + stretch.seconds, arrivals - stretch.arrivals
        return since + arrivals / self.last


def course_of(rate: float, stages: Sequence[tuple[float, float]]) -> Course:
    """The course of a constant rate, or of stages (the rate each leads to, and over how many seconds), from zero on."""
    stretches: list[Stretch] = []
    begin = 0.0 if stages else rate
    for to, over in stages:
        if over > 0:
            stretches.append(Stretch(over, begin, to))
        begin = to
    return Course(tuple(stretches), begin)
