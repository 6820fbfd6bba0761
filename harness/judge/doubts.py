"""What may have made a window other than the system: a load that was late, a baseline that drifted, a busy machine.

Every rule gives doubts about one window, each with the seconds concerned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, floor, sqrt

import numpy as np

from harness.history.events import MachineSeen
from harness.history.history import Window, together
from harness.history.table import DROPPED, Mask, Requests, Times
from harness.judge import words
from harness.judge.case import FEWEST_REQUESTS, Case
from harness.judge.statistics import quantile
from harness.judge.usual import Usual
from harness.model.expectations import Margins

MOST_SHIFT = 0.3
"""By how much of the whole machine the share of other programs may differ between the windows compared."""

CROWDED = 0.6
"""The share of the machine from which on others leave too little for a system to be quick, however busy they were before."""

LEAST_LOAD = 0.98
"""The share of the planned arrivals that must have been scheduled, recorded, and sent."""

MOST_LAG = 0.1
"""Seconds between due and sent, at the 99th percentile, beyond which a window measures the generator."""

THIN = 0.5
"""A second with less than this share of its planned arrivals is one in which the schedule was not kept."""

QUIETER = "run it again when nothing else is going on"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a window shows something other than the system. `seconds` are the seconds since the load began that show it."""

    why: str
    advice: str
    seconds: tuple[int, ...] = ()

    @property
    def told(self) -> str:
        """The reason, with the seconds concerned."""
        return f"{self.why}, {words.stretches(self.seconds)}" if self.seconds else self.why


# the load


def lag(due: Requests) -> float:
    """How long after they were due requests were sent, at the 99th percentile."""
    late = _lateness(due)
    return max(0.0, quantile(np.sort(late), 0.99)) if len(late) else 0.0


def _lateness(due: Requests) -> Times:
    sent = due.outcome != DROPPED
    late: Times = due.start[sent] - due.due[sent]
    return late


def load_doubts(case: Case, phase: str, window: Window) -> Iterator[Doubt]:
    """The load in a window was not the one that was planned: users ran out, requests went out late, or never came up."""
    due = case.history.due_in(window)
    users, dropped = case.experiment.load.users, due.outcome == DROPPED
    planned = arrivals_planned(case, window)
    if len(due) and due.sent < LEAST_LOAD * len(due):
        share = words.share(float(dropped.mean()))
        why = f"the {users} users ran out: {share} of the requests in the {phase} found none free to send them"
        yield Doubt(why, f"raise load.max_users to {2 * users}", _seconds(case, due.due[dropped]))
    elif lag(due) > MOST_LAG:
        yield _late(case, phase, window, due)
    if len(due) < fewest_arrivals(case, window):
        why = f"the schedule was not kept in the {phase}: {len(due)} of {planned:.0f} planned requests came up"
        advice = "run it on a machine that is less busy"
        advice += ", or see the tasks that sent none in the locustfile" if silent(case) else ""
        yield Doubt(why, advice, _thin_seconds(case, window, due))


def _late(case: Case, phase: str, window: Window, due: Requests) -> Doubt:
    users = case.experiment.load.users
    sent = due.at(due.outcome != DROPPED)
    seconds = _seconds(case, sent.due[_lateness(due) > MOST_LAG])
    why = f"requests in the {phase} were sent late (p99 {words.seconds(lag(due))}, at most {words.seconds(MOST_LAG)})"
    if _users_ran_out(case, window):
        return Doubt(f"{why}: all {users} users were waiting", f"raise load.max_users to {2 * users}", seconds)
    return Doubt(f"{why}: the machine was busy", "run it again on a machine that is less busy", seconds)


def _users_ran_out(case: Case, window: Window) -> bool:
    """Whether the load itself said, in this window, that no user was idle."""
    return any(note.get("idle_users") == 0 for note in vitals_in(case, window))


def vitals_in(case: Case, window: Window) -> list[Mapping[str, float]]:
    """What the load process said of itself in a window, once a second."""
    return [note for note in case.history.notes if note.get("load") == "vitals" and window.holds(note.get("at", 0.0))]


