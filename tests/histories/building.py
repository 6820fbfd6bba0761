"""Builds the history that a run of the sample system would have left, whole or damaged on purpose.

A `Story` says what happened; `tell` makes its History, `write_run` the folder of such a run. The same story
is always the same history, and a story with more damage differs from the one with less only in what is damaged:

    history = tell(Story())                                        # everything passes
    history = tell(Story().with_damage(broken("browse", share=0.2)))   # blast radius fails
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from harness.history.events import (
    CounterRead,
    EdgeProbed,
    EdgeSeen,
    Event,
    FaultBegan,
    FaultEnded,
    InvariantAsked,
    LoadBegan,
    LoadEnded,
    MachineSeen,
    PhaseBegan,
    PhaseEnded,
    RunBegan,
    RunEnded,
    ServiceChanged,
    ServiceReady,
    ServiceStarted,
    SystemReady,
    UndoDone,
    UndoFailed,
)
from harness.history.history import History
from harness.history.requests import Request
from harness.history.store import REQUESTS, RunFolder, append_line
from harness.model.aiming import toxic_name
from harness.model.expectations import ExpectationItem, SteadyItem
from harness.model.experiment import Experiment
from harness.model.faults import FaultItem
from harness.model.kinds.edge import Aim
from harness.model.load import Phases
from harness.plan.plan import CLEAN, Plan, ProxyState, ServiceChange
from harness.plan.services import WELL, changes_of, relieved, sights_of, struck
from tests.histories.shop import EDGES, FALLBACK, INVARIANT, JOURNEYS, SERVICES, SYSTEM, USUAL_SECONDS, WAYS, WEIGHTS, edge_data

BEGAN = 1_790_000_003.0
"""When the load of every story began."""

FAULT_SETS_AFTER = 0.012
"""Seconds that the engine takes to set a fault, or to heal it."""


def fault(kind: str, *, id: str | None = None, at: str = "0s", lasting: str = "20s", **words: Any) -> FaultItem:
    """A fault as a scenario would say it: `fault("outage", service="shipping")`."""
    return FaultItem.model_validate({"id": id or f"{kind}-1", "at": at, "for": lasting, kind: words})


def expectation(kind: str, *, id: str | None = None, **words: Any) -> ExpectationItem:
    """An expectation as a scenario would say it: `expectation("recovery", within="10s")`."""
    return ExpectationItem.model_validate({"id": id or f"{kind}-1", kind: words})


def steady(**words: Any) -> SteadyItem:
    """One entry of `steady_state`, for an error rate."""
    return SteadyItem.model_validate({"id": "steady-1", "error_rate": words})


OUTAGE = fault("outage", service="shipping")
EXPECTED = (
    expectation(
        "blast_radius",
        may_degrade=["place order"],
        may_fail=["track shipment"],
        worse_by={"error_rate": "5%", "p50": "50% or 50ms", "p95": "100% or 100ms"},
    ),
    expectation("fallback", name=FALLBACK, fault="outage-1", share={"min": "90%"}),
    expectation("recovery", within="10s", hold="5s"),
    expectation("invariant", name=INVARIANT, within="15s", hold="5s"),
)


@dataclass(frozen=True)
class Damage:
    """What happened to a share of the requests of a journey (of all: `*`) that were due from `begin` to `end`.

    Times count from the begin of the load. `slower` multiplies the latency, `later` adds seconds to it,
    `lag` adds seconds to the start. Where several apply to one request, the last one decides its outcome.
    """

    journey: str
    begin: float
    end: float
    share: float = 1.0
    outcome: str = "ok"
    slower: float = 1.0
    later: float = 0.0
    lag: float = 0.0
    mark: str = ""


def broken(journey: str, begin: float = 25.0, end: float = 45.0, *, share: float = 1.0, outcome: str = "http_5xx") -> Damage:
    """A share of a journey's requests fails, while the fault lasts where nothing else is said."""
    return Damage(journey, begin, end, share, outcome)


