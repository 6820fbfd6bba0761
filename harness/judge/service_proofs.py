"""Whether the faults on services themselves were what they were meant to be: set, felt, met by traffic, taken away again.

A service is seen from three sides: by its state as it was read back, by what its runtime told of it, and through the
edges that lead to it. What none of them can show is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.judge import words
from harness.judge.blows import Blow, Glimpse
from harness.judge.case import Case
from harness.judge.proofs import Proof, evidence_finding, met
from harness.judge.verdict import Finding, Outcome

TOLD = {
    "kill": ("die",),
    "stop": ("die",),
    "restart": ("die", "start"),
    "crash": ("die",),
    "pause": ("pause",),
    "disconnect": ("disconnect",),
}
"""What its runtime must have told of a service while a fault lasted."""

REACHED = {"cpu": ("throttled",), "memory": ("pressed", "oom")}
"""What tells that a service reached its limit: one of these. That the limit was there is read back, and is not enough."""

SEE_LOG = "see the log of the service"


def evidence_of_services(case: Case, blows: Sequence[Blow]) -> tuple[Finding, Finding, Finding, Finding]:
    """Set, bit, met, healed."""
    services = words.several(list(dict.fromkeys(blow.service for blow in blows)))
    return (
        _finding("set", "fault was set", [_set(blow) for blow in blows], f"read back on {services}"),
        _finding("bit", "it bit", [_bit(blow) for blow in blows]),
        _met(case, blows),
        _finding("healed", "it was healed", [_healed(blow) for blow in blows]),
    )


def together(on_edges: Finding, on_services: Finding) -> Finding:
    """Evidence of faults on edges and of faults on services as one: what is missing of either is missing."""
    first = max((on_edges, on_services), key=lambda finding: finding.outcome)
    seen = first.seen if first.outcome is not Outcome.PASSED else f"{on_edges.seen}; {on_services.seen}"
    source = words.several([source for source in (on_edges.source, on_services.source) if source])
    return replace(first, seen=seen, source=source, details=(*on_edges.details, *on_services.details))


def _finding(kind: str, title: str, shown: Sequence[Proof], seen: str = "") -> Finding:
    what = "service" if len({one.about for one in shown}) == 1 else "services"
    return evidence_finding(kind, title, shown, seen or "; ".join(one.line for one in shown), what)


# set


def _set(blow: Blow) -> Proof:
    began = blow.began
    if blow.withheld:
        return Proof(
            blow.service,
            "",
            f"{blow.fault} was withheld: nothing was set",
            "run the scenario itself, not its twin without fault",
        )
    if began is None and blow.refused is not None:
        return Proof(blow.service, "", f"{blow.fault} could not be set: {blow.refused.reason}", SEE_LOG)
    if began is None:
        return Proof(blow.service, "", f"{blow.fault} was never set", "see why the run ended before it")
    if not blow.is_set:
        asked, found = (_state(state) for state in (began.asked, began.found))
        return Proof(
            blow.service, "", f"after {blow.fault} it was read back as {found or 'nothing'}, expected {asked}", SEE_LOG
        )
    return Proof(
        blow.service, f"{blow.fault} set in {words.seconds(began.at - began.asked_at)}, read back as {_state(began.asked)}"
    )


def _state(state: dict[str, object]) -> str:
    return words.several([f"{name} {str(value).lower()}" for name, value in state.items()])


# bit


def _bit(blow: Blow) -> Proof:
    if not blow.is_set:
        return Proof(blow.service, "", f"{blow.fault} was not set, so it could not bite")
    told = [change.what for change in blow.changes]
    if blow.deed in REACHED:
        return _reached(blow)
    silent = [what for what in TOLD[blow.deed] if what not in told]
    if silent:
        missing = f"its runtime told nothing of {words.several(silent)} while {blow.fault} was on{_told(told)}"
        return Proof(blow.service, "", missing, "see the events of the run")
    looks = [_look(glimpse) for glimpse in blow.glimpses]
    missing = next((why for _, why in looks if why), "")
    if missing:
        return Proof(blow.service, "", missing, "see the logs of the service and the proxy engine")
    seen = [seen for seen, _ in looks] or ["no edge leads to it, so nobody could look"]
    return Proof(blow.service, f"told of {words.several(list(dict.fromkeys(told)))}; {'; '.join(seen)}")


def _reached(blow: Blow) -> Proof:
    """Whether a service came up against its limit."""
    reached = [change for change in blow.changes if change.what in REACHED[blow.deed]]
    if not reached:
        missing = f"the limit of {blow.fault} was read back, and nothing shows that the service ever reached it"
        return Proof(blow.service, "", missing, "set a lower limit, or raise load.rate")
    told = list(dict.fromkeys(f"{change.what} ({change.detail})" if change.detail else change.what for change in reached))
    return Proof(blow.service, f"its limit was read back, and it reached it: {words.several(told)}")


def _told(what: Sequence[str]) -> str:
    return f" (told of {words.several(list(dict.fromkeys(what)))})" if what else ""


def _look(glimpse: Glimpse) -> tuple[str, str]:
    """What a probe through one edge saw, and what is missing in it."""
    before, during = glimpse.strike.probe("before"), glimpse.strike.probe("during")
    if not glimpse.sees:
        seen = f"a probe was {during.outcome}" if during is not None else "no probe"
        return f"{glimpse.edge}: {seen}, which shows nothing either way", ""
    if before is None or during is None:
        return "", f"nobody looked through {glimpse.edge} {'before' if before is None else 'during'} the fault"
    told = f"{glimpse.edge}: {before.outcome} before, {during.outcome} during ({words.seconds(during.seconds)})"
    if before.outcome == "answered" and during.outcome in glimpse.sees:
        return told, ""
    return "", f"expected a probe to be {' or '.join(glimpse.sees)} in place of answered; {told}"


# met


def _met(case: Case, blows: Sequence[Blow]) -> Finding:
    """By the rungs of every edge into the service; one that nobody calls leaves it open."""
    strikes = [glimpse.strike for blow in blows for glimpse in blow.glimpses]
    alone = [Proof(blow.service, "", *_unmet(blow)) for blow in blows if not blow.glimpses]
    if not strikes:
        return _finding("met", "it met traffic", alone)
    found = met(case, strikes)
    return together(found, _finding("met", "it met traffic", alone)) if alone else found


def _unmet(blow: Blow) -> tuple[str, str]:
    if blow.withheld or not blow.is_set:
        return f"{blow.fault} was not set, so nothing could meet it", ""
    nobody = f"no edge leads to {blow.service}, so nobody can tell whether {blow.fault} met traffic"
    return nobody, f"write who calls it, as edges: [caller -> {blow.service}:PORT] in system.yaml"


# healed


def _healed(blow: Blow) -> Proof:
    if blow.began is None:
        return Proof(blow.service, "", f"{blow.fault} never began, so there was nothing to heal")
    if blow.ended is None:
        why = f": {blow.refused.reason}" if blow.refused is not None else ""
        return Proof(blow.service, "", f"the healing of {blow.fault} was not recorded{why}", "see undo.jsonl in the run")
    if not blow.is_healed:
        asked, found = (_state(state) for state in (blow.ended.asked, blow.ended.found))
        return Proof(blow.service, "", f"after healing {blow.fault} it was read back as {found}, expected {asked}", SEE_LOG)
    looks = [_look_again(glimpse, blow.ended.at) for glimpse in blow.glimpses]
    if missing := next((why for _, why in looks if why), ""):
        return Proof(blow.service, "", f"{blow.fault} was healed, and yet {missing}", SEE_LOG)
    seen = [seen for seen, _ in looks] or ["no edge leads to it, so nobody looked whether it answers"]
    return Proof(blow.service, f"in {words.seconds(blow.ended.at - blow.ended.asked_at)}; {'; '.join(seen)}")


def _look_again(glimpse: Glimpse, healed: float) -> tuple[str, str]:
    after = glimpse.after
    if after is None:
        return "", f"nobody looked through {glimpse.edge} after it"
    late = words.seconds(max(0.0, after.at + after.seconds - healed))
    if after.outcome != "answered":
        return "", f"a probe through {glimpse.edge} was {after.outcome} still, {late} later"
    return f"{glimpse.edge}: answered after {late}", ""