def arrivals_planned(case: Case, window: Window) -> float:
    """How many arrivals the open model plans for a window: the area under the rate's course; none in the closed one."""
    course = case.experiment.load.course
    if course is None:
        return 0.0
    return sum(
        course.arrivals_by(case.since_load(piece.end)) - course.arrivals_by(case.since_load(piece.begin))
        for piece in window.pieces
    )


def fewest_arrivals(case: Case, window: Window) -> float:
    """With fewer requests than this the schedule of a window was not kept.

    An arrival whose task sends several requests counts as often: this finds a load that stood still, no more. Of those
    whose task sent none, which are known by their number alone, a window has its share, and four standard deviations more.
    """
    number = arrivals_planned(case, window)
    usual = number * silent(case)
    return fewest_of(case, number) - usual - 4 * sqrt(usual) - len(window.pieces) - 1


def fewest_of(case: Case, number: float, deviations: float = 4.0) -> float:
    """How few of so many planned arrivals are enough: nearly all, or what random ones leave by chance."""
    scatter = deviations * sqrt(number) if case.experiment.load.arrivals == "poisson" else 0.0
    return min(LEAST_LOAD * number, number - scatter)


def silent(case: Case) -> float:
    """The share of all arrivals that sent no request."""
    said = [note for note in case.history.notes if note.get("load") == "finished"]
    silent, scheduled = (sum(note.get(key, 0) for note in said) for key in ("silent", "scheduled"))
    return silent / scheduled if scheduled else 0.0


def _thin_seconds(case: Case, window: Window, due: Requests) -> tuple[int, ...]:
    """The whole seconds of a window in which far fewer requests came up than were planned."""
    place = np.floor(due.due - case.history.began).astype(int)
    found = []
    for piece in window.pieces:
        first, last = ceil(case.since_load(piece.begin) - 1e-6), floor(case.since_load(piece.end) + 1e-6)
        for second in range(first, last):
            at = case.history.began + second
            if np.count_nonzero(place == second) < THIN * arrivals_planned(case, Window(at, at + 1.0)):
                found.append(second)
    return tuple(found)


def _seconds(case: Case, at: Times | Iterable[float]) -> tuple[int, ...]:
    """In which seconds since the load began these moments lie."""
    since = np.asarray(at, dtype=np.float64) - case.history.began
    return tuple(int(second) for second in np.unique(np.floor(since)))


# the baseline


def drift(case: Case, margins: Margins, spared: Iterable[str] = ()) -> tuple[Doubt, ...]:
    """Journeys of which one half of the baseline, or of its rounds, is surely worse than the other by more than the margins.

    Requests are taken as independent here, which they are not: so a drift is found rather too often than too seldom.
    """
    window = case.judged("baseline")
    if window is None:
        return ()
    return tuple(
        doubt
        for journey, group in case.groups(window).items()
        if journey not in spared
        for whose, early in _halves(window, group)
        for doubt in _drifted(case, (whose, journey), (group.at(early), group.at(~early)), margins)
    )


def _halves(window: Window, group: Requests) -> Iterator[tuple[str, Mask]]:
    """Which requests are of the first half of a window, and in several rounds which of the first half of their own.

    The halves of all rounds are taken together, as their requests are when they are compared: what a single round
    suffered weighs as much here as there.
    """
    yield "its", window.elapsed(group.due) < window.seconds / 2
    if window.parts:
        firsts = [(part.begin, part.begin + part.seconds / 2) for part in window.parts]
        yield "each round's", np.any([(begin <= group.due) & (group.due < end) for begin, end in firsts], axis=0)


