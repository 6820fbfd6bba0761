"""What can go wrong, and when: one entry of `faults:` is one line with its kind as the key.

Beside the kind stand only `id`, `at`, `for`, `repeat` and `ramp`. The kinds themselves are in `harness.model.kinds`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from harness.model.kinds.edge import (
    Bandwidth,
    EdgeFault,
    Flaky,
    Flap,
    Latency,
    LimitData,
    Outage,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)
from harness.model.kinds.group import GroupFault, Isolate, Partition
from harness.model.kinds.http import HttpCorrupt, HttpDelay, HttpError, LostReply, RequestFault
from harness.model.kinds.service import (
    Cpu,
    Crash,
    CrashLoop,
    Disconnect,
    Kill,
    Memory,
    OnService,
    Pause,
    Restart,
    Scale,
    ServiceFault,
    Stop,
)
from harness.model.parts import Name, Part
from harness.model.quantities import Duration, format_duration

Deed: TypeAlias = Literal["kill", "stop", "restart", "pause", "crash", "crash_loop", "scale", "disconnect", "cpu", "memory"]
"""What can be done to a service itself."""

Fault: TypeAlias = EdgeFault | RequestFault | GroupFault | ServiceFault

QUANTITIES: dict[str, str] = {
    "outage": "share",
    "latency": "latency",
    "bandwidth": "rate",
    "slow_close": "delay",
    "timeout": "timeout",
    "slicer": "delay",
    "limit_data": "bytes",
    "http_error": "share",
    "http_delay": "delay",
    "http_corrupt": "share",
    "lost_reply": "share",
    "cpu": "cores",
    "memory": "limit",
}
"""What a ramp changes, by kind. Jitter keeps its proportion to what it belongs to."""

FALLING = ("bandwidth", "timeout", "limit_data", "cpu", "memory")
"""Kinds that are the worse the smaller their quantity: a ramp must say where it begins."""


class Repeat(Part):
    """The fault comes again: `every` so often from its first begin on, `times` in all, or as often as the phase has room."""

    every: Duration
    times: Annotated[int, Field(ge=2, le=1000)] | None = None


class Ramp(Part):
    """The fault grows to what it says `over` a time, `from` nothing or a given value of its quantity."""

    over: Duration
    from_: Any = Field(default=None, alias="from")

    @model_validator(mode="before")
    @classmethod
    def _duration_alone(cls, given: Any) -> Any:
        return given if isinstance(given, dict | Ramp) else {"over": given}


class FaultItem(Part):
    """One entry of `faults:`. `at` counts from the start of the fault phase; `for` ends with it where nothing is said."""

    id: Name | None = None
    at: Duration | None = None
    for_: Duration | None = Field(default=None, alias="for")
    repeat: Repeat | None = None
    ramp: Ramp | None = None
    outage: Outage | None = None
    latency: Latency | None = None
    bandwidth: Bandwidth | None = None
    slow_close: SlowClose | None = None
    timeout: Timeout | None = None
    reset_peer: ResetPeer | None = None
    slicer: Slicer | None = None
    limit_data: LimitData | None = None
    flaky: Flaky | None = None
    flap: Flap | None = None
    lost_reply: LostReply | None = None
    http_error: HttpError | None = None
    http_delay: HttpDelay | None = None
    http_corrupt: HttpCorrupt | None = None
    partition: Partition | None = None
    isolate: Isolate | None = None
    kill: Kill | None = None
    stop: Stop | None = None
    restart: Restart | None = None
    pause: Pause | None = None
    crash: Crash | None = None
    crash_loop: CrashLoop | None = None
    scale: Scale | None = None
    disconnect: Disconnect | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> FaultItem:
        if sum(getattr(self, kind) is not None for kind in FAULT_KINDS) != 1:
            found = [kind for kind in FAULT_KINDS if getattr(self, kind) is not None]
            raise PydanticCustomError(
                "kind",
                "expected exactly one fault, found {found}; there is {kinds} (chaos faults tells what each does)",
                {"found": " and ".join(found) or "an empty mapping", "kinds": ", ".join(FAULT_KINDS)},
            )
        return self

    @model_validator(mode="after")
    def _repeats_what_ends(self) -> FaultItem:
        if self.repeat is None:
            return self
        if isinstance(self.fault, Flaky | Flap):
            raise PydanticCustomError(
                "repeat", "expected no repeat with {kind}: it comes and goes by itself", {"kind": self.kind}
            )
        if self.for_ is None or self.repeat.every <= self.for_:
            lasts = "no for" if self.for_ is None else f"for: {format_duration(self.for_)}"
            found = f"{lasts} and every: {format_duration(self.repeat.every)}"
            raise PydanticCustomError(
                "repeat", "expected for, and repeat.every longer than it, found {found}", {"found": found}
            )
        return self

    @model_validator(mode="after")
    def _ramps_a_quantity(self) -> FaultItem:
        if self.ramp is None:
            return self
        name = QUANTITIES.get(self.kind)
        if name is None or getattr(self.fault, name) is None:
            if name is not None:
                message = "expected {name}, which a ramp of {kind} changes, found none"
                raise PydanticCustomError("ramp", message, {"name": name, "kind": self.kind})
            message = "expected a kind that has a ramp, found {kind}; there is {ramped}"
            raise PydanticCustomError("ramp", message, {"ramped": ", ".join(QUANTITIES), "kind": self.kind})
        if self.ramp.from_ is None and self.kind in FALLING:
            raise PydanticCustomError(
                "ramp",
                "expected ramp: {over: …, from: …}, with the {quantity} to begin at: the smaller it is, the worse",
                {"quantity": name},
            )
        if self.ramp.over <= 0:
            raise PydanticCustomError("ramp", "expected a ramp that takes some time, found one over 0s")
        begins, ends = self.ramp_from(), getattr(self.fault, name)
        if begins == ends or (begins > ends) != (self.kind in FALLING):
            message = "expected a ramp that makes the fault worse, found {name} that goes from {begins} to {ends}"
            found = {"name": name, "begins": f"{begins:g}", "ends": f"{ends:g}"}
            raise PydanticCustomError("ramp", message, found)
        return self

    def ramp_from(self) -> float:
        """The value of the quantity that a ramp begins at; it must be one that the kind takes, or be left out."""
        ramp = self.ramp
        if ramp is None or ramp.from_ is None:
            return 0.0
        if not isinstance(ramp.from_, (int, float) if self.kind == "cpu" else str) or isinstance(ramp.from_, bool):
            what = "a number" if self.kind == "cpu" else "a quantity with its unit"
            found = {"what": what, "found": repr(ramp.from_)}
            raise PydanticCustomError("ramp", "expected {what} as ramp.from, found {found}", found)
        field = type(self.fault).model_fields[QUANTITIES[self.kind]]
        kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        try:
            return float(TypeAdapter(kind).validate_python(ramp.from_))
        except ValidationError as error:
            details = error.errors()[0]
            raise PydanticCustomError("ramp", "expected ramp.from to fit: {why}", {"why": details["msg"]}) from error

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
        return fault if isinstance(fault, OnService) else None


FAULT_KINDS: tuple[str, ...] = tuple(
    name for name, field in FaultItem.model_fields.items() if name not in ("id", "at", "for_", "repeat", "ramp")
)

KINDS: dict[str, type[Part]] = {kind: get_args(FaultItem.model_fields[kind].annotation)[0] for kind in FAULT_KINDS}
"""Every kind of fault, by the key it is written with."""
