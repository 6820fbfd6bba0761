"""Faults that are accepted, told as done, and not applied: what a harness must notice, to be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.history.events import EdgeSeen, Event
from harness.plan.plan import CLEAN, ProxyState, ServiceChange
from harness.plan.services import relieved, struck
from harness.runtime.ports import Address, Proxies, ProxyMade, Services


class UntouchedProxies:
    """The port `Proxies`, over proxies that stay as they are, whatever they are asked to become."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies
        self._asked: dict[str, ProxyState] = {}

    def create(self, proxies: Sequence[ProxyMade]) -> None:
        """Make these proxies; this much is done."""
        self._proxies.create(proxies)

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        """Nothing."""
        self._proxies.read(proxy)
        self._asked[proxy] = state
        return state

    def read(self, proxy: str) -> ProxyState:
        """What was asked for last, as if it were so."""
        return self._asked.get(proxy, CLEAN)

    def heal_all(self) -> None:
        """Nothing was done, so that nothing is to be healed."""
        self._asked.clear()

    def seen(self) -> Sequence[EdgeSeen]:
        """What was counted."""
        return self._proxies.seen()

    def version(self) -> str:
        """The engine's."""
        return self._proxies.version()


class UntouchedServices:
    """The port `Services`, over services to which nothing is done."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def start(self) -> None:
        """Start every service; this much is done."""
        self._services.start()

    def exited(self) -> Sequence[Event]:
        """Those that ended by themselves."""
        return self._services.exited()

    def address(self, service: str) -> Address:
        """Where a service listens."""
        return self._services.address(service)

    def database_url(self, service: str, database: str) -> str:
        """How a database is reached."""
        return self._services.database_url(service, database)

    def strike(self, change: ServiceChange) -> dict[str, Any]:
        """Nothing."""
        return struck(change)

    def relieve(self, change: ServiceChange) -> dict[str, Any]:
        """Nothing."""
        return relieved(change)

    def log_tail(self, service: str, lines: int = 20) -> tuple[str, ...]:
        """The last lines the service wrote."""
        return self._services.log_tail(service, lines)
