"""One record for each request, written by the load process as it happens, one JSON object a line.

`due` is the moment the request was meant to start, `start` when it did, `end` when its answer was complete
or it was given up; all in seconds since the epoch, on the clock of this machine. `journey` is Locust's
request method, a space, and its name. `marks` are the names of the fallbacks whose marker the answer bore.
"""

from __future__ import annotations

from json.encoder import encode_basestring as _quoted
from typing import Any, NamedTuple

OUTCOMES = (
    "ok",
    "refused",
    "reset",
    "timeout_connect",
    "timeout_read",
    "dns",
    "tls",
    "http_4xx",
    "http_5xx",
    "check_failed",
    "unfinished",
    "dropped",
    "other",
)
"""`unfinished`: still open when the load ended. `dropped`: was due, and no user was free to send it; `start` is `due`."""


class Request(NamedTuple):
    """What became of one request; a tuple, since one is made for every request while it is being measured."""

    journey: str
    due: float
    start: float
    end: float
    outcome: str
    status: int = 0
    bytes: int = 0
    marks: tuple[str, ...] = ()
    trace: str = ""
    error: str = ""

    @property
    def latency(self) -> float:
        """Seconds from the intended start: what a person who wanted it then has waited."""
        return self.end - self.due

    @property
    def ok(self) -> bool:
        """Whether it was answered as its user wanted."""
        return self.outcome == "ok"


def request_line(request: Request) -> bytes:
    """The record as a line of JSON; written out, since it is done for every request while it is being measured."""
    marks = ",".join(map(_quoted, request.marks))
    text = (
        f'{{"journey":{_quoted(request.journey)},"due":{request.due!r},"start":{request.start!r},"end":{request.end!r},'
        f'"outcome":{_quoted(request.outcome)},"status":{request.status},"bytes":{request.bytes},'
        f'"marks":[{marks}],"trace":{_quoted(request.trace)},"error":{_quoted(request.error)}}}\n'
    )
    return text.encode("utf-8", "backslashreplace")


def request_from_data(data: dict[str, Any]) -> Request:
    """The record from plain data; unknown keys are ignored, so that later versions can be read."""
    return Request(
        journey=str(data["journey"]),
        due=float(data["due"]),
        start=float(data["start"]),
        end=float(data["end"]),
        outcome=str(data["outcome"]),
        status=int(data.get("status", 0)),
        bytes=int(data.get("bytes", 0)),
        marks=tuple(data.get("marks", ())),
        trace=str(data.get("trace", "")),
        error=str(data.get("error", "")),
    )
