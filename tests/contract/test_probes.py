"""What the harness looks at from outside: edges through real sockets, counters through real pages."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plan.plan import Asking
from harness.runtime.ports import Address
from harness.runtime.probes.answers import Ended, Incoming, Late, read_answer
from harness.runtime.probes.bite import QUESTIONS, look
from harness.runtime.probes.metrics import find_counter, read_counter
from harness.runtime.probes.sql import ask

Behaviour = Callable[[socket.socket], None]


@contextmanager
def server(behave: Behaviour) -> Iterator[Address]:
    """A server for one connection after the other, each treated by `behave`."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                behave(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Address(*listener.getsockname())
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def answer(reply: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(reply)

    return behave


REPLIES = {"http": b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "postgresql": b"N", "redis": b"-NOAUTH\r\n"}


def lose_the_answer(connection: socket.socket) -> None:
    """As a server whose answers are lost: its closing, which a question may ask for, comes through."""
    if b"connection: close" not in connection.recv(4096).lower():
        say_nothing(connection)


def say_nothing(connection: socket.socket) -> None:
    connection.settimeout(3)
    while connection.recv(4096):
        pass


def reset(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("protocol", sorted(QUESTIONS))
def test_a_server_that_answers_is_seen_to_answer(protocol: str) -> None:
    with server(answer(REPLIES[protocol])) as address:
        seen = look(address, protocol, Asking(patience=2))

    assert seen.outcome == "answered"
    assert 0 <= seen.seconds < 2


def test_a_closed_port_is_seen_to_refuse() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = Address(*free.getsockname())

    assert look(address, "http", Asking(patience=2)).outcome == "refused"


@pytest.mark.parametrize(
    ("behave", "outcome"), [(reset, "reset"), (say_nothing, "silent"), (close, "closed")], ids=["reset", "silent", "closed"]
)
def test_each_way_of_not_answering_is_told_apart(behave: Behaviour, outcome: str) -> None:
    with server(behave) as address:
        assert look(address, "redis", Asking(patience=0.3)).outcome in (
            {"closed", "reset"} if outcome == "closed" else {outcome}
        )


def test_of_an_unknown_protocol_only_opening_and_closing_are_seen() -> None:
    with server(say_nothing) as address:
        assert look(address, "tcp", Asking(patience=2)).outcome == "answered"
    with server(lambda connection: None) as address:
        assert look(address, "tcp", Asking(patience=2)).outcome == "closed"


def test_a_probe_comes_from_the_address_it_was_given() -> None:
    sources: list[str] = []

    def note(connection: socket.socket) -> None:
        sources.append(connection.getpeername()[0])
        connection.sendall(b"x")

    with server(note) as address:
        look(address, "tcp", Asking(patience=2), source="127.0.0.1")

    assert sources == ["127.0.0.1"]


PAGE = """\
# HELP fallback_total fallbacks
# TYPE fallback_total counter
fallback_total{dependency="shipping",name="shipping-deferred"} 12.0
fallback_total{dependency="stock",name="shipping-deferred"} 3.0
fallback_total{dependency="shipping",name="other"} 100.0
fallback_total_created{name="shipping-deferred"} 1.7e9
plain 5
escaped{name="a\\"b"} 1
"""


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ('fallback_total{name="shipping-deferred"}', 15.0),
        ('fallback_total{name="shipping-deferred",dependency="stock"}', 3.0),
        ("fallback_total", 115.0),
        ("plain", 5.0),
        ('escaped{name="a\\"b"}', 1.0),
        ('fallback_total{name="nobody"}', None),
        ("fallback", None),
        ("not a metric", None),
    ],
)
def test_a_counter_is_the_sum_of_the_series_that_carry_its_labels(metric: str, value: float | None) -> None:
    assert find_counter(PAGE, metric) == value


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n", "answered 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx\n", "has no plain"),
        (b"", "did not answer"),
    ],
)
def test_a_counter_that_cannot_be_read_says_why(reply: bytes, detail: str) -> None:
    with server(answer(reply)) as address, requests.Session() as session:
        reading = read_counter(address, "plain", session)

    assert reading.value is None
    assert detail in reading.detail


def test_a_service_leads_nobody_who_reads_its_counters_elsewhere() -> None:
    asked: list[bytes] = []

    def elsewhere(connection: socket.socket) -> None:
        asked.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nplain 1\n")

    with server(elsewhere) as other:
        away = b"HTTP/1.1 302 away\r\nLocation: http://%s/metrics\r\nContent-Length: 0\r\n\r\n" % str(other).encode()
        with server(answer(away)) as address, requests.Session() as session:
            reading = read_counter(address, "plain", session)

    assert asked == []
    assert reading.value is None
    assert reading.detail.endswith("answered 302")


