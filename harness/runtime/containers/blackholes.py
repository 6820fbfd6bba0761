"""Edges that are cut by the network: packets to and from a proxy are lost, and neither side is told.

A connection that is made meanwhile gets no answer to its handshake; one that was open goes silent, and lives on. Proxies of
programs cannot do that: they accept what the kernel has accepted for them. So it is done where the packets pass, in the
network namespace of the proxies' container, and goes with that namespace, whatever becomes of whoever did it.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from harness.errors import CouldNotRun, ProxyError
from harness.history.events import EdgeSeen
from harness.plan.plan import CLEAN, Plan, ProxyState, Toxic
from harness.plan.toxics import NETWORK
from harness.runtime.containers import packet_filter
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.containers.packet_filter import Place
from harness.runtime.containers.removal import PROJECT_LABEL, SERVICE_LABEL
from harness.runtime.ports import ProxyMade
from harness.runtime.proxies.session import EngineGone
from harness.runtime.proxies.supervised import Engine

READ_WITHIN = 4.5

LEFT = Toxic(name="left", type="unreachable", stream="downstream", attributes={NETWORK: True})
"""How a proxy shows that is cut off though nothing asks for it."""


class PacketFilter(Protocol):
    """Loses packets in the network namespace of the proxies' container. Raises OSError where it cannot."""

    @property
    def is_quick(self) -> bool:
        """Whether it may be asked every second."""
        ...

    def lose(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Lose what comes to these places and goes out from them, and nothing else; what is lost then, read back."""
        ...

    def lost(self) -> Mapping[Place, int]:
        """The places whose packets are lost, each with how many came so far."""
        ...


def is_of_the_network(toxic: Toxic, *, engine_can: bool) -> bool:
    """Whether a toxic is none of the engine's: the plan says so, or the engine has none of that type."""
    return toxic.type == "unreachable" and (bool(toxic.attributes.get(NETWORK)) or not engine_can)


def cuts_networks(plan: Plan, *, engine_can: bool) -> bool:
    """Whether anything of a plan is done by the network."""
    states = (change.state for step in plan.steps for change in step.changes)
    return any(is_of_the_network(toxic, engine_can=engine_can) for state in states for toxic in state.toxics)


class Blackholes:
    """The port `Proxies`, and what it takes to be looked after, over an engine's: what is the network's is done here.

    `engine_can`: the engine itself has a toxic by which a callee is unreachable.
    """

    def __init__(self, engine: Engine, packets: PacketFilter, *, engine_can: bool) -> None:
        self._engine, self._packets, self._engine_can = engine, packets, engine_can
        self._places: dict[str, Place] = {}
        self._asked: dict[str, ProxyState] = {}
        self._dark: set[str] = set()
        self._met: dict[str, int] = {}

    def ensure(self, proxies: Sequence[ProxyMade]) -> None:
        """Take over those of these proxies that are there, clean, and make the others."""
        self._engine.ensure(proxies)
        self._places |= {proxy.name: (proxy.listen.host, proxy.listen.port) for proxy in proxies}

    def create(self, proxies: Sequence[ProxyMade]) -> None:
        """Make these proxies."""
        self.ensure(proxies)

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        """Bring a proxy, and the network before it, into a state."""
        self._engine.put(proxy, self._without_network(state))
        self._asked[proxy] = state
        dark = self._dark - {proxy} | ({proxy} if self._own(state) else set())
        if dark != self._dark:
            self._darken(dark)
        return self.read(proxy)

    def read(self, proxy: str, within: float = READ_WITHIN) -> ProxyState:
        """The state of a proxy, asked of the engine and of the kernel."""
        found = self._engine.read(proxy, within)
        if not self._is_dark(proxy):
            return found
        asked = self._asked.get(proxy, CLEAN)
        toxics = [*found.toxics, *(self._own(asked) or [LEFT])]
        order = [toxic.name for toxic in asked.toxics]
        ordered = sorted(toxics, key=lambda toxic: order.index(toxic.name) if toxic.name in order else len(order))
        return found.model_copy(update={"toxics": tuple(ordered)})

    def heal_all(self) -> None:
        """Nothing is lost any more, and every proxy of the engine is clean."""
        self._asked.clear()
        try:
            if self._met:
                self._darken(set())
        finally:
            self._engine.heal_all()

    def seen(self) -> Sequence[EdgeSeen]:
        """What the engine has counted, and where packets were lost, how many came in there."""
        edges = self._engine.seen()
        if not self._met or not self._packets.is_quick:
            return edges
        now = self._came_in()
        return [replace(edge, packets=now[edge.proxy]) if edge.proxy in now else edge for edge in edges]

    def version(self, within: float = READ_WITHIN) -> str:
        """The engine's name and version."""
        return self._engine.version(within)

    def _is_dark(self, proxy: str) -> bool:
        """As the kernel says, where it may be asked so often."""
        if not self._met or not self._packets.is_quick:
            return proxy in self._dark
        return self._places.get(proxy) in self._lost()

    def _own(self, state: ProxyState) -> list[Toxic]:
        return [toxic for toxic in state.toxics if is_of_the_network(toxic, engine_can=self._engine_can)]

    def _without_network(self, state: ProxyState) -> ProxyState:
        own = self._own(state)
        return state.model_copy(update={"toxics": tuple(toxic for toxic in state.toxics if toxic not in own)})

    def _darken(self, proxies: set[str]) -> None:
        if self._packets.is_quick:
            self._met |= self._came_in()
        with _told():
            lost = self._packets.lose([self._places[proxy] for proxy in sorted(proxies)])
        self._dark = {proxy for proxy, place in self._places.items() if place in lost}
        self._met = {**dict.fromkeys(proxies, 0), **self._met}

    def _came_in(self) -> dict[str, int]:
        """Every proxy that was cut off so far, with how many packets came in for it and were lost."""
        lost = self._lost() if self._dark else {}
        return {proxy: met + lost.get(self._places[proxy], 0) for proxy, met in self._met.items()}

    def _lost(self) -> Mapping[Place, int]:
        with _told():
            return self._packets.lost()


@contextmanager
def _told() -> Iterator[None]:
    """A namespace that is gone is an engine that is gone."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError) as gone:
        raise EngineGone(f"the network of the proxies: expected their container to run, found: {gone}") from gone
    except OSError as error:
        raise ProxyError(f"the network of the proxies: {error}") from error


@dataclass(frozen=True, slots=True)
class FilterHere:
    """By this process itself, which enters the namespace of the process `pid` for a moment; that takes root."""

    pid: int
    is_quick: bool = True

    def lose(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Lose these, and nothing else."""
        return packet_filter.in_namespace(self._namespace, lambda: packet_filter.lose(places))

    def lost(self) -> Mapping[Place, int]:
        """What is lost."""
        return packet_filter.in_namespace(self._namespace, packet_filter.lost)

    @property
    def _namespace(self) -> str:
        return f"/proc/{self.pid}/ns/net"


@dataclass(frozen=True, slots=True)
class FilterBeside:
    """By a container that is in the namespace for a moment, of an image with Python in it."""

    client: Any
    project: str
    container: str
    image: str
    is_quick: bool = False

    def lose(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Lose these, and nothing else."""
        return self._run("lose", *(f"{host}:{port}" for host, port in places))

    def lost(self) -> Mapping[Place, int]:
        """What is lost."""
        return self._run("lost")

    def _run(self, *arguments: str) -> Mapping[Place, int]:
        import requests
        from docker.errors import DockerException

        try:
            said = self.client.containers.run(
                self.image,
                entrypoint=["python3", "-c", inspect.getsource(packet_filter)],
                command=list(arguments),
                network_mode=f"container:{self.container}",
                cap_add=["NET_ADMIN"],
                user="0:0",
                labels={PROJECT_LABEL: self.project, SERVICE_LABEL: "chaos-network"},
                remove=True,
            )
        except (DockerException, requests.RequestException) as error:
            raise OSError(str(getattr(error, "explanation", None) or error)) from error
        return {(host, port): packets for host, port, packets in json.loads(said)}


def can_enter(engine: DockerEngine) -> bool:
    """Whether this process may enter the network namespaces of an engine's containers."""
    return engine.is_here and os.geteuid() == 0


def filter_for(engine: DockerEngine, client: Any, container: Any, *, has_python: bool) -> PacketFilter:
    """How packets are lost in the namespace of the proxies' container; raises CouldNotRun where that cannot be done.

    `has_python`: Python is in that container's image.
    """
    if not can_enter(engine) and not has_python:
        raise CouldNotRun(
            "to lose packets before a Toxiproxy takes root, and a Docker engine on this machine: run the harness as root, or "
            "with --engine embedded, whose image can do it from beside"
        )
    attrs, project = container.attrs, container.labels.get(PROJECT_LABEL, "")
    found: PacketFilter = (
        FilterHere(attrs["State"]["Pid"]) if can_enter(engine) else FilterBeside(client, project, container.id, attrs["Image"])
    )
    return found


def check(packets: PacketFilter) -> None:
    """Raise CouldNotRun where packets cannot be lost, before anybody relies on it."""
    try:
        packets.lose(())
    except OSError as error:
        raise CouldNotRun(
            f"to lose packets on the networks of the proxies takes nftables in the kernel, and the right to use it, "
            f"found: {error}; use by: proxy, or mode: hang"
        ) from error
