"""A scenario, as its file says it; what it leaves out is filled in by `harness.model.experiment`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from harness.model.expectations import ExpectationItem, Known, SteadyItem
from harness.model.faults import FaultItem
from harness.model.load import LoadWords, PhaseWords
from harness.model.parts import Items, Name, Part, Text
from harness.model.quantities import Duration
from harness.model.stop_conditions import StopItem

Rounds: TypeAlias = Annotated[int, Field(ge=1, le=50)]
"""How often baseline, fault and recovery come, one after the other."""


class Defect(Part):
    """A change of the system that the scenario must fail on, and the expectation or stop condition that must catch it."""

    environment: dict[Name, dict[str, str]] = Field(min_length=1)
    caught_by: Name


class ScenarioFile(Part):
    """The content of one scenario file."""

    version: Literal[1]
    question: Text
    owner: Text | None = None
    tags: Items[Name] = ()
    system: Text
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    load: LoadWords = LoadWords()
    phases: PhaseWords = PhaseWords()
    rounds: Rounds = 1
    extend: Duration | None = None
    steady_state: Items[SteadyItem] | None = None
    faults: Items[FaultItem]
    expect: Items[ExpectationItem]
    known: Items[Known] = ()
    stop_when: Items[StopItem] = ()
    defects: dict[Name, Defect] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something_expected(self) -> ScenarioFile:
        if not self.expect:
            raise PydanticCustomError(
                "empty", "expected at least one entry in expect: a run that expects nothing shows nothing"
            )
        return self
