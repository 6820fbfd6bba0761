"""Translates a fault on an edge into toxics, in the words of the proxies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never
from zlib import crc32

from harness.model.aiming import toxic_name
from harness.model.edges import Edge
from harness.model.faults import FaultItem
from harness.model.kinds.edge import (
    Bandwidth,
    Flaky,
    Flap,
    Latency,
    LimitData,
    Mode,
    Outage,
    Partial,
    ResetPeer,
    Slicer,
    SlowClose,
    Streamed,
    Timeout,
)
from harness.model.kinds.group import Isolate, Partition
from harness.model.kinds.http import Chosen, HttpCorrupt, HttpDelay, HttpError, LostReply
from harness.model.kinds.service import OnService
from harness.plan.plan import Attribute, Toxic, ToxicType

CLOSE_AT_ONCE_MS = 1
"""Toxiproxy's shortest timeout that is not `never`: the connection is accepted, and closed this much later."""

BOTH = ("upstream", "downstream")

NETWORK = "network"
"""The attribute of an `unreachable` that is meant to be one of the network, whatever the engine can do itself."""


def refuses(item: FaultItem) -> bool:
    """Whether the edge's proxy does not listen while the fault lasts."""
    return isinstance(item.fault, Outage | Flaky | Flap) and item.fault.mode == "refuse"


def toxics_of(item: FaultItem, edge: Edge, seed: int, journeys: Mapping[str, str]) -> tuple[Toxic, ...]:
    """The toxics that a fault sets on an edge's proxy; none where the proxy refuses, or the service itself is struck.

    `seed` is the run's, `journeys` are the load's requests by the plain names of their journeys.
    """
    fault = item.fault
    draw = crc32(f"{seed}:{item.id}:{edge.name}".encode())
    share = fault.share if isinstance(fault, Partial) else None
    toxics = [
        Toxic.model_validate(
            {"name": toxic_name(str(item.id), kind, stream), "type": kind, "stream": stream, "attributes": attributes}
        )
        for kind, stream, attributes in _said(item, edge, journeys)
    ]
    if share is not None:
        return tuple(toxic.model_copy(update={"toxicity": share, "seed": draw}) for toxic in toxics)
    if any("share" in toxic.attributes for toxic in toxics):
        return tuple(toxic.model_copy(update={"seed": draw}) for toxic in toxics)
    return tuple(toxics)


Said = list[tuple[ToxicType, str, dict[str, Attribute]]]


def _said(item: FaultItem, edge: Edge, journeys: Mapping[str, str]) -> Said:
    fault = item.fault
    match fault:
        case Outage() | Flaky() | Flap():
            return _out(fault.mode)
        case Streamed():
            kind, said = _streamed(fault)
            return [(kind, stream, said) for stream in (BOTH if fault.stream == "both" else (fault.stream,))]
        case Chosen():
            return [_requests(fault, journeys)]
        case Partition() | Isolate():
            return _parted(fault, edge)
        case OnService():
            return []  # the proxy passes on what the service makes of it
        case _:
            assert_never(fault)


def _out(mode: Mode) -> Said:
    match mode:
        case "refuse":
            return []
        case "reset":
            return [("reset_peer", "upstream", {"timeout": 0})]
        case "hang":
            return [("timeout", stream, {"timeout": 0}) for stream in BOTH]
        case "close":
            return [("timeout", "upstream", {"timeout": CLOSE_AT_ONCE_MS})]
        case "unreachable":
            return [("unreachable", "downstream", {})]
        case _:
            assert_never(mode)


def _streamed(fault: Streamed) -> tuple[ToxicType, dict[str, Attribute]]:
    match fault:
        case Latency():
            return "latency", {"latency": _ms(fault.latency), "jitter": _ms(fault.jitter)}
        case Bandwidth():
            return "bandwidth", {"rate": fault.rate}
        case SlowClose():
            return "slow_close", {"delay": _ms(fault.delay)}
        case Timeout():
            return "timeout", {"timeout": max(1, _ms(fault.timeout))}
        case ResetPeer():
            return "reset_peer", {"timeout": _ms(fault.timeout)}
        case Slicer():
            sizes: dict[str, Attribute] = {"average_size": fault.average_size, "size_variation": fault.size_variation}
            return "slicer", {**sizes, "delay": round(fault.delay * 1e6)}
        case LimitData():
            return "limit_data", {"bytes": fault.bytes}
        case _:
            raise AssertionError(fault)


def _requests(fault: Chosen, journeys: Mapping[str, str]) -> tuple[ToxicType, str, dict[str, Attribute]]:
    if isinstance(fault, LostReply) and not fault.chooses:
        if fault.mode == "reset":
            return "reset_peer", "downstream", {"timeout": 0}
        return "timeout", "downstream", {"timeout": 0}
    chosen = _chosen(fault, journeys)
    match fault:
        case HttpError():
            body: dict[str, Attribute] = {"body": fault.body} if fault.body else {}
            return "http_error", "downstream", {"status": fault.status, **body, **chosen}
        case HttpDelay():
            jitter: dict[str, Attribute] = {"jitter": _ms(fault.jitter)} if fault.jitter else {}
            return "http_delay", "downstream", {"delay": _ms(fault.delay), **jitter, **chosen}
        case HttpCorrupt():
            return "http_corrupt", "downstream", {"how": fault.how, **chosen}
        case LostReply():
            return "http_lost_reply", "downstream", {"how": fault.mode, **chosen}
        case _:
            raise AssertionError(fault)


def _chosen(fault: Chosen, journeys: Mapping[str, str]) -> dict[str, Attribute]:
    said: dict[str, Attribute | None] = {
        "methods": [fault.method] if fault.method else None,
        "path": fault.path,
        "header": fault.header,
        "journey": journeys[fault.journey] if fault.journey is not None else None,
        "first_attempt": fault.first_attempt,
        "every": fault.every,
        "share": fault.share,
    }
    return {name: value for name, value in said.items() if value is not None}


def _parted(fault: Partition | Isolate, edge: Edge) -> Said:
    """Both streams lose everything; one-way, only the stream from the first group to the second does."""
    if fault.by == "network":
        return [("unreachable", "downstream", {NETWORK: True})]
    if isinstance(fault, Isolate) or fault.direction == "both":
        streams = list(BOTH)
    else:
        streams = ["upstream" if edge.caller in fault.between[0] else "downstream"]
    return [("timeout", stream, {"timeout": 0}) for stream in streams]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
