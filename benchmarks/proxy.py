"""The embedded proxy engine beside a real Toxiproxy: one table of what is asked of it and what was found.

    python benchmarks/proxy.py --toxiproxy-server PATH [SECTION …] [--rounds 5] [--seconds 2]

Everything runs at once on this machine: a callee (nginx where it is installed, else a small one of our own), a client
(wrk where it is installed, else a small one of our own), and the two engines. The embedded one reads HTTP along; every
request has a trace id of its own, as in a run, which it keeps. In each round every engine is measured once, in an order
that alternates; a ratio is the median of the rounds' own ratios, so that a machine that slows down slows both. Figures
are of this machine alone, and of what else it did meanwhile: the last column is the share of the processors that others
took (median of the measurements; 0 where nobody disturbed). With
`--patience` each measurement waits for a quiet moment. `churn` is measured only where it is named: it takes its time.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from proxy_load import SIZE, request
from proxy_rig import (
    OURS,
    THEIRS,
    Edge,
    Engine,
    Others,
    Void,
    bulk_callee,
    echo_callee,
    engines,
    faces,
    has_wrk,
    http_callee,
    load,
    loading,
    nginx,
    requests_per_second,
)

from harness.plan.plan import CLEAN, ProxyState, Toxic
from harness.runtime.ports import Address

DIRECT = "direct"
MOST_GROWN = 20
"""MB that an engine may take more after churn than at its half-time; what it keeps of trace ids comes and goes."""

DELAY = 0.100
TICK = 0.010
LATE = Toxic(name="delay", type="latency", stream="downstream", attributes={"latency": 100, "jitter": 0})


@dataclass(frozen=True, slots=True)
class Given:
    toxiproxy: str | None
    rounds: int
    seconds: float
    connections: Sequence[int]
    churn: int
    others: Others


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked: of the ratio to Toxiproxy, or of the embedded engine's own figure."""

    of: str
    least: float = float("-inf")
    most: float = float("inf")

    def __str__(self) -> str:
        unit = " x" if self.of == "ratio" else ""
        return f">= {self.least:g}{unit}" if self.least > float("-inf") else f"<= {self.most:g}{unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a figure of each engine for each round."""

    metric: str
    found: Mapping[str, Sequence[float]]
    asked: Asked | None = None
    note: str = ""

    def show(self, others: Others) -> None:
        ours = statistics.median(self.found[OURS])
        theirs = _figure(statistics.median(self.found[THEIRS])) if THEIRS in self.found else "-"
        ratios = self.ratios()
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else "-"
        asked, met = str(self.asked or ""), self._met(ours, ratios)
        taken = f"{statistics.median(others.shares):.0%}" if others.shares else ""
        line = f"{self.metric:<46} {theirs:>10} {_figure(ours):>10}  {ratio:<18} {asked:<10} {met:<4} {taken:>6}"
        print(f"{line}  {self.note}".rstrip(), flush=True)

    def ratios(self) -> list[float]:
        pairs = zip(self.found[OURS], self.found.get(THEIRS, ()), strict=False)
        return [ours / theirs for ours, theirs in pairs if theirs > 0]

    def _met(self, ours: float, ratios: Sequence[float]) -> str:
        if self.asked is None:
            return ""
        if self.asked.of == "ratio":
            if not ratios:
                return "-"
            ours = statistics.median(ratios)
        return "ok" if self.asked.least <= ours <= self.asked.most else "NOT"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)} (all but churn)")
    parser.add_argument("--toxiproxy-server", help="path of a toxiproxy-server; without it the embedded engine stands alone")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each metric (5)")
    parser.add_argument("--seconds", type=float, default=2, help="seconds for each measurement of a rate (2)")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--churn", type=int, default=1_000_000, help="connections of churn (1000000)")
    parser.add_argument("--patience", type=float, default=0, help="seconds to wait for others to be quiet, each time (0)")
    given = parser.parse_args()
    chosen = given.sections or [name for name in SECTIONS if name != "churn"]
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; sections: {', '.join(SECTIONS)}")
    how = Given(given.toxiproxy_server, given.rounds, given.seconds, given.connections, given.churn, Others(given.patience))
    client, callee = ("wrk" if has_wrk() else "our own (no wrk here)"), ("nginx" if nginx() else "our own (no nginx here)")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}; client: {client}; callee: {callee}\n")
    print(f"{'metric':<46} {THEIRS:>10} {OURS:>10}  {'ratio (rounds)':<18} {'asked':<10}      others")
    for name in chosen:
        how.others.shares.clear()
        try:
            for row in SECTIONS[name](how):
                row.show(how.others)
        except Void as why:
            print(f"{name}: the measurement is void: {why}")
    print(f"\nload average {os.getloadavg()[0]:.2f}")


