"""Faults on single requests of HTTP/1.1, and on their answers: the embedded engine alone sees requests."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from harness.model.kinds.edge import Aim, Delay, NoDelay, Portion, never_earlier
from harness.model.kinds.page import Page

METHODS = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"),
    *("ACL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "LABEL", "LINK", "LOCK", "MERGE", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH"),
    *("PURGE", "REBIND", "REPORT", "SEARCH", "UNBIND", "UNLINK", "UNLOCK", "UPDATE", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE"),
)
"""Methods in use: HTTP's own, WebDAV's, those of caches and of UPnP."""

ALIKE = 0.65
"""From here on a method is taken for a misspelt one."""


def _method(method: str) -> str:
    if not re.fullmatch("[A-Z]{3,20}", method):
        hint = f"; did you mean {method.upper()!r}?" if method.upper() in METHODS else ""
        message = "expected a method in capitals, as POST, found {found}{hint}"
        raise PydanticCustomError("method", message, {"found": repr(method), "hint": hint})
    near = difflib.get_close_matches(method, METHODS, 1, ALIKE)
    if near and method not in METHODS:
        message = "expected a method of HTTP, found {found}; did you mean {near}?"
        raise PydanticCustomError("method", message, {"found": repr(method), "near": repr(near[0])})
    return method


Method = Annotated[str, AfterValidator(_method)]
LEAST_STATUS, MOST_STATUS = 400, 599
LONGEST_BODY = 65_536


def _path_alone(path: str) -> str:
    if not path.startswith(("/", "*")) or "?" in path:
        raise PydanticCustomError(
            "path", "expected a path that begins with / or *, without a query, found {found}", {"found": repr(path)}
        )
    return path


def _name_and_value(header: str) -> str:
    name, colon, value = header.partition(": ")
    if not (colon and value and name.replace("-", "").isalnum() and name.isascii()):
        raise PydanticCustomError(
            "header",
            "expected a header with a pattern, as 'X-Tenant: acme*', found {found}",
            {"found": repr(header)},
        )
    return header


class Chosen(Aim):
    """Which requests on the edge are struck: those that meet all that is said, and of these every n-th, or a share.

    `path` is matched without its query, `*` for any characters; `header` is a name and a pattern, as `X-Tenant: acme*`;
    `journey` takes requests that belong to a journey of the load, by their trace; `first_attempt` the first of each trace.
    """

    method: Method | None = None
    path: Annotated[str, Field(max_length=1000), AfterValidator(_path_alone)] | None = None
    header: Annotated[str, Field(max_length=1000), AfterValidator(_name_and_value)] | None = None
    journey: str | None = None
    first_attempt: Literal[True] | None = None
    every: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    share: Portion | None = None

    @property
    def chooses(self) -> bool:
        """Whether anything but all requests is asked for."""
        return any(getattr(self, name) is not None for name in CHOOSING)

    @model_validator(mode="after")
    def _one_draw(self) -> Chosen:
        if self.every is not None and self.share is not None:
            raise PydanticCustomError("share", "expected either every or share, found both")
        return self


def _short_enough(body: str) -> str:
    size = len(body.encode())
    if size > LONGEST_BODY:
        raise PydanticCustomError("body", "expected at most {most} bytes, found {size}", {"most": LONGEST_BODY, "size": size})
    return body


CHOOSING = ("method", "path", "header", "journey", "first_attempt", "every", "share")


class HttpError(Chosen):
    """Requests are answered with an error by the proxy, and never reach the callee."""

    status: Annotated[int, Field(ge=LEAST_STATUS, le=MOST_STATUS)] = 503
    body: Annotated[str, AfterValidator(_short_enough)] = ""

    page: ClassVar[Page] = Page(
        begin="they feel it from their next request on",
        heal="they live on",
        sees="the status, with X-Chaos-Fault: the fault's name among the headers",
        misses="nothing of the callee's is done: for one that works and then says no, use lost_reply",
        example="http_error: {edge: order -> payment, status: 503, share: 30%, method: POST}",
    )


class HttpDelay(Chosen):
    """Requests reach the callee later by `delay`, give or take `jitter`."""

    delay: Delay
    jitter: NoDelay = 0.0

    _earlier = model_validator(mode="after")(never_earlier("delay"))

    page: ClassVar[Page] = Page(
        begin="they feel it from their next request on",
        heal="what is held is passed on at once",
        sees="answers that come later, to the requests that were chosen and those behind them on the same connection",
        misses="the callee is not busy meanwhile, as a slow one would be",
        example="http_delay: {edge: order -> payment, delay: 800ms, path: /payments*}",
    )


class HttpCorrupt(Chosen):
    """Answers come damaged: `bytes` changes one in every 64 of the body, `truncate` ends it in the middle."""

    how: Literal["bytes", "truncate"] = "bytes"

    page: ClassVar[Page] = Page(
        begin="they feel it from their next request on",
        heal="they live on; those that were truncated are closed already",
        sees="a body that cannot be read, or ends too early; status and headers are as they were",
        misses="nothing of the request is changed; TCP's checksums would have caught real damage of the wire",
        example="http_corrupt: {edge: gateway -> catalog, how: bytes, every: 3}",
    )


class LostReply(Chosen):
    """The request reaches the callee and is carried out; its answer never comes back.

    `hang`: the caller waits until its own timeout. `reset`: the connection is reset when the answer would have come.
    """

    mode: Literal["hang", "reset"] = "hang"

    page: ClassVar[Page] = Page(
        begin="they feel it at their next answer",
        heal="those with a lost answer are closed; without a choice of requests, Toxiproxy closes all of them",
        sees="a timeout or a reset for something that was done: who retries does it twice",
        misses="without a choice of requests whole connections are struck, on either engine",
        example="lost_reply: {edge: order -> payment, mode: hang, first_attempt: true}",
    )


RequestFault: TypeAlias = HttpError | HttpDelay | HttpCorrupt | LostReply