SHIPPING_AWAY = (
    Damage("place order", 25.05, 45.08, 0.996, slower=2.5, mark=FALLBACK),
    broken("track shipment", 25.0, 45.06),
)
"""How the clean sample system bears an outage of shipping."""


@dataclass(frozen=True)
class Story:
    """What happened in a run. By default: shipping was refused, and all was as it should be."""

    seed: int = 7
    rate: float = 80.0
    users: int = 480
    phases: Phases = field(
        default_factory=lambda: Phases(warmup="5s", baseline="20s", fault="20s", recovery="20s", drain="15s")  # type: ignore[arg-type]
    )
    faults: tuple[FaultItem, ...] = (OUTAGE,)
    expect: tuple[ExpectationItem, ...] = EXPECTED
    steady_state: tuple[SteadyItem, ...] = (steady(max="1%"),)
    damage: tuple[Damage, ...] = SHIPPING_AWAY
    twin: str | None = None
    weights: tuple[tuple[str, float], ...] = tuple(WEIGHTS.items())
    """How often each journey is drawn; those without a plain name are Locust's request names."""
    withheld: bool = False
    """The faults were planned and never set."""
    not_found: tuple[str, ...] = ()
    """Proxies which, read back, were clean although a fault was asked for; services that were well."""
    not_healed: tuple[str, ...] = ()
    """Proxies and services on which healing did not work."""
    never_begun: tuple[str, ...] = ()
    """Proxies and services on which a fault is not recorded at all."""
    unused: tuple[str, ...] = ()
    """Edges that nobody calls."""
    probes: tuple[tuple[str, str, str, float], ...] = ()
    """What a probe saw instead: proxy, moment, outcome, seconds."""
    untold: tuple[str, ...] = ()
    """Services of which their runtime told nothing."""
    uncounted: tuple[str, ...] = ()
    """Proxies whose refusals the engine cannot count."""
    leaking: tuple[str, ...] = ()
    """Proxies which the fault does not reach: calls pass and are answered all the same."""
    counted: float | None = 1.0
    """How much of each fired fallback the service's counter shows; None where it could not be read."""
    asked: tuple[tuple[float, float | None, int | None], ...] = ((0.5, 12.0, 480), (1.0, 3.0, 480), (1.5, 0.0, 480))
    """The invariant's answers: seconds into the drain, violations, rows. The last goes on until it held for 6.5 s."""
    left_behind: tuple[str, ...] = ()
    extra: tuple[Event, ...] = ()
    """Further events, as they are."""
    cut_off: float | None = None
    """Seconds after the begin of the load from which nothing was recorded any more."""

    def with_damage(self, *damage: Damage) -> Story:
        """The same story, with this damage on top."""
        return replace(self, damage=(*self.damage, *damage))

    @property
    def starts(self) -> dict[str, tuple[float, float]]:
        """From when to when each phase lasts, in seconds since the load began."""
        found, at = {}, 0.0
        for phase in ("warmup", "baseline", "fault", "recovery", "drain"):
            until = at + getattr(self.phases, phase)
            if until > at:
                found[phase] = (at, until)
            at = until
        return found

    @property
    def load_seconds(self) -> float:
        """How long requests arrive."""
        return self.phases.warmup + self.phases.baseline + self.phases.fault + self.phases.recovery


def experiment(story: Story) -> Experiment:
    """The experiment behind a story."""
    return Experiment.model_validate(
        {
            "name": "shipping_down",
            "question": "Can customers still order when shipping refuses every connection?",
            "seed": story.seed,
            "system": SYSTEM,
            "load": {"locustfile": "locustfile.py", "rate": f"{story.rate}/s", "users": story.users, "timeout": "5s"},
            "phases": story.phases.model_dump(mode="json"),
            "margins": {},
            "steady_state": [item.model_dump(mode="json", exclude_none=True) for item in story.steady_state],
            "faults": [item.model_dump(mode="json", exclude_none=True) for item in story.faults],
            "expect": [item.model_dump(mode="json", exclude_none=True) for item in story.expect],
        }
    )


