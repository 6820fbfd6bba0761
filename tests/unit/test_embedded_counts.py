"""The counters of a proxy when there is very much to count."""

from __future__ import annotations

import time
import tracemalloc

from harness.runtime.proxies.embedded.counts import MOST_TRACES, Counts


def test_traces_without_end_cost_no_more_each_than_the_first_ones() -> None:
    counts = Counts()
    traces = [b"%032x" % number for number in range(MOST_TRACES + 50_000)]
    begin = time.process_time()

    for trace in traces:
        counts.attempt(trace)

    assert time.process_time() - begin < 5
    assert (counts.traces, counts.most_attempts) == (len(traces), 1)


def test_traces_without_end_take_bounded_memory() -> None:
    counts = Counts()
    tracemalloc.start()
    try:
        for number in range(MOST_TRACES):
            counts.attempt(b"%032x" % number)
        full, _ = tracemalloc.get_traced_memory()
        for number in range(MOST_TRACES, 2 * MOST_TRACES):
            counts.attempt(b"%032x" % number)
        assert tracemalloc.get_traced_memory()[0] < 1.5 * full
    finally:
        tracemalloc.stop()


def test_the_attempts_of_a_trace_are_counted_on_while_half_as_many_others_come() -> None:
    counts = Counts()
    counts.attempt(b"x")
    for number in range(MOST_TRACES // 2):
        counts.attempt(b"%d" % number)

    counts.attempt(b"x")

    assert counts.most_attempts == 2
