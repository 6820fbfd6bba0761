"""Where it was struck, and who felt it: the system laid out in layers, from the client on.

A layered drawing: each service stands one layer behind its furthest caller, edges that pass a layer keep a
lane free in it, and the order within a layer is the one with the fewest crossings that a few sweeps find.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from harness.history.events import EdgeSeen
from harness.model.edges import CLIENT
from harness.report.summary import Strike, Summary
from harness.report.wording import percent

Felt: TypeAlias = Literal["nothing", "fallback", "failed", "struck"]
Sign: TypeAlias = Literal["cut", "slow", "wrong"]
Link: TypeAlias = tuple[str, str]
Stop: TypeAlias = tuple[str, ...]
"""A place in a layer: a service, or the lane of an edge that passes (caller, callee, layer)."""

Place: TypeAlias = Callable[[Stop], tuple[float, float]]

Beside: TypeAlias = dict[Stop, list[Stop]]
"""For each stop, those it is joined to in the layers before and behind it."""

SWEEPS = 6
STORES = ("postgresql", "redis")
SLOW = ("latency", "bandwidth", "slow_close", "slicer", "http_delay", "cpu", "memory")
WRONG = ("http_error", "http_corrupt")
MOST_FAULTS = 12


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes of one drawing. `down` lays the layers from top to bottom, for narrow pages."""

    down: bool
    node_width: float
    node_height: float
    layer_step: float
    node_gap: float
    lane_gap: float


ACROSS = Layout(down=False, node_width=92, node_height=28, layer_step=130, node_gap=46, lane_gap=28)
DOWN = Layout(down=True, node_width=88, node_height=28, layer_step=74, node_gap=100, lane_gap=30)


@dataclass(frozen=True, slots=True)
class Node:
    """A service as it is drawn."""

    name: str
    x: float
    y: float
    felt: Felt
    store: bool
    why: str


