"""What a run of a given size can see, before it is run: a pure function of the experiment.

For each comparison an expectation makes: the smallest effect that is called failed in 90 of 100 runs, the largest that
still passes in 90 of 100, and how much more it takes to see an effect half as large again as the limit.

How often each journey is drawn is not known before a run: each is taken to get the same share of the arrivals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import assert_never

from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS
from harness.judge.comparison import margins_of
from harness.judge.detectable import apart, apart_by_both, borne_share, seen_rise, seen_share
from harness.judge.expectations.recovery import FEWEST_AFTERWARDS, stretches_in
from harness.judge.expectations.response_time import NEEDED, QUANTILES
from harness.judge.planned import Size
from harness.judge.statistics import BLOCK_SECONDS, enough_for, newcombe, wilson, z_among
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
from harness.model.load import GUARD_SECONDS, PHASES
from harness.model.parts import LatencyMargin

ASKED = 1.5
"""An effect right at the limit is never surely told from one just inside; this many times the limit is what can be asked."""

MOST_FACTOR = 1000.0
"""More than so many times the requests is no advice."""

STEPS = 1.03
"""Requests are whole, so that the effect seen does not fall evenly with their number: this much more is surely enough."""

ALIKE = " (if all are drawn alike)"
"""What is supposed of the journeys."""

MOST_ROUNDS = 50
"""A scenario has no more."""


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
    number, size = len(experiment.system.journeys), Size(experiment)
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
    size, expected = Size(experiment), item.expectation
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


def _phase_of(during: str) -> str:
    return during if during in PHASES else "fault"


def _error_rate(size: Size, expected: ErrorRate) -> Look:
    during, limit = expected.during or "fault", expected.max
    number = size.of(during, expected.journey)
    z = z_among(size.journeys if expected.journey == EACH else 1)
    borne = borne_share(number, lambda hits: wilson(hits, floor(number)).high <= limit)
    return Look(
        "errors",
        lambda factor: seen_share(number * factor, limit, z),
        words.share,
        "" if borne is None else words.share(borne),
        _asked(limit),
        (_phase_of(during),),
        _never(limit) or _too_few(number, max(FEWEST_REQUESTS, enough_for(limit)), _named(during, expected.journey)),
    )


def _asked(limit: float) -> float:
    """The share to see; of a limit that allows nothing, or everything, there is none."""
    return min(1.0, ASKED * limit) if 0 < limit < 1 else inf


def _named(during: str, journey: str | None) -> str:
    return f"{during}{ALIKE if journey is not None else ''}"


def _never(limit: float) -> str:
    return "" if limit > 0 else "no number of requests shows that not one ever fails"


def _too_few(number: float, needed: int, during: str) -> str:
    return f"about {number:.0f} requests in {during}, {needed} are needed" if number < needed else ""


def _too_few_of_each(numbers: tuple[float, float], needed: int, second: str = "fault") -> str:
    phase = "baseline" if numbers[0] <= numbers[1] else second
    few = min(numbers)
    return f"about {few:.0f} requests of a journey in the {phase}{ALIKE}, {needed} are needed" if few < needed else ""


def _response_times(size: Size, expected: ResponseTime) -> Iterator[Look]:
    during = expected.during or "fault"
    number = size.of(during, expected.journey)
    asked = [name for name in QUANTILES if getattr(expected, name) is not None]
    z = z_among(len(asked) * (size.journeys if expected.journey == EACH else 1))
    for name in asked:
        limit = getattr(expected, name)
        for line, turn in ((limit.max, 1), (limit.min, -1)):
            if line is not None:
                yield _response_time((name, number, z), (line, turn), (_phase_of(during), _named(during, expected.journey)))


def _response_time(quantile: tuple[str, float, float], limit: tuple[float, int], place: tuple[str, str]) -> Look:
    """`turn` is 1 for a limit that must not be exceeded, and -1 for one that must be reached."""
    (name, number, z), (line, turn), (phase, during) = quantile, limit, place
    return Look(
        name,
        lambda factor: apart((number * factor,), name, z),
        lambda times: words.seconds(line * times**turn),
        words.seconds(line / apart((number,), name, z_among(1)) ** turn),
        ASKED,
        (phase,),
        _too_few(number, NEEDED["interval"][name], during),
    )


def _blast_radius(size: Size, expected: BlastRadius) -> Iterator[Look]:
    margins = margins_of(expected.worse_by, size.experiment.margins)
    numbers = size.of("baseline", EACH), size.of("fault", EACH)
    excepted = {*expected.may_degrade, *expected.may_fail}
    whole = max(1, size.journeys - len(excepted))
    z = z_among(3 * whole + len(expected.may_degrade))
    before, after = map(floor, numbers)
    borne = borne_share(numbers[1], lambda hits: newcombe((0, before), (hits, after)).high <= margins.error_rate)
    yield Look(
        "errors",
        lambda factor: seen_rise(numbers[0] * factor, numbers[1] * factor, margins.error_rate, z),
        words.points,
        "" if borne is None else words.points(borne),
        _asked(margins.error_rate),
        ("baseline", "fault"),
        _never(margins.error_rate) or _too_few_of_each(numbers, enough_for(margins.error_rate)),
    )
    if size.journeys > len(excepted):
        for name in ("p50", "p95"):
            yield _slower(size, (name, numbers, z), getattr(margins, name))


def _slower(size: Size, quantile: tuple[str, tuple[float, float], float], allowed: LatencyMargin) -> Look:
    name, numbers, z = quantile
    short = size.short_of_blocks("baseline", "fault")
    inside = 1 / apart(numbers, name, z_among(1))
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


def _fallback(size: Size, expected: Fallback) -> Look:
    declared = size.experiment.system.fallbacks.get(expected.name)
    share = (len(declared.journeys) if declared is not None else 1) / size.journeys
    number = size.arrivals(expected.fault or "fault") * share
    without, phase = min((size.arrivals(phase) * share, phase) for phase in ("baseline", "recovery"))
    least = expected.share.min
    limit = 1 - least if least is not None else expected.share.max or 0.0
    borne = borne_share(number, lambda hits: wilson(hits, floor(number)).high <= limit)

    def shown(value: float) -> str:
        return words.share(1 - value if least is not None else value)

    return Look(
        "its share of the answers",
        lambda factor: seen_share(number * factor, limit, z_among(1)),
        shown,
        "" if borne is None else shown(borne),
        _asked(limit),
        ("fault",),
        _never(limit)
        or _too_few(number, max(FEWEST_REQUESTS, enough_for(limit)), "the fault")
        or _too_few(without, FEWEST_REQUESTS, f"the {phase}{ALIKE}"),
    )


def _recovery(size: Size, expected: Recovery) -> Look:
    """What keeps a stretch of two seconds from counting as recovered."""
    window = size.window("recovery")
    seconds = window.seconds / size.experiment.rounds if window is not None else 0.0
    number = size.of("recovery", EACH) / max(seconds * size.experiment.rounds, 1.0) * BLOCK_SECONDS
    left = seconds + GUARD_SECONDS
    numbers = size.of("baseline", EACH) / size.experiment.rounds, number / BLOCK_SECONDS * left
    held = f"{words.seconds(left)} of the recovery cannot show that it holds for {words.seconds(expected.hold)}"
    z = z_among(size.journeys * stretches_in(left))
    return Look(
        f"errors within {BLOCK_SECONDS:g} s",
        lambda factor: seen_share(number * factor, size.experiment.margins.error_rate, z),
        words.share,
        words.share(size.experiment.margins.error_rate),
        hopeless=held if left < expected.hold else _too_few_of_each(numbers, FEWEST_AFTERWARDS, "recovery"),
    )
