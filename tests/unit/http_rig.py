"""One connection with toxics of HTTP, without sockets: what reaches the callee, what reaches the caller, and when."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from time import monotonic_ns
from typing import Any

from harness.runtime.proxies.embedded.alarm import Bell
from harness.runtime.proxies.embedded.counts import Counts
from harness.runtime.proxies.embedded.http_faults import HttpFilter
from harness.runtime.proxies.embedded.matching import HttpFaults
from harness.runtime.proxies.embedded.tap import NOT_HTTP, Tap
from harness.runtime.proxies.embedded.toxics import Toxic, toxic_from_data


def toxic(kind: str, name: str = "", seed: int | None = None, **attributes: Any) -> Toxic:
    given = {"type": kind, "name": name or kind, "attributes": attributes}
    return toxic_from_data(given if seed is None else {**given, "seed": seed})


class End:
    """Where bytes come out."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.pieces = 0
        self.finished = False

    def feed(self, data: bytes) -> None:
        assert not self.finished, "nothing is written after the end"
        assert data, "nothing is written for nothing"
        self.got += data
        self.pieces += 1

    def finish(self) -> None:
        assert not self.finished, "an end comes once"
        self.finished = True


class StoppedAlarm:
    """Rings when a test says what time it is."""

    def __init__(self) -> None:
        self.bells: list[Bell] = []

    def at(self, due: int, ring: Callable[[], None]) -> Bell:
        self.bells.append(bell := Bell(due, ring))
        return bell

    def ring(self, until: int | None = None) -> None:
        """Ring what is due by then, all of it where nothing is said."""
        due = [bell for bell in self.bells if until is None or bell.due <= until]
        self.bells = [bell for bell in self.bells if bell not in due]
        for bell in sorted(due, key=lambda bell: bell.due):
            if bell.ring is not None:
                bell.ring()

    @property
    def waits(self) -> list[float]:
        """Milliseconds until the bells that will ring do so."""
        return [(bell.due - monotonic_ns()) / 1e6 for bell in self.bells if bell.ring is not None]


class Connection:
    """What the relay is to the filter: it reads along where there is no toxic of HTTP, and leaves the bytes to it where one is."""

    def __init__(self, *toxics: Toxic, faults: HttpFaults | None = None) -> None:
        self.alarm: Any = StoppedAlarm()
        self.counts = Counts()
        self.faults = faults if faults is not None else HttpFaults(lambda _: Random(1))
        self.tap = Tap(self.counts)
        self.callee, self.caller = End(), End()
        self.filter: HttpFilter | None = None
        self.is_held = False
        self.ending = ""
        for each in toxics:
            self.add(each)

    # What a test does

    def add(self, added: Toxic) -> None:
        self.faults.add(added)
        if self.filter is None and self.tap.requests is not None and not self.ending:
            self.filter = HttpFilter(self, self.faults, self.tap, self.callee, self.caller)

    def change(self, changed: Toxic) -> None:
        fault = self.faults.change(changed)
        if self.filter is not None:
            self.filter.change(fault)

    def remove(self, name: str) -> None:
        fault = self.faults.remove(name)
        if self.filter is not None:
            self.filter.remove(fault)

    def ask(self, data: bytes) -> None:
        """The caller sends this."""
        if self.ending:
            return
        if self.filter is not None:
            self.filter.requests.feed(data)
            return
        self._read_along(self.tap.requests, data)
        self.callee.feed(data)

    def answer(self, data: bytes) -> None:
        """The callee sends this."""
        if self.ending:
            return
        if self.filter is not None:
            self.filter.answers.feed(data)
            return
        self._read_along(self.tap.answers, data)
        self.caller.feed(data)

    def hang_up(self) -> None:
        """The caller sends no more."""
        (self.callee if self.filter is None else self.filter.requests).finish()

    def end_answers(self) -> None:
        """The callee sends no more."""
        (self.caller if self.filter is None else self.filter.answers).finish()

    @property
    def sent(self) -> bytes:
        """What reached the callee."""
        return bytes(self.callee.got)

    @property
    def received(self) -> bytes:
        """What reached the caller."""
        return bytes(self.caller.got)

    @property
    def told(self) -> dict[str, Any]:
        """What is told of it once it is over."""
        self._over("told")
        return self.counts.as_data(0.0, "x")

    # What the filter does

    def hold_caller(self) -> None:
        self.is_held = True

    def release_caller(self) -> None:
        self.is_held = False

    def cut(self) -> None:
        self._over("cut")

    def reset(self) -> None:
        self._over("reset")

    def cut_short(self) -> None:
        self._over("cut short")

    def leave(self) -> None:
        self.filter = None

    def _over(self, how: str) -> None:
        self.ending = self.ending or how
        if self.filter is not None:
            self.filter.drop()
        self.tap.end()

    def _read_along(self, along: Callable[[bytes], object] | None, data: bytes) -> None:
        if along is not None:
            try:
                along(data)
            except NOT_HTTP as error:
                self.tap.stumble(error, data)
