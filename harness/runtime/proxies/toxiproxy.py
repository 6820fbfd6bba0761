"""Either proxy engine through toxiproxy-python, made safe.

The library keeps its server's address in a class, waits for ever, takes a server's failure for success, obeys
proxy variables of the environment, does not encode names, and cannot change a toxic. Here every request of its
classes goes through one hardened session of the engine that made them, what it lacks is sent through the same
session, and nothing counts as set until it was read back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
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
from harness.history.events import EdgeSeen
from harness.plan.plan import CLEAN, ProxyState, Toxic
from harness.runtime.ports import Address, ProxyMade

CALL_WITHIN = 3.0
"""Seconds for one request to the engine."""

ALL_WITHIN = 4.5
"""Seconds for everything that one call of the port does."""

MOST_BODY = 8 * 1024 * 1024
SETTLING = 0.2
"""Seconds between disabling a real Toxiproxy and changing its toxics: at once, it may lock up for good."""

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
    OSError,
)
"""All that the library, and what it stands on, may raise; `explained` has words for each."""


class ToxiproxyEngine:
    """The port `Proxies`, over the engine whose control API answers at `control`; `log` is where that engine writes."""

    def __init__(self, control: Address, log: str = "") -> None:
        self._session = _Session(control)
        self._where = f"proxy engine at {control}" + (f" (its log: {log})" if log else "")
        self._made: dict[str, ProxyMade] = {}
        self._lock = Lock()
        self._version = ""
        self._tells_edges = True

    def version(self) -> str:
        """`embedded …` or `Toxiproxy …`, with its number."""
        with self._calling("version", CALL_WITHIN):
            return self._ask_version()

    def create(self, proxies: Sequence[ProxyMade]) -> None:
        """Make these proxies; each is read back before the next is made."""
        for proxy in proxies:
            with self._calling(f"create {proxy.name}"):
                self._ask_version()
                self._create(proxy)

    def read(self, proxy: str) -> ProxyState:
        """The state of a proxy, asked of the engine."""
        with self._calling(f"read {proxy}"):
            return self._read(proxy)

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        """Bring a proxy into a state by the fewest changes, and return what was read back."""
        with self._calling(f"put {proxy}"):
            return self._put(proxy, state)

    def heal_all(self) -> None:
        """Every proxy that was made here is made clean, whichever of them fail; raises for those at the end."""
        failures = []
        end = time.monotonic() + ALL_WITHIN
        for name in tuple(self._made):
            try:
                with self._calling(f"heal {name}", max(0.1, min(1.0, end - time.monotonic()))):
                    self._put(name, CLEAN)
            except ProxyError as failure:
                failures.append(str(failure))
        if failures:
            raise ProxyError("\n".join(failures))

    def seen(self) -> tuple[EdgeSeen, ...]:
        """What the embedded engine has counted; nothing from a real Toxiproxy, which cannot tell while connections last."""
        if not self._tells_edges:
            return ()
        with self._calling("edges"):
            try:
                edges = self._session.send("GET", "/edges").json()
            except toxiproxy.exceptions.NotFound:
                self._tells_edges = False
                return ()
            return tuple(EdgeSeen(**edge) for edge in edges)

    def _create(self, proxy: ProxyMade) -> None:
        if "/" in proxy.name or proxy.name in {"", ".", ".."}:
            raise ProxyError(f"{self._where}: a proxy cannot be named {proxy.name!r}: no address would lead to it")
        self._made[proxy.name] = proxy  # before it is there: whatever became of it, it is healed
        toxiproxy.Toxiproxy().create(str(proxy.upstream), proxy.name, listen=str(proxy.listen), enabled=True)
        found = self._show(proxy.name)
        asked = {
            "name": proxy.name,
            "listen": str(proxy.listen),
            "upstream": str(proxy.upstream),
            "enabled": True,
            "toxics": [],
        }
        got = {key: found.get(key) for key in asked}
        if got != asked:
            raise ProxyError(f"{self._where}: expected the proxy {asked}, found {got}: is this engine somebody else's?")

    def _put(self, proxy: str, state: ProxyState) -> ProxyState:
        found = self._read(proxy)
        handle = self._handle(proxy, found)
        if found.enabled and not state.enabled:
            handle.disable()
            if _words(found) != _words(state) and not self._version.startswith("embedded"):
                time.sleep(SETTLING)
        self._bring(handle, found, state)
        if state.enabled and not found.enabled:
            handle.enable()
        now = self._read(proxy)
        if now.enabled != state.enabled or _words(now) != _words(state):
            raise ProxyError(f"{self._where}: expected {proxy} in the state {state!r}, read back {now!r}")
        return state

    def _bring(self, handle: Any, found: ProxyState, state: ProxyState) -> None:
        """Take away, change and add toxics; one that is there and may stay is not touched."""
        kept = {toxic.name for stream in ("upstream", "downstream") for toxic in _kept(found, state, stream)}
        there = {toxic.name: toxic for toxic in found.toxics}
        for toxic in found.toxics:
            if toxic.name not in kept:
                handle.destroy_toxic(toxic.name)
        for toxic in state.toxics:
            if toxic.name not in kept:
                handle.add_toxic(**toxic.model_dump())
            elif _word(toxic) != _word(there[toxic.name]):
                change = {"attributes": _attributes(toxic), "toxicity": toxic.toxicity}
                self._session.send("POST", f"/proxies/{handle.name}/toxics/{toxic.name}", json=change)

    def _handle(self, proxy: str, found: ProxyState) -> Any:
        return toxiproxy.Proxy(name=proxy, upstream="", listen="", enabled=found.enabled)

    def _read(self, proxy: str) -> ProxyState:
        found = self._show(proxy)
        return ProxyState(enabled=found["enabled"], toxics=tuple(Toxic(**toxic) for toxic in found["toxics"]))

    def _show(self, proxy: str) -> dict[str, Any]:
        found = self._session.send("GET", f"/proxies/{proxy}").json()
        return dict(found)

    def _ask_version(self) -> str:
        answer = self._session.send("GET", "/version").json()
        self._version = str(answer["engine"]) if "engine" in answer else f"Toxiproxy {answer['version']}"
        return self._version

    @contextmanager
    def _calling(self, what: str, within: float = ALL_WITHIN) -> Iterator[None]:
        """One call of the port: alone, bounded in time, with every foreign exception put into words."""
        if not self._lock.acquire(timeout=within):
            raise ProxyError(f"{self._where}: {what}: another call has kept it busy for {within:g} s")
        token = _CURRENT.set(self._session)
        self._session.until(time.monotonic() + within)
        try:
            yield
        except FOREIGN as error:
            raise ProxyError(f"{self._where}: {what}: {explained(error)}") from error
        finally:
            _CURRENT.reset(token)
            self._lock.release()


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
    except (ValueError, KeyError, TypeError):
        return raw.strip()[:300] or "refused without a reason"


def _attributes(toxic: Toxic) -> dict[str, int]:
    """What a toxic's attributes are when those that are 0, as all are by default, go unsaid."""
    return {name: value for name, value in sorted(toxic.attributes.items()) if value}


