"""Every kind of fault on edges, carried out for real: one entry of YAML each, on an edge of its own, with traffic.

The plan is made by the real planning, only its phases are short; the driver is the real one, so are the engine, the
services and who calls them. What the callers saw is kept beside the history, which the judge gets.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.history.events import EdgeSeen, Event, FaultVaried
from harness.history.history import History, Window
from harness.history.store import RunFolder, read_events
from harness.judge.case import Case
from harness.judge.proofs import bit, healed, met, was_set
from harness.judge.strikes import strikes_of
from harness.judge.verdict import Finding
from harness.model.experiment import Experiment
from harness.model.load import Phases
from harness.model.resolving import resolve
from harness.plan.plan import CLEAN, Plan, ProxyState, ServiceChange
from harness.plan.planning import plan_of
from harness.runtime.driver import Driver, World
from harness.runtime.ports import Address, Proxies, ProxyMade
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from harness.runtime.proxies.toxiproxy_log import AcceptedCounts
from harness.runtime.recorder import Recorder, RequestTail
from harness.runtime.sampler import MachineWatch, Sampler
from harness.runtime.stopping import Stop
from tests.contract.proxies_rig import PROBE_HOST, Callee, free_address

BODY = b"a body of some length, the same each time; " * 15
TIMEOUT = 1.2
EVERY = 0.2

EMBEDDED, TOXIPROXY = "embedded", "toxiproxy"
BY_THE_NETWORK = "Toxiproxy always accepts; in containers the harness has the network do it"
BY_PACKETS = (
    "where packets on the edge's own network are counted; in the contract suite the callers' own count stands in for them"
)
NO_QUESTION = "done, and not proved: a probe does not know what to ask there, and Toxiproxy does not count whom it strikes"


@dataclass(frozen=True)
class Timing:
    """How long the phases last, and in the fault phase the faults, in seconds."""

    baseline: float
    fault: float
    recovery: float

    @property
    def phases(self) -> Phases:
        lasts = {"baseline": self.baseline, "fault": self.fault + 0.5, "recovery": self.recovery, "warmup": 0.0, "drain": 0.0}
        return Phases.model_validate({name: f"{round(seconds * 1000)}ms" for name, seconds in lasts.items()})


USUAL, BRIEF = Timing(4.0, 7.0, 2.5), Timing(2.5, 5.0, 1.5)


@dataclass(frozen=True)
class Call:
    """One call as its caller saw it; `late` is how long the other side's end took after the caller's own."""

    at: float
    outcome: str
    seconds: float
    status: int = 0
    whole: bool = False
    late: float = 0.0

    @property
    def ended(self) -> float:
        """When all of it was over."""
        return self.at + self.seconds + self.late


Saw = Callable[["Told"], bool]


@dataclass(frozen=True)
class Row:
    """One fault: its entry in YAML, with {edge}, {caller} and {callee} filled in, and what its callers must see."""

    name: str
    written: str
    saw: Saw
    protocol: str = "http"
    more: str = ""
    cannot: str = ""
    """Why Toxiproxy cannot do it; of what is refused when planning the harness says so itself."""
    unproved: str = ""
    """Why with Toxiproxy it cannot be proved."""
    quick: bool = False


@dataclass(frozen=True)
class Told:
    """What the callers of one row saw, and how many of their calls were carried out."""

    calls: tuple[Call, ...]
    windows: tuple[Window, ...]
    before: float
    done: tuple[float, ...]
    varied: tuple[Window, ...] = ()
    """When the fault was being changed: Toxiproxy passes on at once what it holds then."""

    @cached_property
    def steady(self) -> list[Call]:
        """The calls while the fault was on that no change of it fell into."""
        return [
            call
            for call in self.during
            if not any(call.at < change.end and change.begin < call.ended for change in self.varied)
        ]

    @cached_property
    def during(self) -> list[Call]:
        """The calls that began and ended while the fault was on."""
        return [call for call in self.calls if any(w.begin < call.at and call.ended < w.end for w in self.windows)]

    @cached_property
    def usual(self) -> list[Call]:
        """The calls before it."""
        return [call for call in self.calls if call.ended < self.before]

    def all(self, *outcomes: str) -> bool:
        return len(self.during) >= 2 and {call.outcome for call in self.during} <= set(outcomes)

    def share(self, holds: Callable[[Call], bool]) -> float:
        return sum(map(holds, self.during)) / max(1, len(self.during))

    def later(self, seconds: float) -> bool:
        answered = [call for call in self.steady if call.outcome == "answered"]
        return len(answered) >= 3 and min(call.seconds for call in answered) >= seconds

    def carried_out(self) -> int:
        return sum(any(w.begin + 0.05 < at < w.end for w in self.windows) for at in self.done)


def answered(told: Told) -> bool:
    return told.all("answered")


def some(holds: Callable[[Call], bool], low: float = 0.1, high: float = 0.9) -> Saw:
    return lambda told: low <= told.share(holds) <= high


def bad(call: Call) -> bool:
    return call.outcome != "answered"


def is_status(status: int) -> Callable[[Call], bool]:
    return lambda call: call.status == status


ROWS: tuple[Row, ...] = (
    Row("outage/refuse", "outage: {{edge: {edge}}}", lambda told: told.all("refused"), quick=True),
    Row("outage/reset", "outage: {{edge: {edge}, mode: reset}}", lambda told: told.all("reset") and not told.carried_out()),
    Row("outage/hang", "outage: {{edge: {edge}, mode: hang}}", lambda told: told.all("silent"), quick=True),
    Row("outage/close", "outage: {{edge: {edge}, mode: close}}", lambda told: told.all("closed", "reset")),
    Row(
        "outage/unreachable",
        "outage: {{edge: {edge}, mode: unreachable}}",
        lambda told: told.all("unreachable"),
        cannot=BY_THE_NETWORK,
        quick=True,
    ),
    Row("outage/share", "outage: {{edge: {edge}, mode: reset, share: 50%}}", some(bad)),
    Row("outage/share-hang", "outage: {{edge: {edge}, mode: hang, share: 50%}}", some(bad)),
    Row(
        "outage/redis",
        "outage: {{edge: {edge}, mode: hang}}",
        lambda told: told.all("silent"),
        protocol="redis",
    ),
    Row(
        "outage/unknown-protocol",
        "outage: {{edge: {edge}, mode: hang}}",
        lambda told: told.all("silent"),
        protocol="tcp",
        unproved=NO_QUESTION,
    ),
    Row(
        "outage/unknown-protocol-close",
        "outage: {{edge: {edge}, mode: close}}",
        lambda told: told.all("closed", "reset"),
        protocol="tcp",
    ),
    Row(
        "outage/repeat",
        "outage: {{edge: {edge}, mode: reset}}",
        lambda told: len(told.windows) == 2 and told.all("reset"),
        more="for: 3s, repeat: {every: 4s}",
    ),
    Row("latency/downstream", "latency: {{edge: {edge}, latency: 150ms}}", lambda told: told.later(0.15), quick=True),
    Row("latency/upstream", "latency: {{edge: {edge}, latency: 150ms, stream: upstream}}", lambda told: told.later(0.15)),
    Row("latency/both", "latency: {{edge: {edge}, latency: 100ms, stream: both}}", lambda told: told.later(0.2)),
    Row("latency/jitter", "latency: {{edge: {edge}, latency: 100ms, jitter: 80ms}}", lambda told: told.later(0.02)),
    Row("latency/share", "latency: {{edge: {edge}, latency: 200ms, share: 40%}}", some(lambda call: call.seconds >= 0.2)),
    Row("latency/redis", "latency: {{edge: {edge}, latency: 150ms}}", lambda told: told.later(0.15), protocol="redis"),
    Row(
        "latency/ramp",
        "latency: {{edge: {edge}, latency: 200ms}}",
        lambda told: told.later(0.05) and told.steady[-1].seconds >= 0.2,
        more="ramp: 4s",
    ),
    Row("bandwidth/downstream", "bandwidth: {{edge: {edge}, rate: 10KB/s}}", lambda told: told.later(0.06), quick=True),
    Row("bandwidth/upstream", "bandwidth: {{edge: {edge}, rate: 1KB/s, stream: upstream}}", lambda told: told.later(0.04)),
    Row(
        "slow_close/downstream",
        "slow_close: {{edge: {edge}, delay: 300ms}}",
        lambda told: answered(told) and min(call.late for call in told.during) >= 0.3,
    ),
    Row(
        "slow_close/upstream",
        "slow_close: {{edge: {edge}, delay: 300ms, stream: upstream}}",
        lambda told: answered(told) and min(call.late for call in told.during) >= 0.3,
    ),
    Row(
        "slow_close/unknown-protocol",
        "slow_close: {{edge: {edge}, delay: 300ms}}",
        lambda told: answered(told) and min(call.late for call in told.during) >= 0.3,
        protocol="tcp",
    ),
    Row(
        "timeout/downstream",
        "timeout: {{edge: {edge}, timeout: 300ms}}",
        lambda told: told.all("closed", "reset") and min(call.seconds for call in told.during) >= 0.3,
    ),
    Row(
        "timeout/upstream",
        "timeout: {{edge: {edge}, timeout: 300ms, stream: upstream}}",
        lambda told: told.all("closed", "reset") and not told.carried_out(),
    ),
    Row(
        "timeout/unknown-protocol",
        "timeout: {{edge: {edge}, timeout: 300ms, stream: upstream}}",
        lambda told: told.all("closed", "reset"),
        protocol="tcp",
    ),
    Row(
        "reset_peer/downstream",
        "reset_peer: {{edge: {edge}, timeout: 100ms}}",
        lambda told: told.all("reset") and told.carried_out() > 2,
    ),
    Row(
        "reset_peer/upstream",
        "reset_peer: {{edge: {edge}, stream: upstream}}",
        lambda told: told.all("reset") and not told.carried_out(),
    ),
    Row(
        "slicer/downstream",
        "slicer: {{edge: {edge}, average_size: 64B, size_variation: 16B, delay: 10ms}}",
        lambda told: told.later(0.06),
    ),
    Row(
        "slicer/upstream",
        "slicer: {{edge: {edge}, average_size: 8B, delay: 10ms, stream: upstream}}",
        lambda told: told.later(0.05),
    ),
    Row(
        "limit_data/downstream",
        "limit_data: {{edge: {edge}, bytes: 400B}}",
        lambda told: told.all("closed", "reset") and told.carried_out() > 2,
        quick=True,
    ),
    Row(
        "limit_data/upstream",
        "limit_data: {{edge: {edge}, bytes: 3B, stream: upstream}}",
        lambda told: told.all("closed", "reset") and not told.carried_out(),
    ),
    Row("flaky", "flaky: {{edge: {edge}, share: 50%, mean: 1500ms, mode: reset}}", lambda told: told.all("reset")),
    Row(
        "flap",
        "flap: {{edge: {edge}, period: 3s, duty: 50%}}",
        lambda told: len(told.windows) >= 2 and told.all("refused"),
        quick=True,
    ),
    Row(
        "lost_reply/hang",
        "lost_reply: {{edge: {edge}}}",
        lambda told: told.all("silent") and told.carried_out() > 2,
    ),
    Row(
        "lost_reply/reset",
        "lost_reply: {{edge: {edge}, mode: reset}}",
        lambda told: told.all("reset") and told.carried_out() > 2,
    ),
    Row(
        "lost_reply/every",
        "lost_reply: {{edge: {edge}, mode: hang, every: 2}}",
        lambda told: 0.2 <= told.share(bad) <= 0.8 and told.carried_out() > len(told.during) * 0.7,
        quick=True,
    ),
    Row(
        "http_error",
        "http_error: {{edge: {edge}, status: 502}}",
        lambda told: told.share(is_status(502)) == 1 and not told.carried_out(),
        quick=True,
    ),
    Row("http_error/share", "http_error: {{edge: {edge}, share: 40%}}", some(is_status(503)), quick=True),
    Row("http_error/every", "http_error: {{edge: {edge}, every: 3}}", some(is_status(503), 0.2, 0.5)),
    Row("http_error/path", "http_error: {{edge: {edge}, path: /even*}}", some(is_status(503), 0.3, 0.7)),
    Row("http_delay", "http_delay: {{edge: {edge}, delay: 150ms}}", lambda told: told.later(0.15)),
    Row("http_delay/share", "http_delay: {{edge: {edge}, delay: 200ms, share: 40%}}", some(lambda call: call.seconds >= 0.2)),
    Row(
        "http_corrupt/bytes",
        "http_corrupt: {{edge: {edge}}}",
        lambda told: answered(told) and not any(call.whole for call in told.during),
        quick=True,
    ),
    Row("http_corrupt/truncate", "http_corrupt: {{edge: {edge}, how: truncate}}", lambda told: told.all("closed", "reset")),
    Row(
        "http_corrupt/every",
        "http_corrupt: {{edge: {edge}, every: 2}}",
        lambda told: answered(told) and 0.2 <= told.share(lambda call: call.whole) <= 0.8,
    ),
    Row(
        "partition/both",
        "partition: {{between: [[{caller}], [{callee}]]}}",
        lambda told: told.all("silent") and not told.carried_out(),
    ),
    Row(
        "partition/one-way",
        "partition: {{between: [[{callee}], [{caller}]], direction: one-way}}",
        lambda told: told.all("silent") and told.carried_out() > 2,
    ),
    Row("isolate", "isolate: {callee}", lambda told: told.all("silent") and not told.carried_out()),
)


class Pages(BaseHTTPRequestHandler):
    """Answers every GET with the same body."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    done: list[float]

    def do_GET(self) -> None:
        if not self.path.startswith("/health"):
            self.done.append(time.time())
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None: ...


