"""A fault that grows: its quantity in equal steps, from where the ramp begins to what the fault says."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.faults import QUANTITIES, FaultItem

STEP = 1.0
"""Seconds between two steps of a ramp, about."""

WHOLE = ("rate", "bytes", "limit")
"""Quantities that are whole numbers."""


def ramped(item: FaultItem) -> Iterator[tuple[float, FaultItem]]:
    """How long after its begin the fault becomes how: the first is how it begins, the last what it says."""
    if item.ramp is None:
        yield 0.0, item
        return
    number = max(2, round(item.ramp.over / STEP))
    for step in range(number):
        yield step * item.ramp.over / number, _grown(item, (step + 1) / number)


def _grown(item: FaultItem, part: float) -> FaultItem:
    if part >= 1:
        return item
    name, fault = QUANTITIES[item.kind], item.fault
    begins, ends = item.ramp_from(), getattr(fault, name)
    value = begins + (ends - begins) * part
    changed = {name: max(1, round(value)) if name in WHOLE else value}
    if getattr(fault, "jitter", 0):
        changed["jitter"] = fault.jitter * value / ends  # type: ignore[union-attr]  # only those with a jitter come here
    return item.model_copy(update={item.kind: fault.model_copy(update=changed)})
