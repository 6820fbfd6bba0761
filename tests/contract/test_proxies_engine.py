"""What the embedded engine does beyond Toxiproxy: what it tells of its edges, whom it outlives, what it withstands."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests

from harness.errors import CouldNotRun
from harness.history.events import EdgeSeen
from harness.plan.plan import CLEAN, ProxyState, Toxic
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.starting import StartedEngine, start_embedded
from tests.contract.proxies_contract import DISABLED, EDGE, made
from tests.contract.proxies_rig import (
    PATIENCE,
    PROBE_HOST,
    Callee,
    Echo,
    bearing,
    connect,
    control_socket,
    embedded,
    ends,
    eventually,
    free_address,
    plain_launch,
    read_all,
    refuses,
    silent,
    toxic,
)

MODULE = [sys.executable, "-P", "-m", "harness.runtime.proxies.embedded"]


def trace(number: int) -> str:
    return f"traceparent: 00-{number:032x}-00000000000000ab-01\r\n"


def get(path: str = "/", headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: shipping\r\n{headers}\r\n".encode()


ANSWERS = {
    "/": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "/broken": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "/upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
}


class HttpCallee(Callee):
    """Answers each request by its path with the bytes in ANSWERS; `/silent` is never answered."""

    def __init__(self) -> None:
        super().__init__(self._answer)

    def _answer(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as lines:
            while line := lines.readline():
                if line.startswith((b"GET", b"POST")):
                    path = line.split()[1].decode()
                if line == b"\r\n" and path in ANSWERS:
                    sock.sendall(ANSWERS[path])


@pytest.fixture
def started(tmp_path: Path) -> Iterator[StartedEngine]:
    with embedded(tmp_path) as engine:
        yield engine


@pytest.fixture
def http() -> Iterator[HttpCallee]:
    callee = HttpCallee()
    yield callee
    callee.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    callee = Echo()
    yield callee
    callee.close()


@pytest.fixture
def edge(started: StartedEngine, http: HttpCallee) -> ProxyMade:
    proxy = made(callee=http)
    started.engine.create([proxy])
    return proxy


@pytest.fixture
def echo_edge(started: StartedEngine, echo: Echo) -> ProxyMade:
    proxy = made(callee=echo)
    started.engine.create([proxy])
    return proxy


def seen(started: StartedEngine) -> EdgeSeen:
    (edge,) = started.engine.seen()
    return edge


def ask(sock: socket.socket, path: str = "/", headers: str = "") -> None:
    sock.sendall(get(path, headers))
    answer = ANSWERS[path]
    assert read_all(sock, len(answer)) == answer


class TestWhatIsSeen:
    def test_nothing_is_seen_on_an_edge_that_nobody_uses(self, started: StartedEngine, edge: ProxyMade) -> None:
        now = time.time()

        found = seen(started)

        refused = 0 if os.geteuid() == 0 else None
        assert found == EdgeSeen(found.at, EDGE, 0, refused, 0, 0, 0, 0, struck={}, cannot=found.cannot)
        assert abs(found.at - now) < PATIENCE

    def test_requests_and_answers_are_told_while_the_connection_is_open(self, started: StartedEngine, edge: ProxyMade) -> None:
        with connect(edge.listen) as sock:
            for path in ("/", "/broken", "/chunked", "/"):
                ask(sock, path)
            found = seen(started)

        assert (found.requests, found.answers) == (4, {"200": 3, "503": 1})
        assert (found.accepted, found.open, found.cut) == (1, 1, 0)
        assert found.bytes_up == sum(len(get(path)) for path in ("/", "/broken", "/chunked", "/"))
        assert found.bytes_down == sum(len(ANSWERS[path]) for path in ("/", "/broken", "/chunked", "/"))

    def test_attempts_are_told_by_their_trace(self, started: StartedEngine, edge: ProxyMade) -> None:
        with connect(edge.listen) as sock:
            for number in (1, 2, 2, 2, 3):
                ask(sock, headers=trace(number))
        found = seen(started)

        assert (found.traces, found.most_attempts, found.requests) == (3, 3, 5)

    def test_a_request_without_an_answer_is_told_when_its_connection_ends(
        self, started: StartedEngine, edge: ProxyMade
    ) -> None:
        with connect(edge.listen) as sock:
            ask(sock)
            sock.sendall(get("/silent"))
            assert eventually(lambda: seen(started).requests == 2)
            assert seen(started).answers == {"200": 1}

        assert eventually(lambda: seen(started).answers == {"200": 1, "0": 1})
        assert seen(started).open == 0

    def test_an_answer_that_a_fault_swallowed_was_none(self, started: StartedEngine, edge: ProxyMade) -> None:
        started.engine.put(EDGE, bearing(toxic("timeout", timeout=0)))
        with connect(edge.listen) as sock:
            sock.sendall(get())
            assert silent(sock, 0.2)
            started.engine.put(EDGE, CLEAN)
            assert ends(sock)

        assert eventually(lambda: seen(started).answers == {"0": 1})
        assert (seen(started).cut, seen(started).bytes_down) == (1, 0)

    def test_a_request_that_was_reset_counts_as_met(self, started: StartedEngine, edge: ProxyMade) -> None:
        started.engine.put(EDGE, bearing(toxic("reset_peer", "upstream", timeout=0)))
        with connect(edge.listen) as sock:
            sock.sendall(get())
            assert ends(sock)
        found = seen(started)

        assert (found.requests, found.answers, found.cut, found.bytes_up) == (1, {"0": 1}, 1, 0)

    def test_what_is_not_http_has_bytes_and_no_requests(self, started: StartedEngine, echo_edge: ProxyMade) -> None:
        with connect(echo_edge.listen) as sock:
            sock.sendall(b"*1\r\n$4\r\nPING\r\n")
            read_all(sock, 14)
            found = seen(started)

        assert (found.requests, found.answers, found.traces, found.most_attempts) == (None, None, None, None)
        assert (found.bytes_up, found.bytes_down) == (14, 14)

    def test_an_upgrade_ends_the_reading_along(self, started: StartedEngine, edge: ProxyMade) -> None:
        with connect(edge.listen) as sock:
            ask(sock)
            ask(sock, "/upgrade", "Connection: Upgrade\r\nUpgrade: x\r\n")
            found = seen(started)

        assert (found.requests, found.answers) == (2, {"200": 1, "101": 1})
        assert "1 connections ceased to be plain HTTP/1.1" in found.cannot

    def test_connections_of_the_harness_are_not_counted(self, started: StartedEngine, edge: ProxyMade) -> None:
        with connect(edge.listen, PROBE_HOST) as sock:
            ask(sock)
            started.engine.put(EDGE, DISABLED)
            assert ends(sock), "but they meet the fault like any other"
        with pytest.raises(ConnectionRefusedError):
            connect(edge.listen, PROBE_HOST)
        found = seen(started)

        refused = 0 if os.geteuid() == 0 else None
        assert found == EdgeSeen(found.at, EDGE, 0, refused, 0, 0, 0, 0, struck={}, cannot=found.cannot)

    def test_connections_cut_by_disabling_are_told(self, started: StartedEngine, edge: ProxyMade) -> None:
        socks = [connect(edge.listen) for _ in range(7)]
        assert eventually(lambda: seen(started).open == 7)

        started.engine.put(EDGE, DISABLED)

        assert all(ends(sock) for sock in socks)
        assert eventually(lambda: (seen(started).open, seen(started).cut, seen(started).accepted) == (0, 7, 7))
        for sock in socks:
            sock.close()

    @pytest.mark.skipif(os.geteuid() != 0, reason="looking at packets needs CAP_NET_RAW, which root has")
    def test_refused_attempts_are_counted_while_the_edge_is_disabled(self, started: StartedEngine, edge: ProxyMade) -> None:
        other = ProxyMade("other", free_address(), edge.upstream)
        started.engine.create([other])
        for times in (3, 4):
            started.engine.put(EDGE, DISABLED)
            for _ in range(times):
                assert refuses(edge.listen)
            started.engine.put(EDGE, CLEAN)
            with connect(edge.listen) as sock, connect(other.listen):
                ask(sock)
        first, second = started.engine.seen()

        assert (first.refused, first.accepted, first.cannot) == (7, 2, "")
        assert (second.refused, second.accepted) == (0, 2)

    def test_without_leave_to_look_at_packets_it_says_so(self, tmp_path: Path) -> None:
        with embedded(tmp_path, "--no-packet-socket") as started:
            proxy = made()
            started.engine.create([proxy])
            assert seen(started).refused == 0

            started.engine.put(EDGE, DISABLED)
            assert refuses(proxy.listen)
            started.engine.put(EDGE, CLEAN)
            found = seen(started)

        assert found.refused is None
        assert found.cannot.startswith("refused attempts cannot be counted: ")

    @pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can drop the capability, by setpriv"
    )
    def test_without_the_capability_it_says_what_is_needed(self, tmp_path: Path) -> None:
        def launch(name: str, argv: list[str], **how: object) -> subprocess.Popen[bytes]:
            return plain_launch(name, ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *argv], **how)

        started = start_embedded(launch, control_socket(), tmp_path / "log", PROBE_HOST)
        try:
            started.engine.create([made()])
            started.engine.put(EDGE, DISABLED)
            found = seen(started)
        finally:
            started.stop()

        assert found.refused is None
        assert found.cannot == "refused attempts cannot be counted: opening a packet socket needs CAP_NET_RAW"


class TestWhomItOutlives:
    def test_it_ends_when_its_starter_closes_the_lifeline(self, tmp_path: Path) -> None:
        with embedded(tmp_path) as started:
            started.engine.create([made()])
            started.stop()
            started.stop()

            assert started.process.returncode == 0

    def test_it_ends_when_its_starter_is_killed(self, tmp_path: Path) -> None:
        starter = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(tmp_path / "log")], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert starter.stdout is not None
        engine = psutil.Process(int(starter.stdout.readline()))

        starter.kill()
        starter.communicate()

        assert eventually(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_as_well(self, tmp_path: Path, number: signal.Signals) -> None:
        with embedded(tmp_path) as started:
            started.process.send_signal(number)

            assert started.process.wait(PATIENCE) == 0

    def test_what_it_holds_back_still_passes_when_it_ends(self, started: StartedEngine, echo_edge: ProxyMade) -> None:
        started.engine.put(EDGE, bearing(toxic("latency", latency=60_000)))
        with connect(echo_edge.listen) as sock:
            sock.sendall(b"held")
            assert silent(sock, 0.2)

            started.stop()

            assert read_all(sock, 4) == b"held"

    def test_an_engine_that_does_not_come_up_is_an_error_with_its_log(self, tmp_path: Path) -> None:
        def launch(name: str, argv: list[str], **how: object) -> subprocess.Popen[bytes]:
            return plain_launch(name, [sys.executable, "-c", "import sys; sys.exit('no uvloop here')"], **how)

        with pytest.raises(CouldNotRun, match="no uvloop here"):
            start_embedded(launch, control_socket(), tmp_path / "log", PROBE_HOST)

    def test_by_hand_it_refuses_to_be_seen_from_outside(self) -> None:
        found = subprocess.run(
            [*MODULE, "--host", "0.0.0.0", "--port", "0"], check=False, capture_output=True, text=True, timeout=PATIENCE
        )

        assert found.returncode == 2
        assert "expected a loopback address, found 0.0.0.0" in found.stderr

    def test_by_hand_a_port_that_is_taken_is_an_error(self) -> None:
        with control_socket() as sock:
            sock.listen()
            port = str(sock.getsockname()[1])
            found = subprocess.run([*MODULE, "--port", port], check=False, capture_output=True, text=True, timeout=PATIENCE)

        assert found.returncode == 5
        assert f"cannot listen on 127.0.0.1:{port}" in found.stderr


STARTER = """
import sys, time
from pathlib import Path
from harness.runtime.proxies.starting import start_embedded
from tests.contract.proxies_rig import control_socket, plain_launch
started = start_embedded(plain_launch, control_socket(), Path(sys.argv[1]), "127.9.9.9")
print(started.process.pid, flush=True)
time.sleep(60)
"""


class TestWhatItWithstands:
    def test_the_answer_to_a_half_closed_connection_arrives(self, echo_edge: ProxyMade) -> None:
        for _ in range(50):
            with connect(echo_edge.listen) as sock:
                sock.sendall(b"question")
                sock.shutdown(socket.SHUT_WR)

                assert read_all(sock, 100) == b"questionbye"

    def test_a_half_close_waits_for_what_is_delayed(self, started: StartedEngine, echo_edge: ProxyMade) -> None:
        started.engine.put(EDGE, bearing(toxic("latency", "upstream", latency=50), toxic("latency", latency=50)))
        with connect(echo_edge.listen) as sock:
            sock.sendall(b"question")
            sock.shutdown(socket.SHUT_WR)

            assert read_all(sock, 100) == b"questionbye"

    @pytest.mark.parametrize("state", [CLEAN, bearing(toxic("latency", latency=5))], ids=["clean", "delayed"])
    def test_a_caller_that_never_reads_costs_bounded_memory(self, started: StartedEngine, state: ProxyState) -> None:
        sent = threading.Event()

        def pour(sock: socket.socket) -> None:
            sock.settimeout(1.0)
            with sock, suppress(TimeoutError):
                for _ in range(400):
                    sock.sendall(bytes(1_000_000))
            sent.set()

        callee = Callee(pour)
        started.engine.create([ProxyMade(EDGE, free_address(), callee.address), made("other", callee)])
        started.engine.put(EDGE, state)
        engine = psutil.Process(started.process.pid)
        before = engine.memory_info().rss
        with connect(_listen_of(started, EDGE)):
            assert sent.wait(PATIENCE)
            grown = engine.memory_info().rss - before
            started.engine.put(EDGE, DISABLED)
        callee.close()

        assert grown < 40_000_000
        assert seen_of(started, EDGE).bytes_down < 100_000_000

    def test_everything_arrives_at_a_caller_that_reads_slowly(self, started: StartedEngine, echo: Echo) -> None:
        started.engine.create([proxy := made(callee=echo)])
        payload = os.urandom(3_000_000)
        with connect(proxy.listen) as sock:
            sender = threading.Thread(target=sock.sendall, args=(payload,))
            sender.start()
            found = b""
            while len(found) < len(payload):
                found += sock.recv(50_000)
                started.engine.version()
            sender.join(PATIENCE)

        assert found == payload

    def test_an_upstream_that_takes_no_connection_holds_up_no_other(self, started: StartedEngine, echo: Echo) -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = Address(*full.getsockname())
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex((address.host, address.port))
            stuck, other = ProxyMade(EDGE, free_address(), address), made("other", echo)
            started.engine.create([stuck, other])
            with connect(stuck.listen) as waiting, connect(other.listen) as sock:
                waiting.sendall(b"hello?")
                sock.sendall(b"x")
                assert read_all(sock, 1) == b"x"
                assert silent(waiting, 0.2)

                started.engine.put(EDGE, DISABLED)

                assert ends(waiting)
            for filler in fillers:
                filler.close()

    def test_toxics_come_and_go_under_traffic_that_breaks_off(self, started: StartedEngine) -> None:
        """What locks a real Toxiproxy up for good: large answers, callers that give up, toxics changed meanwhile."""

        def pour(sock: socket.socket) -> None:
            with sock:
                sock.recv(1)
                sock.sendall(bytes(300_000))

        callee = Callee(pour)
        started.engine.create([proxy := made(callee=callee)])
        over = threading.Event()

        def give_up() -> None:
            while not over.is_set():
                with suppress(OSError), connect(proxy.listen) as sock:
                    sock.sendall(b"x")
                    sock.recv(1000)

        callers = [threading.Thread(target=give_up) for _ in range(4)]
        for caller in callers:
            caller.start()
        states = (bearing(toxic("latency", latency=20, jitter=5)), CLEAN, bearing(toxic("timeout", timeout=3)), DISABLED)
        for _ in range(15):
            for state in states:
                started.engine.put(EDGE, state)
        over.set()
        for caller in callers:
            caller.join(PATIENCE)
        started.engine.put(EDGE, CLEAN)
        callee.close()

        assert eventually(lambda: seen(started).open == 0)

    @pytest.mark.parametrize(
        "state",
        [
            bearing(toxic("reset_peer", "upstream", timeout=0)),
            bearing(toxic("reset_peer", timeout=2)),
            bearing(toxic("timeout", timeout=1)),
            bearing(toxic("timeout", "upstream", timeout=1), toxic("latency", latency=1)),
        ],
        ids=["reset up", "reset down", "close down", "close up"],
    )
    def test_connections_that_a_fault_ends_leave_nothing_behind(
        self, started: StartedEngine, echo_edge: ProxyMade, state: ProxyState
    ) -> None:
        engine = psutil.Process(started.process.pid)
        before = engine.num_fds()
        started.engine.put(EDGE, state)

        for _ in range(200):
            with suppress(ConnectionError), connect(echo_edge.listen) as sock:
                sock.sendall(b"x")
                assert ends(sock)

        assert eventually(lambda: seen(started).open == 0)
        assert (seen(started).accepted, seen(started).cut) == (200, 200)
        assert eventually(lambda: engine.num_fds() <= before)

    @pytest.mark.parametrize("connections", [2_000, pytest.param(50_000, marks=pytest.mark.slow)])
    def test_connections_that_come_and_go_leave_nothing_behind(
        self, started: StartedEngine, echo_edge: ProxyMade, connections: int
    ) -> None:
        engine = psutil.Process(started.process.pid)
        before = engine.num_fds()
        endings = (end_at_once, end_by_half_close, end_by_reset, end_with_data_unread)

        def churn(share: int) -> None:
            for number in range(connections // 4):
                with suppress(ConnectionError), connect(echo_edge.listen) as sock:
                    endings[(number + share) % 4](sock)

        callers = [threading.Thread(target=churn, args=(share,)) for share in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

        assert eventually(lambda: seen(started).open == 0)
        assert seen(started).accepted == connections
        assert eventually(lambda: engine.num_fds() <= before)


def end_at_once(sock: socket.socket) -> None:
    sock.sendall(b"x")


def end_by_half_close(sock: socket.socket) -> None:
    sock.sendall(b"x")
    sock.shutdown(socket.SHUT_WR)
    read_all(sock, 4)


def end_by_reset(sock: socket.socket) -> None:
    sock.sendall(b"x")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def end_with_data_unread(sock: socket.socket) -> None:
    sock.sendall(b"x" * 1000)
    sock.recv(1)


def seen_of(started: StartedEngine, proxy: str) -> EdgeSeen:
    return next(edge for edge in started.engine.seen() if edge.proxy == proxy)


def _listen_of(started: StartedEngine, proxy: str) -> Address:
    found = requests.get(f"http://{started.control}/proxies/{proxy}", timeout=PATIENCE).json()
    host, port = found["listen"].split(":")
    return Address(host, int(port))


class TestWhatIsNotSaidAnyMore:
    """Attributes that are not 0 where they go unsaid: only a new toxic is without them."""

    @pytest.mark.parametrize("choice", [{"share": 0.0}, {"share": 0.3}, {"every": 1000}])
    def test_a_choice_of_requests_that_is_said_no_more_is_gone(
        self, started: StartedEngine, edge: ProxyMade, choice: dict[str, float]
    ) -> None:
        broken = ProxyState(toxics=(http_error(),))
        started.engine.put(EDGE, ProxyState(toxics=(http_error(**choice),)))

        started.engine.put(EDGE, broken)

        assert started.engine.read(EDGE).toxics[0].attributes == {"status": 503, "body": ""}
        with connect(edge.listen) as sock:
            sock.sendall(get("/", ""))
            assert sock.recv(100).startswith(b"HTTP/1.1 503")
        assert seen(started).struck == {"broken": 1}

    def test_a_share_of_none_is_not_all(self, started: StartedEngine, edge: ProxyMade) -> None:
        started.engine.put(EDGE, ProxyState(toxics=(http_error(),)))

        started.engine.put(EDGE, ProxyState(toxics=(http_error(share=0.0),)))

        with connect(edge.listen) as sock:
            ask(sock)

    def test_another_seed_is_another_toxic(self, started: StartedEngine, edge: ProxyMade) -> None:
        started.engine.put(EDGE, ProxyState(toxics=(http_error(seed=1, share=0.5),)))

        started.engine.put(EDGE, ProxyState(toxics=(http_error(seed=2, share=0.5),)))

        assert started.engine.read(EDGE).toxics[0].seed == 2


def http_error(seed: int | None = None, **choice: float) -> Toxic:
    attributes = {"status": 503, **choice}
    return Toxic(name="broken", type="http_error", stream="downstream", attributes=attributes, toxicity=1.0, seed=seed)
