"""Counts of an edge that go on where an engine that was restarted begins at nothing again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from harness.history.events import EdgeSeen

Number: TypeAlias = int | None


class Totals:
    """What was seen on every edge by all engines that stood there, one after the other."""

    def __init__(self) -> None:
        self._before: dict[str, EdgeSeen] = {}
        self._last: dict[str, EdgeSeen] = {}

    def seen(self, edges: Sequence[EdgeSeen]) -> tuple[EdgeSeen, ...]:
        """What the engine that stands there now has counted, with what the others had."""
        totals = tuple(_sum(self._before[edge.proxy], edge) if edge.proxy in self._before else edge for edge in edges)
        self._last = {edge.proxy: edge for edge in totals}
        return totals

    def carry_over(self) -> None:
        """The engine is another one from now on. What the last one counted since it was last asked is lost."""
        self._before = dict(self._last)


def _sum(before: EdgeSeen, now: EdgeSeen) -> EdgeSeen:
    return replace(
        now,
        accepted=before.accepted + now.accepted,
        refused=_add(before.refused, now.refused),
        cut=_add(before.cut, now.cut),
        bytes_up=_add(before.bytes_up, now.bytes_up),
        bytes_down=_add(before.bytes_down, now.bytes_down),
        requests=_add_known(before.requests, now.requests),
        answers=_add_answers(before.answers, now.answers),
        traces=_add_known(before.traces, now.traces),
        most_attempts=max((most for most in (before.most_attempts, now.most_attempts) if most is not None), default=None),
        struck=_add_struck(before.struck, now.struck),
        cannot="; ".join(dict.fromkeys(why for why in (before.cannot, now.cannot) if why)),
    )


def _add(before: Number, now: Number) -> Number:
    """A total that misses some is none."""
    return None if before is None or now is None else before + now


def _add_known(before: Number, now: Number) -> Number:
    """What is None until the first request came counts as nothing."""
    return now if before is None else before + (now or 0)


def _add_answers(before: dict[str, int] | None, now: dict[str, int] | None) -> dict[str, int] | None:
    return now if before is None else dict(Counter(before) + Counter(now or {}))


def _add_struck(before: dict[str, int] | None, now: dict[str, int] | None) -> dict[str, int] | None:
    if before is None or now is None:
        return now if before is None else before
    return {toxic: before.get(toxic, 0) + now.get(toxic, 0) for toxic in {**before, **now}}
