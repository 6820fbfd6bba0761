"""What stands in the terminal at the end of a run: every expectation, what to do next, how to run it again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.text import Text

from harness.history.history import History
from harness.judge.verdict import Finding, Outcome, Verdict, Word
from harness.report.plain import clean
from harness.report.summary import Summary
from harness.report.wording import duration, observed, sign, worst_first

STYLES: dict[Outcome, str] = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.INCONCLUSIVE: "magenta"}
KNOWN_STYLE = "yellow"

VERDICT_STYLES: dict[Word, str] = {
    "passed": "bold green",
    "failed": "bold red",
    "inconclusive": "bold magenta",
    "halted": "bold red",
    "interrupted": "bold magenta",
    "error": "bold red",
}

INDENT = "    "
SIDE_BY_SIDE = 100
"""From this width on what was seen stands beside what was expected, not under it."""

MOST_DETAILS = 6
DETAILS: dict[Outcome, int] = {Outcome.PASSED: 0, Outcome.INCONCLUSIVE: 2, Outcome.FAILED: MOST_DETAILS}

_BEFORE_A_UNIT = re.compile(r"(?<=\d) (?=(?:ms|s|min|%|points|rows|requests)(?:\W|$))|(?<=[→·]) ")
NARROWEST = 40


def text_report(history: History, verdict: Verdict, report_path: str, command: str, *, width: int = 100) -> list[Text]:
    """The lines to print, none wider than `width` except for words that are; plain when printed without colour."""
    width = max(NARROWEST, width)
    lines = [*_wrapped(f"{clean(verdict.scenario)} · {clean(verdict.question)}", width, ""), Text()]
    lines += _findings(verdict.expectations, width)
    lines += _troubles(Summary(history, verdict), width)
    lines += [*_evidence(verdict.evidence, width), Text()]
    lines += _wrapped(clean(verdict.sentence), width, "")
    for warning in verdict.warnings:
        lines += _wrapped(f"note: {clean(warning)}", width, "", "yellow")
    for told in verdict.stop_conditions:
        lines += _wrapped(f"stop condition {clean(told)}", width, "")
    if verdict.left_behind:
        left = ", ".join(map(clean, verdict.left_behind))
        lines += _wrapped(f"left behind on this machine: {left}; chaos gc removes it", width, "", "bold red")
    lines += [Text(), *_last(history, verdict, (f"report {report_path}", f"again: {command}"), width)]
    return lines


def _findings(findings: tuple[Finding, ...], width: int) -> Iterator[Text]:
    """Each expectation with what was seen beside it, or under it where there is no room; the worst nearest to the prompt."""
    room = (width - 6) * 9 // 20
    column = min(room, max((cell_len(clean(finding.title)) for finding in findings), default=0))
    indent = INDENT if width < SIDE_BY_SIDE else INDENT + " " * (column + 2)
    told = set()
    for finding in sorted(findings, key=lambda finding: (finding.counts_as, finding.known != "")):
        yield from _heading(finding, column, width)
        if (finding.why, finding.advice) in told:
            yield Text(f"{indent}for the same reason", "dim")
        else:
            yield from _reasons(finding, width, indent)
        if finding.outcome is not Outcome.PASSED:
            told.add((finding.why, finding.advice))
        for detail in finding.details[: DETAILS[finding.outcome] if not finding.known else 1]:
            yield from _wrapped(clean(detail, 300), width, INDENT + "  ", "dim")
    if findings:
        yield Text()


def _heading(finding: Finding, column: int, width: int) -> Iterator[Text]:
    mark = Text.assemble("  ", (sign(finding), _style(finding)), " ")
    seen = observed(finding)
    if width < SIDE_BY_SIDE:
        for number, line in enumerate(_wrapped(clean(finding.title), width - 4, "")):
            yield (mark if number == 0 else Text(INDENT)) + line
        yield from _wrapped(seen, width, INDENT, "dim")
        return
    titles = list(_wrapped(clean(finding.title), column, ""))
    sights = list(_wrapped(seen, width - column - 6, ""))
    for number in range(max(len(titles), len(sights))):
        left = titles[number] if number < len(titles) else Text()
        right = sights[number] if number < len(sights) else Text()
        gap = " " * (column - left.cell_len + 2) if right.plain else ""
        yield (mark if number == 0 else Text(INDENT)) + left + Text(gap) + right


def _style(finding: Finding) -> str:
    return KNOWN_STYLE if finding.known else STYLES[finding.outcome]


def _reasons(finding: Finding, width: int, indent: str) -> Iterator[Text]:
    """Why it did not pass, and what to do next."""
    if finding.why and finding.why != finding.seen:
        yield from _wrapped(clean(finding.why), width, indent)
    if finding.advice:
        for number, line in enumerate(_wrapped(clean(finding.advice), width - len(indent) - 2, "")):
            yield Text.assemble(indent, ("→ " if number == 0 else "  ", _style(finding)), line)


def _troubles(summary: Summary, width: int) -> Iterator[Text]:
    """What ended by itself, with its last words."""
    for title, log in summary.troubles[:MOST_DETAILS]:
        yield from _wrapped(f"! {clean(title)}", width, "  ", "bold red")
        for line in log[-MOST_DETAILS:]:
            yield from _wrapped(clean(line, 300), width, INDENT, "dim")
    if summary.troubles:
        yield Text()


def _evidence(proofs: tuple[Finding, ...], width: int) -> Iterator[Text]:
    """One line for the proofs that are there; each that is missing has its own, with what to do."""
    held = [proof for proof in proofs if proof.outcome is Outcome.PASSED]
    line = " · ".join(f"{clean(proof.title, 120)}: {clean(proof.seen, 200)}" for proof in held) or "none"
    for number, text in enumerate(_wrapped(line, width - 12, "", "dim")):
        yield Text.assemble("  evidence  " if number == 0 else " " * 12) + text
    for proof in worst_first(proofs):
        if proof.outcome is not Outcome.PASSED:
            yield from _heading(proof, min(40, (width - 6) // 2), width)
            yield from _reasons(proof, width, INDENT)


def _last(history: History, verdict: Verdict, pieces: Iterable[str], width: int) -> list[Text]:
    """The answer, and where to go from here: on one line where it fits, else one line each."""
    word = Text(verdict.word.upper(), VERDICT_STYLES[verdict.word])
    first = word + Text(f" in {duration(Summary(history, verdict).seconds)}")
    rest = [clean(piece, 1000) for piece in pieces]
    one = first + Text("".join(f" · {piece}" for piece in rest))
    return [one] if one.cell_len <= width else [first, *(Text(f"  {piece}") for piece in rest)]


def _wrapped(text: str, width: int, indent: str, style: str = "") -> Iterator[Text]:
    """The text in lines, broken between words, never before a unit; a word that is too long stays whole, to be copied."""
    room = max(10, width - len(indent))
    line = ""
    for word in _BEFORE_A_UNIT.sub("\N{NO-BREAK SPACE}", text).split(" "):
        longer = f"{line} {word}" if line else word
        if line and cell_len(longer) > room:
            yield Text(indent) + Text(line.replace("\N{NO-BREAK SPACE}", " "), style)
            line = word
        else:
            line = longer
    yield Text(indent) + Text(line.replace("\N{NO-BREAK SPACE}", " "), style)
