"""Looks through a proxy as a caller would, to see whether a fault bites, and whether it is gone.

Each protocol has a question that every server of its kind answers at once and that changes nothing:
HTTP a GET of a path that need not exist, PostgreSQL an SSLRequest, Redis a PING. None asks for the
connection to be closed: where answers are lost on their way, the close would come through, and silence is what is
to be seen. Of a connection whose
protocol is not known only its opening and closing can be seen.
"""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

from harness.plan.plan import Asking, Outcome
from harness.runtime.ports import Address
from harness.runtime.probes.answers import Answer, Ended, Incoming, Late, read_answer

QUESTIONS: dict[str, bytes] = {
    "http": b"GET /health/live HTTP/1.1\r\nHost: probe\r\nUser-Agent: chaos-harness-probe\r\n\r\n",
    "postgresql": b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    "redis": b"PING\r\n",
}

ONCE = ("postgresql",)
"""Where a connection takes its question only once, as its very first."""

MOST_QUESTIONS = 2000
"""However many bytes are to pass."""

USUAL = Asking()


@dataclass(frozen=True, slots=True)
class Look:
    """What a probe saw, and how long it took to see it; the other fields are as in `EdgeProbed`."""

    outcome: Outcome
    seconds: float
    detail: str = ""
    times: tuple[float, ...] = ()
    sent: int = 0
    got: int = 0
    status: int = 0
    injected: str = ""
    bodies: tuple[str, ...] = ()
    ended: float | None = None


def look(address: Address, protocol: str, asking: Asking = USUAL, *, source: str | None = None) -> Look:
    """Connect, ask, wait for an answer, as often as is asked for, for at most `asking.patience` seconds in all."""
    return _Prober(address, protocol, asking, source).look()


@dataclass
class _Prober:
    """One look; what it has seen so far."""

    address: Address
    protocol: str
    asking: Asking
    source: str | None
    began: float = field(default_factory=time.monotonic)
    first: float | None = None
    times: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    sent: int = 0
    got: int = 0
    status: int = 0
    ended: float | None = None
    connection: socket.socket | None = None

    def look(self) -> Look:
        try:
            outcome, detail = self._look()
        finally:
            if self.connection is not None:
                self.connection.close()
        seconds = time.monotonic() - self.began
        last = self.answers[-1] if self.answers else Answer(self.status)
        return Look(
            outcome,
            self.first if outcome == "answered" and self.first is not None else seconds,
            detail,
            tuple(round(one, 6) for one in self.times),
            self.sent,
            self.got,
            self.status or last.status,
            last.injected,
            tuple(answer.body for answer in self.answers),
            self.ended,
        )

    def _look(self) -> tuple[Outcome, str]:
        try:
            self._connect()
        except TimeoutError:
            return "unreachable", ""
        except OSError as error:
            return _broken(error)
        try:
            return self._watch() if self.protocol not in QUESTIONS else self._ask(), ""
        except OSError as error:
            return _broken(error)

    @property
    def _deadline(self) -> float:
        return self.began + self.asking.patience

    def _connect(self) -> None:
        if self.connection is not None:
            self.connection.close()
        left = max(0.001, self._deadline - time.monotonic())
        source = (self.source, 0) if self.source else None
        self.connection = socket.create_connection((self.address.host, self.address.port), left, source)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _watch(self) -> Outcome:
        """Whether a connection stays open on which nothing is asked."""
        assert self.connection is not None
        self.connection.settimeout(self.asking.stays)
        try:
            if not self.connection.recv(1):
                return "closed"
        except TimeoutError:
            pass
        self.first = time.monotonic() - self.began
        if self.asking.closes:
            self._close()
        return "answered"

    def _ask(self) -> Outcome:
        """Ask on. Once something was answered, an end counts only where the connection itself is put to the test."""
        try:
            self._ask_on()
        except Late:
            return "answered"
        except (Ended, OSError) as reason:
            if self.first is not None and (not self.asking.volume or isinstance(reason, TimeoutError)):
                return "answered"
            if isinstance(reason, Ended):
                return "closed"
            raise
        return "answered"

    def _ask_on(self) -> None:
        while True:
            answer = self._ask_once()
            again = answer.reusable and self.protocol not in ONCE
            if self._has_enough() or (self.asking.volume and not again):
                break
            if not again:
                self._connect()
        if self.asking.closes and answer.reusable:
            self._close()

    def _ask_once(self) -> Answer:
        assert self.connection is not None
        question = QUESTIONS[self.protocol]
        self.connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        incoming, asked = Incoming(self.connection, self._deadline), time.monotonic()
        self.status = 0
        try:
            self.connection.sendall(question)
            self.sent += len(question)
            answer = read_answer(incoming, self.protocol)
        except Late:
            self._note(Answer(incoming.status, reusable=False), asked)
            raise
        finally:
            self.got += incoming.got
            self.status = incoming.status
        if answer.injected:  # what the proxy says itself is no answer of the callee, early or late
            self.sent, self.got = self.sent - len(question), self.got - incoming.got
            self.answers.append(answer)
            self.first = self.first or time.monotonic() - self.began
        else:
            self._note(answer, asked)
        return answer

    def _note(self, answer: Answer, asked: float) -> None:
        answered = time.monotonic()
        self.times.append(answered - asked)
        self.answers.append(answer)
        self.first = self.first or answered - self.began

    def _has_enough(self) -> bool:
        asked = len(self.answers)
        if asked >= MOST_QUESTIONS or time.monotonic() >= self._deadline:
            return True
        return asked >= self.asking.times and min(self.sent, self.got) >= self.asking.volume

    def _close(self) -> None:
        """End this side, and see when the other one ends."""
        assert self.connection is not None
        began = time.monotonic()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
        try:
            while (left := self._deadline - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if not self.connection.recv(4096):
                    break
            else:
                return
        except TimeoutError:
            return
        except OSError:
            pass
        self.ended = time.monotonic() - began


def _broken(error: OSError) -> tuple[Outcome, str]:
    match error:
        case TimeoutError():
            return "silent", ""
        case ConnectionRefusedError():
            return "refused", ""
        case ConnectionResetError() | BrokenPipeError():
            return "reset", ""
        case _:
            return "failed", errno.errorcode.get(error.errno or 0, str(error))