def edges_of(item: FaultItem) -> tuple[str, ...]:
    """The edges that a fault strikes, or that lead to the service that it strikes."""
    if item.on_service is not None:
        return tuple(edge for edge in EDGES if edge.endswith(f"-> {item.on_service.service}"))
    if item.partition is not None:
        first, second = item.partition.between
        both = item.partition.direction == "both"
        forth = {f"{caller} -> {callee}" for caller in first for callee in second}
        back = {f"{caller} -> {callee}" for caller in second for callee in first} if both else set()
        return tuple(edge for edge in EDGES if edge in forth | back)
    aim = item.fault
    assert isinstance(aim, Aim)
    return tuple(
        edge
        for edge in EDGES
        if edge == aim.edge or edge.endswith(f"-> {aim.service}") or (aim.from_ and edge.startswith(f"{aim.from_} ->"))
    )


def state_of(item: FaultItem) -> ProxyState:
    """What a fault does to each of its proxies."""
    if item.outage is not None and item.outage.mode == "refuse":
        return ProxyState(enabled=False)
    if item.latency is not None:
        attributes = {"latency": round(item.latency.latency * 1000), "jitter": round(item.latency.jitter * 1000)}
        return _toxic(item, "latency", attributes)
    if item.outage is not None and item.outage.mode == "reset":
        return _toxic(item, "reset_peer", {"timeout": 0})
    closes = item.outage is not None and item.outage.mode == "close"
    return _toxic(item, "timeout", {"timeout": 1 if closes else 0})


def _toxic(item: FaultItem, kind: str, attributes: dict[str, int]) -> ProxyState:
    toxic = {
        "name": toxic_name(str(item.id), kind, "downstream"),
        "type": kind,
        "stream": "downstream",
        "attributes": attributes,
    }
    return ProxyState.model_validate({"toxics": [toxic]})


def fault_interval(story: Story, item: FaultItem) -> tuple[float, float]:
    """When a fault is asked for, and when its healing is, in seconds since the load began."""
    begin, end = story.starts["fault"]
    at = begin + (item.at or 0.0)
    return at, min(end, at + (item.for_ if item.for_ is not None else end - at))


def plan(story: Story) -> Plan:
    """The plan behind a story."""
    steps = []
    for item in story.faults:
        begin, end = fault_interval(story, item)
        services = [change.model_dump(mode="json") for change in changes_of(item) if not story.withheld]
        struck = CLEAN if story.withheld or item.on_service is not None else state_of(item)
        for verb, at, state in (("begin", begin, struck), ("heal", end, CLEAN)):
            if item.on_service is not None:
                steps.append({"verb": verb, "at": at, "fault": item.id, "kind": item.kind, "changes": [], "services": services})
                continue
            changes = [{"proxy": edge, "state": state.model_dump(mode="json")} for edge in edges_of(item)]
            steps.append({"verb": verb, "at": at, "fault": item.id, "kind": item.kind, "changes": changes})
    return Plan.model_validate(
        {
            "experiment": experiment(story).model_dump(mode="json"),
            "twin": story.twin,
            "load": {
                "locustfile": "locustfile.py",
                "rate": story.rate,
                "users": story.users,
                "arrivals": "uniform",
                "timeout": 5.0,
                "seed": story.seed,
                "seconds": story.load_seconds,
            },
            "proxies": [{key: value for key, value in edge_data(edge).items() if key != "read_from"} for edge in EDGES],
            "phases": [{"name": name, "at": at, "until": until} for name, (at, until) in story.starts.items()],
            "steps": sorted(steps, key=lambda step: (step["at"], step["verb"] == "begin")),
            "observations": list(_observations(story)),
        }
    )


