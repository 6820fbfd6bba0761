"""The picture: latency, outcomes and faults on one time axis, as places to draw; the template draws them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from harness.model.load import GUARD_SECONDS, IN_ROUNDS
from harness.report.plain import clean
from harness.report.series import Dots, LogScale, Stretch, log_scale, sample
from harness.report.summary import ANSWERS, PHASE_NAMES, Answer, Mark, Strike, Summary
from harness.report.wording import duration

MOST_BARS = 10
MOST_MARK_ROWS = 6
MOST_ROUNDS = 10
"""Of more rounds than this not each is named over the axis."""
ROW = 20.0
BAR = 15.0
NOT_JUDGED = ("warmup", "drain")


@dataclass(frozen=True, slots=True)
class Sheet:
    """The sizes of one drawing of the picture."""

    id: str
    width: float
    left: float
    right: float
    latency_height: float
    counts_height: float
    dots: int
    letter: float
    """Width of an average letter."""

    @property
    def plot_end(self) -> float:
        """Where the time axis ends."""
        return self.width - self.right


WIDE = Sheet("wide", 1128, 58, 44, 240, 92, 4000, 6.9)
NARROW = Sheet("narrow", 358, 34, 30, 190, 80, 1300, 6.2)


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of the axis that is shaded."""

    x: float
    width: float
    kind: str


@dataclass(frozen=True, slots=True)
class Label:
    """A word at a place. `anchor` is SVG's."""

    text: str
    x: float
    y: float
    anchor: str = "start"
    full: str = ""


