"""The dots of a picture, and what they add up to, are those of the requests one by one."""

from __future__ import annotations

from collections import Counter
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history.history import History
from harness.history.requests import OUTCOMES, Request
from harness.report.html import _failures
from harness.report.series import LEAST_LATENCY, Dots, dots_of, log_scale, quantile, sample, stretches
from harness.report.summary import ANSWERS, Summary, answer_of
from tests.golden.made_up import made_up

HISTORY, VERDICT = made_up("failed")
BEGAN = HISTORY.began

REQUEST = st.builds(
    Request,
    journey=st.sampled_from(["POST /orders", "GET /other", ""]),
    due=st.floats(BEGAN, BEGAN + 900),
    start=st.just(0.0),
    end=st.floats(BEGAN, BEGAN + 950),
    outcome=st.sampled_from(OUTCOMES),
    status=st.sampled_from([0, 200, 503]),
    bytes=st.integers(0, 1000),
    marks=st.sampled_from([(), ("a",), ("a", "b")]),
)
MANY = st.lists(REQUEST, max_size=60)


def summary_of(requests: list[Request]) -> Summary:
    return Summary(History(HISTORY.plan, HISTORY.events, requests), VERDICT)


def dots(requests: list[Request]) -> Dots:
    summary = summary_of(requests)
    return dots_of(summary, summary.history.requests)


@given(MANY)
def test_a_dot_is_where_its_request_stands(requests: list[Request]) -> None:
    summary = summary_of(requests)

    found = dots_of(summary, summary.history.requests)

    for place, request in enumerate(summary.history.requests):
        endless = request.outcome in ("unfinished", "dropped")
        waited = max(request.latency, 5.0) if endless else request.latency
        assert found.at[place] == request.due - BEGAN
        assert found.latency[place] == max(LEAST_LATENCY, waited)
        assert ANSWERS[found.answer[place]] == answer_of(request)


@given(MANY)
def test_stretches_hold_every_request_in_the_one_it_was_due_in(requests: list[Request]) -> None:
    drawn = dots(requests)

    parts = stretches(drawn)

    for part in parts:
        mine = drawn.chosen((drawn.at >= part.begin) & (drawn.at < part.end))
        assert [part.count(answer) for answer in ANSWERS] == [int(mine.of(answer).sum()) for answer in ANSWERS]
        assert part.p95 == (quantile(sorted(mine.latency), 0.95) if len(mine) >= 5 else None)
    assert sum(part.requests for part in parts) == len(requests)
    assert len(parts) <= 101


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=400), st.integers(1, 300), st.data())
def test_a_sample_keeps_what_tells_most_and_no_more_than_its_budget(
    latencies: list[float], budget: int, data: st.DataObject
) -> None:
    answers = data.draw(st.lists(st.integers(0, 2), min_size=len(latencies), max_size=len(latencies)))
    every = Dots(np.arange(len(latencies), dtype=float), np.array(latencies), np.array(answers, dtype=np.uint8))

    shown = sample(every, budget)

    assert min(budget * 3 // 4, len(every)) <= len(shown) <= budget
    assert len(set(shown.at)) == len(shown)
    slow = sorted(latencies)[ceil(len(latencies) * 0.99) - 1]
    telling = {at for at, latency, answer in zip(every.at, latencies, answers, strict=True) if latency >= slow or answer == 2}
    if len(telling) <= budget * 3 // 4:
        assert telling <= set(shown.at)


@given(MANY)
def test_failures_are_counted_by_what_went_wrong(requests: list[Request]) -> None:
    summary = summary_of(requests)
    failed = [request for request in summary.history.requests if not request.ok]
    counted = Counter((request.journey, request.outcome, request.status) for request in failed)

    found = _failures(summary)

    assert [kind.count for kind in found] == [count for _, count in counted.most_common(30)]
    for kind in found:
        example = kind.example
        alike = [
            one
            for one in failed
            if (one.journey, one.outcome, one.status) == (example.journey, example.outcome, example.status)
        ]
        assert (kind.count, kind.first, kind.last) == (len(alike), alike[0].due - BEGAN, alike[-1].due - BEGAN)
        assert example == alike[0]


def test_nothing_has_a_picture_too() -> None:
    nothing = dots([])

    assert stretches(nothing) == []
    assert len(sample(nothing, 10)) == 0
    assert log_scale(nothing, 0, 100).y(0.01) == pytest.approx(50, abs=30)