def test_a_database_that_is_not_there_gives_no_answer_and_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    answered = ask(f"postgresql://nobody@127.0.0.1:{port}/none", "SELECT 1", patience=2)

    assert answered.value is None
    assert "refused" in answered.detail.lower() or "Connect" in answered.detail


@pytest.mark.parametrize("protocol", sorted(QUESTIONS))
def test_lost_answers_are_silence_whatever_is_spoken(protocol: str) -> None:
    with server(lose_the_answer) as address:
        assert look(address, protocol, Asking(patience=0.3)).outcome == "silent"


PAGE_OF_HTTP = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"


def answer_on(*replies: bytes) -> Behaviour:
    """Answers each question by the next of the replies, and after the last one until the caller has enough."""

    def behave(connection: socket.socket) -> None:
        left = list(replies)
        with suppress(OSError):
            while connection.recv(4096):
                connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return behave


def test_a_listener_without_room_is_unreachable_which_is_not_silence() -> None:
    with socket.socket() as listener, socket.socket() as filling:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filling.connect(listener.getsockname())

        seen = look(Address(*listener.getsockname()), "http", Asking(patience=0.5))

    assert seen.outcome == "unreachable"
    assert seen.seconds >= 0.5


def test_it_asks_as_often_as_it_is_told_to_on_one_connection_and_counts_what_passes() -> None:
    with server(answer_on(PAGE_OF_HTTP)) as address:
        seen = look(address, "http", Asking(patience=5, times=4))

    assert (seen.outcome, len(seen.times), seen.status) == ("answered", 4, 200)
    assert (seen.sent, seen.got) == (4 * len(QUESTIONS["http"]), 4 * len(PAGE_OF_HTTP))
    assert len(set(seen.bodies)) == 1
    assert all(seen.bodies)


def test_where_a_connection_takes_one_question_each_has_its_own() -> None:
    with server(answer(b"N")) as address:
        seen = look(address, "postgresql", Asking(patience=5, times=3))

    assert (seen.outcome, len(seen.times), seen.got) == ("answered", 3, 3)


def test_a_server_that_closes_after_each_answer_is_asked_anew() -> None:
    closing = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with server(answer(closing)) as address:
        seen = look(address, "http", Asking(patience=5, times=3))

    assert (seen.outcome, len(seen.times)) == ("answered", 3)


def test_it_asks_on_until_as_much_has_passed_as_it_is_told() -> None:
    with server(answer_on(PAGE_OF_HTTP)) as address:
        seen = look(address, "http", Asking(patience=5, volume=1000))

    assert seen.outcome == "answered"
    assert min(seen.sent, seen.got) >= 1000


@pytest.mark.parametrize("passes", [0, 20, 47, 48, 100])
def test_a_connection_that_ends_after_so_many_bytes_is_seen_to_end_there(passes: int) -> None:
    def limited(connection: socket.socket) -> None:
        left = passes
        while left > 0 and connection.recv(4096):
            connection.sendall(PAGE_OF_HTTP[:left])
            left -= len(PAGE_OF_HTTP)
        connection.recv(4096) if passes == 0 else None

    with server(limited) as address:
        seen = look(address, "http", Asking(patience=5, volume=1000))

    assert (seen.outcome, seen.got) in {("closed", passes), ("reset", passes)}


def test_an_answer_that_ends_within_its_body_is_none_and_its_status_is_known() -> None:
    with server(answer(PAGE_OF_HTTP[:-5])) as address:
        seen = look(address, "http", Asking(patience=5))

    assert (seen.outcome, seen.status, seen.got) == ("closed", 200, len(PAGE_OF_HTTP) - 5)


def test_a_page_that_never_ends_is_an_answer_all_the_same() -> None:
    def trickle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        connection.settimeout(5)
        connection.recv(4096)

    with server(trickle) as address:
        seen = look(address, "http", Asking(patience=0.5))

    assert (seen.outcome, seen.status, len(seen.times)) == ("answered", 200, 1)


def test_chunked_bodies_are_read_to_their_end_and_continuations_are_passed_over() -> None:
    chunked = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5;x=1\r\n56789\r\n0\r\n\r\n"
    with server(answer_on(chunked, PAGE_OF_HTTP)) as address:
        seen = look(address, "http", Asking(patience=5, times=2))

    assert (seen.outcome, seen.status, len(seen.times)) == ("answered", 200, 2)
    assert len(set(seen.bodies)) == 1


