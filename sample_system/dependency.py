"""Calls of another service: how long a caller waits, how often it tries, and how many calls it has open."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from sample_system.telemetry import ATTEMPTS, traceparent
from sample_system.unavailable import DependencyUnavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """What a caller grants a dependency: seconds for each try, how many tries, and how many calls at the same time.

    A call that waits for its turn spends its own time. `attempt` is None where nothing limits a try.
    """

    attempt: float | None
    tries: int = 1
    at_once: int = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What a dependency answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


def seconds_from_now(seconds: float) -> float:
    """A deadline, on the clock that deadlines are compared with."""
    return asyncio.get_running_loop().time() + seconds


class Dependency:
    """Another service, by its address, open for calls while the service runs."""

    def __init__(self, name: str, url: str, patience: Patience) -> None:
        self.name, self.url, self.patience = name, url.rstrip("/"), patience

    async def __aenter__(self) -> Dependency:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.patience.at_once, keepalive_timeout=15),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def ask(self, method: str, path: str, body: Any = None, *, key: str = "", deadline: float | None = None) -> Answer:
        """Call an operation that may be repeated, as often as patience allows and not beyond the deadline.

        `key` lets the dependency recognise a repetition. Its own errors (5xx) count as unavailable.
        """
        headers = {"content-type": "application/json"} | ({"idempotency-key": key} if key else {})
        content = None if body is None else json.dumps(body).encode()
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(self.patience.tries),
            wait=wait_exponential_jitter(multiplier=0.01, max=0.2, jitter=0.02),
            retry=retry_if_exception_type(DependencyUnavailable),
            reraise=True,
        ):
            with attempt:
                answer = await self.send(method, path, content, headers=headers, deadline=deadline)
                if answer.status >= 500:
                    raise self._unavailable(f"answered {answer.status}")
        return answer

    async def send(
        self, method: str, path: str, content: bytes | None = None, *, headers: dict[str, str], deadline: float | None = None
    ) -> Answer:
        """Send one request and return its answer, whatever it says."""
        timeout = aiohttp.ClientTimeout(total=self._time_left(deadline))
        sent = headers | {"traceparent": traceparent.get()}
        try:
            async with self.session.request(method, self.url + path, data=content, headers=sent, timeout=timeout) as response:
                answer = Answer(
                    response.status, {name.lower(): value for name, value in response.headers.items()}, await response.read()
                )
        except TimeoutError as error:
            ATTEMPTS.labels(self.name, "timeout").inc()
            raise self._unavailable("did not answer in time", timed_out=True) from error
        except (aiohttp.ClientError, OSError) as error:
            ATTEMPTS.labels(self.name, "error").inc()
            raise self._unavailable(f"{type(error).__name__}: {error}") from error
        ATTEMPTS.labels(self.name, f"{answer.status // 100}xx").inc()
        return answer

    def _time_left(self, deadline: float | None) -> float | None:
        if deadline is None or self.patience.attempt is None:
            return self.patience.attempt
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise self._unavailable("the deadline of the request had passed", timed_out=True)
        return min(left, self.patience.attempt)

    def _unavailable(self, reason: str, *, timed_out: bool = False) -> DependencyUnavailable:
        log.warning("dependency failed", extra={"dependency": self.name, "reason": reason})
        return DependencyUnavailable(self.name, reason, timed_out=timed_out)
