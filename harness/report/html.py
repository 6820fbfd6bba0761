"""The page for one run: one file, no address outside, readable without colour, on paper and on a phone.

Everything is measured out here; the templates only write it down, with everything escaped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.history.history import History
from harness.history.requests import Request
from harness.judge.verdict import Figures, JourneyFigures, Verdict
from harness.report import wording
from harness.report.edges import edge_table
from harness.report.measures import WIDTH, gauge
from harness.report.plain import clean
from harness.report.series import Dots, Stretch, dots_of, log_scale, sample, stretches
from harness.report.summary import ANSWERS, Answer, Summary
from harness.report.timeline import NARROW, WIDE, Sheet, TimeAxis, dot_path, draw_picture, phase_at
from harness.report.topology import ACROSS, DOWN, draw_topology, struck_by_faults

MOST_JOURNEYS = 20
MOST_DETAILS = 40
MOST_FINDINGS = 100
MOST_KINDS = 30
MOST_EDGES = 100

SMALL = Sheet("small", 176, 0, 0, 30, 0, 260, 6.0)
"""The picture of one journey."""

NO_FIGURES = Figures(0, 0, 0, None, None)


def html_report(history: History, verdict: Verdict, command: str) -> str:
    """The whole page; `command` repeats the run."""
    summary = Summary(history, verdict)
    dots = dots_of(summary, history.requests)
    parts = stretches(dots)
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            verdict=verdict,
            command=command,
            expectations=wording.worst_first(verdict.expectations)[:MOST_FINDINGS],
            left_out=max(0, len(verdict.expectations) - MOST_FINDINGS),
            pictures=[draw_picture(summary, dots, parts, sheet) for sheet in (WIDE, NARROW)],
            drawings=[draw_topology(summary, layout) for layout in (ACROSS, DOWN)],
            struck=struck_by_faults(summary),
            journeys=_journeys(summary, dots),
            journeys_left_out=max(0, len(verdict.journeys) - MOST_JOURNEYS),
            failures=_failures(summary),
            parts=[(phase_at(summary, (part.begin + part.end) / 2), part) for part in parts],
            requests=len(history.requests),
            edges=edge_table(summary),
            data=_for_script(summary, parts),
        )
    )


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    style, script = (_own_text(name) for name in ("report.css", "report.js"))
    environment.globals.update(
        style=style,
        script=script,
        policy=_policy(style, script),
        sign=wording.sign,
        verdict_signs=wording.VERDICT_SIGNS,
        gauge=gauge,
        gauge_width=WIDTH,
        MOST_DETAILS=MOST_DETAILS,
        MOST_EDGES=MOST_EDGES,
    )
    environment.filters.update(
        clean=clean,
        drawn=Markup,
        ms=wording.milliseconds,
        duration=wording.duration,
        moment=wording.moment,
        percent=wording.percent,
        thousands=wording.thousands,
    )
    return environment


TEMPLATES = Path(__file__).parent / "templates"


def _own_text(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - the project's own


def _policy(style: str, script: str) -> Markup:
    """What a browser may do with the page: take its one style and its one script, by their digests, and nothing else."""
    digests = [base64.b64encode(sha256(text.encode()).digest()).decode() for text in (style, script)]
    allowed = [f"{kind}-src 'sha256-{digest}'" for kind, digest in zip(("style", "script"), digests, strict=True)]
    return Markup("; ".join(("default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'")))  # noqa: S704


def _harmless(value: Any) -> Any:
    """Whatever a template writes: foreign text loses what is harmful and too much, places lose needless figures."""
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    if isinstance(value, str) and not isinstance(value, Markup):
        return clean(value, 2000)
    return value


@dataclass(frozen=True, slots=True)
class JourneyRow:
    """A journey with its small picture."""

    figures: JourneyFigures
    baseline: Figures
    fault: Figures
    recovery: Figures
    requests: int
    bands: tuple[tuple[float, float], ...]
    dots: dict[Answer, str]


def _journeys(summary: Summary, dots: Dots) -> list[JourneyRow]:
    """The rows of the table; those that felt the fault come first only where not all have room."""
    order = {"failed": 0, "fallback": 1, "slower": 2, "nothing": 3}
    judged = list(summary.verdict.journeys)
    if len(judged) > MOST_JOURNEYS:
        judged = sorted(judged, key=lambda row: order[row.felt])[:MOST_JOURNEYS]
    axis, scale = TimeAxis(SMALL, summary.until), log_scale(dots, 3, SMALL.latency_height - 3)
    bands = tuple((axis.x(begin), axis.x(end) - axis.x(begin)) for begin, end in summary.struck_time)
    rows = []
    for row in judged:
        mine = dots.chosen(summary.of_journey(row.journey))
        shown = sample(mine, SMALL.dots)
        paths = {answer: dot_path(shown, answer, axis, scale) for answer in ANSWERS}
        windows = [row.phases.get(phase, NO_FIGURES) for phase in ("baseline", "fault", "recovery")]
        baseline, fault, recovery = windows
        rows.append(JourneyRow(row, baseline, fault, recovery, len(mine), bands, paths))
    return rows


@dataclass(frozen=True, slots=True)
class FailureKind:
    """Requests of one journey that went wrong in the same way, and one of them."""

    journey: str
    outcome: str
    count: int
    first: float
    last: float
    example: Request


def _failures(summary: Summary) -> list[FailureKind]:
    """What went wrong, most frequent first."""
    requests = summary.history.requests
    failed = np.flatnonzero(~requests.ok)
    alike = np.stack([column[failed] for column in (requests.journey, requests.outcome, requests.status)]).astype(np.int64)
    numbers = (alike[0] << 32) + (alike[1] << 16) + alike[2]
    kinds, firsts, counts = np.unique(numbers, return_index=True, return_counts=True)
    found = []
    for kind in np.lexsort((firsts, -counts))[:MOST_KINDS]:
        first = requests[int(failed[firsts[kind]])]
        last = float(requests.due[failed[np.flatnonzero(numbers == kinds[kind])[-1]]])
        outcome = first.outcome.replace("_", " ") + (f" ({first.status})" if first.status else "")
        began, ended = summary.since(first.due), summary.since(last)
        found.append(FailureKind(summary.journey_of(first), outcome, int(counts[kind]), began, ended, first))
    return found


def _for_script(summary: Summary, parts: Sequence[Stretch]) -> Markup:
    """The stretches for the read-out, as JSON that cannot end its element."""
    rows = [
        [
            part.begin,
            phase_at(summary, (part.begin + part.end) / 2),
            wording.milliseconds(part.p50),
            wording.milliseconds(part.p95),
            *[part.count(answer) for answer in ANSWERS],
        ]
        for part in parts
    ]
    data = {"stride": parts[0].end - parts[0].begin if parts else 1, "until": summary.until, "rows": rows}
    text = json.dumps(data, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704
