"""An edge that is unreachable: no handshake completes, open connections are silent, and nothing is lost."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from harness.runtime.ports import Address
from tests.contract.proxies_rig import PATIENCE, Echo, connect, ends, eventually, read_all, refuses, silent
from tests.contract.toxiproxy_conformance import Controlled, Engine, running, somewhere

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has listeners that neither accept nor refuse")

SOON = 1.0
SYN_AGAIN = 1.5
"""Seconds in which a caller's kernel has tried a second time."""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running("embedded", tmp_path_factory.mktemp("unreachable")) as engine:
        yield engine


@pytest.fixture
def engine(process: Engine) -> Iterator[Engine]:
    yield process
    process.clear()


@pytest.fixture
def both() -> Iterator[Controlled]:
    with closing(Controlled()) as callee:
        yield callee


def no_answer(listen: Address, seconds: float = 0.3) -> bool:
    """Whether connecting is neither answered nor refused for so long."""
    with socket.socket() as sock:
        sock.settimeout(seconds)
        try:
            sock.connect((listen.host, listen.port))
        except TimeoutError:
            return True
        except ConnectionRefusedError:
            return False
    return False


def seen(engine: Engine, proxy: str = "p") -> dict[str, object]:
    return next(edge for edge in engine("GET", "/edges").json() if edge["proxy"] == proxy)


def test_nobody_gets_in_and_nobody_is_refused(engine: Engine, both: Controlled) -> None:
    listen = engine.made(upstream=both.address)

    engine.toxic("unreachable")

    assert engine.toxics() == ["unreachable_downstream"]
    assert [no_answer(listen) for _ in range(3)] == [True] * 3
    assert both.accepted == []
    assert seen(engine)["accepted"] == 0


def test_the_port_is_never_free(engine: Engine, both: Controlled) -> None:
    listen = engine.made(upstream=both.address)
    free = []
    over = threading.Event()

    def try_to_listen() -> None:
        while not over.is_set():
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    sock.bind((listen.host, listen.port))
                    sock.listen()
                    free.append(time.monotonic())
                except OSError:
                    pass

    thief = threading.Thread(target=try_to_listen)
    thief.start()
    for _ in range(20):
        engine.remove(engine.toxic("unreachable"))
    over.set()
    thief.join()

    assert free == []
    both.pair(listen)


def test_removed_it_accepts_at_once_and_who_waited_gets_in(engine: Engine) -> None:
    with closing(Echo()) as callee, socket.socket() as waiting:
        listen = engine.made(upstream=callee.address)
        toxic = engine.toxic("unreachable")
        waiting.setblocking(False)
        waiting.connect_ex((listen.host, listen.port))
        time.sleep(0.1)

        engine.remove(toxic)
        began = time.monotonic()
        with connect(listen) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        assert time.monotonic() - began < SOON
        waiting.settimeout(PATIENCE)
        assert eventually(lambda: waiting.getpeername() is not None if _is_connected(waiting) else False, SYN_AGAIN)
        waiting.sendall(b"y")
        assert waiting.recv(1) == b"y"


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def test_open_connections_are_silent_both_ways_and_lose_nothing(engine: Engine, both: Controlled) -> None:
    ours, theirs = both.pair(engine.made(upstream=both.address))
    ours.sendall(b"before")
    assert read_all(theirs, 6) == b"before"
    toxic = engine.toxic("unreachable")

    ours.sendall(b"to them")
    theirs.sendall(b"to us")
    assert silent(ours)
    assert silent(theirs)
    engine.remove(toxic)

    assert read_all(theirs, 7) == b"to them"
    assert read_all(ours, 5) == b"to us"
    assert seen(engine)["struck"] == {"unreachable_downstream": 0}, "whoever meets it is in `refused`"


def test_a_close_is_not_seen_until_it_is_over(engine: Engine, both: Controlled) -> None:
    listen = engine.made(upstream=both.address)
    ours, theirs = both.pair(listen)
    others, their_other = both.pair(listen)
    toxic = engine.toxic("unreachable")

    theirs.sendall(b"last words")
    theirs.close()
    others.close()
    assert silent(ours)
    assert silent(their_other, 0.1)
    engine.remove(toxic)

    assert read_all(ours, 100) == b"last words"
    assert ends(their_other)


