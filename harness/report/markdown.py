"""The verdict as Markdown, for the summary page of a CI job; small enough for a comment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from harness.history.history import History
from harness.judge.verdict import Figures, Finding, JourneyFigures, Outcome, Verdict
from harness.report.plain import clean
from harness.report.summary import Summary
from harness.report.wording import SIGNS, VERDICT_SIGNS, duration, milliseconds, observed, percent, sign, worst_first

ROWS = (40, 12, 4)
"""Rows of a table: the first number of them with which all stays small."""

LARGEST = 55_000
"""A comment holds 64 kB; a step summary that is too large is dropped as a whole."""

MOST_DETAILS = 5
LONGEST = 240

_MEANT = re.compile(r"[\\`*_{}\[\]<>()#+!|~&$@^\"']|://|(?<=www)\.|^(?:\d+[.)](?=\s|$)|[-=])", re.IGNORECASE)
_NOTHING = Figures(0, 0, 0, None, None)


def markdown_summary(history: History, verdict: Verdict, command: str) -> str:
    """Verdict, expectations, evidence and journeys, with as many rows as there is room for."""
    summary = Summary(history, verdict)
    for rows in ROWS:
        told = _told(summary, command, rows)
        if len(told.encode()) < LARGEST:
            break
    return told


def _told(summary: Summary, command: str, rows: int) -> str:
    verdict = summary.verdict
    parts = [
        f"## {VERDICT_SIGNS[verdict.word]} {escaped(verdict.scenario, 120)}: {verdict.word}",
        f"**{escaped(verdict.question)}**",
        escaped(verdict.sentence),
        *_warnings(verdict, rows),
        "\n".join(f"- Stop condition {escaped(told)}" for told in verdict.stop_conditions[:rows]),
        *_left_behind(verdict, rows),
        "\n".join(_findings(verdict.expectations, rows)) or "Nothing was judged.",
        "\n".join(_troubles(summary)),
        _folded("Evidence", _proofs(verdict.evidence, rows)),
        _folded("By journey", _journeys(verdict.journeys, rows)),
        f"{duration(summary.seconds)} · {escaped(summary.where)} · seed {summary.seed} · run {escaped(verdict.run, 80)}",
        f"Again: {_code(command)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str, longest: int = LONGEST) -> str:
    """Text that means itself: what Markdown, HTML or the page around it would read into it is an entity; nobody is called."""
    harmless = _MEANT.sub(lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), clean(text, longest))
    return harmless.replace("&#64;", "&#64;&#8203;")


def _code(text: str) -> str:
    """Code in a fence longer than any in it; on one line, so that it stays inside."""
    inside = clean(text, 400)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", inside)), default=0))
    return f"{fence} {inside} {fence}" if "`" in inside else f"`{inside}`"


def _warnings(verdict: Verdict, rows: int) -> Iterator[str]:
    if verdict.warnings:
        yield "\n".join(f"- **Note:** {escaped(warning)}" for warning in verdict.warnings[:rows])


def _left_behind(verdict: Verdict, rows: int) -> Iterator[str]:
    if verdict.left_behind:
        yield f"**Left behind:** {', '.join(escaped(undo, 120) for undo in verdict.left_behind[:rows])}; chaos gc removes it"


def _findings(findings: tuple[Finding, ...], rows: int) -> Iterator[str]:
    if not findings:
        return
    yield "| | expected | seen | from |\n|---|---|---|---|"
    ordered = worst_first(findings)
    for finding in ordered[:rows]:
        seen = escaped(observed(finding))
        if finding.outcome is not Outcome.PASSED:
            known = finding.details[:1] if finding.known else ()
            said = [*known, finding.why if finding.why != finding.seen else "", f"→ {finding.advice}" if finding.advice else ""]
            seen += "".join(f"<br>{escaped(line)}" for line in said if line)
        yield f"| {sign(finding)} | {escaped(finding.title)} | {seen} | {escaped(finding.source, 80)} |"
    if len(ordered) > rows:
        yield f"| | {len(ordered) - rows} more in verdict.json | | |"
    for finding in ordered[:MOST_DETAILS]:
        if finding.counts_as is Outcome.FAILED and finding.details:
            yield ""
            yield f"{escaped(finding.title)}:"
            yield ""
            yield from (f"- {escaped(line)}" for line in finding.details[:MOST_DETAILS])


def _troubles(summary: Summary) -> Iterator[str]:
    for title, log in summary.troubles[:MOST_DETAILS]:
        yield f"- {escaped(title)}"
        yield from (f"  - {escaped(line)}" for line in log[-MOST_DETAILS:])


def _proofs(proofs: tuple[Finding, ...], rows: int) -> Iterator[str]:
    for proof in worst_first(proofs)[:rows]:
        yield f"- {SIGNS[proof.outcome]} {escaped(proof.title, 120)}: {escaped(proof.seen)}"
        if proof.outcome is not Outcome.PASSED and proof.advice:
            yield f"  - → {escaped(proof.advice)}"


def _journeys(journeys: tuple[JourneyFigures, ...], rows: int) -> Iterator[str]:
    if not journeys:
        return
    yield "| journey | baseline p50 / p95 ms | fault | recovery | errors in fault | fallbacks |\n|---|--:|--:|--:|--:|--:|"
    for row in journeys[:rows]:
        windows = [row.phases.get(phase, _NOTHING) for phase in ("baseline", "fault", "recovery")]
        latencies = " | ".join(f"{milliseconds(figures.p50)} / {milliseconds(figures.p95)}" for figures in windows)
        fault = windows[1]
        shares = " | ".join(
            percent(count / fault.requests) if fault.requests else "–" for count in (fault.errors, fault.fallbacks)
        )
        yield f"| {escaped(row.journey, 80)} | {latencies} | {shares} |"
    if len(journeys) > rows:
        yield f"| {len(journeys) - rows} more in verdict.json | | | | | |"


def _folded(title: str, lines: Iterable[str]) -> str:
    inside = "\n".join(lines)
    return f"<details><summary>{title}</summary>\n\n{inside}\n\n</details>" if inside else ""
