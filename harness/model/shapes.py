"""The shape of what was written: another kind of file than asked for, and faults whose attributes stand at a wrong place.

These are told in place of the many problems that they make of their parts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from harness.errors import Problem
from harness.model.edges import EDGE
from harness.model.faults import KINDS
from harness.model.kinds.edge import Aim
from harness.model.kinds.service import OnService
from harness.model.parts import Part
from harness.model.reading import Document, Loc
from harness.model.stop_conditions import NOT_LIVE, STOP_KINDS

SCENARIO, SYSTEM, COMPOSE = "a scenario", "a system", "a Compose file"

TELLING: dict[str, tuple[str, ...]] = {
    SCENARIO: ("question", "faults", "expect"),
    SYSTEM: ("compose", "entry", "journeys"),
    COMPOSE: ("services",),
}
"""Keys that only this kind of file has."""

ADVICE = {
    SCENARIO: "give it to chaos validate itself; system: names a folder with a system.yaml",
    SYSTEM: "chaos takes a scenario, which names its system by its key system:",
    COMPOSE: "a system.yaml beside it names it by its key compose:, and a scenario names the system",
}


def mistaken_for(document: Document, expected: str) -> tuple[Problem, ...]:
    """That a file is one of another kind; nothing where it is what is expected, or nobody can tell."""
    if any(key in document.data for key in TELLING[expected]):
        return ()
    for kind, keys in TELLING.items():
        found = [key for key in keys if key in document.data]
        if found:
            told = f"expected {expected}, found {kind} (by its key {found[0]!r}): {ADVICE[kind]}"
            return (document.problem((found[0],), told, at_key=True),)
    return ()


def misshapen_faults(document: Document) -> dict[Loc, Problem]:
    """Faults that are not a kind with its attributes beneath it; by the path of what is wrong."""
    faults = document.data.get("faults")
    found: dict[Loc, Problem] = {}
    for index, item in enumerate(faults if isinstance(faults, list) else ()):
        path: Loc = ("faults", index)
        if isinstance(item, str):
            example = KINDS[item].page.example if item in KINDS else KINDS["outage"].page.example  # type: ignore[attr-defined]
            told = f"expected a fault, its kind as the key, as in {example}; found {item!r}"
            found[path] = document.problem(path, told)
        elif isinstance(item, dict):
            found.update(_of_item(document, path, item))
    return found


def unanswerable_conditions(document: Document) -> dict[Loc, Problem]:
    """Stop conditions that are expectations of another kind, which nobody can judge while the run goes on; by their paths."""
    written = document.data.get("stop_when")
    found: dict[Loc, Problem] = {}
    for index, item in enumerate(written if isinstance(written, list) else ()):
        kind = next((key for key in item if key in NOT_LIVE), None) if isinstance(item, dict) else None
        if kind is not None:
            expected = f"expected {' or '.join(STOP_KINDS)}, which can be judged while the run goes on"
            path: Loc = ("stop_when", index, kind)
            found[path[:2]] = document.problem(path, f"{expected}; found {kind}: {NOT_LIVE[kind]}", at_key=True)
    return found


def _of_item(document: Document, path: Loc, item: dict[str, Any]) -> Iterator[tuple[Loc, Problem]]:
    kinds = [key for key in item if key in KINDS]
    if len(kinds) != 1:
        return
    kind, value = kinds[0], item[kinds[0]]
    if value is None or isinstance(value, dict):
        beside = [key for key in item if key != kind and key in _keys_of(KINDS[kind])]
        if beside:
            told = " and ".join(map(repr, beside))
            message = (
                f"expected what belongs to {kind} further in than {kind} itself, or as {kind}: {{…}}; found {told} beside it"
            )
            yield path, document.problem((*path, beside[0]), message, at_key=True)
            return
    if value is None:
        yield (
            path,
            document.problem((*path, kind), f"expected what belongs to {kind}, {_as_in(kind)}; found nothing", at_key=True),
        )
    elif not isinstance(value, dict) and not _is_short(kind, value):
        shown = repr(value) if isinstance(value, str) else "a list" if isinstance(value, list) else repr(value)
        message = f"expected a mapping of keys to values, {_instead(kind, value)}; found {shown}"
        yield (*path, kind), document.problem((*path, kind), message)
    elif kind == "partition" and "between" in value and not _are_groups(value["between"]):
        message = f"expected two lists of services, {_as_in(kind)}; found {_listed(value['between'])}"
        yield (*path, kind, "between"), document.problem((*path, kind, "between"), message)


def _keys_of(model: type[Part]) -> Collection[str]:
    return {info.alias or name for name, info in model.model_fields.items()}


def _is_short(kind: str, value: Any) -> bool:
    """`isolate: payment` is as good as `isolate: {service: payment}`."""
    return kind == "isolate" and isinstance(value, str)


def _as_in(kind: str) -> str:
    return f"as in {KINDS[kind].page.example}"  # type: ignore[attr-defined]  # every kind has a page


def _instead(kind: str, value: Any) -> str:
    """How what was meant is written, as far as it can be guessed."""
    model = KINDS[kind]
    if not isinstance(value, str) or not issubclass(model, Aim | OnService):
        return _as_in(kind)
    aim = "edge" if issubclass(model, Aim) and EDGE.fullmatch(value) else "service"
    needed = [info.alias or name for name, info in model.model_fields.items() if info.is_required() and name != aim]
    return f"as in {kind}: {{{', '.join([f'{aim}: {value}', *(f'{name}: …' for name in needed)])}}}"


def _are_groups(between: Any) -> bool:
    return isinstance(between, list) and all(isinstance(group, list) for group in between)


def _listed(between: Any) -> str:
    if isinstance(between, list):
        return f"[{', '.join(map(str, between))}]"
    return repr(between)
