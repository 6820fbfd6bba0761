"""Whether the faults were what they were meant to be: set, felt, met by traffic, and taken away again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from harness.history.events import CounterRead, EdgeProbed, UndoDone, UndoFailed
from harness.history.history import History, Window
from harness.history.table import Requests
from harness.judge import words
from harness.judge.case import Case
from harness.judge.edges import EdgeCounts, Traffic
from harness.judge.sights import Sight, was_seen
from harness.judge.states import is_clean, is_of_http, is_partial, sight_of, sights_in
from harness.judge.strikes import Strike
from harness.judge.verdict import Finding, Outcome
from harness.model.edges import CLIENT


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of one fault on one proxy or service: `missing` says what is not proved, empty where all is."""

    about: str
    seen: str
    missing: str = ""
    advice: str = ""

    @property
    def line(self) -> str:
        """The proof as one line."""
        told = self.missing or self.seen
        return told if self.about in told else f"{self.about}: {told}"


def evidence_finding(kind: str, title: str, proofs: Sequence[Proof], seen: str, what: str = "edges") -> Finding:
    """Evidence is there, or it is not; it never fails. `what` are the things that the proofs are about."""
    if not proofs:
        nothing = "a fault was expected, and no step of the plan sets one"
        return Finding(kind, kind, title, Outcome.INCONCLUSIVE, nothing, why=nothing)
    missing = [proof for proof in proofs if proof.missing]
    first = missing[0] if missing else None
    return Finding(
        kind,
        kind,
        title,
        Outcome.INCONCLUSIVE if missing else Outcome.PASSED,
        first.line if first else seen,
        source=f"{len({proof.about for proof in proofs})} {what}",
        why=first.line if first else "",
        advice=first.advice if first else "",
        details=tuple(proof.line for proof in proofs),
    )


SEE_WHY_IT_ENDED = "see why the run ended before its end"
SEE_WHAT_WAS_UNDONE = "see UndoDone in the run's events.jsonl for what was done, and by whom"

# set


def was_set(strikes: Sequence[Strike]) -> Finding:
    """Read back from the engine, every proxy was in the state that was asked for."""
    edges = words.several(list(dict.fromkeys(strike.proxy for strike in strikes)))
    return evidence_finding("set", "fault was set", [_set(strike) for strike in strikes], f"read back on {edges}")


def _set(strike: Strike) -> Proof:
    began = strike.began
    if began is None and strike.refused is not None:
        return Proof(
            strike.proxy, "", f"the proxy did not take {strike.fault}: {strike.refused.reason}", "see the proxy engine's log"
        )
    if began is None:
        return Proof(strike.proxy, "", f"{strike.fault} was never set", "see why the run ended before it")
    if strike.is_set:
        slowest = max(change.at - change.asked_at for change in strike.changes)
        times = f" {len(strike.changes)} times" if len(strike.changes) > 1 else ""
        return Proof(strike.proxy, f"{strike.fault} set{times} in {words.seconds(slowest)}, read back")
    if is_clean(began.asked):
        return Proof(
            strike.proxy,
            "",
            f"{strike.fault} was withheld: nothing was set",
            "run the scenario itself, not its twin without fault",
        )
    if not strike.is_whole:
        return Proof(strike.proxy, "", strike.unset, SEE_WHY_IT_ENDED)
    return Proof(
        strike.proxy, "", f"{strike.fault} was asked for, and read back the proxy was in another state", "see the engine's log"
    )


# bit


def bit(case: Case, strikes: Sequence[Strike]) -> Finding:
    """A probe through the proxy saw what the fault must show, where before it got an answer; or the engine counted it."""
    counts = EdgeCounts(case.history)
    proofs = [_bit(counts, strike) for strike in strikes]
    bites = [bite for strike in strikes if (bite := _bite(strike))]
    seen = _bitten(bites) if bites else "; ".join(dict.fromkeys(proof.seen for proof in proofs))
    return evidence_finding("bit", "it bit", proofs, seen)


@dataclass(frozen=True, slots=True)
class Bite:
    """What a probe saw of a fault, and what it got before."""

    sight: Sight
    before: EdgeProbed
    during: EdgeProbed

    @property
    def saw(self) -> str:
        """What became of the probe."""
        if self.during.outcome == "answered":
            return self.sight.expected
        return "left without an answer" if self.during.outcome == "silent" else self.during.outcome


