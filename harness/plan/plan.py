"""What is going to happen, as plain data: proxies, phases, steps with their times, observations.

Times are seconds from the moment the load begins.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field

from harness.model.experiment import Experiment
from harness.model.faults import Deed
from harness.model.load import Stage
from harness.model.parts import Items, Name, Part

TypeOfToxiproxy: TypeAlias = Literal["latency", "timeout", "reset_peer", "bandwidth", "slow_close", "slicer", "limit_data"]
TypeOfOurs: TypeAlias = Literal["unreachable", "http_error", "http_delay", "http_corrupt", "http_lost_reply"]
ToxicType: TypeAlias = TypeOfToxiproxy | TypeOfOurs

TOXICS_OF_TOXIPROXY: tuple[TypeOfToxiproxy, ...] = get_args(TypeOfToxiproxy)
"""Those that act on one stream, and that either engine has."""

Attribute: TypeAlias = int | float | str | bool | list[str]


class Toxic(Part):
    """One toxic in Toxiproxy's words. Its name begins with the id of the fault that sets it.

    Where a `seed` is given, the connections that a toxicity below 1 strikes, or the requests of a share, are drawn from it.
    """

    name: str
    type: ToxicType
    stream: Literal["upstream", "downstream"]
    attributes: dict[str, Attribute]
    toxicity: float = 1.0
    seed: int | None = None


class ProxyState(Part):
    """How a proxy should be, as a whole: on or off, and with which toxics, in order."""

    enabled: bool = True
    toxics: Items[Toxic] = ()


CLEAN = ProxyState()


class PlannedProxy(Part):
    """One proxy. `name` is the edge's name; `spare` proxies lead to the same callee and nobody calls them."""

    name: str
    caller: str
    callee: str
    port: int
    protocol: Literal["http", "postgresql", "redis", "tcp"]
    spare: bool = False


class PlannedPhase(Part):
    """A phase, from `at` to `until`. Baseline, fault and recovery come once in every round; warmup and drain once in all."""

    name: Literal["warmup", "baseline", "fault", "recovery", "drain"]
    at: float
    until: float
    round: int = 1


class ProxyChange(Part):
    """The state one proxy is put into. At a heal it is the state without the fault's own part."""

    proxy: str
    state: ProxyState


class ServiceChange(Part):
    """What is done to one service, to all its containers or processes. At a heal it is taken back.

    `cores` limits its processors (cpu), `bytes` its memory (memory), `lives` is how long it runs before it is killed
    again (crash_loop), `to` how many replicas go on (scale); None for every other deed.
    """

    service: Name
    deed: Deed
    cores: float | None = None
    bytes: int | None = None
    lives: float | None = None
    to: int | None = None


class Begin(Part):
    """A fault begins: every proxy it strikes is put into a state, every service it strikes meets a deed.

    One that comes and goes begins and is healed several times.
    """

    verb: Literal["begin"] = "begin"
    at: float
    round: int = 1
    fault: str
    kind: str
    changes: Items[ProxyChange] = ()
    services: Items[ServiceChange] = ()


class Heal(Part):
    """A fault ends."""

    verb: Literal["heal"] = "heal"
    at: float
    round: int = 1
    fault: str
    kind: str
    changes: Items[ProxyChange] = ()
    services: Items[ServiceChange] = ()


class Vary(Part):
    """A fault that is on becomes stronger: one step of a ramp."""

    verb: Literal["vary"] = "vary"
    at: float
    round: int = 1
    fault: str
    kind: str
    changes: Items[ProxyChange] = ()
    services: Items[ServiceChange] = ()


Step: TypeAlias = Annotated[Begin | Vary | Heal, Field(discriminator="verb")]


class WatchCounter(Part):
    """Read a Prometheus counter of a service, every second, from load begin to the end of the drain."""

    what: Literal["counter"] = "counter"
    fallback: str
    service: str
    metric: str


class WatchInvariant(Part):
    """Ask the database in the drain, from `at` on, until it has held for `hold`, at the latest `until`."""

    what: Literal["invariant"] = "invariant"
    invariant: str
    service: str
    database: str
    query: str
    equals: int
    at: float
    until: float
    hold: float


Outcome: TypeAlias = Literal["answered", "refused", "unreachable", "reset", "closed", "silent", "failed"]
"""What a probe can see. `unreachable`: no handshake; `silent`: a handshake, and no answer after it."""


class Asking(Part):
    """How a probe looks, so that it can see what it is sent for; before the fault it looks in the same way.

    `patience` is how long it waits in all, in seconds. It asks so many `times`, one after the other; with `volume` on one
    connection until so many bytes have passed each way. `closes`: then it ends its side, and waits for the other's end.
    `stays`: so long it looks whether a connection stays open on which it knows nothing to ask. While the fault lasts it
    looks `connections` times, as far as they fit into `within` seconds: a share of them is struck. With `stops` it does
    so until one is not answered; otherwise another fault may be what kept the answer away.
    """

    patience: float = 1.5
    times: int = 1
    volume: int = 0
    closes: bool = False
    stays: float = 0.2
    connections: int = 1
    within: float = 0.0
    stops: bool = True


class WatchBite(Part):
    """Probe an edge through its proxy: once in the baseline, at `at` while the fault lasts, at `again` after it was healed.

    Every round has its own, which looks in the phases of that round.

    Where the fault is on the service behind the edge, `service` names it, and `sees` what the probe must see meanwhile,
    one of these (none: nothing certain). After healing it is repeated until it is answered, or the recovery ends.
    """

    what: Literal["bite"] = "bite"
    round: int = 1
    fault: str
    proxy: str
    protocol: Literal["http", "postgresql", "redis", "tcp"]
    service: str = ""
    sees: Items[Outcome] = ()
    at: float = 0.0
    again: float = 0.0
    asking: Asking = Asking()


Observation: TypeAlias = Annotated[WatchCounter | WatchInvariant | WatchBite, Field(discriminator="what")]


class Arrivals(Part):
    """How the load arrives, as `Load` has it, and how its requests are counted.

    `seed` decides which user class and task is drawn, and Poisson gaps. `journeys` are the requests that have a plain
    name, some of them patterns of unnamed ones; `accepted` the statuses that are no error, by request;
    `allow_hosts` the hosts beside the way in that may be asked.
    """

    locustfile: str
    rate: float | None = None
    stages: Items[Stage] = ()
    users: int
    shape: bool = False
    processes: int = 1
    bind: str | None = None
    arrivals: Literal["uniform", "poisson"]
    timeout: float
    classes: Items[str] = ()
    allow_hosts: Items[str] = ()
    journeys: Items[str] = ()
    accepted: dict[str, Items[int]] = Field(default_factory=dict)
    seed: int
    seconds: float


class Plan(Part):
    """One run, decided."""

    version: Literal[1] = 1
    experiment: Experiment
    twin: str | None = None
    load: Arrivals
    proxies: Items[PlannedProxy]
    phases: Items[PlannedPhase]
    steps: Items[Step]
    observations: Items[Observation]

    @property
    def seconds(self) -> float:
        """From the begin of the load to the end of the last phase."""
        return max((phase.until for phase in self.phases), default=0.0)

    def phase(self, name: str, number: int = 1) -> PlannedPhase:
        """The phase of this name in a round, which must be there."""
        return next(phase for phase in self.phases if (phase.name, phase.round) == (name, number))
