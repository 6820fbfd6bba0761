"""What the clients' exceptions are called here."""

from __future__ import annotations

import socket
import ssl

import pytest
import requests
import urllib3.exceptions as urllib3

from harness.history.requests import OUTCOMES
from harness.runtime.load.outcomes import error_text, outcome_of


class CatchResponseError(Exception):
    """As Locust's: a check of the user's own."""


class RetriesExceeded(Exception):
    """As geventhttpclient's: the reason is in an attribute."""

    def __init__(self, original: BaseException) -> None:
        super().__init__("0")
        self.original = original


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def raised_in(function_name: str) -> BaseException:
    """A TimeoutError that came out of a function of this name."""
    scope: dict[str, object] = {}
    exec(f"def {function_name}():\n    raise TimeoutError('timed out')\n", scope)
    try:
        scope[function_name]()  # type: ignore[operator]
    except TimeoutError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionRefusedError(), "refused"),
        (ConnectionResetError(), "reset"),
        (BrokenPipeError(), "reset"),
        (requests.ConnectTimeout(), "timeout_connect"),
        (requests.ReadTimeout(), "timeout_read"),
        (socket.gaierror(-2, "unknown"), "dns"),
        (ssl.SSLError("bad"), "tls"),
        (requests.exceptions.SSLError(), "other"),
        (requests.exceptions.SSLError(ssl.SSLError("bad")), "tls"),
        (requests.ConnectionError(urllib3.ProtocolError("aborted", ConnectionResetError())), "reset"),
        (caused(requests.ConnectionError(), ConnectionRefusedError()), "refused"),
        (RetriesExceeded(ConnectionRefusedError()), "refused"),
        (RetriesExceeded(raised_in("_create_socket")), "timeout_connect"),
        (RetriesExceeded(raised_in("recv")), "timeout_read"),
        (requests.TooManyRedirects(), "other"),
        (ValueError("something else"), "other"),
    ],
)
def test_a_failure_of_the_transport_is_told_by_its_cause(error: BaseException, outcome: str) -> None:
    assert outcome_of(error, None, 0) == outcome
    assert outcome in OUTCOMES


def test_no_error_is_ok_whatever_the_status_since_the_user_said_so() -> None:
    assert outcome_of(None, None, 404) == "ok"


@pytest.mark.parametrize(("status", "outcome"), [(503, "http_5xx"), (409, "http_4xx"), (200, "check_failed")])
def test_a_failed_check_of_an_answer_is_told_by_its_status_first(status: int, outcome: str) -> None:
    assert outcome_of(CatchResponseError("no"), None, status) == outcome


def test_a_check_that_covered_up_a_failure_of_the_transport_does_not_hide_it() -> None:
    covered = CatchResponseError("None")

    assert outcome_of(covered, ConnectionRefusedError(), 0) == "refused"


def test_the_cause_of_a_check_is_no_evidence_of_the_transport() -> None:
    check = caused(CatchResponseError("no"), ConnectionRefusedError())

    assert outcome_of(check, None, 0) == "check_failed"


def test_causes_that_run_in_a_circle_come_to_an_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first

    assert outcome_of(first, None, 0) == "other"


def test_the_text_of_an_error_is_short() -> None:
    assert error_text(None) == ""
    assert len(error_text(ValueError("x" * 5000))) == 200
