"""Edges that are cut by the network, over an engine and a packet filter that are made up: who does what, and what is read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import CouldNotRun, ProxyError
from harness.history.events import EdgeSeen
from harness.plan.plan import CLEAN, ProxyState, Toxic
from harness.runtime.containers import blackholes
from harness.runtime.containers.blackholes import Blackholes, FilterBeside, FilterHere, check, filter_for
from harness.runtime.containers.packet_filter import Place
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.session import EngineGone

MADE = [
    ProxyMade(name, Address("10.0.0.14", port), Address("door", port)) for name, port in (("front -> back", 80), ("other", 81))
]
EDGE = "front -> back"


def toxic(kind: str, name: str, **attributes: Any) -> Toxic:
    return Toxic.model_validate({"name": name, "type": kind, "stream": "downstream", "attributes": attributes})


BY_NETWORK = toxic("unreachable", "cut", network=True)
UNREACHABLE = toxic("unreachable", "away")
LATER, HUNG = toxic("latency", "late", latency=5), toxic("timeout", "hung", timeout=0)


class MemoryEngine:
    """An engine that keeps states."""

    def __init__(self) -> None:
        self.states: dict[str, ProxyState] = {}

    def ensure(self, proxies: Sequence[ProxyMade]) -> None:
        self.states |= {proxy.name: CLEAN for proxy in proxies}

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        self.states[proxy] = state
        return state

    def read(self, proxy: str, within: float = 1.0) -> ProxyState:
        return self.states[proxy]

    def heal_all(self) -> None:
        self.states = dict.fromkeys(self.states, CLEAN)

    def seen(self) -> Sequence[EdgeSeen]:
        return [EdgeSeen(1.0, name, 0, 0, 0, 0, 0, 0) for name in self.states]

    def version(self, within: float = 1.0) -> str:
        return "made up 1"


class MemoryFilter:
    """A filter that loses; `breaks` is raised in place of that."""

    def __init__(self, is_quick: bool = True) -> None:
        self.is_quick = is_quick
        self.dark: dict[Place, int] = {}
        self.breaks: OSError | None = None
        self.asked = 0

    def lose(self, places: Sequence[Place]) -> Mapping[Place, int]:
        if self.breaks is not None:
            raise self.breaks
        self.dark = dict.fromkeys(places, 0)
        return self.dark

    def lost(self) -> Mapping[Place, int]:
        self.asked += 1
        if self.breaks is not None:
            raise self.breaks
        return dict(self.dark)


class Scene:
    def __init__(self, *, engine_can: bool, is_quick: bool = True) -> None:
        self.engine, self.filter = MemoryEngine(), MemoryFilter(is_quick)
        self.proxies = Blackholes(self.engine, self.filter, engine_can=engine_can)
        self.proxies.ensure(MADE)

    def put(self, *toxics: Toxic, enabled: bool = True, edge: str = EDGE) -> ProxyState:
        state = ProxyState(enabled=enabled, toxics=toxics)
        assert self.proxies.put(edge, state) == state
        return self.engine.states[edge]


@pytest.mark.parametrize(
    ("engine_can", "toxic", "by_network"),
    [(False, UNREACHABLE, True), (False, BY_NETWORK, True), (True, BY_NETWORK, True), (True, UNREACHABLE, False)],
)
def test_the_network_does_what_the_plan_says_or_the_engine_cannot(engine_can: bool, toxic: Toxic, by_network: bool) -> None:
    scene = Scene(engine_can=engine_can)

    engines = scene.put(toxic)

    assert engines.toxics == (() if by_network else (toxic,))
    assert list(scene.filter.dark) == ([("10.0.0.14", 80)] if by_network else [])
    assert scene.proxies.read(EDGE) == ProxyState(toxics=(toxic,))


@pytest.mark.parametrize("toxics", [(LATER, BY_NETWORK, HUNG), (BY_NETWORK, LATER), (LATER, BY_NETWORK)])
def test_what_is_read_back_is_in_the_order_that_was_asked_for(toxics: tuple[Toxic, ...]) -> None:
    scene = Scene(engine_can=False)

    engines = scene.put(*toxics)

    assert BY_NETWORK not in engines.toxics
    assert scene.proxies.read(EDGE) == ProxyState(toxics=toxics)
    assert scene.proxies.read("other") == CLEAN


def test_each_edge_is_healed_alone_and_all_of_them_together() -> None:
    scene = Scene(engine_can=False)
    scene.put(UNREACHABLE)
    scene.put(BY_NETWORK, LATER, edge="other")

    scene.put()
    assert list(scene.filter.dark) == [("10.0.0.14", 81)]

    scene.proxies.heal_all()
    assert scene.filter.dark == {}
    assert scene.proxies.read("other") == scene.proxies.read(EDGE) == CLEAN


def test_doing_it_twice_is_doing_it_once() -> None:
    scene = Scene(engine_can=False)
    scene.put(UNREACHABLE)
    scene.filter.dark[MADE[0].listen.host, 80] = 7

    scene.put(UNREACHABLE)

    assert scene.filter.dark == {("10.0.0.14", 80): 7}


def test_a_rule_that_is_gone_is_read_back_as_gone() -> None:
    """Such as where the container of the proxies was started anew."""
    scene = Scene(engine_can=False)
    scene.put(UNREACHABLE)

    scene.filter.dark = {}

    assert scene.proxies.read(EDGE) == CLEAN


def test_where_nothing_was_ever_cut_the_kernel_is_never_asked() -> None:
    scene = Scene(engine_can=False)
    scene.put(LATER)
    scene.proxies.read(EDGE)
    scene.proxies.seen()
    scene.proxies.heal_all()

    assert scene.filter.asked == 0


def test_where_the_kernel_cannot_be_asked_often_what_it_did_last_counts() -> None:
    scene = Scene(engine_can=False, is_quick=False)
    scene.put(UNREACHABLE)

    assert scene.proxies.read(EDGE) == ProxyState(toxics=(UNREACHABLE,))
    assert scene.proxies.seen()[0].packets is None
    assert scene.filter.asked == 0


def test_packets_that_came_in_and_were_lost_are_counted_for_good() -> None:
    scene = Scene(engine_can=True)

    def packets() -> dict[str, int | None]:
        return {edge.proxy: edge.packets for edge in scene.proxies.seen()}

    assert packets() == {EDGE: None, "other": None}
    scene.put(BY_NETWORK)
    scene.filter.dark[MADE[0].listen.host, 80] = 5
    assert packets() == {EDGE: 5, "other": None}
    scene.put(BY_NETWORK, edge="other")
    scene.filter.dark[MADE[0].listen.host, 80] = 2
    assert packets() == {EDGE: 7, "other": 0}
    scene.put()
    assert packets() == {EDGE: 7, "other": 0}


def test_a_network_that_is_gone_is_an_engine_that_is_gone() -> None:
    scene = Scene(engine_can=False)
    scene.filter.breaks = FileNotFoundError(2, "No such file", "/proc/4/ns/net")

    with pytest.raises(EngineGone, match="expected their container to run, found"):
        scene.proxies.put(EDGE, ProxyState(toxics=(UNREACHABLE,)))


def test_what_the_kernel_refuses_is_told_and_heals_the_engine_all_the_same() -> None:
    scene = Scene(engine_can=False)
    scene.put(UNREACHABLE)
    scene.put(LATER, edge="other")
    scene.filter.breaks = OSError(1, "not permitted")

    with pytest.raises(ProxyError, match=r"the network of the proxies: .*not permitted"):
        scene.proxies.heal_all()

    assert scene.engine.states["other"] == CLEAN


def test_a_kernel_without_packet_filter_is_told_before_anybody_relies_on_it() -> None:
    scene = Scene(engine_can=False)
    scene.filter.breaks = OSError(93, "Protocol not supported")

    with pytest.raises(CouldNotRun, match=r"takes nftables in the kernel, .* Protocol not supported; use by: proxy"):
        check(scene.filter)


CONTAINER: Any = SimpleNamespace(id="4f1e", labels={}, attrs={"Image": "sha256:1", "State": {"Pid": 17}})


@pytest.mark.parametrize(
    ("is_here", "user", "has_python", "kind"),
    [(True, 0, False, FilterHere), (True, 1000, True, FilterBeside), (False, 0, True, FilterBeside)],
)
def test_who_may_not_enter_a_network_has_a_container_do_it_whose_image_can(
    monkeypatch: pytest.MonkeyPatch, is_here: bool, user: int, has_python: bool, kind: type
) -> None:
    monkeypatch.setattr(blackholes.os, "geteuid", lambda: user)
    engine: Any = SimpleNamespace(is_here=is_here)

    assert isinstance(filter_for(engine, None, CONTAINER, has_python=has_python), kind)


@pytest.mark.parametrize(("is_here", "user"), [(True, 1000), (False, 0)])
def test_who_can_neither_is_told_what_they_can_do(monkeypatch: pytest.MonkeyPatch, is_here: bool, user: int) -> None:
    monkeypatch.setattr(blackholes.os, "geteuid", lambda: user)
    engine: Any = SimpleNamespace(is_here=is_here)

    with pytest.raises(CouldNotRun, match="run the harness as root, or with --engine embedded"):
        filter_for(engine, None, CONTAINER, has_python=False)


def test_what_the_kernel_did_not_do_is_not_told_as_done() -> None:
    scene = Scene(engine_can=False)
    scene.filter.lose = lambda places: {}  # type: ignore[method-assign,assignment]

    assert scene.proxies.put(EDGE, ProxyState(toxics=(LATER, BY_NETWORK))) == ProxyState(toxics=(LATER,))


@pytest.mark.parametrize("is_quick", [True, False])
def test_a_cut_that_does_not_heal_is_told(is_quick: bool) -> None:
    scene = Scene(engine_can=False, is_quick=is_quick)
    scene.put(BY_NETWORK)
    scene.filter.lose = lambda places: scene.filter.dark  # type: ignore[method-assign,assignment]

    (left,) = scene.proxies.put(EDGE, CLEAN).toxics

    assert left.type == "unreachable"
