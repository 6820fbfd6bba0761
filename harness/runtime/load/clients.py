"""What is laid around Locust's two HTTP clients: a time limit that holds, a trace id, and an entry in the ledger.

Left alone, a server that accepts and never answers yields no failure at all: one client waits for ever, the other for
60 s, and a user that is ended at its request reports none. Socket timeouts say whether connecting or reading took too
long; the deadline above them bounds the whole, for an answer that trickles resets a socket's timeout with each byte.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
import requests
from gevent.lock import Semaphore

from harness.plan.draws import journey_prefix
from harness.runtime.load.groups import Groups
from harness.runtime.load.ledger import Exchange, Ledger, now
from harness.runtime.load.outcomes import outcome_of
from harness.runtime.load.pace import Pace, Turn

DEADLINE_GRACE = 0.05
"""The deadline lies this much above the sockets' timeouts, so that where both apply the one that knows more is first."""

READY_AT_ONCE = 16
"""How many requests of users getting ready may be open together: hundreds log in before the load, but not at once."""

CONTEXT_KEY = "chaos_harness_exchange"
TURN = "_chaos_harness_turn"


class Deadline(gevent.Timeout):  # type: ignore[misc]
    """A request as a whole took longer than the client's timeout."""


@dataclass(frozen=True, slots=True)
class Client:
    """In what the two clients differ: the name Locust gives a request without one, and the headers a client adds by itself."""

    name_of: Callable[[Any, str, Mapping[str, Any]], str]
    own_headers: Callable[[Any], Mapping[Any, Any]]


class Watch:
    """Begins and ends the ledger's entries of both clients."""

    def __init__(self, ledger: Ledger, pace: Pace, seed: int, limit: float, end_user: Callable[[], BaseException]) -> None:
        self.ledger, self.pace, self.limit = ledger, pace, limit
        self.groups = Groups(())
        self._ids = random.Random(seed)  # noqa: S311 - trace ids that are the same in each run with the same seed
        self._end_user = end_user
        self._getting_ready = Semaphore(READY_AT_ONCE)

    def admission(self) -> AbstractContextManager[Any]:
        """Holds back users getting ready where many do so at once."""
        return nullcontext() if self.pace.has_begun else self._getting_ready

    def begin(self, client: Client, session: Any, method: str, url: str, given: dict[str, Any]) -> Exchange:
        """Enter a request that is about to be sent; adds its trace to what is `given`."""
        turn: Turn | None = getattr(session.user, TURN, None)
        if turn is not None and turn.running and turn.requested and self.pace.ending:
            raise self._end_user()  # what is chained to an arrival ends with the load; the arrival itself is still sent
        self._group(session, method, url, given)
        journey = partial(_journey, client, session, method, url, given)
        trace = self._trace(client, session, given, journey)
        start = now()
        due = turn.take_due(start) if turn is not None else start
        exchange = Exchange(journey, due, start, trace, bool(given.get("stream")))
        given["context"] = {**(given.get("context") or {}), CONTEXT_KEY: exchange}
        if turn is not None and turn.running:
            turn.exchanges.append(exchange)
        self.ledger.enter(exchange)
        return exchange

    def _group(self, session: Any, method: str, url: str, given: dict[str, Any]) -> None:
        """Give a request without a name that of its group, before anybody else looks for one."""
        if self.groups and not (given.get("name") or session.request_name):
            name = self.groups.name_for(method, url)
            if name is not None:
                given["name"] = name

    def broke_off(self, exchange: Exchange, error: BaseException) -> None:
        """Something other than an answer ended a request: its user was ended, or gave it an address that is none."""
        ended = isinstance(error, gevent.GreenletExit)
        self.ledger.given_up(exchange, "unfinished" if ended else outcome_of(error, None, 0), None if ended else error)

    def _trace(self, client: Client, session: Any, given: dict[str, Any], journey: Callable[[], str]) -> str:
        headers = given.get("headers") or {}
        own = _traceparent(headers) or _traceparent(client.own_headers(session))
        if own:
            return own.split("-")[1] if own.count("-") == 3 else ""
        rest, span = self._ids.getrandbits(96) or 1, self._ids.getrandbits(64) or 1
        trace = f"{_prefix(journey)}{rest:024x}"
        given["headers"] = {**headers, "traceparent": f"00-{trace}-{span:016x}-01"}
        return trace


