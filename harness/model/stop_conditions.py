"""What halts a run while it runs: the kinds of stop condition, in the words of the expectations."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, model_validator
from pydantic_core import PydanticCustomError

from harness.model.parts import Name, Part
from harness.model.quantities import Duration, Fraction, format_duration

SHORTEST_STRETCH, LONGEST_STRETCH = 1.0, 300.0
"""Seconds: what is shorter says nothing of a system, what is longer halts nothing in time."""

STOP_KINDS = ("error_rate", "response_time")

NOT_LIVE = {
    "blast_radius": "it compares whole phases; say error_rate or response_time of the journeys that must stay as they were",
    "fallback": "its share is one of the whole time of a fault, and its witnesses speak at the end",
    "recovery": "it begins when the fault is healed, and a halt heals it",
    "invariant": "data are asked for when the load is off",
}
"""Expectations that nobody can judge while the run goes on, each with why."""


def _check_stretch(seconds: float) -> float:
    if not SHORTEST_STRETCH <= seconds <= LONGEST_STRETCH:
        found = {"found": format_duration(seconds)}
        raise PydanticCustomError("sustained", "expected a stretch from 1s to 5m, found {found}", found)
    return seconds


Stretch: TypeAlias = Annotated[Duration, AfterValidator(_check_stretch)]


class TooManyErrors(Part):
    """More than `max` of the requests that ended within the last `sustained` seconds failed, and in each of those seconds.

    Of all journeys together, of one, or of `each` by itself; while a phase or a fault is on (`during`), or from the
    first baseline to the end of the load where nothing is said.
    """

    max: Fraction
    journey: str | None = None
    during: str | None = None
    sustained: Stretch = 5.0


class MostSeconds(Part):
    """A duration that must not be exceeded."""

    max: Duration


class TooSlow(Part):
    """A quantile of the latency of the requests that ended within the last `sustained` seconds is above its `max`, and so it
    is in each of those seconds.
    """

    journey: str | None = None
    during: str | None = None
    p50: MostSeconds | None = None
    p95: MostSeconds | None = None
    p99: MostSeconds | None = None
    sustained: Stretch = 5.0

    @model_validator(mode="after")
    def _some_quantile(self) -> TooSlow:
        if self.p50 is None and self.p95 is None and self.p99 is None:
            raise PydanticCustomError("quantile", "expected at least one of p50, p95 and p99")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limit of each quantile that has one, in seconds."""
        said = {"p50": self.p50, "p95": self.p95, "p99": self.p99}
        return {name: limit.max for name, limit in said.items() if limit is not None}


StopCondition: TypeAlias = TooManyErrors | TooSlow


class StopItem(Part):
    """One entry of `stop_when:`."""

    id: Name | None = None
    error_rate: TooManyErrors | None = None
    response_time: TooSlow | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> StopItem:
        if (self.error_rate is None) == (self.response_time is None):
            raise PydanticCustomError("kind", "expected exactly one of error_rate and response_time")
        return self

    @property
    def kind(self) -> str:
        """The key the condition was written with."""
        return "error_rate" if self.error_rate is not None else "response_time"

    @property
    def condition(self) -> StopCondition:
        """The condition itself."""
        found: StopCondition = getattr(self, self.kind)
        return found
