"""What was recorded of a run, for whoever wants to ask it something of their own:

    from harness.history import read_history

    history = read_history("reports/shipping_down/latest")
    fault = history.due_in(history.phases["fault"])
    print(len(fault), 1 - fault.ok.mean())

What stands here stays; what is imported from the modules below may change with any release.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.history.export import EXPORTED, exported
    from harness.history.history import History, Window, read_history
    from harness.history.parquet import SCHEMA
    from harness.history.requests import OUTCOMES, Request
    from harness.history.table import Requests

__all__ = ["EXPORTED", "OUTCOMES", "SCHEMA", "History", "Request", "Requests", "Window", "exported", "read_history"]

_PLACES = {
    "EXPORTED": "export",
    "OUTCOMES": "requests",
    "SCHEMA": "parquet",
    "History": "history",
    "Request": "requests",
    "Requests": "table",
    "Window": "history",
    "exported": "export",
    "read_history": "history",
}


def __getattr__(name: str) -> Any:
    """Each is imported when it is asked for: the load process and the guardian want the small ones, without the columns."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"harness.history.{_PLACES[name]}"), name)
