"""What a run of a given size can see, before it is run: a pure function of the experiment.

For each comparison an expectation makes: the smallest effect that is called failed in 90 of 100 runs, the largest that
still passes in 90 of 100, and how much more it takes to see an effect half as large again as the limit.

- Shares: the least number of failed requests with which Wilson's or Newcombe's interval lies outside the limit is looked
  up; the share that brings about so many with a chance of 90 % is the upper end of Wilson's own interval around it, taken
  at 90 % on one side. The baseline is taken to be without errors.
- Quantiles of the latency: the standard error of a quantile's logarithm is taken to be SPREAD / sqrt(requests). How many
  standard errors the limit must be exceeded by is that of the interval plus that of 90 %.

How often each journey is drawn is not known before a run: each is taken to get the same share of the arrivals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, exp, floor, inf, sqrt
from statistics import NormalDist
from typing import assert_never

from harness.history.history import Window, together
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS
from harness.judge.comparison import margins_of
from harness.judge.expectations.response_time import NEEDED, QUANTILES
from harness.judge.statistics import ALPHA, BLOCK_SECONDS, FEWEST_BLOCKS, blocks_of, enough_for, newcombe, wilson
from harness.model.expectations import (
    EACH,
    BlastRadius,
    ErrorRate,
    ExpectationItem,
    Fallback,
    Invariant,
    Recovery,
    ResponseTime,
)
from harness.model.experiment import Experiment
from harness.model.load import GUARD_SECONDS, IN_ROUNDS, PHASES
from harness.model.parts import LatencyMargin
from harness.model.windows import repeated, windows_of

POWER = 0.9
Z_POWER = NormalDist().inv_cdf(POWER)
Z_BOTH = NormalDist().inv_cdf(1 - (1 - POWER) / 2)
"""Where two parts of a margin must both be exceeded, each with a chance of 95 %."""

SPREAD = {"p50": 1.5, "p95": 2.2, "p99": 4.0}
"""The standard error of the logarithm of a quantile, times the root of the number of requests.