def watch_client(session_class: Any, client: Client, watch: Watch) -> None:
    """Lay the watch around every request of a client."""
    original = session_class.request
    positional = list(inspect.signature(original).parameters)[3:]

    def request(session: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(positional, args, strict=False)), **kwargs}
        with watch.admission():
            exchange = watch.begin(client, session, method, url, given)
            try:
                with Deadline(watch.limit + DEADLINE_GRACE):
                    answer = original(session, method, url, **given)
            except BaseException as error:
                watch.broke_off(exchange, error)
                raise
        exchange.end, exchange.answer = now(), answer
        return answer

    session_class.request = request


def limit_plain_client(session_class: Any, error_answer: Callable[[Any], Any], limit: float) -> None:
    """Give every request of HttpUser's client a timeout, and turn the deadline into the failure it means."""
    original = session_class._send_request_safe_mode

    def send(session: Any, method: str, url: str, **kwargs: Any) -> Any:
        kwargs["timeout"] = _capped(kwargs.get("timeout"), limit)
        try:
            return original(session, method, url, **kwargs)
        except Deadline:
            asked = requests.Request(method.upper(), url, params=kwargs.get("params")).prepare()
            return error_answer(requests.ReadTimeout(f"no complete answer within {limit:g} s", request=asked))

    session_class._send_request_safe_mode = send


def limit_fast_client(session_class: Any, agent_class: Any, limit: float) -> None:
    """Give FastHttpUser's client its timeouts; once the deadline is over it does not try again."""
    construct, handle = session_class.__init__, agent_class._handle_error

    def limited(session: Any, *args: Any, **kwargs: Any) -> None:
        for name in ("network_timeout", "connection_timeout"):
            kwargs[name] = _capped(kwargs.get(name), limit)
        construct(session, *args, **kwargs)

    def _handle_error(agent: Any, error: BaseException, url: Any = None) -> BaseException:
        if isinstance(error, Deadline):
            raise error
        found: BaseException = handle(agent, error, url)
        return found

    session_class.__init__, agent_class._handle_error = limited, _handle_error


def _plain_name(session: Any, url: str, given: Mapping[str, Any]) -> str:
    built = requests.Request("GET", session._build_url(url), params=given.get("params")).prepare()
    return str(built.path_url)


PLAIN = Client(_plain_name, lambda session: session.headers)
FAST = Client(lambda _session, url, _given: url, lambda session: session.client.default_headers)


def _journey(client: Client, session: Any, method: str, url: str, given: Mapping[str, Any]) -> str:
    return f"{method} {given.get('name') or session.request_name or client.name_of(session, url, given)}"


def _prefix(journey: Callable[[], str]) -> str:
    """By this an edge can tell the requests of one journey, however deep in the system they come by."""
    try:
        return journey_prefix(journey())
    except (requests.RequestException, ValueError):  # an address that is none: the client is about to say so
        return journey_prefix("")


def _traceparent(headers: Mapping[Any, Any]) -> str | None:
    found = next((value for name, value in headers.items() if str(name).lower() == "traceparent"), None)
    return str(found) if found is not None else None


def _capped(timeout: Any, limit: float) -> Any:
    """A client's own timeout where it is shorter, else ours."""
    if isinstance(timeout, tuple):
        return tuple(_capped(part, limit) for part in timeout)
    return min(timeout, limit) if isinstance(timeout, int | float) and timeout > 0 else limit
