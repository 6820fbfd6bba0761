"""Delays are never early, ring in order, and can be cancelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import monotonic_ns

import pytest
import uvloop

from harness.runtime.proxies.embedded import alarm as alarms
from harness.runtime.proxies.embedded.alarm import Alarm, LoopTimer, timer_for

MS = 1_000_000


@pytest.fixture(params=[timer_for, LoopTimer], ids=["the machine's", "the loop's"])
def timers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "timer_for", request.param)


def rung(delays: list[float], act: Callable[[Alarm, int], None] = lambda alarm, begin: None) -> list[tuple[float, int, int]]:
    """Every delay that rang, in the order they rang, with when it was due and when it rang."""

    async def ring_all() -> list[tuple[float, int, int]]:
        loop = asyncio.get_running_loop()
        alarm = Alarm(loop)
        over, found = asyncio.Event(), []
        begin = monotonic_ns()
        for delay in delays:
            due = begin + int(delay * MS)
            alarm.at(due, lambda delay=delay, due=due: found.append((delay, due, monotonic_ns())))
        act(alarm, begin)
        alarm.at(begin + int(max(delays) * MS) + 1, over.set)
        async with asyncio.timeout(10):
            await over.wait()
        alarm.close()
        return found

    return uvloop.run(ring_all())


@pytest.mark.usefixtures("timers")
def test_no_delay_is_early_and_they_ring_in_order() -> None:
    chance = random.Random(1)
    delays = [chance.uniform(0, 60) for _ in range(300)]

    found = rung(delays)

    assert [delay for delay, _, _ in found] == sorted(delays)
    assert min(at - due for _, due, at in found) >= 0


@pytest.mark.usefixtures("timers")
def test_a_delay_that_is_over_already_rings_at_once() -> None:
    assert [delay for delay, _, _ in rung([-5.0, 0.0])] == [-5.0, 0.0]


@pytest.mark.usefixtures("timers")
def test_a_cancelled_delay_does_not_ring() -> None:
    def cancel_one(alarm: Alarm, begin: int) -> None:
        alarm.at(begin + MS, lambda: pytest.fail("it rang")).cancel()

    assert [delay for delay, _, _ in rung([2.0], cancel_one)] == [2.0]


def test_cancelled_delays_do_not_pile_up() -> None:
    def cancel_many(alarm: Alarm, begin: int) -> None:
        for _ in range(10_000):
            alarm.at(begin + 3_600_000 * MS, lambda: None).cancel()
        assert len(alarm._heap) < 2_100

    assert len(rung([1.0], cancel_many)) == 1
