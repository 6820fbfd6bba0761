"""What toxiproxy-python stands on, made safe: requests to one server alone, bounded in time, every refusal raised.

The library keeps its server's address in a class, waits for ever, takes a server's failure for success and obeys
proxy variables of the environment. Here every request of its classes goes through the session of the engine that
is being called, if one is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote

import requests
import toxiproxy
import toxiproxy.api
import toxiproxy.exceptions
import toxiproxy.proxy
import toxiproxy.server
import urllib3.exceptions

from harness.errors import ProxyError
from harness.runtime.bounded_session import bounded_session
from harness.runtime.ports import Address

CALL_WITHIN = 3.0
"""Seconds for one request to the engine."""

MOST_BODY = 8 * 1024 * 1024

FOREIGN = (
    toxiproxy.exceptions.ProxyExists,
    toxiproxy.exceptions.NotFound,
    toxiproxy.exceptions.InvalidToxic,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    OSError,
)
"""All that the library, and what it stands on, may raise; `explained` has words for each."""

_GONE = (
    requests.Timeout,
    requests.ConnectionError,
    urllib3.exceptions.TimeoutError,
    urllib3.exceptions.ProtocolError,
    ConnectionError,
    TimeoutError,
)


class EngineGone(ProxyError):
    """The engine did not answer in time, or is not there: what it was asked to do may or may not have happened."""


def proxy_error(where: str, error: BaseException) -> ProxyError:
    """A foreign exception as one of ours."""
    kind = EngineGone if isinstance(error, _GONE) else ProxyError
    return kind(f"{where}: {explained(error)}")


def explained(error: BaseException) -> str:
    """What a foreign exception means, for a person."""
    match error:
        case toxiproxy.exceptions.ProxyExists() | toxiproxy.exceptions.NotFound() | toxiproxy.exceptions.InvalidToxic():
            return _said(error.args[0] if error.args else "")
        case requests.Timeout() | urllib3.exceptions.TimeoutError():
            return f"expected an answer within {CALL_WITHIN:g} s, found none: it hangs"
        case requests.JSONDecodeError() | requests.exceptions.InvalidJSONError() | json.JSONDecodeError():
            return "expected JSON, found something else: is this a proxy engine?"
        case requests.ConnectionError() | ConnectionError():
            return f"it cannot be reached, or broke off: did it end? ({error})"
        case requests.RequestException() | urllib3.exceptions.HTTPError() | OSError():
            return f"expected an answer in HTTP, found none ({error})"
        case _:
            return f"it answered with something that cannot be used ({type(error).__name__}: {error})"


def _said(content: object) -> str:
    """The engine's own words, out of the body that the library hands over raw."""
    raw = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    try:
        return str(json.loads(raw)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return raw.strip()[:300] or "refused without a reason"


class Session:
    """Requests to one server: to this address alone, in time, and with the server's refusals raised."""

    def __init__(self, control: Address, token: str = "") -> None:
        self._base = f"http://{control}"
        self._http = bounded_session()
        self._http.headers["User-Agent"] = "chaos-harness"
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"
        self._end = 0.0

    @contextmanager
    def current(self, until: float) -> Iterator[None]:
        """The library's requests in this thread are this session's; all must be done by `until`, on the monotonic clock."""
        token = _CURRENT.set(self)
        self._end = until
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def send(self, method: str, path: str, **given: Any) -> requests.Response:
        """One request; a status of 400 or more is raised."""
        end = min(self._end, time.monotonic() + CALL_WITHIN)
        left = end - time.monotonic()
        if left <= 0:
            raise requests.Timeout("no time is left")
        response = self._sent(method, self._base + quote(path, safe="/"), timeout=left, **given)
        response._content = _body(response, end)
        if response.status_code == requests.codes.service_unavailable:  # what a Toxiproxy says that gave itself up
            raise requests.Timeout("status 503")
        if response.status_code >= 500:
            raise requests.HTTPError(f"status {response.status_code}: {_said(response.content)}")
        checked: requests.Response = toxiproxy.api.validate_response(response)
        if checked.status_code >= 300:
            raise requests.HTTPError(f"status {response.status_code}: {_said(response.content)}")
        return checked

    def _sent(self, method: str, address: str, **given: Any) -> requests.Response:
        """Once more where a question found the connection dropped: a server closes those that were idle for long."""
        try:
            return self._http.request(method, address, stream=True, allow_redirects=False, **given)
        except requests.ConnectionError as dropped:
            if method != "GET" or isinstance(dropped, requests.Timeout):
                raise
            return self._http.request(method, address, stream=True, allow_redirects=False, **given)


def _body(response: requests.Response, end: float) -> bytes:
    """The whole body, unless it takes too long or does not end."""
    body = b""
    while piece := response.raw.read1(65536):
        body += piece
        if time.monotonic() > end or len(body) > MOST_BODY:
            response.close()
            raise requests.Timeout("the answer does not end")
    return body


_CURRENT: ContextVar[Session | None] = ContextVar("_CURRENT", default=None)


class _Consumer(toxiproxy.api.APIConsumer):  # type: ignore[misc]  # it tells no types
    """Stands where the library's classes look for their server; outside of an engine's call they find what they always did."""

    @classmethod
    def get(cls, url: str, params: Any = None, **given: Any) -> Any:
        session = _CURRENT.get()
        return super().get(url, params, **given) if session is None else session.send("GET", url, params=params, **given)

    @classmethod
    def post(cls, url: str, data: Any = None, json: Any = None, **given: Any) -> Any:
        session = _CURRENT.get()
        if session is None:
            return super().post(url, data, json, **given)
        return session.send("POST", url, data=data, json=json, **given)

    @classmethod
    def delete(cls, url: str, **given: Any) -> Any:
        session = _CURRENT.get()
        return super().delete(url, **given) if session is None else session.send("DELETE", url, **given)


toxiproxy.proxy.APIConsumer = toxiproxy.server.APIConsumer = _Consumer
