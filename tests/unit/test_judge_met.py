"""Whether a fault met traffic is shown by the best that a proxy engine can count; what it cannot is never taken for nought."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.history.events import EdgeProbed, EdgeSeen
from harness.history.history import History
from harness.judge.case import Case
from harness.judge.evidence import gather
from harness.judge.judge import judge
from harness.judge.verdict import Finding, Outcome
from tests.histories.building import BEGAN, Story, fault, tell

CANNOT = "Toxiproxy does not count what it refuses"
SHIPPING = ("order -> shipping", "gateway -> shipping")
OUTAGE = Story()
HANGING = Story(faults=(fault("outage", service="shipping", mode="hang"),))


def by_toxiproxy(story: Story, *, packets: Callable[[float], int] | None = None, accepted: bool = False) -> History:
    """The history as a real Toxiproxy leaves it; `packets` counts those on struck edges, by seconds since the load began."""
    history = tell(story)

    def seen(sample: EdgeSeen) -> EdgeSeen:
        return replace(
            sample,
            accepted=sample.accepted if accepted else 4,
            refused=None,
            cut=None,
            open=None,
            bytes_up=None,
            bytes_down=None,
            requests=None,
            answers=None,
            traces=None,
            most_attempts=None,
            packets=None if packets is None else packets(sample.at - BEGAN) if sample.proxy in SHIPPING else 3000,
            cannot=CANNOT,
        )

    events = [seen(event) if isinstance(event, EdgeSeen) else event for event in history.events]
    return History(history.plan, events, history.requests, history.notes)


def met(history: History) -> Finding:
    return next(finding for finding in gather(Case(history)) if finding.kind == "met")


def test_accepted_connections_are_told_with_what_toxiproxy_cannot_see() -> None:
    found = met(by_toxiproxy(HANGING, packets=lambda at: int(at * 50), accepted=True))

    assert found.outcome is Outcome.PASSED
    assert found.seen == f"621 connections ({CANNOT})"
    assert found.details[0] == f"order -> shipping: 466 connections ({CANNOT})"


def test_where_nothing_is_accepted_the_packets_on_the_edges_own_network_tell_of_refused_attempts() -> None:
    found = met(by_toxiproxy(OUTAGE, packets=lambda at: int(at * 10)))

    assert found.outcome is Outcome.PASSED
    assert found.seen == f"380 packets on edge networks ({CANNOT})"


@pytest.mark.parametrize(("each_second", "enough"), [(0.0, False), (0.3, False), (0.4, True)])
def test_as_few_packets_as_probes_and_address_questions_make_prove_nothing(each_second: float, enough: bool) -> None:
    """In 20 s one refused probe and ARP make up to 6; samples see 19 of the 20 s."""
    history = by_toxiproxy(replace(OUTAGE, damage=()), packets=lambda at: round(at * each_second))

    found = met(history)

    assert (found.outcome is Outcome.PASSED) == enough
    assert ("where up to 6 may be probes and ARP (Toxiproxy does not count what it refuses)" in found.why) == (not enough)
    assert ("nothing shows that anybody called order -> shipping" in found.why) == (not enough)


def test_where_packets_cannot_be_read_the_callers_own_fallbacks_tell() -> None:
    found = met(by_toxiproxy(OUTAGE))

    assert found.outcome is Outcome.PASSED
    assert found.seen == f"486 fallbacks of the caller ({CANNOT})"


def test_looks_for_a_service_that_was_struck_before_are_none_of_the_callers_packets() -> None:
    looks = [EdgeProbed(BEGAN + 26 + n / 4, "kill-1", SHIPPING[0], "after", "refused", 0.001) for n in range(30)]

    def outcome(*extra: EdgeProbed) -> Outcome:
        one = replace(OUTAGE, damage=(), faults=(fault("outage", edge=SHIPPING[0]),), extra=extra)
        return met(by_toxiproxy(one, packets=lambda at: round(max(0.0, at - 25) * 2))).outcome

    assert outcome() is Outcome.PASSED
    assert outcome(*looks) is Outcome.INCONCLUSIVE


def test_where_the_packets_show_that_nobody_called_a_fallback_of_the_caller_does_not_show_the_contrary() -> None:
    """It may have fired because of a breaker that was open already, and never have called."""
    found = met(by_toxiproxy(OUTAGE, packets=lambda at: 4 if at > 30 else 0))

    assert found.outcome is Outcome.INCONCLUSIVE
    assert "nothing shows that anybody called order -> shipping: 4 packets on its network" in found.why


def test_where_nothing_at_all_can_be_seen_the_finding_says_so_and_names_the_engine_that_could() -> None:
    found = met(by_toxiproxy(replace(OUTAGE, damage=())))

    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.why == f"whether anybody called order -> shipping cannot be told: {CANNOT}"
    assert found.advice == "run it with --engine embedded, which counts requests and refusals"


def test_each_edge_stands_on_the_best_rung_it_has() -> None:
    history = by_toxiproxy(OUTAGE, packets=lambda at: int(at * 10))
    events = [
        replace(event, packets=None) if isinstance(event, EdgeSeen) and event.proxy == SHIPPING[0] else event
        for event in history.events
    ]

    found = met(History(history.plan, events, history.requests, history.notes))

    assert found.seen == f"486 fallbacks of the caller, 190 packets on edge networks ({CANNOT})"


def test_a_count_that_began_anew_is_not_known() -> None:
    """The proxy's container was made again in the middle of the fault: what it counts now is less than before."""
    history = by_toxiproxy(replace(OUTAGE, damage=()), packets=lambda at: int(at * 100) if at < 35 else int(at))

    found = met(history)

    assert found.outcome is Outcome.INCONCLUSIVE
    assert "cannot be told" in found.why


def test_a_run_on_toxiproxy_passes_with_counter_and_marker_and_the_wire_is_no_witness() -> None:
    verdict = judge(by_toxiproxy(OUTAGE, packets=lambda at: int(at * 40)))

    assert verdict.word == "passed"
    fallback: Any = next(finding for finding in verdict.expectations if finding.kind == "fallback")
    assert any("could not be counted" in line and "marker and counter agree" in line for line in fallback.details)


def test_without_a_counter_the_wire_that_toxiproxy_does_not_see_cannot_bear_the_marker_out() -> None:
    verdict = judge(by_toxiproxy(replace(OUTAGE, counted=None), packets=lambda at: int(at * 40)))

    assert verdict.word == "inconclusive"
    assert next(finding for finding in verdict.expectations if finding.kind == "fallback").outcome is Outcome.INCONCLUSIVE


def test_on_the_way_in_the_load_knows_what_it_sent() -> None:
    cut = Story(faults=(fault("outage", edge="client -> gateway"),))
    found = met(by_toxiproxy(cut))

    assert found.outcome is Outcome.PASSED
    assert found.seen == "1599 requests of the load"


def test_a_spare_proxy_to_the_way_in_is_none_that_the_load_used() -> None:
    history = by_toxiproxy(Story(faults=(fault("outage", edge="client -> gateway"),)))
    spare = [proxy | {"spare": True} for proxy in history.plan["proxies"]]
    moved = History(history.plan | {"proxies": spare}, history.events, history.requests, history.notes)

    assert met(moved).outcome is Outcome.INCONCLUSIVE
