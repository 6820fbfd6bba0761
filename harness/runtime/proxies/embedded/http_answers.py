"""The answers of one connection on their way to the caller: they pass as they come, but for those that are struck."""

from __future__ import annotations

from http import HTTPStatus

from httptools import HttpResponseParser

from harness.runtime.proxies.embedded.corruption import Corruption, corruption
from harness.runtime.proxies.embedded.matching import Fault
from harness.runtime.proxies.embedded.messages import Framer, NotHttp
from harness.runtime.proxies.embedded.tap import NOT_HTTP
from harness.runtime.proxies.embedded.toxics import HttpCorrupt, HttpLostReply
from harness.runtime.proxies.embedded.turns import Turn, Turns


class Answers:
    """Where the bytes of the callee come in, behind all toxics of TCP."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._framer = Framer(HttpResponseParser)
        self._out: list[bytes] = []
        self._head = bytearray()
        self._corruption: Corruption | None = None
        self._in_body = False

    @property
    def is_quiet(self) -> bool:
        """Whether no answer is half read."""
        return not self._framer.began and not self._turns.is_hung

    def feed(self, data: bytes) -> None:
        if self._turns.is_over:
            return
        if self._turns.is_opaque:
            self._turns.down.feed(data)
        elif not self._turns.is_followed:
            self._read_old(data)
        elif not self._turns.is_hung:
            self._read(data)

    def finish(self) -> None:
        """The callee sends no more; a caller that was left hanging does not learn of it before it gives up itself."""
        if self._turns.callee_ended:
            return
        self._turns.callee_ended = True
        self._turns.requests.look_again()
        if not self._turns.is_hung or self._turns.caller_ended:
            self._turns.end_answers()

    def _read_old(self, data: bytes) -> None:
        """Answers to what was asked before this connection was followed are read by the tap."""
        try:
            assert self._turns.tap.answers is not None
            self._turns.tap.answers(data)
        except NOT_HTTP:
            self._turns.give_up()
        self._turns.down.feed(data)
        self._turns.follow()
        self._turns.requests.look_again()
        self._turns.rest()

    def _read(self, data: bytes) -> None:
        at, turns = 0, self._turns
        while at < len(data) and not turns.is_over and not turns.is_hung:
            if turns.is_opaque:
                self._out.append(data[at:])
                break
            turns.catch_up()
            turn = turns.first
            if turn is None or turn.error is not None:
                self._understand_no_more(data[at:])
                return
            try:
                end = self._framer.feed(data, at)
            except NotHttp:
                self._understand_no_more(data[at:])
                return
            self._take(turn, data[at:end])
            at = end
        self._flush()
        turns.requests.look_again()
        turns.rest()

    def _take(self, turn: Turn, piece: bytes) -> None:
        if turn.lost is not None and turn.lost.removed:
            turn.lost, piece = None, bytes(self._head) + piece
            self._head.clear()
        if turn.lost is not None:
            self._withhold(turn, turn.lost, piece)
            return
        if self._corruption is not None:
            self._corrupt(turn, self._corruption, piece)
        else:
            self._out.append(piece)
            if self._framer.in_body and not self._in_body:
                self._begin_body(turn)
        if self._framer.complete and not self._turns.is_over and not self._turns.is_opaque:
            self._complete()

    def _withhold(self, turn: Turn, lost: Fault, piece: bytes) -> None:
        """An answer that does not come back; without being told to go on, a caller might never send its request whole."""
        self._head += piece
        if not self._framer.in_body:
            return
        head, status = bytes(self._head), self._framer.status
        self._head.clear()
        if status < HTTPStatus.OK and not turn.becomes_another(status):
            if status == HTTPStatus.CONTINUE:
                self._out.append(head)
            self._framer.begin()
            return
        self._flush()
        assert isinstance(lost.effect, HttpLostReply)
        if lost.effect.how == "reset":
            self._turns.struck(lost)
            self._turns.line.reset()
        else:
            self._turns.is_hung = True

    def _begin_body(self, turn: Turn) -> None:
        framer = self._framer
        if turn.becomes_another(framer.status):
            self._turns.tap.answer(framer.status)
            self._flush()
            self._turns.give_up()
            return
        if framer.status < HTTPStatus.OK:  # the answer proper is still to come
            framer.begin()
            return
        self._in_body = True
        self._turns.tap.answer(framer.status)
        if turn.is_head and not framer.complete:
            framer.forget_body()
        elif turn.corrupt is not None and not turn.corrupt.removed and not framer.complete:
            assert isinstance(turn.corrupt.effect, HttpCorrupt)
            self._corruption = corruption(turn.corrupt.effect.how, framer.length, is_chunked=framer.is_chunked)

    def _corrupt(self, turn: Turn, corruption: Corruption, piece: bytes) -> None:
        changed = corruption.take(piece)
        self._out.append(changed)
        if turn.corrupt is not None and (changed != piece or corruption.is_over):
            self._turns.struck(turn.corrupt)
            turn.corrupt = None
        if corruption.is_over:
            self._flush()
            self._turns.line.cut_short()

    def _complete(self) -> None:
        """An answer is complete."""
        self._framer.begin()
        self._in_body, self._corruption = False, None
        if self._turns.next_is_made_here:
            self._flush()
        self._turns.answered()

    def _understand_no_more(self, rest: bytes) -> None:
        if self._turns.is_over:
            return
        self._out += [bytes(self._head), rest]
        self._head.clear()
        self._flush()
        self._turns.give_up()

    def _flush(self) -> None:
        out, self._out = self._out, []
        data = out[0] if len(out) == 1 else b"".join(out)
        if data:
            self._turns.down.feed(data)
