"""What must hold: the kinds of expectation and the margins they are judged with."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from harness.model.parts import DurationLimit, Items, LatencyMargin, Margin, Name, Part, ShareLimit
from harness.model.quantities import Day, Duration, Fraction

EXPECTATION_KINDS = ("error_rate", "response_time", "blast_radius", "fallback", "recovery", "invariant")

EACH = "each"
"""As a journey: every journey by itself. No journey at all means all of them together."""


Method: TypeAlias = Literal["interval", "point"]
"""Whether the 95 % interval around what was observed is held against a limit, or what was observed alone."""


def _name_alone(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Margins(Part):
    """How much worse than the baseline still counts as unchanged.

    The defaults come from unchanged runs of a system of this kind on two cores: with them 95 to 100 of
    100 unchanged neighbouring windows of 20 s lie inside, and none lies wholly outside.
    """

    error_rate: Fraction = 0.05
    p50: Margin = LatencyMargin(relative=0.5, absolute=0.05)
    p95: Margin = LatencyMargin(relative=1.0, absolute=0.1)


class MarginWords(Part):
    """`worse_by:` as it may be written; what is not said is taken from the system, then from the defaults."""

    error_rate: Fraction | None = None
    p50: Margin | None = None
    p95: Margin | None = None


class ErrorRate(Part):
    """The share of requests that failed, of all journeys together, of one, or of `each` by itself."""

    max: Fraction
    journey: str | None = None
    during: str | None = None
    method: Method = "interval"


class ResponseTime(Part):
    """Latency from the intended start. `during` is a phase or the id of a fault."""

    journey: str | None = None
    during: str | None = None
    p50: DurationLimit | None = None
    p95: DurationLimit | None = None
    p99: DurationLimit | None = None
    method: Method = "interval"

    @model_validator(mode="after")
    def _some_quantile(self) -> ResponseTime:
        if self.p50 is None and self.p95 is None and self.p99 is None:
            raise PydanticCustomError("quantile", "expected at least one of p50, p95 and p99")
        return self


class BlastRadius(Part):
    """The damage stays with the journeys named.

    A journey that `may_degrade` may get slower or be answered by a fallback, not fail more often; one that
    `may_fail` may do both; every other must stay as it was in the baseline, within `worse_by`.
    """

    may_degrade: Items[str] = ()
    may_fail: Items[str] = ()
    worse_by: MarginWords = Field(default_factory=MarginWords)
    method: Method = "interval"


class Fallback(Part):
    """A declared fallback answers its journeys while the fault lasts, and neither before nor after."""

    name: Name
    fault: Name | None = None
    share: ShareLimit = ShareLimit.model_construct(min=0.9)


class Recovery(Part):
    """After healing, every journey is as it was in the baseline `within` this time, and stays so for `hold`."""

    within: Duration = 10.0
    hold: Duration = 5.0
    method: Method = "interval"


class Invariant(Part):
    """A declared statement about the data holds once the load is off: `within` the drain, for `hold`."""

    name: str
    within: Duration | None = None
    hold: Duration = 5.0


Expectation: TypeAlias = ErrorRate | ResponseTime | BlastRadius | Fallback | Recovery | Invariant


class SteadyItem(Part):
    """One entry of `steady_state:`; judged over the baseline, before anything is injected."""

    id: Name | None = None
    error_rate: ErrorRate | None = None
    response_time: ResponseTime | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> SteadyItem:
        if (self.error_rate is None) == (self.response_time is None):
            raise PydanticCustomError("kind", "expected exactly one of error_rate and response_time")
        return self

    @property
    def kind(self) -> str:
        """The key the expectation was written with."""
        return "error_rate" if self.error_rate is not None else "response_time"

    @property
    def expectation(self) -> ErrorRate | ResponseTime:
        """The expectation itself."""
        found: ErrorRate | ResponseTime = getattr(self, self.kind)
        return found


class ExpectationItem(Part):
    """One entry of `expect:`."""

    id: Name | None = None
    error_rate: ErrorRate | None = None
    response_time: ResponseTime | None = None
    blast_radius: BlastRadius | None = None
    fallback: Annotated[Fallback | None, BeforeValidator(_name_alone)] = None
    recovery: Recovery | None = None
    invariant: Annotated[Invariant | None, BeforeValidator(_name_alone)] = None

    @model_validator(mode="after")
    def _one_kind(self) -> ExpectationItem:
        if sum(getattr(self, kind) is not None for kind in EXPECTATION_KINDS) != 1:
            raise PydanticCustomError(
                "kind", "expected exactly one expectation, one of {kinds}", {"kinds": ", ".join(EXPECTATION_KINDS)}
            )
        return self

    @property
    def kind(self) -> str:
        """The key the expectation was written with."""
        return next(kind for kind in EXPECTATION_KINDS if getattr(self, kind) is not None)

    @property
    def expectation(self) -> Expectation:
        """The expectation itself."""
        found: Expectation = getattr(self, self.kind)
        return found


class Known(Part):
    """One entry of `known:`: an expectation that does not hold yet, its ticket, and the last day on which it may stay so.

    The day is one in UTC, and counts whole; it is compared with the day of the run, never with today.
    """

    expect: Name
    ticket: Annotated[str, Field(min_length=1, max_length=200)]
    until: Day
