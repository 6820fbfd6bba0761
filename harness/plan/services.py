"""Translates faults on services into deeds, and tells what a deed must have made of a service.

So it can be compared with what is read back, and with what a probe sees that looks through an edge into it.
"""

from __future__ import annotations

from typing import Any, assert_never

from harness.model.faults import FaultItem
from harness.model.kinds.service import Cpu, CrashLoop, Memory, Scale
from harness.plan.plan import Outcome, ServiceChange

WELL: dict[str, Any] = {"running": True, "paused": False}
"""A service that nothing was done to."""


def struck(change: ServiceChange) -> dict[str, Any]:  # noqa: C901 - one line for each deed
    """The state of the service while the fault lasts, as far as it is compared.

    `restarted`: its main process is no longer the one that it was; after a crash there may be none. `looping`: it was
    killed, and will be again whenever it has run for its time. `replicas`: so many of its containers run. `connected`: it
    is on at least one of its networks. Whether it runs is not said of a limit of memory, which may be the end of it.
    """
    match change.deed:
        case "kill" | "stop":
            return {"running": False}
        case "pause":
            return {"running": True, "paused": True}
        case "restart" | "crash":
            return {"restarted": True}
        case "cpu":
            return {"running": True, "cores": change.cores}
        case "memory":
            return {"bytes": change.bytes}
        case "crash_loop":
            return {"looping": True}
        case "scale":
            return {"running": True, "replicas": change.to}
        case "disconnect":
            return {"running": True, "connected": False}
        case _:
            assert_never(change.deed)


def relieved(change: ServiceChange) -> dict[str, Any]:
    """The state of the service once the fault is taken back; limits are those that it had before (`limited`: False), and so
    is the number of its replicas (`scaled`: False).
    """
    match change.deed:
        case "cpu" | "memory":
            return {**WELL, "limited": False}
        case "disconnect":
            return {**WELL, "connected": True}
        case "scale":
            return {**WELL, "scaled": False}
        case _:
            return WELL


def changes_of(item: FaultItem) -> tuple[ServiceChange, ...]:
    """What a fault does to services themselves; nothing where it strikes edges. A deed bears the name of the fault's kind."""
    fault = item.on_service
    if fault is None:
        return ()
    cores = fault.cores if isinstance(fault, Cpu) else None
    limit = fault.limit if isinstance(fault, Memory) else None
    lives = fault.lives if isinstance(fault, CrashLoop) else None
    to = fault.to if isinstance(fault, Scale) else None
    said = {"service": fault.service, "deed": item.kind, "cores": cores, "bytes": limit, "lives": lives, "to": to}
    return (ServiceChange.model_validate(said),)


BROKEN: tuple[Outcome, ...] = ("refused", "reset", "closed")


def sights_of(change: ServiceChange) -> tuple[Outcome, ...]:
    """What a probe through an edge into the service sees while the fault lasts: one of these; nothing certain where empty."""
    match change.deed:
        case "kill" | "stop" | "disconnect":
            return (*BROKEN, "silent")  # silent while a proxy still calls an address that nobody has any more
        case "pause":
            return ("silent",)
        case "restart" | "crash" | "crash_loop" | "scale" | "cpu" | "memory":
            return ()
        case _:
            assert_never(change.deed)
