"""Reads along where HTTP/1.1 is spoken: requests as the caller sends them, answers as they reach it.

A tap changes nothing and holds nothing back. It gives up for good on a connection whose first bytes are not
HTTP/1.1, and on one that becomes something else (a CONNECT or an upgrade that was granted, nonsense).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from harness.runtime.proxies.embedded.counts import UNANSWERED, Counts
from harness.runtime.proxies.embedded.messages import LONGEST_HEAD, LONGEST_TRAILERS, plain_head

Read = Callable[[bytes], object]


class NotFollowed(Exception):
    """More than is followed here."""


NOT_HTTP = (HttpParserError, HttpParserCallbackError, HttpParserUpgrade, NotFollowed)
"""What reading along may raise: whoever feeds the tap then lets it give up."""


class Tap:
    """Reads along on one connection; each request costs a few microseconds, so calls are few and flat.

    `requests` and `answers` take the bytes of their direction; both are None once the tap has given up. The
    tap itself is what the parser of requests calls, and has no more of those methods than are needed.
    """

    __slots__ = (
        "_chunk_size",
        "_counts",
        "_follow",
        "_framing",
        "_head",
        "_head_size",
        "_heads",
        "_is_connect",
        "_method",
        "_offers",
        "_open",
        "_reader",
        "_requests",
        "_version",
        "answers",
        "on_message_complete",
        "requests",
        "waiting",
    )

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._head: bytearray | None = None
        self._head_size = self._chunk_size = 0
        self.waiting = self._heads = 0
        self._open: list[bool] = []
        self.on_message_complete = self._open.clear
        self._framing: dict[int, tuple[bytes, bytes]] = {}
        self._is_connect = False
        self._read_by(HttpRequestParser(self))
        self._reader = reader = _AnswerReader(self, counts)
        reader.parser = HttpResponseParser(reader)
        self._follow: Read = reader.parser.feed_data
        self.requests: Read | None = self._requests
        self.answers: Read | None = self._speaks_first

    def _read_by(self, parser: Any) -> None:
        self._requests: Read = parser.feed_data
        self._method, self._version, self._offers = parser.get_method, parser.get_http_version, parser.should_upgrade

    @property
    def is_between(self) -> bool:
        """Whether the last request has been read to its end and no other has begun."""
        return not self._open

    @property
    def is_answered(self) -> bool:
        """Whether every request has been answered, to the end of the answer."""
        return not self.waiting and not self._reader.open

    def stumble(self, error: Exception, data: bytes) -> None:
        """Reading these bytes of the caller raised this: a request that offers an upgrade is one all the same."""
        try:
            while isinstance(error, HttpParserUpgrade):
                data = data[error.args[0] :]
                try:
                    self._read_offer()
                    self._requests(data)
                except HttpParserUpgrade as another:
                    error = another
                else:
                    return
        except NOT_HTTP:
            pass
        self.give_up()

    def _read_offer(self) -> None:
        """The parser takes no body for one of a request that offers an upgrade: it reads another head."""
        method = self._method().decode("latin-1")
        if self.waiting and (self._is_connect or method == "CONNECT"):
            raise NotFollowed
        self._is_connect = method == "CONNECT"
        framing = () if self._is_connect else self._framing.values()
        head = plain_head("HEAD" if self._is_connect else method, self._version(), framing)
        self._head_size = 0
        self._read_by(HttpRequestParser(self))
        self._requests(head)

    def give_up(self) -> None:
        """This is HTTP/1.1 no more, or never was."""
        if self.answers is not None and self.answers != self._speaks_first:
            self._counts.lost_track += 1
        self.waiting = 0
        self.requests = self.answers = None

    def end(self) -> None:
        """The connection is over: whatever waits is unanswered. Ending twice is ending once."""
        if self.waiting > 0:
            self._counts.answers[UNANSWERED] += self.waiting
            self.waiting = 0
        self.requests = self.answers = self._method = None
        self._follow = self._speaks_first

    def request(self) -> None:
        """A request was read by somebody else, who reads its answer too."""
        self._counts.is_http = True
        self._counts.requests += 1
        self.waiting += 1
        if self.answers == self._speaks_first:
            self.answers = self._follow

    def answer(self, status: int) -> None:
        """One of those was answered."""
        self._counts.answers[status] += 1
        self.waiting -= 1

    def on_message_begin(self) -> None:
        self._open.append(True)
        self.requests = self._read_on
        self._framing.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name)
        if size == 11:
            if len(value) >= 55 and name.lower() == b"traceparent":
                self._counts.attempt(value[3:35])
        elif size in (14, 17) and name.lower() in (b"content-length", b"transfer-encoding"):
            self._framing[size] = (name, value)

    def on_headers_complete(self) -> None:
        self.requests = self._requests
        if self._offers():
            return  # to be read once more, as what it is if nobody takes the offer
        counts = self._counts
        counts.is_http = True
        counts.requests += 1
        if self.waiting and self._is_connect:
            raise NotFollowed
        if self._method() == b"HEAD":
            if self.waiting != self._heads:  # the parser, which has other answers to read before, cannot be stopped there
                raise NotFollowed
            self._heads += 1
            self._head = bytearray() if self._head is None else self._head
            self.answers = self._read_heads
        elif not self.waiting:
            self.answers = self._follow
        self.waiting += 1

    def on_chunk_header(self) -> None:
        self._chunk_size = 0
        self.requests = self._read_chunks

    def on_body(self, _body: bytes) -> None:
        self._chunk_size = 0

    def _read_chunks(self, data: bytes) -> None:
        """A body in chunks, and the trailers behind them."""
        self._chunk_size += len(data)
        self._requests(data)
        if self._chunk_size > LONGEST_TRAILERS:
            raise NotFollowed  # the parser would keep all of it, were it trailers

    def _read_on(self, data: bytes) -> None:
        """A head that does not come in one piece."""
        before = self._counts.requests
        self._requests(data)
        self._head_size = self._head_size + len(data) if self._counts.requests == before else 0
        if self._head_size > LONGEST_HEAD:
            raise NotFollowed  # the parser would keep all of it

    def _read_heads(self, data: bytes) -> None:
        """An answer to HEAD may announce a body that never comes, one to CONNECT be the last: the parser cannot be told."""
        head = self._head
        assert head is not None
        head += data
        while self._heads and (end := head.find(b"\r\n\r\n")) >= 0:
            status = head[9:12]
            if not head.startswith(b"HTTP/1.") or not status.isdigit():
                raise NotFollowed
            if self._take_head(int(status)):
                del head[: end + 4]
        if not self._heads:
            self._head = None
            self.answers = self._follow
            if head:
                self._follow(bytes(head))
        elif len(head) > LONGEST_HEAD:
            raise NotFollowed

    def _take_head(self, status: int) -> bool:
        """Whether a head of this status is all there is of an answer."""
        if status == 101 or (self._is_connect and 200 <= status < 300):
            self.answer(status)
            raise NotFollowed
        if status < 200:
            return True
        self._heads -= 1
        if self._is_connect:
            self._is_connect = False
            return False
        self.answer(status)
        return True

    def _speaks_first(self, _data: bytes) -> None:
        """Whoever answers before it was asked does not speak HTTP."""
        self.give_up()


class _AnswerReader:
    """What the parser calls while it reads answers."""

    __slots__ = ("_chunk_size", "_counts", "_head_size", "_tap", "on_message_complete", "open", "parser")

    def __init__(self, tap: Tap, counts: Counts) -> None:
        self._tap, self._counts = tap, counts
        self.parser: Any = None
        self.open: list[bool] = []
        self.on_message_complete = self.open.clear
        self._head_size = self._chunk_size = 0

    def on_message_begin(self) -> None:
        self.open.append(True)
        self._tap.answers = self._read_on

    def on_headers_complete(self) -> None:
        tap = self._tap
        tap.answers = tap._follow
        status = self.parser.get_status_code()
        if status >= 200 and tap.waiting > 0:
            tap.waiting -= 1
            self._counts.answers[status] += 1
        elif status == 101:
            if tap.waiting > 0:
                tap.answer(status)
            raise NotFollowed

    def on_chunk_header(self) -> None:
        self._chunk_size = 0
        self._tap.answers = self._read_chunks

    def on_body(self, _body: bytes) -> None:
        self._chunk_size = 0

    def _read_chunks(self, data: bytes) -> None:
        """A body in chunks, and the trailers behind them."""
        self._chunk_size += len(data)
        self.parser.feed_data(data)
        if self._chunk_size > LONGEST_TRAILERS:
            raise NotFollowed

    def _read_on(self, data: bytes) -> None:
        """A head that does not come in one piece."""
        before = self._tap.waiting
        self.parser.feed_data(data)
        self._head_size = self._head_size + len(data) if self._tap.waiting == before else 0
        if self._head_size > LONGEST_HEAD:
            raise NotFollowed  # the parser would keep all of it
