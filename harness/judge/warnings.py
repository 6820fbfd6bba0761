"""What a reader of the verdict has to know beside it: what was not excluded, not led through a proxy, not reached."""

from __future__ import annotations

from collections.abc import Iterator

from harness.history.events import EngineGuarded, NameUnknown, PhaseMoved, RunBegan
from harness.judge import words
from harness.judge.case import GROUP_THEM, Case

WAY_AROUND = "a way around was not excluded: with interpose: faulted only the callers of faulted edges are led through proxies"

UNGUARDED = "its containers would have stayed, had every process of the run been killed at once: no guardian at the engine"

MOST_NAMES = 5


def warnings_of(case: Case) -> tuple[str, ...]:
    """Each once: what the experiment itself leaves open, what the runtime said when it began, what nobody could reach."""
    return tuple(dict.fromkeys(_warnings(case)))


def _warnings(case: Case) -> Iterator[str]:
    if case.experiment.system.interpose == "faulted":
        yield WAY_AROUND
    for began in case.history.of(RunBegan):
        yield from began.warnings
    for guarded in case.history.of(EngineGuarded):
        if guarded.why_not:
            yield f"{UNGUARDED}: {guarded.why_not}"
    if case.history.unread:
        yield f"{words.count(case.history.unread, 'line')} of the load's records could not be read: cut off, or damaged"
    yield from kept_back(case)
    yield from _lengthened(case)
    yield from _closed_loop(case)
    yield from _unknown_names(case)
    yield from _many_journeys(case)


def kept_back(case: Case) -> Iterator[str]:
    """Hosts that the load asked for and may not: its requests there failed, and the system never saw them."""
    for host in sorted({str(note.get("host")) for note in case.history.notes if note.get("load") == "kept back"}):
        allows = f"load: {{allow_hosts: ['{host}']}} allows it"
        yield f"the load asked for {host}, which is not the way into the system: nothing was sent there; {allows}"


def _lengthened(case: Case) -> Iterator[str]:
    """Windows that became longer than planned, since they were void or undecided when they ended."""
    for moved in case.history.of(PhaseMoved):
        if moved.seconds > 0:
            which = f"{moved.phase} of round {moved.round}" if case.experiment.rounds > 1 else moved.phase
            yield f"the {which} was lengthened by {words.seconds(moved.seconds)}: {moved.reason}"


def _closed_loop(case: Case) -> Iterator[str]:
    """A user that waits for an answer sends nothing meanwhile: what is worst is met by the fewest."""
    load = case.experiment.load
    if load.course is None:
        who = "the users of the locustfile's own load shape" if load.shape else f"{load.users} users"
        told = f"closed loop: {who} wait for each answer before they send the next request, so that few meet a stall"
        yield f"{told}: shares of errors and quantiles look better than they are; load: {{rate: …}} counts them as they arrive"


def _many_journeys(case: Case) -> Iterator[str]:
    """Requests under a name of their own each are judged one by one, and of each there are too few."""
    if case.unnamed:
        told = f"{len(case.unnamed)} journeys have no plain name, such as {words.several(sorted(case.unnamed)[:3])}"
        yield f"{told}: {GROUP_THEM}"


def _unknown_names(case: Case) -> Iterator[str]:
    """Who asked for a name that did not resolve: a dependency that was not declared, or something outside."""
    asked: dict[str, list[str]] = {}
    for unknown in case.history.of(NameUnknown):
        asked.setdefault(unknown.service, []).append(unknown.name)
    for caller, names in asked.items():
        inside = [name for name in dict.fromkeys(names) if name in case.experiment.system.services]
        outside = [name for name in dict.fromkeys(names) if name not in inside]
        for name in inside:
            edge = f"'{caller} -> {name}:PORT'"
            yield f"{caller} asked for {name}, to which it has no edge, and got no answer: declare {edge} under edges:"
        if outside:
            more = f" and {len(outside) - MOST_NAMES} more" if len(outside) > MOST_NAMES else ""
            told = f"{caller} asked for {words.several(outside[:MOST_NAMES])}{more}, no service of the system"
            yield f"{told}, and got no answer: egress: [{caller}] is a way out"