def _bite(strike: Strike) -> Bite | None:
    """The first look that saw the fault."""
    before = strike.probe("before")
    for look in strike.looks("during"):
        sight = sight_of(strike.state_at(look.at), strike.fault, strike.protocol)
        if before is not None and was_seen(sight, before, look):
            return Bite(sight, before, look)
    return None


def _bitten(bites: Sequence[Bite]) -> str:
    """What the probes saw, all together."""
    saw = words.several(list(dict.fromkeys(bite.saw for bite in bites)))
    during, before = (
        max(probe.seconds for probe in probes) for probes in zip(*((b.during, b.before) for b in bites), strict=True)
    )
    return f"a probe was {saw} ({words.seconds(during)}), where before it was answered ({words.seconds(before)})"


def _bit(counts: EdgeCounts, strike: Strike) -> Proof:
    before, looks = strike.probe("before"), strike.looks("during")
    if not strike.is_set:
        return Proof(strike.proxy, "", f"{strike.unset}, so nothing is said of whether it bit", "")
    if before is None or not looks:
        return Proof(
            strike.proxy, "", f"nobody looked through the proxy {'before' if before is None else 'during'} the fault", ""
        )
    if bite := _bite(strike):
        return Proof(strike.proxy, _told(bite.before, bite.during))
    sight = sight_of(strike.state_at(looks[-1].at), strike.fault, strike.protocol)
    why = sight.unseen(before)
    if not why and any(map(is_partial, strike.toxics)):
        why = f"none of {words.count(len(looks), 'look')} was among those that it strikes"
    if why:
        return _counted(counts, strike, why)
    return Proof(
        strike.proxy,
        "",
        f"expected a probe to be {sight.expected}, it was {_told(before, looks[-1])}",
        "see the logs of the callee and the engine",
    )


def _told(before: EdgeProbed, during: EdgeProbed) -> str:
    return f"{_look(before)} before ({words.seconds(before.seconds)}), {_look(during)} during ({words.seconds(during.seconds)})"


def _look(probe: EdgeProbed) -> str:
    return f"{probe.outcome} {probe.status}" if probe.status >= LEAST_ERROR and probe.outcome == "answered" else probe.outcome


LEAST_ERROR = 400
"""The smallest status that is told."""


def _counted(counts: EdgeCounts, strike: Strike, why: str) -> Proof:
    """Where a probe cannot tell, the engine's own count may: of those on which the fault's toxics acted."""
    struck = _struck_by(counts, strike)
    if struck is None:
        advice = (
            "run it with --engine embedded, which counts whom a fault strikes; or aim it at another edge, or make it stronger"
        )
        return Proof(strike.proxy, "", f"whether {strike.fault} bit cannot be told: {why}", advice)
    if not struck:
        nobody = f"nothing shows that {strike.fault} bit: {why}, and the engine counted nobody whom it struck"
        return Proof(strike.proxy, "", nobody, "aim it at what the load does, or make it stronger")
    for status in _statuses(strike):
        if not counts.answered_with(strike.proxy, strike.windows, status):
            told = f"the engine counted {struck} {_whom(strike, struck)}, and no answer {status}"
            return Proof(strike.proxy, "", told, "see the engine's log")
    return Proof(strike.proxy, f"{struck} {_whom(strike, struck)}, as the engine counted")


def _struck_by(counts: EdgeCounts, strike: Strike) -> int | None:
    return counts.struck(strike.proxy, strike.windows, [toxic["name"] for toxic in strike.toxics])


def _whom(strike: Strike, number: int) -> str:
    what = "request" if any(map(is_of_http, strike.toxics)) else "connection"
    return f"{what} struck" if number == 1 else f"{what}s struck"


def _statuses(strike: Strike) -> list[int]:
    """The statuses that the proxy itself answers with."""
    return [int(toxic["attributes"].get("status", 503)) for toxic in strike.toxics if toxic["type"] == "http_error"]


# met


@dataclass(frozen=True, slots=True)
class Rung:
    """What showed that traffic met a fault: how many of what, and what could not be seen from there."""

    number: int
    what: str
    unseen: str = ""

    @property
    def line(self) -> str:
        """The rung as one says it."""
        return f"{self.number} {self.what}" + (f" ({self.unseen})" if self.unseen else "")


NOWHERE = Rung(0, "")


