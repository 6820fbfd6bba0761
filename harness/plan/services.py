"""What a deed done to a service must have made of it, so that it can be compared with what is read back."""

from __future__ import annotations

from typing import Any, assert_never

from harness.plan.plan import ServiceChange

WELL: dict[str, Any] = {"running": True, "paused": False}
"""A service that nothing was done to."""


def struck(change: ServiceChange) -> dict[str, Any]:
    """The state of the service while the fault lasts, as far as it is compared.

    `restarted`: its main process is another than before. `connected`: it is on at least one of its networks.
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
            return {"running": True, "bytes": change.bytes}
        case "disconnect":
            return {"running": True, "connected": False}
        case _:
            assert_never(change.deed)


def relieved(change: ServiceChange) -> dict[str, Any]:
    """The state of the service once the fault is taken back; limits are those that it had before (`limited`: False)."""
    match change.deed:
        case "cpu" | "memory":
            return {**WELL, "limited": False}
        case "disconnect":
            return {**WELL, "connected": True}
        case _:
            return WELL