def test_much_data_wait_in_the_kernel_and_not_in_the_engine(engine: Engine, both: Controlled) -> None:
    ours, theirs = both.pair(engine.made(upstream=both.address))
    toxic = engine.toxic("unreachable")
    sent = 0
    ours.setblocking(False)
    try:
        while sent < 64 * 1024 * 1024:
            sent += ours.send(b"x" * 65536)
    except BlockingIOError:
        pass
    assert sent < 64 * 1024 * 1024
    assert silent(theirs, 0.1)

    engine.remove(toxic)

    assert len(read_all(theirs, sent)) == sent


def test_what_another_toxic_holds_or_ends_comes_when_it_is_over(engine: Engine, both: Controlled) -> None:
    listen = engine.made(upstream=both.address)
    engine.toxic("latency", "upstream", latency=100)
    ours, theirs = both.pair(listen)
    ours.sendall(b"on its way")
    toxic = engine.toxic("unreachable")
    timeout = engine.toxic("timeout", timeout=50)
    assert silent(theirs)
    assert silent(ours, 0.1)

    engine.remove(toxic)

    assert ends(ours)
    engine.remove(timeout)
    assert engine.toxics() == ["latency_upstream"]


def test_what_latency_let_go_meanwhile_is_not_lost(engine: Engine, both: Controlled) -> None:
    ours, theirs = both.pair(engine.made(upstream=both.address))
    engine.toxic("latency", "upstream", latency=100)
    ours.sendall(b"on its way")
    toxic = engine.toxic("unreachable")
    assert silent(theirs)

    engine.remove(toxic)

    assert read_all(theirs, 10) == b"on its way"


def test_disabled_wins(engine: Engine, both: Controlled) -> None:
    listen = engine.made(upstream=both.address)
    ours, _ = both.pair(listen)
    toxic = engine.toxic("unreachable")

    engine("PATCH", "/proxies/p", {"enabled": False})
    assert refuses(listen)
    assert ends(ours)
    engine("PATCH", "/proxies/p", {"enabled": True})
    assert no_answer(listen)
    engine("PATCH", "/proxies/p", {"enabled": False})
    engine.remove(toxic)
    assert refuses(listen)
    engine("PATCH", "/proxies/p", {"enabled": True})

    both.pair(listen)


def test_two_of_them_are_over_with_the_last(engine: Engine, both: Controlled) -> None:
    listen = engine.made(upstream=both.address)
    ours, theirs = both.pair(listen)
    one, two = engine.toxic("unreachable", more={"name": "one"}), engine.toxic("unreachable", more={"name": "two"})
    theirs.sendall(b"x")

    engine.remove(one)
    assert no_answer(listen)
    assert silent(ours, 0.1)
    engine.remove(two)

    assert ours.recv(1) == b"x"
    both.pair(listen)
    assert seen(engine)["struck"] == {"one": 0, "two": 0}


def test_resetting_makes_it_reachable(engine: Engine, both: Controlled) -> None:
    listen = engine.made(upstream=both.address)
    ours, theirs = both.pair(listen)
    engine.toxic("unreachable")

    engine("POST", "/reset")

    theirs.sendall(b"x")
    assert ours.recv(1) == b"x"
    both.pair(listen)


def test_a_proxy_may_be_so_from_the_beginning_and_anywhere(engine: Engine, both: Controlled) -> None:
    first, second = somewhere(), somewhere()
    proxy = {"name": "p", "listen": first, "upstream": str(both.address), "toxics": [{"type": "unreachable", "name": "u"}]}
    engine("POST", "/populate", [proxy])
    listen = Address(*_split(first))
    assert no_answer(listen)

    engine("PATCH", "/proxies/p", {"listen": second})
    assert refuses(listen)
    listen = Address(*_split(second))
    assert no_answer(listen)
    engine.remove("u")

    both.pair(listen)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_a_proxy_is_replaced_where_it_listens_whichever_of_the_two_is_so(
    engine: Engine, both: Controlled, before: bool, after: bool
) -> None:
    listen = engine.made()
    if before:
        engine.toxic("unreachable")
    toxics = [{"type": "unreachable", "name": "u"}] if after else []
    replacing = {"name": "p", "listen": str(listen), "upstream": str(both.address), "toxics": toxics}

    assert engine("POST", "/populate", [replacing]).status_code == 201

    assert no_answer(listen) is after
    assert (seen(engine)["refused"] in (0, None)) is not after
    if after:
        engine.remove("u")
    both.pair(listen)
    engine("PATCH", "/proxies/p", {"enabled": False})
    assert refuses(listen)


