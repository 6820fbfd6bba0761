"""What a probe must see of each state a proxy can be in, and what it must not take for it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.history.events import DETOUR, EdgeProbed
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
    Truncated,
    Uncertain,
    Unreachable,
    was_seen,
)
from harness.judge.states import answers_pass, is_clean, is_partial, own_toxics, sight_of

OUTCOMES = ("answered", "refused", "unreachable", "reset", "closed", "silent", "failed")
PROTOCOLS = ("http", "postgresql", "redis", "tcp")


def toxic(kind: str, stream: str = "downstream", fault: str = "x", toxicity: float = 1.0, **said: Any) -> dict[str, Any]:
    return {"name": f"{fault}-{kind}-{stream}", "type": kind, "stream": stream, "attributes": said, "toxicity": toxicity}


def state(*toxics: dict[str, Any], enabled: bool = True) -> dict[str, Any]:
    return {"enabled": enabled, "toxics": list(toxics)}


def probe(outcome: str, seconds: float = 0.002, moment: str = "during", **seen: Any) -> EdgeProbed:
    return EdgeProbed(1.0, "x", "order -> shipping", moment, outcome, seconds, **seen)


ANSWERED = probe("answered", 0.002, "before", sent=200, got=400, status=404, bodies=("aa",), ended=0.001, times=(0.001, 0.002))
BANDWIDTH, SLICER = toxic("bandwidth", rate=20), toxic("slicer", average_size=64, size_variation=16, delay=10_000)


@pytest.mark.parametrize(
    ("asked", "sight"),
    [
        (state(enabled=False), Refused()),
        (state(toxic("unreachable"), toxic("http_error", status=500)), Unreachable()),
        (state(toxic("reset_peer", timeout=0)), Broken()),
        (state(toxic("reset_peer", "upstream", timeout=300)), Broken(0.3)),
        (state(toxic("latency", "upstream", latency=200), toxic("reset_peer", timeout=300)), Broken(0.5)),
        (state(toxic("timeout", timeout=1)), Broken(0.001)),
        (state(toxic("timeout", "upstream", timeout=0), toxic("timeout", timeout=800)), Broken(0.8)),
        (state(toxic("timeout", timeout=0)), Silent()),
        (state(toxic("timeout", "upstream", timeout=0), toxic("reset_peer", timeout=0)), Silent()),
        (state(toxic("reset_peer", "upstream", timeout=0), toxic("timeout", timeout=0)), Broken()),
        (state(toxic("timeout", timeout=0), toxic("latency", latency=300)), Silent()),
        (state(toxic("bandwidth", rate=0)), Silent()),
        (state(toxic("latency", latency=300, jitter=50)), Later(0.3, 0.25)),
        (state(toxic("latency", latency=300), toxic("latency", "upstream", latency=200)), Later(0.5, 0.5)),
        (state(toxic("latency", latency=100), toxic("http_delay", delay=200, fault="y")), Later(0.1, 0.1, (), Later(0.2, 0.2))),
        (state(toxic("latency", latency=100, jitter=300)), Later(0.1, 0.0)),
        (state(BANDWIDTH), Later(0.0, 0.0, (BANDWIDTH,))),
        (state(SLICER), Later(0.0, 0.0, (SLICER,))),
        (state(toxic("limit_data", bytes=2000)), Limited(None, 2000)),
        (state(toxic("limit_data", "upstream", bytes=0), toxic("limit_data", bytes=5)), Limited(0, 5)),
        (state(toxic("slow_close", delay=700)), EndsLater(0.7)),
        (state(toxic("http_error", status=500)), Injected(500, "x-http_error-downstream")),
        (state(toxic("http_error")), Injected(503, "x-http_error-downstream")),
        (state(toxic("http_delay", delay=200)), Later(0.2, 0.2)),
        (state(toxic("http_corrupt", how="bytes")), Damaged()),
        (state(toxic("http_corrupt", how="truncate")), Truncated()),
        (state(toxic("http_lost_reply", how="hang")), Silent()),
        (state(toxic("http_lost_reply", how="reset")), Broken()),
        # of another fault: it may show the same, or nothing
        (state(toxic("timeout", timeout=0), toxic("timeout", fault="y", timeout=0)), Silent()),
        (state(toxic("timeout", timeout=200), toxic("timeout", fault="y", timeout=900)), Broken(0.2)),
        (state(toxic("slow_close", delay=700), toxic("limit_data", fault="y", bytes=10)), EndsLater(0.7)),
        (state(toxic("latency", latency=300), toxic("timeout", fault="y", toxicity=0.5, timeout=0)), Later(0.3, 0.3)),
        (state(toxic("latency", latency=300), toxic("http_error", fault="y", every=3)), Later(0.3, 0.3)),
        # a share of the connections: one of them shows it
        (state(toxic("timeout", toxicity=0.3, timeout=0)), Silent()),
    ],
)
def test_the_state_that_was_read_back_decides_what_must_be_seen(asked: dict[str, Any], sight: Sight) -> None:
    assert sight_of(asked, "x", "http") == sight


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (state(), "nothing of it was there then"),
        (state(toxic("latency", fault="y", latency=300)), "nothing of it was there then"),
        (state(toxic("unheard_of")), "unheard_of"),
        (state(toxic("http_error", share=0.3)), "need not be among"),
        (state(toxic("http_delay", delay=100, path="/orders*")), "need not be among"),
        (state(toxic("latency", latency=300, jitter=50), enabled=False), "hidden by another fault"),
        (state(toxic("latency", latency=300), toxic("timeout", fault="y-1", timeout=0)), "hidden by y-1"),
        (state(toxic("bandwidth", rate=1), toxic("http_error", fault="y")), "hidden by y"),
        (state(toxic("http_error", fault="y", status=500), toxic("http_error", status=500)), "hidden by y"),
        (state(toxic("timeout", timeout=900), toxic("timeout", fault="y", timeout=200)), "hidden by y"),
        (state(toxic("timeout", timeout=0), toxic("reset_peer", "upstream", fault="y", timeout=0)), "hidden by y"),
        (state(toxic("timeout", fault="y", timeout=0)), "nothing of it was there then"),
    ],
)
def test_where_a_probe_need_not_see_anything_it_is_said_why(asked: dict[str, Any], why: str) -> None:
    sight = sight_of(asked, "x", "http")

    assert isinstance(sight, Uncertain)
    assert why in sight.why


SEEN_UNASKED = (Refused, Unreachable, EndsLater)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (state(enabled=False), True),
        (state(toxic("unreachable")), True),
        (state(toxic("timeout", "upstream", timeout=1)), True),
        (state(toxic("slow_close", delay=700)), True),
        (state(toxic("timeout", timeout=0)), False),
        (state(toxic("reset_peer", timeout=0)), False),
        (state(toxic("latency", latency=300)), False),
        (state(toxic("limit_data", bytes=0)), False),
        (state(BANDWIDTH), False),
    ],
)
def test_where_it_is_not_known_what_is_spoken_only_opening_and_ending_are_seen(asked: dict[str, Any], told: bool) -> None:
    assert isinstance(sight_of(asked, "x", "tcp"), Uncertain) is not told


def test_what_strikes_requests_of_http_shows_nothing_on_an_edge_of_something_else() -> None:
    assert isinstance(sight_of(state(toxic("http_error", status=500)), "x", "redis"), Uncertain)


def test_a_proxy_is_clean_when_it_is_on_and_has_no_toxic() -> None:
    assert is_clean(state())
    assert is_clean({})
    assert not is_clean(state(enabled=False))
    assert not is_clean(state(toxic("latency", latency=1)))


def test_a_faults_own_toxics_are_told_from_those_of_one_whose_id_begins_alike() -> None:
    asked = state(
        toxic("latency", fault="slow"), toxic("latency", fault="slow-too"), toxic("timeout", "upstream", fault="slow")
    )

    assert [one["name"] for one in own_toxics(asked, "slow")] == ["slow-latency-downstream", "slow-timeout-upstream"]


@pytest.mark.parametrize(
    ("asked", "passes"),
    [
        (state(), True),
        (state(enabled=False), False),
        (state(toxic("timeout", timeout=0)), False),
        (state(toxic("timeout", timeout=0, toxicity=0.5)), True),
        (state(toxic("unreachable")), False),
        (state(toxic("reset_peer", timeout=0)), False),
        (state(toxic("latency", latency=300)), True),
        (state(toxic("http_error", status=500)), False),
        (state(toxic("http_error", share=0.5)), True),
        (state(toxic("http_corrupt", how="bytes")), True),
    ],
)
def test_whether_real_answers_pass_is_known_of_each_state(asked: dict[str, Any], passes: bool) -> None:
    assert answers_pass(asked) is passes


@pytest.mark.parametrize("said", [{"share": 0.3}, {"every": 2}, {"path": "/*"}, {"methods": ["GET"]}, {"first_attempt": True}])
def test_a_toxic_that_chooses_its_requests_is_partial(said: dict[str, Any]) -> None:
    assert is_partial(toxic("http_error", **said))
    assert not is_partial(toxic("http_error", status=500))
    assert is_partial(toxic("latency", toxicity=0.99))


@pytest.mark.parametrize(
    ("sight", "seen"),
    [
        (Refused(), {"refused"}),
        (Unreachable(), {"unreachable"}),
        (Broken(), {"reset", "closed"}),
        (Silent(), {"silent"}),
        (Later(0.3, 0.3), {"answered"}),
        (Uncertain("nobody knows"), set()),
    ],
)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_what_the_state_must_show_proves_it(sight: Sight, seen: set[str], outcome: str) -> None:
    assert was_seen(sight, ANSWERED, probe(outcome, 0.4)) == (outcome in seen)


EVERY: list[tuple[Sight, EdgeProbed]] = [
    (Refused(), probe("refused")),
    (Unreachable(), probe("unreachable")),
    (Broken(0.3), probe("closed", 0.31)),
    (Silent(), probe("silent", 1.5)),
    (Later(0.3, 0.3), probe("answered", 0.31)),
    (Limited(None, 300), probe("closed", sent=160, got=300)),
    (EndsLater(0.7), probe("answered", ended=0.71)),
    (Injected(500, "x"), probe("answered", status=500, injected="x")),
    (Damaged(), probe("answered", bodies=("bb", "cc"))),
    (Truncated(), probe("closed", status=404, got=90)),
]


@pytest.mark.parametrize(("sight", "during"), EVERY)
def test_each_can_be_seen_in_contrast_to_an_answer_alone(sight: Sight, during: EdgeProbed) -> None:
    assert was_seen(sight, ANSWERED, during)
    for outcome in OUTCOMES:
        if outcome != "answered":
            assert not was_seen(sight, probe(outcome, moment="before", sent=200, got=400, ended=0.001, bodies=("aa",)), during)


@pytest.mark.parametrize(("sight", "during"), EVERY)
def test_an_answer_like_the_one_before_proves_nothing(sight: Sight, during: EdgeProbed) -> None:
    assert not was_seen(sight, ANSWERED, ANSWERED)
    assert sight.expected


@pytest.mark.parametrize(
    ("sight", "during"),
    [
        (Broken(0.3), probe("closed", 0.1)),
        (Limited(None, 300), probe("closed", sent=160, got=301)),
        (Limited(1000, None), probe("closed", sent=1100, got=50)),
        (EndsLater(0.7), probe("answered", ended=0.3)),
        (EndsLater(0.7), probe("answered", ended=None)),
        (Injected(500, "x"), probe("answered", status=500, injected="y")),
        (Injected(500, "x"), probe("answered", status=500)),
        (Damaged(), probe("answered", bodies=("aa", "bb"))),
        (Damaged(), probe("answered", bodies=("",))),
        (Damaged(), probe("answered")),
        (Truncated(), probe("closed", status=0, got=0)),
        (Truncated(), probe("closed", status=404, got=400)),
    ],
)
def test_what_is_nearly_it_is_not_it(sight: Sight, during: EdgeProbed) -> None:
    assert not was_seen(sight, ANSWERED, during)


def test_what_takes_longer_than_a_probe_waits_is_silence_for_as_long_as_it_waited() -> None:
    assert was_seen(Broken(30.0), ANSWERED, probe("silent", 10.0))
    assert was_seen(Later(30.0, 30.0), ANSWERED, probe("silent", 10.0))
    assert not was_seen(Broken(3.0), ANSWERED, probe("silent", 10.0))
    assert not was_seen(Later(3.0, 3.0), ANSWERED, probe("silent", 10.0))


def test_by_a_detour_a_refusal_shows_as_a_close_and_a_handshake_that_is_missing_as_silence() -> None:
    assert was_seen(Refused(), ANSWERED, probe("closed", detail=DETOUR))
    assert was_seen(Unreachable(), ANSWERED, probe("silent", detail=DETOUR))
    assert not was_seen(Refused(), ANSWERED, probe("closed"))
    assert not was_seen(Unreachable(), ANSWERED, probe("silent"))


@pytest.mark.parametrize(
    ("sight", "before"),
    [
        (Limited(None, 300), probe("answered", sent=80, got=200)),
        (EndsLater(0.7), probe("answered")),
        (EndsLater(0.7), probe("answered", ended=0.001, detail=DETOUR)),
        (Damaged(), probe("answered", bodies=("",))),
        (Damaged(), probe("answered", bodies=("aa", "bb"))),
        (Truncated(), probe("answered", bodies=("",))),
        (Later(0.001, 0.001), probe("answered")),
        (Later(0.0, 0.0, (BANDWIDTH,)), probe("answered", times=(0.001,), sent=80, got=30)),
        (Later(0.0, 0.0, (SLICER,)), probe("answered", times=(0.001,), sent=80, got=80)),
        (Uncertain("nobody knows"), ANSWERED),
    ],
)
def test_a_probe_to_which_it_would_show_nothing_cannot_tell_and_never_proves(sight: Sight, before: EdgeProbed) -> None:
    assert sight.unseen(before)
    assert not any(was_seen(sight, before, during) for _, during in EVERY)


@pytest.mark.parametrize(("seconds", "proved"), [(0.241, False), (0.243, True), (0.5, True)])
def test_most_of_an_added_delay_must_be_felt(seconds: float, proved: bool) -> None:
    before = probe("answered", 0.002, "before")

    assert was_seen(Later(0.3, 0.3), before, probe("answered", seconds)) is proved


def test_of_several_answers_the_quickest_decides_so_that_one_that_is_late_by_chance_proves_nothing() -> None:
    assert not was_seen(Later(0.1, 0.1), ANSWERED, probe("answered", times=(0.5, 0.4, 0.003)))
    assert was_seen(Later(0.1, 0.1), ANSWERED, probe("answered", times=(0.101, 0.102, 0.2)))


@pytest.mark.parametrize(("seconds", "proved"), [(0.5, False), (0.503, False), (0.504, True), (0.505, True)])
def test_a_small_delay_is_not_seen_in_a_large_one_of_another_fault(seconds: float, proved: bool) -> None:
    before = probe("answered", times=(0.0,))

    both = Later(0.005, 0.005, (), beside=Later(0.5, 0.5))

    assert was_seen(both, before, probe("answered", times=(seconds,))) is proved
    assert both.expected == "answered 0.51 s later"


def test_silence_while_another_fault_alone_would_keep_all_silent_says_nothing_of_a_delay() -> None:
    both = Later(1.0, 1.0, (), beside=Later(9.5, 9.5))

    assert not was_seen(both, ANSWERED, probe("silent", 9.0))
    assert was_seen(both, ANSWERED, probe("silent", 10.0))


def test_a_delay_smaller_than_the_jitter_of_another_fault_is_hidden_by_it() -> None:
    both = Later(0.005, 0.005, (), beside=Later(0.5, 0.4))

    assert both.unseen(ANSWERED) == "hidden by another fault, whose jitter is larger than this delay"
    assert not was_seen(both, ANSWERED, probe("answered", times=(0.505,) * 20))


def test_beside_the_jitter_of_another_fault_the_average_decides() -> None:
    both = Later(0.2, 0.2, (), beside=Later(0.1, 0.0))
    before = probe("answered", times=(0.0,) * 4)

    assert not was_seen(both, before, probe("answered", times=(0.2, 0.0, 0.1, 0.1)))
    assert was_seen(both, before, probe("answered", times=(0.3, 0.4, 0.2, 0.3)))


def test_with_jitter_the_average_decides() -> None:
    before = probe("answered", times=(0.002,) * 20)

    assert was_seen(Later(0.1, 0.0), before, probe("answered", times=(0.0, 0.1, 0.2, 0.05)))
    assert not was_seen(Later(0.1, 0.0), before, probe("answered", times=(0.15, *(0.002,) * 19)))


@pytest.mark.parametrize(("seconds", "proved"), [(0.019, True), (0.012, False)])
def test_a_slow_line_delays_each_answer_by_its_bytes(seconds: float, proved: bool) -> None:
    """400 bytes at 20 KB/s take 20 ms."""
    before = probe("answered", times=(0.001,), sent=80, got=400)

    assert was_seen(Later(0.0, 0.0, (BANDWIDTH,)), before, probe("answered", times=(seconds,), sent=80, got=400)) is proved


@pytest.mark.parametrize(("seconds", "proved"), [(0.041, True), (0.03, False)])
def test_slices_delay_each_answer_by_the_pauses_between_them(seconds: float, proved: bool) -> None:
    """400 bytes in slices of at most 80 are five, with four pauses of 10 ms between them."""
    before = probe("answered", times=(0.001,), sent=80, got=400)

    assert was_seen(Later(0.0, 0.0, (SLICER,)), before, probe("answered", times=(seconds,), sent=80, got=400)) is proved
