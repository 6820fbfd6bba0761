"""What toxics of HTTP do on one connection.

They stand nearest to the caller, before all toxics of TCP: an answer made here passes none of them. What is not
struck passes byte for byte; the head of a request is held until it is complete, bodies are not. Answers keep the
order of their requests: one made here waits for those before it. A request that is answered here is first read
whole, its body thrown away as it comes, however long it is; a caller that waits to be told to go on
(`Expect: 100-continue`) is told so.

What is no HTTP/1.1, or no more (CONNECT, an upgrade, nonsense), is left alone from there on. A connection that is
open already is followed from the first moment at which every request on it is complete and answered.
"""

from __future__ import annotations

from harness.runtime.proxies.embedded.http_answers import Answers
from harness.runtime.proxies.embedded.http_requests import Requests
from harness.runtime.proxies.embedded.matching import Fault, HttpFaults
from harness.runtime.proxies.embedded.stages import Passage
from harness.runtime.proxies.embedded.tap import Tap
from harness.runtime.proxies.embedded.toxics import HttpLostReply
from harness.runtime.proxies.embedded.turns import Line, Turns


class HttpFilter:
    """Follows one connection for as long as there are toxics of HTTP on its proxy, and until what they did is over."""

    def __init__(self, line: Line, faults: HttpFaults, tap: Tap, up: Passage, down: Passage) -> None:
        self._turns = Turns(line, faults, tap, down)
        self.requests = self._turns.requests = Requests(self._turns, up)
        self.answers = self._turns.answers = Answers(self._turns)

    def remove(self, fault: Fault) -> None:
        """A toxic was removed. A caller that waits for a reply that was lost to it is let go of."""
        hangs = isinstance(fault.effect, HttpLostReply) and (fault.effect.how == "hang" or self._turns.is_hung)
        if hangs and any(turn.lost is fault for turn in self._turns.open):
            self._turns.line.cut()
            return
        self.requests.release(fault)
        self._end_if_due()
        self._turns.rest()

    def change(self, fault: Fault) -> None:
        """A toxic has other attributes."""
        self.requests.recount(fault)
        self._end_if_due()

    def _end_if_due(self) -> None:
        if self._turns.callee_ended and not self._turns.is_hung:
            self._turns.end_answers()

    def caller_is_full(self, *, full: bool) -> None:
        """Whether the caller takes its answers more slowly than they come."""
        self._turns.caller_is_full = full
        if not full:
            self._turns.go_on()
            self.requests.look_again()

    def drop(self) -> None:
        """The connection is over."""
        self._turns.is_over = True
        self._turns.open.clear()
        self.requests.drop()
