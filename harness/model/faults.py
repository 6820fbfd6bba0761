"""What can go wrong: the kinds of fault, and where each of them strikes.

A fault is written as one line with its kind as the key; beside it stand only `id`, `at` and `for`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from harness.model.parts import Items, Name, Part
from harness.model.quantities import Duration

FAULT_KINDS = ("outage", "latency", "partition")

Deed: TypeAlias = Literal["kill", "stop", "restart", "pause", "crash", "cpu", "memory", "disconnect"]
"""What can be done to a service itself."""


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


Fault: TypeAlias = Outage | Latency | Partition


class FaultItem(Part):
    """One entry of `faults:`. `at` counts from the start of the fault phase; `for` ends with it where nothing is said."""

    id: Name | None = None
    at: Duration | None = None
    for_: Duration | None = Field(default=None, alias="for")
    outage: Outage | None = None
    latency: Latency | None = None
    partition: Partition | None = None

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
