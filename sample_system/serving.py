"""What every service has in common: how it is started, asked whether it is well, and ended."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sample_system.defects import planted
from sample_system.telemetry import Tracing, log_to_stdout
from sample_system.unavailable import DependencyUnavailable

KEEP_ALIVE_SECONDS = 30
"""Longer than any caller keeps an idle connection, so that none is closed under a request just being sent."""

LAST_REQUESTS_SECONDS = 0.5


def setting(name: str) -> str:
    """A setting that the service cannot do without, from its environment."""
    value = os.environ.get(name, "")
    if not value:
        sys.exit(f"{name}: expected it in the environment, found nothing")
    return value


def application(
    routes: Sequence[Route], *, parts: Sequence[AbstractAsyncContextManager[Any]] = (), ready: Callable[[], bool]
) -> Starlette:
    """The service as an ASGI application: its own routes, its health and its metrics.

    `parts` live as long as it does; they are entered in order and left in reverse.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            for part in parts:
                await opened.enter_async_context(part)
            yield

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def readiness(_: Request) -> Response:
        return JSONResponse({"status": "ready"}) if ready() else JSONResponse({"status": "not ready"}, 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    common = [Route("/health/live", live), Route("/health/ready", readiness), Route("/metrics", metrics)]
    return Starlette(
        routes=[*routes, *common],
        middleware=[Middleware(Tracing)],
        exception_handlers={DependencyUnavailable: answer_unavailable},  # type: ignore[dict-item]
        lifespan=lifespan,
    )


async def answer_unavailable(_: Request, error: DependencyUnavailable) -> Response:
    """The answer when a dependency is away and nothing takes its place; it names the one that failed."""
    status = 504 if error.timed_out else 503
    return JSONResponse({"error": error.reason, "dependency": error.dependency}, status)


def serve(service: str, application: Starlette) -> NoReturn:
    """Answer requests until SIGTERM, then end at once with success."""
    arguments = argparse.ArgumentParser(prog=f"python -m sample_system.{service}")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=8000)
    given = arguments.parse_args()
    planted(service, os.environ)  # a defect that this service does not have is refused, not ignored
    log_to_stdout(service)
    # uvicorn raises the signal that ended it once more when all is closed: let that be a success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        application,
        host=given.host,
        port=given.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=LAST_REQUESTS_SECONDS,  # type: ignore[arg-type]
    )
    uvicorn.Server(config).run()
    sys.exit(0)