class Quiet(ThreadingHTTPServer):
    """A server that does not mind how its connections end."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: object) -> None: ...


class Service:
    """What stands behind one proxy, and who calls it; `done` are the times of the calls that were carried out."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.done: list[float] = []
        self.calls: list[Call] = []
        self._over = threading.Event()
        if row.protocol == "http":
            self._server = Quiet(("127.0.0.1", 0), type("Pages", (Pages,), {"done": self.done}))
            self.address = Address(*self._server.server_address[:2])
            threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
            self._close = self._server.shutdown, self._server.server_close
        else:
            callee = Callee(self._line_by_line)
            self.address = callee.address
            self._close = (callee.close,)

    def call_through(self, proxy: Address) -> None:
        """Begin to call, again and again, each time on a new connection."""
        self._thread = threading.Thread(target=self._call_on, args=(proxy,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)
        for close in self._close:
            close()

    def _line_by_line(self, connection: socket.socket) -> None:
        with connection:
            while line := connection.recv(4096):
                if line.startswith(b"PING"):
                    connection.sendall(b"+PONG\r\n")
                else:
                    self.done.append(time.time())
                    connection.sendall(line)

    def _call_on(self, proxy: Address) -> None:
        number = 0
        while not self._over.wait(EVERY):
            number += 1
            self.calls.append(_call(proxy, self.row.protocol, "/even" if number % 2 == 0 else "/odd"))


def _call(proxy: Address, protocol: str, path: str) -> Call:
    began, at = time.monotonic(), time.time()
    try:
        connection = socket.create_connection((proxy.host, proxy.port), TIMEOUT)
    except TimeoutError:
        return Call(at, "unreachable", time.monotonic() - began)
    except ConnectionResetError:  # before the caller looked whether it was through
        return Call(at, "reset", time.monotonic() - began)
    except OSError:
        return Call(at, "refused", time.monotonic() - began)
    try:
        with connection:
            status, whole = _http(connection, path) if protocol == "http" else _line(connection)
            seconds, late = time.monotonic() - began, _end(connection)
    except TimeoutError:
        return Call(at, "silent", time.monotonic() - began)
    except (ConnectionResetError, BrokenPipeError):
        return Call(at, "reset", time.monotonic() - began)
    except (OSError, HTTPException, EOFError):
        return Call(at, "closed", time.monotonic() - began)
    return Call(at, "answered", seconds, status, whole, late)


def _http(connection: socket.socket, path: str) -> tuple[int, bool]:
    client = HTTPConnection("callee")
    client.sock = connection
    client.request("GET", path)
    answer = client.getresponse()
    body = answer.read()
    return answer.status, body == BODY


def _line(connection: socket.socket) -> tuple[int, bool]:
    connection.sendall(b"something\r\n")
    if not (answer := connection.recv(4096)):
        raise EOFError
    return 0, answer == b"something\r\n"


def _end(connection: socket.socket) -> float:
    began = time.monotonic()
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    return time.monotonic() - began


# the system on which they are carried out

HEAD = """\
version: 1
question: Does every kind of fault do what it says?
system: .
expect:
  - recovery: {within: 10s}
faults:
"""

PORTS = {"http": 8000, "redis": 6379, "tcp": 9999}


def write_rows(folder: Path, rows: Sequence[Row]) -> Path:
    """One scenario of all rows, each on an edge between two services of its own."""
    compose, edges, local, faults = ["services:", "  way-in: {image: x, expose: ['8000']}"], [], [], []
    for number, row in enumerate(rows, 1):
        caller, callee, port = f"a{number}", f"b{number}", PORTS[row.protocol]
        if row.protocol != "tcp":
            compose.append(f"  {caller}: {{image: x, environment: {{URL: '{row.protocol}://{callee}:{port}'}}}}")
        else:
            compose.append(f"  {caller}: {{image: x}}")
            edges.append(f"{caller} -> {callee}:{port}")
        compose.append(f"  {callee}: {{image: x, expose: ['{port}']}}")
        local += [f"  {name}: {{command: x}}" for name in (caller, callee)]
        written = row.written.format(edge=f"{caller} -> {callee}", caller=caller, callee=callee)
        faults.append(f"  - {{id: f{number}, {written}{', ' + row.more if row.more else ''}}}")
    system = ["version: 1", "compose: compose.yaml", "entry: way-in", "load: {rate: 10/s}", f"edges: [{', '.join(edges)}]"]
    (folder / "compose.yaml").write_text("\n".join(compose) + "\n")
    (folder / "system.yaml").write_text("\n".join([*system, "local:", "  way-in: {command: x}", *local]) + "\n")
    (folder / "locustfile.py").write_text("from locust import HttpUser\n")
    path = folder / "scenario.yaml"
    path.write_text(HEAD + "\n".join(faults) + "\n")
    return path


def experiment_of(folder: Path, rows: Sequence[Row]) -> Experiment:
    return resolve(write_rows(folder, rows), environ={}).experiment


def short_plan(folder: Path, rows: Sequence[Row], timing: Timing = USUAL) -> Plan:
    """The plan of all rows, in phases that are shorter than a scenario may say."""
    experiment = experiment_of(folder, rows)
    faults = tuple(
        item if item.repeat is not None else item.model_copy(update={"at": 0.0, "for_": timing.fault})
        for item in experiment.faults
    )
    return plan_of(experiment.model_copy(update={"phases": timing.phases, "faults": faults}), {})


class NoLoad:
    """The callers are threads of the test."""

    def start(self, *_: object) -> None: ...
    def go(self, at: float) -> None: ...
    def stop(self) -> None: ...
    def ended_early(self) -> str | None:
        return None


class NoServices:
    """Nothing is done to the services themselves."""

    def start(self) -> None: ...
    def exited(self) -> Sequence[Event]:
        return ()

    def address(self, service: str) -> Address:
        raise AssertionError(service)

    def database_url(self, service: str, database: str) -> str:
        raise AssertionError(service)

    def strike(self, change: ServiceChange) -> dict[str, Any]:
        raise AssertionError(change)

    def relieve(self, change: ServiceChange) -> dict[str, Any]:
        raise AssertionError(change)

    def log_tail(self, service: str, lines: int = 20) -> tuple[str, ...]:
        return ()


class OpenGate:
    """Lets everything through."""

    def see_event(self, event: Event) -> None: ...
    def see_requests(self, requests: Sequence[Any]) -> None: ...
    def halt_before_injection(self) -> str | None:
        return None

    def stop_condition_met(self, at: float) -> None: ...


Sabotage = Callable[[Proxies], Proxies]


class UnhealedProxies:
    """The port `Proxies`, over proxies that take every fault, and accept a healing that is not applied."""

    def __init__(self, proxies: Proxies) -> None:
        self._put = proxies.put
        self.create, self.read, self.seen = proxies.create, proxies.read, proxies.seen
        self.heal_all, self.version = proxies.heal_all, proxies.version

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        return state if state == CLEAN else self._put(proxy, state)


class SeenByLog:
    """A real Toxiproxy with what is seen of it on Docker: its log, and packets on each edge's own network.

    There are no such networks here: what each call puts there at least, one packet, stands in for them.
    """

    def __init__(self, engine: ToxiproxyEngine, log: Path, services: dict[str, Service]) -> None:
        self._engine, self._log, self._services = engine, log, services
        self._counts = AcceptedCounts(services, ignored=[PROBE_HOST])
        self._read = 0
        self._lock = threading.Lock()
        self.create, self.put, self.read = engine.create, engine.put, engine.read
        self.heal_all, self.version = engine.heal_all, engine.version

    def seen(self) -> Sequence[EdgeSeen]:
        with self._lock, self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                self._counts.feed(line)
            self._read = log.tell()
        return self._counts.seen(time.time(), {name: len(service.calls) for name, service in self._services.items()})


@dataclass
class Carried:
    """A run that was carried out."""

    plan: Plan
    history: History
    services: dict[str, Service]
    states: dict[str, ProxyState] = field(default_factory=dict)

    @cached_property
    def case(self) -> Case:
        return Case(self.history)

    def evidence(self, fault: str) -> dict[str, Finding]:
        """What is proved of one fault."""
        own = [strike for strike in strikes_of(self.case) if strike.fault == fault]
        return {
            "set": was_set(own),
            "bit": bit(self.case, own),
            "met": met(self.case, own),
            "healed": healed(self.case, own),
        }

    def told(self, fault: str) -> Told:
        proxy = next(change.proxy for step in self.plan.steps if step.fault == fault for change in step.changes)
        service = self.services[proxy]
        windows = self.history.windows[fault]
        varied = tuple(Window(one.asked_at, one.at) for one in self.history.of(FaultVaried) if one.fault == fault)
        return Told(tuple(service.calls), windows, windows[0].begin - 0.1, tuple(service.done), varied)

    def without_packets(self) -> Carried:
        """The same run as it is judged where nobody counts packets on the edges' own networks."""
        bare = [replace(event, packets=None) if isinstance(event, EdgeSeen) else event for event in self.history.events]
        return Carried(self.plan, History(self.history.plan, bare, ()), self.services, self.states)


@contextmanager
def serving(
    plan: Plan, rows: Sequence[Row], engine: ToxiproxyEngine
) -> Iterator[tuple[dict[str, Service], dict[str, Address]]]:
    """A service behind each proxy, and its callers before it."""
    services: dict[str, Service] = {}
    listening: dict[str, Address] = {}
    made = []
    with ExitStack() as standing:
        edges = [proxy for proxy in plan.proxies if proxy.caller.startswith("a")]
        for proxy, row in zip(sorted(edges, key=lambda one: int(one.caller[1:])), rows, strict=True):
            service = services[proxy.name] = Service(row)
            listening[proxy.name] = free_address()
            made.append(ProxyMade(proxy.name, listening[proxy.name], service.address))
        engine.create(made)
        for name, service in services.items():
            service.call_through(listening[name])
            standing.callback(service.close)
        yield services, listening


def carry_out(
    plan: Plan, rows: Sequence[Row], engine: ToxiproxyEngine, folder: Path, sabotage: Sabotage | None = None
) -> Carried:
    """Carry out all rows at once, sabotaged where that is asked for. The engine's log is in the folder."""
    real = engine.version().startswith("Toxiproxy")
    with serving(plan, rows, engine) as (services, listening):
        seen: Proxies = SeenByLog(engine, folder / "engine.log", services) if real else engine
        acted = sabotage(seen) if sabotage is not None else seen
        recorder = Recorder(RunFolder(folder / "run"), OpenGate())
        sampler = Sampler(recorder, seen, NoServices(), [])
        world = World(acted, NoServices(), NoLoad(), listening, PROBE_HOST)
        driver = Driver(plan, world, recorder, Stop(), sampler)
        sampler.begin(RequestTail(folder / "none"), MachineWatch(dict))
        try:
            driver.drive()
            states = {name: engine.read(name) for name in listening}
        finally:
            driver.heal()
            driver.close()
            sampler.end()
    history = History(plan.model_dump(mode="json"), read_events(folder / "run"), ())
    return Carried(plan, history, services, states)
