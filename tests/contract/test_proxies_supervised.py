"""An engine that hangs or is gone is noticed and started again, with every proxy as it should be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.errors import CouldNotRun, ProxyError
from harness.history.events import EdgeSeen, EngineRestarted, Event
from harness.history.store import RunFolder
from harness.plan.plan import CLEAN, ProxyState
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.session import EngineGone
from harness.runtime.proxies.supervised import GivenUp, SupervisedEngine
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from harness.runtime.recorder import Recorder, RequestTail
from harness.runtime.sampler import MachineWatch, Sampler
from tests.contract.memory_proxies import MemoryProxies
from tests.contract.proxies_containers import TOXIPROXY_IMAGE, container, docker
from tests.contract.proxies_contract import DISABLED, EDGE, OTHER, SLOW, made
from tests.contract.proxies_rig import (
    PATIENCE,
    Callee,
    Echo,
    Server,
    answers,
    bearing,
    connect,
    embedded_command,
    eventually,
    free_address,
    read_all,
    refuses,
    served,
    toxic,
    toxiproxy_command,
)
from tests.unit.test_driver import OpenGate, StillSystem

TOXIPROXY = os.environ.get("TOXIPROXY_SERVER") or shutil.which("toxiproxy-server")

COMMANDS = [
    pytest.param(embedded_command, id="embedded"),
    pytest.param(
        toxiproxy_command(TOXIPROXY or ""),
        id="toxiproxy",
        marks=pytest.mark.skipif(
            TOXIPROXY is None, reason="no real Toxiproxy: name its program in TOXIPROXY_SERVER or put toxiproxy-server on PATH"
        ),
    ),
]

NOTICED_WITHIN = 5.0


class Supervision:
    """A server and the engine that looks after it, with what it recorded."""

    def __init__(self, server: Server, restart: Callable[[], Address] | None = None) -> None:
        self.server = server
        self.recorded: list[Event] = []
        self.engine = SupervisedEngine(
            server.control,
            engine_at=lambda control: ToxiproxyEngine(control, "engine.log"),
            restart=restart or server.restart,
            record=self.recorded.append,
            log_tail=lambda: ("the last line",),
        )

    def restarted(self) -> EngineRestarted:
        assert eventually(lambda: bool(self.recorded))
        (event,) = self.recorded
        assert isinstance(event, EngineRestarted)
        return event


@pytest.fixture(params=COMMANDS[:1])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as started:
        yield started


both_engines = pytest.mark.parametrize("server", COMMANDS, indirect=True)
real_engine = pytest.mark.parametrize("server", COMMANDS[1:], indirect=True)


@pytest.fixture
def supervision(server: Server) -> Iterator[Supervision]:
    looked_after = Supervision(server)
    yield looked_after
    looked_after.engine.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    callee = Echo()
    yield callee
    callee.close()


def round_trip(listen: Address) -> float:
    began = time.monotonic()
    with connect(listen) as sock:
        sock.sendall(b"x")
        assert read_all(sock, 1) == b"x"
    return time.monotonic() - began


@both_engines
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_that_is_gone_is_noticed_and_started_again_as_it_was(
    supervision: Supervision, echo: Echo, how: signal.Signals
) -> None:
    slow, disabled = made(EDGE, echo), made(OTHER, echo)
    supervision.engine.begin([slow, disabled])
    supervision.engine.put(EDGE, SLOW)
    supervision.engine.put(OTHER, DISABLED)
    asked_at = time.time()

    supervision.server.process.send_signal(how)

    event = supervision.restarted()
    assert event.at - asked_at < NOTICED_WITHIN
    assert event.seconds < PATIENCE
    assert "proxy engine at" in event.reason
    assert supervision.engine.read(EDGE).toxics[0].attributes["latency"] == 120
    assert round_trip(slow.listen) >= 0.120
    assert refuses(disabled.listen)
    supervision.engine.heal_all()
    assert round_trip(slow.listen) < 0.120
    assert round_trip(disabled.listen) >= 0.0


@both_engines
def test_an_engine_that_somebody_started_anew_is_noticed_too(supervision: Supervision, echo: Echo) -> None:
    slow = made(EDGE, echo)
    supervision.engine.begin([slow])
    supervision.engine.put(EDGE, SLOW)

    supervision.server.restart()

    assert supervision.restarted().reason
    assert round_trip(slow.listen) >= 0.120


@real_engine
def test_a_toxiproxy_that_locked_up_is_started_again_and_the_change_that_locked_it_up_is_made(
    supervision: Supervision, echo: Echo
) -> None:
    def pour(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.sendall(bytes(30_000_000))

    callee = Callee(pour)
    edge, other = ProxyMade(EDGE, free_address(), callee.address), made(OTHER, echo)
    supervision.engine.begin([edge, other])
    supervision.engine.put(EDGE, SLOW)
    supervision.engine.put(OTHER, DISABLED)
    with connect(edge.listen):
        time.sleep(0.5)
        began = time.monotonic()

        assert supervision.engine.put(EDGE, CLEAN) == CLEAN

        assert time.monotonic() - began < NOTICED_WITHIN + PATIENCE
    event = supervision.restarted()
    assert "it hangs" in event.reason
    assert supervision.server.starts == 2
    assert supervision.engine.read(EDGE) == CLEAN
    assert refuses(other.listen)
    callee.close()


@real_engine
def test_faults_that_cut_connections_anyway_never_lock_a_toxiproxy_up(supervision: Supervision) -> None:
    def pour(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.sendall(bytes(3_000_000))

    callee = Callee(pour)
    edge = made(callee=callee)
    supervision.engine.begin([edge])
    with aborting_clients(edge.listen):
        for _ in range(10):
            for state in (
                bearing(toxic("reset_peer", "upstream", timeout=0), toxic("reset_peer", timeout=0)),
                DISABLED,
                bearing(toxic("timeout", timeout=1)),
                ProxyState(enabled=False, toxics=SLOW.toxics),
                CLEAN,
            ):
                supervision.engine.put(EDGE, state)

    assert supervision.recorded == []
    callee.close()


@contextmanager
def aborting_clients(listen: Address) -> Iterator[None]:
    """Clients that read a little of an answer and go away, again and again."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            with suppress(OSError), connect(listen) as sock:
                sock.recv(1000)
            time.sleep(0.005)

    threads = [threading.Thread(target=go_on) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_change_during_a_restart_waits_for_it_and_is_made(server: Server, echo: Echo) -> None:
    restarting, may_go_on = threading.Event(), threading.Event()

    def restart() -> Address:
        restarting.set()
        assert may_go_on.wait(PATIENCE)
        return server.restart()

    supervision = Supervision(server, restart)
    edge = made(EDGE, echo)
    supervision.engine.begin([edge])
    server.process.kill()
    assert restarting.wait(PATIENCE)
    done: list[bool] = []
    changing = threading.Thread(target=lambda: done.append(supervision.engine.put(EDGE, DISABLED) == DISABLED))
    changing.start()
    time.sleep(0.3)
    assert done == []

    may_go_on.set()
    changing.join(PATIENCE)

    assert done == [True]
    assert refuses(edge.listen)
    supervision.engine.close()


def test_when_it_is_gone_a_second_time_every_call_is_an_error(supervision: Supervision) -> None:
    supervision.engine.begin([made()])
    supervision.server.process.kill()
    supervision.restarted()

    supervision.server.process.kill()

    for call in (
        lambda: supervision.engine.put(EDGE, DISABLED),
        supervision.engine.heal_all,
        lambda: supervision.engine.read(EDGE),
        supervision.engine.version,
        supervision.engine.seen,
    ):
        with pytest.raises(ProxyError, match=r"failed a second time: (.|\n)*the last line"):
            call()
    _, gone = supervision.recorded
    assert isinstance(gone, EngineRestarted)
    assert gone.reason.startswith("the proxy engine failed a second time: ")
    assert not gone.back


def test_an_engine_that_cannot_be_started_again_is_an_error_with_both_reasons(server: Server) -> None:
    def restart() -> Address:
        raise CouldNotRun("no such container")

    supervision = Supervision(server, restart)
    supervision.engine.begin([made()])
    server.process.kill()

    with pytest.raises(ProxyError, match=r"did it end\? .* could not be restarted: no such container"):
        supervision.engine.put(EDGE, DISABLED)

    supervision.engine.close()
    (gone,) = supervision.recorded
    assert isinstance(gone, EngineRestarted)
    assert not gone.back
    assert gone.reason.endswith("could not be restarted: no such container")


def test_counts_that_come_from_elsewhere_end_with_the_engine_and_so_does_the_run(server: Server, tmp_path: Path) -> None:
    def restart() -> Address:
        raise CouldNotRun("no such container")

    engine = SupervisedEngine(
        server.control, engine_at=ToxiproxyEngine, restart=restart, record=lambda event: None, counted=lambda: ()
    )
    engine.begin([made()])
    recorder = Recorder(RunFolder(tmp_path / "run"), OpenGate())
    sampler = Sampler(recorder, engine, StillSystem(), [])
    sampler.begin(RequestTail(tmp_path / "none"), MachineWatch(dict))
    sampler.check()

    server.process.kill()

    assert eventually(lambda: raises(GivenUp, sampler.check))
    sampler.end()
    engine.close()


def test_what_is_wrong_with_the_restart_itself_is_raised_where_the_next_call_is_made(server: Server) -> None:
    def restart() -> Address:
        raise ZeroDivisionError

    supervision = Supervision(server, restart)
    supervision.engine.begin([made()])
    server.process.kill()

    assert eventually(lambda: raises(ZeroDivisionError, supervision.engine.version))

    supervision.engine.close()


def raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    except ProxyError:
        return False
    return False


def test_a_change_that_is_refused_is_no_reason_for_a_restart(supervision: Supervision) -> None:
    supervision.engine.begin([made()])

    with pytest.raises(ProxyError, match="latency has no delay"):
        supervision.engine.put(EDGE, bearing(toxic("latency", delay=100)))
    time.sleep(2.5)

    assert supervision.recorded == []
    assert supervision.engine.put(EDGE, SLOW) == SLOW


class Odd(MemoryProxies):
    """An engine that shows more than it was asked for; gone once, where `gone`."""

    gone = False

    def ensure(self, proxies: Sequence[ProxyMade]) -> None:
        self.create([proxy for proxy in proxies if proxy.name not in self.states])

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        if self.gone:
            self.gone = False
            raise EngineGone("it is gone")
        super().put(proxy, state)
        return self.read(proxy)

    def read(self, proxy: str, within: float = 1.0) -> ProxyState:
        found = super().read(proxy)
        shown = tuple(t.model_copy(update={"attributes": {**t.attributes, "shown": 0}}) for t in found.toxics)
        return found.model_copy(update={"toxics": shown})

    def version(self, within: float = 1.0) -> str:
        return "odd 1"


@pytest.mark.parametrize("gone", [False, True], ids=["at once", "by a new engine"])
def test_what_a_change_returns_is_what_the_engine_shows(gone: bool) -> None:
    at = free_address()
    engines = [Odd()]

    def engine_at(_control: Address) -> Odd:
        return engines[-1]

    def restart() -> Address:
        engines.append(Odd())
        return at

    supervised = SupervisedEngine(at, engine_at=engine_at, restart=restart, record=lambda event: None)
    supervised.create([made()])
    engines[0].gone = gone

    (shown,) = supervised.put(EDGE, SLOW).toxics

    assert shown.attributes == {**SLOW.toxics[0].attributes, "shown": 0}
    assert len(engines) == 1 + gone


def test_once_closed_nothing_is_restarted(supervision: Supervision) -> None:
    supervision.engine.begin([made()])
    supervision.engine.close()
    supervision.engine.close()
    supervision.server.process.kill()

    with pytest.raises(ProxyError, match="did it end"):
        supervision.engine.put(EDGE, DISABLED)

    assert (supervision.recorded, supervision.server.starts) == ([], 1)


def test_proxies_that_are_there_already_are_adopted(supervision: Supervision) -> None:
    there = made()
    supervision.server.engine.create([there])

    supervision.engine.begin([there])

    assert supervision.engine.put(EDGE, DISABLED) == DISABLED


def test_proxies_that_are_not_as_expected_are_an_error_from_the_start(supervision: Supervision) -> None:
    there = made()
    supervision.server.engine.create([there])

    with pytest.raises(ProxyError, match="expected the proxy order -> shipping with upstream"):
        supervision.engine.begin([ProxyMade(EDGE, there.listen, free_address())])


def test_what_was_counted_goes_on_after_a_restart(supervision: Supervision, echo: Echo) -> None:
    edge = made(EDGE, echo)
    supervision.engine.begin([edge])
    round_trip(edge.listen)
    round_trip(edge.listen)
    assert eventually(lambda: [seen.bytes_up for seen in supervision.engine.seen()] == [2])
    supervision.server.process.kill()
    supervision.restarted()

    round_trip(edge.listen)

    (seen,) = supervision.engine.seen()
    assert (seen.accepted, seen.bytes_up) == (3, 3)


def test_what_the_engine_cannot_count_is_counted_elsewhere(server: Server) -> None:
    told = (EdgeSeen(1.0, EDGE, 7, None, None, None, None, None),)
    engine = SupervisedEngine(
        server.control, engine_at=ToxiproxyEngine, restart=server.restart, record=lambda event: None, counted=lambda: told
    )

    assert engine.seen() == told


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.parametrize("how", ["KILL", "STOP"])
def test_a_container_that_is_gone_is_restarted_with_the_proxies_of_its_configuration(
    tmp_path: Path, echo: Echo, how: str
) -> None:
    slow, clean = made(EDGE, echo), made(OTHER, echo)
    config = tmp_path / "proxies.json"
    config.write_text(
        json.dumps([{"name": p.name, "listen": str(p.listen), "upstream": str(p.upstream)} for p in (slow, clean)])
    )
    control, recorded = free_address(), []
    options = ("--network", "host", "-v", f"{config}:/proxies.json:ro")
    command = ("-config", "/proxies.json", "-host", control.host, "-port", str(control.port))
    with container(TOXIPROXY_IMAGE, *command, options=options) as name:
        assert eventually(lambda: answers(ToxiproxyEngine(control)))

        def restart() -> Address:
            docker("restart", "-t", "0", name)
            return control

        engine = SupervisedEngine(control, engine_at=ToxiproxyEngine, restart=restart, record=recorded.append)
        engine.begin([slow, clean])
        engine.put(EDGE, SLOW)

        docker("kill", "-s", how, name)

        assert eventually(lambda: bool(recorded))
        assert round_trip(slow.listen) >= 0.120
        assert round_trip(clean.listen) < 0.120
        engine.heal_all()
        assert (engine.read(EDGE), engine.read(OTHER)) == (CLEAN, CLEAN)
        engine.close()
