"""When a probe looks through a proxy, and how, so that it can see what is to be seen there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, log

from harness.model.aiming import CHOOSING_REQUESTS, toxic_name
from harness.plan.plan import Asking, Heal, ProxyState, Step, Toxic

PATIENCE = 1.5
"""Seconds that a probe waits beyond what a fault is meant to add."""

LONGEST = 10.0
"""Seconds that it waits at most, whatever a fault is meant to add."""

LONG_ENOUGH = 3.0
"""Seconds: of stretches as long as this, the one in which the fewest other faults are on is the best to look in."""

QUESTIONS = 5
"""What is later is asked for so often, so that one answer which is late by chance does not decide."""

QUESTIONS_EACH = 2
"""On each of several connections."""

QUESTIONS_OF_JITTER = 20
TIME_TO_ASK = 3.0
"""Seconds for all questions together, unless one alone takes longer."""

SAME_AGAIN = 3
"""So many answers show whether a body is the same each time."""

MOST_VOLUME = 65_536
"""Bytes that a probe lets pass on one connection, to see whether it is ended then."""

MOST_CONNECTIONS = 40
SURELY = 0.001
"""How unlikely it must be that none of a probe's connections is among a share that is struck, if so many suffice."""

HALF = 0.5
"""The share that a toxic strikes whose choice says none."""

LATE = ("latency", "http_delay", "bandwidth", "slicer")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A stretch in which a fault is on and its proxy does not change."""

    begin: float
    seconds: float
    state: ProxyState
    others: int


def chosen_stretch(steps: Sequence[Step], fault: str, proxy: str) -> Chosen:
    """The one to look in: long enough, and with the fewest other faults; else the longest."""
    found = list(_stretches(steps, fault, proxy))
    return max(found, key=lambda one: (one.seconds >= LONG_ENOUGH, -one.others, one.seconds, -one.begin))


def _stretches(steps: Sequence[Step], fault: str, proxy: str) -> Iterator[Chosen]:
    on: set[str] = set()
    begun: Chosen | None = None
    for step in steps:
        states = [change.state for change in step.changes if change.proxy == proxy]
        if not states:
            continue
        if begun is not None and step.at > begun.begin:
            yield Chosen(begun.begin, step.at - begun.begin, begun.state, begun.others)
        on = on - {step.fault} if isinstance(step, Heal) else on | {step.fault}
        begun = Chosen(step.at, 0.0, states[-1], len(on) - 1) if fault in on else None


def asking_for(fault: str, state: ProxyState, protocol: str, within: float) -> Asking:
    """How to look whether a fault bites, through a proxy in a state that lasts `within` seconds more."""
    toxics = state.toxics if state.enabled else ()
    delay = sum(map(_added, toxics))
    connections = max(map(partial(_connections, fault), toxics), default=1)
    times = _questions(toxics, delay, within)
    times = min(times, QUESTIONS_EACH) if connections > 1 else times
    limits = [_said(toxic, "bytes") for toxic in toxics if toxic.type == "limit_data"]
    volume = max((limit + 1 for limit in limits if limit < MOST_VOLUME), default=0)
    closes = any(toxic.type == "slow_close" for toxic in toxics)
    wait = PATIENCE + delay * times + (TIME_TO_ASK if volume else 0) + max(map(_until_end, toxics), default=0.0)
    patience = min(wait, LONGEST, max(PATIENCE, within))
    ends = [_said(toxic, "timeout") / 1000 for toxic in toxics if toxic.type == "timeout" and _said(toxic, "timeout")]
    stays = min(patience, min(ends) + PATIENCE) if ends and protocol == "tcp" else Asking().stays
    return Asking(
        patience=round(patience, 3),
        times=times,
        volume=int(volume),
        closes=closes,
        stays=stays,
        connections=connections,
        within=round(max(within, 0.0), 3),
        stops=all(_is_own(fault, toxic) for toxic in toxics if _share(toxic) is not None),
    )


def _questions(toxics: Iterable[Toxic], delay: float, within: float) -> int:
    kinds = {toxic.type for toxic in toxics}
    times = SAME_AGAIN if any(toxic.type == "http_corrupt" and _is_whole(toxic) for toxic in toxics) else 1
    if kinds.intersection(LATE):
        jitter = any(_said(toxic, "jitter") for toxic in toxics)
        times = max(times, QUESTIONS_OF_JITTER if jitter else QUESTIONS)
        return max(1, min(times, int(min(TIME_TO_ASK, within) / max(delay, 0.001))))
    return times


def _is_whole(toxic: Toxic) -> bool:
    """Whether a damaged answer leaves its connection open."""
    return toxic.attributes.get("how") == "bytes"


def _connections(fault: str, toxic: Toxic) -> int:
    """How often to look, so that a toxic of the fault itself strikes once, and one of another fault once does not."""
    share = _share(toxic)
    if share is None or (_is_own(fault, toxic) and toxic.type.startswith("http_")):
        return 1
    misses = 1 - share if _is_own(fault, toxic) else share
    return max(1, min(MOST_CONNECTIONS, ceil(log(SURELY) / log(misses)))) if misses < 1 else 1


def _is_own(fault: str, toxic: Toxic) -> bool:
    return toxic.name == toxic_name(fault, toxic.type, toxic.stream)


def _share(toxic: Toxic) -> float | None:
    """Of how many connections, or requests, it strikes each; None for one that strikes all."""
    if toxic.toxicity < 1:
        return toxic.toxicity
    if not any(name in toxic.attributes for name in CHOOSING_REQUESTS):
        return None
    return _said(toxic, "share") or HALF


def _added(toxic: Toxic) -> float:
    """Seconds by which it delays an answer at most, as far as that is known beforehand."""
    match toxic.type:
        case "latency":
            return (_said(toxic, "latency") + _said(toxic, "jitter")) / 1000
        case "http_delay":
            return (_said(toxic, "delay") + _said(toxic, "jitter")) / 1000
        case _:
            return 0.0


def _until_end(toxic: Toxic) -> float:
    """Seconds after which it ends a connection."""
    match toxic.type:
        case "timeout" | "reset_peer":
            return _said(toxic, "timeout") / 1000
        case "slow_close":
            return 2 * _said(toxic, "delay") / 1000
        case _:
            return 0.0


def _said(toxic: Toxic, name: str) -> float:
    value = toxic.attributes.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0