For independent lognormal latencies with a sigma of 0.5 it is 0.63, 1.06 and 1.87. Measured between the halves of the
baselines of 45 unchanged runs on two busy cores it was 0.8 to 1.6 for p50 and 2.5 to 4.2 for p95: queues.
"""

ASKED = 1.5
"""An effect right at the limit is never surely told from one just inside; this many times the limit is what can be asked."""

MOST_FACTOR = 1000.0
"""More than so many times the requests is no advice."""

STEPS = 1.03
"""Requests are whole, so that the effect seen does not fall evenly with their number: this much more is surely enough."""

MOST_ROUNDS = 50
"""A scenario has no more."""

LARGEST_LOG = 20.0
"""No effect is told larger than so many powers of e."""


@dataclass(frozen=True, slots=True)
class Power:
    """What a run can see by one expectation.

    `sights` tell it for each thing that is compared; `advice` what to change to see the effect that can be asked, where
    the run is too small for it; `hopeless` why it can at best be inconclusive, where that is so.
    """

    id: str
    kind: str
    sights: tuple[str, ...]
    advice: str = ""
    hopeless: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """One comparison. `fails` gives the smallest effect seen with so many times the requests; `asked` is the one to see.

    `passes` says what passes, `hopeless` why nothing can; `phases` are those that can be made longer to see more.
    """

    what: str
    fails: Callable[[float], float]
    shown: Callable[[float], str]
    passes: str
    asked: float = inf
    phases: tuple[str, ...] = ()
    hopeless: str = ""

    def told(self) -> str:
        """What it can see, in words."""
        least = self.fails(1.0)
        seen = f"fails at {self.shown(least)} or worse" if least < inf else "cannot fail"
        held = f"passes at {self.passes} or better" if self.passes else "seldom passes, even where nothing changed"
        return f"{self.what}: {seen}, {'cannot pass' if self.hopeless else held}"

    def factor(self) -> float:
        """How many times the requests it takes to see the effect that is asked; infinite where no number is enough."""
        low, high = 1.0, 1.0
        while self.fails(high) > self.asked:
            low, high = high, high * 2
            if high > MOST_FACTOR:
                return inf
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if self.fails(middle) > self.asked else (low, middle)
        return high * STEPS


def powers_of(experiment: Experiment) -> tuple[Power, ...]:
    """What a run of this experiment can see, by each expectation."""
    return tuple(_power(experiment, item) for item in experiment.expect)


def journeys_told(experiment: Experiment) -> str:
    """What is supposed of the journeys, in words."""
    number, size = len(experiment.system.journeys), _Size(experiment)
    if experiment.load.course is None:
        return "the rate is not known beforehand"
    baseline, fault = (round(size.arrivals(phase)) for phase in ("baseline", "fault"))
    told = f"{baseline} requests in the baseline, {fault} in the fault"
    return f"{told}; each of {number} journeys 1/{number} of them" if number > 1 else told


def _power(experiment: Experiment, item: ExpectationItem) -> Power:
    name, kind = str(item.id or item.kind), item.kind
    if item.invariant is not None:
        return Power(name, kind, ("any violation that its query counts",))
    if getattr(item.expectation, "method", "interval") == "point":
        return Power(name, kind, ("compared as a point: near its limit it passes or fails by chance",))
    if experiment.load.course is None:
        return Power(name, kind, ("not known before the run: how many requests there are depends on the answers",))
    looks = tuple(_looks(experiment, item))
    hopeless = next((look.hopeless for look in looks if look.hopeless), "")
    return Power(name, kind, tuple(look.told() for look in looks), _advice(experiment, looks), hopeless)


def _looks(experiment: Experiment, item: ExpectationItem) -> Iterator[Look]:
    size, expected = _Size(experiment), item.expectation
    match expected:
        case ErrorRate():
            yield _error_rate(size, expected)
        case ResponseTime():
            yield from _response_times(size, expected)
        case BlastRadius():
            yield from _blast_radius(size, expected)
        case Fallback():
            yield _fallback(size, expected)
        case Recovery():
            yield _recovery(size, expected)
        case Invariant():
            return
        case _:
            assert_never(expected)


def _advice(experiment: Experiment, looks: tuple[Look, ...]) -> str:
    """What it takes to see all that is asked."""
    short = [(look.factor(), look) for look in looks if look.fails(1.0) > look.asked]
    if not short:
        return ""
    factor, look = max(short, key=lambda found: found[0])
    to_see = f"to see {look.what} {look.shown(look.asked)}"
    if factor == inf:
        return f"{to_see} no number of requests is enough"
    return f"{to_see}: {_levers(experiment, look.phases, factor)}"


def _levers(experiment: Experiment, phases: tuple[str, ...], factor: float) -> str:
    levers = [f"load.rate {ceil((experiment.load.rate or 0) * factor)}/s"] if not experiment.load.stages else []
    judged = {phase: getattr(experiment.phases, phase) - 2 * GUARD_SECONDS for phase in phases}
    lengths = [f"phases.{phase} {ceil(seconds * factor + 2 * GUARD_SECONDS)}s" for phase, seconds in judged.items()]
    levers.append(words.several(lengths) if len(lengths) < 2 else " and ".join(lengths))
    rounds = ceil(experiment.rounds * factor)
    return ", or ".join([*levers, f"rounds {rounds}"] if rounds <= MOST_ROUNDS else levers)


class _Size:
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


def _phase_of(during: str) -> str:
    return during if during in PHASES else "fault"


def _z_among(comparisons: int) -> float:
    """How many standard errors the first of so many comparisons must be outside by, for Holm's test."""
    return NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, comparisons)))


def _least(number: int, holds: Callable[[int], bool]) -> int | None:
    """The least whole number up to this one for which something holds that then goes on holding."""
    if not holds(number):
        return None
    low, high = -1, number
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def seen_rise(before: float, after: float, margin: float, z: float) -> float:
    """The smallest share of errors, on a baseline without any, that is called outside a margin in 90 of 100 runs."""
    first, second = floor(before), floor(after)
    hits = _least(second, lambda hits: newcombe((0, first), (hits, second), z).low > margin) if second else None
    return wilson(hits, second, Z_POWER).high if hits is not None else inf