NO_LABEL = Label("", 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """A fault on one proxy; `wedge` is the part of it that is filled, where it grows."""

    x: float
    y: float
    width: float
    label: Label
    inside: bool
    open: bool
    wedge: str = ""


@dataclass(frozen=True, slots=True)
class Spot:
    """A dot on the axis with its label."""

    x: float
    label: Label
    bad: bool


@dataclass(frozen=True, slots=True)
class Lane:
    """One of the three parts: where it begins and ends, its title and what stands at its left."""

    top: float
    bottom: float
    title: str
    ticks: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything there is to draw."""

    sheet: Sheet
    height: float
    axis_y: float
    phases: tuple[Label, ...]
    bands: tuple[Band, ...]
    borders: tuple[float, ...]
    latency: Lane
    counts: Lane
    faults: Lane
    dots: dict[Answer, str]
    lines: dict[str, str]
    line_labels: tuple[Label, ...]
    stacks: dict[Answer, str]
    bars: tuple[Bar, ...]
    spots: tuple[Spot, ...]
    seconds: tuple[Label, ...]
    until: float
    shown: int


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Seconds since the load began, to a place from left to right."""

    sheet: Sheet
    until: float

    def x(self, at: float) -> float:
        """Where a moment stands; what lies outside stands at the edge."""
        share = min(max(at / self.until, 0.0), 1.0)
        return round(self.sheet.left + share * (self.sheet.plot_end - self.sheet.left), 1)


def draw_picture(summary: Summary, dots: Dots, parts: Sequence[Stretch], sheet: Sheet) -> Picture:
    """Lay the picture out on a sheet, from top to bottom."""
    axis = TimeAxis(sheet, summary.until)
    phases, y = _phase_names(summary, axis)
    latency_top = y + 12
    scale = log_scale(dots, latency_top + 22, latency_top + sheet.latency_height)
    latency = Lane(latency_top, scale.bottom, "latency from the intended start, ms (log)", _latency_ticks(scale, sheet))
    counts_top = latency.bottom + 44
    most = max((part.requests / (part.end - part.begin) for part in parts), default=1.0)
    counts = Lane(counts_top, counts_top + sheet.counts_height, "outcomes per second", ())
    counts = Lane(counts.top, counts.bottom, counts.title, _count_ticks(most, counts, sheet))
    bars = _bars(summary, axis, counts.bottom + 46)
    spots, bottom = _spots(summary.marks, axis, max([counts.bottom + 46, *(bar.y + ROW + 6 for bar in bars)]))
    shown = sample(dots, sheet.dots)
    lines = {name: _line(parts, name, axis, scale) for name in ("p50", "p95")}
    return Picture(
        sheet=sheet,
        height=bottom + 30,
        axis_y=bottom + 8,
        phases=phases,
        bands=tuple(_bands(summary, axis)),
        borders=tuple(axis.x(border) for stretch in summary.struck_time for border in stretch if border < summary.until),
        latency=latency,
        counts=counts,
        faults=Lane(counts.bottom + 32, bottom, "faults and events"),
        dots={answer: dot_path(shown, answer, axis, scale) for answer in ANSWERS},
        lines=lines,
        line_labels=_line_labels(parts, axis, scale),
        stacks=_stacks(parts, axis, counts, most),
        bars=bars,
        spots=spots,
        seconds=_seconds(axis, bottom + 24),
        until=summary.until,
        shown=len(shown),
    )


def dot_path(dots: Dots, answer: Answer, axis: TimeAxis, scale: LogScale) -> str:
    """All dots of one outcome as one path of strokes almost without length; dots on the same spot are one.

    Those that failed are square: on paper a stroke needs a direction for that, and so some length.
    """
    length = "h.1" if answer == "failed" else "h0"
    alike = dots.chosen(dots.of(answer))
    places = zip(alike.at.tolist(), alike.latency.tolist(), strict=True)
    spots = dict.fromkeys((round(axis.x(at) * 2), round(scale.y(latency) * 2)) for at, latency in places)
    return "".join(f"M{x / 2:g} {y / 2:g}{length}" for x, y in spots)


def _phase_names(summary: Summary, axis: TimeAxis) -> tuple[tuple[Label, ...], float]:
    """A name over each phase; the longer phases choose first, who finds no room goes a row higher."""
    taken: list[list[tuple[float, float]]] = [[], [], []]
    found = []
    for text, begin, end in sorted(_names(summary), key=lambda named: named[1] - named[2]):
        half = len(text) * axis.sheet.letter / 2 + 2
        x = min(max((axis.x(begin) + axis.x(end)) / 2, half), axis.sheet.width - half)
        row = _first_free(taken, x - half, x + half)
        taken[row].append((x - half, x + half))
        found.append((text, x, row))
    rows = max((row for _, _, row in found), default=0)
    return tuple(Label(text, x, 14 + 16 * (rows - row), "middle") for text, x, row in found), 14 + 16 * rows


def _names(summary: Summary) -> Iterable[tuple[str, float, float]]:
    """What is named over the axis: each phase, or each round where there are several, or some of them where there are many."""
    every = ceil(len(summary.rounds) / MOST_ROUNDS)
    for number, (begin, end) in enumerate(summary.rounds, 1):
        if (number - 1) % every == 0:
            yield (f"round {number}" if number == 1 else str(number)), begin, end
    for name, begin, end in summary.turns:
        if not summary.rounds or name not in IN_ROUNDS:
            yield PHASE_NAMES.get(name, name), begin, end


def _first_free(taken: Sequence[Sequence[tuple[float, float]]], begin: float, end: float) -> int:
    """The first row on which nothing lies between these places; the last one where there is none."""
    free = (row for row, spans in enumerate(taken) if all(end <= a or begin >= b for a, b in spans))
    return next(free, len(taken) - 1)


def _bands(summary: Summary, axis: TimeAxis) -> Iterable[Band]:
    for name, begin, end in summary.turns:
        if name in NOT_JUDGED:
            yield _band(begin, end, "idle", axis)
        elif end - begin > 2 * GUARD_SECONDS and not (name == "fault" and summary.strikes):
            yield _band(begin, begin + GUARD_SECONDS, "guard", axis)
            yield _band(end - GUARD_SECONDS, end, "guard", axis)
    for begin, end in summary.struck_time:
        yield _band(begin, end, "fault", axis)
        if end - begin > 2 * GUARD_SECONDS:
            yield _band(begin + GUARD_SECONDS, end - GUARD_SECONDS, "hatch", axis)


def _band(begin: float, end: float, kind: str, axis: TimeAxis) -> Band:
    return Band(axis.x(begin), round(axis.x(end) - axis.x(begin), 1), kind)


def _latency_ticks(scale: LogScale, sheet: Sheet) -> tuple[Label, ...]:
    return tuple(Label(f"{tick * 1000:g}", sheet.left - 8, scale.y(tick), "end") for tick in scale.ticks)


def _count_ticks(most: float, lane: Lane, sheet: Sheet) -> tuple[Label, ...]:
    top = round(most) if most >= 2 else round(most, 1)
    values = [0, top / 2 if top % 2 else top // 2, top] if top else [0]
    return tuple(
        Label(
            f"{value:g}", sheet.left - 8, lane.bottom - value / most * (lane.bottom - lane.top) if most else lane.bottom, "end"
        )
        for value in values
    )


def _line(parts: Sequence[Stretch], name: str, axis: TimeAxis, scale: LogScale) -> str:
    """A quantile over time; it breaks off where there were too few requests."""
    path, pen_down = "", False
    for part in parts:
        value: float | None = getattr(part, name)
        if value is not None:
            path += f"{'L' if pen_down else 'M'}{axis.x((part.begin + part.end) / 2):g} {scale.y(value):.1f}"
        pen_down = value is not None
    return path


def _line_labels(parts: Sequence[Stretch], axis: TimeAxis, scale: LogScale) -> tuple[Label, ...]:
    """The lines' names at their ends, pushed apart where the lines meet."""
    last = next((part for part in reversed(parts) if part.p50 is not None and part.p95 is not None), None)
    if last is None or last.p50 is None or last.p95 is None:
        return ()
    x = axis.x((last.begin + last.end) / 2) + 6
    low, high = scale.y(last.p50), scale.y(last.p95)
    apart = max(0.0, 13 - (low - high)) / 2
    return (Label("p50", x, low + apart + 4), Label("p95", x, high - apart + 4))


def _stacks(parts: Sequence[Stretch], axis: TimeAxis, lane: Lane, most: float) -> dict[Answer, str]:
    """Answered at the bottom, fallbacks above, failed on top: one path for each."""
    paths: dict[Answer, str] = dict.fromkeys(ANSWERS, "")
    gap = 0.5 if axis.sheet.width < 600 else 1.0
    for part in parts:
        x, x_end = axis.x(part.begin), axis.x(part.end) - gap
        y = lane.bottom
        for answer in ANSWERS:
            height = part.count(answer) / (part.end - part.begin) / most * (lane.bottom - lane.top)
            if height:
                paths[answer] += f"M{x:g} {y:.1f}H{x_end:.1f}V{y - height:.1f}H{x:g}z"
                y -= height
    return paths


def _bars(summary: Summary, axis: TimeAxis, top: float) -> tuple[Bar, ...]:
    """A row for each fault on each proxy, with a bar for each time it is on; its name is in the only one, or beside them."""
    rows: dict[tuple[str, str], list[Strike]] = {}
    for strike in summary.strikes:
        rows.setdefault((strike.fault, strike.proxy), []).append(strike)
    found = []
    for number, strikes in enumerate(list(rows.values())[:MOST_BARS]):
        more = len(rows) - MOST_BARS
        text = f"{strikes[0].proxy.replace('->', '→')} {strikes[0].words}"
        if more > 0 and number == MOST_BARS - 1:
            text = f"and {more + 1} more"
        y = top + ROW * number
        label, inside = _name_of_bars(text, strikes, axis, y)
        for strike in strikes:
            x, end = axis.x(strike.begin), axis.x(strike.end)
            own = label if strike is strikes[-1] else NO_LABEL
            found.append(Bar(x, y, max(2.0, end - x), own, inside, not strike.healed, _wedge(strike, axis, y)))
    return tuple(found)


def _name_of_bars(text: str, strikes: Sequence[Strike], axis: TimeAxis, y: float) -> tuple[Label, bool]:
    """The name of a row: in its bar, where that is whole and wide enough, else on that side of the bars with more room."""
    x, end, letter = axis.x(strikes[0].begin), axis.x(strikes[-1].end), axis.sheet.letter
    room = int((end - x - 10) / letter)
    if len(strikes) == 1 and not strikes[0].rises and room >= min(len(text), 16):
        return Label(clean(text, room), x + 6, y + 11.5, full=text), True
    before, behind = int((x - axis.sheet.left - 6) / letter), int((axis.sheet.width - end - 8) / letter)
    if behind >= min(len(text), before):
        return Label(clean(text, max(4, behind)), end + 6, y + 11.5, full=text), False
    return Label(clean(text, before), x - 6, y + 11.5, "end", text), False


def _wedge(strike: Strike, axis: TimeAxis, y: float) -> str:
    """A bar that rises in steps, as high each as the part of the fault that was on."""
    if strike.levels < 2:
        return ""
    bottom = y + BAR
    path = f"M{axis.x(strike.begin):g} {bottom:g}"
    borders = [strike.begin, *strike.rises, max(strike.begin, strike.end)]
    for level, until in enumerate(borders[1:], 1):
        path += f"V{bottom - BAR * min(1.0, level / strike.levels):.1f}H{axis.x(until):g}"
    return f"{path}V{bottom:g}z"


def _spots(marks: Sequence[Mark], axis: TimeAxis, top: float) -> tuple[tuple[Spot, ...], float]:
    """Each moment with its label to the right, or to the left where the sheet ends, on the first row with room."""
    taken: list[list[tuple[float, float]]] = [[] for _ in range(MOST_MARK_ROWS)]
    found = []
    for mark in marks:
        x = axis.x(mark.at)
        text = clean(f"{mark.label} {mark.delay}".strip(), int(axis.sheet.width * 0.6 / axis.sheet.letter))
        wide = len(text) * axis.sheet.letter + 10
        to_right = x + wide <= axis.sheet.width
        begin, end = (x - 4, x + wide) if to_right else (x - wide, x + 4)
        row = _first_free(taken, begin, end)
        taken[row].append((begin, end))
        y = top + ROW * row + 8
        place = (x + 8, "start") if to_right else (x - 8, "end")
        found.append(Spot(x, Label(text, place[0], y, place[1], f"{mark.label} at {mark.at:.2f} s"), mark.bad))
    return tuple(found), top + ROW * sum(1 for spans in taken if spans)


def _seconds(axis: TimeAxis, y: float) -> tuple[Label, ...]:
    room = (axis.sheet.plot_end - axis.sheet.left) / 62
    steps = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200, 14400)
    step = next((step for step in steps if axis.until / step <= room), axis.until / room)
    count = int(axis.until / step)
    ticks = [number * step for number in range(count + 1)]
    return tuple(Label("0 s" if not tick else duration(tick), axis.x(tick), y, "middle") for tick in ticks)


def phase_at(summary: Summary, at: float) -> str:
    """The name of the phase a moment lies in."""
    return next((PHASE_NAMES.get(name, name) for name, begin, end in summary.turns if begin <= at < end), "")
