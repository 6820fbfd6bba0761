"""What can be injected, told to a person: every kind of fault with its page, out of the model itself."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from harness.model.faults import FALLING, KINDS, QUANTITIES
from harness.model.kinds.edge import SHORTEST_WINDOW, EdgeFault
from harness.model.kinds.group import GroupFault
from harness.model.kinds.http import RequestFault
from harness.model.kinds.page import Between, Page
from harness.model.kinds.service import ServiceFault
from harness.model.parts import Part
from harness.model.quantities import (
    format_data_rate,
    format_duration,
    format_share,
    format_size,
    parse_data_rate,
    parse_duration,
    parse_fraction,
    parse_size,
)
from harness.model.runnable import BEYOND_PROCESSES
from harness.model.windows import SHORTEST_FAULT

WIDTH = 100

FAMILIES: dict[str, Any] = {
    "edges": EdgeFault,
    "requests of HTTP": RequestFault,
    "groups of services": GroupFault,
    "services themselves": ServiceFault,
}

Matrix = Mapping[str, Mapping[str, str]]
"""What the contract suites found: by kind, what came of it on each engine or runtime."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One key of a kind: what it is, within which bounds, and what it is where nothing is said."""

    name: str
    what: str
    default: str

    @property
    def line(self) -> str:
        """As one line of a table."""
        return f"{self.what}; {self.default}"


@dataclass(frozen=True, slots=True)
class KindTold:
    """Everything that is told of one kind."""

    kind: str
    meaning: str
    attributes: tuple[Attribute, ...]
    page: Page
    ramp: str


def told(kind: str) -> KindTold:
    """A kind, out of the model."""
    part = KINDS[kind]
    meaning = " ".join(inspect.cleandoc(part.__doc__ or "").split())
    page: Page = part.page  # type: ignore[attr-defined]  # every kind has one
    return KindTold(kind, meaning, tuple(_attributes(part)), page, _ramp(kind))


def families() -> dict[str, list[str]]:
    """The kinds, by what they strike."""
    return {name: [kind for kind, part in KINDS.items() if part in get_args(union)] for name, union in FAMILIES.items()}


def overview() -> str:
    """Every kind in one line."""
    lines = []
    for family, kinds in families().items():
        lines += [f"on {family}", *(f"  {kind:<14}{_first_sentence(told(kind).meaning)}" for kind in kinds), ""]
    lines += ["Beside a kind stand id, at, for, repeat and ramp. `chaos faults KIND` tells more of one."]
    return "\n".join(lines) + "\n"


def page_text(kind: str) -> str:
    """The page of one kind, for a terminal."""
    found = told(kind)
    widest = max(len(attribute.name) for attribute in found.attributes)
    lines = [kind, "", *_wrapped(found.meaning, ""), "", "  - " + found.page.example, ""]
    lines += [f"  {attribute.name:<{widest}}  {attribute.line}" for attribute in found.attributes]
    lines += [""]
    for title, text in _sections(found):
        lines += [f"{title}", *_wrapped(text, "  ")]
    return "\n".join(lines) + "\n"


def markdown(by_engine: Matrix, by_runtime: Matrix) -> str:
    """The whole page of the documentation."""
    lines = [
        "# Faults",
        "",
        "<!-- Written by scripts/write-faults-page out of the model and of what the contract suites found. -->",
        "",
        "Everything that can be injected. `chaos faults` and `chaos faults KIND` tell the same in a terminal.",
        "",
        *_timing(),
    ]
    for family, kinds in families().items():
        lines += [f"## On {family}", ""]
        for kind in kinds:
            lines += _markdown_of(told(kind))
    lines += _tables(by_engine, by_runtime)
    return "\n".join(lines).rstrip() + "\n"


def _timing() -> list[str]:
    ramps = ", ".join(f"`{kind}.{quantity}`" for kind, quantity in QUANTITIES.items())
    falling = ", ".join(f"`{kind}`" for kind in FALLING)
    return [
        "## When",
        "",
        "Beside its kind, an entry of `faults:` may say:",
        "",
        "- `id`: its name; `outage-1` where nothing is said.",
        "- `at`, `for`: from the start of the fault phase; it ends with the phase where nothing is said.",
        "- `repeat: {every: 10s, times: 3}`: it comes again, every so often from its first begin on, for `for` each time; "
        "without `times` as often as the phase has room.",
        "- `ramp: 10s`: its quantity grows from nothing in steps of about a second; `ramp: {over: 10s, from: 1MB/s}` begins "
        f"elsewhere, which {falling} must say, since they are the worse the smaller. Quantities are {ramps}.",
        "",
        "Faults may overlap, also on one edge. Their toxics then follow each other in the order in which the faults began, "
        "those on requests of HTTP nearest to the caller; a proxy that refuses keeps the toxics of the others, which act again "
        "once it listens; `unreachable` wins over all but `refuse`. Each heals alone, in any order. Two faults on one service "
        "itself must not overlap.",
        "",
        f"A fault lasts at least {SHORTEST_FAULT:g} s, so that a probe can see it, and a ramp leaves as much at its end. What "
        f"comes and goes is bad for at least {SHORTEST_WINDOW:g} s at a time, and good as long; with mode hang or unreachable "
        f"for {SHORTEST_FAULT:g} s.",
        "",
        "Where an edge is asked for, `service: NAME` is every edge into it, and `from: NAME` every edge out of it.",
        "",
    ]


