"""What can go wrong: the kinds of fault, and where each of them strikes.

A fault is written as one line with its kind as the key; beside it stand only `id`, `at` and `for`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from harness.model.parts import Items, Name, Part
from harness.model.quantities import Duration, Size, format_size

Deed: TypeAlias = Literal["kill", "stop", "restart", "pause", "crash", "cpu", "memory", "disconnect"]
"""What can be done to a service itself."""

FAULT_KINDS: tuple[str, ...] = ("outage", "latency", "partition", *get_args(Deed))

BEYOND_PROCESSES: tuple[Deed, ...] = ("cpu", "memory", "disconnect")
"""What can be done to a container, and not to a process of this machine."""

LEAST_CORES = 0.01
LEAST_MEMORY = 6 * 1024**2
"""The smallest limits that Docker takes."""


class Aim(Part):
    """Where a fault strikes: one edge, every edge into a service, or every edge out of one."""

    edge: str | None = None
    service: Name | None = None
    from_: Name | None = Field(default=None, alias="from")

    @model_validator(mode="after")
    def _one_aim(self) -> Aim:
        if sum(aim is not None for aim in (self.edge, self.service, self.from_)) != 1:
            raise PydanticCustomError("aim", "expected exactly one of the keys edge, service and from")
        return self


class Outage(Aim):
    """The callee is away.

    `refuse`: new connections are refused, open ones are closed. `reset`: a connection is accepted and
    reset at its first data, which the callee never sees. `hang`: connections are accepted, nothing ever
    comes back, healing closes them. `close`: connections are accepted, then closed at once.
    """

    mode: Literal["refuse", "reset", "hang", "close"] = "refuse"


class Latency(Aim):
    """Every reply comes later by `latency`, give or take `jitter`; open connections feel it too."""

    latency: Duration
    jitter: Duration = 0.0


class Partition(Part):
    """Nothing passes between two groups of services; `one-way`: nothing from the first to the second.

    Data are lost, connections stay open until healing closes them. The TCP handshake still succeeds,
    which in a partition by the network it does not.
    """

    between: Items[Items[Name]]
    direction: Literal["both", "one-way"] = "both"

    @model_validator(mode="after")
    def _two_groups(self) -> Partition:
        if len(self.between) != 2 or not all(self.between) or set(self.between[0]) & set(self.between[1]):
            raise PydanticCustomError("groups", "expected two groups of services that share none, such as [[order], [payment]]")
        return self


class OnService(Part):
    """A fault on a service itself: on every container of it, or on its process with all that descends from it."""

    service: Name


class Kill(OnService):
    """The service is killed at once (SIGKILL), and is down until it is started again at the heal, whatever its restart policy.

    Open connections end at once; new ones are accepted by the proxy and reset or closed at once, never refused: so it is
    no machine that is gone, whose silence a caller has to wait out. Healing it, the service starts anew, with what it had
    on disk and nothing of what it had in memory; it answers when it is ready again.
    """


class Stop(OnService):
    """The service is asked to end (SIGTERM, or the signal it has for that), and killed where it has not within 10 s.

    It may end what it has begun; open connections end when it closes them. New ones are accepted by the proxy and reset
    or closed at once. Healing it, the service starts anew. It begins when the service is down, not when it is asked.
    """


class Restart(OnService):
    """The service is stopped, as by `stop`, and started again at once.

    Open connections end; new ones are reset or closed until it is ready again. The deed is over when the new process
    runs: the rest of the fault's time shows how it comes up. Healing only makes sure that it runs.
    """


class Pause(OnService):
    """The service stands still: all its processes are frozen, and nothing of it is lost.

    Open connections stay open and go silent; new ones are accepted, and nothing comes back. What was sent meanwhile is
    answered when it goes on at the heal. Its own clocks go on, so that its timeouts may be over when it wakes. A
    network that loses packets is not imitated: the kernel goes on acknowledging what arrives.
    """


class Crash(OnService):
    """The main process of the service is killed, and whoever is there to do so starts it again: its restart policy.

    Open connections end; new ones are reset or closed until it is ready again. Without a `restart:` in the Compose
    file it stays down until the heal, which otherwise only makes sure that it runs. A crash leaves no core file, and
    no message of the service: it had no time for one.
    """


class Disconnect(OnService):
    """The service is taken off its networks, and put back at the heal.

    Open connections go silent; new ones are accepted by the proxy and closed or reset at once. Calls of its own fail
    too. Healing leaves connections that both sides still hold where they were; whether they live on is theirs. In a
    cut by the network a caller would meet silence already at the handshake.
    """


class Cpu(OnService):
    """The service may use no more than `cores` of a processor, until the heal lifts it to what it had before.

    Connections, open or new, are only slower, as far as the service needs more than that.
    """

    cores: Annotated[float, Field(ge=LEAST_CORES, allow_inf_nan=False)]


class Memory(OnService):
    """The service may use no more memory than `limit`, swap included, until the heal lifts it to what it had before.

    One that needs more is slowed by reclaiming, then killed by the kernel, and its restart policy acts; its connections
    then end. A limit under what it uses now may be refused.
    """

    limit: Size

    @field_validator("limit")
    @classmethod
    def _enough(cls, limit: int) -> int:
        if limit < LEAST_MEMORY:
            raise PydanticCustomError(
                "limit",
                "expected a limit of at least {least}, the least that Docker takes, found {found}",
                {"least": format_size(LEAST_MEMORY), "found": format_size(limit)},
            )
        return limit


ServiceFault: TypeAlias = Kill | Stop | Restart | Pause | Crash | Disconnect | Cpu | Memory
Fault: TypeAlias = Outage | Latency | Partition | ServiceFault


class FaultItem(Part):
    """One entry of `faults:`. `at` counts from the start of the fault phase; `for` ends with it where nothing is said."""

    id: Name | None = None
    at: Duration | None = None
    for_: Duration | None = Field(default=None, alias="for")
    outage: Outage | None = None
    latency: Latency | None = None
    partition: Partition | None = None
    kill: Kill | None = None
    stop: Stop | None = None
    restart: Restart | None = None
    pause: Pause | None = None
    crash: Crash | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None
    disconnect: Disconnect | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> FaultItem:
        if sum(getattr(self, kind) is not None for kind in FAULT_KINDS) != 1:
            raise PydanticCustomError("kind", "expected exactly one fault, one of {kinds}", {"kinds": ", ".join(FAULT_KINDS)})
        return self

    @property
    def kind(self) -> str:
        """The key the fault was written with."""
        return next(kind for kind in FAULT_KINDS if getattr(self, kind) is not None)

    @property
    def fault(self) -> Fault:
        """The fault itself."""
        fault: Fault = getattr(self, self.kind)
        return fault

    @property
    def on_service(self) -> ServiceFault | None:
        """The fault, where it strikes a service itself and no edge."""
        fault = self.fault
        return None if isinstance(fault, Outage | Latency | Partition) else fault