def rounds(given: Given, ways: Mapping[str, Any], measure: Callable[[Any], float]) -> dict[str, list[float]]:
    """The figure of every way, round by round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            with given.others.watched():
                found[name].append(measure(ways[name]))
    return found


# Rates


def requests(given: Given) -> Iterator[Row]:
    """Requests a second on kept connections."""
    least = {1: 1.4, 16: 1.2, 256: 1.1}
    with ExitStack() as stack:
        ways = _ways(stack, given, stack.enter_context(http_callee()))
        for connections in given.connections:
            found = rounds(given, ways, lambda way, n=connections: requests_per_second(way, n, given.seconds))
            asked = Asked("ratio", least[connections]) if connections in least else None
            yield Row(f"requests/s, {connections} connections", found, asked, _of_direct(found))


def connects(given: Given) -> Iterator[Row]:
    """New connections a second, one request on each."""
    with ExitStack() as stack:
        callee = stack.enter_context(http_callee())
        fresh = cycle(faces(callee))
        both = stack.enter_context(engines(given.toxiproxy))
        ways = {
            DIRECT: lambda: next(fresh),
            **{name: lambda e=engine: e.forward(next(fresh)).listen for name, engine in both.items()},
        }
        found = rounds(given, ways, lambda way: requests_per_second(way(), 16, given.seconds, close=True))
        yield Row("new connections/s, 16 at a time", found, Asked("ratio", 1.4), _of_direct(found))


def bulk(given: Given) -> Iterator[Row]:
    """One large answer."""
    with ExitStack() as stack:
        ways = _ways(stack, given, stack.enter_context(bulk_callee()))
        found = rounds(given, ways, lambda way: _megabytes_per_second(way, given.seconds))
        yield Row("bulk, MB/s on one connection", found, Asked("ratio", 2), _of_direct(found))


def _ways(stack: ExitStack, given: Given, callee: Address) -> dict[str, Address]:
    both = stack.enter_context(engines(given.toxiproxy))
    return {DIRECT: callee, **{name: engine.forward(callee).listen for name, engine in both.items()}}


def _of_direct(found: Mapping[str, Sequence[float]]) -> str:
    direct = statistics.median(found[DIRECT])
    return f"(direct {_figure(direct)})"


def _megabytes_per_second(way: Address, seconds: float) -> float:
    room = bytearray(1024 * 1024)
    with socket.create_connection((way.host, way.port)) as sock:
        sock.recv_into(room)
        begin, size = time.perf_counter(), 0
        while (now := time.perf_counter()) - begin < seconds:
            size += sock.recv_into(room)
    return size / 1e6 / (now - begin)


# Latency and memory


def latency(given: Given) -> Iterator[Row]:
    """What the way through an engine adds for one client at 1,000 requests a second."""
    with ExitStack() as stack:
        ways = _ways(stack, given, stack.enter_context(http_callee()))
        added: dict[str, dict[str, list[float]]] = {"p50": {}, "p99": {}}
        for _ in range(given.rounds):
            with given.others.watched():
                took = _round_trips(ways, given.seconds)
            for share, part in (("p50", 0.5), ("p99", 0.99)):
                at = {name: sorted(found)[int(len(found) * part)] for name, found in took.items()}
                for name in list(at)[1:]:
                    added[share].setdefault(name, []).append(1e6 * (at[name] - at[DIRECT]))
        for share, found in added.items():
            yield Row(f"latency added at 1,000/s, {share}, us", found, Asked("ratio", most=1.0))


def _round_trips(ways: Mapping[str, Address], seconds: float) -> dict[str, list[float]]:
    """By turns a tenth of a second each, so that all meet the same machine."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    with ExitStack() as stack:
        socks = {name: stack.enter_context(_caller(way)) for name, way in ways.items()}
        for _ in range(round(10 * seconds)):
            for name, sock in socks.items():
                due = time.perf_counter()
                for _ in range(100):
                    due += 0.001
                    time.sleep(max(0.0, due - time.perf_counter()))
                    begin = time.perf_counter()
                    _ask(sock)
                    took[name].append(time.perf_counter() - begin)
    return took


