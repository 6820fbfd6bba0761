"""Reading along on one connection: requests, answers and attempts, however the bytes are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.runtime.proxies.embedded import counts as counting
from harness.runtime.proxies.embedded.counts import Counts
from harness.runtime.proxies.embedded.tap import NOT_HTTP, Tap

GET = b"GET /x HTTP/1.1\r\nHost: shipping\r\n\r\n"
HEAD = b"HEAD /x HTTP/1.1\r\nHost: shipping\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
HEAD_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CONNECT = b"CONNECT db:5432 HTTP/1.1\r\n\r\n"
OFFERED = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def conversation(*turns: tuple[bytes, bytes], step: int = 65536) -> dict[str, Any]:
    """What is told of a connection on which these bytes passed, cut into steps."""
    counts = Counts()
    tap = Tap(counts)
    for request, answer in turns:
        for place in range(0, len(request), step):
            read(tap, tap.requests, request[place : place + step])
        for place in range(0, len(answer), step):
            read(tap, tap.answers, answer[place : place + step])
    tap.end()
    tap.end()
    return counts.as_data(0.0, "x")


def read(tap: Tap, along: Callable[[bytes], object] | None, data: bytes) -> None:
    if along is not None:
        try:
            along(data)
        except NOT_HTTP as error:
            tap.stumble(error, data)


@pytest.mark.parametrize("step", [1, 2, 7, 65536])
@pytest.mark.parametrize(
    ("request_bytes", "answer", "status"),
    [
        (GET, OK, "200"),
        (
            b"POST /x HTTP/1.1\r\nContent-Length: 10\r\n\r\nGET / HTTP",
            b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
            "201",
        ),
        (
            b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "500",
        ),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\n", "204"),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n", "304"),
        (GET, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK, "200"),
        (HEAD, HEAD_OK, "200"),
        (HEAD, b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD_OK, "200"),
    ],
)
def test_each_request_and_its_answer_are_counted_once(request_bytes: bytes, answer: bytes, status: str, step: int) -> None:
    found = conversation((request_bytes, answer), (GET, OK), (request_bytes, answer), step=step)

    expected = {status: 2, "200": 1} if status != "200" else {"200": 3}
    assert (found["requests"], found["answers"], found["cannot"]) == (3, expected, "")


OFFER = b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 7, 65536])
@pytest.mark.parametrize(
    "offer",
    [
        b"GET / HTTP/1.1\r\n" + OFFER,
        b"HEAD / HTTP/1.1\r\n" + OFFER,
        b"POST / HTTP/1.1\r\nContent-Length: 15\r\n" + OFFER + b"GET / HTTP/1.1\n",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + OFFER + b"3\r\nabc\r\n0\r\n\r\n",
        b"CONNECT db:5432 HTTP/1.1\r\n\r\n",
    ],
)
def test_a_request_whose_offer_of_an_upgrade_is_declined_is_one_like_any_other(offer: bytes, step: int) -> None:
    no = b"HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\n"
    traced = offer.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\ntraceparent: " + TRACE + b"\r\n", 1)

    found = conversation((traced, no if offer.startswith(b"HEAD") else no + b"no"), (GET, OK), (GET, OK), step=step)

    assert (found["requests"], found["answers"], found["cannot"]) == (3, {"405": 1, "200": 2}, "")
    assert (found["traces"], found["most_attempts"]) == (1, 1)


@pytest.mark.parametrize("step", [1, 2, 7, 65536])
def test_offers_sent_in_one_go_with_other_requests_are_counted_one_by_one(step: int) -> None:
    offer = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n" + OFFER + b"abc"

    found = conversation((GET + offer + offer + GET, OK * 4), step=step)

    assert (found["requests"], found["answers"], found["cannot"]) == (4, {"200": 4}, "")


def test_requests_sent_in_one_go_are_counted_one_by_one() -> None:
    found = conversation((GET * 5, OK * 3))

    assert (found["requests"], found["answers"]) == (5, {"200": 3, "0": 2})


def test_an_answer_to_a_head_and_the_next_one_in_one_piece_are_told_apart() -> None:
    found = conversation((HEAD, HEAD_OK), (GET, b""), (b"", OK))

    assert found["answers"] == {"200": 2}


@pytest.mark.parametrize("step", [1, 2, 7, 65536])
@pytest.mark.parametrize("behind", [b"", GET, GET + OFFERED + GET])
def test_requests_that_are_sent_behind_a_head_are_counted_with_their_answers(behind: bytes, step: int) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    count = behind.count(b"GET")
    answers = HEAD_OK + early + HEAD_OK.replace(b"200", b"404") + early * 2 + HEAD_OK + OK * count

    found = conversation((HEAD * 3 + behind, answers), (GET, OK), (HEAD, HEAD_OK), step=step)

    assert (found["requests"], found["answers"], found["cannot"]) == (5 + count, {"200": 4 + count, "404": 1}, "")


def test_very_many_heads_in_one_piece_are_read_one_by_one() -> None:
    found = conversation((HEAD * 3000, HEAD_OK * 3000), (HEAD, b"HTTP/1.1 100 Continue\r\n\r\n" * 3000 + HEAD_OK), step=2**20)

    assert (found["requests"], found["answers"], found["cannot"]) == (3001, {"200": 3001}, "")


def test_an_answer_that_ends_with_its_connection_is_one() -> None:
    assert conversation((GET, b"HTTP/1.1 200 OK\r\n\r\nuntil the end"))["answers"] == {"200": 1}


@pytest.mark.parametrize(
    "first",
    [
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"*1\r\n$4\r\nPING\r\n",
        b"PING\r\n",
        b"GET key\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_left_alone(first: bytes) -> None:
    found = conversation((first, b"+PONG\r\n"), (GET, OK))

    assert (found["requests"], found["answers"], found["cannot"]) == (None, None, "")


def test_a_callee_that_speaks_first_does_not_speak_http() -> None:
    assert conversation((b"", b"220 ready\r\n"), (GET, OK))["requests"] is None


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (b"CONNECT db:5432 HTTP/1.1\r\nHost: db\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81",
        ),
        (GET, b"HTTP/1.1 nonsense"),
        (GET + HEAD, OK),
        (HEAD + GET + HEAD, HEAD_OK),
        (CONNECT + GET, OK),
        (CONNECT + HEAD, OK),
        (CONNECT + OFFERED, OK),
        (GET + CONNECT, OK),
        (HEAD + CONNECT, HEAD_OK),
        (HEAD, b"what is this\r\n\r\n"),
        (HEAD, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000),
        (GET, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 400_000),
        (GET, CHUNKED + b"0\r\nX: " + b"x" * 20_000_000),
        (GET + b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 20_000_000, b""),
        (GET + b"GET /x HTTP/1.1\r\nX: " + b"x" * 400_000, b""),
    ],
)
def test_a_connection_that_becomes_something_else_is_given_up_and_said_so(request_bytes: bytes, answer: bytes) -> None:
    found = conversation((request_bytes, answer), (b"\x00\x01\x02", b"\x00\x01\x02"))

    assert found["requests"] >= 1
    assert found["cannot"].startswith("1 connections ceased to be plain HTTP/1.1")


def test_a_head_in_pieces_may_be_long_though_not_endless() -> None:
    long = b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * 100_000)
    answer = b"HTTP/1.1 200 OK\r\nX: %s\r\nContent-Length: 0\r\n\r\n" % (b"x" * 100_000)

    assert conversation(*[(long, answer)] * 5, step=40_000)["answers"] == {"200": 5}


@pytest.mark.parametrize("size", [10_000_000, 20_000_000])
def test_a_body_in_chunks_may_be_as_long_as_it_likes(size: int) -> None:
    body = (b"%x\r\n%b\r\n" % (size, bytes(size))) * 3 + b"0\r\n\r\n"
    asked = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body

    found = conversation((asked, CHUNKED + body), (GET, OK), step=262_144)

    assert (found["answers"], found["cannot"]) == ({"200": 2}, "")


@pytest.mark.parametrize("step", [1, 5, 65536])
def test_it_is_known_when_everything_that_began_has_ended(step: int) -> None:
    tap = Tap(Counts())
    body = b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    assert (tap.is_between, tap.is_answered) == (True, True)

    for place in range(0, len(body) - 1, step):
        read(tap, tap.requests, body[place : min(place + step, len(body) - 1)])
        assert not tap.is_between
    read(tap, tap.requests, body[-1:])
    assert (tap.is_between, tap.is_answered) == (True, False)

    for place in range(0, len(OK) - 1, step):
        read(tap, tap.answers, OK[place : min(place + step, len(OK) - 1)])
        assert not tap.is_answered
    read(tap, tap.answers, OK[-1:])
    assert (tap.is_between, tap.is_answered) == (True, True)


@pytest.mark.parametrize("name", [b"traceparent", b"Traceparent", b"TRACEPARENT"])
def test_attempts_are_counted_by_the_trace_they_bear(name: bytes) -> None:
    traced = b"GET / HTTP/1.1\r\n%s: %s\r\n\r\n" % (name, TRACE)
    other = traced.replace(b"0af7", b"0af8")

    found = conversation((traced, OK), (traced, OK), (other, OK), (GET, OK))

    assert (found["requests"], found["traces"], found["most_attempts"]) == (4, 2, 2)


def test_a_trace_that_is_none_is_not_counted() -> None:
    assert conversation((b"GET / HTTP/1.1\r\ntraceparent: 00-short\r\n\r\n", OK))["traces"] == 0


def test_the_oldest_traces_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_TRACES", 3)
    counts = Counts()

    for trace in (b"a", b"b", b"c", b"d", b"d", b"a"):
        counts.attempt(trace)

    assert (counts.traces, counts.most_attempts) == (5, 2)
