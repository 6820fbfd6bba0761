"""What is told of every kind of fault besides its attributes; the documentation and `chaos faults` are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from harness.model.quantities import format_data_rate, format_duration, format_share, format_size

HOUR = 3600.0


def whole_milliseconds(seconds: float) -> float:
    """The same: proxies take no part of a millisecond."""
    if abs(seconds * 1000 - round(seconds * 1000)) > 1e-6:
        raise PydanticCustomError("bounds", "expected whole milliseconds, found {found}", {"found": format_duration(seconds)})
    return seconds


@dataclass(frozen=True, slots=True)
class Page:
    """A kind of fault, told to whoever wants to inject it. `example` is one entry of `faults:` in YAML.

    `begin` and `heal` say what becomes of connections that are open then, `sees` what the caller sees meanwhile, `misses`
    what a real fault of this name does and this one does not.
    """

    begin: str
    heal: str
    sees: str
    misses: str
    example: str


@dataclass(frozen=True, slots=True)
class Between:
    """The bounds of a quantity, both of them allowed; `unit` is what it is written in."""

    least: float
    most: float
    unit: str = "s"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._within, handler(source))

    def _within(self, value: Any) -> Any:
        if not self.least <= value <= self.most:
            raise PydanticCustomError(
                "bounds", "expected {bounds}, found {found}", {"bounds": str(self), "found": self._as(value)}
            )
        return value

    def __str__(self) -> str:
        return f"from {self._as(self.least)} to {self._as(self.most)}"

    def _as(self, value: float) -> str:
        match self.unit:
            case "s":
                return format_duration(value)
            case "%":
                return format_share(value)
            case "B":
                return format_size(int(value))
            case "KB/s":
                return format_data_rate(int(value))
            case _:
                return f"{value:g}"
