"""What toxics of HTTP do on one connection: to the callee, to the caller, and to the order of the answers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.unit.http_rig import Connection, toxic

GET = b"GET /x HTTP/1.1\r\nHost: shipping\r\n\r\n"
HEAD = b"HEAD /x HTTP/1.1\r\nHost: shipping\r\n\r\n"
BAD = b"GET /bad HTTP/1.1\r\nHost: shipping\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
BAD_POST = b"POST /bad HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe\r\n\r\r\n0\r\nTrailer: x\r\n\r\n"
BAD_CHUNKED = CHUNKED.replace(b"/x", b"/bad")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
ERROR = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nX-Chaos-Fault: broken\r\n\r\noops"
)
BROKEN = toxic("http_error", "broken", body="oops", path="/bad")

STEPS = [1, 2, 3, 7, 65536]


def in_steps(data: bytes, step: int) -> list[bytes]:
    return [data[place : place + step] for place in range(0, len(data), step)]


def talk(connection: Connection, *turns: tuple[bytes, bytes], step: int = 65536) -> None:
    for question, answer in turns:
        for piece in in_steps(question, step):
            connection.ask(piece)
        for piece in in_steps(answer, step):
            connection.answer(piece)


class TestAnError:
    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("bad", [BAD, BAD_POST, BAD_CHUNKED])
    def test_the_caller_is_answered_and_the_callee_never_asked(self, bad: bytes, step: int) -> None:
        connection = Connection(BROKEN)

        talk(connection, (GET, OK), (bad, b""), (POST, OK), (bad, b""), (CHUNKED, OK), step=step)

        assert connection.sent == GET + POST + CHUNKED
        assert connection.received == OK + ERROR + OK + ERROR + OK
        assert connection.told["answers"] == {"200": 3, "503": 2}
        assert connection.told["requests"] == 5
        assert connection.told["struck"] == {"broken": 2}

    def test_it_waits_for_the_answers_before_it(self) -> None:
        connection = Connection(BROKEN)

        connection.ask(GET + BAD + POST + BAD)
        assert (connection.sent, connection.received) == (GET + POST, b"")
        connection.answer(OK[:-1])
        assert connection.received == OK[:-1]
        connection.answer(OK[-1:] + OK[:5])
        assert connection.received == OK + ERROR + OK[:5]
        connection.answer(OK[5:])

        assert connection.received == OK + ERROR + OK + ERROR

    @pytest.mark.parametrize(
        ("status", "phrase"),
        [(404, "Not Found"), (429, "Too Many Requests"), (500, "Internal Server Error"), (599, "Injected")],
    )
    def test_the_status_is_the_one_that_was_said(self, status: int, phrase: str) -> None:
        connection = Connection(toxic("http_error", status=status))

        connection.ask(GET)

        assert connection.received.startswith(f"HTTP/1.1 {status} {phrase}\r\n".encode())
        assert connection.told["answers"] == {str(status): 1}

    def test_a_body_beyond_ascii_has_its_length_in_bytes(self) -> None:
        connection = Connection(toxic("http_error", body="größer"))

        connection.ask(GET)

        assert b"Content-Length: 8\r\n" in connection.received
        assert connection.received.endswith("größer".encode())

    def test_a_head_is_answered_without_a_body(self) -> None:
        connection = Connection(toxic("http_error", "broken", body="oops"))

        connection.ask(HEAD + HEAD)

        assert connection.received == ERROR.removesuffix(b"oops") * 2

    @pytest.mark.parametrize(
        ("question", "connection_header", "ends"),
        [
            (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"\r\nConnection: close\r\n", True),
            (b"GET / HTTP/1.0\r\n\r\n", b"\r\nConnection: close\r\n", True),
            (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"\r\nConnection: keep-alive\r\n", False),
        ],
    )
    def test_the_connection_stays_open_where_the_request_allows(
        self, question: bytes, connection_header: bytes, ends: bool
    ) -> None:
        connection = Connection(toxic("http_error"))

        connection.ask(question)

        assert connection_header in connection.received
        assert (connection.caller.finished, connection.callee.finished) == (ends, ends)

    def test_nothing_comes_after_the_last_answer(self) -> None:
        connection = Connection(toxic("http_error"))

        connection.ask(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        connection.ask(GET)
        connection.answer(OK)
        connection.hang_up()
        connection.end_answers()

        assert connection.sent == b""
        assert connection.received.count(b"HTTP/1.1") == 1

    def test_a_caller_that_waits_to_be_told_to_go_on_is_told_in_its_turn(self) -> None:
        connection = Connection(BROKEN)
        head, body = BAD_POST[:-5].replace(b"\r\n\r\n", b"\r\nExpect: 100-Continue\r\n\r\n"), BAD_POST[-5:]

        connection.ask(GET + head)
        assert connection.received == b""
        connection.answer(OK)
        assert connection.received == OK + b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.ask(body)

        assert connection.received == OK + b"HTTP/1.1 100 Continue\r\n\r\n" + ERROR
        assert connection.told["answers"] == {"200": 1, "503": 1}

    def test_a_body_that_is_thrown_away_is_not_kept(self) -> None:
        connection = Connection(toxic("http_error"))
        connection.ask(b"POST / HTTP/1.1\r\nContent-Length: 50000000000\r\n\r\n")

        for _ in range(100):
            connection.ask(bytes(1_000_000))

        assert (connection.sent, connection.received, connection.is_held) == (b"", b"", False)

    def test_a_request_that_never_ends_is_not_answered(self) -> None:
        connection = Connection(toxic("http_error"))

        connection.ask(POST[:-1])
        connection.hang_up()

        assert (connection.sent, connection.received) == (b"", b"")
        assert connection.callee.finished
        assert connection.told["answers"] == {"0": 1}

    def test_a_body_that_turns_out_to_be_nonsense_ends_the_connection(self) -> None:
        connection = Connection(toxic("http_error"))

        connection.ask(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")

        assert (connection.sent, connection.ending) == (b"", "cut")

    @pytest.mark.parametrize("is_full", [False, True])
    def test_a_request_that_was_being_read_when_the_callee_left_is_answered_as_the_last(self, is_full: bool) -> None:
        connection = Connection(BROKEN)
        assert connection.filter is not None

        connection.ask(BAD_POST[:-1])
        connection.end_answers()
        assert not connection.caller.finished
        connection.filter.caller_is_full(full=is_full)
        connection.ask(BAD_POST[-1:])
        connection.filter.caller_is_full(full=False)
        connection.ask(BAD)

        assert connection.received == ERROR.replace(b"broken\r\n", b"broken\r\nConnection: close\r\n")
        assert (connection.caller.finished, connection.callee.finished, connection.sent) == (True, True, b"")
        assert connection.told["struck"] == {"broken": 1}

    @pytest.mark.parametrize("then", ["asks", "leaves", "is healed"])
    def test_where_every_request_is_answered_here_a_callee_that_leaves_takes_none_with_it(self, then: str) -> None:
        connection = Connection(toxic("http_error", "broken", body="oops"))
        connection.ask(BAD)

        connection.end_answers()
        assert (connection.received, connection.caller.finished) == (ERROR, False)
        if then == "asks":
            connection.ask(BAD)
        elif then == "leaves":
            connection.hang_up()
        else:
            connection.remove("broken")

        last = ERROR.replace(b"broken\r\n", b"broken\r\nConnection: close\r\n")
        assert connection.received == ERROR + (last if then == "asks" else b"")
        assert connection.caller.finished

    @pytest.mark.parametrize("caller_first", [False, True])
    def test_a_caller_that_never_ends_its_request_is_let_go_of_too_when_the_callee_has_left(self, caller_first: bool) -> None:
        connection = Connection(BROKEN)

        connection.ask(BAD_POST[:-1])
        ends = [connection.end_answers, connection.hang_up]
        for end in reversed(ends) if caller_first else ends:
            end()

        assert (connection.received, connection.caller.finished) == (b"", True)

    def test_a_caller_that_left_first_leaves_nothing_behind(self) -> None:
        connection = Connection(toxic("http_error"))

        connection.ask(BAD)
        connection.hang_up()
        connection.end_answers()

        assert (connection.caller.finished, connection.callee.finished) == (True, True)

    def test_nothing_is_written_to_a_caller_whose_answers_have_ended(self) -> None:
        connection = Connection(BROKEN)

        connection.ask(GET + BAD)
        connection.end_answers()
        connection.ask(BAD)

        assert (connection.received, connection.caller.finished) == (b"", True)


class TestADelay:
    def test_a_request_is_passed_on_that_much_later_and_what_follows_it_too(self) -> None:
        connection = Connection(toxic("http_delay", "slow", delay=1000, path="/bad"))

        connection.ask(GET + BAD + POST)
        assert connection.sent == GET
        assert connection.is_held
        (wait,) = connection.alarm.waits
        assert 900 < wait <= 1000
        connection.alarm.ring()

        assert connection.sent == GET + BAD + POST
        assert not connection.is_held
        assert connection.told["struck"] == {"slow": 1}

    def test_its_body_comes_behind_it(self) -> None:
        connection = Connection(toxic("http_delay", delay=1000))

        connection.ask(POST[:-2])
        connection.ask(POST[-2:] + POST)
        assert connection.sent == b""
        connection.alarm.ring()
        assert connection.sent == POST
        connection.alarm.ring()

        assert connection.sent == POST + POST
        assert not connection.is_held

    def test_delays_add_up_and_each_is_taken_off_alone(self) -> None:
        connection = Connection(toxic("http_delay", "one", delay=1000), toxic("http_delay", "two", delay=500))

        connection.ask(GET)
        (wait,) = connection.alarm.waits
        assert 1400 < wait <= 1500
        connection.remove("one")
        (wait,) = connection.alarm.waits
        assert 400 < wait <= 500
        connection.remove("two")
        (wait,) = connection.alarm.waits
        assert wait <= 0
        connection.alarm.ring()

        assert connection.sent == GET
        assert connection.told["struck"] == {"one": 1, "two": 1}

    def test_one_that_is_changed_counts_anew_for_what_it_holds(self) -> None:
        connection = Connection(toxic("http_delay", delay=10_000), toxic("http_delay", "other", delay=100))
        connection.ask(GET)

        connection.change(toxic("http_delay", delay=1000))

        (wait,) = connection.alarm.waits
        assert 1000 < wait <= 1100

    def test_a_delay_of_nothing_is_none(self) -> None:
        connection = Connection(toxic("http_delay", delay=0))

        connection.ask(GET)

        assert connection.sent == GET
        assert connection.told["struck"] == {}

    def test_jitter_goes_either_way(self) -> None:
        connection = Connection(toxic("http_delay", delay=100, jitter=50))
        waits = []
        for _ in range(50):
            connection.ask(GET)
            waits += connection.alarm.waits
            connection.alarm.ring()

        assert 40 < min(waits) < 100 < max(waits) <= 150

    def test_a_half_close_waits_for_what_is_held(self) -> None:
        connection = Connection(toxic("http_delay", delay=1000))

        connection.ask(GET)
        connection.hang_up()
        assert not connection.callee.finished
        connection.alarm.ring()

        assert (connection.sent, connection.callee.finished) == (GET, True)

    @pytest.mark.parametrize("first", ["http_delay", "http_error"])
    def test_with_an_error_the_order_in_which_they_were_added_decides(self, first: str) -> None:
        kinds = sorted([("http_delay", {"delay": 1000}), ("http_error", {})], key=lambda kind: kind[0] != first)
        connection = Connection(*(toxic(kind, **attributes) for kind, attributes in kinds))

        connection.ask(GET)
        at_once = connection.received != b""
        connection.alarm.ring()

        assert at_once == (first == "http_error")
        assert connection.received.startswith(b"HTTP/1.1 503 ")
        assert connection.told["struck"] == ({"http_error": 1} if at_once else {"http_delay": 1, "http_error": 1})

    def test_an_error_that_is_removed_before_its_delay_is_over_does_nothing(self) -> None:
        connection = Connection(toxic("http_delay", delay=1000), toxic("http_error"))

        connection.ask(POST)
        connection.remove("http_error")
        connection.alarm.ring()

        assert (connection.sent, connection.received) == (POST, b"")


class TestALostReply:
    @pytest.mark.parametrize("step", STEPS)
    def test_the_request_arrives_and_nothing_comes_back_any_more(self, step: int) -> None:
        connection = Connection(toxic("http_lost_reply", "lost", path="/bad"))

        talk(connection, (GET, OK), (BAD_POST, OK), (GET, OK), step=step)
        connection.end_answers()

        assert connection.sent == GET + BAD_POST + GET
        assert (connection.received, connection.caller.finished, connection.ending) == (OK, False, "")
        assert connection.told["answers"] == {"200": 1, "0": 2}
        assert connection.told["struck"] == {"lost": 1}

    def test_the_connection_ends_when_the_caller_gives_up(self) -> None:
        connection = Connection(toxic("http_lost_reply"))

        talk(connection, (GET, OK))
        connection.hang_up()
        assert connection.callee.finished
        connection.end_answers()

        assert connection.caller.finished

    def test_a_callee_that_closed_first_changes_nothing_about_that(self) -> None:
        connection = Connection(toxic("http_lost_reply"))

        talk(connection, (GET, OK))
        connection.end_answers()
        assert not connection.caller.finished
        connection.hang_up()

        assert connection.caller.finished

    @pytest.mark.parametrize("answer", [b"", OK[:5], OK])
    def test_healing_closes_the_connection(self, answer: bytes) -> None:
        connection = Connection(toxic("http_lost_reply"))
        talk(connection, (GET, answer))

        connection.remove("http_lost_reply")

        assert (connection.received, connection.ending) == (b"", "cut")

    def test_healing_leaves_those_alone_that_it_did_not_strike(self) -> None:
        connection = Connection(toxic("http_lost_reply", path="/bad"))
        connection.ask(GET)

        connection.remove("http_lost_reply")
        connection.answer(OK)

        assert (connection.received, connection.ending) == (OK, "")

    @pytest.mark.parametrize("step", STEPS)
    def test_a_reset_comes_when_the_answer_would(self, step: int) -> None:
        connection = Connection(toxic("http_lost_reply", how="reset", path="/bad"))

        talk(connection, (GET, OK), (BAD, b""), step=step)
        assert connection.ending == ""
        talk(connection, (b"", OK), step=step)

        assert (connection.sent, connection.received, connection.ending) == (GET + BAD, OK, "reset")

    def test_the_caller_is_told_to_go_on_or_the_request_would_never_be_whole(self) -> None:
        connection = Connection(toxic("http_lost_reply"))
        head, body = POST[:-5].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"), POST[-5:]
        go_on = b"HTTP/1.1 100 Continue\r\n\r\n"

        talk(connection, (head, go_on + b"HTTP/1.1 103 Early Hints\r\n\r\n"), (body, OK))

        assert (connection.sent, connection.received) == (head + body, go_on)

    def test_the_first_that_decides_about_the_answer_is_the_one_that_strikes(self) -> None:
        connection = Connection(toxic("http_lost_reply"), toxic("http_error"))

        talk(connection, (GET, OK))

        assert (connection.sent, connection.received) == (GET, b"")
        assert connection.told["struck"] == {"http_lost_reply": 1}


BODY = bytes(range(32, 127)) * 3


def corrupted(body: bytes) -> bytes:
    return bytes(255 - byte if place % 64 == 0 else byte for place, byte in enumerate(body))


def with_length(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def in_chunks(body: bytes, size: int) -> bytes:
    chunks = [b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in in_steps(body, size)]
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\nTrailer: x\r\n\r\n"


def unchunked(data: bytes) -> bytes:
    _, _, rest = data.partition(b"\r\n\r\n")
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            assert rest == b"\r\n"
            return body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


class TestACorruptAnswer:
    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("body", [b"{", BODY, BODY[:64], BODY[:65]])
    def test_one_byte_in_64_is_changed_and_nothing_else(self, body: bytes, step: int) -> None:
        connection = Connection(toxic("http_corrupt", "wrong", path="/bad"))

        talk(connection, (BAD, with_length(body)), (GET, OK), (BAD, with_length(body)), step=step)

        assert connection.received == with_length(corrupted(body)).replace(b": -", b": ") + OK + with_length(corrupted(body))
        assert connection.told["answers"] == {"200": 3}
        assert connection.told["struck"] == {"wrong": 2}

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("size", [1, 10, 1000])
    def test_a_body_in_chunks_keeps_its_length_and_its_framing(self, size: int, step: int) -> None:
        connection = Connection(toxic("http_corrupt", path="/bad"))

        talk(connection, (BAD, in_chunks(BODY, size)), (GET, OK), step=step)

        assert connection.received.endswith(OK)
        assert unchunked(connection.received.removesuffix(OK)) == corrupted(BODY)

    @pytest.mark.parametrize("step", STEPS)
    def test_a_body_until_the_end_of_the_connection_too(self, step: int) -> None:
        connection = Connection(toxic("http_corrupt"))

        talk(connection, (GET, b"HTTP/1.1 200 OK\r\n\r\n" + BODY), step=step)
        connection.end_answers()

        assert connection.received == b"HTTP/1.1 200 OK\r\n\r\n" + corrupted(BODY)
        assert connection.caller.finished

    @pytest.mark.parametrize("how", ["bytes", "truncate"])
    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
            (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"),
            (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"),
        ],
    )
    def test_an_answer_without_a_body_is_left_alone_and_not_counted(self, question: bytes, answer: bytes, how: str) -> None:
        connection = Connection(toxic("http_corrupt", "wrong", how=how))

        talk(connection, (question, answer), (question, answer))

        assert (connection.received, connection.ending) == (answer * 2, "")
        assert connection.told["struck"] == {}

    @pytest.mark.parametrize("step", STEPS)
    def test_an_answer_ends_in_the_middle_of_its_body(self, step: int) -> None:
        connection = Connection(toxic("http_corrupt", "half", how="truncate", path="/bad"))

        talk(connection, (GET, OK), (BAD, with_length(BODY)), step=step)

        assert connection.received == OK + with_length(BODY)[: -len(BODY)] + BODY[: len(BODY) // 2]
        assert connection.ending == "cut short"
        assert connection.told["struck"] == {"half": 1}

    @pytest.mark.parametrize("step", [7, 65536])
    @pytest.mark.parametrize("answer", [in_chunks(BODY, 1000), b"HTTP/1.1 200 OK\r\n\r\n" + BODY])
    def test_an_answer_of_unknown_length_ends_within_its_first_piece(self, answer: bytes, step: int) -> None:
        connection = Connection(toxic("http_corrupt", how="truncate"))

        talk(connection, (GET, answer), step=step)

        assert answer.startswith(connection.received)
        assert len(answer) // 3 - 7 < len(connection.received) < len(answer) - 7 if step > 7 else connection.received
        assert connection.ending == "cut short"


class TestAnswersOfEveryKind:
    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"),
            (HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (HEAD, b"HTTP/1.1 200 OK\r\n\r\n"),
            (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
            (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"),
            (GET, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK),
            (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n"),
            (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n"),
        ],
    )
    def test_the_next_answer_is_told_from_it(self, question: bytes, answer: bytes, step: int) -> None:
        connection = Connection(BROKEN)
        for piece in in_steps(question + BAD + question + GET + BAD, step):
            connection.ask(piece)

        for piece in in_steps(answer + answer + OK, step):
            connection.answer(piece)

        assert connection.sent == question + question + GET
        assert connection.received == answer + ERROR + answer + OK + ERROR
        assert sum(connection.told["answers"].values()) == 5

    def test_an_answer_that_comes_before_its_request_is_complete_is_one(self) -> None:
        connection = Connection(BROKEN)

        connection.ask(POST[:-2])
        connection.answer(OK)
        connection.ask(POST[-2:] + GET + BAD)
        connection.answer(OK)

        assert (connection.sent, connection.received) == (POST + GET, OK + OK + ERROR)

    def test_what_nobody_asked_for_passes_and_nothing_is_done_from_there_on(self) -> None:
        connection = Connection(BROKEN)
        talk(connection, (GET, OK))

        talk(connection, (b"", OK), (BAD, OK))

        assert (connection.sent, connection.received, connection.filter) == (GET + BAD, OK * 3, None)


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
OFFERS = [
    b"GET /x HTTP/1.1\r\n" + OFFER,
    b"HEAD /x HTTP/1.1\r\n" + OFFER,
    b"POST /x HTTP/1.1\r\nContent-Length: 5\r\n" + OFFER + b"hello",
    b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + OFFER + b"5\r\nhello\r\n0\r\n\r\n",
    b"CONNECT db:5432 HTTP/1.1\r\nHost: db\r\n\r\n",
]
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
NO = b"HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\n"


def declined(offer: bytes) -> bytes:
    return NO if offer.startswith(b"HEAD") else NO + b"no"


class TestAnOfferOfAnUpgrade:
    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("offer", OFFERS)
    @pytest.mark.parametrize("at_once", [True, False])
    def test_one_that_is_declined_is_a_request_like_any_other(self, offer: bytes, step: int, at_once: bool) -> None:
        connection = Connection(BROKEN)
        turns = [(offer, declined(offer)), (BAD, b""), (offer, declined(offer)), (POST, OK)]

        if at_once:
            talk(connection, (b"".join(question for question, _ in turns), b""), step=step)
            talk(connection, *((b"", answer) for _, answer in turns), step=step)
        else:
            talk(connection, *turns, step=step)

        assert connection.sent == offer + offer + POST
        assert connection.received == declined(offer) + ERROR + declined(offer) + OK
        assert connection.told["answers"] == {"405": 2, "503": 1, "200": 1}
        assert (connection.told["requests"], connection.told["cannot"]) == (4, "")

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("offer", OFFERS[:-1])
    def test_the_request_itself_is_struck(self, offer: bytes, step: int) -> None:
        connection = Connection(BROKEN)
        struck = offer.replace(b"/x", b"/bad")

        talk(connection, (struck, b""), (GET, OK), (struck, b""), step=step)

        assert connection.sent == GET
        error = ERROR.removesuffix(b"oops") if offer.startswith(b"HEAD") else ERROR
        assert connection.received == error + OK + error

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("offer", OFFERS)
    def test_once_it_is_taken_all_that_follows_is_left_alone(self, offer: bytes, step: int) -> None:
        connection = Connection(BROKEN)
        taken = b"HTTP/1.1 200 OK\r\n\r\n" if offer.startswith(b"CONNECT") else SWITCHED

        talk(connection, (GET, OK), (offer + BAD, taken + OK), (BAD, OK), step=step)

        assert (connection.sent, connection.received) == (GET + offer + BAD + BAD, OK + taken + OK + OK)
        assert connection.filter is None
        assert not connection.is_held
        assert connection.told["cannot"].startswith("1 connections ceased to be plain HTTP/1.1")

    def test_what_follows_one_to_which_no_answer_comes_goes_on(self) -> None:
        connection = Connection(BROKEN)

        connection.ask(OFFERS[0] + GET)
        assert connection.sent == OFFERS[0]
        connection.end_answers()

        assert connection.sent == OFFERS[0] + GET

    @pytest.mark.parametrize("offer", OFFERS)
    @pytest.mark.parametrize("place", [1, 40, -1])
    def test_one_under_way_when_a_toxic_is_added_is_followed(self, offer: bytes, place: int) -> None:
        connection = Connection()

        connection.ask(offer[:place])
        connection.add(BROKEN)
        connection.ask(offer[place:])
        connection.ask(BAD)
        connection.answer(declined(offer))

        assert (connection.sent, connection.received) == (offer, declined(offer) + ERROR)
        assert connection.told["requests"] == 2

    def test_one_whose_reply_is_lost_leads_nowhere(self) -> None:
        connection = Connection(toxic("http_lost_reply"))

        talk(connection, (OFFERS[0], SWITCHED + b"\x00\x00"))

        assert (connection.received, connection.ending) == (b"", "")


class TestWhatIsNoHttp:
    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize(
        "question",
        [
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f" * 3,
            b"*1\r\n$4\r\nPING\r\n",
            b"GET /bad\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /bad HTTP/1.1\nHost: x\n\n",
            b"POST /bad HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ],
    )
    def test_it_passes_as_it_is_and_all_that_follows_too(self, question: bytes, step: int) -> None:
        connection = Connection(BROKEN)

        for piece in in_steps(GET + BAD + question + BAD, step):
            connection.ask(piece)
        assert connection.sent == GET + question + BAD
        assert connection.filter is not None
        connection.answer(OK + b"\x00 what this is")

        assert connection.received == OK + ERROR + b"\x00 what this is"
        assert connection.filter is None

    def test_an_answer_that_is_none_passes_and_so_does_all_that_follows(self) -> None:
        connection = Connection(BROKEN)

        talk(connection, (GET + GET, OK + b"nonsense\r\n\r\n"), (BAD, OK))

        assert (connection.sent, connection.received) == (GET + GET + BAD, OK + b"nonsense\r\n\r\n" + OK)
        assert connection.told["cannot"].startswith("1 connections ceased to be plain HTTP/1.1")

    def test_an_answer_that_is_none_lets_go_of_what_is_held(self) -> None:
        connection = Connection(toxic("http_delay", delay=1000, path="/bad"))

        talk(connection, (GET + BAD + POST, b"nonsense\r\n\r\n"))

        assert connection.sent == GET + BAD + POST
        assert not connection.is_held

    def test_a_head_without_end_is_held_no_longer_than_it_may_be(self) -> None:
        connection = Connection(BROKEN)
        connection.ask(b"GET /bad HTTP/1.1\r\nX: ")

        for _ in range(30):
            connection.ask(b"x" * 10_000)

        assert len(connection.sent) == 300_022
        assert connection.filter is None

    def test_neither_are_trailers_without_end(self) -> None:
        connection = Connection(BROKEN)
        connection.ask(CHUNKED[: CHUNKED.index(b"Trailer")] + b"X: ")

        for _ in range(20):
            connection.ask(b"x" * 1_000_000)

        assert connection.sent.endswith(b"x" * 20_000_000)
        talk(connection, (b"", OK))
        assert (connection.received, connection.filter) == (OK, None)

    def test_half_a_request_and_then_the_end_arrive(self) -> None:
        connection = Connection(BROKEN)

        connection.ask(BAD[:20])
        assert connection.sent == b""
        connection.hang_up()

        assert (connection.sent, connection.callee.finished) == (BAD[:20], True)


class TestToxicsThatComeAndGo:
    @pytest.mark.parametrize("place", range(1, len(BAD_POST)))
    def test_a_request_under_way_is_let_alone_and_the_next_one_struck(self, place: int) -> None:
        connection = Connection()

        connection.ask(BAD_POST[:place])
        connection.add(BROKEN)
        connection.ask(BAD_POST[place:])
        talk(connection, (b"", OK), (BAD, b""))

        assert (connection.sent, connection.received) == (BAD_POST, OK + ERROR)
        assert connection.told["answers"] == {"200": 1, "503": 1}

    @pytest.mark.parametrize("place", range(1, len(OK)))
    def test_an_answer_under_way_comes_first(self, place: int) -> None:
        connection = Connection()

        talk(connection, (GET, OK[:place]))
        connection.add(BROKEN)
        talk(connection, (BAD + GET, OK[place:]))
        assert connection.sent == GET + GET
        connection.answer(OK)

        assert (connection.sent, connection.received) == (GET + GET, OK + ERROR + OK)
        assert connection.told["answers"] == {"200": 2, "503": 1}

    def test_requests_sent_in_one_go_before_are_all_let_alone(self) -> None:
        connection = Connection()

        connection.ask(GET * 3 + BAD)
        connection.add(BROKEN)
        connection.ask(BAD)
        assert connection.is_held
        connection.answer(OK * 2)
        assert connection.is_held
        connection.answer(OK * 2)

        assert not connection.is_held
        assert (connection.sent, connection.received) == (GET * 3 + BAD, OK * 4 + ERROR)

    def test_a_head_under_way_to_which_an_answer_is_due_is_followed(self) -> None:
        connection = Connection()

        connection.ask(HEAD)
        connection.add(BROKEN)
        connection.ask(BAD + HEAD)
        connection.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")

        assert connection.sent == HEAD + HEAD
        assert connection.received.endswith(ERROR)

    def test_a_connection_that_was_no_http_before_is_none_now(self) -> None:
        connection = Connection()
        connection.ask(b"*1\r\n$4\r\nPING\r\n")

        connection.add(BROKEN)
        connection.ask(BAD)

        assert connection.sent == b"*1\r\n$4\r\nPING\r\n" + BAD

    def test_once_the_last_is_gone_and_nothing_is_under_way_nothing_is_done_any_more(self) -> None:
        connection = Connection(BROKEN)
        talk(connection, (GET, OK), (BAD, b""))
        assert connection.filter is not None

        connection.remove("broken")

        assert connection.filter is None
        talk(connection, (BAD, OK))
        connection.add(BROKEN)
        talk(connection, (BAD, b""))
        assert connection.received == OK + ERROR + OK + ERROR
        assert connection.told["answers"] == {"200": 2, "503": 2}
        assert connection.told["cannot"] == ""

    def test_requests_under_way_go_on_when_it_is_removed(self) -> None:
        connection = Connection(BROKEN)
        connection.ask(GET + BAD_POST[:-1])

        connection.remove("broken")
        connection.answer(OK)
        connection.ask(BAD_POST[-1:] + BAD)
        assert connection.filter is not None
        connection.answer(OK)

        assert (connection.sent, connection.received) == (GET + BAD, OK + ERROR + OK)
        assert connection.filter is None

    def test_half_a_head_goes_on_when_the_last_is_removed_and_is_not_struck_any_more(self) -> None:
        connection = Connection(BROKEN)
        connection.ask(BAD[:20])

        connection.remove("broken")
        assert connection.sent == BAD[:20]
        connection.add(BROKEN)
        talk(connection, (BAD[20:], OK), (BAD, b""))

        assert (connection.sent, connection.received) == (BAD, OK + ERROR)

    @pytest.mark.parametrize("begun", [b"", OK[:9]])
    @pytest.mark.parametrize("kind", [("http_lost_reply", "reset"), ("http_corrupt", "bytes"), ("http_corrupt", "truncate")])
    def test_an_answer_that_begins_after_the_healing_is_left_alone(self, kind: tuple[str, str], begun: bytes) -> None:
        connection = Connection(toxic(kind[0], how=kind[1]))
        talk(connection, (GET, begun))

        connection.remove(kind[0])
        talk(connection, (b"", OK[len(begun) :]), (GET, OK))

        assert (connection.received, connection.ending) == (OK + OK, "")
        assert connection.told["struck"] == {}

    def test_a_corrupt_answer_under_way_goes_on(self) -> None:
        connection = Connection(toxic("http_corrupt"))
        talk(connection, (GET, with_length(BODY)[:100]))

        connection.remove("http_corrupt")
        talk(connection, (b"", with_length(BODY)[100:]), (GET, OK))

        assert connection.received == with_length(corrupted(BODY)) + OK


class TestBoundedMemory:
    def test_a_caller_that_sends_without_end_and_is_not_answered_is_not_read(self) -> None:
        connection = Connection(BROKEN)

        connection.ask(GET * 5000)

        assert connection.is_held
        assert connection.sent == GET * 1000
        connection.answer(OK * 600)
        assert connection.sent == GET * 1600

    def test_a_caller_that_does_not_read_its_answers_is_not_read(self) -> None:
        connection = Connection(BROKEN)
        assert connection.filter is not None

        connection.filter.caller_is_full(full=True)
        connection.ask(BAD * 100)
        assert (connection.received, connection.is_held) == (b"", True)
        connection.filter.caller_is_full(full=False)

        assert (connection.received, connection.is_held) == (ERROR * 100, False)

    def test_answers_made_here_wait_for_a_caller_that_reads(self) -> None:
        connection = Connection(BROKEN)
        assert connection.filter is not None
        connection.ask(GET + BAD * 3 + GET)

        connection.filter.caller_is_full(full=True)
        connection.answer(OK)
        assert connection.received == OK
        connection.filter.caller_is_full(full=False)
        assert connection.received == OK + ERROR * 3
        connection.answer(OK)

        assert connection.received == OK + ERROR * 3 + OK

    def test_what_comes_behind_them_is_not_held_up(self) -> None:
        connection = Connection(BROKEN)
        assert connection.filter is not None
        connection.ask(GET + BAD * 3 + GET)

        connection.filter.caller_is_full(full=True)
        connection.answer(OK + OK)

        assert connection.received == OK + ERROR * 3 + OK


TRACE = "0af7651916cd43dd8448eb211c80319c"


def request(method: str = "GET", path: str = "/", trace: str = "", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if trace:
        lines.append(f"TraceParent: 00-{trace:0>32}-b7ad6b7169203331-01")
    return "\r\n".join([*lines, "\r\n"]).encode()


def struck(connection: Connection, *requests: bytes) -> list[bool]:
    found = []
    for each in requests:
        before = len(connection.received)
        connection.ask(each)
        found.append(len(connection.received) > before)
        if not found[-1]:
            connection.answer(OK)
    return found


class TestChoosing:
    @pytest.mark.parametrize(
        ("match", "hits", "misses"),
        [
            (
                {"methods": ["POST", "PUT"]},
                [request("POST"), request("PUT")],
                [request("GET"), request("POSTS")[:0] or request("PATCH")],
            ),
            (
                {"path": "/orders"},
                [request(path="/orders"), request(path="/orders?id=1")],
                [request(path="/orders/1"), request(path="/x/orders")],
            ),
            ({"path": "/orders/*"}, [request(path="/orders/1/items"), request(path="/orders/")], [request(path="/orders")]),
            ({"path": "/o?ders/[1]"}, [request(path="/orders/[1]")], [request(path="/orders/1"), request(path="/oders/[1]")]),
            ({"path": "/x"}, [request(path="http://shipping:80/x?y=/z")], [request(path="http://shipping/")]),
            ({"path": "*"}, [request("OPTIONS", "*")], []),
            ({"path": "/x"}, [b"\r\n\r\nGET   /x HTTP/1.1\r\n\r\n"], []),
            (
                {"header": "X-Tenant: blue*"},
                [request(x_tenant="blue"), request(X_TENANT="blue-1")],
                [request(x_tenant="red"), request(x_tenants="blue"), request()],
            ),
            ({"header": "x-tenant: a:b"}, [request(X_Tenant="a:b")], [request(X_Tenant="a")]),
            ({"journey": "POST /orders"}, [request(trace="d8c7d1b0" + "0" * 24)], [request(trace=TRACE), request()]),
            (
                {"methods": ["GET"], "path": "/x", "header": "A: 1"},
                [request(path="/x", A="1")],
                [request("PUT", "/x", A="1"), request(path="/y", A="1"), request(path="/x", A="2")],
            ),
        ],
    )
    def test_all_that_is_said_must_hold(self, match: dict[str, Any], hits: list[bytes], misses: list[bytes]) -> None:
        if "journey" in match:
            from harness.plan.draws import journey_prefix

            hits = [request(trace=journey_prefix(match["journey"]) + "0" * 24)]
        connection = Connection(toxic("http_error", **match))

        assert struck(connection, *hits, *misses, *hits) == [True] * len(hits) + [False] * len(misses) + [True] * len(hits)

    def test_the_first_attempt_of_each_trace(self) -> None:
        connection = Connection(toxic("http_error", first_attempt=True))

        assert struck(connection, *(request(trace=trace) for trace in ("1", "1", "2", "1", "2"))) == [
            True,
            False,
            True,
            False,
            False,
        ]
        assert struck(connection, request(), request()) == [False, False]

    def test_the_first_attempt_is_the_first_on_the_edge_whatever_else_is_asked(self) -> None:
        connection = Connection(toxic("http_error", first_attempt=True, methods=["POST"]))

        assert struck(connection, request("GET", trace="1"), request("POST", trace="1"), request("POST", trace="2")) == [
            False,
            False,
            True,
        ]

    def test_every_third_of_those_that_match(self) -> None:
        connection = Connection(toxic("http_error", every=3, path="/bad"))

        found = struck(connection, *[BAD, GET, BAD, BAD, GET, BAD, BAD, BAD])

        assert found == [False, False, False, True, False, False, False, True]

    def test_a_share_drawn_by_the_seed(self) -> None:
        from harness.plan.draws import draw

        connection = Connection(toxic("http_error", seed=7, share=0.3, path="/bad"))

        found = struck(connection, *[BAD, GET] * 200)

        assert found[1::2] == [False] * 200
        assert found[::2] == [draw(7, number) < 0.3 for number in range(200)]

    def test_a_share_without_a_seed_is_about_that_share(self) -> None:
        connection = Connection(toxic("http_error", share=0.5))

        assert 50 < sum(struck(connection, *[GET] * 200)) < 150

    def test_a_toxic_numbers_what_another_one_takes_from_it(self) -> None:
        connection = Connection(
            toxic("http_error", "one", every=2, status=500), toxic("http_error", "two", every=3, status=501)
        )

        struck(connection, *[GET] * 6)

        assert re.findall(rb"HTTP/1.1 (\d+)", connection.received) == [b"200", b"500", b"501", b"500", b"200", b"500"]
        assert connection.told["struck"] == {"one": 3, "two": 1}

    def test_a_changed_toxic_goes_on_numbering(self) -> None:
        connection = Connection(toxic("http_error", every=3))
        assert struck(connection, GET, GET) == [False, False]

        connection.faults.change(toxic("http_error", every=3, status=500))

        assert struck(connection, GET) == [True]
        assert connection.received.endswith(b"\r\n\r\n")
        assert b"HTTP/1.1 500 " in connection.received

    def test_attempts_are_counted_as_without_a_toxic(self) -> None:
        connection = Connection(BROKEN)

        talk(connection, (request(trace="1"), OK), (request(path="/bad", trace="1"), b""), (request(trace="2"), OK))

        assert (connection.told["traces"], connection.told["most_attempts"], connection.told["requests"]) == (2, 2, 3)


def test_what_is_told_is_data(tmp_path: Any) -> None:
    connection = Connection(BROKEN)
    talk(connection, (BAD, b""))

    assert json.loads(json.dumps(connection.told))["struck"] == {"broken": 1}
