"""Faults between groups of services."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from harness.model.kinds.page import Page
from harness.model.parts import Items, Name, Part

By: TypeAlias = Literal["proxy", "network"]
"""`proxy`: the proxies lose what passes. `network`: the packets themselves are lost (containers)."""


class Partition(Part):
    """Nothing passes between two groups of services; `one-way`: nothing from the first to the second."""

    between: Items[Items[Name]]
    direction: Literal["both", "one-way"] = "both"
    by: By = "proxy"

    page: ClassVar[Page] = Page(
        begin="they go silent",
        heal="by proxy: closed, since data were lost. By network: they live on where neither side gave up",
        sees="by proxy: connections that are made, and no answer on them. By network: no handshake either",
        misses="by proxy the handshake succeeds and bytes are acknowledged; names go on resolving either way",
        example="partition: {between: [[order], [payment, inventory]], direction: both}",
    )

    @model_validator(mode="after")
    def _two_groups(self) -> Partition:
        if len(self.between) != 2 or not all(self.between) or set(self.between[0]) & set(self.between[1]):
            found = "[" + ", ".join(f"[{', '.join(group)}]" for group in self.between) + "]"
            message = "expected two groups of services that share none, such as [[order], [payment]], found {found}"
            raise PydanticCustomError("groups", message, {"found": found})
        return self

    @model_validator(mode="after")
    def _a_handshake_needs_both_ways(self) -> Partition:
        if self.by == "network" and self.direction == "one-way":
            raise PydanticCustomError(
                "direction", "expected direction: both with by: network: without packets of one way there are no connections"
            )
        return self


class Isolate(Part):
    """A service is cut off from all others: nothing passes to it or from it."""

    service: Name
    by: By = "proxy"

    page: ClassVar[Page] = Page(
        begin="they go silent",
        heal="by proxy: closed, since data were lost. By network: they live on where neither side gave up",
        sees="by proxy: connections that are made, and no answer on them. By network: no handshake either",
        misses="by proxy the handshake succeeds and bytes are acknowledged; names go on resolving either way",
        example="isolate: payment",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        return {"service": given} if isinstance(given, str) else given


GroupFault: TypeAlias = Partition | Isolate
