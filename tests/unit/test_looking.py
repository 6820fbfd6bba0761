"""When a probe looks, and how: so that it can see what it is sent for, and is done before the proxy changes again."""

from __future__ import annotations

from typing import Any

import pytest

from harness.plan.looking import LONGEST, MOST_CONNECTIONS, MOST_VOLUME, asking_for, chosen_stretch
from harness.plan.plan import CLEAN, Asking, Begin, Heal, ProxyChange, ProxyState, Step, Toxic, Vary

EDGE = "a -> b"


def toxic(kind: str, stream: str = "downstream", fault: str = "x", toxicity: float = 1.0, **said: Any) -> Toxic:
    return Toxic(name=f"{fault}-{kind}-{stream}", type=kind, stream=stream, attributes=said, toxicity=toxicity)  # type: ignore[arg-type]


def asked(*toxics: Toxic, protocol: str = "http", within: float = 8.0, enabled: bool = True) -> Asking:
    return asking_for("x", ProxyState(enabled=enabled, toxics=toxics), protocol, within)


def step(at: float, fault: str = "x", state: ProxyState | None = None, made: type[Step] = Begin, proxy: str = EDGE) -> Step:
    return made(at=at, fault=fault, kind="latency", changes=(ProxyChange(proxy=proxy, state=state or CLEAN),))


def state(name: str) -> ProxyState:
    return ProxyState(toxics=(toxic("latency", fault=name, latency=1),))


def test_it_looks_in_the_longest_of_several_windows() -> None:
    steps = [step(0, state=state("1")), step(2, made=Heal), step(5, state=state("2")), step(12, made=Heal)]

    found = chosen_stretch(steps, "x", EDGE)

    assert (found.begin, found.seconds, found.state) == (5, 7, state("2"))


def test_a_change_by_another_fault_ends_a_stretch_too_and_one_alone_is_better() -> None:
    steps = [step(0), step(4, "y", state("y")), step(10, "y", made=Heal), step(11, made=Heal)]

    assert (chosen_stretch(steps, "x", EDGE).begin, chosen_stretch(steps, "y", EDGE).begin) == (0, 4)


def test_where_none_is_long_enough_it_is_the_longest_in_which_the_fewest_others_are_on() -> None:
    steps = [step(0), step(1, "y", state("y")), step(2.5, "y", made=Heal), step(4, made=Heal)]

    assert chosen_stretch(steps, "x", EDGE).begin == 2.5


def test_changes_of_another_proxy_do_not_matter_and_a_ramps_last_step_lasts_longest() -> None:
    steps = [step(0), step(1, made=Vary, state=state("2")), step(3, "y", proxy="other"), step(9, made=Heal)]

    found = chosen_stretch(steps, "x", EDGE)

    assert (found.begin, found.seconds, found.state) == (1, 8, state("2"))


@pytest.mark.parametrize("protocol", ["http", "redis", "postgresql", "tcp"])
def test_of_a_proxy_that_refuses_one_question_tells_enough(protocol: str) -> None:
    said = asked(toxic("latency", latency=5000), protocol=protocol, enabled=False)

    assert (said.patience, said.times, said.volume, said.connections, said.closes) == (1.5, 1, 0, 1, False)


@pytest.mark.parametrize(
    ("toxics", "patience"),
    [
        ([toxic("timeout", timeout=0)], 1.5),
        ([toxic("timeout", timeout=2000)], 3.5),
        ([toxic("reset_peer", timeout=5000)], 6.5),
        ([toxic("slow_close", delay=1000)], 3.5),
        ([toxic("latency", latency=2000)], 3.5),
        ([toxic("latency", latency=1000), toxic("latency", "upstream", latency=500)], 4.5),
        ([toxic("latency", latency=3_600_000)], 8.0),
    ],
)
def test_it_waits_for_what_a_fault_is_meant_to_add_and_no_longer_than_its_stretch(toxics: list[Toxic], patience: float) -> None:
    assert asked(*toxics).patience == patience


def test_it_never_waits_longer_than_the_longest() -> None:
    assert asked(toxic("latency", latency=3_600_000), within=1000).patience == LONGEST


@pytest.mark.parametrize(
    ("toxics", "times"),
    [
        ([toxic("timeout", timeout=0)], 1),
        ([toxic("latency", latency=100)], 5),
        ([toxic("latency", latency=100, jitter=50)], 20),
        ([toxic("latency", latency=2000)], 1),
        ([toxic("http_delay", delay=100)], 5),
        ([toxic("bandwidth", rate=10)], 5),
        ([toxic("slicer", average_size=10)], 5),
        ([toxic("http_corrupt", how="bytes")], 3),
        ([toxic("http_corrupt", how="truncate")], 1),
    ],
)
def test_it_asks_as_often_as_chance_might_decide(toxics: list[Toxic], times: int) -> None:
    assert asked(*toxics).times == times


def test_it_lets_as_much_pass_as_a_limit_does_unless_that_is_too_much() -> None:
    assert asked(toxic("limit_data", bytes=2000)).volume == 2001
    assert asked(toxic("limit_data", bytes=MOST_VOLUME)).volume == 0


def test_it_ends_its_own_side_where_an_end_is_delayed() -> None:
    assert asked(toxic("slow_close", delay=10)).closes
    assert not asked(toxic("latency", latency=10)).closes


def test_on_an_unknown_protocol_it_waits_for_the_end_that_a_timeout_makes() -> None:
    assert asked(toxic("timeout", timeout=2000), protocol="tcp").stays == 3.5
    assert asked(toxic("timeout", timeout=0), protocol="tcp").stays == Asking().stays
    assert asked(toxic("timeout", timeout=2000), protocol="http").stays == Asking().stays


@pytest.mark.parametrize(("share", "connections"), [(0.9, 3), (0.5, 10), (0.3, 20), (0.01, MOST_CONNECTIONS)])
def test_of_a_share_it_looks_until_one_is_struck_almost_surely(share: float, connections: int) -> None:
    said = asked(toxic("timeout", timeout=0, toxicity=share))

    assert (said.connections, said.stops) == (connections, True)


@pytest.mark.parametrize(("share", "connections"), [(0.9, MOST_CONNECTIONS), (0.5, 10), (0.1, 3)])
def test_of_a_share_that_another_fault_strikes_it_looks_until_one_is_spared_almost_surely(
    share: float, connections: int
) -> None:
    said = asked(toxic("latency", latency=10), toxic("timeout", fault="y", timeout=0, toxicity=share))

    assert (said.connections, said.stops) == (connections, False)


def test_requests_that_another_fault_chooses_may_be_its_own_and_it_looks_again() -> None:
    assert asked(toxic("latency", latency=10), toxic("http_error", fault="y", every=2)).connections == 10
    assert asked(toxic("http_error", every=2)).connections == 1
    assert asked(toxic("latency", latency=10), toxic("http_error", fault="y", share=1.0)).connections == 1
