"""Rewrites a system so that every dependency between its services leads through a proxy; a pure function.

In comes what `docker compose config` made of the user's files, out goes what is handed to `docker compose up`. A
caller shares no network with its callee: it shares one with the container of the proxies, which answers there to the
callee's name on the callee's port, and forwards to the callee on a network that only the two of them are on. So no
service needs another configuration, and a dependency that nobody declared does not resolve.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from harness.model.compose import Compose
from harness.model.edges import CLIENT, Edge
from harness.model.system import Interpose
from harness.plan.plan import PlannedProxy
from harness.runtime.containers.subnets import Subnets, first_host, last_host, own_addresses
from harness.runtime.ports import Address, ProxyMade

PROXIES = "chaos-proxies"
"""The service that is added: the container of all proxies."""

CONTROL = "chaos-control"
PROXIES_FILE = "/chaos-proxies.json"
TOKEN = "chaos-proxies-token"  # noqa: S105 -- what its file is called
TOKEN_FILE = "/chaos-proxies.token"  # noqa: S105
CONTROL_PORT = 8474
FILES = {PROXIES: PROXIES_FILE, TOKEN: TOKEN_FILE}
IGNORED_SOURCES = "{ignored sources}"
FIRST_ASKING_PORT = 20001
"""Where the proxies for the harness's own questions listen, on the control address."""

DROPPED = ("profiles", "container_name", "ports", "links", "develop")
"""Keys of a service that must not be handed back: an active profile would put its service out of use, a fixed name or
port would let two runs meet, and a link does not reach from network to network.
"""

QUICK_FAILURE = ["timeout:1", "attempts:1"]
"""On internal networks a name that nobody has takes ten seconds to fail; so it takes one."""

SHORT_CONNECTING = {"net.ipv4.tcp_syn_retries": "1"}
"""The proxies give up connecting after three seconds in place of two minutes. Toxiproxy takes one connection of an edge after
the other: while it calls an address whose container is just gone, nobody on that edge is told that the callee is down.
"""


@dataclass(frozen=True, slots=True)
class EngineContainer:
    """The proxy engine as a container; `build` is how its image is made, empty where it is had from elsewhere.

    In `command`, `{host}` is filled in; IGNORED_SOURCES stands for an option for each of the host's
    addresses on the edges' networks, which is where the harness's own probes come from. Where there is a `token`, it is in
    TOKEN_FILE.
    """

    image: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """A port of a service that the harness itself asks, past every edge: for a counter, or for an invariant."""

    service: str
    port: int

    @property
    def proxy(self) -> str:
        """What its proxy is called; nobody's fault ever strikes it."""
        return f"chaos -> {self.service}:{self.port}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to become of a system, as `compose` understands it.

    `published_on` is the address of the engine's host where ports are published, `host_ports` those that are free
    there; as many are needed as there is a control API, a way in, and things asked. `limited` are services whose
    limits will be changed and have to be restorable. `answers_names`: somebody will answer for names that nobody has.
    `probed` are edges whose proxies cannot be reached from where the harness is, and are to be.
    """

    project: str
    compose: Compose
    proxies: Sequence[PlannedProxy]
    engine: EngineContainer
    subnets: Subnets
    published_on: str
    host_ports: Sequence[int]
    asked: Sequence[Asked] = ()
    interpose: Interpose = "all"
    unproxied: Sequence[Edge] = ()
    egress: Collection[str] = ()
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    limited: Collection[str] = ()
    answers_names: bool = False
    probed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The system as it is handed to Compose, and where things will be.

    `proxies` are as the engine has them; `published` tells the port on the engine's host for the control API (under
    the name CONTROL), the way in and everything asked, by their proxies' names; `networks` the subnet of each edge's
    own network; `name_servers` the host's address that unknown names are asked for at, for each service and the proxies.
    """

    model: dict[str, Any]
    proxies: tuple[ProxyMade, ...]
    published: dict[str, int]
    networks: dict[str, IPv4Network]
    name_servers: dict[str, str]


def detour_to(edge: str) -> str:
    """What the proxy is called through which an edge's own is reached from another machine."""
    return f"chaos -> ({edge})"


def rewrite(config: Mapping[str, Any], wanted: Wanted) -> Rewritten:
    """The system with proxies between its services; raises CouldNotRun where the networks do not fit."""
    return _Rewriting(deepcopy(dict(config)), wanted).whole()