def _observations(story: Story) -> Iterator[dict[str, Any]]:
    counter = SYSTEM["fallbacks"][FALLBACK]["counter"]
    yield {"what": "counter", "fallback": FALLBACK, **counter}
    if "drain" in story.starts:
        begin, end = story.starts["drain"]
        words = {"service": "postgres", "database": "orders", "query": "select 0, 0", "equals": 0, "hold": 5.0}
        yield {"what": "invariant", "invariant": INVARIANT, "at": begin, "until": end, **words}
    for item in story.faults:
        on_service: dict[str, Any] = {}
        for change in changes_of(item):
            on_service = {"service": change.service, "sees": sights_of(change)}
        for edge in edges_of(item):
            bite = {"what": "bite", "fault": item.id, "proxy": edge, "protocol": edge_data(edge)["protocol"], **on_service}
            if not (story.withheld and on_service):
                yield bite


Drawn = tuple[str, float, float, tuple[float, ...]]
MOST_DAMAGES = 8


def requests(story: Story) -> tuple[Request, ...]:
    """Every request of a story, in the order they were due."""
    drawn = _drawn(story.seed, round(story.rate * story.load_seconds), story.weights)
    return tuple(_request(story, number, one) for number, one in enumerate(drawn))


@lru_cache(maxsize=8)
def _drawn(seed: int, number: int, weights: tuple[tuple[str, float], ...]) -> tuple[Drawn, ...]:
    """What chance decides of each request, damage or not: journey, latency, lag, and a draw for each damage there may be."""
    random = Random(seed)
    names, shares = [name for name, _ in weights], [share for _, share in weights]
    found = []
    for _ in range(number):
        name = random.choices(names, shares)[0]
        latency = USUAL_SECONDS.get(name, 0.01) * random.lognormvariate(0.0, 0.4)
        lag = 0.0007 * random.expovariate(1.0)
        found.append((name, latency, lag, tuple(random.random() for _ in range(MOST_DAMAGES))))
    return tuple(found)


def _request(story: Story, number: int, drawn: Drawn) -> Request:
    name, latency, lag, draws = drawn
    offset = number / story.rate
    outcome, marks = "ok", ()
    for damage, draw in zip(story.damage, draws, strict=False):
        if damage.journey in ("*", name) and damage.begin <= offset < damage.end and draw < damage.share:
            latency, lag = latency * damage.slower + damage.later, lag + damage.lag
            outcome, marks = damage.outcome, (damage.mark,) if damage.mark else ()
    due = BEGAN + offset
    sent = outcome != "dropped"
    return Request(
        journey=JOURNEYS.get(name, name) if sent else "",
        due=round(due, 6),
        start=round(due + (lag if sent else 0.0), 6),
        end=round(due + (lag + latency if sent else 0.0), 6),
        outcome=outcome,
        status={"ok": 200, "http_5xx": 503, "http_4xx": 409}.get(outcome, 0),
        bytes=240 if outcome == "ok" else 0,
        marks=marks,
        trace=f"{number:032x}",
        error="" if outcome == "ok" else f"{outcome}: made up",
    )


def notes(story: Story, found: tuple[Request, ...]) -> tuple[dict[str, Any], ...]:
    """What the load process wrote about itself."""
    began = {"load": "began", "at": BEGAN}
    dropped = sum(request.outcome == "dropped" for request in found)
    counts = {"scheduled": len(found), "requests": len(found) - dropped, "dropped": dropped, "silent": 0}
    return (began, {"load": "finished", "at": BEGAN + story.load_seconds, **counts})


