"""Requests in columns: an hour at a thousand a second is held, cut into windows and counted without an object for each.

A table is a sequence of `Request`; what is asked of many at once is asked of its columns, which are arrays of numpy.
Words that repeat (journeys, outcomes, marks, errors) are kept once, and the columns hold their places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from harness.history.requests import OUTCOMES, Request

Times: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

OK = OUTCOMES.index("ok")
ENDLESS = (OUTCOMES.index("unfinished"), OUTCOMES.index("dropped"))
DROPPED = OUTCOMES.index("dropped")
OTHER = OUTCOMES.index("other")

LONGEST_TRACE = 64
"""How much of a trace id is kept; those of W3C have 32 characters."""


@dataclass(frozen=True)
class Words:
    """Words that repeat, each kept once."""

    known: tuple[Any, ...]

    def places_where(self, holds: Callable[[Any], bool]) -> NDArray[np.intp]:
        """The places of those words of which something is so."""
        return np.array([place for place, word in enumerate(self.known) if holds(word)], dtype=np.intp)


@dataclass(frozen=True, eq=False)
class Requests(Sequence[Request]):
    """Requests in the order in which they were due; of two at once the one that began first, or ended first.

    `due`, `start` and `end` are seconds since the epoch; `journey`, `marks` and `error` are places in the words of the
    same name, `outcome` is one in OUTCOMES; `trace` is as many bytes of ASCII as the longest.
    """

    due: Times
    start: Times
    end: Times
    journey: NDArray[np.int32]
    outcome: NDArray[np.uint8]
    status: NDArray[np.uint16]
    bytes: NDArray[np.int64]
    marks: NDArray[np.int32]
    error: NDArray[np.int32]
    trace: NDArray[np.bytes_]
    journeys: Words
    markings: Words
    errors: Words

    # one by one

    def __len__(self) -> int:
        return len(self.due)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> Requests: ...
    def __getitem__(self, index: int | slice) -> Request | Requests:
        if isinstance(index, slice):
            return self.at(index)
        return Request(
            journey=self.journeys.known[self.journey[index]],
            due=float(self.due[index]),
            start=float(self.start[index]),
            end=float(self.end[index]),
            outcome=OUTCOMES[self.outcome[index]],
            status=int(self.status[index]),
            bytes=int(self.bytes[index]),
            marks=self.markings.known[self.marks[index]],
            trace=self.trace[index].decode("ascii"),
            error=self.errors.known[self.error[index]],
        )

    def __iter__(self) -> Iterator[Request]:
        return map(self.__getitem__, range(len(self)))

    # many at once

    def at(self, chosen: slice | Mask | NDArray[np.intp]) -> Requests:
        """Some of them, in the order that is asked for."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in COLUMNS})

    def between(self, spans: Iterable[tuple[float, float]]) -> Requests:
        """Those due from the begin of a span on and before its end; spans come in order, and apart from each other."""
        found = [slice(*map(int, np.searchsorted(self.due, span))) for span in spans]
        if len(found) == 1:
            return self.at(found[0])
        return self.at(np.concatenate([np.arange(one.start, one.stop) for one in found] or [np.arange(0)]))

    @property
    def ok(self) -> Mask:
        """Which were answered as their users wanted."""
        found: Mask = self.outcome == OK
        return found

    @property
    def latency(self) -> Times:
        """Seconds from the intended start: what a person who wanted it then has waited."""
        return self.end - self.due

    @property
    def never_ended(self) -> Mask:
        """Which came to no end while the load lasted."""
        return np.isin(self.outcome, ENDLESS)

    @property
    def marked(self) -> Mask:
        """Which bore the marker of any fallback."""
        return np.isin(self.marks, self.markings.places_where(bool))

    @property
    def sent(self) -> int:
        """How many were sent: for the others no user was free."""
        return int(np.count_nonzero(self.outcome != DROPPED))

    def bears(self, *names: str) -> Mask:
        """Which bore the marker of one of these fallbacks."""
        return np.isin(self.marks, self.markings.places_where(lambda marks: not set(names).isdisjoint(marks)))

    def of(self, journeys: Callable[[str], bool]) -> Mask:
        """Which belong to such journeys."""
        return np.isin(self.journey, self.journeys.places_where(journeys))


COLUMNS = ("due", "start", "end", "journey", "outcome", "status", "bytes", "marks", "error", "trace")


def requests_of(requests: Iterable[Request]) -> Requests:
    """The table of some requests, put into order."""
    if isinstance(requests, Requests):
        return requests
    listed = sorted(requests, key=lambda request: (request.due, request.start, request.end))
    journeys, markings, errors = Places(), Places(), Places()
    codes = {outcome: place for place, outcome in enumerate(OUTCOMES)}
    return Requests(
        due=np.array([request.due for request in listed], dtype=np.float64),
        start=np.array([request.start for request in listed], dtype=np.float64),
        end=np.array([request.end for request in listed], dtype=np.float64),
        journey=np.array([journeys.place(request.journey) for request in listed], dtype=np.int32),
        outcome=np.array([codes.get(request.outcome, OTHER) for request in listed], dtype=np.uint8),
        status=np.array([request.status for request in listed], dtype=np.uint16),
        bytes=np.array([request.bytes for request in listed], dtype=np.int64),
        marks=np.array([markings.place(request.marks) for request in listed], dtype=np.int32),
        error=np.array([errors.place(request.error) for request in listed], dtype=np.int32),
        trace=np.array([request.trace[:LONGEST_TRACE].encode("ascii", "replace") for request in listed], dtype=np.bytes_),
        journeys=journeys.words,
        markings=markings.words,
        errors=errors.words,
    )


class Places:
    """Gives each word that is new a place."""

    def __init__(self) -> None:
        self._places: dict[Any, int] = {}

    def place(self, word: Any) -> int:
        return self._places.setdefault(word, len(self._places))

    @property
    def words(self) -> Words:
        return Words(tuple(self._places))


NONE = requests_of(())


def joined(tables: Sequence[Requests]) -> Requests:
    """Several tables as one, put into order."""
    if len(tables) < 2:
        return tables[0] if tables else NONE
    columns: dict[str, Any] = {name: np.concatenate([getattr(table, name) for table in tables]) for name in COLUMNS}
    for name, words in (("journey", "journeys"), ("marks", "markings"), ("error", "errors")):
        found = Places()
        places = [
            np.array([found.place(word) for word in getattr(table, words).known], dtype=np.int32)[getattr(table, name)]
            for table in tables
        ]
        columns |= {name: np.concatenate(places), words: found.words}
    return Requests(**columns).at(np.lexsort((columns["end"], columns["start"], columns["due"])))
