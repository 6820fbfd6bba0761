"""The requests of one connection that are under way and the answers that are due to them, in their order."""

from __future__ import annotations

from collections import deque
from http import HTTPStatus
from typing import Protocol

from harness.runtime.proxies.embedded.alarm import Alarm
from harness.runtime.proxies.embedded.counts import Counts
from harness.runtime.proxies.embedded.matching import Fault, HttpFaults
from harness.runtime.proxies.embedded.messages import Framer
from harness.runtime.proxies.embedded.stages import Passage
from harness.runtime.proxies.embedded.tap import Tap
from harness.runtime.proxies.embedded.toxics import HttpError, HttpLostReply

MOST_OPEN = 1000
"""Requests of one connection that may be under way; a caller that sends more is not read until some are answered."""

GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class Line(Protocol):
    """What may be done to the connection as a whole."""

    counts: Counts

    @property
    def alarm(self) -> Alarm:
        """Rings when a request was held back long enough."""
        ...

    def hold_caller(self) -> None:
        """Read no more from the caller."""
        ...

    def release_caller(self) -> None:
        """Read from the caller again."""
        ...

    def cut(self) -> None:
        """Close both ends now, because of a fault."""
        ...

    def reset(self) -> None:
        """Reset both ends now, because of a fault."""
        ...

    def cut_short(self) -> None:
        """Close both ends, because of a fault, once they have been sent what was written."""
        ...

    def leave(self) -> None:
        """Nothing is to be done to requests any more: let all bytes pass by."""
        ...


class Turn:
    """One request and the answer that is due to it.

    Where there is an `error` its answer is made here, once the request is complete. A turn that is `opaque` stands
    for all that follows the last request that was understood.
    """

    __slots__ = (
        "corrupt",
        "error",
        "expects",
        "is_complete",
        "is_connect",
        "is_head",
        "is_last",
        "lost",
        "offers",
        "opaque",
        "version",
    )

    def __init__(self, request: Framer | None = None) -> None:
        self.opaque = request is None
        self.offers = request is not None and request.offers
        self.is_connect = self.offers and request is not None and request.method == "CONNECT"
        self.is_head = request is not None and request.method == "HEAD"
        self.expects = request is not None and request.header(b"expect").lower() == b"100-continue"
        self.version = request.version if request is not None else ""
        self.is_complete = self.is_last = False
        self.error: Fault | None = None
        self.lost: Fault | None = None
        self.corrupt: Fault | None = None

    def becomes_another(self, status: int) -> bool:
        """Whether the connection speaks something else once its request was answered so."""
        return status == HTTPStatus.SWITCHING_PROTOCOLS or (self.is_connect and is_success(status))