def tell(story: Story) -> History:
    """The history of a story."""
    found = requests(story)
    events: list[Event] = [
        *_coming_up(story),
        *_phases(story),
        *_faults(story),
        *_edges(story, found),
        *_counters(story, found),
        *_invariant(story),
        *_machine(story),
        *_going_down(story),
        *story.extra,
    ]
    said = notes(story, found)
    if story.cut_off is not None:
        until = BEGAN + story.cut_off
        events = [event for event in events if event.at < until]
        found = tuple(request for request in found if request.end < until)
        said = tuple(note for note in said if note["at"] < until)
    return History(plan(story).model_dump(mode="json"), events, found, said)


def write_run(story: Story, folder: Path) -> Path:
    """The folder that a run of this story would have left, without a verdict."""
    history = tell(story)
    run = RunFolder(folder)
    run.write("plan.json", Plan.model_validate(history.plan).model_dump_json(indent=2) + "\n")
    for event in history.events:
        run.record(event)
    run.close()
    with (folder / REQUESTS).open("ab", buffering=0) as file:
        for data in (*history.notes, *(request._asdict() for request in history.requests)):
            append_line(file.fileno(), data)
    for service in SERVICES:
        run.log_file(service).write_text(f"{service}: made up\n", encoding="utf-8")
    return folder


def _coming_up(story: Story) -> Iterator[Event]:
    start = BEGAN - 3.0
    yield RunBegan(
        start, "2026-09-21T123200-7f3a", "shipping_down", "local", "embedded", "no Docker engine answers", story.seed
    )
    for number, service in enumerate(SERVICES):
        yield ServiceStarted(start + 0.1, service, 4000 + number, f"127.0.0.1:{8000 + number}")
        yield ServiceReady(start + 1.3 + 0.05 * number, service, 1.2 + 0.05 * number)
    yield SystemReady(BEGAN - 0.2, 2.8)
    yield LoadBegan(BEGAN, story.rate, story.users)


def _phases(story: Story) -> Iterator[Event]:
    for phase, (begin, end) in story.starts.items():
        yield PhaseBegan(BEGAN + begin, phase)
        yield PhaseEnded(BEGAN + end, phase)
    yield LoadEnded(BEGAN + story.load_seconds + 0.05, True)


def _faults(story: Story) -> Iterator[Event]:
    for item in story.faults:
        for change in changes_of(item) if not story.withheld else ():
            yield from _blow(story, item, change)
        if item.on_service is not None:
            continue
        asked = (CLEAN if story.withheld else state_of(item)).model_dump(mode="json")
        clean = CLEAN.model_dump(mode="json")
        begin, end = (BEGAN + at for at in fault_interval(story, item))
        assert item.id is not None
        for edge in edges_of(item):
            yield from _probes(story, item, edge, (begin, end))
            if edge in story.never_begun:
                continue
            found = clean if edge in story.not_found else asked
            yield FaultBegan(begin + FAULT_SETS_AFTER, begin, item.id, item.kind, edge, asked, found)
            found = asked if edge in story.not_healed else clean
            yield FaultEnded(end + FAULT_SETS_AFTER, end, item.id, item.kind, edge, clean, found)


TOLD = {
    "kill": ("kill", "die"),
    "stop": ("die", "stop"),
    "restart": ("die", "stop", "start", "restart"),
    "crash": ("die", "start"),
    "pause": ("pause",),
    "cpu": ("update",),
    "memory": ("update",),
    "disconnect": ("disconnect",),
    "crash_loop": ("die", "start", "die", "start"),
    "scale": ("die", "stop"),
}
"""What a runtime tells of a service while a deed is done to it."""

SUMMED_UP = {"cpu": ("throttled", "12 periods"), "memory": ("pressed", "4 times at its limit")}
"""What it tells of a limit just before it is lifted: what it did."""


