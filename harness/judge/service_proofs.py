"""Whether the faults on services themselves were what they were meant to be: set, felt, met by traffic, taken away again.

A service is seen from three sides: by its state as it was read back, by what its runtime told of it, and through the
edges that lead to it. What none of them can show is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from harness.history.events import ServiceChanged
from harness.judge import words
from harness.judge.blows import TELLS_EARLY, Blow, Bout, Glimpse
from harness.judge.case import Case
from harness.judge.proofs import SEE_WHAT_WAS_UNDONE, SEE_WHY_IT_ENDED, Proof, evidence_finding, met
from harness.judge.strikes import is_as
from harness.judge.verdict import Finding, Outcome

TOLD = {
    "kill": ("die",),
    "stop": ("die",),
    "restart": ("die", "start"),
    "crash": ("die",),
    "pause": ("pause",),
    "disconnect": ("disconnect",),
    "crash_loop": ("die", "start"),
    "scale": ("die",),
}
"""What its runtime must have told of a service while a fault lasted."""

UNDOES = {
    "kill": ("start",),
    "stop": ("start",),
    "scale": ("start",),
    "pause": ("unpause", "die", "start"),
    "disconnect": ("connect",),
}
"""What, told of it after that, says that the fault was over before it was healed."""

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
    if blow.withheld:
        return Proof(
            blow.service,
            "",
            f"{blow.fault} was withheld: nothing was set",
            "run the scenario itself, not its twin without fault",
        )
    recorded = blow.recorded
    off = next((change for change in recorded.changes if not is_as(change.asked, change.found)), None)
    if off is not None:
        asked, found = (_state(state) for state in (off.asked, off.found))
        return Proof(
            blow.service, "", f"after {blow.fault} it was read back as {found or 'nothing'}, expected {asked}", SEE_LOG
        )
    if blow.refused is not None and not recorded.is_whole:
        return Proof(blow.service, "", f"{blow.fault} could not be set: {blow.refused.reason}", SEE_LOG)
    if not recorded.turns:
        return Proof(blow.service, "", f"{blow.fault} was never set", "see why the run ended before it")
    if not recorded.is_whole:
        return Proof(blow.service, "", recorded.unset, SEE_WHY_IT_ENDED)
    slowest = max(change.at - change.asked_at for change in recorded.changes)
    often = f" {_times(len(recorded.turns))}" if recorded.planned > 1 else ""
    often += f", varied {_times(recorded.varied)}" if recorded.varied else ""
    return Proof(
        blow.service,
        f"{blow.fault} set{often} in {words.seconds(slowest)}, read back as {_state(recorded.changes[-1].asked)}",
    )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _state(state: dict[str, object]) -> str:
    return words.several([f"{name} {str(value).lower()}" for name, value in state.items()])


# bit


def _bit(blow: Blow) -> Proof:
    if not blow.is_set:
        return Proof(blow.service, "", f"{blow.recorded.unset}, so nothing is said of whether it bit")
    if missing := next((missing for bout in blow.bouts if (missing := _unfelt(blow, bout))), None):
        return missing
    each = f"each of {len(blow.bouts)} times" if len(blow.bouts) > 1 else ""
    if blow.deed in REACHED:
        return Proof(blow.service, f"its limit was read back, and it reached it{each and f' {each}'}: {_reached(blow)}")
    looks = [_look(glimpse) for glimpse in blow.glimpses]
    if unseen := next((why for _, why in looks if why), ""):
        return Proof(blow.service, "", unseen, "see the logs of the service and the proxy engine")
    seen = [seen for seen, _ in looks] or ["no edge leads to it, so nobody could look"]
    told = dict.fromkeys(what for bout in blow.bouts for what in bout.told)
    return Proof(blow.service, f"{each and f'{each} '}told of {words.several(list(told))}; {'; '.join(seen)}")


def _unfelt(blow: Blow, bout: Bout) -> Proof | None:
    """What its runtime should have told of the service while the fault was on, and did not."""
    if blow.deed in REACHED:
        if any(what in bout.told for what in REACHED[blow.deed]):
            return None
        missing = f"the limit of {blow.fault} was read back, and nothing shows that the service ever reached it"
        return Proof(blow.service, "", missing, "set a lower limit, or raise load.rate")
    silent = [what for what in TOLD[blow.deed] if what not in bout.told]
    if silent:
        missing = f"its runtime told nothing of {words.several(silent)} while {blow.fault} was on{_told(bout.told)}"
        return Proof(blow.service, "", missing, "see the events of the run")
    if undone := _undone(blow.deed, bout):
        at = words.seconds(undone.at - bout.turn.began.asked_at)
        missing = f"{blow.fault} was over before it was healed: its runtime told of {undone.what} {at} after it began"
        return Proof(blow.service, "", missing, f"see what else is done to {blow.service} meanwhile")
    if blow.deed == "crash_loop" and not _died_again(bout):
        missing = f"nothing shows that it came up and died again while {blow.fault} was on{_told(bout.told)}"
        return Proof(blow.service, "", missing, "give the fault more time, or the service a shorter life (lives)")
    if blow.deed == "scale" and (few := _stopped_too_few(bout)):
        return Proof(blow.service, "", f"{few} while {blow.fault} was on", "see the events of the run")
    return None


def _undone(deed: str, bout: Bout) -> ServiceChanged | None:
    """What undid the deed before its healing was asked for, which may itself be told a little early."""
    until = inf if bout.turn.ended is None else bout.turn.ended.asked_at - TELLS_EARLY
    done: set[str] = set()
    for change in bout.changes:
        if change.what in TOLD[deed]:
            done.add(change.instance)
        elif change.what in UNDOES.get(deed, ()) and change.at < until and _is_back(deed, change, done):
            return change
    return None


def _is_back(deed: str, change: ServiceChanged, done: set[str]) -> bool:
    """Whether it was told of what the deed was done to; of a service of several containers others may be started."""
    return change.instance in done if deed == "scale" else bool(done)


def _died_again(bout: Bout) -> bool:
    """Whether something that was started after a death died in its turn."""
    started: set[str] = set()
    died = False
    for change in bout.changes:
        if change.what == "die" and change.instance in started:
            return True
        if change.what == "start" and died:
            started.add(change.instance)
        died = died or change.what == "die"
    return False


def _stopped_too_few(bout: Bout) -> str:
    """Which of its containers should have stopped, and did not; empty where all have."""
    stopped = {change.instance for change in bout.changes if change.what == "die"}
    found = bout.turn.began.found
    expected = max(1, int(found.get("of", 0)) - int(found.get("replicas", 0)))
    if len(stopped) == expected:
        return ""
    return f"expected {words.count(expected, 'container')} of it to stop, its runtime told of {len(stopped)}"


def _reached(blow: Blow) -> str:
    """What was told of a service that came up against its limit."""
    found = [change for bout in blow.bouts for change in bout.changes if change.what in REACHED[blow.deed]]
    told = dict.fromkeys(f"{change.what} ({change.detail})" if change.detail else change.what for change in found)
    return words.several(list(told))


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
        return f"{blow.recorded.unset}, so nothing is said of what met it", ""
    nobody = f"no edge leads to {blow.service}, so nobody can tell whether {blow.fault} met traffic"
    return nobody, f"write who calls it, as edges: [caller -> {blow.service}:PORT] in system.yaml"


# healed


def _healed(blow: Blow) -> Proof:
    if not blow.bouts:
        return Proof(blow.service, "", f"{blow.fault} never began, so there was nothing to heal")
    off = next((bout for bout in blow.bouts if not bout.is_healed), None)
    if off is not None and off.turn.ended is not None:
        asked, found = (_state(state) for state in (off.turn.ended.asked, off.turn.ended.found))
        return Proof(blow.service, "", f"after healing {blow.fault} it was read back as {found}, expected {asked}", SEE_LOG)
    last = blow.recorded.ended
    if off is not None or last is None:
        why = f": {blow.refused.reason}" if blow.refused is not None else ""
        return Proof(blow.service, "", f"the healing of {blow.fault} was not recorded{why}", SEE_WHAT_WAS_UNDONE)
    looks = [_look_again(glimpse, last.at) for glimpse in blow.glimpses]
    if missing := next((why for _, why in looks if why), ""):
        return Proof(blow.service, "", f"{blow.fault} was healed, and yet {missing}", SEE_LOG)
    seen = [seen for seen, _ in looks] or ["no edge leads to it, so nobody looked whether it answers"]
    ends = [bout.turn.ended for bout in blow.bouts if bout.turn.ended is not None]
    slowest = max(ended.at - ended.asked_at for ended in ends)
    often = f", {_times(len(ends))}" if len(ends) > 1 else ""
    return Proof(blow.service, f"in {words.seconds(slowest)}{often}; {'; '.join(seen)}")


def _look_again(glimpse: Glimpse, healed: float) -> tuple[str, str]:
    after = glimpse.after
    if after is None:
        return "", f"nobody looked through {glimpse.edge} after it"
    late = words.seconds(max(0.0, after.at + after.seconds - healed))
    if after.outcome != "answered":
        return "", f"a probe through {glimpse.edge} was {after.outcome} still, {late} later"
    return f"{glimpse.edge}: answered after {late}", ""
