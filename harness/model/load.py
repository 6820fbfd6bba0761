"""The load and the phases it goes through."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from harness.model.parts import Items, Part
from harness.model.quantities import Duration, Rate
from harness.model.rates import Course, course_of

GUARD_SECONDS = 2.0
"""The stretch on both sides of a phase that is shown but not judged."""

USERS_HEADROOM = 1.2
"""Users for each arrival that may be waiting: rate x client timeout x this, so that a hang does not run out of users."""

PHASES = ("warmup", "baseline", "fault", "recovery", "drain")
IN_ROUNDS = ("baseline", "fault", "recovery")
"""Phases that each round has; the others come once in a run."""


class StageWords(Part):
    """One stage of a rate: `to` another one in a straight line (at once, where no `over` is said), or `hold` it."""

    to: Rate | None = None
    over: Duration | None = None
    hold: Duration | None = None

    @model_validator(mode="after")
    def _one_way(self) -> StageWords:
        if (self.to is None) == (self.hold is None) or (self.over is not None and self.to is None):
            raise PydanticCustomError("load", "expected a stage such as {to: 20/s, over: 10s} or {hold: 30s}")
        return self


def _is_staged(rate: Any) -> str:
    return "stages" if isinstance(rate, list | tuple) else "rate"


RateWords: TypeAlias = Annotated[
    Annotated[Rate, Tag("rate")] | Annotated[Items[StageWords], Tag("stages")], Discriminator(_is_staged)
]
"""`80/s`, or a list of stages."""

Processes: TypeAlias = Annotated[int, Field(ge=1, le=64)]
BIND = "127.0.0.1"
"""Where load processes on other machines join, unless somebody says otherwise: through a tunnel of their own."""


def _check_address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (host if colon else port) or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise PydanticCustomError(
            "load", "expected an address such as 10.0.0.5 or 10.0.0.5:5557, found {found}", {"found": repr(value)}
        )
    return value


_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def _check_host(value: str) -> str:
    if _HOST.fullmatch(value) is None or (value.count(":") == 1):
        message = "expected a host such as auth.example.org or 10.0.0.5, without scheme, port or path, found {found}"
        raise PydanticCustomError("load", message, {"found": repr(value)})
    return value


Users: TypeAlias = Annotated[int, Field(ge=1, le=20_000)]


class LoadWords(Part):
    """`load:` as it may be written; what is not said is taken from the system, then from the defaults."""

    locustfile: str | None = None
    rate: RateWords | None = None
    users: Users | None = None
    max_users: Users | None = None
    shape: bool | None = None
    processes: Processes | None = None
    expect_workers: Processes | None = None
    bind: Annotated[str, AfterValidator(_check_address)] | None = None
    arrivals: Literal["uniform", "poisson"] | None = None
    timeout: Duration | None = None
    classes: Items[str] | None = None
    allow_hosts: Items[Annotated[str, AfterValidator(_check_host)]] | None = None

    @model_validator(mode="after")
    def _one_model(self) -> LoadWords:
        if self.users is not None and (self.rate is not None or self.max_users is not None):
            raise PydanticCustomError(
                "load", "expected either rate (with max_users) for the open model, or users for the closed one, found both"
            )
        if self.shape and (self.rate, self.users, self.max_users) != (None, None, None):
            raise PydanticCustomError("load", "expected shape: true without rate, users and max_users, which it decides")
        if self.expect_workers and self.processes:
            raise PydanticCustomError("load", "expected either processes here or expect_workers elsewhere, found both")
        if self.bind and not self.expect_workers:
            raise PydanticCustomError("load", "expected bind beside expect_workers alone: nobody joins otherwise")
        if isinstance(self.rate, tuple) and (not self.rate or self.rate[0].to is None):
            raise PydanticCustomError("load", "expected stages that begin with one such as {to: 20/s, over: 10s}")
        return self


class Stage(Part):
    """One stage, with nothing left out: the rate goes in a straight line to `to`, `over` so many seconds."""

    to: Rate
    over: Duration


def stages_of(words: tuple[StageWords, ...]) -> tuple[Stage, ...]:
    """Stages as they are written, each with the rate it leads to; to hold is to go on to the same."""
    stages: list[Stage] = []
    for word in words:
        to = word.to if word.to is not None else stages[-1].to
        stages.append(Stage.model_construct(to=to, over=word.hold or word.over or 0.0))
    return tuple(stages)


class Load(Part):
    """The load, with nothing left to guess.

    `rate` is the highest that its `stages` lead to, where there are any. It is None in the closed model, where `users`
    alone decide, or a `shape` of the locustfile's own: how many it has is not known beforehand, and `users` is 0.
    Where `bind` is said, the `processes` are on other machines, and join there. `allow_hosts` are the hosts beside the way
    in that may be asked.
    """

    locustfile: str
    rate: Rate | None = None
    stages: Items[Stage] = ()
    users: int
    shape: bool = False
    processes: int = 1
    bind: str | None = None
    arrivals: Literal["uniform", "poisson"] = "uniform"
    timeout: Duration = 5.0
    classes: Items[str] = ()
    allow_hosts: Items[str] = ()

    @property
    def course(self) -> Course | None:
        """How the rate goes from the begin of the load on; None in the closed model, which has none."""
        return course_of(self.rate, [(stage.to, stage.over) for stage in self.stages]) if self.rate is not None else None


SHORTEST_STEADY = 10.0
"""A warm-up that is shorter ends before anybody could say that the system is steady."""


class SteadyWords(Part):
    """A warm-up that ends when every journey is steady, at the latest after `at_most`."""

    until: Literal["steady"]
    at_most: Duration = 120.0

    @model_validator(mode="after")
    def _long_enough(self) -> SteadyWords:
        if self.at_most < SHORTEST_STEADY:
            raise PydanticCustomError(
                "warmup",
                "expected at least 10s, in which three stretches can be compared, found {found}s",
                {"found": f"{self.at_most:g}"},
            )
        return self


def _how_long(warmup: Any) -> str:
    return "until" if isinstance(warmup, dict | SteadyWords) else "time"


WarmupWords: TypeAlias = Annotated[
    Annotated[Duration, Tag("time")] | Annotated[SteadyWords, Tag("until")], Discriminator(_how_long)
]
"""`5s`, or `{until: steady, at_most: 2m}`."""


class PhaseWords(Part):
    """`phases:` as it may be written."""

    warmup: WarmupWords | None = None
    baseline: Duration | None = None
    fault: Duration | None = None
    recovery: Duration | None = None
    drain: Duration | None = None


class Phases(Part):
    """How long each phase lasts at most, in seconds. A drain of 0 is none."""

    warmup: Duration = 5.0
    baseline: Duration = 20.0
    fault: Duration = 20.0
    recovery: Duration = 20.0
    drain: Duration = 0.0