def _blow(story: Story, item: FaultItem, change: ServiceChange) -> Iterator[Event]:
    """What is recorded of a fault on a service itself."""
    begin, end = (BEGAN + at for at in fault_interval(story, item))
    name = change.service
    assert item.id is not None
    for edge in edges_of(item):
        yield from _probes(story, item, edge, (begin, end))
    if name in story.never_begun:
        return
    for number, what in enumerate(() if name in story.untold else TOLD[change.deed]):
        yield ServiceChanged(begin + 0.002 * (number + 1), name, "4321", what)
    if change.deed in SUMMED_UP and name not in story.untold:
        yield ServiceChanged(end + FAULT_SETS_AFTER / 2, name, "4321", *SUMMED_UP[change.deed])
    asked, well = struck(change), relieved(change)
    on = dict(WELL) if name in story.not_found else {**WELL, **asked, "restarted": True}
    yield FaultBegan(begin + FAULT_SETS_AFTER, begin, item.id, item.kind, "", asked, on, name)
    off = on if name in story.not_healed else well
    yield FaultEnded(end + FAULT_SETS_AFTER, end, item.id, item.kind, "", well, off, name)


def _probes(story: Story, item: FaultItem, edge: str, interval: tuple[float, float]) -> Iterator[Event]:
    instead = {(proxy, moment): (outcome, seconds) for proxy, moment, outcome, seconds in story.probes}
    after = ("silent", 2.0) if edge in story.not_healed else ("answered", 0.002)
    spared = story.withheld or edge in {*story.not_found, *story.never_begun}
    bite = ("answered", 0.002) if spared else _bite(item)
    begin, end = interval
    moments = (("before", begin - 3.0, ("answered", 0.002)), ("during", begin + 0.6, bite), ("after", end + 0.1, after))
    for moment, at, usual in moments:
        outcome, seconds = instead.get((edge, moment), usual)
        assert item.id is not None
        yield EdgeProbed(at, item.id, edge, moment, outcome, seconds)


def _bite(item: FaultItem) -> tuple[str, float]:
    if item.latency is not None:
        return "answered", 0.002 + item.latency.latency
    for change in changes_of(item):
        outcome = next(iter(reversed(sights_of(change))), "answered")
        return outcome, 2.0 if outcome == "silent" else 0.002
    mode = item.outage.mode if item.outage is not None else "hang"
    return {"refuse": ("refused", 0.001), "reset": ("reset", 0.002), "hang": ("silent", 2.0), "close": ("closed", 0.002)}[mode]


POOL = 4
"""Connections that each caller keeps open."""


@dataclass
class _Count:
    """What one proxy has counted so far."""

    accepted: int = POOL
    refused: int = 0
    cut: int = 0
    requests: int = 0
    answered: int = 0
    unanswered: int = 0


def _edges(story: Story, found: tuple[Request, ...]) -> Iterator[Event]:
    """Once a second what every proxy counted; a request passes its edges at the moment it starts."""
    plain = {request_name: name for name, request_name in JOURNEYS.items()}
    counts = {edge: _Count() for edge in EDGES}
    struck = _struck(story)
    sent = iter([request for request in found if request.outcome != "dropped"])
    request = next(sent, None)
    for second in count():
        at = BEGAN + second + 0.4
        if at > BEGAN + sum(getattr(story.phases, phase) for phase in Phases.model_fields):
            return
        while request is not None and request.start <= at:
            away = set(story.unused)
            for edge in WAYS.get(plain.get(request.journey, ""), ("client -> gateway",)):
                if edge not in away:
                    item = _fault_on(struck, edge, request.start - BEGAN)
                    if item is not None and _keeps_away(item):
                        away.update(_behind(edge))
                    _pass(counts[edge], item)
            request = next(sent, None)
        for edge in EDGES:
            yield _seen(story, edge, counts[edge], at)


Struck = dict[str, list[tuple[FaultItem, float, float]]]


def _struck(story: Story) -> Struck:
    """The faults that really are on each edge, and when."""
    found: Struck = {}
    spared = {*story.leaking, *story.not_found, *story.never_begun}
    for item in () if story.withheld else story.faults:
        for edge in edges_of(item):
            if edge not in spared:
                found.setdefault(edge, []).append((item, *fault_interval(story, item)))
    return found


