"""Proxies that are only remembered: the fake behind the port `Proxies`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.errors import ProxyError
from harness.history.events import EdgeSeen
from harness.plan.plan import CLEAN, ProxyState
from harness.runtime.ports import ProxyMade


class MemoryProxies:
    """Keeps the state of every proxy, and what passed on it as far as a test says so with `meet`.

    `broken` names proxies that take no change; `refuses` is the reason they give.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.states: dict[str, ProxyState] = {}
        self.broken: set[str] = set()
        self.refuses = "it does not answer"
        self._clock = clock
        self._made: dict[str, ProxyMade] = {}
        self._seen: dict[str, EdgeSeen] = {}

    def create(self, proxies: Sequence[ProxyMade]) -> None:
        for proxy in proxies:
            if proxy.name in self.states:
                raise ProxyError(f"{proxy.name}: proxy already exists")
            if proxy.listen in {other.listen for other in self._made.values()}:
                raise ProxyError(f"{proxy.name}: {proxy.listen}: address already in use")
            self._made[proxy.name] = proxy
            self.states[proxy.name] = CLEAN
            self._seen[proxy.name] = EdgeSeen(0.0, proxy.name, 0, 0, 0, 0, 0, 0)

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        self._must_exist(proxy)
        if proxy in self.broken:
            raise ProxyError(f"{proxy}: {self.refuses}")
        self.states[proxy] = state
        return state

    def read(self, proxy: str) -> ProxyState:
        self._must_exist(proxy)
        return self.states[proxy]

    def heal_all(self) -> None:
        failures = []
        for proxy in self.states:
            try:
                self.put(proxy, CLEAN)
            except ProxyError as failure:
                failures.append(str(failure))
        if failures:
            raise ProxyError("\n".join(failures))

    def seen(self) -> Sequence[EdgeSeen]:
        return tuple(replace(edge, at=self._clock()) for edge in self._seen.values())

    def version(self) -> str:
        return "memory 1"

    def meet(self, proxy: str, requests: int, status: str = "200") -> None:
        """So many more requests passed on a proxy, each on a connection of its own; a disabled one refused them."""
        edge = self._seen[proxy]
        if not self.states[proxy].enabled:
            self._seen[proxy] = replace(edge, refused=(edge.refused or 0) + requests)
            return
        answers = dict(edge.answers or {})
        answers[status] = answers.get(status, 0) + requests
        self._seen[proxy] = replace(
            edge,
            accepted=edge.accepted + requests,
            requests=(edge.requests or 0) + requests,
            answers=answers,
            traces=(edge.traces or 0) + requests,
            most_attempts=max(edge.most_attempts or 0, 1),
        )

    def _must_exist(self, proxy: str) -> None:
        if proxy not in self.states:
            raise ProxyError(f"{proxy}: proxy not found")
