"""The damage stays with the journeys named: every other is in the fault phase as it was in the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS, LONGER, MOST_EXAMPLES, Case
from harness.judge.comparison import SHARES, Comparison, Quantile, margins_of, slower
from harness.judge.doubts import arrivals_planned
from harness.judge.rows import Heading, Row, against, finding, measure, nothing, strain, surely_outside, told, worst_of
from harness.judge.statistics import BLOCK_SECONDS, FEWEST_BLOCKS, Change, enough_for
from harness.judge.verdict import Finding, Measure, Outcome
from harness.model.expectations import BlastRadius, Margins
from harness.model.load import GUARD_SECONDS
from harness.model.parts import LatencyMargin

NEEDED_FOR_P95 = 72
"""With fewer requests nothing bounds a p95 above."""

STARVED = 0.5
"""A journey that was tried less than half as often as in the baseline has lost volume: what is left says little."""

STRETCHED = 1.5
"""By how much to lengthen a window whose latency could not be told."""


def judge_blast_radius(name: str, expected: BlastRadius, case: Case) -> Finding:
    """Each journey against itself in the baseline; `may_degrade` is judged by errors alone, `may_fail` not at all."""
    margins = margins_of(expected.worse_by, case.experiment.margins)
    may_degrade, may_fail = ([case.plain(name) for name in names] for names in (expected.may_degrade, expected.may_fail))
    named = words.several([*may_degrade, *may_fail])
    title = f"blast radius stays with {named}" if named else "no journey is worse than in the baseline"
    heading = Heading(name, "blast_radius", title, told(f"may {words.margin(margins.p95)}", expected.method))
    before, during = case.judged("baseline"), case.judged("fault")
    if hidden := case.hidden("fault"):
        return nothing(heading, f"only {hidden}", LONGER)
    if before is None or during is None:
        missing = "baseline" if before is None else "fault"
        return nothing(heading, f"no {missing} phase longer than its guards was recorded")
    journeys = sorted({*case.experiment.system.journeys, *case.groups(before), *case.groups(during)})
    judged = [journey for journey in journeys if journey not in may_fail]
    number = max(1, len(judged) * (1 + len(SHARES)))
    compared = {journey: Comparison(case, journey, (before, during), expected.method, number) for journey in journeys}
    rows = [row for journey in judged for row in _parts(compared[journey], margins, latency=journey not in may_degrade)]
    rows = surely_outside(rows)
    whole = [
        _whole(compared[journey], [row for row in rows if row.subject == journey], latency=journey not in may_degrade)
        for journey in judged
    ]
    aside = [f"{journey}: {_errors_seen(compared[journey])} (it may fail)" for journey in journeys if journey in may_fail]
    return finding(case, heading, whole, aside=aside)


def _parts(comparison: Comparison, margins: Margins, *, latency: bool) -> list[Row]:
    """One journey: where it was tried in both windows its errors and, unless it may degrade, its latency."""
    if not all(comparison.numbers):
        return [_untried(comparison)]
    rows = [*_starved(comparison), _errors(comparison, margins.error_rate)]
    if latency:
        rows += [_latency(comparison, name, getattr(margins, name)) for name in SHARES]
    return rows


def _whole(comparison: Comparison, rows: Sequence[Row], *, latency: bool) -> Row:
    """A journey as one row: the worst of its parts, and what was seen of all of them."""
    if not all(comparison.numbers):
        return rows[0]
    worst = worst_of(rows)
    line = words.several([(row.line or row.seen).removeprefix(f"{comparison.journey} ") for row in rows])
    return replace(
        worst,
        subject=comparison.journey,
        seen=f"worst: {worst.seen}",
        line=line if latency else f"{line} (it may degrade)",
    )


def _untried(comparison: Comparison) -> Row:
    before, during = comparison.numbers
    journey = comparison.journey
    if before == 0:
        why, advice = f"{journey} was never tried in the baseline", f"let the load hold {journey}, or take it out of journeys"
    else:
        why, advice = f"{journey} was not tried any more under the fault", "see what keeps its users from trying it"
    advice = comparison.case.grouping(journey) or advice
    seen = f"{journey} tried {before} times in the baseline, {during} times under the fault"
    return Row(journey, Outcome.INCONCLUSIVE, seen, why, advice, line=seen)


def _starved(comparison: Comparison) -> list[Row]:
    """A journey may also be lost by being tried less, where it begins with what another journey left."""
    during, usual = comparison.numbers[1], _expected(comparison)
    if during >= STARVED * usual:
        return []
    seen = f"{comparison.journey} tried {during} times, {usual:.0f} usual"
    few = "see what keeps its users from trying it: the figures are those of the few who could"
    advice = comparison.case.grouping(comparison.journey) or few
    return [Row(comparison.journey, Outcome.INCONCLUSIVE, seen, f"{seen}: its volume was lost", advice)]


def _expected(comparison: Comparison) -> float:
    """As often as in the baseline: by the arrivals that were planned, or by time, where the closed model plans none."""
    first, second = (arrivals_planned(comparison.case, window) or window.seconds for window in comparison.windows)
    return comparison.numbers[0] * second / first


def _errors_seen(comparison: Comparison) -> str:
    return f"errors {words.points(comparison.errors[0])}" if all(comparison.numbers) else "not tried in both windows"


def _errors(comparison: Comparison, margin: float) -> Row:
    journey, case = comparison.journey, comparison.case
    rise, interval = comparison.errors
    fewest = min(comparison.numbers)
    if comparison.method == "point" and fewest < FEWEST_REQUESTS:
        return _too_few(comparison, "errors", FEWEST_REQUESTS)
    outcome = against(interval, margin, "max")
    why, advice = "", ""
    if outcome is Outcome.FAILED:
        sure = "" if comparison.method == "point" else "surely "
        why = f"{journey} fails more often than in the baseline by {sure}more than {margin * 100:g} points"
        advice = f"look at what {journey} calls: the traces below lead there"
    elif outcome is Outcome.INCONCLUSIVE:
        why = f"{words.count(fewest, 'request')} of {journey} cannot show that errors rose by at most {margin * 100:g} points"
        advice = case.more("fault", fewest, max(enough_for(margin), round(fewest * STRETCHED)), journey)
    during = comparison.groups[1]
    failed = tuple(during.at(~during.ok)[:MOST_EXAMPLES])
    seen = f"{journey} errors {words.points(rise)}"
    limit = told(f"may +{margin * 100:g} points", comparison.method)
    p = comparison.p_of_errors(margin) if comparison.method == "interval" else None
    return Row(journey, outcome, seen, why, advice, measure("points", rise, interval, margin, "max"), failed, limit, p=p)


def _too_short(comparison: Comparison, name: Quantile) -> tuple[str, str]:
    """Which window lacks blocks, and what lengthens it; more requests would not help."""
    needed = FEWEST_BLOCKS * BLOCK_SECONDS
    short = [
        phase for phase, window in zip(("baseline", "fault"), comparison.windows, strict=True) if window.seconds < needed - 0.1
    ]
    seconds = min(window.seconds for window in comparison.windows)
    why = f"{words.seconds(seconds)} between the guards cannot show the {name} of {comparison.journey}, {needed:g}s are needed"
    levers = [f"phases.{phase}" for phase in short]
    levers += ["the fault's for:"] if "fault" in short else []
    return why, f"raise {words.several(levers)} to at least {needed + 2 * GUARD_SECONDS:g}s"


def _latency(comparison: Comparison, name: Quantile, allowed: LatencyMargin) -> Row:
    journey, case = comparison.journey, comparison.case
    fewest = min(comparison.numbers)
    surely = comparison.method == "interval"
    if surely and not comparison.has_blocks:
        why, advice = _too_short(comparison, name)
        return Row(journey, Outcome.INCONCLUSIVE, f"{journey} {name} unknown", why, advice)
    needed = NEEDED_FOR_P95 if surely else FEWEST_REQUESTS
    if fewest < needed:
        return _too_few(comparison, name, needed)
    change = comparison.changes[name]
    outcome = slower(change, allowed)
    seen = f"{journey} {name} {words.times(change.times)}"
    why, advice = "", ""
    if outcome is Outcome.FAILED:
        rise = f"from {words.seconds(change.first)} to {words.seconds(change.second)}"
        why = f"{journey} {name} went {rise}, {'surely ' if surely else ''}more than {words.margin(allowed)}"
        advice = f"see what {journey} waits for: the traces below lead there"
    elif outcome is Outcome.INCONCLUSIVE:
        why = f"the interval of the {name} of {journey} lies across the limit"
        advice = case.more("fault", fewest, round(fewest * STRETCHED), journey)
    _, shown = min(_measures(change, allowed), key=lambda found: (found[0], strain(found[1])))
    full = f"{seen} ({words.rise(change.plus)})" if shown.unit == "seconds" else seen
    limit = told(f"may {words.margin(allowed)}", comparison.method)
    p = comparison.p_of_slower(name, allowed) if surely else None
    return Row(journey, outcome, full, why, advice, shown, case.slowest(comparison.groups[1]), limit, seen, p)


def _too_few(comparison: Comparison, what: str, needed: int) -> Row:
    """So few requests show nothing of what was asked."""
    fewest, journey = min(comparison.numbers), comparison.journey
    phase = "baseline" if fewest == comparison.numbers[0] else "fault"
    why = f"{words.count(fewest, 'request')} of {journey} in the {phase} cannot show its {what}, {needed} are needed"
    advice = comparison.case.more(phase, fewest, needed, journey)
    return Row(journey, Outcome.INCONCLUSIVE, f"{journey} {what} unknown", why, advice)


def _measures(change: Change, allowed: LatencyMargin) -> Iterator[tuple[Outcome, Measure]]:
    """Both parts of a margin; the one that allows more decides, and is shown."""
    if allowed.relative is not None:
        shown = measure("ratio", change.times, change.ratio, 1 + allowed.relative, "max")
        yield against(change.ratio, shown.limit, "max"), shown
    if allowed.absolute is not None:
        shown = measure("seconds", change.plus, change.difference, allowed.absolute, "max")
        yield against(change.difference, shown.limit, "max"), shown
