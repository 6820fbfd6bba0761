"""Where it was cut, and who felt it: the system laid out in layers, from the client on.

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
from harness.report.summary import Summary
from harness.report.wording import percent

Felt: TypeAlias = Literal["nothing", "fallback", "failed", "cut"]
Link: TypeAlias = tuple[str, str]
Stop: TypeAlias = tuple[str, ...]
"""A place in a layer: a service, or the lane of an edge that passes (caller, callee, layer)."""

Place: TypeAlias = Callable[[Stop], tuple[float, float]]

SWEEPS = 6
STORES = ("postgresql", "redis")


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes of one drawing. `down` lays the layers from top to bottom, for narrow pages."""

    down: bool
    node_width: float
    node_height: float
    layer_step: float
    node_gap: float
    lane_gap: float


ACROSS = Layout(down=False, node_width=96, node_height=28, layer_step=150, node_gap=46, lane_gap=26)
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
    """An edge as it is drawn; `x` and `y` are where the sign of a cut stands."""

    path: str
    cut: str
    slow: bool
    x: float
    y: float
    name: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """The whole topology."""

    width: float
    height: float
    layout: Layout
    nodes: tuple[Node, ...]
    curves: tuple[Curve, ...]


def draw_topology(summary: Summary, layout: Layout) -> Drawing:
    """Lay the system out and colour it by what was recorded."""
    links = _links(summary)
    layer = _layers(links)
    routes = {link: _route(link, layer) for link in links}
    order = _order(routes, layer)
    places = _places(order, layout)
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
    edges = summary.experiment.system.edges
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


def _order(routes: dict[Link, list[Stop]], layer: dict[str, int]) -> list[list[Stop]]:
    """Sort each layer by where its neighbours stand, back and forth, until crossings are few."""
    rows: dict[int, list[Stop]] = defaultdict(list)
    for name, depth in layer.items():
        rows[depth].append((name,))
    beside: dict[Stop, list[Stop]] = defaultdict(list)
    for route in routes.values():
        for stop in route[1:-1]:
            rows[int(stop[2])].append(stop)
        for one, other in pairwise(route):
            beside[one].append(other)
            beside[other].append(one)
    ordered = [rows[depth] for depth in sorted(rows)]
    for sweep in range(SWEEPS):
        _sort_towards(ordered if sweep % 2 == 0 else ordered[::-1], beside)
    return ordered


def _sort_towards(rows: Iterable[list[Stop]], beside: dict[Stop, list[Stop]]) -> None:
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


def _places(order: list[list[Stop]], layout: Layout) -> dict[Stop, tuple[float, float]]:
    """Along and across for every stop; each layer is centred."""
    found: dict[Stop, tuple[float, float]] = {}
    for depth, row in enumerate(order):
        over, before = 0.0, 0.0
        spots: list[float] = []
        for stop in row:
            half = (layout.node_gap if len(stop) == 1 else layout.lane_gap) / 2
            over += before + half if spots else 0.0
            before = half
            spots.append(over)
        for stop, spot in zip(row, spots, strict=True):
            found[stop] = (depth * layout.layer_step, spot - (spots[-1] / 2 if spots else 0.0))
    return found


def _curves(summary: Summary, routes: dict[Link, list[Stop]], place: Place, layout: Layout) -> tuple[Curve, ...]:
    names = {edge.name: (edge.caller, edge.callee) for edge in summary.experiment.system.edges}
    struck = {names[strike.proxy]: strike for strike in summary.strikes if strike.proxy in names}
    found = []
    for link, route in routes.items():
        strike = struck.get(link)
        path, (x, y) = _path([place(stop) for stop in route], layout)
        words = f"{link[0]} → {link[1]}" + (f": {strike.words}" if strike else "")
        found.append(Curve(path, strike.words if strike else "", strike is not None and strike.kind == "latency", x, y, words))
    return tuple(sorted(found, key=lambda curve: bool(curve.cut)))


def _path(points: list[tuple[float, float]], layout: Layout) -> tuple[str, tuple[float, float]]:
    """A smooth line through the points, from border to border, and the middle of its first piece."""
    half = (layout.node_height if layout.down else layout.node_width) / 2
    along = 1 if layout.down else 0
    forth = 1 if points[-1][along] >= points[0][along] else -1
    ends = [list(point) for point in points]
    ends[0][along] += half * forth
    ends[-1][along] -= half * forth
    path = f"M{ends[0][0]:.1f} {ends[0][1]:.1f}"
    for (x1, y1), (x2, y2) in pairwise(ends):
        middle = ((x1 + x2) / 2, (y1 + y2) / 2)
        bend = (x1, middle[1], x2, middle[1]) if layout.down else (middle[0], y1, middle[0], y2)
        path += "C" + " ".join(f"{value:.1f}" for value in (*bend, x2, y2))
    return path, ((ends[0][0] + ends[1][0]) / 2, (ends[0][1] + ends[1][1]) / 2)


def felt_by(summary: Summary) -> dict[str, tuple[Felt, str]]:
    """What each service felt while a fault was on: cut off, answering with errors, falling back; and by what one sees it."""
    system = summary.experiment.system
    struck = {strike.proxy for strike in summary.strikes}
    felt: dict[str, tuple[Felt, str]] = {}
    fired = {mark for request in summary.history.requests for mark in request.marks}
    for name, fallback in system.fallbacks.items():
        if name in fired:
            felt[fallback.for_.split("->")[0].strip()] = ("fallback", f"answered by {name}")
    margin = summary.experiment.margins.error_rate
    for edge in system.edges:
        more = _more_errors(summary, edge.name) if edge.name not in struck else None
        if more is not None and more > margin:
            felt[edge.callee] = ("failed", f"{percent(more)} more of its answers were errors than before the fault")
    for callee in {edge.callee for edge in system.edges}:
        into = [edge for edge in system.edges if edge.callee == callee]
        if all(edge.name in struck for edge in into):
            felt[callee] = ("cut", "every way to it was struck")
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
