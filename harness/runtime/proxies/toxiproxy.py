"""Either proxy engine through toxiproxy-python, made safe.

What the library lacks, and what it cannot do safely, is sent through the same session (`session.py`), and nothing
counts as set until it was read back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import toxiproxy
import toxiproxy.exceptions

from harness.errors import ProxyError
from harness.history.events import EdgeSeen, fitting_event
from harness.plan.plan import CLEAN, ProxyState, Toxic
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.changes import is_same, kept_toxics, spares_connections, word, words
from harness.runtime.proxies.session import CALL_WITHIN, FOREIGN, EngineGone, Session, proxy_error

ALL_WITHIN = 4.5
"""Seconds for everything that one call of the port does."""

OLDEST = (2, 6)
"""The first Toxiproxy that takes every request made here."""


class ToxiproxyEngine:
    """The port `Proxies`, over the engine whose control API answers at `control`; `log` is where that engine writes,
    `token` what it asks of whoever changes something.

    A call that found the engine gone, or hanging, raises EngineGone, which is a ProxyError.
    """

    def __init__(self, control: Address, log: str = "", token: str = "") -> None:
        self._session = Session(control, token)
        self._where = f"proxy engine at {control}" + (f" (its log: {log})" if log else "")
        self._made: dict[str, ProxyMade] = {}
        self._replacing: dict[str, dict[str, Any]] = {}
        self._lock = Lock()
        self._version = ""
        self._tells_edges = True

    def version(self, within: float = CALL_WITHIN) -> str:
        """`embedded …` or `Toxiproxy …`, with its number."""
        with self._calling("version", within):
            return self._ask_version()

    def create(self, proxies: Sequence[ProxyMade]) -> None:
        """Make these proxies; each is read back before the next is made."""
        for proxy in proxies:
            with self._calling(f"create {proxy.name}"):
                self._ask_version()
                self._create(proxy)

    def adopt(self, proxies: Sequence[ProxyMade]) -> None:
        """Take over proxies that are there already, clean; raises ProxyError with the first thing that is not as expected."""
        for proxy in proxies:
            with self._calling(f"adopt {proxy.name}"):
                self._ask_version()
                self._adopt(proxy)

    def ensure(self, proxies: Sequence[ProxyMade]) -> None:
        """Take over those of these proxies that are there, clean, and make the others."""
        for proxy in proxies:
            with self._calling(f"ensure {proxy.name}"):
                self._ask_version()
                try:
                    self._adopt(proxy)
                except toxiproxy.exceptions.NotFound:
                    self._create(proxy)

    def read(self, proxy: str, within: float = ALL_WITHIN) -> ProxyState:
        """The state of a proxy, asked of the engine."""
        with self._calling(f"read {proxy}", within):
            return _state(self._show(proxy))

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        """Bring a proxy into a state by the fewest changes, and return what was read back."""
        with self._calling(f"put {proxy}"):
            return self._put(proxy, state)

    def heal_all(self) -> None:
        """Every proxy that was made here is made clean, whichever of them fail; raises for those at the end."""
        failures: list[ProxyError] = []
        end = time.monotonic() + ALL_WITHIN
        for name in tuple(self._made):
            try:
                with self._calling(f"heal {name}", max(0.1, min(1.0, end - time.monotonic()))):
                    self._put(name, CLEAN)
            except ProxyError as failure:
                failures.append(failure)
        if failures:
            kind = EngineGone if any(isinstance(failure, EngineGone) for failure in failures) else ProxyError
            raise kind("\n".join(str(failure) for failure in failures))

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
            return tuple(fitting_event(EdgeSeen, edge) for edge in edges)

    def _create(self, proxy: ProxyMade) -> None:
        if "/" in proxy.name or proxy.name in {"", ".", ".."}:
            raise ProxyError(f"{self._where}: a proxy cannot be named {proxy.name!r}: no address would lead to it")
        self._made[proxy.name] = proxy  # before it is there: whatever became of it, it is healed
        self._session.send("POST", "/proxies", json={**_place(proxy), "enabled": True})
        self._adopt(proxy)

    def _adopt(self, proxy: ProxyMade) -> None:
        found = self._show(proxy.name)
        for key, asked in {**_place(proxy), "enabled": True, "toxics": []}.items():
            if found.get(key) != asked:
                raise ProxyError(
                    f"{self._where}: expected the proxy {proxy.name} with {key} {asked!r}, found {found.get(key)!r}: "
                    "is this engine somebody else's?"
                )
        self._made[proxy.name] = proxy

    def _put(self, proxy: str, state: ProxyState) -> ProxyState:
        if not self._version:
            self._ask_version()
        found = self._found(proxy)
        was = None if found is None else _state(found)
        if was is not None and is_same(was, state):
            return was
        if was is not None and (self._version.startswith("embedded") or spares_connections(was, state)):
            self._bring(proxy, was, state)
        elif was is not None and was.enabled and words(was) == words(state):
            self._handle(proxy, was.enabled).disable()
        else:
            self._replace(proxy, found, state)
        now = _state(self._show(proxy))
        if not is_same(now, state):
            raise ProxyError(f"{self._where}: expected {proxy} in the state {state!r}, read back {now!r}")
        return now

    def _bring(self, proxy: str, found: ProxyState, state: ProxyState) -> None:
        """Take away, change and add toxics under the open connections; a toxic that is there and may stay is not touched."""
        handle = self._handle(proxy, found.enabled)
        if found.enabled and not state.enabled:
            handle.disable()
        kept, there = kept_toxics(found, state), {toxic.name: toxic for toxic in found.toxics}
        for toxic in found.toxics:
            if toxic.name not in kept:
                handle.destroy_toxic(toxic.name)
        for toxic in state.toxics:
            if toxic.name not in kept:
                self._add_toxic(proxy, toxic)
            elif word(toxic) != word(there[toxic.name]):
                self._session.send("PATCH", f"/proxies/{proxy}/toxics/{toxic.name}", json=_change(there[toxic.name], toxic))
        if state.enabled and not found.enabled:
            handle.enable()

    def _add_toxic(self, proxy: str, toxic: Toxic) -> None:
        """By the session itself: the library leaves out keys that it does not know, and does not say what was answered."""
        self._session.send("POST", f"/proxies/{proxy}/toxics", json=toxic.model_dump(exclude_none=True))

    def _replace(self, proxy: str, found: dict[str, Any] | None, state: ProxyState) -> None:
        """Put a new proxy in the old one's place, which takes its first connection when all its toxics are there.

        What becomes of a replacement that breaks off is known from `_replacing`: the next change goes on with it.
        """
        if found is not None:
            self._replacing[proxy] = {key: found[key] for key in ("name", "listen", "upstream")}
            self._session.send("DELETE", f"/proxies/{proxy}")
        self._session.send("POST", "/proxies", json={**self._replacing[proxy], "enabled": False})
        handle = self._handle(proxy, enabled=False)
        for toxic in state.toxics:
            self._add_toxic(proxy, toxic)
        if state.enabled:
            handle.enable()
        del self._replacing[proxy]

    def _found(self, proxy: str) -> dict[str, Any] | None:
        """The proxy as it is; None for one whose replacement broke off when the old one was gone."""
        try:
            return self._show(proxy)
        except toxiproxy.exceptions.NotFound:
            if proxy not in self._replacing:
                raise
            return None

    def _handle(self, proxy: str, enabled: bool) -> Any:
        return toxiproxy.Proxy(name=proxy, upstream="", listen="", enabled=enabled)

    def _show(self, proxy: str) -> dict[str, Any]:
        found = self._session.send("GET", f"/proxies/{proxy}").json()
        return dict(found)

    def _ask_version(self) -> str:
        answer = self._session.send("GET", "/version").json()
        self._version = str(answer["engine"]) if "engine" in answer else f"Toxiproxy {answer['version']}"
        number = re.match(r"Toxiproxy v?(\d+)\.(\d+)", self._version)
        if number is not None and (int(number[1]), int(number[2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise ProxyError(f"{self._where}: expected Toxiproxy {oldest} or newer, found {self._version}: take a newer one")
        return self._version

    @contextmanager
    def _calling(self, what: str, within: float = ALL_WITHIN) -> Iterator[None]:
        """One call of the port: alone, bounded in time, with every foreign exception put into words."""
        end = time.monotonic() + within
        if not self._lock.acquire(timeout=within):
            raise ProxyError(f"{self._where}: {what}: another call has kept it busy for {within:g} s")
        try:
            with self._session.current(end):
                yield
        except FOREIGN as error:
            raise proxy_error(f"{self._where}: {what}", error) from error
        finally:
            self._lock.release()


def _place(proxy: ProxyMade) -> dict[str, Any]:
    """What stays the same of a proxy, whatever happens on it, in the engine's words."""
    return {"name": proxy.name, "listen": str(proxy.listen), "upstream": str(proxy.upstream)}


def _change(was: Toxic, toxic: Toxic) -> dict[str, Any]:
    """What to send to change a toxic: attributes that are not said stay as they are."""
    unsaid = {name: type(value)() for name, value in was.attributes.items()}
    return {"attributes": {**unsaid, **toxic.attributes}, "toxicity": toxic.toxicity}


def _state(found: dict[str, Any]) -> ProxyState:
    return ProxyState(enabled=found["enabled"], toxics=tuple(Toxic(**toxic) for toxic in found["toxics"]))