def met(case: Case, strikes: Sequence[Strike]) -> Finding:
    """Each fault met traffic on at least one of its edges; which edges nobody used is told."""
    counts = EdgeCounts(case.history)
    proofs: list[Proof] = []
    rungs: list[Rung] = []
    for fault in dict.fromkeys(strike.fault for strike in strikes):
        own = [_met(case, counts, strike) for strike in strikes if strike.fault == fault]
        rungs += [rung for _, rung in own if rung.number]
        found = [proof for proof, _ in own]
        proofs += found if all(proof.missing for proof in found) else [_used(proof) for proof in found]
    return evidence_finding("met", "it met traffic", proofs, _added_up(rungs))


def _added_up(rungs: Sequence[Rung]) -> str:
    """What was counted on each rung, all edges together; and what could not be seen, once."""
    totals: dict[str, int] = {}
    for rung in rungs:
        totals[rung.what] = totals.get(rung.what, 0) + rung.number
    counted = words.several([f"{number} {what}" for what, number in totals.items()])
    unseen = list(dict.fromkeys(rung.unseen for rung in rungs if rung.unseen))
    return counted + (f" ({'; '.join(unseen)})" if unseen else "")


def _used(proof: Proof) -> Proof:
    """An edge that nobody used is no gap where the same fault met traffic on another."""
    return Proof(proof.about, proof.missing or proof.seen)


def _met(case: Case, counts: EdgeCounts, strike: Strike) -> tuple[Proof, Rung]:
    if not strike.is_set:
        return Proof(strike.proxy, "", f"{strike.unset}, so nothing is said of what met it"), NOWHERE
    if len(strike.windows) < len(strike.turns):
        return Proof(strike.proxy, "", f"the end of {strike.fault} was not recorded"), NOWHERE
    traffic = counts.during_all(strike.proxy, strike.windows)
    if traffic is None:
        return Proof(strike.proxy, "", "the engine counted nothing there", "see the proxy engine's log"), NOWHERE
    struck = _struck_by(counts, strike) if strike.toxics else None
    if struck:
        rung = Rung(struck, _whom(strike, struck))
        return Proof(strike.proxy, rung.line), rung
    if struck is not None and not any(toxic["type"] in UNCOUNTED for toxic in strike.toxics):
        return _unstruck(strike, traffic), NOWHERE
    look = Looking(case, strike, strike.windows, traffic)
    rung = next((found for rung in RUNGS if (found := rung(look)).number), NOWHERE)
    return (Proof(strike.proxy, rung.line) if rung.number else _unmet(look)), rung


UNCOUNTED = ("unreachable",)
"""Toxics that act on attempts, which an engine counts as refused, rather than on connections."""


def _unstruck(strike: Strike, traffic: Traffic) -> Proof:
    """Where the engine counts whom a fault strikes, nothing else shows that anybody met it."""
    passed = (
        words.count(traffic.requests, "request")
        if traffic.requests is not None
        else words.count(traffic.accepted or 0, "connection")
    )
    told = f"nothing met {strike.fault} on edge {strike.proxy}: {passed} there, and it struck none"
    return Proof(strike.proxy, "", told, "aim the fault at what the load does there, make it stronger, or raise load.rate")


@dataclass(frozen=True, slots=True)
class Looking:
    """One strike with what its proxy counted while it lasted; None in a count is what cannot be seen, never nought."""

    case: Case
    strike: Strike
    windows: tuple[Window, ...]
    traffic: Traffic

    @property
    def unseen(self) -> str:
        """What this proxy cannot count, empty where it counts all there is."""
        return "" if self.traffic.refused is not None else self.traffic.cannot or "refusals are not counted"

    @property
    def own_packets(self) -> int:
        """How many packets may be none of the caller's: those of probes, and of neighbours asking for addresses."""
        probes = [seen for seen in self.case.history.of(EdgeProbed) if seen.proxy == self.strike.proxy]
        made = [probe for probe in probes if any(window.begin <= probe.at < window.end for window in self.windows)]
        seconds = sum(window.seconds for window in self.windows)
        return max(REFUSED_PACKETS, sum(map(_packets_of, made))) + ceil(NEIGHBOUR_PACKETS * seconds)

    @property
    def due(self) -> Requests:
        """The requests of the load that were due while it lasted."""
        return self.case.history.requests.between((window.begin, window.end) for window in self.windows)


def _packets_of(probe: EdgeProbed) -> int:
    """What a probe sent towards the proxy, at most."""
    if probe.outcome == "refused":
        return REFUSED_PACKETS
    return PROBE_PACKETS + PACKETS_A_QUESTION * max(0, len(probe.times) - 1) + probe.got // LEAST_PACKET


