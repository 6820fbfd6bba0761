"""The history of a run of several rounds: one story for each, told one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness.history.events import Event, FaultBegan, FaultEnded, LoadEnded, PhaseBegan, PhaseEnded
from harness.history.history import History
from harness.history.requests import Request
from tests.histories.building import BEGAN, Story, tell


def tell_rounds(*stories: Story) -> History:
    """The warm-up is that of the first story, what comes after the rounds that of the last; all have the same phases."""
    first = stories[0].starts["baseline"][0]
    last = stories[0].starts["recovery"][1]
    told = [tell(story) for story in stories]
    events: list[Event] = []
    requests: list[Request] = []
    for number, history in enumerate(told, 1):
        begin = BEGAN + first if number > 1 else 0.0
        end = BEGAN + last if number < len(told) else float("inf")
        later = (number - 1) * (last - first)
        events += [_moved(event, number, later) for event in history.events if _belongs(event, begin, end)]
        requests += [_due_later(request, later) for request in history.requests if begin <= request.due < end]
    counts = [dict(history.notes[-1]) for history in told]
    note = {**counts[-1], "at": counts[-1]["at"] + (len(told) - 1) * (last - first)}
    note |= {"scheduled": len(requests), "requests": sum(request.outcome != "dropped" for request in requests)}
    note["dropped"] = len(requests) - note["requests"]
    return History(_plan(told, last - first), events, requests, (told[0].notes[0], note))


def _belongs(event: Event, begin: float, end: float) -> bool:
    """What happens at the very end of the recovery, as the healing of nothing, is still of it."""
    if isinstance(event, PhaseBegan | PhaseEnded):
        return begin <= (event.at if isinstance(event, PhaseBegan) else event.at - 0.001) < end
    if isinstance(event, LoadEnded):
        return end == float("inf")
    return begin <= event.at < end


def _moved(event: Event, number: int, later: float) -> Event:
    moved = replace(event, at=event.at + later)
    if isinstance(moved, FaultBegan | FaultEnded):
        return replace(moved, asked_at=moved.asked_at + later)
    in_rounds = isinstance(moved, PhaseBegan | PhaseEnded) and moved.phase in ("baseline", "fault", "recovery")
    return replace(moved, round=number) if in_rounds else moved  # type: ignore[call-arg]


def _due_later(request: Request, later: float) -> Request:
    return request._replace(due=request.due + later, start=request.start + later, end=request.end + later)


def _plan(told: list[History], length: float) -> dict[str, Any]:
    plan = dict(told[0].plan)
    rounds = len(told)
    plan["experiment"] = {**plan["experiment"], "rounds": rounds}
    plan["load"] = {**plan["load"], "seconds": plan["load"]["seconds"] + (rounds - 1) * length}
    for key in ("steps", "observations"):
        plan[key] = list(_in_each_round([history.plan[key] for history in told], length))
    return plan


def _in_each_round(items: list[list[dict[str, Any]]], length: float) -> Iterator[dict[str, Any]]:
    for number, of_round in enumerate(items, 1):
        for item in of_round:
            once = item.get("what") in ("counter", "invariant")
            moved = {key: item[key] + (number - 1) * length for key in ("at", "again") if key in item}
            if not once or number == len(items):
                yield item if once else {**item, **moved, "round": number}