@dataclass(frozen=True, slots=True)
class Curve:
    """An edge as it is drawn; `x` and `y` are where the sign of its fault stands, `bare` ones have no proxy."""

    path: str
    sign: Sign | None
    x: float
    y: float
    name: str
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """The whole topology."""

    width: float
    height: float
    layout: Layout
    nodes: tuple[Node, ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault on an edge or a service, in words; how often it came is not told."""

    sign: Sign
    where: str
    fault: str
    words: str


def struck_by_faults(summary: Summary) -> tuple[tuple[Struck, ...], int]:
    """What struck where, each fault and each edge or service once; and how many are left out."""
    once = {(strike.fault, strike.proxy): strike for strike in summary.strikes}.values()
    found = tuple(Struck(_sign(one.kind), one.proxy.replace("->", "→"), one.fault, _named(one)) for one in once)
    return found[:MOST_FAULTS], max(0, len(found) - MOST_FAULTS)


def _sign(kind: str) -> Sign:
    return "slow" if kind in SLOW else "wrong" if kind in WRONG else "cut"


def _named(strike: Strike) -> str:
    """The kind of a fault, and what it does."""
    return f"{strike.kind}: {strike.words}"


def draw_topology(summary: Summary, layout: Layout) -> Drawing:
    """Lay the system out and colour it by what was recorded."""
    links = _links(summary)
    layer = _layers(links)
    routes = {link: _route(link, layer) for link in links}
    places = _places(*_order(routes, layer), layout)
    felt = felt_by(summary)
    across = [across for _, across in places.values()] or [0.0]
    low, high = min(across), max(across)
    thick = layout.node_width if layout.down else layout.node_height
    breadth = high - low + thick + 16
    length = (
        (max(layer.values(), default=0)) * layout.layer_step + (layout.node_height if layout.down else layout.node_width) + 8
    )

    def place(stop: Stop) -> tuple[float, float]:
        along, over = places[stop]
        along, over = along + (layout.node_height if layout.down else layout.node_width) / 2 + 4, over - low + thick / 2 + 8
        return (over, along) if layout.down else (along, over)

    stores = {edge.callee for edge in summary.experiment.system.edges if edge.protocol in STORES}
    nodes = tuple(
        Node(name, *place((name,)), felt.get(name, ("nothing", ""))[0], name in stores, felt.get(name, ("nothing", ""))[1])
        for name in layer
    )
    width, height = (breadth, length) if layout.down else (length, breadth)
    return Drawing(width, height, layout, nodes, _curves(summary, routes, place, layout))


def _links(summary: Summary) -> list[Link]:
    edges = (*summary.experiment.system.edges, *summary.experiment.system.unproxied)
    return list(dict.fromkeys((edge.caller, edge.callee) for edge in edges if edge.caller != edge.callee))


def _layers(links: Sequence[Link]) -> dict[str, int]:
    """The layer of each service: one behind its furthest caller; calls that lead back into a circle do not count."""
    callees: dict[str, list[str]] = defaultdict(list)
    for caller, callee in links:
        callees[caller].append(callee)
    called = {callee for _, callee in links}
    names = list(dict.fromkeys(name for link in links for name in link))
    roots = [name for name in names if name == CLIENT or name not in called]
    layer: dict[str, int] = {}
    for root in sorted([*roots, *names], key=lambda name: (name != CLIENT, name not in roots)):
        if root not in layer:
            _settle(root, 0 if root == CLIENT else 1, callees, layer)
    for name in roots:
        if name != CLIENT and callees[name]:
            layer[name] = max(1, min(layer[callee] for callee in callees[name]) - 1)
    return layer


def _settle(root: str, start: int, callees: dict[str, list[str]], layer: dict[str, int]) -> None:
    """Push everything behind `root` back as far as its longest way asks, never round a circle."""
    waiting: list[tuple[str, int, tuple[str, ...]]] = [(root, start, ())]
    while waiting:
        name, depth, way = waiting.pop()
        if name in way or depth <= layer.get(name, -1):
            continue
        layer[name] = depth
        waiting.extend((callee, depth + 1, (*way, name)) for callee in callees[name])


def _route(link: Link, layer: dict[str, int]) -> list[Stop]:
    caller, callee = link
    begin, end = layer[caller], layer[callee]
    step = 1 if end >= begin else -1
    return [(caller,), *((caller, callee, str(between)) for between in range(begin + step, end, step)), (callee,)]


def _order(routes: dict[Link, list[Stop]], layer: dict[str, int]) -> tuple[list[list[Stop]], Beside]:
    """Sort each layer by where its neighbours stand, back and forth, until crossings are few."""
    rows: dict[int, list[Stop]] = defaultdict(list)
    for name, depth in layer.items():
        rows[depth].append((name,))
    beside: Beside = defaultdict(list)
    for route in routes.values():
        for stop in route[1:-1]:
            rows[int(stop[2])].append(stop)
        for one, other in pairwise(route):
            beside[one].append(other)
            beside[other].append(one)
    ordered = [rows[depth] for depth in sorted(rows)]
    for sweep in range(SWEEPS):
        _sort_towards(ordered if sweep % 2 == 0 else ordered[::-1], beside)
    return ordered, beside


def _sort_towards(rows: Iterable[list[Stop]], beside: Beside) -> None:
    """Put every stop of a row where its neighbours of the rows before it pull it."""
    settled: dict[Stop, float] = {}
    for row in rows:
        middle = (len(row) - 1) / 2
        pull = {}
        for number, stop in enumerate(row):
            near = [settled[other] for other in beside[stop] if other in settled]
            pull[stop] = sum(near) / len(near) if near else number - middle
        row.sort(key=pull.__getitem__)
        settled.update({stop: number - middle for number, stop in enumerate(row)})


def _places(order: list[list[Stop]], beside: Beside, layout: Layout) -> dict[Stop, tuple[float, float]]:
    """Along and across for every stop: first evenly about the middle, then as near to its neighbours as there is room."""
    gaps = [_gaps(row, layout) for row in order]
    across: dict[Stop, float] = {}
    for row, gap in zip(order, gaps, strict=True):
        across.update(zip(row, _spread([-sum(gap) / 2] * len(row), gap), strict=True))
    for sweep in range(2 * SWEEPS):
        for row, gap in list(zip(order, gaps, strict=True))[:: 1 if sweep % 2 == 0 else -1]:
            wanted = [sum(across[other] for other in beside[stop]) / max(1, len(beside[stop])) for stop in row]
            across.update(zip(row, _spread(wanted, gap), strict=True))
    return {stop: (depth * layout.layer_step, across[stop]) for depth, row in enumerate(order) for stop in row}


def _gaps(row: list[Stop], layout: Layout) -> list[float]:
    """How far each stop of a row must stay from the one before it."""
    room = [layout.node_gap if len(stop) == 1 else layout.lane_gap for stop in row]
    return [(one + other) / 2 for one, other in pairwise(room)]


def _spread(wanted: list[float], gaps: list[float]) -> list[float]:
    """Places near those wanted, in the same order and far enough apart: midway between pushing down and pushing up."""
    down, up = list(wanted), list(wanted)
    for number, gap in enumerate(gaps):
        down[number + 1] = max(wanted[number + 1], down[number] + gap)
        place = len(gaps) - 1 - number
        up[place] = min(wanted[place], up[place + 1] - gaps[place])
    return [(one + other) / 2 for one, other in zip(down, up, strict=True)]


def _curves(summary: Summary, routes: dict[Link, list[Stop]], place: Place, layout: Layout) -> tuple[Curve, ...]:
    names = {edge.name: (edge.caller, edge.callee) for edge in summary.experiment.system.edges}
    bare = {(edge.caller, edge.callee) for edge in summary.experiment.system.unproxied} - set(names.values())
    struck: dict[Link, list[Strike]] = defaultdict(list)
    for strike in summary.strikes:
        if strike.proxy in names:
            struck[names[strike.proxy]].append(strike)
    found = []
    for link, route in routes.items():
        strikes = struck.get(link, [])
        path, (x, y) = _path([place(stop) for stop in route], layout)
        words = "; ".join(dict.fromkeys(map(_named, strikes))) or ("no proxy" if link in bare else "")
        told = f"{link[0]} → {link[1]}" + (f": {words}" if words else "")
        sign = min((_sign(strike.kind) for strike in strikes), default=None)
        found.append(Curve(path, sign, x, y, told, link in bare))
    return tuple(sorted(found, key=lambda curve: curve.sign is not None))


def _path(points: list[tuple[float, float]], layout: Layout) -> tuple[str, tuple[float, float]]:
    """A smooth line through the points, from border to border, and the middle of its first piece."""
    half = (layout.node_height if layout.down else layout.node_width) / 2
    along = 1 if layout.down else 0
    forth = 1 if points[-1][along] >= points[0][along] else -1
    ends = [list(point) for point in (points[0], *_straight(points[1:-1], half * forth, along), points[-1])]
    ends[0][along] += half * forth
    ends[-1][along] -= half * forth
    path = f"M{ends[0][0]:.1f} {ends[0][1]:.1f}"
    for (x1, y1), (x2, y2) in pairwise(ends):
        middle = ((x1 + x2) / 2, (y1 + y2) / 2)
        bend = (x1, middle[1], x2, middle[1]) if layout.down else (middle[0], y1, middle[0], y2)
        path += "C" + " ".join(f"{value:.1f}" for value in (*bend, x2, y2))
    return path, ((ends[0][0] + ends[1][0]) / 2, (ends[0][1] + ends[1][1]) / 2)


def _straight(lanes: list[tuple[float, float]], half: float, along: int) -> Iterable[tuple[float, float]]:
    """Through a layer that it only passes, an edge runs straight: from one border of its services to the other."""
    for x, y in lanes:
        yield (x, y - half) if along else (x - half, y)
        yield (x, y + half) if along else (x + half, y)


def felt_by(summary: Summary) -> dict[str, tuple[Felt, str]]:
    """What each service felt while a fault was on: struck, answering with errors, falling back; and by what one sees it."""
    system = summary.experiment.system
    struck = {strike.proxy for strike in summary.strikes}
    felt: dict[str, tuple[Felt, str]] = {}
    for name, fallback in system.fallbacks.items():
        if summary.history.requests.bears(name).any():
            felt[fallback.for_.split("->")[0].strip()] = ("fallback", f"answered by {name}")
    margin = summary.experiment.margins.error_rate
    for edge in system.edges:
        more = _more_errors(summary, edge.name) if edge.name not in struck else None
        if more is not None and more > margin:
            felt[edge.callee] = ("failed", f"{percent(more)} more of its answers were errors than before the fault")
    for callee in {edge.callee for edge in system.edges}:
        into = [edge for edge in (*system.edges, *system.unproxied) if edge.callee == callee]
        if all(edge.name in struck for edge in into):
            felt[callee] = ("struck", "every way to it was struck")
    called = {edge.callee for edge in system.edges}
    felt.update({one.proxy: ("struck", _named(one)) for one in summary.strikes if one.proxy in called})
    return felt


def _more_errors(summary: Summary, proxy: str) -> float | None:
    """By how much the share of errors among a proxy's answers rose when the first fault began."""
    if not summary.struck_time:
        return None
    begin, end = summary.struck_time[0][0], summary.struck_time[-1][1]
    seen = [sample for sample in summary.history.of(EdgeSeen) if sample.proxy == proxy and sample.answers is not None]
    before = [sample for sample in seen if summary.since(sample.at) <= begin]
    during = [sample for sample in seen if begin < summary.since(sample.at) <= end]
    if not before or not during:
        return None
    return _errors(before[-1], during[-1]) - _errors(None, before[-1])


def _errors(earlier: EdgeSeen | None, later: EdgeSeen) -> float:
    then = (earlier.answers if earlier else None) or {}
    now = {status: count - then.get(status, 0) for status, count in (later.answers or {}).items()}
    total = sum(now.values())
    return sum(count for status, count in now.items() if status == "0" or status.startswith("5")) / total if total else 0.0
