"""Tells where each value of an experiment came from: the scenario, the system, or a default."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.experiment import Experiment
from harness.model.reading import Document, Loc

TOLD = (
    "seed",
    "load",
    "phases",
    "warmup_until",
    "rounds",
    "extend",
    "margins",
    "steady_state",
    "faults",
    "expect",
    "stop_when",
)
DEFAULT = "default"
WRITTEN: dict[Loc, Loc] = {("warmup_until",): ("phases", "warmup", "until")}
"""Where something is said in a file that is kept elsewhere."""


def origins_of(experiment: Experiment, scenario: Document, system: Document) -> dict[str, tuple[str, str]]:
    """Each value that a scenario may say, by its dotted path: the value, and where it was said."""
    data = experiment.model_dump(mode="json", exclude_none=True)
    leaves = [leaf for part in TOLD for leaf in _leaves(data.get(part), (part,))]
    return {".".join(map(str, path)): (str(value), _origin(path, scenario, system)) for path, value in leaves}


def _leaves(value: object, path: Loc) -> Iterator[tuple[Loc, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif value is not None:
        yield path, value


def _origin(path: Loc, scenario: Document, system: Document) -> str:
    path = WRITTEN.get(path, path)
    if path in scenario.values:
        return scenario.place(path)
    for written in _written_otherwise(path):
        for document in (scenario, system):
            if written in document.values:
                return document.place(written)
    if path[-1] == "name" and path[:-1] in scenario.values:  # `fallback: NAME` for `fallback: {name: NAME}`
        return scenario.place(path[:-1])
    in_system = _path_in_system(path)
    return system.place(in_system) if in_system in system.values else DEFAULT


def _written_otherwise(path: Loc) -> Iterator[Loc]:
    """Where a value of the load stands that is known under another name once it is filled in."""
    if path[:2] == ("load", "stages"):
        yield from ((*("load", "rate"), path[2], key) for key in (path[3], "hold", "to"))
    elif path == ("load", "processes"):
        yield ("load", "expect_workers")


def _path_in_system(path: Loc) -> Loc:
    """Where the system says what a scenario leaves out; margins stand there as `worse_by`."""
    if path[0] == "margins":
        return ("worse_by", *path[1:])
    if "worse_by" in path:
        return path[path.index("worse_by") :]
    return path
