"""The system under test, as `system.yaml` describes it: what the Compose file has no key for."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from harness.model.expectations import MarginWords
from harness.model.load import LoadWords, PhaseWords
from harness.model.parts import Items, Name, Part, Text

Interpose: TypeAlias = Literal["all", "faulted"]
"""Whether every edge is led through a proxy, so that no way leads around it, or only those that a fault strikes."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Marker(Part):
    """What in an answer tells that a fallback gave it: a header, or a value in its JSON body (`$.a.b`)."""

    header: str | None = None
    json_: str | None = Field(default=None, alias="json", pattern=r"^\$(\.[A-Za-z0-9_-]+)+$")
    equals: str

    @model_validator(mode="after")
    def _one_place(self) -> Marker:
        if (self.header is None) == (self.json_ is None):
            raise PydanticCustomError("marker", "expected exactly one of header and json")
        return self


class Counter(Part):
    """A Prometheus counter on the service's `/metrics`, with its labels, as it stands there."""

    service: Name
    metric: str = Field(pattern=r"^[A-Za-z_:][A-Za-z0-9_:]*(\{[^{}]*\})?$")


class FallbackDeclared(Part):
    """A fallback the system says it has: for which edge, in whose answers it shows, and by what marks."""

    for_: str = Field(alias="for")
    journeys: Items[str] = Field(min_length=1)
    marker: Marker
    counter: Counter | None = None


class SqlCheck(Part):
    """A query that counts violations: one row, `value` first, then the number of rows looked at (`over`)."""

    service: Name
    database: Name
    file: str


class Over(Part):
    """The least number of rows an invariant must have looked at to say anything."""

    min: int = Field(ge=1)


class InvariantDeclared(Part):
    """A statement about the data, true when the query's value equals `equals`."""

    sql: SqlCheck
    equals: int = 0
    over: Over = Over(min=1)


class Limits(Part):
    """`limits:` of a system: at most so many services down at once, and so many edges that carry a fault."""

    services_down: Annotated[int, Field(ge=0)] | None = None
    edges: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _some_limit(self) -> Limits:
        if self.services_down is None and self.edges is None:
            raise PydanticCustomError("limits", "expected services_down, edges, or both")
        return self


class LocalService(Part):
    """How one service runs without containers: provided by the harness, or by a command of its own.

    In `command`, {host} {port} and {python} are filled in. `ready` is a path that answers 2xx when the
    service is ready; without it, the service is ready when its port accepts connections.
    """

    provided: Literal["postgresql", "redis"] | None = None
    databases: Items[Name] = ()
    command: str | None = None
    ready: str | None = Field(default=None, pattern="^/")
    port: Annotated[int, Field(ge=1, le=65535)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> LocalService:
        if (self.provided is None) == (self.command is None):
            raise PydanticCustomError("local", "expected exactly one of provided and command")
        if self.databases and self.provided != "postgresql":
            raise PydanticCustomError("local", "expected databases only beside provided: postgresql")
        return self


_PATTERN = re.compile(r"[A-Z]+ /[^\s?#]*")
_METHOD_AND_PATH = re.compile(r"((GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) *)?/.*", re.IGNORECASE | re.DOTALL)


def _that_can_fit(request: str) -> str:
    """A request as a journey says it; one that no request of a load could ever be is refused.

    What has no `*` may be any name that the locustfile gives, unless it is a path with no method, or one in small letters.
    """
    if "*" in request:
        if _PATTERN.fullmatch(request) is None or "***" in request:
            raise PydanticCustomError("pattern", "expected a pattern such as 'GET /orders/*', with * and ** in a path alone")
    elif _METHOD_AND_PATH.fullmatch(request) is not None and re.match("[A-Z]+ /", request) is None:
        raise PydanticCustomError("request", "expected a method in capitals, a space and a name, such as 'GET /orders'")
    return request


class JourneyDeclared(Part):
    """A journey: its request, `METHOD NAME` as Locust reports it, and the statuses of 400 and more that are no error.

    In a NAME, which then is a path, `*` stands for one piece of it and `**` for any number of them: requests to
    which the locustfile gives no name, and whose path is like that, are this journey.
    """

    request: Annotated[Text, AfterValidator(_that_can_fit)]
    ok: Items[Annotated[int, Field(ge=400, le=599)]] = ()


def _as_journey(value: Any) -> Any:
    return {"request": value} if isinstance(value, str) else value


class SystemFile(Part):
    """The content of `system.yaml`."""

    version: Literal[1]
    compose: Annotated[Items[str], BeforeValidator(_listed), Field(min_length=1)]
    entry: Name
    load: LoadWords = LoadWords()
    phases: PhaseWords = PhaseWords()
    worse_by: MarginWords = MarginWords()
    journeys: dict[Text, Annotated[JourneyDeclared, BeforeValidator(_as_journey)]] = Field(default_factory=dict)
    edges: Items[str] = ()
    interpose: Interpose = "all"
    egress: Items[Name] = ()
    limits: Limits | None = None
    fallbacks: dict[Name, FallbackDeclared] = Field(default_factory=dict)
    invariants: dict[Text, InvariantDeclared] = Field(default_factory=dict)
    local: dict[Name, LocalService] = Field(default_factory=dict)
