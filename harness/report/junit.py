"""JUnit XML for machines that know nothing of chaos: a suite is a scenario, a test case an expectation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from xml.etree.ElementTree import Element, SubElement, fromstring, indent, tostring

from harness.history.history import History
from harness.judge.verdict import Finding, Outcome, Verdict
from harness.report.plain import clean
from harness.report.summary import Summary
from harness.report.wording import observed, worst_first

JUDGEABLE = "the run could be judged"
LONGEST = 4000


class Undecided(Enum):
    """What a machine is told about an expectation that nobody can decide."""

    SKIPPED = "skipped"
    FAILURE = "failure"


def junit_xml(history: History, verdict: Verdict, undecided: Undecided = Undecided.SKIPPED) -> str:
    """The suite; never empty, for the first case says whether the run could be judged at all."""
    summary = Summary(history, verdict)
    suite = Element("testsuite", name=_safe(verdict.scenario))
    properties = SubElement(suite, "properties")
    for name, value in (("run", verdict.run), ("seed", str(summary.seed)), ("verdict", verdict.word), ("where", summary.where)):
        SubElement(properties, "property", name=name, value=_safe(value))
    for warning in verdict.warnings:
        SubElement(properties, "property", name="note", value=_safe(warning))
    _judgeable(suite, summary, undecided)
    for finding in verdict.expectations:
        case = _case(suite, verdict, f"{finding.title} ({finding.id})", 0.0)
        _outcome(case, finding, undecided)
    said = [_safe(verdict.sentence), *(f"note: {_safe(warning)}" for warning in verdict.warnings)]
    SubElement(suite, "system-out").text = "\n".join(said)
    suites = Element("testsuites", name="chaos")
    suites.append(suite)
    for element in (suites, suite):
        for kind, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            element.set(kind, str(sum(1 for _ in suite.iter(tag))))
        element.set("time", f"{summary.seconds:.3f}")
    suite.set("timestamp", datetime.fromtimestamp(summary.began_at, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suites, encoding="unicode") + "\n"


def _safe(text: str) -> str:
    """XML has no place for control characters, whatever they are written as."""
    return clean(text, LONGEST)


def _case(suite: Element, verdict: Verdict, name: str, seconds: float) -> Element:
    return SubElement(suite, "testcase", classname=_safe(verdict.scenario), name=_safe(name), time=f"{seconds:.3f}")


def _judgeable(suite: Element, summary: Summary, undecided: Undecided) -> None:
    """One case for the run itself: that it came to its end, and that its evidence is there."""
    verdict = summary.verdict
    case = _case(suite, verdict, JUDGEABLE, summary.seconds)
    if verdict.word in ("error", "interrupted"):
        SubElement(case, "error", message=_safe(verdict.sentence), type=verdict.word).text = _troubles(summary)
    elif verdict.word == "halted":
        SubElement(case, "failure", message=_safe(verdict.sentence), type="halted").text = _troubles(summary)
    else:
        weakest = next(iter(worst_first(verdict.evidence)), None)
        if weakest is not None and weakest.outcome is not Outcome.PASSED:
            _mark(case, weakest, undecided.value)
        elif weakest is None:
            SubElement(case, undecided.value, message="the run left no evidence")


def _troubles(summary: Summary) -> str:
    return "\n".join(_safe(line) for title, log in summary.troubles for line in (title, *log))


def _outcome(case: Element, finding: Finding, undecided: Undecided) -> None:
    if finding.known:
        _mark(case, finding, "skipped")
    elif finding.outcome is Outcome.FAILED:
        _mark(case, finding, "failure")
    elif finding.outcome is Outcome.INCONCLUSIVE:
        _mark(case, finding, undecided.value)
    else:
        SubElement(case, "system-out").text = _safe(observed(finding))


def _mark(case: Element, finding: Finding, tag: str) -> None:
    """What was seen against the limit as the message; why, what to do and the details under it."""
    message = f"known failure, {finding.known}: {observed(finding)}" if finding.known else observed(finding)
    mark = SubElement(case, tag, message=_safe(message))
    if tag == "failure":
        mark.set("type", finding.outcome.word)
    lines = [finding.why, f"→ {finding.advice}" if finding.advice else "", *finding.details]
    mark.text = "\n".join(_safe(line) for line in lines if line)


def joined(documents: Sequence[str]) -> str:
    """One document with the suites of several."""
    suites = Element("testsuites", name="chaos")
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    seconds = 0.0
    for document in documents:
        for suite in fromstring(document.partition("?>")[2]):  # noqa: S314 - written by junit_xml
            suites.append(suite)
            totals = {name: total + int(suite.get(name, "0")) for name, total in totals.items()}
            seconds += float(suite.get("time", "0"))
    for name, total in totals.items():
        suites.set(name, str(total))
    suites.set("time", f"{seconds:.3f}")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suites, encoding="unicode") + "\n"
