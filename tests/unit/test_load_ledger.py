"""The book of the load process: one line for each request that was begun, whatever becomes of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.history.requests import Request
from harness.history.store import read_lines, read_requests
from harness.runtime.load.ledger import Exchange, Ledger, appending_to, now
from harness.runtime.load.marks import Marks

MARKS = Marks(
    {
        "cached": {"header": "X-Fallback", "equals": "cached"},
        "deferred": {"json": "$.shipping.status", "equals": "DEFERRED"},
        "degraded": {"json": "$.degraded", "equals": "true"},
    }
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(appending_to(tmp_path / "requests.jsonl"), MARKS, lambda _reason: None)


def written(tmp_path: Path) -> tuple[Request, ...]:
    return tuple(read_requests(tmp_path)[0])


def entered(ledger: Ledger, journey: str = "GET /x") -> Exchange:
    exchange = Exchange(lambda: journey, due=1.0, start=2.0, trace="abc")
    ledger.enter(exchange)
    return exchange


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> SimpleNamespace:
    return SimpleNamespace(status_code=status, content=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_reported_request_is_written_once(ledger: Ledger, tmp_path: Path) -> None:
    exchange = entered(ledger)
    exchange.end = 3.0

    ledger.reported(exchange, "GET /renamed", answer(), 2, None)
    ledger.settle(exchange, None)
    ledger.given_up(exchange, "unfinished")

    assert written(tmp_path) == (Request("GET /renamed", 1.0, 2.0, 3.0, "ok", 200, 2, (), "abc"),)
    assert ledger.open == set()


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [(200, None, "ok"), (503, None, "http_5xx"), (200, KeyError("id"), "check_failed"), (404, KeyError("id"), "http_4xx")],
)
def test_an_answer_that_nobody_judged_is_settled_by_what_is_known(
    ledger: Ledger, tmp_path: Path, status: int, error: BaseException | None, outcome: str
) -> None:
    exchange = entered(ledger)
    exchange.end, exchange.answer = 3.0, answer(status)

    ledger.settle(exchange, error)

    assert [request.outcome for request in written(tmp_path)] == [outcome]


class HTTPError(Exception):
    """As the clients call it."""


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (HTTPError("409 Client Error"), "ok"),
        (ValueError("no JSON"), "http_4xx"),
        (AssertionError("no id"), "http_4xx"),
        (ConnectionResetError(), "reset"),
    ],
)
def test_an_accepted_status_forgives_itself_and_nothing_else(
    ledger: Ledger, tmp_path: Path, error: BaseException | None, outcome: str
) -> None:
    ledger.accepted = {"GET /x": (409,)}
    settled, reported = entered(ledger), entered(ledger)
    settled.end, settled.answer = 3.0, answer(409)

    ledger.settle(settled, error)
    ledger.reported(reported, "GET /x", answer(409), 2, error)

    assert [(request.outcome, bool(request.error)) for request in written(tmp_path)] == [(outcome, outcome != "ok")] * 2


def test_a_request_without_an_answer_is_not_settled(ledger: Ledger, tmp_path: Path) -> None:
    exchange = entered(ledger)

    ledger.settle(exchange, None)

    assert written(tmp_path) == ()
    assert ledger.open == {exchange}


def test_at_the_end_what_is_open_is_written_as_unfinished_up_to_now(ledger: Ledger, tmp_path: Path) -> None:
    entered(ledger)

    ledger.finish_open()

    (request,) = written(tmp_path)
    assert (request.outcome, request.journey) == ("unfinished", "GET /x")
    assert abs(request.end - now()) < 1
    assert ledger.counts == {"unfinished": 1, "dropped": 0, "requests": 1}


def test_a_dropped_arrival_belongs_to_no_journey(ledger: Ledger, tmp_path: Path) -> None:
    ledger.drop(5.0)

    (request,) = written(tmp_path)
    assert (request.journey, request.due, request.start, request.outcome) == ("", 5.0, 5.0, "dropped")


def test_marks_are_found_in_headers_and_bodies() -> None:
    def found(made: SimpleNamespace) -> tuple[str, ...]:
        return MARKS.found(made.headers.get, lambda: made.content)

    assert found(answer()) == ()
    assert found(answer(**{"X_Fallback": "cached"})) == ("cached",)
    assert found(answer(**{"X_Fallback": "other"})) == ()
    assert found(answer(body=b'{"shipping":{"status":"DEFERRED"}}')) == ("deferred",)
    assert found(answer(body=b'{"status":"DEFERRED"}')) == ()
    assert found(answer(body=b'{"shipping":[{"status":"DEFERRED"}]}')) == ()
    assert found(answer(body=b'{"degraded":true}')) == ("degraded",)
    assert found(answer(body=b'{"degraded"')) == ()


def test_a_marker_that_could_never_be_found_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a header or a json path"):
        Marks({"cached": {"json_": "$.a", "equals": "b"}})


def test_a_body_is_not_asked_for_where_no_marker_lies_in_it() -> None:
    def body() -> bytes:
        raise AssertionError

    assert Marks({"cached": {"header": "X-Fallback", "equals": "cached"}}).found({"X-Fallback": "cached"}.get, body) == (
        "cached",
    )


def test_notes_stand_among_the_requests_and_are_told_apart(ledger: Ledger, tmp_path: Path) -> None:
    ledger.note("began", users=3)
    ledger.drop(5.0)

    assert [set(line) >= {"load", "at"} for line in read_lines(tmp_path / "requests.jsonl")] == [True, False]
    assert read_requests(tmp_path)[1][0]["users"] == 3


def test_a_request_with_letters_that_are_none_is_written_all_the_same(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reported(entered(ledger), "GET /\udcff", answer(), 0, None)

    assert len(written(tmp_path)) == 1
