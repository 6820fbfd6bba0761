"""Faults on a service itself: on its containers, or its process."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

from pydantic import Field

from harness.model.kinds.page import HOUR, Between, Page
from harness.model.parts import Name, Part
from harness.model.quantities import Duration, Size

LEAST_CORES = 0.01
LEAST_MEMORY = 6 * 1024**2
"""The smallest limits that Docker takes."""

MOST_CORES, MOST_MEMORY = 1024.0, 4096 * 1024**3

SHORTEST_LIFE = 0.2
"""Seconds: how long a service must be let run before it is killed again."""


class OnService(Part):
    """A fault on a service itself: on every container of it, or on its process with all that descends from it."""

    service: Name


class Kill(OnService):
    """The service is killed at once (SIGKILL), and stays down until the heal, whatever its restart policy."""

    page: ClassVar[Page] = Page(
        begin="they end at once",
        heal="new ones pass when the service is ready again",
        sees="resets and closed connections",
        misses="the proxy accepts before it finds that nobody is there: nobody is refused, and nobody waits for a "
        "handshake, as with a machine that is gone",
        example="kill: {service: payment}",
    )


class Stop(OnService):
    """The service is asked to end (SIGTERM, or the signal it has for that), and killed where it has not within 10 s."""

    page: ClassVar[Page] = Page(
        begin="they end when the service closes them, at the latest after 10 s",
        heal="new ones pass when the service is ready again",
        sees="first nothing, while it ends what it has begun; then resets and closed connections",
        misses="nobody is refused: the proxy accepts before it finds that nobody is there",
        example="stop: {service: payment}",
    )


class Restart(OnService):
    """The service is stopped, as by `stop`, and started again at once."""

    page: ClassVar[Page] = Page(
        begin="they end",
        heal="new ones pass when the service is ready again, which may be long before the heal",
        sees="resets and closed connections until it is ready",
        misses="a new release, a new address, and an empty cache of somebody else",
        example="restart: {service: payment}",
    )


class Pause(OnService):
    """The service stands still: all its processes are frozen, and nothing of it is lost."""

    page: ClassVar[Page] = Page(
        begin="they go silent",
        heal="they live on, and what was sent meanwhile is answered",
        sees="connections that are made, and no answer on them",
        misses="a network that loses packets: the kernel goes on acknowledging",
        example="pause: {service: postgres}",
    )


class Crash(OnService):
    """The main process of the service is killed, and whoever is there to do so starts it again: its restart policy."""

    page: ClassVar[Page] = Page(
        begin="they end at once",
        heal="new ones pass when the service is ready again",
        sees="resets and closed connections until it is ready",
        misses="a core file, and the last words of a program that knows that it dies",
        example="crash: {service: order}",
    )


class CrashLoop(OnService):
    """The main process of the service is killed, again and again: each time it has run for `lives`, until the heal."""

    lives: Annotated[Duration, Between(SHORTEST_LIFE, HOUR)] = 1.0

    page: ClassVar[Page] = Page(
        begin="they end at once",
        heal="new ones pass when the service is ready again",
        sees="a service that is there for moments: some calls get through, most end in resets and closed connections",
        misses="a bad release that never becomes ready; the pauses are those of the restart policy",
        example="crash_loop: {service: order, lives: 2s}",
    )


class Scale(OnService):
    """Only `to` of the service's replicas go on; the others are stopped, and started again at the heal."""

    to: Annotated[int, Field(ge=1, le=1000)]

    page: ClassVar[Page] = Page(
        begin="those to replicas that are stopped end",
        heal="new ones reach all replicas again when they are ready",
        sees="answers that come later where the rest cannot carry the load",
        misses="the proxy has one address for all replicas: how a caller balances between them is not put to the test",
        example="scale: {service: worker, to: 1}",
    )


class Disconnect(OnService):
    """The service is taken off its networks, and put back at the heal."""

    page: ClassVar[Page] = Page(
        begin="they go silent",
        heal="they live on where both sides still hold them",
        sees="resets and closed connections; the calls of the service itself fail too",
        misses="silence already at the handshake, as in a cut by the network: for that, isolate it by network",
        example="disconnect: {service: payment}",
    )


class Cpu(OnService):
    """The service may use no more than `cores` of a processor, until the heal lifts it to what it had before."""

    page: ClassVar[Page] = Page(
        begin="they live on, slower",
        heal="they live on",
        sees="answers that come later, as far as the service needs more than it gets",
        misses="a neighbour that takes caches and disk as well",
        example="cpu: {service: order, cores: 0.2}",
    )

    cores: Annotated[float, Field(allow_inf_nan=False), Between(LEAST_CORES, MOST_CORES, "")]


class Memory(OnService):
    """The service may use no more memory than `limit`, swap included, until the heal lifts it to what it had before."""

    page: ClassVar[Page] = Page(
        begin="they live on, or end where the kernel kills the service",
        heal="they live on",
        sees="answers that come later, or a service that dies and comes back",
        misses="a leak: what the service uses does not grow, only what it may use shrinks",
        example="memory: {service: order, limit: 64MB}",
    )

    limit: Annotated[Size, Between(LEAST_MEMORY, MOST_MEMORY, "B")]


ServiceFault: TypeAlias = Kill | Stop | Restart | Pause | Crash | CrashLoop | Scale | Disconnect | Cpu | Memory
