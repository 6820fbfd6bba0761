"""Tells what a calibration found: the noise floor of each journey, the margins it leaves, the rate that is too much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from harness.judge.floor import Floor, Step
from harness.model.expectations import Margins
from harness.model.parts import LatencyMargin
from harness.report.plain import clean
from harness.report.wording import duration, milliseconds, percent

BUSY = 0.1
"""The share of the machine from which on other programs are told."""


def calibration_text(
    floors: Sequence[Floor], margins: Margins | None, steps: Sequence[Step], why: str = "", others: float | None = None
) -> str:
    """The lines to print; `why` there are no margins, or what they leave out, `others` what other programs used meanwhile."""
    lines = [""]
    if floors:
        lines += ["where nothing changed, window by window", *_table(floors), ""]
    if margins is None:
        lines += [f"no margins: {clean(why)}", ""]
    else:
        said = margins.model_dump(mode="json")
        told = ", ".join(f"{name}: {value}" for name, value in said.items() if value)
        lines += ["margins that hold in 99 of 100 comparisons", f"  worse_by: {{{told}}}", ""]
        if wider := [f"{name}: {said[name]}" for name in said if _is_wider(margins, name)]:
            advice = "a fault that costs no more is not seen. One stall may have made them: run it again"
            lines += [f"note: wider than the usual margins ({', '.join(wider)}): {advice}", ""]
        if why:
            lines += [f"note: {clean(why)}", ""]
    if others is not None and others >= BUSY:
        lines += [f"note: other programs used {percent(others)} of the machine meanwhile; on a quiet one less is needed", ""]
    if steps:
        lines += ["stepping the rate up", *(_step(step) for step in steps), "", _saturation(steps), ""]
    return "\n".join(lines)


def _is_wider(margins: Margins, name: str) -> bool:
    """Whether any part of a margin is wider than where nothing is said."""
    found, usual = getattr(margins, name), getattr(Margins(), name)
    if not isinstance(found, LatencyMargin):
        return bool(found > usual)
    return any((getattr(found, part) or 0) > (getattr(usual, part) or 0) for part in LatencyMargin.model_fields)


def _table(floors: Sequence[Floor]) -> Iterator[str]:
    width = max(len("journey"), *(len(clean(floor.journey, 40)) for floor in floors))
    yield f"  {'journey':<{width}}  requests  errors  p50 ms  p95 ms  99 of 100 within: errors, p50, p95"
    for floor in floors:
        needed = [f"+{floor.needed_errors * 100:.1f} points"]
        needed += [f"×{one.ratio:.2f} or +{duration(max(0.0, one.seconds))}" for one in floor.needed.values()]
        figures = f"{floor.requests:>8}  {percent(floor.errors):>6}  {milliseconds(floor.p50):>6}  {milliseconds(floor.p95):>6}"
        yield f"  {clean(floor.journey, 40):<{width}}  {figures}  {', '.join(needed)}"


def _step(step: Step) -> str:
    return f"  {step.rate:>6g}/s  p95 {duration(step.p95)}" + (f"  {step.broke}" if step.broke else "")


def _saturation(steps: Sequence[Step]) -> str:
    carried = [step.rate for step in takewhile(lambda step: not step.broke, steps)]
    broke = next((step for step in steps if step.broke), None)
    if broke is None:
        return f"not saturated at {carried[-1]:g}/s, the highest rate tried"
    if not carried:
        return f"saturated at {broke.rate:g}/s already, its own rate: {broke.broke}"
    return f"saturates between {carried[-1]:g}/s and {broke.rate:g}/s: {broke.broke}"
