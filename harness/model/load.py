"""The load and the phases it goes through."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from harness.model.parts import Items, Part
from harness.model.quantities import Duration, Rate

GUARD_SECONDS = 2.0
"""The stretch on both sides of a phase that is shown but not judged."""

USERS_HEADROOM = 1.2
"""Users for each arrival that may be waiting: rate x client timeout x this, so that a hang does not run out of users."""

PHASES = ("warmup", "baseline", "fault", "recovery", "drain")


class LoadWords(Part):
    """`load:` as it may be written; what is not said is taken from the system, then from the defaults."""

    locustfile: str | None = None
    rate: Rate | None = None
    users: Annotated[int, Field(ge=1, le=20_000)] | None = None
    max_users: Annotated[int, Field(ge=1, le=20_000)] | None = None
    arrivals: Literal["uniform", "poisson"] | None = None
    timeout: Duration | None = None
    classes: Items[str] | None = None

    @model_validator(mode="after")
    def _one_model(self) -> LoadWords:
        if self.users is not None and (self.rate is not None or self.max_users is not None):
            raise PydanticCustomError(
                "load", "expected either rate (with max_users) for the open model, or users for the closed one, found both"
            )
        return self


class Load(Part):
    """The load, with nothing left to guess. `rate` is None in the closed model, where `users` alone decide."""

    locustfile: str
    rate: Rate | None = None
    users: int
    arrivals: Literal["uniform", "poisson"] = "uniform"
    timeout: Duration = 5.0
    classes: Items[str] = ()


class PhaseWords(Part):
    """`phases:` as it may be written."""

    warmup: Duration | None = None
    baseline: Duration | None = None
    fault: Duration | None = None
    recovery: Duration | None = None
    drain: Duration | None = None


class Phases(Part):
    """How long each phase lasts, in seconds. A drain of 0 is none."""

    warmup: Duration = 5.0
    baseline: Duration = 20.0
    fault: Duration = 20.0
    recovery: Duration = 20.0
    drain: Duration = 0.0
