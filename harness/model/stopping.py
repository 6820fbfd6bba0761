"""Stop conditions as a scenario writes them, with their names checked: one that can never be met protects nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from harness.errors import Problem
from harness.model.expectations import EACH
from harness.model.faults import FaultItem
from harness.model.load import IN_ROUNDS, PHASES, Phases
from harness.model.quantities import format_duration
from harness.model.reading import Document, Loc, nearest
from harness.model.stop_conditions import StopItem
from harness.model.windows import repeated, seed_of_round, windows_of

WHOLE = "the time from the first baseline to the end of the load"


@dataclass(frozen=True, slots=True)
class Around:
    """What stop conditions may name: journeys, faults (with `id`, `at`, `for`), phases; `seed` draws when faults are on."""

    journeys: Collection[str]
    faults: Sequence[FaultItem]
    phases: Phases
    rounds: int
    seed: int


def named(written: Sequence[StopItem]) -> tuple[StopItem, ...]:
    """Each with an id: its own, or `stop-error_rate-1`."""
    return tuple(
        item.model_copy(update={"id": item.id or f"stop-{item.kind}-{_number(written, index)}"})
        for index, item in enumerate(written)
    )


def _number(written: Sequence[StopItem], index: int) -> int:
    return sum(item.kind == written[index].kind for item in written[: index + 1])


def problems_of(written: Sequence[StopItem], around: Around, document: Document) -> Iterator[Problem]:
    """Names that lead nowhere, and stretches that have no room in what they are asked for."""
    for index, item in enumerate(written):
        path: Loc = ("stop_when", index, item.kind)
        journey, during = item.condition.journey, item.condition.during
        if journey is not None and journey not in (*around.journeys, EACH):
            hint = nearest(journey, [*around.journeys, EACH])
            yield document.problem((*path, "journey"), f"expected a journey of the system, found {journey!r}{hint}")
        known = (*PHASES, *(str(fault.id) for fault in around.faults))
        if during == "drain":
            yield document.problem((*path, "during"), "expected a phase with load, found 'drain': no request is sent in it")
        elif during is not None and during not in known:
            message = f"expected a phase, or the id of a fault of this scenario, found {during!r}{nearest(during, known)}"
            yield document.problem((*path, "during"), message)
        during = during if during in known and during != "drain" else None
        if (room := _room(during, around)) < item.condition.sustained:
            found = f"{format_duration(item.condition.sustained)} where {during or WHOLE} lasts {room:.3g}s at most"
            message = f"expected a stretch after which something is left to halt, found {found}: it would never be met"
            yield document.problem((*path, "sustained"), message)
        if item.error_rate is not None and item.error_rate.max >= 1:
            message = "expected less than 100%, found 100%: more than all never fail, so it would never be met"
            yield document.problem((*path, "max"), message)


def _room(during: str | None, around: Around) -> float:
    """The longest time for which a condition is asked without a break."""
    if during is None:
        return around.rounds * sum(float(getattr(around.phases, phase)) for phase in IN_ROUNDS)
    if during in PHASES:
        return float(getattr(around.phases, during))
    item = next(fault for fault in around.faults if fault.id == during)
    windows = [
        window.seconds
        for number in range(1, around.rounds + 1)
        for turn in repeated(item, around.phases.fault)
        for window in windows_of(turn, seed_of_round(around.seed, number))
    ]
    return max(windows, default=0.0)