def _caller(way: Address) -> socket.socket:
    sock = socket.create_connection((way.host, way.port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _ask(sock: socket.socket) -> None:
    sock.sendall(request())
    answer = b""
    while not answer.endswith(b"x" * SIZE):
        piece = sock.recv(65536)
        if not piece:
            raise Void("an answer was lost")
        answer += piece


def memory(given: Given) -> Iterator[Row]:
    """What an engine that has just started takes with 1,000 open connections, on each of which a request was answered."""
    found: dict[str, list[float]] = {}
    with http_callee() as callee:
        for _ in range(min(given.rounds, 3)):
            with ExitStack() as stack:
                both = stack.enter_context(engines(given.toxiproxy))
                for name, engine in both.items():
                    way = engine.forward(callee).listen
                    for _ in range(1000):
                        _ask(stack.enter_context(_caller(way)))
                    found.setdefault(name, []).append(engine.resident)
    yield Row("memory at 1,000 connections, MB", found, Asked(OURS, most=40))


# Faults


def toxics(given: Given) -> Iterator[Row]:
    """What the other edges keep of their rate while one edge bears everything there is."""
    with ExitStack() as stack:
        callee = stack.enter_context(http_callee())
        found: dict[str, list[float]] = {}
        for name, engine in stack.enter_context(engines(given.toxiproxy)).items():
            sick, well = engine.forward(callee), engine.forward(callee)
            with loading("trickle", sick.listen, 8, 3600) as trickle:
                states = {"clean": False, "sick": True}
                both = rounds(given, states, lambda ill, e=engine, s=sick, w=well: _beside(e, s, w, ill, given.seconds))
                if trickle.poll() is not None:
                    raise Void("the client of the sick edge ended")
            found[name] = [ill / clean for ill, clean in zip(both["sick"], both["clean"], strict=True)]
        yield Row("rate kept beside an edge with every toxic", found, Asked(OURS, least=0.9))


EVERYWHERE: tuple[dict[str, Any], ...] = (
    {"type": "latency", "attributes": {"latency": 20, "jitter": 10}},
    {"type": "bandwidth", "attributes": {"rate": 100}},
    {"type": "slow_close", "attributes": {"delay": 100}},
    {"type": "slicer", "attributes": {"average_size": 64, "size_variation": 32, "delay": 500}},
    {"type": "limit_data", "attributes": {"bytes": 20_000}},
    {"type": "noop", "attributes": {}},
    {"type": "timeout", "toxicity": 0.1, "attributes": {"timeout": 100}},
    {"type": "reset_peer", "toxicity": 0.1, "attributes": {"timeout": 50}},
)
OUR_OWN: tuple[dict[str, Any], ...] = (
    {"type": "http_error", "seed": 1, "attributes": {"share": 0.2}},
    {"type": "http_delay", "seed": 2, "attributes": {"delay": 10, "share": 0.5}},
    {"type": "http_corrupt", "seed": 3, "attributes": {"share": 0.2}},
    {"type": "http_lost_reply", "seed": 4, "attributes": {"how": "reset", "share": 0.1}},
)


def _beside(engine: Engine, sick: Edge, well: Edge, ill: bool, seconds: float) -> float:
    with engine.api() as ask:
        if ill:
            for toxic in (*EVERYWHERE, *(OUR_OWN if engine.name == OURS else ())):
                for stream in ("upstream", "downstream"):
                    ask("POST", f"/proxies/{sick.name}/toxics", {**toxic, "stream": stream, "name": toxic["type"] + stream})
        try:
            return requests_per_second(well.listen, 16, seconds)
        finally:
            for toxic in ask("GET", f"/proxies/{sick.name}/toxics") if ill else ():
                ask("DELETE", f"/proxies/{sick.name}/toxics/{toxic['name']}")


def delays(given: Given) -> Iterator[Row]:
    """How much later than 100 ms a message comes that is delayed by 100 ms, idle and with 5,000 requests a second elsewhere."""
    with ExitStack() as stack:
        callee, echo = stack.enter_context(http_callee()), stack.enter_context(echo_callee())
        both = stack.enter_context(engines(given.toxiproxy))
        for elsewhere in (0, 5000):
            late: dict[str, list[float]] = {}
            note = ""
            for name, engine in both.items():
                with given.others.watched():
                    late[name], rate = _lateness(engine, callee, echo, elsewhere)
                note = f"(elsewhere {rate:,.0f}/s)" if elsewhere else ""
            when = f"with {elsewhere:,}/s elsewhere" if elsewhere else "idle"
            for share, part, asked in (("p50", 0.5, None), ("p99", 0.99, Asked(OURS, most=2.5))):
                at = {name: [1000 * found[int(len(found) * part)]] for name, found in late.items()}
                yield Row(f"delay late by ms, {share}, {when}", at, asked, note)
            early = {name: [sum(each < 0 for each in found)] for name, found in late.items()}
            yield Row(f"delays that came early, {when}", early, Asked(OURS, most=0))


def _lateness(engine: Engine, callee: Address, echo: Address, elsewhere: int) -> tuple[list[float], float]:
    """Seconds that messages come later than their delay, the way there and back included; and the rate elsewhere."""
    slow, busy = engine.forward(echo), engine.forward(callee)
    engine.adapter.put(slow.name, ProxyState(toxics=(LATE,)))
    ticks = 1000
    with ExitStack() as stack:
        seconds = ticks * TICK + 1
        busy_client = stack.enter_context(loading("ask", busy.listen, 16, seconds, elsewhere)) if elsewhere else None
        with _caller(slow.listen) as sock:
            found = sorted(_ticks(sock, ticks))
        rate = 0.0
        if busy_client is not None:
            output, _ = busy_client.communicate()
            rate = float(output.partition(":")[2].strip(" }\n"))
    engine.adapter.put(slow.name, CLEAN)
    return found, rate


def _ticks(sock: socket.socket, ticks: int) -> Iterator[float]:
    sent: list[float] = []
    begin = time.perf_counter()
    answered = 0
    while answered < ticks:
        due = begin + len(sent) * TICK if len(sent) < ticks else time.perf_counter() + 1
        if select.select([sock], [], [], max(0.0, due - time.perf_counter()))[0]:
            now = time.perf_counter()
            for _ in sock.recv(4096):
                yield now - sent[answered] - DELAY
                answered += 1
        elif len(sent) < ticks:
            sent.append(time.perf_counter())
            sock.sendall(b"x")


def bandwidth(given: Given) -> Iterator[Row]:
    """How far 10 s of 1,000 KB/s are off, in percent."""
    with ExitStack() as stack:
        callee = stack.enter_context(bulk_callee())
        found: dict[str, list[float]] = {}
        for name, engine in stack.enter_context(engines(given.toxiproxy)).items():
            edge = engine.forward(callee)
            with engine.api() as ask:
                ask("POST", f"/proxies/{edge.name}/toxics", {"type": "bandwidth", "attributes": {"rate": 1000}})
            with given.others.watched():
                rate = _megabytes_per_second(edge.listen, 10)
            found[name] = [100 * abs(rate - 1)]
    yield Row("bandwidth off by % over 10 s", found, Asked(OURS, most=3))


def edges(given: Given) -> Iterator[Row]:
    """How long it takes to set a toxic on 100 edges: by the API alone, and by the adapter, which reads each back."""
    with ExitStack() as stack:
        callee = stack.enter_context(http_callee())
        both = stack.enter_context(engines(given.toxiproxy))
        made = {name: [engine.forward(callee) for _ in range(100)] for name, engine in both.items()}
        for what, change in (("API", _post_each), ("adapter", _put_each)):
            found = rounds(given, {name: (both[name], made[name]) for name in both}, lambda way, c=change: c(*way))
            yield Row(f"100 edges changed by the {what}, ms", found, Asked(OURS, most=250))


def _post_each(engine: Engine, edges_made: Sequence[Edge]) -> float:
    body = {"name": LATE.name, "type": LATE.type, "attributes": LATE.attributes}
    with engine.api() as ask:
        begin = time.perf_counter()
        for edge in edges_made:
            ask("POST", f"/proxies/{edge.name}/toxics", body)
        took = time.perf_counter() - begin
        for edge in edges_made:
            ask("DELETE", f"/proxies/{edge.name}/toxics/{LATE.name}")
    return 1000 * took


def _put_each(engine: Engine, edges_made: Sequence[Edge]) -> float:
    begin = time.perf_counter()
    for edge in edges_made:
        engine.adapter.put(edge.name, ProxyState(toxics=(LATE,)))
    took = time.perf_counter() - begin
    for edge in edges_made:
        engine.adapter.put(edge.name, CLEAN)
    return 1000 * took


# Endurance


def churn(given: Given) -> Iterator[Row]:
    """Connections without end on the embedded engine: nothing may be lost, nothing may be left."""
    with ExitStack() as stack:
        callee = stack.enter_context(http_callee())
        engine = stack.enter_context(engines(None))[OURS]
        edge = engine.forward(callee)
        total: dict[str, float] = {}
        fds = resident = 0.0
        while (done := int(total.get("connections", 0))) < given.churn:
            for name, times in load("churn", edge.listen, 64, min(20_000, given.churn - done)).items():
                total[name] = total.get(name, 0) + times
            if done < given.churn / 2:  # what it takes at half-time is all it may take
                fds, resident = _settled(engine), engine.resident
            lost = sum(times for name, times in total.items() if name.startswith("lost"))
            print(f"  {total['connections']:,.0f} connections, {lost:,.0f} lost, {engine.resident:.1f} MB", file=sys.stderr)
        left, grown = _settled(engine), engine.resident - resident
        with engine.api() as ask:
            (seen,) = ask("GET", "/edges")
    note = ", ".join(f"{name} {times:,.0f}" for name, times in total.items() if name != "seconds")
    note = f"{note} in {total['seconds']:,.0f} s"
    yield Row(
        "churn: connections, those with a loss left out", {OURS: [total["connections"] - lost]}, Asked(OURS, given.churn), note
    )
    yield Row("churn: answers or connections lost", {OURS: [lost]}, Asked(OURS, most=0))
    yield Row("churn: connections left open", {OURS: [seen["open"]]}, Asked(OURS, most=0))
    yield Row("churn: descriptors more than at half-time", {OURS: [left - fds]}, Asked(OURS, most=0))
    yield Row("churn: MB more than at half-time", {OURS: [grown]}, Asked(OURS, most=MOST_GROWN))


def _settled(engine: Engine) -> float:
    """Descriptors once they no longer change."""
    before, found = -1, engine.process.num_fds()
    while found != before:
        time.sleep(0.5)
        before, found = found, engine.process.num_fds()
    return float(found)


SECTIONS: dict[str, Callable[[Given], Iterator[Row]]] = {
    "requests": requests,
    "connects": connects,
    "bulk": bulk,
    "latency": latency,
    "memory": memory,
    "toxics": toxics,
    "delays": delays,
    "bandwidth": bandwidth,
    "edges": edges,
    "churn": churn,
}


if __name__ == "__main__":
    main()