def test_who_made_an_answer_up_is_told_and_it_is_none_of_those_that_are_timed() -> None:
    made_up = b"HTTP/1.1 503 no\r\nContent-Length: 0\r\nX-Chaos-Fault: errors-1\r\n\r\n"
    with server(answer_on(PAGE_OF_HTTP, made_up)) as address:
        seen = look(address, "http", Asking(patience=5, times=3))

    assert (seen.status, seen.injected, len(seen.times)) == (503, "errors-1", 1)
    assert seen.got == len(PAGE_OF_HTTP)


@pytest.mark.parametrize("protocol", ["http", "redis", "tcp"])
def test_the_other_sides_end_is_timed_from_the_probes_own(protocol: str) -> None:
    def late(connection: socket.socket) -> None:
        answer_on(REPLIES.get(protocol, b""))(connection)
        time.sleep(0.3)

    with server(late) as address:
        seen = look(address, protocol, Asking(patience=5, closes=True))

    assert seen.outcome == "answered"
    assert seen.ended is not None
    assert seen.ended >= 0.3


def test_an_end_that_does_not_come_in_time_is_not_known() -> None:
    def stays(connection: socket.socket) -> None:
        answer_on(PAGE_OF_HTTP)(connection)
        time.sleep(1)

    with server(stays) as address:
        seen = look(address, "http", Asking(patience=0.4, closes=True))

    assert (seen.outcome, seen.ended) == ("answered", None)


def test_on_an_unknown_protocol_it_looks_as_long_as_it_is_told_whether_a_connection_stays_open() -> None:
    def ends_soon(connection: socket.socket) -> None:
        time.sleep(0.4)

    with server(ends_soon) as address:
        assert look(address, "tcp", Asking(patience=3, stays=0.1)).outcome == "answered"
    with server(ends_soon) as address:
        assert look(address, "tcp", Asking(patience=3, stays=2.0)).outcome == "closed"


@given(st.binary(max_size=400))
@settings(max_examples=60)
def test_whatever_a_server_says_a_look_ends_in_time_and_says_one_word(said: bytes) -> None:
    for protocol in sorted(QUESTIONS):
        with server(answer(said)) as address:
            began = time.monotonic()
            seen = look(address, protocol, Asking(patience=1, times=2))

        assert seen.outcome in {"answered", "closed", "reset"}
        assert time.monotonic() - began < 5


LINES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 204 no", b"HTTP/1.1 100 Continue", b"Transfer-Encoding: chunked", b""]),
        st.sampled_from(["²", "٣", "-1", "+1", "1_0", "0x5", "9" * 5000, "5", " 5", ""]).map(
            lambda length: b"Content-Length: " + length.encode("utf-8")
        ),
        st.sampled_from(
            [b"\xb2", b"-5", b"+5", b"1_0", b"0x5", b"f" * 5000, b"5;x", b"0", b"HTTP/1.1 " + b"9" * 5000 + b" OK"]
        ),
        st.just(b"Content-Length: \xb2"),
    ),
    max_size=8,
)


@given(LINES, st.sampled_from(sorted(QUESTIONS)))
@settings(max_examples=300)
def test_nothing_that_is_answered_raises_anything_but_what_a_look_can_tell(lines: list[bytes], protocol: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\r\n".join(lines))
        theirs.shutdown(socket.SHUT_WR)
        with suppress(Ended, Late, OSError):
            assert read_answer(Incoming(ours, time.monotonic() + 5), protocol).status >= 0


@pytest.mark.parametrize("length", ["²".encode("latin-1"), b"9" * 5000, b"-3", b"many"], ids=["²", "5000 digits", "-3", "many"])
def test_a_length_that_is_none_leaves_a_body_that_goes_on_to_the_end(length: bytes) -> None:
    with server(answer(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nbody")) as address:
        seen = look(address, "http", Asking(patience=2))

    assert (seen.outcome, seen.status, len(seen.bodies)) == ("answered", 200, 1)
    assert seen.bodies[0]


@pytest.mark.parametrize("flood", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X: y\r\n"], ids=["continuations", "headers"])
def test_who_answers_without_end_is_not_listened_to_without_end(flood: bytes) -> None:
    def pour(connection: socket.socket) -> None:
        connection.recv(4096)
        with suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n" if flood[:1] == b"X" else b"")
            for _ in range(2000):
                connection.sendall(flood * 1000)

    with server(pour) as address:
        began = time.monotonic()
        seen = look(address, "http", Asking(patience=0.3))

    assert seen.outcome == "silent"
    assert time.monotonic() - began < 5
