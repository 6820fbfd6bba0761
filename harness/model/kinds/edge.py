"""Faults on edges: what people mean by one, and Toxiproxy's own words for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from harness.model.kinds.page import HOUR, Between, Page, whole_milliseconds
from harness.model.parts import Name, Part
from harness.model.quantities import DataRate, Duration, Fraction, Size, format_duration

Stream: TypeAlias = Literal["upstream", "downstream", "both"]
"""`upstream`: from the caller to the callee; `downstream`: back again."""

Mode: TypeAlias = Literal["refuse", "reset", "hang", "close", "unreachable"]

LONGEST_RESET = 5.0
"""Seconds: a Toxiproxy cannot be asked to take a reset_peer back before its timeout is over."""

SHORTEST_WINDOW = 1.0
"""Seconds: a window of a fault that comes and goes must be long enough to be seen."""

Delay = Annotated[Duration, Between(0.001, HOUR), AfterValidator(whole_milliseconds)]
NoDelay = Annotated[Duration, Between(0.0, HOUR), AfterValidator(whole_milliseconds)]
Window = Annotated[Duration, Between(SHORTEST_WINDOW, HOUR)]
Portion = Annotated[Fraction, Between(0.001, 1.0, "%")]


def never_earlier(name: str) -> Callable[[Any], Any]:
    """Checks that jitter takes nothing from a delay that is not there."""

    def check(fault: Any) -> Any:
        delay = getattr(fault, name)
        if fault.jitter > delay:
            raise PydanticCustomError(
                "jitter",
                "expected a jitter of at most the {name}: nothing comes early; found jitter: {jitter} with {name}: {delay}",
                {"name": name, "jitter": format_duration(fault.jitter), "delay": format_duration(delay)},
            )
        return fault

    return check


class Aim(Part):
    """Where a fault strikes: one edge, every edge into a service, or every edge out of one."""

    edge: str | None = None
    service: Name | None = None
    from_: Name | None = Field(default=None, alias="from")

    @model_validator(mode="after")
    def _one_aim(self) -> Aim:
        aims = sum(aim is not None for aim in (self.edge, self.service, self.from_))
        if aims == 0:
            raise PydanticCustomError(
                "aim", "expected where it strikes, exactly one of the keys edge, service and from; found none"
            )
        if aims > 1:
            raise PydanticCustomError("aim", "expected exactly one of the keys edge, service and from")
        return self


class Partial(Aim):
    """A fault that may strike a share of the connections only, drawn when the run is planned (embedded engine)."""

    share: Portion | None = None


class Streamed(Partial):
    """A fault on the bytes of one direction or both."""

    stream: Stream = "downstream"


class Outage(Partial):
    """The callee is away: new connections are refused, or reset, or hang, or are closed, or find nobody to shake hands with.

    `refuse`: refused. `reset`: accepted, and reset at their first data, which the callee never sees. `hang`: accepted, and
    nothing ever comes back. `close`: accepted, then closed at once. `unreachable`: neither accepted nor refused.
    """

    mode: Mode = "refuse"

    page: ClassVar[Page] = Page(
        begin="refuse and close: closed. reset: closed at their next data. hang and unreachable: they go silent",
        heal="hang: closed, since data were lost. unreachable: they live on, and nothing was lost. Otherwise new ones pass",
        sees="an error at once (refuse, reset, close), or none until its own timeout (hang: for the answer; "
        "unreachable: for the handshake)",
        misses="but for unreachable, a proxy that hangs completes the handshake and acknowledges bytes, so that neither "
        "connect timeouts nor TCP_USER_TIMEOUT fire; names go on resolving",
        example="outage: {service: shipping, mode: refuse}",
    )

    @model_validator(mode="after")
    def _no_share_of_a_listener(self) -> Outage:
        if self.share is not None and self.mode in ("refuse", "unreachable"):
            raise PydanticCustomError(
                "share",
                "expected no share with mode {mode}: a listener is there or not; use mode reset, close or hang, or flaky",
                {"mode": self.mode},
            )
        return self


class Latency(Streamed):
    """Every chunk of data comes later by `latency`, give or take `jitter`; their order is kept."""

    latency: Delay
    jitter: NoDelay = 0.0

    _earlier = model_validator(mode="after")(never_earlier("latency"))

    page: ClassVar[Page] = Page(
        begin="they feel it at once",
        heal="what is held is delivered at once",
        sees="answers that come later; a protocol of several round trips pays several times",
        misses="the handshake and a bare close are not delayed; no packet is lost or overtaken",
        example="latency: {edge: order -> payment, latency: 300ms, jitter: 50ms}",
    )


class Bandwidth(Streamed):
    """No more than `rate` passes, on each connection by itself; 1 KB is 1000 bytes."""

    rate: Annotated[DataRate, Between(1, 10_000_000, "KB/s")]

    page: ClassVar[Page] = Page(
        begin="they feel it at once",
        heal="the rest passes at full speed",
        sees="large answers that come slowly; small ones are hardly later",
        misses="connections do not share the rate, as they would share a link",
        example="bandwidth: {edge: gateway -> catalog, rate: 20KB/s}",
    )


class SlowClose(Streamed):
    """The end of a connection comes later by `delay`; its data do not."""

    delay: Delay

    page: ClassVar[Page] = Page(
        begin="they feel it when they are closed",
        heal="a close that is held happens at once",
        sees="connections that stay open longer than asked: pools and limits fill up",
        misses="the callee's own side may be closed already",
        example="slow_close: {edge: order -> shipping, delay: 2s}",
    )


class Timeout(Streamed):
    """All data are lost; a connection is closed when there have been none for `timeout`."""

    timeout: Delay

    page: ClassVar[Page] = Page(
        begin="they go silent, and are closed after the timeout, idle ones too",
        heal="every open one is closed",
        sees="silence, then a closed connection; the timer starts anew with each chunk sent",
        misses="it is no limit to the length of a call, as the timeout of a load balancer is",
        example="timeout: {edge: order -> shipping, timeout: 1s}",
    )


class ResetPeer(Streamed):
    """The first data are swallowed, and after `timeout` the connection is reset."""

    timeout: Annotated[Duration, Between(0.0, LONGEST_RESET), AfterValidator(whole_milliseconds)] = 0.0

    page: ClassVar[Page] = Page(
        begin="closed at their next data: with a reset by the embedded engine, without one by Toxiproxy",
        heal="Toxiproxy closes them, the embedded engine those whose data it swallowed",
        sees="a reset. Downstream (the default) the request was carried out; upstream the callee never saw it",
        misses="idle connections are not reset, as a firewall that forgets them would",
        example="reset_peer: {edge: order -> payment, stream: upstream, timeout: 100ms}",
    )


class Slicer(Streamed):
    """Data come in slices of about `average_size`, give or take `size_variation`, with a pause of `delay` after each."""

    average_size: Annotated[Size, Between(1, 2**31 - 1, "B")]
    size_variation: Annotated[Size, Between(0, 2**31 - 1, "B")] = 0
    delay: Annotated[Duration, Between(0.0, 60.0)] = 0.0

    page: ClassVar[Page] = Page(
        begin="they feel it at once",
        heal="the rest passes whole",
        sees="answers in many small reads: what takes one read for one message breaks",
        misses="the network may put slices together again",
        example="slicer: {edge: order -> payment, average_size: 64B, size_variation: 16B, delay: 10ms}",
    )

    @model_validator(mode="after")
    def _varies_less_than_it_is(self) -> Slicer:
        if self.size_variation >= self.average_size:
            raise PydanticCustomError("slicer", "expected a size_variation that is less than the average_size")
        return self


class LimitData(Streamed):
    """A connection is closed once `bytes` of it have passed."""

    bytes: Annotated[Size, Between(0, 2**40, "B")]

    page: ClassVar[Page] = Page(
        begin="they are counted from now on",
        heal="they live on without a limit",
        sees="answers that end in the middle",
        misses="the limit is one of bytes, not of messages",
        example="limit_data: {edge: gateway -> catalog, bytes: 2KB}",
    )


class Flaky(Aim):
    """The edge is bad in windows drawn from the seed: for `share` of the time, each window `mean` long on average."""

    share: Annotated[Fraction, Between(0.05, 0.95, "%")]
    mean: Window = 2.0
    mode: Mode = "refuse"

    page: ClassVar[Page] = Page(
        begin="as with an outage of this mode, at the begin of each window",
        heal="as with an outage of this mode, at the end of each window",
        sees="calls that fail for a while and then do not: retries and breakers are put to the test",
        misses="within a window all connections are struck, not a share of them",
        example="flaky: {edge: order -> payment, share: 30%, mean: 2s, mode: reset}",
    )


class Flap(Aim):
    """The edge is bad and good in turns: bad for `duty` of each `period`, beginning with bad."""

    period: Annotated[Duration, Between(2 * SHORTEST_WINDOW, HOUR)]
    duty: Annotated[Fraction, Between(0.05, 0.95, "%")] = 0.5
    mode: Mode = "refuse"

    page: ClassVar[Page] = Page(
        begin="as with an outage of this mode, at the begin of each period",
        heal="as with an outage of this mode, at the end of the bad part of each period",
        sees="an edge that comes and goes: breakers that open and close, pools that are built up again and again",
        misses="the turns are exact, where real ones wander; flaky draws them",
        example="flap: {edge: order -> shipping, period: 4s, duty: 50%}",
    )

    @model_validator(mode="after")
    def _windows_are_long_enough(self) -> Flap:
        if min(self.duty, 1 - self.duty) * self.period < SHORTEST_WINDOW:
            raise PydanticCustomError("flap", "expected a period and a duty that leave at least 1s bad and 1s good")
        return self


EdgeFault: TypeAlias = Outage | Latency | Bandwidth | SlowClose | Timeout | ResetPeer | Slicer | LimitData | Flaky | Flap
