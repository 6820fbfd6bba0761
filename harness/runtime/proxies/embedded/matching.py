"""Which requests the toxics of HTTP strike, and what they together make of one.

What is remembered here belongs to a proxy, not to one of its connections: every toxic numbers the requests of the
edge that match it, whether or not another toxic takes them from it.
"""

from __future__ import annotations

import fnmatch
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from harness.runtime.proxies.embedded.counts import MOST_TRACES
from harness.runtime.proxies.embedded.draws import draw, journey_prefix
from harness.runtime.proxies.embedded.toxics import HttpCorrupt, HttpDelay, HttpEffect, HttpError, HttpLostReply, Match, Toxic

_MS = 1_000_000


@dataclass(slots=True)
class Request:
    """The head of a request, as far as it can be chosen by; names of headers are in lower case.

    `trace` is empty where no `traceparent` says one.
    """

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    trace: str


def request_of(head: bytes, headers: list[tuple[bytes, bytes]], trace: bytes) -> Request:
    """What the head of a request says."""
    method, target, _ = head.split(None, 2)
    return Request(method.decode("latin-1"), _path(target.decode("latin-1")), headers, trace.decode("latin-1"))


def trace_of(traceparent: bytes) -> bytes:
    """The trace id that it says, empty where it is none."""
    return traceparent[3:35] if len(traceparent) >= 55 else b""


def _path(target: str) -> str:
    if not target.startswith("/") and "://" in target:  # as a proxy is asked
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target.partition("?")[0].partition("#")[0]


class Choice:
    """What a match says, made ready for being asked of every request."""

    def __init__(self, match: Match) -> None:
        self.match = match
        self._methods = frozenset(match.methods)
        self._path = _glob(match.path) if match.path else None
        name, _, value = match.header.partition(":")
        self._header = (name.strip().lower().encode(), _glob(value.strip())) if match.header else None
        self._prefix = journey_prefix(match.journey) if match.journey else ""

    def admits(self, request: Request) -> bool:
        """Whether all holds that can be seen from the request alone."""
        return (
            (not self._methods or request.method in self._methods)
            and (self._path is None or self._path.fullmatch(request.path) is not None)
            and request.trace.startswith(self._prefix)
            and (self._header is None or self._bears(request))
        )

    def _bears(self, request: Request) -> bool:
        assert self._header is not None
        wanted, glob = self._header
        return any(
            name == wanted and glob.fullmatch(value.decode("utf-8", "surrogateescape")) is not None
            for name, value in request.headers
        )


def _glob(pattern: str) -> re.Pattern[str]:
    """`*` for any characters and `?` for one; a bracket is a bracket."""
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


class Fault:
    """A toxic of HTTP on one proxy, and what it remembers of the requests that it met since it was added."""

    def __init__(self, toxic: Toxic, random: Random) -> None:
        self.removed = False
        self._random = random
        self._number = 0
        self._traces: OrderedDict[str, None] = OrderedDict()
        self.change(toxic)

    def change(self, toxic: Toxic) -> None:
        """Its attributes are others from now on; it goes on numbering."""
        assert isinstance(toxic.effect, HttpEffect)
        self.name, self.seed, self.effect = toxic.name, toxic.seed, toxic.effect
        self._choice = Choice(toxic.effect.match)

    def strikes(self, request: Request) -> bool:
        """Whether this request, which is the next one on the edge, is struck."""
        match = self._choice.match
        if match.first_attempt and not self._is_first(request.trace):
            return False
        if not self._choice.admits(request):
            return False
        number, self._number = self._number, self._number + 1
        if match.every is not None and (number + 1) % match.every:
            return False
        return match.share is None or self._drawn(number) < match.share

    def delay(self) -> int:
        """Nanoseconds for which a request that it struck is held back."""
        assert isinstance(self.effect, HttpDelay)
        delay, jitter = self.effect.delay * _MS, self.effect.jitter * _MS
        return max(0, delay + (self._random.randrange(-jitter, jitter) if jitter else 0))

    def _drawn(self, number: int) -> float:
        return self._random.random() if self.seed is None else draw(self.seed, number)

    def _is_first(self, trace: str) -> bool:
        if not trace or trace in self._traces:
            return False
        self._traces[trace] = None
        if len(self._traces) > MOST_TRACES:
            self._traces.popitem(last=False)  # a plain dict walks over all that it lost before
        return True


@dataclass(slots=True)
class Treatment:
    """What becomes of one request: held back for the sum of `delays`, then passed on, or answered here by `error`."""

    delays: dict[Fault, int]
    error: Fault | None = None
    lost: Fault | None = None
    corrupt: Fault | None = None


class HttpFaults:
    """The toxics of HTTP on one proxy, in the order in which they were added."""

    def __init__(self, random_of: Callable[[str], Random]) -> None:
        self._random_of = random_of
        self._faults: dict[str, Fault] = {}

    def __bool__(self) -> bool:
        return bool(self._faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults.values())

    @property
    def answer_all(self) -> bool:
        """Whether no request gets past them, whatever it is."""
        for fault in self:
            if isinstance(fault.effect, HttpLostReply):
                return False
            if isinstance(fault.effect, HttpError) and fault.effect.match == Match():
                return True
        return False

    def add(self, toxic: Toxic) -> None:
        """One more, behind the others."""
        self._faults[toxic.name] = Fault(toxic, self._random_of(toxic.name))

    def change(self, toxic: Toxic) -> Fault:
        """One has other attributes; those whom it holds have to be told."""
        fault = self._faults[toxic.name]
        fault.change(toxic)
        return fault

    def remove(self, name: str) -> Fault:
        """One less; the requests that it has struck may still have to be told."""
        fault = self._faults.pop(name)
        fault.removed = True
        return fault

    def treatment(self, request: Request) -> Treatment | None:
        """What they make of a request, None where it is left alone. Each is asked, so that each goes on numbering."""
        struck = [fault for fault in self._faults.values() if fault.strikes(request)]
        if not struck:
            return None
        treatment: Final = Treatment({})
        for fault in struck:
            _lay(fault, treatment)
            if treatment.error is not None:
                break
        return treatment


def _lay(fault: Fault, treatment: Treatment) -> None:
    """The first that keeps an answer from coming decides about that."""
    match fault.effect:
        case HttpDelay():
            if delay := fault.delay():
                treatment.delays[fault] = delay
        case HttpError() if treatment.lost is None:
            treatment.error = fault
        case HttpLostReply() if treatment.lost is None:
            treatment.lost = fault
        case HttpCorrupt() if treatment.corrupt is None:
            treatment.corrupt = fault
        case _:
            pass
