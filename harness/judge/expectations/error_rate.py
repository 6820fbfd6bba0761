"""The share of requests that failed, against a limit."""

from __future__ import annotations

import numpy as np

from harness.history.history import Window
from harness.history.requests import OUTCOMES
from harness.history.table import Requests
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS, LONGER, MOST_EXAMPLES, Case
from harness.judge.rows import Heading, Row, against, finding, measure, nothing, surely_outside, told
from harness.judge.statistics import enough_for, p_value, point, wilson
from harness.judge.verdict import Finding, Outcome
from harness.model.expectations import EACH, ErrorRate

ALL = "all requests"


def judge_error_rate(name: str, expected: ErrorRate, case: Case) -> Finding:
    """Wilson's interval against `max`: of all journeys together, of one, or of each by itself."""
    during = expected.during or "fault"
    of = "" if expected.journey is None else f" of {'each journey' if expected.journey == EACH else expected.journey}"
    limit = told(f"at most {words.limit_share(expected.max)}", expected.method)
    heading = Heading(name, "error_rate", f"error rate{of} during {during}", limit)
    window = case.window(during)
    if hidden := case.hidden(during):
        return nothing(heading, f"only {hidden}", LONGER)
    if window is None:
        return nothing(heading, f"no window {during} was recorded")
    if expected.journey == EACH:
        journeys = sorted({*case.experiment.system.journeys, *case.groups(window)})
        groups: dict[str, Requests] = {journey: case.group(journey, window) for journey in journeys}
    else:
        groups = {expected.journey or ALL: case.group(expected.journey, window)}
    if during not in ("warmup", "baseline", "fault", "recovery"):
        groups = {journey: _met(group, window) for journey, group in groups.items()}
    rows = [_row(journey, group, expected, (case, during)) for journey, group in groups.items()]
    return finding(case, heading, surely_outside(rows))


def _met(group: Requests, window: Window) -> Requests:
    """Healing frees calls in flight, so those that were still open say nothing about the fault."""
    met = np.zeros(len(group), dtype=bool)
    for piece in window.pieces:
        met |= (piece.begin <= group.due) & (group.end <= piece.end)
    return group.at(met)


def _row(journey: str, group: Requests, expected: ErrorRate, place: tuple[Case, str]) -> Row:
    (case, during), limit = place, expected.max
    failed = group.at(~group.ok)
    if len(group) < FEWEST_REQUESTS:
        number = words.count(len(group), "request")
        return Row(
            journey,
            Outcome.INCONCLUSIVE,
            f"{len(failed)} of {number} failed",
            f"{number} of {journey} in {during}, at least {FEWEST_REQUESTS} are needed",
            case.more(during, len(group), FEWEST_REQUESTS, journey),
        )
    observed = len(failed) / len(group)
    seen = f"{words.share(observed)} of {len(group)} requests failed"
    share, p, sure = point(observed), None, ""
    if expected.method == "interval":
        share, sure = wilson(len(failed), len(group)), "surely "
        p = p_value(lambda z: wilson(len(failed), len(group), z), limit, "max")
        seen = f"{seen} {words.span(share.low, share.high)}"
    outcome = against(share, limit, "max")
    why, advice = "", ""
    if outcome is Outcome.FAILED:
        why = f"{sure}more than {words.limit_share(limit)} of {journey} failed: {_kinds(failed)}"
        advice = "look up the traces below in the services' logs"
    elif outcome is Outcome.INCONCLUSIVE:
        why = f"the interval of {journey} lies across the limit"
        advice = case.more(during, len(group), _needed(observed, limit, len(group)), journey)
    shown = measure("share", observed, share, limit, "max")
    return Row(journey, outcome, seen, why, advice, shown, tuple(failed[:MOST_EXAMPLES]), p=p)


def _needed(observed: float, limit: float, have: int) -> int:
    """About how many requests would decide at the share that was observed; where it lies on the limit, four times as many."""
    if observed == 0:
        return enough_for(limit)
    for factor in (1.5, 2, 3, 4):
        share = wilson(round(observed * have * factor), round(have * factor))
        if against(share, limit, "max") is not Outcome.INCONCLUSIVE:
            return round(have * factor)
    return have * 4


def _kinds(failed: Requests) -> str:
    """How they failed, most frequent first."""
    counts = {OUTCOMES[place]: int(number) for place, number in enumerate(np.bincount(failed.outcome)) if number}
    return words.several(
        [f"{number} {kind}" for kind, number in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))]
    )
