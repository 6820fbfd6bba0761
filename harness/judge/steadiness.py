"""Whether a system that warms up is steady: stretches that follow each other differ by no more than the margins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.history.history import Window
from harness.history.table import Requests
from harness.judge import words
from harness.judge.case import Case
from harness.judge.statistics import BLOCK_SECONDS, quantile
from harness.model.parts import LatencyMargin

BLOCKS = 3
"""So many stretches must be alike."""

FEWEST = 5
"""A journey with fewer requests in a stretch says nothing there; all together are asked in its place."""

SPAN = BLOCKS * BLOCK_SECONDS
"""Seconds that are looked at."""


def unsteady(case: Case, until: float) -> str:
    """How the last stretches before a moment differ by more than the margins; empty where they do not, for any journey.

    What was observed is compared, not what is certain: the warm-up is no evidence, it only ends.
    """
    if until - SPAN < case.history.began:
        return f"less than {words.seconds(SPAN)} of the load have been answered"
    window = Window(until - SPAN, until)
    groups = {journey: _stretches(case.group(journey, window), window) for journey in case.groups(window)}
    told = {journey: stretches for journey, stretches in groups.items() if min(map(len, stretches)) >= FEWEST}
    if not told:
        told = {"all requests": _stretches(case.history.due_in(window), window)}
    if any(min(map(len, stretches)) < FEWEST for stretches in told.values()):
        return f"fewer than {FEWEST} requests came up in {words.seconds(BLOCK_SECONDS)}"
    return next((why for journey, stretches in told.items() if (why := _differ(case, journey, stretches))), "")


def _stretches(group: Requests, window: Window) -> list[Requests]:
    begins = [window.begin + number * BLOCK_SECONDS for number in range(BLOCKS)]
    return [group.between([(begin, begin + BLOCK_SECONDS)]) for begin in begins]


def _differ(case: Case, journey: str, stretches: Sequence[Requests]) -> str:
    margins = case.experiment.margins
    failed = [float((~stretch.ok).mean()) for stretch in stretches]
    if max(failed) - min(failed) > margins.error_rate:
        return f"from {words.share(min(failed))} to {words.share(max(failed))} of {journey} failed"
    for name, share, margin in (("p50", 0.5, margins.p50), ("p95", 0.95, margins.p95)):
        values = [quantile(np.sort(case.waited(stretch)), share) for stretch in stretches]
        low, high = min(values), max(values)
        if high > _allowed(low, margin):
            return f"the {name} of {journey} was from {words.seconds(low)} to {words.seconds(high)}"
    return ""


def _allowed(low: float, margin: LatencyMargin) -> float:
    return max(low * (1 + (margin.relative or 0.0)), low + (margin.absolute or 0.0))
