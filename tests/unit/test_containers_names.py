"""Answers for names that nobody has: real questions over UDP, and bytes that are none."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.runtime.containers import names
from harness.runtime.containers.names import NO_SUCH_NAME, NameResponder, name_in, refusal_of


def question(name: str, kind: int = 1) -> bytes:
    """A DNS question as a resolver asks it (RFC 1035, 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + b"\x00" + kind.to_bytes(2, "big") + b"\x00\x01"


def test_the_name_of_a_question_is_read() -> None:
    assert name_in(question("Notification.example.com")) == "notification.example.com"


def test_the_answer_is_that_there_is_no_such_name() -> None:
    answer = refusal_of(question("nobody"))

    assert answer[:2] == b"\x12\x34"
    assert answer[2] & 0x80
    assert answer[3] & 0x0F == NO_SUCH_NAME
    assert answer[12:] == question("nobody")[12:]


@given(st.binary(max_size=80))
def test_what_is_no_question_is_passed_over(data: bytes) -> None:
    if name_in(data) is not None:
        assert len(refusal_of(data)) >= 12


def test_an_answer_is_no_question() -> None:
    assert name_in(refusal_of(question("nobody"))) is None


def test_each_name_that_a_service_asks_for_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.8.8.8", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(names, "DNS_PORT", port)
    told: list[tuple[str, str]] = []
    responder = NameResponder({"front": "127.8.8.8"}, lambda service, name: told.append((service, name)))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            for asked in (
                question("nobody"),
                question("nobody", kind=28),
                b"?",
                question("4.3.2.1.in-addr.arpa"),
                question("other"),
            ):
                asking.sendto(asked, ("127.8.8.8", port))
            answers = [asking.recv(512) for _ in range(4)]
    finally:
        responder.close()

    assert all(answer[3] & 0x0F == NO_SUCH_NAME for answer in answers)
    assert told == [("front", "nobody"), ("front", "other")]


def test_where_it_may_not_listen_that_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        with suppress(PermissionError):  # then the responder may not either
            taken.bind(("127.8.8.9", names.DNS_PORT))
        with pytest.raises(OSError, match=r"in use|denied"):
            NameResponder({"front": "127.8.8.9"}, lambda _service, _name: None)