def seen_share(number: float, limit: float, z: float) -> float:
    """The smallest share of errors that is called more than the limit in 90 of 100 runs."""
    of = floor(number)
    hits = _least(of, lambda hits: wilson(hits, of, z).low > limit) if of else None
    return wilson(hits, of, Z_POWER).high if hits is not None else inf


def borne_share(number: float, is_inside: Callable[[int], bool]) -> float | None:
    """The largest share of errors that is called inside in 90 of 100 runs; None where not even none at all is."""
    of = floor(number)
    first_not = _least(of, lambda hits: not is_inside(hits))
    hits = of if first_not is None else first_not - 1
    return wilson(hits, of, Z_POWER).low if hits >= 0 and of else None


def apart(numbers: tuple[float, ...], quantile: str, z: float) -> float:
    """How many times its limit a quantile must be to be called outside in 90 of 100 runs; `numbers` of each window."""
    return exp((z + Z_POWER) * _error(numbers, quantile))


def apart_by_both(numbers: tuple[float, float], quantile: str, z: float, allowed: LatencyMargin) -> float:
    """The same for a margin of a relative and an absolute part, both of which must be exceeded that many times.

    Where both are exceeded by as much, the difference of the quantiles is less certain than their ratio: its relative
    error is that of one quantile times sqrt(r^2 + 1) / (r - 1), r being the ratio.
    """
    if allowed.relative is None or allowed.absolute is None:
        return apart(numbers, quantile, z)
    error = _error(numbers, quantile)
    ratio = (1 + allowed.relative) * exp((z + Z_BOTH) * error)
    wider = max(1.0, sqrt((ratio**2 + 1) / 2) / (ratio - 1)) if ratio > 1 else inf
    return exp(min((z + Z_BOTH) * error * wider, LARGEST_LOG))


def _error(numbers: tuple[float, ...], quantile: str) -> float:
    """The standard error of the logarithm of a quantile, or of the ratio of two."""
    return SPREAD[quantile] * sqrt(sum(1 / max(number, 1.0) for number in numbers))


def _error_rate(size: _Size, expected: ErrorRate) -> Look:
    during, limit = expected.during or "fault", expected.max
    number = size.of(during, expected.journey)
    z = _z_among(size.journeys if expected.journey == EACH else 1)
    borne = borne_share(number, lambda hits: wilson(hits, floor(number)).high <= limit)
    return Look(
        "errors",
        lambda factor: seen_share(number * factor, limit, z),
        words.share,
        "" if borne is None else words.share(borne),
        min(1.0, ASKED * limit),
        (_phase_of(during),),
        _never(limit) or _too_few(number, max(FEWEST_REQUESTS, enough_for(limit)), during),
    )


def _never(limit: float) -> str:
    return "" if limit > 0 else "no number of requests shows that not one ever fails"


def _too_few(number: float, needed: int, during: str) -> str:
    return f"about {number:.0f} requests in {during}, {needed} are needed" if number < needed else ""


def _too_few_of_each(numbers: tuple[float, float], needed: int) -> str:
    phase = "baseline" if numbers[0] <= numbers[1] else "fault"
    few = min(numbers)
    return f"about {few:.0f} requests of a journey in the {phase}, {needed} are needed" if few < needed else ""


def _response_times(size: _Size, expected: ResponseTime) -> Iterator[Look]:
    during = expected.during or "fault"
    number = size.of(during, expected.journey)
    asked = [name for name in QUANTILES if getattr(expected, name) is not None]
    z = _z_among(len(asked) * (size.journeys if expected.journey == EACH else 1))
    for name in asked:
        limit = getattr(expected, name)
        for line, turn in ((limit.max, 1), (limit.min, -1)):
            if line is not None:
                yield _response_time((name, number, z), (line, turn), during)


def _response_time(quantile: tuple[str, float, float], limit: tuple[float, int], during: str) -> Look:
    """`turn` is 1 for a limit that must not be exceeded, and -1 for one that must be reached."""
    (name, number, z), (line, turn) = quantile, limit
    return Look(
        name,
        lambda factor: apart((number * factor,), name, z),
        lambda times: words.seconds(line * times**turn),
        words.seconds(line / apart((number,), name, _z_among(1)) ** turn),
        ASKED,
        (_phase_of(during),),
        _too_few(number, NEEDED["interval"][name], during),
    )