def _drifted(case: Case, of: tuple[str, str], halves: tuple[Requests, Requests], margins: Margins) -> Iterator[Doubt]:
    (whose, journey), (first, second) = of, halves
    if min(len(first), len(second)) < FEWEST_REQUESTS:
        return
    for name, was, now in (("second", first, second), ("first", second, first)):
        trouble, _ = Usual(case, was, margins).trouble(now)
        if trouble:
            why = f"the baseline was not steady: in {whose} {name} half {journey} {trouble}"
            advice = "raise phases.warmup where the system was still warming up; otherwise run it again on a quieter machine"
            yield Doubt(why, advice, _seconds(case, now.due))


# the machine


def machine_in(case: Case, window: Window) -> list[MachineSeen]:
    """The samples of the machine in a window."""
    return [one for one in case.history.of(MachineSeen) if window.holds(one.at)]


def foreign_share(case: Case, window: Window) -> float | None:
    """The share of the machine used by programs that have no part in the run; None where it was not sampled."""
    return _mean([one.others / one.cores for one in machine_in(case, window)])


def foreign_shift(case: Case, phase: str, window: Window) -> tuple[Doubt, ...]:
    """Rounds in which other programs took more of the machine than in their baseline, less, or nearly all of it."""
    return (*busier(case, phase, window), *quieter(case, phase, window))


def busier(case: Case, phase: str, window: Window) -> Iterator[Doubt]:
    """Rounds in which other programs took more of the machine than in their baseline, or nearly all of it."""
    for round in _rounds_of(case, window):
        if round.during > CROWDED:
            yield round.doubt(case, phase, [at for at, share in round.seen if share > CROWDED], "too much to be quick")
        elif round.during - round.before > MOST_SHIFT:
            yield round.doubt(case, phase, [at for at, share in round.seen if share - round.before > MOST_SHIFT])


def quieter(case: Case, phase: str, window: Window) -> Iterator[Doubt]:
    """Rounds in which other programs took less of the machine than in their baseline."""
    for round in _rounds_of(case, window):
        if round.before - round.during > MOST_SHIFT:
            yield round.doubt(case, phase, [at for at, share in round.seen if round.before - share > MOST_SHIFT])


@dataclass(frozen=True, slots=True)
class _Round:
    """What other programs took of the machine in one round: in its baseline, and at each moment seen of a window."""

    before: float
    seen: tuple[tuple[float, float], ...]

    @property
    def during(self) -> float:
        """The share in the window."""
        return sum(share for _, share in self.seen) / len(self.seen)

    def doubt(self, case: Case, phase: str, at: Iterable[float], end: str = "too different to compare") -> Doubt:
        """The two shares, and the moments that made the difference."""
        told = f"other programs used {words.share(self.during)} of the machine in the {phase}"
        return Doubt(f"{told}, {words.share(self.before)} in the baseline: {end}", QUIETER, _seconds(case, at))


def _rounds_of(case: Case, window: Window) -> Iterator[_Round]:
    """A window round by round; nothing of a round that has no baseline, or in which nobody looked."""
    baseline = case.judged("baseline")
    if baseline is None:
        return
    for span in case.history.rounds:
        own, part = (together(one.shared(span)) for one in (baseline, window))
        before = foreign_share(case, own) if own is not None else None
        seen = tuple((one.at, one.others / one.cores) for one in machine_in(case, part)) if part is not None else ()
        if before is not None and seen:
            yield _Round(before, seen)


def machine_seen(case: Case, window: Window) -> str:
    """What the machine was doing in a window, in words; empty where nobody looked."""
    seen = machine_in(case, window)
    if not seen:
        return ""
    own = {part: _mean([getattr(one, part) for one in seen]) for part in ("load", "harness", "proxies", "system")}
    busy = words.several([f"{part} {words.share(share or 0.0)}" for part, share in own.items()])
    waiting = _mean([one.pressure for one in seen if one.pressure is not None])
    pressure = f", somebody waited for a core {words.share(waiting)} of the time" if waiting is not None else ""
    foreign = words.share(_mean([one.others / one.cores for one in seen]) or 0.0)
    average = _mean([one.load_average for one in seen]) or 0.0
    return f"of one core {busy}, other programs used {foreign} of the machine, load average {average:.1f}{pressure}"


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
