"""The journey x phase table, and what the fault did to each journey."""

from __future__ import annotations

from typing import Literal

import numpy as np

from harness.history.table import NONE, Requests
from harness.judge.case import Case
from harness.judge.evidence import JUDGED
from harness.judge.expectations.fallback import STRAY
from harness.judge.statistics import quantile, wilson
from harness.judge.usual import Usual
from harness.judge.verdict import Figures, JourneyFigures


def journeys_of(case: Case) -> tuple[JourneyFigures, ...]:
    """A row for each journey: those with a plain name first, then the requests that nobody named."""
    windows = {phase: window for phase in JUDGED if (window := case.judged(phase)) is not None}
    groups = {phase: case.groups(window) for phase, window in windows.items()}
    named = list(case.experiment.system.journeys)
    others = sorted({journey for found in groups.values() for journey in found} - set(named))
    rows = []
    for journey in (*named, *others):
        phases = {phase: figures_of(case, found.get(journey, NONE)) for phase, found in groups.items()}
        before, during = (groups.get(phase, {}).get(journey, NONE) for phase in ("baseline", "fault"))
        rows.append(JourneyFigures(journey, phases, _felt(case, before, during)))
    return tuple(rows)


def figures_of(case: Case, group: Requests) -> Figures:
    """One journey in one window."""
    waited = np.sort(case.waited(group))
    return Figures(
        requests=len(group),
        errors=int((~group.ok).sum()),
        fallbacks=int((group.ok & group.marked).sum()),
        p50=quantile(waited, 0.5) if group else None,
        p95=quantile(waited, 0.95) if group else None,
    )


def _felt(case: Case, before: Requests, during: Requests) -> Literal["nothing", "slower", "fallback", "failed"]:
    """The worst that surely happened to it."""
    if not before or not during:
        return "nothing"
    usual = Usual(case, before, case.experiment.margins)
    failed, marked = int((~during.ok).sum()), int(during.marked.sum())
    if wilson(failed, len(during)).low > usual.errors:
        return "failed"
    if wilson(marked, len(during)).low > STRAY:
        return "fallback"
    return "slower" if usual.trouble(during)[0] else "nothing"