PROBE_PACKETS = 10
"""What one probe puts on an edge's network towards the proxy, at most: handshake, question, acknowledgements, end."""

PACKETS_A_QUESTION = 4
"""What each further question puts there: itself, and acknowledgements of its answer."""

LEAST_PACKET = 64
"""Bytes: an answer may come in packets as small as this, each acknowledged."""

REFUSED_PACKETS = 2
"""What a probe that was refused puts there: its one attempt, and an answer to whoever asked for its address."""

NEIGHBOUR_PACKETS = 0.2
"""A second: caller, host and proxy each ask for an address (ARP) at most every half minute, and are asked as often."""


def _unmet(look: Looking) -> Proof:
    proxy, packets = look.strike.proxy, look.traffic.packets
    if packets is not None:
        few = f"nothing shows that anybody called {proxy}: {words.count(packets, 'packet')} on its network"
        told = f"{few}, where up to {look.own_packets} may be probes and ARP ({look.unseen or 'no connection was counted'})"
        return Proof(look.strike.proxy, "", told, "aim the fault at an edge that the load uses, or raise load.rate")
    if look.unseen:
        advice = "run as root, or use mode: close, reset or hang, which can be counted"
        if look.traffic.bytes_up is None:
            advice = "run it with --engine embedded, which counts requests and refusals"
        return Proof(look.strike.proxy, "", f"whether anybody called {proxy} cannot be told: {look.unseen}", advice)
    nobody = f"nothing met the fault on edge {proxy}: nobody called it"
    return Proof(look.strike.proxy, "", nobody, "aim the fault at an edge that the load uses, or raise load.rate")


def _requests(look: Looking) -> Rung:
    return Rung(look.traffic.requests or 0, "requests")


def _sent(look: Looking) -> Rung:
    """On the way in the caller is the load itself: what it sent, it knows."""
    proxies = look.case.history.plan.get("proxies", ())
    enters = any(proxy["name"] == look.strike.proxy and proxy["caller"] == CLIENT and not proxy["spare"] for proxy in proxies)
    return Rung(look.due.sent, "requests of the load") if enters else NOWHERE


def _connections(look: Looking) -> Rung:
    accepted, refused = look.traffic.accepted or 0, look.traffic.refused or 0
    return Rung(accepted + refused, "attempts" if refused else "connections", look.unseen)


def _bytes(look: Looking) -> Rung:
    return Rung(max(0, look.traffic.bytes_up or 0), "bytes from the caller")


def _packets(look: Looking) -> Rung:
    """What came in on the edge's own network, where it is more than the harness and ARP may have sent."""
    packets = look.traffic.packets or 0
    if packets <= look.own_packets:
        return NOWHERE
    return Rung(packets, "packets on edge networks", look.unseen)


def _caller(look: Looking) -> Rung:
    """Where neither refusals nor packets can be counted: connections that were cut, and a fallback for this very edge."""
    cut = look.traffic.cut
    if not look.unseen or look.traffic.packets is not None or cut == 0:
        return NOWHERE
    told = f"{words.count(cut, 'connection')} cut; {look.unseen}" if cut is not None else look.unseen
    number = _marks(look) or sum(_moved(look.case, look.strike, window) for window in look.windows)
    return Rung(number, "fallbacks of the caller", told)


def _in_use(look: Looking) -> Rung:
    """Where refusals cannot be counted: open connections that were cut, on an edge that was in use until then."""
    baseline = look.case.judged("baseline")
    before = EdgeCounts(look.case.history).during(look.strike.proxy, baseline) if baseline is not None else None
    if not look.unseen or before is None or not (before.requests or (before.bytes_up or 0) > 0):
        return NOWHERE
    return Rung(max(0, look.traffic.cut or 0), "connections in use were cut", look.unseen)


RUNGS: tuple[Callable[[Looking], Rung], ...] = (_requests, _sent, _connections, _bytes, _packets, _caller, _in_use)
"""What shows that traffic met a fault, best first."""


def _fallbacks_for(case: Case, proxy: str) -> set[str]:
    return {name for name, declared in case.experiment.system.fallbacks.items() if declared.for_ == proxy}


def _marks(look: Looking) -> int:
    names = _fallbacks_for(look.case, look.strike.proxy)
    return int(look.due.bears(*names).sum())


