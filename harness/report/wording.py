"""Signs, words and numbers, the same in every way a run is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import assert_never

from harness.judge.verdict import Finding, Measure, Outcome, Word
from harness.report.plain import clean

SIGNS: dict[Outcome, str] = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.INCONCLUSIVE: "?"}
KNOWN_SIGN = "~"

VERDICT_SIGNS: dict[Word, str] = {
    "passed": "✓",
    "failed": "✗",
    "inconclusive": "?",
    "halted": "■",
    "interrupted": "‖",
    "error": "!",
}


def duration(seconds: float) -> str:
    """A latency or a stretch, with as many figures as one reads: 3 ms, 0.25 s, 12 s, 2 min 5 s."""
    size = abs(seconds)
    if size < 0.00095:
        return f"{seconds * 1000:.1f} ms" if size else "0 s"
    if size < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if size < 9.95:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    if size < 119.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def milliseconds(seconds: float | None) -> str:
    """A latency as a bare number of milliseconds, for columns that say so above."""
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.1f}" if seconds < 0.00095 else thousands(round(seconds * 1000))


def thousands(number: int) -> str:
    """A whole number with a thin space where one reads thousands."""
    return f"{number:,}".replace(",", "\u202f")


def percent(share: float) -> str:
    """A share in per cent; never 0 where there was one, never 100 where one was missing."""
    value = share * 100
    if 0 < value < 0.05:
        return "<0.1 %"
    if 99.95 <= value < 100:
        return "99.9 %"
    return f"{value:.1f} %"


def amount(measure: Measure, value: float) -> str:
    """A value in the unit of a measure."""
    match measure.unit:
        case "share":
            return f"{value * 100:.3g} %"
        case "points":
            return f"{value * 100:+.3g} points"
        case "seconds":
            return duration(value)
        case "ratio":
            return f"×{value:.3g}"
        case "rows":
            return f"{value:g}"
        case _:
            assert_never(measure.unit)


def interval(measure: Measure) -> str:
    """The 95 % interval in words, its unit said once; empty where there is none, or nothing but the value itself."""
    low, high = measure.low, measure.high
    if low is None or high is None or low == high:
        return ""
    match measure.unit:
        case "share":
            return f"{low * 100:.1f} to {high * 100:.1f} %"
        case "points":
            return f"{low * 100:+.1f} to {high * 100:+.1f} points"
        case "ratio":
            return f"×{low:.2f} to ×{high:.2f}"
        case "seconds" | "rows":
            return f"{amount(measure, low)} to {amount(measure, high)}"
        case _:
            assert_never(measure.unit)


def limit(measure: Measure) -> str:
    """The limit of a measure in words."""
    side = "at most" if measure.bound == "max" else "at least"
    return f"{side} {amount(measure, measure.limit)}"


def sign(finding: Finding) -> str:
    """The sign of a finding; a failure that is known has its own."""
    return KNOWN_SIGN if finding.known else SIGNS[finding.outcome]


def observed(finding: Finding) -> str:
    """What was seen, its interval where that is not said already, and the limit."""
    between = interval(finding.measure) if finding.measure and "[" not in finding.seen else ""
    parts = [clean(finding.seen) + (f" [{between}]" if between else ""), clean(finding.limit)]
    return ", ".join(part for part in parts if part)


def worst_first(findings: tuple[Finding, ...]) -> list[Finding]:
    """Failed ones, then inconclusive, known and passed ones, each in the order they were written."""
    return sorted(findings, key=lambda finding: (-finding.counts_as, not finding.known))


def moment(at: float) -> str:
    """A date and a time of day, the same on every machine."""
    return f"{datetime.fromtimestamp(at, UTC):%-d %b %Y, %H:%M} UTC"
