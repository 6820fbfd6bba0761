"""Limits of processor and memory for services that are processes of this machine."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.errors import ServiceFaultFailed
from harness.runtime.services.control_groups import PREFIX, CannotLimit, Counted, Group, Home, Kind, home_of, remove_group
from harness.runtime.undo import RemoveControlGroup

KINDS: tuple[Kind, ...] = ("cpu", "memory")
LARGEST_PAGE = 65536
"""A kernel rounds a limit of memory down to whole pages, of which none is larger."""

IN_WITHIN = 5.0
"""Seconds for a family to be in its group as a whole, whatever it starts meanwhile."""

Remember = Callable[[RemoveControlGroup], object]


def cannot_limit() -> dict[str, str]:
    """The kinds of fault that this machine does not allow for a process, each with why."""
    found: dict[str, str] = {}
    for kind in KINDS:
        try:
            home_of(kind)
        except CannotLimit as why:
            found[kind] = str(why)
    return found


@dataclass(slots=True)
class Limits:
    """The limits of one service.

    `remember` is told how to remove a group before it is made. A group of one that is `counted_from_birth` is there from the
    service's first start to the end of the run: memory that a process has got before it comes into a group is never counted
    there.
    """

    service: str
    remember: Remember
    counted_from_birth: bool = False
    home_for: Callable[[Kind], Home] = home_of
    _homes: dict[Kind, Home] = field(default_factory=dict)
    _groups: dict[Home, Group] = field(default_factory=dict)
    _on: dict[Kind, float] = field(default_factory=dict)
    _before: dict[Kind, Counted] = field(default_factory=dict)

    @property
    def are_on(self) -> bool:
        """Whether anything is limited."""
        return bool(self._on)

    def see_born(self, family: Callable[[], Iterable[int]]) -> None:
        """The service was started: what it has comes into the group, where there is one or has to be."""
        if self.counted_from_birth:
            self._group("memory")
        for group in self._groups.values():
            _take_in(self.service, group, family)

    def put_on(self, kind: Kind, value: float, family: Callable[[], Iterable[int]]) -> None:
        """Limit it; one that is limited already is limited to this from now on, and counts as struck since the first time."""
        group = self._group(kind)
        _take_in(self.service, group, family)
        self._before.setdefault(kind, group.counted(kind))
        self._on[kind] = value
        try:
            group.limit(kind, value)
        except OSError as error:
            has = "" if kind == "cpu" else ": it uses more, and cannot be made to give it back"
            raise ServiceFaultFailed(f"expected to limit {self.service} to {value:g}, found {error}{has}") from error

    def lift(self, kind: Kind) -> Counted:
        """Limit it no longer; what it has come up against meanwhile."""
        if kind not in self._on:
            return Counted()
        home = self._home(kind)
        group = self._groups[home]
        was, now = self._before[kind], group.counted(kind)
        group.lift(kind)
        del self._on[kind], self._before[kind]
        if not self.counted_from_birth and not any(self._home(other) == home for other in self._on):
            self._remove(home)
        return Counted(now.throttled - was.throttled, now.refused - was.refused, now.killed - was.killed)

    def of(self, kind: Kind) -> float | None:
        """The limit that is on, read from the kernel; None where there is none."""
        if kind not in self._on:
            return None
        found = self._groups[self._home(kind)].limit_of(kind)
        return self._on[kind] if found is not None and _is_as_good_as(found, self._on[kind], kind) else found

    def _home(self, kind: Kind) -> Home:
        if kind not in self._homes:
            try:
                self._homes[kind] = self.home_for(kind)
            except CannotLimit as why:
                raise ServiceFaultFailed(str(why)) from why
        return self._homes[kind]

    def _group(self, kind: Kind) -> Group:
        home = self._home(kind)
        if home not in self._groups:
            group = Group(home.version, home.folder / f"{PREFIX}{uuid.uuid4().hex[:12]}")
            self.remember(RemoveControlGroup(str(group.folder), str(home.back)))
            group.make()
            self._groups[home] = group
        return self._groups[home]

    def _remove(self, home: Home) -> None:
        why_left = remove_group(str(self._groups.pop(home).folder), str(home.back))
        if why_left is not None:
            raise ServiceFaultFailed(why_left)


def _take_in(service: str, group: Group, family: Callable[[], Iterable[int]]) -> None:
    """Until everybody is in it: who was started by one that was not in it yet is not in it either."""
    until = time.monotonic() + IN_WITHIN
    while outside := set(family()) - group.members():
        group.take_in(outside)
        if time.monotonic() > until:
            told = ", ".join(map(str, sorted(outside)))
            raise ServiceFaultFailed(f"{service}: expected its processes in a control group, found {told} outside")


def _is_as_good_as(found: float, asked: float, kind: Kind) -> bool:
    """Whether it is what was asked for, but for the units that a kernel counts in."""
    return abs(found - asked) < (1e-5 if kind == "cpu" else LARGEST_PAGE)
