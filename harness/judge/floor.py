"""What an unchanged system does by itself: its noise floor, the margins that leaves, and the rate at which it saturates.

A run without any fault is cut into windows as long as those that a scenario judges. Each is compared with each other as
a fault window is with its baseline; whatever is found is noise. How far the interval of such a comparison reaches is the
margin it would have needed to pass; the margin that 99 of 100 need is read from a normal distribution fitted to these
(to their logarithms, where they are ratios), and is never less than the largest that was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import ceil, exp
from statistics import NormalDist

import numpy as np

from harness.history.history import Window
from harness.judge import words
from harness.judge.case import Case
from harness.judge.comparison import SHARES, Quantile, blocks_in
from harness.judge.doubts import LEAST_LOAD, MOST_LAG, fewest_of, lag, silent
from harness.judge.statistics import FEWEST_BLOCKS, SHORTEST, Blocks, every_change, newcombe, quantile
from harness.model.expectations import Margins
from harness.model.load import GUARD_SECONDS
from harness.model.parts import LatencyMargin

HELD = 0.99
Z_HELD = NormalDist().inv_cdf(HELD)

SHARE_STEP, RELATIVE_STEP, ABSOLUTE_STEP = 0.005, 0.05, 0.005
"""Margins are rounded up to half a point, to five per cent, and to five milliseconds."""


@dataclass(frozen=True, slots=True)
class Needed:
    """The margin that 99 of 100 unchanged windows need: as a ratio, or in seconds."""

    ratio: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Floor:
    """One journey over windows in which nothing was changed. Latencies in seconds; medians over the windows."""

    journey: str
    requests: int
    errors: float
    p50: float
    p95: float
    needed_errors: float
    needed: dict[Quantile, Needed]


def cut(window: Window, seconds: float) -> tuple[Window, ...]:
    """A window in pieces as long as a phase of so many seconds, each without its guards."""
    number = int((window.seconds + 2 * GUARD_SECONDS) / seconds + 1e-3)
    begin = window.begin - GUARD_SECONDS
    return tuple(Window(begin + seconds * turn, begin + seconds * (turn + 1)).narrowed(GUARD_SECONDS) for turn in range(number))


def floors_of(case: Case, windows: Sequence[Window]) -> tuple[Floor, ...]:
    """The noise floor of every journey that each window has requests of, long enough to be judged."""
    journeys = sorted(set.intersection(*_journeys(case, windows))) if windows else []
    return tuple(_floor(case, journey, windows) for journey in journeys)


def without_floor(case: Case, windows: Sequence[Window]) -> tuple[str, ...]:
    """The journeys that some of the windows have no request of."""
    found = _journeys(case, windows)
    return tuple(sorted({journey for some in found for journey in some if not all(journey in one for one in found)}))


def _journeys(case: Case, windows: Sequence[Window]) -> list[set[str]]:
    return [{*case.groups(window)} for window in windows]


def _floor(case: Case, journey: str, windows: Sequence[Window]) -> Floor:
    groups = [case.group(journey, window) for window in windows]
    failed = [(int((~group.ok).sum()), len(group)) for group in groups]
    waited = [case.waited(group) for group in groups]
    p50, p95 = (float(np.median([quantile(np.sort(times), share) for times in waited])) for share in SHARES.values())
    parts = [blocks_in(window, group.due, times) for window, group, times in zip(windows, groups, waited, strict=True)]
    return Floor(
        journey,
        round(float(np.median([of for _, of in failed]))),
        float(np.mean([hits / of for hits, of in failed])),
        p50,
        p95,
        _held([newcombe(one, other).high for one, other in permutations(failed, 2)]),
        _needed(parts) if len(parts) > 1 and min(map(len, parts)) >= FEWEST_BLOCKS else {},
    )


def _needed(windows: Sequence[Blocks]) -> dict[Quantile, Needed]:
    """What each quantile needs. Of the thousands of pairs only the ends of their intervals are kept."""
    ends = [
        [(float(np.log(max(change.ratio.high, SHORTEST))), change.difference.high) for change in changes]
        for changes in every_change(windows, tuple(SHARES.values()))
    ]
    return {
        name: Needed(exp(_held([pair[place][0] for pair in ends])), _held([pair[place][1] for pair in ends]))
        for place, name in enumerate(SHARES)
    }


def _held(values: Sequence[float]) -> float:
    """What 99 of 100 such values do not exceed."""
    if not values:
        return float("inf")
    return max([*values, float(np.mean(values)) + Z_HELD * float(np.std(values))])


def margins_for(floors: Sequence[Floor], usual: Margins) -> Margins:
    """Margins with which every journey passes unchanged in 99 of 100 comparisons.

    What is quick moves by much and by little time, what is slow by little and by much time; a margin holds by either of
    its parts. Of all pairs of them that every journey is within, the one is taken that adds up to the fewest usual margins.
    """
    if not floors or not all(floor.needed for floor in floors):
        raise ValueError("expected windows long enough to judge latencies, found none")
    errors = _up(max(floor.needed_errors for floor in floors), SHARE_STEP)
    return Margins.model_construct(
        error_rate=min(1.0, errors),
        p50=_margin([floor.needed["p50"] for floor in floors], usual.p50),
        p95=_margin([floor.needed["p95"] for floor in floors], usual.p95),
    )


def _margin(needed: Sequence[Needed], usual: LatencyMargin) -> LatencyMargin:
    relative, absolute = min(
        (_beside(needed, most, usual) for most in (0.0, *(one.seconds for one in needed))),
        key=lambda pair: pair[0] / (usual.relative or 1.0) + pair[1] / (usual.absolute or 1.0),
    )
    if absolute == 0:  # a ratio alone would cry over what nobody feels
        absolute = min(usual.absolute or 0.0, max(0.0, *(one.seconds for one in needed)))
    return LatencyMargin(
        relative=_up(relative, RELATIVE_STEP) if relative > 0 else None,
        absolute=_up(absolute, ABSOLUTE_STEP) if absolute > 0 else None,
    )


def _beside(needed: Sequence[Needed], absolute: float, usual: LatencyMargin) -> tuple[float, float]:
    """The relative part that must stand beside an absolute one; where no journey needs it, the usual one, or less."""
    others = [one.ratio for one in needed if one.seconds > absolute]
    relative = max(others) if others else min(1 + (usual.relative or 0.0), max(one.ratio for one in needed))
    return max(0.0, relative - 1), max(0.0, absolute)


def _up(value: float, step: float) -> float:
    return round(max(1, ceil(value / step - 1e-9)) * step, 10)


MOST_ERRORS = 0.05


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch at one rate: what it was like, and why the system did not carry it; empty where it did."""

    rate: float
    p95: float
    broke: str


def step_of(case: Case, rate: float, window: Window, quiet: float | None = None) -> Step:
    """How a rate was carried; `quiet` is the p95 of the lowest one, by which a latency is late."""
    due = case.history.due_in(window)
    if not due:
        return Step(rate, float("inf"), "no request was sent")
    p95 = quantile(np.sort(case.waited(due)), 0.95)
    late = lag(due)
    failed = float((~due.ok).mean())
    usual = Margins().p95
    line = max((quiet or p95) * (1 + (usual.relative or 0)), (quiet or p95) + (usual.absolute or 0))
    planned = rate * window.seconds
    kept = due.sent / (planned if len(due) < fewest_of(case, planned) - silent(case) * planned else len(due))
    if kept < LEAST_LOAD:
        return Step(rate, p95, f"{words.share(kept)} of the arrivals were sent")
    if late > MOST_LAG:
        return Step(rate, p95, f"requests were sent {words.seconds(late)} late")
    if failed > MOST_ERRORS:
        return Step(rate, p95, f"{words.share(failed)} of the requests failed")
    if p95 > line:
        return Step(rate, p95, f"p95 went to {words.seconds(p95)}")
    return Step(rate, p95, "")
