"""The user's file, imported as Locust does: what is wrong with it in its author's terms, and this process's share of it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SLOWEST_SPAWN = 0.01
"""Users a second, at the least: none would be made of a share of none."""


class Refused(Exception):
    """The file cannot be run; the message says why, for whoever wrote it."""


def imported(load: Callable[[], Any], settings: dict[str, Any], machinery: str) -> Any:
    """What Locust found in the file: its user classes, its load shapes, their tasks, and the shape that counts.

    `machinery` is the folder of Locust's own code, which is left out of tracebacks.
    """
    path = settings["locustfile"]
    try:
        found = load()
    except BaseException as error:  # whatever a file does on import, SystemExit included
        raise Refused(f"{path}: expected a locustfile that imports, found:\n{own_traceback(error, path, machinery)}") from error
    if wrong := _wrong_shapes(sorted(found[1]), settings) or _wrong_users(sorted(found[0]), settings):
        raise Refused(f"{path}: {wrong}")
    sys.path.insert(0, str(Path(path).parent))
    _keep_chosen(found[0], settings)
    _share_fixed_counts(found[0], settings)
    return found


def follow(shape: Any, settings: dict[str, Any], begin: Callable[[], None], ended: Callable[[str], None]) -> None:
    """Lay our begin and end around a load shape, and leave it this process's share of the users.

    `begin` returns when the load begins, from where the shape counts; `ended` says that it has nothing more to do.
    """
    tick, counts = shape.tick, False

    def tick_of_ours() -> Any:
        nonlocal counts
        if not counts:
            begin()
            shape.reset_time()
            counts = True
        asked = tick()
        if asked is None:
            return ended(type(shape).__name__)
        users, per_second, *classes = asked
        return share_of(users, settings), max(per_second / settings["processes"], SLOWEST_SPAWN), *classes

    shape.tick = tick_of_ours


def share_of(users: int, settings: dict[str, Any]) -> int:
    """How many of so many users are this process's."""
    each, left = divmod(users, settings["processes"])
    return int(each + (settings["number"] < left))


def own_traceback(error: BaseException, path: str, machinery: str) -> str:
    """The traceback from the user's own code on; what Locust and the import system did before is not theirs."""
    frames = traceback.extract_tb(error.__traceback__)
    last = max((number for number, frame in enumerate(frames) if frame.filename.startswith(machinery)), default=-1)
    first = next((number for number, frame in enumerate(frames) if frame.filename == path), last + 1)
    own = [frame for frame in frames[first:] if not frame.filename.startswith("<frozen importlib")]
    return "".join([*traceback.format_list(own), *traceback.format_exception_only(error)]).rstrip()


def _wrong_shapes(shapes: list[str], settings: dict[str, Any]) -> str:
    if settings["shape"] and len(shapes) != 1:
        found = ", ".join(shapes) or "none"
        return f"expected one class that inherits from LoadTestShape, for shape: true, found {found}"
    if shapes and not settings["shape"]:
        return (
            f"expected users only, found the load shape {', '.join(shapes)}: the scenario's load decides how many there are; "
            "write load: {shape: true}, or mark the class abstract = True"
        )
    return ""


def _wrong_users(users: list[str], settings: dict[str, Any]) -> str:
    if not users:
        return "expected a class that inherits from HttpUser, FastHttpUser or User, found none"
    if unknown := sorted(set(settings["classes"]) - set(users)):
        return f"expected the user classes {', '.join(unknown)}, found {', '.join(users)}"
    return ""


def _keep_chosen(users: dict[str, Any], settings: dict[str, Any]) -> None:
    for name in set(users) - set(settings["classes"] or users):
        del users[name]


def _share_fixed_counts(users: dict[str, Any], settings: dict[str, Any]) -> None:
    fixed = {name: user_class.fixed_count for name, user_class in users.items() if user_class.fixed_count}
    for name, count in fixed.items():
        users[name].fixed_count = share_of(count, settings)
        if not users[name].fixed_count:  # zero would say that its weight counts
            del users[name]
    if not users:
        told = ", ".join(f"{name}: {count}" for name, count in fixed.items())
        raise Refused(
            f"{settings['locustfile']}: expected users for each of {settings['processes']} load processes, found no class "
            f"without a fixed_count, and too few of those with one ({told}): raise it, or have fewer processes"
        )
