"""What a proxy shows in a given state to whoever looks through it.

The state that was read back decides, not the kind of fault that asked for it: several faults may overlap on one proxy.
Where something hides all else (nobody listens, nothing comes back), that is what must be seen, and it says nothing of
a fault that it does not belong to; where nothing does, it is what the fault's own toxics show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.judge import words
from harness.judge.sights import (
    Broken,
    Damaged,
    EndsLater,
    Injected,
    Later,
    Limited,
    Refused,
    Sight,
    Silent,
    Toxic,
    Truncated,
    Uncertain,
    Unreachable,
)
from harness.model.aiming import CHOOSING_REQUESTS, toxic_name

OF_BYTES = ("bandwidth", "slicer")
OF_TIME = ("latency", "http_delay")


def is_clean(state: Mapping[str, Any]) -> bool:
    """Whether a proxy in this state passes everything on as it comes."""
    return bool(state.get("enabled", True)) and not state.get("toxics")


def own_toxics(state: Mapping[str, Any], fault: str) -> tuple[Toxic, ...]:
    """The toxics of a state that a fault has set."""
    toxics = state.get("toxics") or ()
    return tuple(toxic for toxic in toxics if toxic["name"] == toxic_name(fault, toxic["type"], toxic["stream"]))


def is_partial(toxic: Toxic) -> bool:
    """Whether it strikes some connections, or some requests, and not others."""
    return toxic.get("toxicity", 1.0) < 1 or any(_said(toxic, name) for name in CHOOSING_REQUESTS)


def is_of_http(toxic: Toxic) -> bool:
    """Whether it strikes single requests."""
    return str(toxic["type"]).startswith("http_")


def sight_of(state: Mapping[str, Any], fault: str, protocol: str) -> Sight:
    """What a proxy in this state shows to somebody who looks whether this fault bites."""
    own = own_toxics(state, fault)
    if not state.get("enabled", True):
        return Uncertain("hidden by another fault, under which nobody listens") if own else Refused()
    if not own:
        return Uncertain("nothing of it was there then")
    names = [toxic["name"] for toxic in own if not is_of_http(toxic)]
    certain = [toxic for toxic in state.get("toxics") or () if toxic["name"] in names or not is_partial(toxic)]
    hiding = _of_the_whole(certain, protocol)
    if hiding is not None:
        alone = _of_the_whole([toxic for toxic in certain if toxic in own], protocol)
        others = [toxic for toxic in certain if toxic not in own and _of_the_whole([toxic], protocol) is not None]
        return hiding if _shows(alone, hiding) else Uncertain(f"hidden by {words.several(list(map(_fault_of, others)))}")
    if any(is_of_http(toxic) and is_partial(toxic) for toxic in own):
        return Uncertain("the probe's own request need not be among those that it strikes")
    return _of_its_own(own, certain, protocol)


def _shows(alone: Sight | None, hiding: Sight) -> bool:
    """Whether what is seen of all toxics together shows those of one fault, which alone would show `alone`."""
    if isinstance(alone, Broken) and isinstance(hiding, Broken):
        return alone.after <= hiding.after
    return alone == hiding


def _fault_of(toxic: Toxic) -> str:
    """The fault that has set a toxic."""
    return str(toxic["name"]).removesuffix(f"-{toxic['stream']}").removesuffix(f"-{toxic['type']}")


def sights_in(state: Mapping[str, Any], protocol: str) -> list[Sight]:
    """What anything that is on there may show to somebody who looks: each toxic by itself, and all delays together."""
    if not state.get("enabled", True):
        return [Refused()]
    toxics = list(state.get("toxics") or ())
    each = [_of_the_whole([toxic], protocol) or _of_its_own([toxic], [toxic], protocol) for toxic in toxics]
    return [*each, _later(toxics)]


def answers_pass(state: Mapping[str, Any]) -> bool:
    """Whether real answers, or some of them, pass a proxy in this state all the same."""
    certain = [toxic for toxic in state.get("toxics") or () if not is_partial(toxic)]
    return bool(state.get("enabled", True)) and _of_the_whole(certain, "http") is None


def _of_the_whole(toxics: Sequence[Toxic], protocol: str) -> Sight | None:
    """What hides all else; toxics of HTTP stand nearest to the caller."""
    if any(toxic["type"] == "unreachable" for toxic in toxics):
        return Unreachable()
    for toxic in toxics if protocol == "http" else ():
        if toxic["type"] == "http_error":
            return Injected(int(_said(toxic, "status") or 503), toxic["name"])
        if toxic["type"] == "http_lost_reply":
            return Broken() if _said(toxic, "how") == "reset" else Silent()
    closing = [_ms(toxic, "timeout") for toxic in toxics if toxic["type"] == "timeout" and _ms(toxic, "timeout")]
    lost = _lost(toxics) if protocol != "tcp" else None
    if isinstance(lost, Broken):
        return Broken(min([lost.after, *closing]))
    return Broken(min(closing)) if closing else lost


def _lost(toxics: Iterable[Toxic]) -> Broken | Silent | None:
    """Where a question, or the answer to it, gets lost, on its way through the toxics upstream, then those downstream."""
    late = 0.0
    for toxic in sorted(toxics, key=lambda toxic: toxic["stream"] == "downstream"):
        if toxic["type"] == "timeout" or (toxic["type"] == "bandwidth" and not _said(toxic, "rate")):
            return Silent()
        if toxic["type"] == "reset_peer":
            return Broken(late + _ms(toxic, "timeout"))
        if toxic["type"] == "latency":
            late += max(0.0, _ms(toxic, "latency") - _ms(toxic, "jitter"))
    return None


def _of_its_own(own: Sequence[Toxic], certain: Sequence[Toxic], protocol: str) -> Sight:
    kind = own[0]["type"]
    if kind == "slow_close":
        return EndsLater(max(_ms(toxic, "delay") for toxic in own))
    if protocol == "tcp":
        return Uncertain("what is spoken there is not known, so a probe has nothing to ask, and sees neither silence nor delay")
    if is_of_http(own[0]) and protocol != "http":
        return Uncertain("it strikes requests of HTTP, and something else is spoken there")
    match kind:
        case "latency" | "http_delay" | "bandwidth" | "slicer":
            others = [toxic for toxic in certain if toxic not in own]
            return replace(_later(own), beside=_later(others) if others else None)
        case "limit_data":
            limits = {toxic["stream"]: int(_said(toxic, "bytes") or 0) for toxic in own}
            return Limited(limits.get("upstream"), limits.get("downstream"))
        case "http_corrupt":
            return Truncated() if _said(own[0], "how") == "truncate" else Damaged()
        case _:
            return Uncertain(f"what a toxic {kind} shows is not known")


def _later(toxics: Iterable[Toxic]) -> Later:
    """By all of them together, whichever fault they belong to: delays add up."""
    seconds = surely = 0.0
    slowing = []
    for toxic in toxics:
        if toxic["type"] in OF_BYTES:
            slowing.append(toxic)
        elif toxic["type"] in OF_TIME:
            delay = _ms(toxic, "latency") + _ms(toxic, "delay")
            seconds += delay
            surely += max(0.0, delay - _ms(toxic, "jitter"))
    return Later(round(seconds, 6), round(surely, 6), tuple(slowing))


def _said(toxic: Toxic, name: str) -> Any:
    return (toxic.get("attributes") or {}).get(name)


def _ms(toxic: Toxic, name: str) -> float:
    return float(_said(toxic, name) or 0) / 1000