def _blast_radius(size: _Size, expected: BlastRadius) -> Iterator[Look]:
    margins = margins_of(expected.worse_by, size.experiment.margins)
    numbers = size.of("baseline", EACH), size.of("fault", EACH)
    excepted = {*expected.may_degrade, *expected.may_fail}
    whole = max(1, size.journeys - len(excepted))
    z = _z_among(3 * whole + len(expected.may_degrade))
    before, after = map(floor, numbers)
    borne = borne_share(numbers[1], lambda hits: newcombe((0, before), (hits, after)).high <= margins.error_rate)
    yield Look(
        "errors",
        lambda factor: seen_rise(numbers[0] * factor, numbers[1] * factor, margins.error_rate, z),
        words.points,
        "" if borne is None else words.points(borne),
        min(1.0, ASKED * margins.error_rate),
        ("baseline", "fault"),
        _never(margins.error_rate) or _too_few_of_each(numbers, enough_for(margins.error_rate)),
    )
    if size.journeys > len(excepted):
        for name in ("p50", "p95"):
            yield _slower(size, (name, numbers, z), getattr(margins, name))


def _slower(size: _Size, quantile: tuple[str, tuple[float, float], float], allowed: LatencyMargin) -> Look:
    name, numbers, z = quantile
    short = size.short_of_blocks("baseline", "fault")
    inside = 1 / apart(numbers, name, _z_among(1))
    still = LatencyMargin(
        relative=(1 + allowed.relative) * inside - 1 if allowed.relative is not None else None,
        absolute=allowed.absolute * inside if allowed.absolute is not None else None,
    )
    if still.relative is not None and still.relative < 0:
        still = still.model_copy(update={"relative": None})
    return Look(
        name,
        lambda factor: apart_by_both((numbers[0] * factor, numbers[1] * factor), name, z, allowed),
        lambda times: _margin(allowed, times, " and "),
        _margin(still, 1.0, " or "),
        ASKED,
        ("baseline", "fault"),
        short or _too_few_of_each(numbers, NEEDED["interval"]["p95"]),
    )


def _margin(allowed: LatencyMargin, times: float, between: str) -> str:
    parts = [words.times((1 + allowed.relative) * times)] if allowed.relative is not None else []
    parts += [words.rise(allowed.absolute * times)] if allowed.absolute is not None else []
    return between.join(parts)


def _fallback(size: _Size, expected: Fallback) -> Look:
    declared = size.experiment.system.fallbacks.get(expected.name)
    number = size.arrivals(expected.fault or "fault") * (len(declared.journeys) if declared is not None else 1) / size.journeys
    least = expected.share.min
    limit = 1 - least if least is not None else expected.share.max or 0.0
    borne = borne_share(number, lambda hits: wilson(hits, floor(number)).high <= limit)

    def shown(value: float) -> str:
        return words.share(1 - value if least is not None else value)

    return Look(
        "its share of the answers",
        lambda factor: seen_share(number * factor, limit, _z_among(1)),
        shown,
        "" if borne is None else shown(borne),
        min(1.0, ASKED * limit),
        ("fault",),
        _never(limit) or _too_few(number, max(FEWEST_REQUESTS, enough_for(limit)), "the fault"),
    )


def _recovery(size: _Size, expected: Recovery) -> Look:
    """What keeps a stretch of two seconds from counting as recovered."""
    window = size.window("recovery")
    seconds = window.seconds / size.experiment.rounds if window is not None else 0.0
    number = size.of("recovery", EACH) / max(seconds * size.experiment.rounds, 1.0) * BLOCK_SECONDS
    left = seconds + GUARD_SECONDS
    return Look(
        f"errors within {BLOCK_SECONDS:g} s",
        lambda factor: seen_share(number * factor, size.experiment.margins.error_rate, _z_among(1)),
        words.share,
        words.share(size.experiment.margins.error_rate),
        hopeless=f"{words.seconds(left)} of the recovery cannot show that it holds for {words.seconds(expected.hold)}"
        if left < expected.hold
        else "",
    )
