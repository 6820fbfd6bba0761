"""What happened, as data: names and numbers, never live objects, each with the time it is told by its caller.

`at` is in seconds since the epoch, on the clock of the machine that ran. Events (seldom) and samples
(every second) are the same kind of thing; they only go to different files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias, TypeVar

from harness.history.shapes import Misfit, fitting
from harness.history.states import is_state


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A run was started. `runtime` and `engine` say on what, `reason` why these, `command` how to do it again.

    `warnings` tell what a reader of the verdict has to know: an edge without a proxy, a way around one.
    """

    at: float
    run: str
    scenario: str
    runtime: str
    engine: str
    reason: str
    seed: int
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceStarted:
    """A service's process was started; it is not ready yet."""

    at: float
    service: str
    pid: int
    address: str


@dataclass(frozen=True, slots=True)
class ServiceReady:
    """A service said it is ready, so many seconds after its start."""

    at: float
    service: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ServiceExited:
    """A service's process ended although nobody had asked it to."""

    at: float
    service: str
    how: str
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceChanged:
    """A container or process of a service changed, as its runtime told it.

    `what`, in Docker's words: start, die, kill, stop, pause, unpause, restart, oom, update, connect, disconnect.
    `instance` tells one replica from another.
    """

    at: float
    service: str
    instance: str
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NameUnknown:
    """A service asked for a name that nobody has: a dependency that was not declared, or the outside. Told once each."""

    at: float
    service: str
    name: str


@dataclass(frozen=True, slots=True)
class EngineRestarted:
    """The proxy engine was gone or did not answer; it was started again and every proxy brought into its state again.

    `at` is when it was noticed, `seconds` how long it took from there. `back` is False where it could not be started
    again: from then on there was none.
    """

    at: float
    reason: str
    seconds: float
    back: bool = True


@dataclass(frozen=True, slots=True)
class WedgeNoticed:
    """Something of the run stopped doing what it must: it hangs, it will not end, or cannot be written to.

    `what` is its name: a service, `proxy engine`, `load`, `Docker engine`, a file. `detail` says how that showed, and
    what is done about it. `at` is when it was noticed.
    """

    at: float
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class EngineGuarded:
    """A container at the Docker engine watches the run, `seconds` after its start began; or `why_not`, where none does."""

    at: float
    image: str
    seconds: float
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class SystemReady:
    """Every service, proxy and the load are there."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadBegan:
    """The first request is due now; all planned times count from here."""

    at: float
    rate: float | None
    users: int


@dataclass(frozen=True, slots=True)
class LoadEnded:
    """The load is off. `finished` is what Locust's own stream said at its end; without it `detail` tells what is known."""

    at: float
    finished: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PhaseBegan:
    """A phase began. Baseline, fault and recovery come once in every round."""

    at: float
    phase: str
    round: int = 1


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """A phase ended."""

    at: float
    phase: str
    round: int = 1


@dataclass(frozen=True, slots=True)
class PhaseMoved:
    """The end of a phase, and all that was planned after it, was moved by so many `seconds`; told before that end.

    Earlier (less than 0) where a warm-up was steady, later where a window was void or undecided. `reason` says what was.
    """

    at: float
    phase: str
    seconds: float
    reason: str
    round: int = 1


@dataclass(frozen=True, slots=True)
class FaultBegan:
    """A fault is on, on one proxy: `at` is when the engine's answer came, `asked_at` when the call was made.

    A fault that comes and goes begins and ends several times.

    `asked` and `found` are the state asked for and the state read back, as plain data. Where `proxy` is empty, the
    fault is on the service named by `service` itself.
    """

    at: float
    asked_at: float
    fault: str
    kind: str
    proxy: str
    asked: dict[str, Any]
    found: dict[str, Any]
    service: str = ""


@dataclass(frozen=True, slots=True)
class FaultVaried:
    """A fault that is on was changed: one step of a ramp. The fields are those of `FaultBegan`."""

    at: float
    asked_at: float
    fault: str
    kind: str
    proxy: str
    asked: dict[str, Any]
    found: dict[str, Any]
    service: str = ""


@dataclass(frozen=True, slots=True)
class FaultEnded:
    """A fault is off, on one proxy; the fields are those of `FaultBegan`."""

    at: float
    asked_at: float
    fault: str
    kind: str
    proxy: str
    asked: dict[str, Any]
    found: dict[str, Any]
    service: str = ""


@dataclass(frozen=True, slots=True)
class FaultRefused:
    """The engine did not take a fault, or its healing."""

    at: float
    fault: str
    proxy: str
    reason: str
    service: str = ""


DETOUR = "by a detour"
"""Said by a probe that reached a proxy through another one, at which a refusal shows as a close."""


