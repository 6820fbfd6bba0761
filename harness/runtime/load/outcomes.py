"""What became of a request, in our words, whichever of Locust's clients told it in its own.

One and the same fault arrives as ConnectionRefusedError, NewConnectionError, RetriesExceeded or LocustBadStatusCode.
Foreign classes are known by their names, so that nothing of Locust is imported here.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator

from harness.runtime.load.targets import KeptBack

CHECKS = frozenset({"CatchResponseError", "ResponseError", "AssertionError"})
"""How Locust says that a person's own check failed; their causes are no evidence of the transport."""

ONLY_STATUS = frozenset({"HTTPError", "HTTPStatusError", "LocustBadStatusCode", "BadStatus"})
"""How clients say that they dislike a status, and nothing else."""

_NAMED = {
    "NameResolutionError": "dns",
    "CertificateError": "tls",
    "ConnectTimeout": "timeout_connect",
    "ConnectTimeoutError": "timeout_connect",
    "ReadTimeout": "timeout_read",
    "ReadTimeoutError": "timeout_read",
    "Timeout": "timeout_read",
    "RemoteDisconnected": "reset",
    "HTTPConnectionClosed": "reset",
    "IncompleteRead": "reset",
}

_BUILT_IN: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (ConnectionRefusedError, "refused"),
    (ConnectionResetError, "reset"),
    (ConnectionAbortedError, "reset"),
    (BrokenPipeError, "reset"),
    (TimeoutError, "timeout_read"),
)

_ORDER = ("dns", "tls", "refused", "timeout_connect", "timeout_read", "reset")
"""Where several are found in one chain of causes, the first tells most."""

_CUT_OFF = re.compile("closed|Incomplete")
"""How geventhttpclient's parser says that an answer ended too early; what else it says is that it was no HTTP."""

_CONNECTING = frozenset({"_create_socket", "_connect_socket", "_new_conn", "create_connection", "connect"})
"""Functions of the clients that run while there is no connection yet; both phases end in the same TimeoutError."""


def outcome_of(error: BaseException | None, answer_error: BaseException | None, status: int) -> str:
    """The outcome of a request that ended. `answer_error` is what the client found wrong, which a check may have covered up."""
    if error is None:
        return "ok"
    if _kept_back(error) is not None:  # clients take it for a connection that could not be made
        return "other"
    for candidate in (answer_error, error):
        kind = _transport(candidate)
        if kind is not None:
            return kind
    if status >= 500:
        return "http_5xx"
    if status >= 400:
        return "http_4xx"
    return "check_failed" if status or is_check(error) else "other"


def is_check(error: BaseException | None) -> bool:
    """Whether a person's own check said so."""
    return type(error).__name__ in CHECKS


def says_only_status(error: BaseException | None) -> bool:
    """Whether nothing is wrong beside the status, if that is wrong."""
    return error is None or (type(error).__name__ in ONLY_STATUS and _transport(error) is None)


LONGEST_HIDDEN = 20_000
"""Characters of an error that are looked through for secrets."""


class BadStatus(Exception):
    """An answer that nobody judged has a status that is an error."""


def error_text(error: BaseException | None, hide: Callable[[str], str] = str) -> str:
    """A short text of an error, for the record; where the request was kept back, of what kept it.

    `hide` takes secrets out of it, before it is cut short: half of one would not be known any more.
    """
    if error is None:
        return ""
    told = _kept_back(error) or error
    return hide(f"{type(told).__name__}: {told}"[:LONGEST_HIDDEN])[:200]


def _kept_back(error: BaseException) -> KeptBack | None:
    return next((cause for cause in _causes(error) if isinstance(cause, KeptBack)), None)


def _transport(error: BaseException | None) -> str | None:
    if error is None or is_check(error):
        return None
    kinds = {kind for cause in _causes(error) if (kind := _kind(cause)) is not None}
    return next((kind for kind in _ORDER if kind in kinds), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made from, by every road the clients take."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < 20:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        links = (
            getattr(cause, "original", None),
            getattr(cause, "reason", None),
            cause.__cause__,
            cause.__context__,
            *cause.args,
        )
        waiting += [link for link in links if isinstance(link, BaseException)]


def _kind(error: BaseException) -> str | None:
    kind = next((_NAMED[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in _NAMED), None)
    if kind is None:
        kind = next((kind for cls, kind in _BUILT_IN if isinstance(error, cls)), None)
    if kind is None and type(error).__name__ == "HTTPParseError" and _CUT_OFF.search(str(error)):
        return "reset"
    if kind == "timeout_read" and _was_connecting(error):
        return "timeout_connect"
    return kind


def _was_connecting(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name in _CONNECTING:
            return True
        trace = trace.tb_next
    return False