class _Rewriting:
    """One system being rewritten."""

    def __init__(self, model: dict[str, Any], wanted: Wanted) -> None:
        self.model, self.wanted = model, wanted
        self.services: dict[str, dict[str, Any]] = {name: dict(said) for name, said in model["services"].items()}
        self.keys: dict[tuple[str, ...], str] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.joined: dict[str, dict[str, Any]] = {name: {} for name in self.services}
        self.proxy_joined: dict[str, Any] = {}
        self.made: list[ProxyMade] = []
        self.published: dict[str, int] = {}
        self.of_edges: dict[str, IPv4Network] = {}
        self.ports: list[dict[str, Any]] = []
        self.name_servers: dict[str, str] = {}

    def whole(self) -> Rewritten:
        for name, service in self.services.items():
            self._clean(name, service)
        self._control()
        for proxy in self.wanted.proxies:
            if proxy.caller != CLIENT or proxy.spare:
                self._edge(proxy)
        for name in self.wanted.probed:
            self._detour(name)
        for edge in self.wanted.unproxied:
            self._direct(edge)
        for name, service in self.services.items():
            self._join(name, service)
        self.services[PROXIES] = self._engine()
        said = self.model.get("networks", {}) if self.wanted.interpose == "faulted" else {}
        kept = {name: self._own(name, network) for name, network in said.items()}
        model = {
            **{key: value for key, value in self.model.items() if not key.startswith("x-")},
            "name": self.wanted.project,
            "services": self.services,
            "networks": {**kept, **self.networks},
            "volumes": {name: self._own(name, said) for name, said in self.model.get("volumes", {}).items()},
            "configs": {**self.model.get("configs", {}), **self._contents()},
        }
        return Rewritten(model, tuple(self.made), self.published, self.of_edges, self.name_servers)

    # services

    def _clean(self, name: str, service: dict[str, Any]) -> None:
        """Without what would make two runs meet, with what is laid over it, and after the proxies."""
        for key in DROPPED:
            service.pop(key, None)
        if "build" in service:
            service["image"] = built_image(name, service["build"])
            service.pop("pull_policy", None)
        laid_over = {key: _escaped(value) for key, value in self.wanted.overrides.get(name, {}).items()}
        if laid_over:
            service["environment"] = {**(service.get("environment") or {}), **laid_over}
        service["depends_on"] = {
            **(service.get("depends_on") or {}),
            PROXIES: {"condition": "service_started", "required": True},
        }
        if name in self.wanted.limited:
            _make_limits_restorable(service)

    def _own(self, name: str, said: dict[str, Any] | None) -> dict[str, Any]:
        """A volume or network of this run's own, unless it is the user's: `external`."""
        found = dict(said or {})
        return found if found.get("external") else {**found, "name": f"{self.wanted.project}_{name}"}

    def _join(self, name: str, service: dict[str, Any]) -> None:
        """A service on the networks of its edges, and with them alone where every edge is led through a proxy."""
        if "network_mode" in service:
            service.pop("networks", None)
            return
        joined = self.joined[name]
        if name in self.wanted.egress and self.wanted.interpose == "all":
            joined[self._network(self._key("egress", name), internal=False, hosts=self._replicas(name))] = None
        if self.wanted.interpose == "faulted":
            service["networks"] = {**(service.get("networks") or {"default": None}), **joined}
            return
        service["networks"] = joined or {
            self._network(self._key("alone", name), internal=True, hosts=self._replicas(name)): None
        }
        service.setdefault("dns_opt", QUICK_FAILURE)
        if self.wanted.answers_names and "dns" not in service and name not in self.wanted.egress:
            self.name_servers[name] = str(first_host(self._subnet(next(iter(service["networks"])))))
            service["dns"] = [self.name_servers[name]]

    # networks

    def _key(self, kind: str, *names: str) -> str:
        """The name of a network that is told by these names: the same for the same, and another for others."""
        if (kind, *names) not in self.keys:
            key = re.sub(r"[^A-Za-z0-9_.-]", "-", "-".join((kind, *names)))
            clashes = [other for other in self.keys.values() if other == key or other.startswith(f"{key}.")]
            self.keys[kind, *names] = f"{key}.{len(clashes) + 1}" if clashes else key
        return self.keys[kind, *names]

    def _network(self, key: str, *, internal: bool, hosts: int) -> str:
        subnet = self.wanted.subnets.take(hosts)
        self.networks[key] = {
            "name": f"{self.wanted.project}_{key}",
            "driver": "bridge",
            "internal": internal,
            "ipam": {"config": [{"subnet": str(subnet), "gateway": str(first_host(subnet))}]},
        }
        return key

    def _subnet(self, key: str) -> IPv4Network:
        return IPv4Network(self.networks[key]["ipam"]["config"][0]["subnet"])

    def _door(self, callee: str) -> str:
        """How the proxies call a service: by a name that nobody else has, on a network of the two of them."""
        key, home = self._key("door", callee), self.wanted.compose.at_home(callee)
        if key not in self.networks:
            self._network(key, internal=True, hosts=self._replicas(home))
            self.joined[home][key] = {"aliases": [key]}
            self.proxy_joined[key] = None
        return key

    def _replicas(self, service: str) -> int:
        return self.wanted.compose.services[service].replicas

    def _control(self) -> None:
        """The network of the control API, the way in, and what the harness asks: no service is on it."""
        self._network(CONTROL, internal=False, hosts=1)
        host = str(last_host(self._subnet(CONTROL)))
        self.proxy_joined[CONTROL] = {"ipv4_address": host}
        self._publish(CONTROL, CONTROL_PORT)
        entry = next(proxy for proxy in self.wanted.proxies if proxy.caller == CLIENT and not proxy.spare)
        port = entry.port if entry.port != CONTROL_PORT else CONTROL_PORT + 1
        self._make(entry.name, Address(host, port), Address(self._door(entry.callee), entry.port))
        self._publish(entry.name, port)
        for asked in self.wanted.asked:
            self._for_the_harness(asked.proxy, Address(self._door(asked.service), asked.port))

    def _for_the_harness(self, name: str, upstream: Address) -> None:
        """A proxy at the control address, published, through which the harness itself reaches something."""
        listen = Address(self.proxy_joined[CONTROL]["ipv4_address"], FIRST_ASKING_PORT + len(self.published))
        self._make(name, listen, upstream)
        self._publish(name, listen.port)

    def _detour(self, edge: str) -> None:
        made = next((made for made in self.made if made.name == edge), None)
        if made is not None and edge not in self.published:
            self._for_the_harness(detour_to(edge), made.listen)

    def _publish(self, name: str, port: int) -> None:
        self.published[name] = self.wanted.host_ports[len(self.published)]
        self.ports.append(
            {
                "target": port,
                "published": str(self.published[name]),
                "host_ip": self.wanted.published_on,
                "protocol": "tcp",
                "mode": "ingress",
            }
        )

    def _make(self, name: str, listen: Address, upstream: Address) -> None:
        self.made.append(ProxyMade(name, listen, upstream))

    def _edge(self, proxy: PlannedProxy) -> None:
        """A network of caller and proxy, where the proxy answers to the callee's names on the callee's port.

        Several ports of one callee share it. A spare has one of its own, and nobody else is on it.
        """
        caller = "" if proxy.spare else self.wanted.compose.at_home(proxy.caller)
        key = self._key("spare", proxy.name) if proxy.spare else self._key("edge", proxy.caller, proxy.callee)
        if key not in self.networks:
            self._network(key, internal=True, hosts=self._replicas(caller) if caller else 1)
            host = str(last_host(self._subnet(key)))
            names = self._names(proxy)
            self.proxy_joined[key] = {"ipv4_address": host, "aliases": names}
            if caller:
                self.joined[caller][key] = None
                self._lead_by_hosts_file(caller, names, host)
        self.of_edges[proxy.name] = self._subnet(key)
        host = self.proxy_joined[key]["ipv4_address"]
        self._make(proxy.name, Address(host, proxy.port), Address(self._door(proxy.callee), proxy.port))

    def _direct(self, edge: Edge) -> None:
        """A network of caller and callee, for what no proxy carries; one without networks of its own needs none."""
        pair = {self.wanted.compose.at_home(name) for name in (edge.caller, edge.callee)}
        if self.wanted.interpose == "faulted" or any("network_mode" in self.services[name] for name in pair):
            return
        key = self._key("direct", edge.caller, edge.callee)
        if key not in self.networks:
            self._network(key, internal=True, hosts=sum(self._replicas(name) for name in pair))
            aliases = self.wanted.compose.services[edge.callee].aliases
            for name in pair:
                self.joined[name][key] = {"aliases": [edge.callee, *aliases]} if name != edge.caller else None

    def _names(self, proxy: PlannedProxy) -> list[str]:
        """All names by which the caller knows the callee."""
        if proxy.spare:
            return [proxy.callee]
        known = self.wanted.compose.names_for(proxy.caller)
        addresses = self.wanted.compose.services[proxy.callee].addresses
        return [name for name, service in sorted(known.items()) if service == proxy.callee and name not in addresses]

    def _lead_by_hosts_file(self, caller: str, names: Iterable[str], host: str) -> None:
        """Where a caller keeps its networks, and so the callee's own name on them, its hosts file comes before."""
        if self.wanted.interpose == "faulted":
            service = self.services[caller]
            said = service.get("extra_hosts") or []
            service["extra_hosts"] = [*_as_list(said), *(f"{name}={host}" for name in names)]

    # the engine

    def _engine(self) -> dict[str, Any]:
        engine = self.wanted.engine
        host = self.proxy_joined[CONTROL]["ipv4_address"]
        return {
            **({"build": dict(engine.build)} if engine.build else {}),
            "image": engine.image,
            "command": [_escaped(word.replace("{host}", host)) for word in self._command()],
            "environment": dict(engine.environment),
            "healthcheck": {"disable": True},
            "networks": self.proxy_joined,
            "ports": self.ports,
            "configs": [{"source": name, "target": FILES[name]} for name in self._contents()],
            "logging": {"driver": "json-file"},
            "sysctls": SHORT_CONNECTING,
            **self._no_names_from_outside(),
        }

    def _no_names_from_outside(self) -> dict[str, Any]:
        """The proxies call every service by a name. That of one which is down must fail at once, and be asked of nobody
        outside: while a proxy waits for an answer, it neither forwards nor takes a change.
        """
        if not self.wanted.answers_names:
            return {"dns_opt": QUICK_FAILURE}
        self.name_servers[PROXIES] = str(first_host(self._subnet(CONTROL)))
        return {"dns_opt": QUICK_FAILURE, "dns": [self.name_servers[PROXIES]]}

    def _command(self) -> list[str]:
        ignored = [word for source in own_addresses(self.of_edges.values()) for word in ("--ignore-source", source)]
        return [word for said in self.wanted.engine.command for word in (ignored if said == IGNORED_SOURCES else [said])]

    def _contents(self) -> dict[str, dict[str, str]]:
        """What the engine reads when it starts, by the name of its config."""
        token = {TOKEN: self.wanted.engine.token} if self.wanted.engine.token else {}
        return {name: {"content": _escaped(text)} for name, text in {PROXIES: self._proxies_file(), **token}.items()}

    def _proxies_file(self) -> str:
        """The proxies as Toxiproxy reads them when it starts, before its API answers."""
        return json.dumps(
            [
                {"name": made.name, "listen": str(made.listen), "upstream": str(made.upstream), "enabled": True}
                for made in self.made
            ]
        )