def _fault_on(struck: Struck, edge: str, offset: float) -> FaultItem | None:
    return next((item for item, begin, end in struck.get(edge, ()) if begin <= offset < end), None)


@cache
def _behind(edge: str) -> tuple[str, ...]:
    """The edges that nobody reaches when this one is cut."""
    callee = edge.split(" -> ")[1]
    further = [other for other in EDGES if other.startswith(f"{callee} ->")]
    return tuple(name for other in further for name in (other, *_behind(other)))


def _keeps_away(item: FaultItem) -> bool:
    """Whether nobody is answered while it lasts."""
    return item.latency is None and item.kind not in ("restart", "crash", "crash_loop", "scale", "cpu", "memory")


def _pass(counted: _Count, item: FaultItem | None) -> None:
    if item is None or not _keeps_away(item):
        counted.requests += 1
        counted.answered += 1
        return
    if counted.cut == 0:
        counted.cut = POOL
    if item.outage is not None and item.outage.mode == "refuse":
        counted.refused += 1
        return
    counted.accepted += 1
    counted.requests += 1
    counted.unanswered += 1


def _seen(story: Story, edge: str, counted: _Count, at: float) -> EdgeSeen:
    used = edge not in story.unused
    cannot = "the engine does not count refusals" if edge in story.uncounted else ""
    seen = EdgeSeen(
        at=at,
        proxy=edge,
        accepted=counted.accepted if used else 0,
        refused=None if cannot else counted.refused,
        cut=counted.cut,
        open=POOL if used else 0,
        bytes_up=200 * counted.requests,
        bytes_down=240 * counted.answered,
        cannot=cannot,
    )
    if edge_data(edge)["protocol"] != "http":
        return seen
    answers = {"200": counted.answered, "0": counted.unanswered} if counted.unanswered else {"200": counted.answered}
    return replace(seen, requests=counted.requests, answers=answers, traces=counted.requests, most_attempts=1)


def _counters(story: Story, found: tuple[Request, ...]) -> Iterator[Event]:
    ends = sorted(request.end for request in found if FALLBACK in request.marks)
    fired = 0
    for second in range(int(story.load_seconds + story.phases.drain) + 1):
        at = BEGAN + second + 0.45
        while fired < len(ends) and ends[fired] <= at:
            fired += 1
        if story.counted is None:
            yield CounterRead(at, FALLBACK, "order", None, "GET /metrics: connection refused")
        else:
            yield CounterRead(at, FALLBACK, "order", float(round(fired * story.counted)))


def _invariant(story: Story) -> Iterator[Event]:
    if "drain" not in story.starts or not story.asked:
        return
    begin, end = story.starts["drain"]
    for seconds, value, over in story.asked:
        yield InvariantAsked(BEGAN + begin + seconds, INVARIANT, value, over)
    last, value, over = story.asked[-1]
    for step in range(1, 14):
        if begin + last + 0.5 * step < end:
            yield InvariantAsked(BEGAN + begin + last + 0.5 * step, INVARIANT, value, over)


def _machine(story: Story) -> Iterator[Event]:
    for second in range(int(story.load_seconds)):
        yield MachineSeen(BEGAN + second + 0.5, 0.03, 0.06, 0.04, 0.31, 0.05, 0.6)


def _going_down(story: Story) -> Iterator[Event]:
    at = BEGAN + sum(getattr(story.phases, phase) for phase in Phases.model_fields)
    for number, undo in enumerate(("EndProcessGroup locust", *(f"EndProcessGroup {service}" for service in SERVICES))):
        yield UndoDone(at + 0.1 + 0.02 * number, undo)
    for undo in story.left_behind:
        yield UndoFailed(at + 0.4, undo, "made up")
    yield RunEnded(at + 0.5)
