"""Tells a plan to a person: what is going to happen, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.model.load import IN_ROUNDS
from harness.model.parts import Part
from harness.plan.plan import (
    TOXICS_OF_TOXIPROXY,
    Heal,
    Plan,
    ProxyState,
    ServiceChange,
    Step,
    WatchBite,
    WatchCounter,
    WatchInvariant,
)
from harness.plan.services import relieved, struck


def plan_text(plan: Plan) -> str:
    """The plan in lines of at most some 110 characters."""
    experiment = plan.experiment
    lines = [f"{experiment.name} · {experiment.question}"]
    if plan.twin is not None:
        lines.append(f"twin: {plan.twin}")
    lines += [_load_line(plan), "", *_titled("phases", _phase_lines(plan))]
    lines += _titled("proxies", (f"{p.name:<{_widest(plan)}}  port {p.port}, {p.protocol}" for p in plan.proxies))
    ids = max((len(step.fault) for step in plan.steps), default=0)
    lines += _titled("steps", (line for step in plan.steps for line in _step_lines(step, _widest(plan), ids)))
    if not plan.steps:
        lines += ["steps", "  nothing is injected", ""]
    lines += _titled("observations", dict.fromkeys(_observation_lines(plan)))
    lines += _titled("expected", _expectation_lines(plan))
    lines += _titled("halted when", (f"{item.id}: {item.kind} {_words(item.condition)}" for item in experiment.stop_when))
    known = (f"{entry.expect}: {entry.ticket}, until {entry.until.isoformat()}" for entry in experiment.known)
    lines += _titled("known not to hold", known)
    return "\n".join(lines).rstrip() + "\n"


def _titled(title: str, lines: Iterable[str]) -> list[str]:
    found = [f"  {line}" for line in lines]
    return [title, *found, ""] if found else []


def _widest(plan: Plan) -> int:
    return max(len(proxy.name) for proxy in plan.proxies)


def _load_line(plan: Plan) -> str:
    load = plan.load
    if load.shape:
        how = "users as the locustfile's own shape has them, with their own wait times (closed model)"
    elif load.rate is None:
        how = f"{load.users} users with their own wait times (closed model)"
    else:
        stages = [f"{stage.to:g}/s over {stage.over:g} s" for stage in load.stages]
        arriving = f"arrivals to {', to '.join(stages)}" if stages else f"{load.rate:g} arrivals/s"
        how = f"{arriving}, {load.arrivals}, at most {load.users} users"
    how += f", from {load.processes} processes" if load.processes > 1 or load.bind else ""
    how += f" that join at {load.bind}" if load.bind else ""
    how += f", which may also ask {', '.join(load.allow_hosts)}" if load.allow_hosts else ""
    return f"seed {load.seed} · {how} · client timeout {load.timeout:g} s · {plan.seconds:g} s in all"


def _phase_lines(plan: Plan) -> list[str]:
    """Each phase with its times, all of which move with a warm-up that ends early, or a window that is lengthened."""
    rounds = max(phase.round for phase in plan.phases)
    moving = ["warmup ends as soon as every journey is steady"] if plan.experiment.warmup_until else []
    if plan.experiment.extend:
        moving.append(f"a window that is void or undecided is lengthened once, by {plan.experiment.extend:g} s")
    lines = [
        f"{phase.name:<9} {phase.at:6g} s … {phase.until:g} s"
        + (f"  round {phase.round}" if rounds > 1 and phase.name in IN_ROUNDS else "")
        for phase in plan.phases
    ]
    return lines + moving


def _step_lines(step: Step, width: int, ids: int) -> list[str]:
    told = [(change.proxy, _state(change.state)) for change in step.changes]
    told += [(change.service, _deed(step, change)) for change in step.services]
    told = told or [("", "nothing is done")]
    return [f"{step.at:6g} s  {step.verb:<5} {step.fault:<{ids}}  {what:<{width}}  {how}" for what, how in told]


def _deed(step: Step, change: ServiceChange) -> str:
    asked = relieved(change) if isinstance(step, Heal) else struck(change)
    state = ", ".join(f"{name} {str(value).lower()}" for name, value in asked.items())
    return state if isinstance(step, Heal) else f"{change.deed}: {state}"


def _state(state: ProxyState) -> str:
    words = [] if state.enabled else ["refuses connections"]
    for toxic in state.toxics:
        said = [f"{name}={value}" for name, value in toxic.attributes.items()]
        said += [toxic.stream] if toxic.type in TOXICS_OF_TOXIPROXY else []
        said += [f"on {toxic.toxicity:.0%} of the connections"] if toxic.toxicity < 1 else []
        words.append(" ".join((toxic.type, *said)))
    return ", ".join(words) or "clean"


def _observation_lines(plan: Plan) -> list[str]:
    lines = []
    for seen in plan.observations:
        match seen:
            case WatchCounter():
                lines.append(f"counter   {seen.metric} of {seen.service}, every second")
            case WatchInvariant():
                held = f"until it held for {seen.hold:g} s, at the latest {seen.until:g} s"
                lines.append(f"invariant {seen.invariant}: asked from {seen.at:g} s {held}")
            case WatchBite():
                lines.append(
                    f"probe     {seen.proxy} ({seen.protocol}): before, during and after {seen.fault}{_in_each(plan)}"
                    f"{_must_see(seen)}"
                )
    return lines


def _in_each(plan: Plan) -> str:
    return " in each round" if plan.experiment.rounds > 1 else ""


def _must_see(seen: WatchBite) -> str:
    return f", meanwhile {' or '.join(seen.sees)}" if seen.sees else ""


def _expectation_lines(plan: Plan) -> list[str]:
    entries = [(str(item.id), item.kind, item.expectation) for item in plan.experiment.steady_state]
    lines = [f"steady state  {name}: {kind} {_words(part)}" for name, kind, part in entries]
    return lines + [f"{item.id}: {item.kind} {_words(item.expectation)}" for item in plan.experiment.expect]


def _words(part: Part) -> str:
    data = part.model_dump(mode="json", exclude_none=True)
    return _inline(data)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return str(value)


def explanation(plan: Plan, origins: Mapping[str, tuple[str, str]]) -> str:
    """Every value that may be left out and where it came from, then every edge and where it was read."""
    lines = [f"  {name:<44} {value:<26} {origin}" for name, (value, origin) in origins.items()]
    edges = [f"  {edge.name:<44} {edge.protocol:<26} {edge.read_from}" for edge in plan.experiment.system.edges]
    return "\n".join(["where each value came from", *lines, "", "where each edge was read", *edges]) + "\n"
