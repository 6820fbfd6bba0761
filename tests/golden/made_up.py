"""Verdicts written by hand over made-up histories: what the report is shown, whatever the judge says today."""

from __future__ import annotations

from dataclasses import replace

from harness.history.history import History
from harness.judge.verdict import EXIT_CODES, Figures, Finding, JourneyFigures, Measure, Outcome, Verdict, Word
from harness.report.series import quantile
from harness.report.summary import answer_of
from tests.histories.building import BEGAN, Story, tell
from tests.histories.shop import JOURNEYS

COMMAND = "chaos run scenarios/shipping_down.yaml --seed 7"
REPORT = "reports/shipping_down/latest/report.html"

CONTAINED = Finding(
    "blast-radius-1",
    "blast_radius",
    "blast radius stays with place order, track shipment",
    Outcome.PASSED,
    "worst: browse p95 ×1.1",
    "may ×2 or +100 ms",
    "2 journeys · 2 310 requests",
    measure=Measure("points", 0.002, -0.004, 0.021, 0.05, "max"),
    details=("browse: errors +0.0 points, p95 ×1.1", "read order: errors +0.0 points, p95 ×1.0"),
)
DEFERRED = Finding(
    "fallback-1",
    "fallback",
    "fallback shipping-deferred",
    Outcome.PASSED,
    "99.6 % of 486 orders",
    "at least 90 %",
    "486 requests · marker and counter agree",
    measure=Measure("share", 0.996, 0.985, 0.999, 0.9, "min"),
)
RECOVERED = Finding(
    "recovery-1",
    "recovery",
    "recovery",
    Outcome.PASSED,
    "0.08 s after healing, held 5 s",
    "within 10 s",
    "20 s watched",
    measure=Measure("seconds", 0.08, 0.08, 0.6, 10.0, "max"),
)
TOO_FEW = Finding(
    "invariant-1",
    "invariant",
    "every paid order is shipped or refunded",
    Outcome.INCONCLUSIVE,
    "38 rows looked at",
    "0 among at least 50 rows",
    "38 rows",
    "at least 50 are needed to say so",
    "raise load.rate, or phases.fault to 30s",
    Measure("rows", 0.0, 0.0, 3.5, 0.0, "max"),
)
BROKEN = Finding(
    "latency-1",
    "response_time",
    "p95 of place order stays under 50 ms while the fault lasts",
    Outcome.FAILED,
    "p95 131 ms of 486 requests",
    "at most 50 ms",
    "486 requests",
    "the whole interval lies above the limit",
    "look at the slowest requests below; order waits for shipping before it answers",
    Measure("seconds", 0.131, 0.118, 0.149, 0.05, "max"),
    (
        "POST /orders at 31.250 s: 212 ms, trace 000000000000000000000000000009c4",
        "POST /orders at 40.012 s: 190 ms, trace 00000000000000000000000000000c81",
        "order | WARNING shipping refused the connection, deferring",
    ),
)

PROOFS = (
    Finding("load", "load", "load arrived", Outcome.PASSED, "79.9 of 80 a second; lag p99 3 ms"),
    Finding("baseline", "baseline", "baseline was healthy", Outcome.PASSED, "0 errors in 1 280"),
    Finding("set", "set", "fault was set", Outcome.PASSED, "both edges read back"),
    Finding("bit", "bit", "it bit", Outcome.PASSED, "probe refused after 1 ms"),
    Finding("met", "met", "it met traffic", Outcome.PASSED, "647 requests and attempts"),
    Finding("healed", "healed", "it was healed", Outcome.PASSED, "probe answered after 0.06 s"),
)

SENTENCES: dict[Word, str] = {
    "passed": "Orders went on: 99.6 % were deferred, none failed, and all was well 0.1 s after healing.",
    "failed": "Orders went on, but their p95 was 131 ms while shipping was away; at most 50 ms were allowed.",
    "inconclusive": (
        "Orders went on: 99.6 % were deferred, none failed, and all was well 0.1 s after healing. "
        "Whether every paid order is shipped cannot be said from 38 rows."
    ),
    "halted": "Halted at 31 s, and healed: more than 60 % of all requests had failed for 5 s.",
    "interrupted": "Interrupted by SIGINT at 31 s, and healed; nothing can be said about the rest.",
    "error": "The run could not go on: service order did not come up.",
}


def story_journeys(history: History) -> tuple[JourneyFigures, ...]:
    """The figures of each journey in each phase."""
    rows = []
    for name, request_name in JOURNEYS.items():
        phases = {}
        for phase, window in history.phases.items():
            mine = [request for request in history.due_in(window.narrowed(2.0)) if request.journey == request_name]
            latencies = sorted(request.latency for request in mine)
            answers = [answer_of(request) for request in mine]
            quantiles = (quantile(latencies, 0.5), quantile(latencies, 0.95)) if latencies else (None, None)
            phases[phase] = Figures(len(mine), answers.count("failed"), answers.count("fallback"), *quantiles)
        felt = {"place order": "fallback", "track shipment": "failed"}.get(name, "nothing")
        rows.append(JourneyFigures(name, phases, felt if "fault" in phases else "nothing"))  # type: ignore[arg-type]
    return tuple(rows)


def made_up(word: Word, story: Story | None = None) -> tuple[History, Verdict]:
    """A run that came out this way; by default of the clean sample system."""
    history = tell(story or Story())
    expectations = {
        "passed": (CONTAINED, DEFERRED, RECOVERED),
        "failed": (CONTAINED, DEFERRED, BROKEN, RECOVERED, TOO_FEW),
        "inconclusive": (CONTAINED, DEFERRED, RECOVERED, TOO_FEW),
        "halted": (CONTAINED,),
        "interrupted": (),
        "error": (),
    }[word]
    verdict = Verdict(
        run="2026-09-21T123200-7f3a",
        scenario="shipping_down",
        question="Can customers still order when shipping refuses every connection?",
        word=word,
        sentence=SENTENCES[word],
        exit_code=EXIT_CODES[word],
        evidence=() if word in ("error", "interrupted") else PROOFS,
        expectations=expectations,
        journeys=story_journeys(history),
        marks=()
        if word in ("error", "interrupted")
        else (("first fallback", 25.06), ("good again", 45.08), ("all deferred shipped", 68.3)),
    )
    return history, verdict


def with_titles(verdict: Verdict, text: str) -> Verdict:
    """The same verdict with one text wherever a text can come from outside."""
    hostile = [
        replace(finding, title=text, seen=text, why=text, advice=text, limit=text, source=text, details=(text,) * 3)
        for finding in (*verdict.expectations, *verdict.evidence)
    ]
    return replace(
        verdict,
        scenario=text,
        question=text,
        sentence=text,
        run=text,
        expectations=tuple(hostile),
        evidence=tuple(hostile),
        journeys=tuple(replace(row, journey=text) for row in verdict.journeys),
        marks=tuple((text, at) for _, at in verdict.marks),
        left_behind=(text,),
    )


__all__ = ["BEGAN", "COMMAND", "REPORT", "made_up", "story_journeys", "with_titles"]