def _split(text: str) -> tuple[str, int]:
    host, port = text.split(":")
    return host, int(port)


def test_a_connection_that_is_dialling_is_silent_too(engine: Engine) -> None:
    with ExitStack() as stack:
        hole = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        stack.enter_context(socket.create_connection(hole.getsockname()))
        host, port = hole.getsockname()
        sock = stack.enter_context(connect(engine.made(upstream=f"{host}:{port}")))
        sock.sendall(b"question")
        time.sleep(0.05)
        toxic = engine.toxic("unreachable")
        hole.settimeout(PATIENCE)
        stack.enter_context(hole.accept()[0])
        theirs = stack.enter_context(hole.accept()[0])  # the engine's kernel tried again
        theirs.settimeout(PATIENCE)
        assert silent(theirs)
        theirs.sendall(b"answer")
        assert silent(sock)

        engine.remove(toxic)

        assert read_all(theirs, 8) == b"question"
        assert read_all(sock, 6) == b"answer"


@pytest.mark.skipif(os.geteuid() != 0, reason="counting refused attempts needs CAP_NET_RAW")
def test_attempts_are_counted_as_refused(engine: Engine, both: Controlled) -> None:
    listen = engine.made(upstream=both.address)
    assert seen(engine)["refused"] == 0
    toxic = engine.toxic("unreachable")
    assert seen(engine)["refused"] == 0, "the engine's own connection is none"

    for _ in range(3):
        assert no_answer(listen)
    assert eventually(lambda: seen(engine)["refused"] == 3)
    engine.remove(toxic)
    both.pair(listen)

    assert seen(engine)["refused"] == 3


def test_the_stream_means_nothing_and_a_share_of_connections_is_refused(engine: Engine) -> None:
    engine.made()

    assert engine.toxic("unreachable", "upstream") == "unreachable_upstream"
    assert engine.shown()["toxics"][0]["stream"] == "upstream"
    answer = engine("POST", "/proxies/p/toxics", {"type": "unreachable", "toxicity": 0.5})
    assert answer.status_code == 400


def test_callers_that_come_all_the_time_are_shut_out_in_every_case(engine: Engine) -> None:
    """Whoever got in before counts as open; from the answer on nobody does."""
    with closing(Echo()) as callee:
        listen = engine.made(upstream=callee.address)
        over = threading.Event()
        got_in: list[float] = []

        def come() -> None:
            while not over.is_set():
                with socket.socket() as sock:
                    sock.settimeout(0.1)
                    began = time.monotonic()
                    try:
                        sock.connect((listen.host, listen.port))
                        got_in.append(began)
                    except OSError:
                        pass

        callers = [threading.Thread(target=come) for _ in range(4)]
        for caller in callers:
            caller.start()
        windows = []
        for _ in range(3):
            time.sleep(0.05)
            toxic = engine.toxic("unreachable")
            begin = time.monotonic()
            time.sleep(0.15)
            windows.append((begin, time.monotonic()))
            engine.remove(toxic)
        over.set()
        for caller in callers:
            caller.join()

    wrong = [at for at in got_in for begin, end in windows if begin < at and at + 0.1 < end]
    assert got_in
    assert wrong == []


def test_other_edges_are_not_disturbed(engine: Engine, tmp_path: Path) -> None:
    with closing(Echo()) as callee:
        engine.made("dead", upstream=callee.address)
        listen = engine.made("alive", upstream=callee.address)
        engine.toxic("unreachable", proxy="dead")

        with connect(listen) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