class Side(Protocol):
    """One of the two directions."""

    def finish(self) -> None:
        """No more will come."""
        ...

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is half read and nothing waits."""
        ...


class RequestSide(Side, Protocol):
    """That of the requests."""

    def look_again(self) -> None:
        """Something has changed: what waits may go on."""
        ...


class Turns:
    """What the two directions of a connection know together."""

    def __init__(self, line: Line, faults: HttpFaults, tap: Tap, down: Passage) -> None:
        self.line, self.faults, self.tap, self.down = line, faults, tap, down
        self.requests: RequestSide
        self.answers: Side
        self.open: deque[Turn] = deque()
        self.is_followed = tap.is_between and tap.is_answered
        self.is_opaque = self.is_hung = self.is_over = False
        self.caller_ended = self.callee_ended = False
        self.caller_is_full = self._is_finished = False

    @property
    def first(self) -> Turn | None:
        """The request whose answer is due."""
        return self.open[0] if self.open else None

    @property
    def has_room(self) -> bool:
        """Whether another request may begin."""
        if not self.is_followed and not self.tap.is_answered:
            return self.is_opaque
        if self.open and self.open[-1].offers and not (self.is_hung or self.callee_ended):
            return self.is_opaque  # the answer says what is spoken next
        return self.is_opaque or not (self.caller_is_full or len(self.open) >= MOST_OPEN)

    @property
    def next_is_made_here(self) -> bool:
        """Whether it is not the callee who answers next but one, or who can be understood then."""
        return len(self.open) > 1 and (self.open[1].error is not None or self.open[1].opaque)

    def follow(self) -> None:
        """Act from now on if everything is complete and answered that began before this connection was followed."""
        self.is_followed = self.is_followed or (self.tap.is_between and self.tap.is_answered)

    def struck(self, fault: Fault) -> None:
        """A toxic acted on a request."""
        self.line.counts.strike(fault.name)

    def answered(self) -> None:
        """The answer that was due has passed; the next one may be made here, or be none that is understood."""
        self.open.popleft()
        self.go_on()

    def go_on(self) -> None:
        """Write the answers made here that are due, as far as the caller takes them."""
        while self.first is not None and not self.caller_is_full and self._answer_here(self.first):
            pass
        if self.first is not None and self.first.opaque:
            self.give_up()

    def catch_up(self) -> None:
        """Write those that are due though the caller takes none: what comes behind them is here."""
        while self.first is not None and self._answer_here(self.first):
            pass

    def _answer_here(self, turn: Turn) -> bool:
        """Whether the answer was to be made here, and the next one is due."""
        if turn.error is None or self._is_finished:
            return False
        if turn.expects:
            turn.expects = False
            self.down.feed(GO_ON)
        if not turn.is_complete:
            return False
        self.open.popleft()
        turn.is_last = turn.is_last or (self.callee_ended and not self._is_answered_here)
        self.tap.answer(status_of(turn.error))
        self.down.feed(answer_of(turn.error, turn))
        if turn.is_last:
            self._end()
        return True

    def _end(self) -> None:
        """The caller wanted no more answers than this."""
        self.is_over = True
        self.answers.finish()
        self.finish_down()
        self.requests.finish()

    @property
    def _is_answered_here(self) -> bool:
        """Whether the answer that is due is made here, and its request is there or may still come."""
        first = self.first
        return first is not None and first.error is not None and (first.is_complete or not self.caller_ended)

    def end_answers(self) -> None:
        """The callee sends no more; what is answered here still is, and the next request where that is certain to be."""
        may_ask = not self.open and not self.caller_ended and self.is_followed
        if self.is_over or not (self._is_answered_here or (may_ask and self.faults.answer_all)):
            self.finish_down()

    def finish_down(self) -> None:
        """The caller gets no more. Twice is once."""
        if not self._is_finished:
            self._is_finished = True
            self.down.finish()

    def rest(self) -> None:
        """Where no toxic is left and nothing is under way, nothing is to be done here any more."""
        if not self.faults and not self.open and self.requests.is_quiet and self.answers.is_quiet and not self.is_over:
            self.line.leave()

    def give_up(self) -> None:
        """This is HTTP/1.1 no more, or never was. Where answers were still to be made here they have no place any more."""
        if any(turn.error is not None for turn in self.open):
            self.line.cut()
            return
        self.is_opaque = True
        self.open.clear()
        self.tap.give_up()
        self.requests.look_again()
        self.line.leave()


def resets(fault: Fault) -> bool:
    """Whether it resets the connection in place of an answer."""
    return isinstance(fault.effect, HttpLostReply) and fault.effect.how == "reset"


def is_success(status: int) -> bool:
    """Whether it is one of 2xx."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def status_of(fault: Fault) -> int:
    """What an http_error answers with."""
    assert isinstance(fault.effect, HttpError)
    return fault.effect.status


def answer_of(fault: Fault, turn: Turn) -> bytes:
    """The answer that an http_error makes."""
    assert isinstance(fault.effect, HttpError)
    body = fault.effect.body.encode()
    lines = [
        f"HTTP/1.1 {fault.effect.status} {_phrase(fault.effect.status)}",
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
        f"X-Chaos-Fault: {fault.name}",
    ]
    if turn.is_last:
        lines.append("Connection: close")
    elif turn.version == "1.0":
        lines.append("Connection: keep-alive")
    return "\r\n".join([*lines, "\r\n"]).encode() + (b"" if turn.is_head else body)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Injected"
