"""The requests of one connection on their way to the callee: the head of each is held until it is known what becomes of it."""

from __future__ import annotations

from time import monotonic_ns

from httptools import HttpRequestParser

from harness.runtime.proxies.embedded.alarm import Bell
from harness.runtime.proxies.embedded.matching import Fault, Treatment, request_of, trace_of
from harness.runtime.proxies.embedded.messages import EmptyLines, Framer, NotHttp
from harness.runtime.proxies.embedded.stages import Passage
from harness.runtime.proxies.embedded.tap import NOT_HTTP
from harness.runtime.proxies.embedded.turns import Turn, Turns, resets


class Held:
    """A request that is held back: its head, and until when."""

    def __init__(self, turn: Turn, treatment: Treatment, head: bytes) -> None:
        self.turn, self.treatment, self.head = turn, treatment, head
        self._since = monotonic_ns()
        self.bell: Bell | None = None

    @property
    def due(self) -> int:
        """When it goes on."""
        return self._since + sum(self.treatment.delays.values())


class Requests:
    """Where the bytes of the caller come in. While one request waits, what follows it is not read from the socket."""

    def __init__(self, turns: Turns, following: Passage) -> None:
        self.next = following
        self._turns = turns
        self._framer = Framer(HttpRequestParser)
        self._lines = EmptyLines()
        self._out: list[bytes] = []
        self._head = bytearray()
        self._is_past = False
        self._turn: Turn | None = None
        self._held: Held | None = None
        self._waits = self._is_opaque = self._finished = False
        self._unread = b""

    @property
    def is_quiet(self) -> bool:
        """Whether no request is half read, and none waits."""
        return not self._waits and not self._framer.began

    def feed(self, data: bytes) -> None:
        if self._turns.is_over:
            return
        if self._waits:
            self._unread += data
        elif self._is_opaque or self._turns.is_opaque:
            self.next.feed(data)
        elif self._turns.is_followed:
            self._read(data)
            self._turns.rest()
        else:
            self._read_old(data)
            self._turns.rest()

    def finish(self) -> None:
        """The caller sends no more; what it has sent goes first, complete or not."""
        self._turns.caller_ended = True
        if not self._waits and not self._finished:
            self._finished = True
            self._pass_head()
            self.next.finish()
            if self._turns.callee_ended and (self._turns.is_hung or self._turn is not None or not self._turns.open):
                self._turns.finish_down()

    def look_again(self) -> None:
        """Something has changed: what waits may go on."""
        if self._turns.is_opaque:
            self._let_go()
        elif self._waits and self._held is None and self._turns.has_room:
            self._stop_waiting()

    def release(self, fault: Fault) -> None:
        """A toxic was removed: what it alone holds goes on, and half a head that is looked at by no other."""
        if self._held is not None and self._held.treatment.delays.pop(fault, None) is not None:
            self._ring_for(self._held)
        elif not self._turns.faults and not self._waits:
            self._pass_head()

    def recount(self, fault: Fault) -> None:
        """A toxic was changed: what it holds counts by the new delay from when it was read."""
        if self._held is not None and fault in self._held.treatment.delays:
            self._held.treatment.delays[fault] = fault.delay()
            self._ring_for(self._held)

    def drop(self) -> None:
        """The connection is over."""
        if self._held is not None and self._held.bell is not None:
            self._held.bell.cancel()
        self._held, self._unread = None, b""
        self._head.clear()

    def _read_old(self, data: bytes) -> None:
        """What began before is read by the tap and passes; what follows waits until all of that is answered."""
        at = 0
        while at < len(data):
            self._turns.follow()
            if self._turns.is_followed:
                self._read(data[at:])
                return
            if self._turns.tap.is_between and not self._turns.has_room:
                self._wait(data[at:])
                return
            end = self._lines.place(data, at)
            try:
                assert self._turns.tap.requests is not None
                self._turns.tap.requests(data[at:end])
            except NOT_HTTP as error:
                self._turns.tap.stumble(error, data[at:end])
            if self._turns.tap.requests is None:
                self.next.feed(data[at:])
                self._turns.give_up()
                return
            self.next.feed(data[at:end])
            at = end
        self._turns.follow()

    def _read(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self._turns.is_over:
            if self._is_opaque:
                self._out.append(data[at:])
                break
            if self._held is not None or (not self._framer.began and not self._turns.has_room):
                self._wait(data[at:])
                break
            try:
                end = self._framer.feed(data, at)
            except NotHttp:
                self._understand_no_more(data[at:])
                break
            self._take(data[at:end])
            at = end
        self._flush()

    def _take(self, piece: bytes) -> None:
        if self._turn is None:
            self._head += piece
            if self._framer.in_body:
                self._turn = self._decide()
            elif self._is_past or not self._turns.faults:
                self._pass_head()
        elif self._turn.error is None:
            self._out.append(piece)
        if self._framer.complete and self._held is None:
            self._complete()

    def _decide(self) -> Turn:
        """The head of a request is complete."""
        turns, headers = self._turns, self._framer.headers
        head, turn = bytes(self._head), Turn(self._framer)
        self._head.clear()
        turns.open.append(turn)
        turns.tap.request()
        trace = trace_of(self._framer.header(b"traceparent"))
        if trace:
            turns.line.counts.attempt(trace)
        treatment = None if self._is_past or turn.is_connect else turns.faults.treatment(request_of(head, headers, trace))
        if treatment is None:
            self._out.append(head)
        elif treatment.delays:
            self._hold(Held(turn, treatment, head))
        else:
            self._act(turn, treatment, head)
        return turn

    def _hold(self, held: Held) -> None:
        for fault in held.treatment.delays:
            self._turns.struck(fault)
        self._held = held
        self._wait(b"")
        self._ring_for(held)

    def _ring_for(self, held: Held) -> None:
        if held.bell is not None:
            held.bell.cancel()
        held.bell = self._turns.line.alarm.at(held.due, self._go_on)

    def _go_on(self) -> None:
        """What was held back goes on, if it is not answered here."""
        held, self._held = self._held, None
        assert held is not None
        if held.bell is not None:
            held.bell.cancel()
        if self._turns.is_opaque:
            self._out.append(held.head)
        else:
            self._act(held.turn, held.treatment, held.head)
            if self._framer.complete:
                self._complete()
        self._flush()
        self._stop_waiting()

    def _let_go(self) -> None:
        """Nothing is understood any more: whatever is kept passes."""
        if self._held is not None:
            self._go_on()
        elif self._waits:
            self._stop_waiting()
        else:
            self._pass_head()

    def _act(self, turn: Turn, treatment: Treatment, head: bytes) -> None:
        """What toxics decided is done; one that was removed meanwhile does no more."""
        error, turn.lost, turn.corrupt = (
            fault if fault is not None and not fault.removed else None
            for fault in (treatment.error, treatment.lost, treatment.corrupt)
        )
        turn.error = error
        for fault in (turn.error, turn.lost):
            if fault is not None and not resets(fault):  # one that resets acts when the answer begins
                self._turns.struck(fault)
        if turn.error is None:
            self._out.append(head)
        elif not self._framer.complete:
            self._turns.go_on()  # it may have to be told to go on

    def _complete(self) -> None:
        """A request is complete."""
        turn, self._turn, self._is_past = self._turn, None, False
        assert turn is not None
        if turn.error is not None:
            turn.is_complete, turn.is_last, turn.expects = True, not self._framer.keeps_alive, False
            self._flush()
            self._turns.go_on()
        self._framer.begin()

    def _understand_no_more(self, rest: bytes) -> None:
        if self._turn is not None and self._turn.error is not None:  # a body that breaks off is thrown away in vain
            self._turns.line.cut()
            return
        self._out += [bytes(self._head), rest]
        self._head.clear()
        self._is_opaque = True
        self._turns.open.append(Turn())
        self._flush()
        self._turns.go_on()

    def _wait(self, unread: bytes) -> None:
        """Read no more for now; only what was read already is kept."""
        self._flush()
        self._unread = unread
        if not self._waits:
            self._waits = True
            self._turns.line.hold_caller()

    def _stop_waiting(self) -> None:
        data, self._unread, self._waits = self._unread, b"", False
        if data:
            self.feed(data)
        if not self._waits:
            self._turns.line.release_caller()
            if self._turns.caller_ended:
                self.finish()

    def _pass_head(self) -> None:
        """Half a head goes on: this request can be struck no more."""
        if self._head:
            self._out.append(bytes(self._head))
            self._head.clear()
            self._is_past = True
            self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        data = out[0] if len(out) == 1 else b"".join(out)
        if data:
            self.next.feed(data)
