"""What a service tells about itself: structured logs, the trace a request belongs to, and metrics."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from contextvars import ContextVar

from prometheus_client import Counter, disable_created_metrics
from starlette.types import ASGIApp, Receive, Scope, Send

disable_created_metrics()  # type: ignore[no-untyped-call]

FALLBACKS = Counter("fallback", "Requests answered by a fallback.", ["name", "dependency"])
ATTEMPTS = Counter("dependency_attempts", "Calls of another service, each try by itself.", ["dependency", "outcome"])

traceparent: ContextVar[str] = ContextVar("traceparent", default="")
"""The trace of the request being handled, as this service hands it on (https://www.w3.org/TR/trace-context/)."""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
_NOT_OURS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def continued(header: str) -> str:
    """The trace that came in, with this service as the parent of what follows; a new one where none came in."""
    match = _TRACEPARENT.fullmatch(header)
    trace, flags = match.groups() if match else (secrets.token_hex(16), "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"


class Tracing:
    """Keeps the trace of a request for all that is done on its behalf."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            incoming = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
            traceparent.set(continued(incoming.decode("latin-1")))
        await self.app(scope, receive, send)


class JsonLines(logging.Formatter):
    """One JSON object a line; what is given as `extra` stands in it by name."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, whatever its fields are."""
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "service": self.service,
            "message": record.getMessage(),
            "traceparent": traceparent.get(),
            **{name: value for name, value in vars(record).items() if name not in _NOT_OURS},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value != ""}, default=str)


def log_to_stdout(service: str) -> None:
    """Send every log of this process to standard output, as JSON lines."""
    out = logging.StreamHandler(sys.stdout)
    out.setFormatter(JsonLines(service))
    logging.basicConfig(level=logging.INFO, handlers=[out], force=True)