@dataclass(frozen=True, slots=True)
class EdgeProbed:
    """The harness looked through a proxy. `moment` is before, during or after the fault.

    `outcome`: answered, refused, unreachable (no handshake in time), reset, closed (without a whole answer), silent
    (connected, and no answer in time) or failed. `times` are the seconds from each question to the end of its answer,
    `sent` and `got` the bytes of all of them. Of HTTP `status` and `injected` (who says in its header that it made the
    answer up) are those of the last answer, `bodies` the digests of all, empty for an empty body. `ended` is how long the
    other side's end took after the probe's own, None where it did not come, or was not asked for.
    """

    at: float
    fault: str
    proxy: str
    moment: str
    outcome: str
    seconds: float
    detail: str = ""
    times: tuple[float, ...] = ()
    sent: int = 0
    got: int = 0
    status: int = 0
    injected: str = ""
    bodies: tuple[str, ...] = ()
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class EdgeSeen:
    """What the engine counted on one proxy since it was made. Probes of the harness are not counted.

    `refused` are attempts that the fault turned away, None where they cannot be seen (`cannot` says why);
    `cut` are open connections that the fault closed. A real Toxiproxy tells of accepted connections alone, and the
    rest is None. `packets` are those that came in on the edge's own network, None where it has none or it cannot be
    read; packets of probes are among them. `requests`, `answers` (by status, "0" where the
    connection ended without one), and `attempts` (the most requests of one trace seen so far, and how
    many traces) are None where what is spoken is not HTTP/1.1. `struck` is how often each toxic acted, by its name:
    on so many requests where it is one of HTTP, on so many connections otherwise; None where it cannot be told.
    """

    at: float
    proxy: str
    accepted: int
    refused: int | None
    cut: int | None
    open: int | None
    bytes_up: int | None
    bytes_down: int | None
    requests: int | None = None
    answers: dict[str, int] | None = None
    traces: int | None = None
    most_attempts: int | None = None
    packets: int | None = None
    struck: dict[str, int] | None = None
    cannot: str = ""


@dataclass(frozen=True, slots=True)
class CounterRead:
    """A counter of a service; None where it could not be read, or is not there (yet)."""

    at: float
    fallback: str
    service: str
    value: float | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class InvariantAsked:
    """The database's answer: `value` violations among `over` rows; None where it gave none."""

    at: float
    invariant: str
    value: float | None
    over: int | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MachineSeen:
    """Cores used since the sample before, of `cores`: by the harness, the proxies, the load, the system, all others.

    `pressure` is the share of that time in which somebody who could have run waited for a core, on the whole machine;
    None where the kernel does not tell.
    """

    at: float
    harness: float
    proxies: float
    load: float
    system: float
    others: float
    load_average: float
    cores: int = 1
    pressure: float | None = None


@dataclass(frozen=True, slots=True)
class RunHalted:
    """The run was ended early by a judgement; nothing more was injected.

    `condition` is the id of the stop condition that was met, empty where the system was found unfit before any fault.
    """

    at: float
    reason: str
    condition: str = ""


@dataclass(frozen=True, slots=True)
class RunInterrupted:
    """The run was asked to end: by a signal, by its name, or in words: "aborted by anna: page storm"."""

    at: float
    signal: str

    @property
    def how(self) -> str:
        """In words."""
        return f"interrupted by {self.signal}" if self.signal.startswith("SIG") else self.signal


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run could not go on; `defect` where the harness itself is to blame."""

    at: float
    reason: str
    defect: bool = False


@dataclass(frozen=True, slots=True)
class UndoDone:
    """One undo was carried out, by the harness or by the guardian."""

    at: float
    undo: str
    by: str = "harness"


@dataclass(frozen=True, slots=True)
class UndoFailed:
    """One undo could not be carried out: something is left behind."""

    at: float
    undo: str
    reason: str
    by: str = "harness"


@dataclass(frozen=True, slots=True)
class GuardianActed:
    """The guardian, or `gc`, found the harness gone or stuck, for this reason (`why`), and did what was left to undo."""

    at: float
    undone: int
    failed: int
    why: str = ""
    by: str = "guardian"

    @property
    def who(self) -> str:
        """In words."""
        return "chaos gc" if self.by == "gc" else f"its {self.by}"


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Everything is down again."""

    at: float


AT_LEAST = {"at": 0.0, "asked_at": 0.0, "cores": 1}
LATEST = 1e11
"""Seconds since the epoch, in 3000 years."""

E = TypeVar("E")
Sample: TypeAlias = EdgeSeen | CounterRead | InvariantAsked | MachineSeen
Event: TypeAlias = (
    RunBegan
    | ServiceStarted
    | ServiceReady
    | ServiceExited
    | ServiceChanged
    | NameUnknown
    | EngineRestarted
    | WedgeNoticed
    | EngineGuarded
    | SystemReady
    | LoadBegan
    | LoadEnded
    | PhaseBegan
    | PhaseEnded
    | PhaseMoved
    | FaultBegan
    | FaultVaried
    | FaultEnded
    | FaultRefused
    | EdgeProbed
    | RunHalted
    | RunInterrupted
    | RunFailed
    | UndoDone
    | UndoFailed
    | GuardianActed
    | RunEnded
    | Sample
)

KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in Event.__args__}


def event_to_data(event: Event) -> dict[str, Any]:
    """The event as plain data, its kind under `event`."""
    return {"event": type(event).__name__, **asdict(event)}


def event_from_data(data: dict[str, Any]) -> Event | None:
    """The event from plain data; None for a kind that this version does not know. Raises Misfit for data that are none."""
    kind = KINDS.get(str(data.get("event")))
    if kind is None:
        return None
    event: Event = fitting_event(kind, data)
    return event


def fitting_event(kind: type[E], data: Mapping[str, Any]) -> E:
    """An event of this kind; raises Misfit for data that are none."""
    given = fitting(kind, data)
    for name in ("asked", "found"):
        if name in given and not is_state(given[name]):
            raise Misfit(f"expected {kind.__name__} with another {name}, found toxics that are none")
    for name, least in AT_LEAST.items():
        if not least <= given.get(name, least) < LATEST:
            raise Misfit(f"expected {kind.__name__} with another {name}, found {given[name]:g}")
    return kind(**given)