def _markdown_of(found: KindTold) -> list[str]:
    lines = [f"### {found.kind}", "", found.meaning, "", "```yaml", f"- {found.page.example}", "```", ""]
    lines += ["| key | what | where nothing is said |", "|---|---|---|"]
    lines += [f"| `{each.name}` | {each.what} | {each.default} |" for each in found.attributes]
    lines += ["", *(f"- *{title}*: {text}." for title, text in _sections(found)), ""]
    return lines


def _sections(found: KindTold) -> Iterator[tuple[str, str]]:
    yield "Connections that are open when it begins", found.page.begin
    yield "Connections that are open when it is healed", found.page.heal
    yield "What the caller sees", found.page.sees
    yield "What it does not imitate", found.page.misses
    if needs := _needs(found.kind):
        yield "What it needs", needs
    if found.ramp:
        yield "Ramp", found.ramp


def _needs(kind: str) -> str:
    """What it needs to be run on, where that is not just anything."""
    if kind in BEYOND_PROCESSES:
        return "containers"
    if kind in ("cpu", "memory"):
        return "containers, or control groups that can be made on this machine"
    if kind == "lost_reply":
        return "the embedded engine, where requests are chosen"
    if kind in families()["requests of HTTP"]:
        return "the embedded engine, and HTTP/1.1 in the clear"
    return "the embedded engine, with a share" if "share" in KINDS[kind].model_fields and kind != "flaky" else ""


def _ramp(kind: str) -> str:
    if kind not in QUANTITIES:
        return ""
    begins = "a value that must be said" if kind in FALLING else "nothing, or a value that is said"
    return f"`{QUANTITIES[kind]}`, from {begins}"


def _tables(by_engine: Matrix, by_runtime: Matrix) -> Iterator[str]:
    yield from ("## What can be done where", "", "What the contract suites found when they were last run.", "")
    for table in (by_engine, by_runtime):
        columns = list(dict.fromkeys(column for row in table.values() for column in row))
        yield f"| kind | {' | '.join(columns)} |"
        yield f"|---|{'---|' * len(columns)}"
        for kind, row in table.items():
            yield f"| `{kind}` | {' | '.join(_cell(row.get(column, 'not tried')) for column in columns)} |"
        yield ""


def _cell(found: str) -> str:
    return "✓" if found == "passed" else found


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


# attributes


def _attributes(part: type[Part]) -> Iterator[Attribute]:
    aims = [name for name in ("edge", "service", "from_") if name in part.model_fields]
    if len(aims) == 3:
        yield Attribute(
            "edge, service, from", "an edge, every edge into a service, or every edge out of one", "one of them is needed"
        )
    for name, field in part.model_fields.items():
        if len(aims) == 3 and name in aims:
            continue
        default = "needed" if field.is_required() else _default(field.default, [*field.metadata, *_inner(field.annotation)])
        yield Attribute(field.alias or name, _what(name, field.annotation, field.metadata), default)


def _inner(annotation: Any) -> list[Any]:
    """What is said beside the type, also where it stands in an optional one."""
    found = list(getattr(annotation, "__metadata__", ()))
    for inner in get_args(annotation):
        found += _inner(inner)
    return found


UNITS = {
    parse_duration: ("a duration", format_duration),
    parse_fraction: ("a share", format_share),
    parse_size: ("a size", format_size),
    parse_data_rate: ("a rate of bytes, 1 KB being 1000 of them", format_data_rate),
}

NAMED = {
    "service": "a service",
    "between": "two lists of services",
    "method": "a method, such as POST",
    "path": "a pattern of the path without its query, `*` for any characters",
    "header": "a header and a pattern of its value, `X-Tenant: acme*`",
    "journey": "a journey of the load, known by its trace",
    "first_attempt": "true: only the first request of each trace",
    "body": "text, the body of the answer",
}


def _what(name: str, annotation: Any, metadata: list[Any]) -> str:
    if name in NAMED:
        return NAMED[name]
    said = [*metadata, *_inner(annotation)]
    words = _choices(annotation)
    if words:
        return " or ".join(f"`{word}`" for word in words)
    unit = next((UNITS[each.func][0] for each in said if getattr(each, "func", None) in UNITS), "a number")
    bounds = _bounds(said)
    return f"{unit} {bounds}".strip()


def _bounds(said: list[Any]) -> str:
    for each in said:
        if isinstance(each, Between):
            return str(each)
    every = [*said, *(constraint for each in said for constraint in getattr(each, "metadata", ()))]
    least = next((each.ge for each in every if getattr(each, "ge", None) is not None), None)
    most = next((each.le for each in every if getattr(each, "le", None) is not None), None)
    return f"from {least} to {most}" if least is not None and most is not None else ""


def _choices(annotation: Any) -> tuple[Any, ...]:
    return tuple(word for word in get_args(annotation) if isinstance(word, str))


def _default(value: Any, said: list[Any]) -> str:
    if value is None:
        return "all"
    if value == "":
        return "empty"
    write = next((UNITS[each.func][1] for each in said if getattr(each, "func", None) in UNITS), None)
    return str(write(value)) if write is not None else f"`{value}`" if isinstance(value, str) else str(value)
