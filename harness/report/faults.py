"""A fault in a word or two, as one says it behind the name of what it strikes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from harness.model.faults import QUANTITIES, Fault, FaultItem
from harness.model.kinds.edge import (
    Bandwidth,
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
from harness.model.kinds.group import Isolate, Partition
from harness.model.kinds.http import Chosen, HttpCorrupt, HttpDelay, HttpError, LostReply
from harness.model.kinds.service import Cpu, CrashLoop, Memory, OnService, Scale
from harness.model.quantities import format_data_rate, format_share, format_size
from harness.report.plain import clean
from harness.report.wording import duration

LONGEST_CHOICE = 60

OUT = {"refuse": "refused", "reset": "reset", "hang": "hangs", "close": "closed", "unreachable": "unreachable"}

DEEDS_DONE = {
    "kill": "killed",
    "stop": "stopped",
    "restart": "restarted",
    "pause": "paused",
    "crash": "crashed",
    "disconnect": "disconnected",
}


def fault_in_words(item: FaultItem | None, kind: str) -> str:
    """What a fault does to an edge or a service."""
    if item is None:
        return kind
    if item.on_service is not None:
        return _of_a_service(item.on_service, kind) + _growing(item)
    return _of_an_edge(item.fault) + _some_of(item.fault) + _growing(item)


def _growing(item: FaultItem) -> str:
    """From what to what, and how slowly, where it grows."""
    if item.ramp is None:
        return ""
    name = QUANTITIES[item.kind]
    begins, ends = (_quantity(name, value) for value in (item.ramp_from(), getattr(item.fault, name)))
    return f", from {begins} to {ends} over {duration(item.ramp.over)}"


def _quantity(name: str, value: float) -> str:
    match name:
        case "share":
            return format_share(value)
        case "rate":
            return format_data_rate(int(value))
        case "bytes" | "limit":
            return format_size(int(value))
        case "cores":
            return f"{value:g}"
        case _:
            return duration(value)


def _some_of(fault: Fault) -> str:
    """Which connections or requests, where it is not all of them."""
    if isinstance(fault, Chosen):
        return "".join(f", {word}" for word in _chosen(fault))
    share = None if isinstance(fault, Flaky) else getattr(fault, "share", None)
    return f", {format_share(share)}" if share is not None else ""


def _chosen(fault: Chosen) -> Iterator[str]:
    """What a request must meet to be struck."""
    if fault.method or fault.path:
        yield clean(" ".join(filter(None, (fault.method, fault.path))), LONGEST_CHOICE)
    if fault.header:
        yield clean(f"with {fault.header}", LONGEST_CHOICE)
    if fault.journey:
        yield clean(f"of {fault.journey}", LONGEST_CHOICE)
    if fault.first_attempt:
        yield "first attempts"
    if fault.every is not None:
        yield f"every {_ordinal(fault.every)}"
    if fault.share is not None:
        yield format_share(fault.share)


def _ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _of_a_service(fault: OnService, kind: str) -> str:
    match fault:
        case Cpu(cores=cores):
            return f"at {cores:g} cores"
        case Memory(limit=limit):
            return f"at {format_size(limit)}"
        case Scale(to=to):
            return f"scaled to {to}"
        case CrashLoop(lives=lives):
            return f"crashes every {duration(lives)}"
        case _:
            return DEEDS_DONE.get(kind, kind)  # a later version may have more


def _of_an_edge(fault: Fault) -> str:
    match fault:
        case Outage(mode=mode):
            return OUT[mode]
        case Flaky(share=share, mode=mode):
            return f"{OUT[mode]} {format_share(share)} of the time"
        case Flap(period=period, duty=duty, mode=mode):
            return f"{OUT[mode]} for {duration(duty * period)} of every {duration(period)}"
        case Partition() | Isolate():
            return "parted"
        case HttpError() | HttpDelay() | HttpCorrupt() | LostReply():
            return _of_requests(fault)
        case OnService():
            return ""
        case _:
            return _of_bytes(fault)


def _of_bytes(fault: Latency | Bandwidth | SlowClose | Timeout | ResetPeer | Slicer | LimitData) -> str:
    match fault:
        case Latency(latency=latency, jitter=jitter):
            return f"+{duration(latency)}" + (f" ± {duration(jitter)}" if jitter else "")
        case Bandwidth(rate=rate):
            return format_data_rate(rate)
        case SlowClose(delay=delay):
            return f"closed {duration(delay)} later"
        case Timeout(timeout=timeout):
            return f"silent, closed after {duration(timeout)}"
        case ResetPeer():
            return "reset"
        case Slicer(average_size=size):
            return f"in slices of {format_size(size)}"
        case LimitData(bytes=most):
            return f"closed after {format_size(most)}"
        case _:
            assert_never(fault)


def _of_requests(fault: HttpError | HttpDelay | HttpCorrupt | LostReply) -> str:
    match fault:
        case HttpError(status=status):
            return f"answers {status}"
        case HttpDelay(delay=delay, jitter=jitter):
            return f"+{duration(delay)}" + (f" ± {duration(jitter)}" if jitter else "")
        case HttpCorrupt(how=how):
            return "truncated" if how == "truncate" else "corrupted"
        case LostReply():
            return "replies lost"
        case _:
            assert_never(fault)
