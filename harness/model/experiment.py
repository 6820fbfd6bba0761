"""An experiment: a scenario laid over its system, with nothing left to guess.

This is what is planned, what a run's folder begins with, and what the judge reads back.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.model.edges import Edge
from harness.model.expectations import ExpectationItem, Known, Margins, SteadyItem
from harness.model.faults import FaultItem
from harness.model.load import Load, Phases
from harness.model.parts import Items, Name, Part, Text
from harness.model.scenario import Defect, Rounds
from harness.model.stop_conditions import StopItem
from harness.model.system import FallbackDeclared, Interpose, InvariantDeclared


class System(Part):
    """The system under test, as far as planning and judging need it. `unproxied` edges are there, and no proxy carries them.

    `accepted` are the statuses that are no error, by the request of the journey.
    """

    services: Items[Name]
    entry: Name
    edges: Items[Edge]
    journeys: dict[Text, Text]
    accepted: dict[Text, Items[int]] = Field(default_factory=dict)
    interpose: Interpose = "all"
    egress: Items[Name] = ()
    unproxied: Items[Edge] = ()
    fallbacks: dict[Name, FallbackDeclared] = Field(default_factory=dict)
    invariants: dict[Text, InvariantDeclared] = Field(default_factory=dict)

    def edge(self, name: str) -> Edge:
        """The edge of this name, which must exist."""
        return next(edge for edge in self.edges if edge.name == name)

    @property
    def way_in(self) -> Edge:
        """The edge on which the load enters."""
        return next(edge for edge in self.edges if edge.caller == "client")


class Experiment(Part):
    """Everything a run needs to know, before anything is drawn or started.

    Every fault has its `id`, `at` and `for`; every expectation its `id`, margins and deadlines. `warmup_until` says when
    the warm-up is over before its time, `extend` by how many seconds a window that is void or undecided is lengthened:
    0 for never, None where nobody said.
    `journeys` of the system map plain names to Locust request names; a request that none of them names
    is a journey under its own name.
    """

    name: Name
    question: Text
    owner: Text | None = None
    tags: Items[Name] = ()
    seed: int
    system: System
    load: Load
    phases: Phases
    warmup_until: Literal["steady"] | None = None
    rounds: Rounds = 1
    extend: float | None = None
    margins: Margins
    steady_state: Items[SteadyItem]
    faults: Items[FaultItem]
    expect: Items[ExpectationItem]
    known: Items[Known] = ()
    stop_when: Items[StopItem] = ()
    defects: dict[Name, Defect] = Field(default_factory=dict)
