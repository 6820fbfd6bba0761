"""How a proxy gets from one state into another: which toxics may stay, and whether its open connections may."""

from __future__ import annotations

from harness.history import states
from harness.history.states import NOT_EMPTY
from harness.plan.plan import Attribute, ProxyState, Toxic

SPARING = ("latency", "bandwidth", "slow_close", "slicer", "limit_data")
"""Types of toxics whose coming, changing and going leaves open connections alone."""


def spares_connections(found: ProxyState, wanted: ProxyState) -> bool:
    """Whether the change leaves open connections alone, so that it has to be made under them.

    Every other change cuts them anyway. A real Toxiproxy that is changed while its connections end may lock up,
    so there the proxy is replaced.
    """
    if not (found.enabled and wanted.enabled):
        return False
    kept, there = kept_toxics(found, wanted), {toxic.name: toxic for toxic in found.toxics}
    gone = [toxic for toxic in found.toxics if toxic.name not in kept]
    new = [toxic for toxic in wanted.toxics if toxic.name not in kept]
    changed = [toxic for toxic in wanted.toxics if toxic.name in kept and word(toxic) != word(there[toxic.name])]
    cannot_wait = any(toxic.type == "reset_peer" and attributes(toxic) for toxic in found.toxics)
    return (
        not cannot_wait
        and all(toxic.type in SPARING for toxic in gone + changed)
        and all(toxic.type in SPARING or (toxic.type == "timeout" and not attributes(toxic)) for toxic in new)
    )


def attributes(toxic: Toxic) -> dict[str, Attribute]:
    """What a toxic's attributes are when those that are 0, as most are by default, go unsaid."""
    return states.said_attributes(toxic.attributes)


def word(toxic: Toxic) -> tuple[object, ...]:
    """All that makes a toxic what it is, for comparing."""
    return states.word(toxic.model_dump())


def words(state: ProxyState) -> tuple[tuple[object, ...], ...]:
    """The toxics of a state as they act: those upstream in order, then those downstream in order."""
    return states.words(state.model_dump())


def is_same(one: ProxyState, other: ProxyState) -> bool:
    """Whether two states act alike, however they are written."""
    return states.act_alike(one.model_dump(), other.model_dump())


def kept_toxics(found: ProxyState, wanted: ProxyState) -> frozenset[str]:
    """The names of the toxics that may stay, changed or not."""
    return frozenset(toxic.name for stream in ("upstream", "downstream") for toxic in _kept(found, wanted, stream))


def _kept(found: ProxyState, wanted: ProxyState, stream: str) -> list[Toxic]:
    """New ones always go last, so what is asked for behind a new one is made anew too."""
    there = [toxic for toxic in found.toxics if toxic.stream == stream]
    kept = []
    for toxic in (toxic for toxic in wanted.toxics if toxic.stream == stream):
        place = next((at for at, other in enumerate(there) if _can_become(other, toxic)), None)
        if place is None:
            break
        kept.append(toxic)
        there = there[place + 1 :]
    return kept


def _can_become(there: Toxic, wanted: Toxic) -> bool:
    """Whether a change leads there: it sets attributes, and takes none back that is not empty where it goes unsaid."""
    is_it = (there.name, there.type, there.seed) == (wanted.name, wanted.type, wanted.seed)
    return is_it and not (NOT_EMPTY & there.attributes.keys()) - wanted.attributes.keys()