def _moved(case: Case, strike: Strike, window: Window) -> int:
    names = _fallbacks_for(case, strike.proxy)
    reads = [
        read.value
        for read in case.history.of(CounterRead)
        if read.fallback in names and read.value is not None and window.begin <= read.at <= window.end
    ]
    return max(0, round(reads[-1] - reads[0])) if reads else 0


# healed


def healed(case: Case, strikes: Sequence[Strike]) -> Finding:
    """Read back, every proxy was as it should be without the fault, and a probe got an answer again."""
    counts = EdgeCounts(case.history)
    proofs = [_healed(counts, strike, strikes) for strike in strikes]
    slowest = max(map(_slowest_healing, strikes), default=0.0)
    return evidence_finding("healed", "it was healed", proofs, f"in {words.seconds(slowest)}")


def _slowest_healing(strike: Strike) -> float:
    ends = [turn.ended for turn in strike.turns if turn.ended is not None]
    return max((ended.at - ended.asked_at for ended in ends), default=0.0)


def _healed(counts: EdgeCounts, strike: Strike, strikes: Sequence[Strike]) -> Proof:
    ended = strike.ended
    if strike.began is None:
        return Proof(strike.proxy, "", f"{strike.fault} never began, so there was nothing to heal")
    if ended is None or len(strike.windows) < len(strike.turns):
        return Proof(strike.proxy, "", f"the healing of {strike.fault} was not recorded", SEE_WHAT_WAS_UNDONE)
    if not strike.is_healed:
        return Proof(
            strike.proxy, "", f"after healing {strike.fault} the proxy was read back in another state", "see the engine's log"
        )
    if struck := counts.struck_after(strike.proxy, ended.at + SETTLED, [toxic["name"] for toxic in strike.toxics]):
        told = f"{strike.fault} was healed, and yet {struck} {_whom(strike, struck)} afterwards"
        return Proof(strike.proxy, "", told, "see the engine's log")
    told = f"in {words.seconds(_slowest_healing(strike))}"
    if not strike.looks("after"):
        unlooked = f"{strike.fault} was healed {told} and read back as clean, and no probe went through it afterwards"
        return Proof(strike.proxy, "", unlooked, SEE_WHY_IT_ENDED)
    looks = [_look_again(strike, after) for after in strike.looks("after")]
    if seen := next(filter(None, looks), ""):
        return Proof(
            strike.proxy, "", f"{strike.fault} was healed {told}, and yet {seen}", "see the logs of the callee and the engine"
        )
    after = next((after for after in strike.looks("after") if after.outcome != "answered"), None)
    if after is None:
        return Proof(strike.proxy, f"{told}, a probe was answered")
    others = [other.fault for other in strikes if other.proxy == strike.proxy and _is_on(other, after.at + after.seconds)]
    still = words.several(list(dict.fromkeys(others))) or "another fault"
    return Proof(strike.proxy, f"{told}, a probe was {after.outcome}, as it must be under {still}")


def _look_again(strike: Strike, after: EdgeProbed) -> str:
    """What a probe saw of the fault after its healing, or of anything that nothing else explains; empty where nothing."""
    if after.injected in [toxic["name"] for toxic in strike.toxics]:
        return f"a probe was answered by {after.injected} after it"
    before = strike.probe("before")
    own = sight_of({"toxics": strike.toxics}, strike.fault, strike.protocol)
    shown = before is not None and was_seen(own, before, after)
    if after.outcome == "answered" and not shown:
        return ""
    states = [strike.state_at(at) for at in (after.at, after.at + after.seconds)]
    sights = [sight for state in states if state for sight in sights_in(state, strike.protocol)]
    if before is not None and any(was_seen(sight, before, after) for sight in sights):
        return ""
    return f"a probe was {own.expected if shown else after.outcome} after it"


SETTLED = 0.5
"""Seconds after a healing in which what it closes may still be counted."""


def _is_on(strike: Strike, at: float) -> bool:
    return any(window.begin <= at < window.end for window in strike.windows)


def left_behind(history: History) -> tuple[str, ...]:
    """The undos that failed, or that nobody is there for, and that were not done later, by whomever."""
    done: dict[str, float] = {event.undo: event.at for event in history.of(UndoDone)}
    failed = {event.undo: event.at for event in history.of(UndoFailed)}
    still = [undo for undo, at in failed.items() if done.get(undo, at - 1.0) < at]
    return tuple(dict.fromkeys((*still, *(undo for undo in history.left if undo not in done))))
