"""What must hold of toxics of HTTP whatever comes, in whatever pieces: bytes that nobody struck pass, in order, all of them.

Each input is drawn from a number, which a failure names: `converse(Random(number))` shows it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from random import Random

import pytest

from harness.runtime.proxies.embedded.messages import LONGEST_HEAD
from tests.unit.http_rig import Connection, toxic

QUICK, THOROUGH = 150, 25_000
ERROR = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nX-Chaos-Fault: broken\r\n\r\noops"
)
ERROR_TO_HEAD = ERROR.removesuffix(b"oops")
BODIES = [b"", b"\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 300, bytes(range(256))]


class Exchange:
    """A request, the answer that the callee gives to it, and what the path asks to be done to it."""

    def __init__(self, random: Random, number: int, done: str, *, plain: bool = False) -> None:
        self.done = done
        self.is_head = not plain and random.random() < 0.15
        method = "HEAD" if self.is_head else random.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS"])
        body = b"" if method in {"GET", "HEAD"} else random.choice(BODIES)
        expects = "Expect: 100-continue\r\n" if body and done == "pass" and random.random() < 0.2 else ""
        head = f"{method} /{done}/{number}?x=%0d HTTP/1.1\r\nHost: shipping\r\n{expects}"
        lead = random.choice([b"", b"", b"", b"\r\n"]) if not plain else b""
        self.request = lead + framed(random, head, body, always=method not in {"GET", "HEAD"})
        self.answer = self._answer(random, number)

    def _answer(self, random: Random, number: int) -> bytes:
        interim = random.choice([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: <x>\r\n\r\n" * 2])
        status = random.choice(["200 OK", "404 Not Found", "503 No", "204 No Content", "304 Not Modified"])
        head = f"HTTP/1.1 {status}\r\nX-Number: {number}\r\n"
        if status[:3] in {"204", "304"}:
            announced = "Content-Length: 7\r\n" if status[:3] == "304" else ""
            return interim + f"{head}{announced}\r\n".encode()
        answer = framed(random, head, random.choice(BODIES), always=True)
        return interim + (answer[: answer.index(b"\r\n\r\n") + 4] if self.is_head else answer)


def framed(random: Random, head: str, body: bytes, *, always: bool) -> bytes:
    if not body and not always:
        return f"{head}\r\n".encode()
    if random.random() < 0.5:
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    size = random.randint(1, 40)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in split(body, size))
    trailer = random.choice([b"", b"X-Trailer: 1\r\n", b"Expires: x\r\nTraceparent: x\r\n"])
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n" + trailer + b"\r\n"


def split(data: bytes, size: int) -> list[bytes]:
    return [data[place : place + size] for place in range(0, len(data), size)]


def pieces(random: Random, data: bytes) -> Iterator[bytes]:
    most = random.choice([1, 2, 5, 50, 500, 100_000])
    place = 0
    while place < len(data):
        size = random.randint(1, most)
        yield data[place : place + size]
        place += size


def kept(connection: Connection) -> int:
    """Bytes that are held in memory for this connection."""
    if connection.filter is None:
        return 0
    requests, answers = connection.filter.requests, connection.filter.answers
    return len(requests._head) + len(requests._unread) + len(answers._head)


class Conversation:
    """Requests in one stream, cut anywhere, and a callee that answers each once it has all of it, cut anywhere too."""

    def __init__(self, random: Random, connection: Connection, exchanges: list[Exchange]) -> None:
        self._random, self._connection, self._exchanges = random, connection, exchanges
        self._asked = pieces(random, b"".join(exchange.request for exchange in exchanges))
        self._answers: list[bytes] = []
        self.passed: list[Exchange] = []
        self._size = 0

    def step(self) -> bool:
        """One thing more happens; whether anything did."""
        moves: list[Callable[[], bool]] = [self._ask, self._answer, self._ring]
        self._random.shuffle(moves)
        return any(move() for move in moves)

    def _ask(self) -> bool:
        piece = b"" if self._connection.is_held else next(self._asked, b"")
        if piece:
            self._connection.ask(piece)
            self._callee_reads()
        return bool(piece)

    def _answer(self) -> bool:
        if not self._answers:
            return False
        self._connection.answer(self._answers.pop(0))
        self._callee_reads()
        return True

    def _ring(self) -> bool:
        rings = bool(self._connection.alarm.bells)
        self._connection.alarm.ring()
        self._callee_reads()
        return rings

    def _callee_reads(self) -> None:
        """Which requests came is told by their paths; that they are whole, by their bytes."""
        while len(self._connection.sent) > self._size:
            rest = self._connection.sent[self._size :]
            found = next((each for each in self._exchanges if rest.startswith(each.request)), None)
            if found is None:
                return
            self._exchanges = self._exchanges[self._exchanges.index(found) + 1 :]
            self._size += len(found.request)
            self.passed.append(found)
            self._answers += pieces(self._random, found.answer)


TOXICS = [
    toxic("http_error", "broken", body="oops", path="/error/*"),
    toxic("http_delay", delay=10, path="/delay/*"),
    toxic("http_error", "never", share=0.0, seed=1),
]


def converse(random: Random) -> None:
    """With the toxics in place from the beginning, it is known beforehand which requests are struck."""
    done = ["pass", "error", "delay"]
    exchanges = [Exchange(random, number, random.choice(done)) for number in range(random.randint(1, 8))]
    connection = Connection(*TOXICS)
    conversation = Conversation(random, connection, exchanges)

    while conversation.step():
        assert kept(connection) <= 100_000

    assert connection.sent == b"".join(each.request for each in exchanges if each.done != "error")
    assert connection.received == b"".join(each.answer if each.done != "error" else error_to(each) for each in exchanges)
    assert connection.ending == ""
    assert not connection.filter._turns.open


def converse_while_toxics_change(random: Random) -> None:
    """Whenever toxics come and go, each request is either passed and answered by the callee, or neither.

    Without HEAD, which the tap does not follow behind other requests in flight, where no toxic is; and without empty
    lines between requests, one half of which may have passed.
    """
    done = ["pass", "error", "delay"]
    exchanges = [Exchange(random, number, random.choice(done), plain=True) for number in range(random.randint(2, 10))]
    connection = Connection()
    conversation = Conversation(random, connection, exchanges)
    there: set[str] = set()

    while conversation.step():
        if random.random() < 0.3:
            each = random.choice(TOXICS)
            connection.remove(each.name) if each.name in there else connection.add(each)
            there ^= {each.name}

    passed = [each for each in exchanges if each in conversation.passed]
    assert connection.sent == b"".join(each.request for each in passed)
    assert all(each.done == "error" for each in exchanges if each not in passed)
    assert connection.received == b"".join(each.answer if each in passed else error_to(each) for each in exchanges)
    for name in there:
        connection.remove(name)
    assert connection.filter is None
    assert not connection.told["cannot"]
    assert connection.told["requests"] == len(exchanges) == sum(connection.told["answers"].values())


def error_to(exchange: Exchange) -> bytes:
    return ERROR_TO_HEAD if exchange.is_head else ERROR


def talk_nonsense(random: Random) -> None:
    """Whatever the bytes are, where no request is struck all of them pass, both ways."""
    connection = Connection(toxic("http_error", share=0.0, seed=1), toxic("http_corrupt", share=0.0, seed=1))
    asked, answered = nonsense(random), nonsense(random)

    ways = itertools.zip_longest(pieces(random, asked), pieces(random, answered), fillvalue=b"")
    for question, answer in ways:
        for act, data in ((connection.ask, question), (connection.answer, answer)):
            if data:
                act(data)
            assert kept(connection) <= LONGEST_HEAD + 200_000
    connection.hang_up()
    connection.end_answers()

    assert connection.sent == asked
    assert connection.received == answered
    assert connection.ending == ""


def talk_nonsense_under_fire(random: Random) -> None:
    """Whatever the bytes are and whatever is done to them, nothing breaks, and nothing is made up on the way to the callee."""
    connection = Connection(*random.sample(FIRE, random.randint(1, len(FIRE))))
    asked, answered = nonsense(random), nonsense(random)

    for question, answer in itertools.zip_longest(pieces(random, asked), pieces(random, answered), fillvalue=b""):
        if question:
            connection.ask(question)
        if answer:
            connection.answer(answer)
        if random.random() < 0.1:
            connection.alarm.ring()
    connection.hang_up()
    connection.alarm.ring()

    assert is_within(connection.sent, asked)
    assert connection.ending in {"", "cut", "reset", "cut short"}


def is_within(some: bytes, data: bytes) -> bool:
    """Whether these bytes are all among those, in the same order."""
    rest = iter(data)
    return all(byte in rest for byte in some)


FIRE = [
    toxic("http_error", every=3),
    toxic("http_delay", delay=5, every=2),
    toxic("http_corrupt", "bytes", how="bytes", share=0.3, seed=1),
    toxic("http_corrupt", "truncate", how="truncate", share=0.1, seed=2),
    toxic("http_lost_reply", "hang", how="hang", share=0.1, seed=3),
    toxic("http_lost_reply", "reset", how="reset", share=0.1, seed=4, path="/*", header="host: *", first_attempt=True),
]


def nonsense(random: Random) -> bytes:
    """Random bytes, or messages with something wrong in them."""
    if random.random() < 0.2:
        return random.randbytes(random.randint(1, 300))
    exchanges = [Exchange(random, number, "pass") for number in range(random.randint(1, 4))]
    data = bytearray(b"".join(random.choice([each.request, each.answer]) for each in exchanges))
    for _ in range(random.randint(0, 4)):
        place = random.randrange(len(data) + 1)
        wrong = random.choice(
            [b"\r\n", b"\n", b"\0", b"\r\n\r\n", b"Content-Length: 3\r\n", b"Connection: close\r\n", ALIEN, b"9" * 30]
        )
        data[place : place + random.choice([0, 0, 1, 5])] = wrong
    return bytes(data)


ALIEN = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
KINDS = [converse, converse_while_toxics_change, talk_nonsense, talk_nonsense_under_fire]


def run(kind: Callable[[Random], None], numbers: range) -> None:
    for number in numbers:
        try:
            kind(Random(number))
        except BaseException as error:
            error.add_note(f"the input was {kind.__name__}(Random({number}))")
            raise


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_comes_in_whatever_pieces(kind: Callable[[Random], None]) -> None:
    run(kind, range(QUICK))


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_inputs(kind: Callable[[Random], None]) -> None:
    run(kind, range(QUICK, QUICK + THOROUGH))