def built_image(service: str, build: Any) -> str:
    """The tag of an image that is built: its own for each service and each way to build it, so that neither two services
    nor two checkouts take turns with one, and none of the user's is moved.
    """
    way = hashlib.sha256(json.dumps(build, sort_keys=True).encode()).hexdigest()[:12]
    return f"chaos-harness/built-{service}:{way}".lower()


def _escaped(text: str) -> str:
    """As Compose reads it back: a dollar sign begins a variable."""
    return text.replace("$", "$$")


def _as_list(hosts: Any) -> list[str]:
    return [f"{name}={host}" for name, host in hosts.items()] if isinstance(hosts, dict) else list(hosts)


def _make_limits_restorable(service: dict[str, Any]) -> None:
    """An engine lifts a memory limit only where the container was made with one, and takes no share of processors
    where it was made with `cpus`.
    """
    limits = (service.get("deploy") or {}).get("resources", {}).get("limits", {})
    cores = service.pop("cpus", None) or limits.pop("cpus", None)
    service["cpu_period"] = 100_000
    service["cpu_quota"] = round(float(cores) * 100_000) if cores else -1
    if "memory" not in limits:
        service.setdefault("mem_limit", str(AMPLE_MEMORY))
        service.setdefault("memswap_limit", service["mem_limit"])


AMPLE_MEMORY = 2**40
"""A limit that limits nothing."""