def _word(toxic: Toxic) -> tuple[object, ...]:
    return toxic.name, toxic.type, toxic.stream, tuple(_attributes(toxic).items()), toxic.toxicity


def _words(state: ProxyState) -> tuple[tuple[object, ...], ...]:
    """The toxics of a state as they act: those upstream in order, then those downstream in order."""
    ordered = sorted(state.toxics, key=lambda toxic: toxic.stream == "downstream")
    return tuple(_word(toxic) for toxic in ordered)


def _kept(found: ProxyState, state: ProxyState, stream: str) -> list[Toxic]:
    """The toxics that may stay: new ones always go last, so what is asked for behind a new one is made anew too."""
    there = [toxic for toxic in found.toxics if toxic.stream == stream]
    kept = []
    for toxic in (toxic for toxic in state.toxics if toxic.stream == stream):
        place = next((at for at, other in enumerate(there) if (other.name, other.type) == (toxic.name, toxic.type)), None)
        if place is None:
            break
        kept.append(toxic)
        there = there[place + 1 :]
    return kept


class _Session:
    """Requests to one server: to this address alone, in time, and with the server's refusals raised."""

    def __init__(self, control: Address) -> None:
        self._base = f"http://{control}"
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["User-Agent"] = "chaos-harness"
        self._end = 0.0

    def until(self, end: float) -> None:
        """Everything that follows must be done by then, on the monotonic clock."""
        self._end = end

    def send(self, method: str, path: str, **given: Any) -> requests.Response:
        """One request; a status of 400 or more is raised."""
        end = min(self._end, time.monotonic() + CALL_WITHIN)
        left = end - time.monotonic()
        if left <= 0:
            raise requests.Timeout("no time is left")
        response = self._sent(method, self._base + quote(path, safe="/"), timeout=left, **given)
        response._content = _body(response, end)
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


_CURRENT: ContextVar[_Session | None] = ContextVar("_CURRENT", default=None)


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
