"""What Toxiproxy does to connections and their bytes, row by row with its numbers, of Toxiproxy and of the embedded engine.

Delays are checked one-sided: never earlier than said; how much later is the machine's affair.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from tests.contract.proxies_rig import PATIENCE, Callee, Echo, connect, ends, eventually, read_all, refuses, silent
from tests.contract.toxiproxy_conformance import (
    ENGINES,
    NOBODY,
    Asked,
    Controlled,
    Engine,
    Sender,
    how_it_ends,
    running,
    somewhere,
)

SOON = 1.0
"""Seconds within which what happens at once has happened, also on a busy machine."""

EARLY = 0.002
"""Seconds by which two clocks may disagree."""


@pytest.fixture(scope="module", params=ENGINES)
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as engine:
        yield engine


@pytest.fixture
def engine(process: Engine) -> Iterator[Engine]:
    yield process
    process.clear()


@pytest.fixture
def both() -> Iterator[Controlled]:
    with closing(Controlled()) as callee:
        yield callee


def timed(sock: socket.socket, size: int) -> tuple[bytes, float]:
    """So many bytes, and how long they took."""
    began = time.monotonic()
    return read_all(sock, size), time.monotonic() - began


def trip(sock: socket.socket) -> float:
    """Seconds for one byte there and one back."""
    began = time.monotonic()
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    return time.monotonic() - began


class TestEnabled:
    def test_disabled_it_refuses_and_ends_what_is_open_and_keeps_its_toxics(self, engine: Engine, both: Controlled) -> None:
        listen = engine.made(upstream=both.address)
        engine.toxic("noop", more={"name": "one"})
        ours, theirs = both.pair(listen)

        engine("PATCH", "/proxies/p", {"enabled": False})

        assert refuses(listen)
        assert ends(ours)
        assert ends(theirs)
        engine.toxic("noop", more={"name": "two"})
        engine("PATCH", "/proxies/p", {"enabled": True})
        assert engine.toxics() == ["one", "two"]
        connect(listen).close()

    def test_made_disabled_with_toxics_and_enabled_they_meet_the_first_byte(self, engine: Engine, both: Controlled) -> None:
        listen = engine.made(upstream=both.address, listen=somewhere(), enabled=False)
        assert refuses(listen)
        engine.toxic("limit_data", "upstream", bytes=3)

        engine("PATCH", "/proxies/p", {"enabled": True})
        ours, theirs = both.pair(listen)
        ours.sendall(b"first bytes")

        assert read_all(theirs, 100) == b"fir"

    def test_it_flaps_a_hundred_times(self, engine: Engine) -> None:
        listen = engine.made(listen=somewhere())

        for _ in range(100):
            assert engine("PATCH", "/proxies/p", {"enabled": False}).status_code == 200
            assert engine("PATCH", "/proxies/p", {"enabled": True}).status_code == 200

        connect(listen).close()

    def test_enabling_it_where_its_port_is_taken_fails_and_leaves_it_disabled(self, engine: Engine) -> None:
        listen = engine.made(listen=somewhere(), enabled=False)
        with socket.create_server((listen.host, listen.port)):
            assert engine("PATCH", "/proxies/p", {"enabled": True}).status_code == 500

        assert engine.shown()["enabled"] is False

    @pytest.mark.parametrize("upstream", [NOBODY, "nobody.invalid:80"])
    def test_an_upstream_that_is_not_there_ends_connections_that_were_accepted(self, engine: Engine, upstream: str) -> None:
        listen = engine.made(upstream=upstream)

        with connect(listen) as sock:
            assert how_it_ends(sock) == "close"

    def test_an_upstream_that_refuses_resets_who_has_sent_something(self, engine: Engine) -> None:
        listen = engine.made()

        def how() -> str:
            with connect(listen) as sock:
                try:
                    sock.sendall(b"x" * 1000)
                except OSError:
                    return "too late"
                return how_it_ends(sock)

        assert eventually(lambda: how() == "reset")

    def test_an_upstream_that_is_silent(self, tmp_path_factory: pytest.TempPathFactory, process: Engine) -> None:
        with ExitStack() as stack:
            engine = stack.enter_context(running(process.name, tmp_path_factory.mktemp("silent")))
            hole = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(2):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(hole.getsockname())
            host, port = hole.getsockname()
            listen = engine.made(upstream=f"{host}:{port}")
            stack.enter_context(connect(listen))
            time.sleep(0.1)

            assert engine.outcome("PATCH", "/proxies/p", {"enabled": False}) == engine.says("an upstream that is silent")


class TestToxicity:
    def test_at_0_it_strikes_nobody_and_unsaid_everybody(self, engine: Engine, both: Controlled) -> None:
        listen = engine.made(upstream=both.address)
        engine.toxic("timeout", "upstream", more={"toxicity": 0, "name": "never"})
        ours, theirs = both.pair(listen)
        ours.sendall(b"passes")
        assert theirs.recv(10) == b"passes"

        engine.toxic("timeout", "upstream", more={"name": "always"})
        ours.sendall(b"lost")

        assert silent(theirs)

    def test_toxicity_after_a_change_nearby(self, engine: Engine) -> None:
        with closing(Echo()) as callee, ExitStack() as stack:
            listen = engine.made(upstream=callee.address)
            engine.toxic("latency", latency=300, more={"toxicity": 0.5, "name": "t"})
            socks = [stack.enter_context(connect(listen)) for _ in range(24)]

            def struck() -> list[bool]:
                for sock in socks:
                    sock.sendall(b"x")
                time.sleep(0.15)
                slow = [silent(sock, 0.001) for sock in socks]
                for sock, is_slow in zip(socks, slow, strict=True):
                    assert not is_slow or sock.recv(1) == b"x"
                return slow

            first = struck()
            assert struck() == first, "a connection keeps what it drew"
            assert {True, False} == set(first)
            engine.toxic("noop")
            engine("PATCH", "/proxies/p/toxics/t", {})

            assert (struck() == first) == engine.says("toxicity after a change nearby")

    def test_the_option_seed(self, process: Engine, tmp_path_factory: pytest.TempPathFactory, both: Controlled) -> None:
        def struck() -> list[bool]:
            with running(process.name, tmp_path_factory.mktemp("seed"), "-seed", "42") as engine:
                listen = engine.made(upstream=both.address)
                engine.toxic("bandwidth", "upstream", rate=0, more={"toxicity": 0.5})
                pairs = [both.pair(listen) for _ in range(24)]
                for ours, _ in pairs:
                    ours.sendall(b"x")
                time.sleep(0.1)
                return [silent(theirs, 0.005) for _, theirs in pairs]

        assert (struck() == struck()) == process.says("the option -seed")


class TestHalfClose:
    def test_the_answer_after_a_half_close(self, engine: Engine) -> None:
        def answers_late(sock: socket.socket) -> None:
            with sock:
                while sock.recv(100):
                    pass
                time.sleep(0.1)
                sock.sendall(b"answer")

        with closing(Callee(answers_late)) as callee, connect(engine.made(upstream=callee.address)) as sock:
            sock.sendall(b"question")
            sock.shutdown(socket.SHUT_WR)

            assert read_all(sock, 100) == engine.says("the answer after a half-close")


class TestLatency:
    def test_each_chunk_comes_so_much_later_than_it_was_sent(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("latency", "upstream", latency=200)
        sent, came = [], []
        reader = threading.Thread(target=lambda: [came.append((theirs.recv(1), time.monotonic())) for _ in range(5)])
        reader.start()

        for number in range(5):
            sent.append(time.monotonic())
            ours.sendall(b"%d" % number)
            time.sleep(0.02)
        reader.join(PATIENCE)

        assert [data for data, _ in came] == [b"0", b"1", b"2", b"3", b"4"]
        delays = [at - began for (_, at), began in zip(came, sent, strict=True)]
        assert min(delays) >= 0.2 - EARLY
        assert came[-1][1] - sent[0] < 0.2 * 5, "chunks do not wait for each other's delay"

    def test_a_burst_is_delayed_once(self, engine: Engine) -> None:
        with closing(Sender(b"x" * 400_000)) as callee:
            listen = engine.made(upstream=callee.address)
            engine.toxic("latency", latency=200)
            with connect(listen) as sock:
                data, took = timed(sock, 400_000)

        assert len(data) == 400_000
        assert 0.2 - EARLY <= took < 0.2 + SOON

    def test_latencies_add_up(self, engine: Engine) -> None:
        with closing(Echo()) as callee:
            listen = engine.made(upstream=callee.address)
            for name, stream, latency in (("a", "upstream", 100), ("b", "upstream", 50), ("c", "downstream", 150)):
                engine.toxic("latency", stream, latency=latency, more={"name": name})
            with connect(listen) as sock:
                assert 0.3 - EARLY <= trip(sock) < 0.3 + SOON

    def test_jitter_is_about_the_latency_and_keeps_the_order(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("latency", "upstream", latency=10, jitter=100)
        began = time.monotonic()

        for number in range(50):
            ours.sendall(b"%02d" % number)
            time.sleep(0.002)

        assert read_all(theirs, 100) == b"".join(b"%02d" % number for number in range(50))
        assert time.monotonic() - began < 0.11 + SOON

    def test_neither_the_connecting_nor_the_bare_close_is_delayed(self, engine: Engine, both: Controlled) -> None:
        listen = engine.made(upstream=both.address)
        for stream in ("upstream", "downstream"):
            engine.toxic("latency", stream, latency=3000)
        began = time.monotonic()

        ours, theirs = both.pair(listen)
        theirs.close()

        assert ours.recv(1) == b""
        assert time.monotonic() - began < SOON

    @pytest.mark.parametrize("how", ["change", "remove"])
    def test_what_is_held_comes_at_once_when_the_delay_is_over(self, engine: Engine, both: Controlled, how: str) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic("latency", "upstream", latency=5000)
        ours.sendall(b"held")
        assert silent(theirs, 0.15)

        if how == "change":
            engine.change(toxic, latency=100)
        else:
            engine.remove(toxic)
        data, took = timed(theirs, 4)

        assert (data, took < SOON) == (b"held", True)


class TestBandwidth:
    def test_a_transfer_takes_as_long_as_the_rate_says(self, engine: Engine) -> None:
        with closing(Sender(b"x" * 100_000)) as callee:
            listen = engine.made(upstream=callee.address)
            engine.toxic("bandwidth", rate=100)
            with connect(listen) as sock:
                data, took = timed(sock, 100_000)

        assert len(data) == 100_000
        assert 0.98 <= took < 1 + SOON

    def test_each_connection_has_its_own(self, engine: Engine) -> None:
        with closing(Sender(b"x" * 50_000)) as callee:
            listen = engine.made(upstream=callee.address)
            engine.toxic("bandwidth", rate=100)
            with connect(listen) as one, connect(listen) as other:
                began = time.monotonic()
                assert len(read_all(one, 50_000)) + len(read_all(other, 50_000)) == 100_000
                took = time.monotonic() - began

        assert 0.48 <= took < 0.95

    def test_a_long_chunk_comes_in_pieces_of_a_tenth_of_a_second(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("bandwidth", "upstream", rate=10)
        began = time.monotonic()
        ours.sendall(b"x" * 3_000)

        pieces = []
        while sum(pieces) < 3_000:
            pieces.append(len(theirs.recv(65536)))
            assert sum(pieces) <= (time.monotonic() - began + EARLY) * 10_000 * 1.02

        assert pieces == [1_000, 1_000, 1_000]

    def test_at_0_nothing_passes_and_nothing_is_lost(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic("bandwidth", "upstream", rate=0)
        ours.sendall(b"stalled")
        assert silent(theirs)

        engine.remove(toxic)

        assert read_all(theirs, 7) == b"stalled"
        ours.sendall(b"alive")
        assert read_all(theirs, 5) == b"alive"

    def test_a_new_rate_holds_at_once(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic("bandwidth", "upstream", rate=1)
        ours.sendall(b"x" * 20_000)
        time.sleep(0.05)

        engine.change(toxic, rate=1000)

        data, took = timed(theirs, 20_000)
        assert (len(data), took < SOON) == (20_000, True)

    def test_the_close_comes_behind_the_data(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("bandwidth", rate=10)
        theirs.sendall(b"x" * 2_000)
        theirs.close()

        data, took = timed(ours, 10_000)

        assert len(data) == 2_000
        assert took >= 0.2 - EARLY

    @pytest.mark.slow
    def test_ten_seconds_are_ten_seconds(self, engine: Engine) -> None:
        with closing(Sender(b"x" * 10_000_000)) as callee:
            listen = engine.made(upstream=callee.address)
            engine.toxic("bandwidth", rate=1000)
            with connect(listen) as sock:
                data, took = timed(sock, 10_000_000)

        assert len(data) == 10_000_000
        assert 9.99 <= took <= 10.3 or (engine.name == "real" and 9.7 <= took <= 10.3)


class TestSlowClose:
    def test_the_close_comes_later_and_the_data_do_not(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("slow_close", delay=700)
        began = time.monotonic()
        theirs.sendall(b"data")
        theirs.close()

        assert read_all(ours, 4) == b"data"
        assert time.monotonic() - began < 0.6
        assert ours.recv(1) == b""
        assert time.monotonic() - began >= 0.7 - EARLY

    def test_a_close_that_waits_comes_at_once_when_it_is_removed(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic("slow_close", delay=5000)
        theirs.close()
        assert silent(ours, 0.15)

        engine.remove(toxic)

        assert timed(ours, 1)[1] < SOON


class TestTimeout:
    def test_data_are_lost_and_the_connection_ends(self, engine: Engine, both: Controlled) -> None:
        listen = engine.made(upstream=both.address)
        engine.toxic("timeout", "upstream", timeout=300)
        began = time.monotonic()
        ours, theirs = both.pair(listen)
        ours.sendall(b"lost")

        assert read_all(theirs, 10) == b""
        assert ends(ours)
        assert 0.3 - EARLY <= time.monotonic() - began < 0.3 + SOON

    def test_it_counts_from_the_last_chunk(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("timeout", timeout=1000)
        for _ in range(8):
            last = time.monotonic()
            theirs.sendall(b"x")
            time.sleep(0.15)

        assert silent(ours, 0.05), "more than the timeout has passed by now, but not since the last chunk"
        assert ends(ours)
        assert time.monotonic() - last >= 1 - EARLY

    def test_idle_connections_end_too(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))

        engine.toxic("timeout", timeout=200)

        assert ends(ours)
        assert ends(theirs)

    def test_at_0_it_never_ends_until_it_is_removed(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic("timeout", timeout=0)
        theirs.sendall(b"lost")
        assert silent(ours)
        engine("PATCH", f"/proxies/p/toxics/{toxic}", {"attributes": {"timeout": 0}})
        assert silent(ours, 0.1)

        engine.remove(toxic)

        assert ends(ours)

    def test_resetting_ends_it_too(self, engine: Engine, both: Controlled) -> None:
        ours, _ = both.pair(engine.made(upstream=both.address))
        engine.toxic("timeout", timeout=0)

        engine("POST", "/reset")

        assert ends(ours)

    def test_removed_from_a_connection_that_it_did_not_strike(self, engine: Engine, both: Controlled) -> None:
        ours, _ = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic("timeout", timeout=0, more={"toxicity": 0})

        engine.remove(toxic)

        assert (not silent(ours)) == engine.says("timeout removed, connection not struck")


class TestResetPeer:
    @pytest.mark.parametrize("stream", ["upstream", "downstream"])
    def test_a_new_connection_is_reset_with_the_first_data(self, engine: Engine, stream: str) -> None:
        with closing(Asked()) as callee:
            listen = engine.made(upstream=callee.address)
            engine.toxic("reset_peer", stream)
            with connect(listen) as sock:
                assert silent(sock, 0.2), "nothing happens to one that is idle"
                sock.sendall(b"question")

                assert how_it_ends(sock) == "reset"
            assert callee.received == (b"question" if stream == "downstream" else b"")

    def test_it_waits_for_its_timeout(self, engine: Engine) -> None:
        with closing(Asked()) as callee:
            listen = engine.made(upstream=callee.address)
            engine.toxic("reset_peer", timeout=300)
            with connect(listen) as sock:
                began = time.monotonic()
                sock.sendall(b"question")

                assert how_it_ends(sock) == "reset"
                assert time.monotonic() - began >= 0.3 - EARLY

    def test_reset_peer_on_a_connection_that_was_open(self, engine: Engine) -> None:
        with closing(Asked()) as callee, connect(engine.made(upstream=callee.address)) as sock:
            sock.sendall(b"before")
            assert read_all(sock, 6) == b"answer"
            engine.toxic("reset_peer")
            sock.sendall(b"question")

            assert how_it_ends(sock) == engine.says("reset_peer on a connection that was open")

    def test_reset_peer_at_toxicity_0(self, engine: Engine, both: Controlled) -> None:
        listen = engine.made(upstream=both.address)
        engine.toxic("reset_peer", more={"toxicity": 0})
        ours, theirs = both.pair(listen)

        theirs.close()

        assert how_it_ends(ours) == engine.says("reset_peer at toxicity 0")

    def test_removed_while_it_waits(self, engine: Engine, both: Controlled) -> None:
        listen = engine.made(upstream=both.address)
        toxic = engine.toxic("reset_peer", timeout=3000)
        _ours, theirs = both.pair(listen)
        theirs.sendall(b"x")
        time.sleep(0.1)

        found = engine.outcome("DELETE", f"/proxies/p/toxics/{toxic}")

        assert found == engine.says("reset_peer removed while it waits")
        assert eventually(lambda: engine.toxics() == [])


class TestSlicer:
    def test_a_chunk_comes_in_slices_with_pauses(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("slicer", "upstream", average_size=10, size_variation=2, delay=10_000)
        began = time.monotonic()
        ours.sendall(bytes(range(100)))

        slices = []
        while sum(map(len, slices)) < 100:
            slices.append(theirs.recv(100))

        assert b"".join(slices) == bytes(range(100))
        assert 8 <= len(slices) <= 16
        assert max(map(len, slices)) <= 12
        assert time.monotonic() - began >= (len(slices) - 1) * 0.01 - EARLY

    def test_a_pause_is_in_microseconds(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("slicer", "upstream", average_size=1, delay=500)
        ours.sendall(b"x" * 200)

        data, took = timed(theirs, 200)

        assert len(data) == 200
        assert 0.095 <= took < 0.1 + SOON

    def test_without_it_the_rest_comes_at_once(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic("slicer", "upstream", average_size=1, delay=1_000_000)
        ours.sendall(b"x" * 100)
        assert theirs.recv(100) == b"x"

        engine.remove(toxic)

        data, took = timed(theirs, 99)
        assert (len(data), took < SOON) == (99, True)


class TestLimitData:
    @pytest.mark.parametrize("limit", [1, 5, 10])
    def test_exactly_so_many_bytes_pass_and_then_it_ends(self, engine: Engine, both: Controlled, limit: int) -> None:
        listen = engine.made(upstream=both.address)
        engine.toxic("limit_data", "upstream", bytes=limit)
        ours, theirs = both.pair(listen)

        ours.sendall(b"0123456789")

        assert read_all(theirs, 100) == b"0123456789"[:limit]
        assert ends(ours)

    def test_at_0_it_ends_with_the_first_data(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("limit_data", bytes=0)
        assert silent(ours, 0.15)

        theirs.sendall(b"x")

        assert ends(ours)

    def test_it_counts_for_each_connection_and_from_when_it_was_added(self, engine: Engine, both: Controlled) -> None:
        listen = engine.made(upstream=both.address)
        ours, theirs = both.pair(listen)
        ours.sendall(b"before")
        assert read_all(theirs, 6) == b"before"
        engine.toxic("limit_data", "upstream", bytes=4)
        other, their_other = both.pair(listen)

        for sock in (ours, other):
            sock.sendall(b"123")
        assert read_all(theirs, 3) == read_all(their_other, 3) == b"123"
        ours.sendall(b"456")

        assert read_all(theirs, 10) == b"4"
        other.sendall(b"4")
        assert read_all(their_other, 10) == b"4"

    def test_what_passed_counts_on_when_the_limit_is_changed(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic("limit_data", "upstream", bytes=10)
        ours.sendall(b"12345")
        assert read_all(theirs, 5) == b"12345"

        engine.change(toxic, bytes=3)
        assert silent(theirs, 0.15), "one that is beyond its limit ends with the next data"
        ours.sendall(b"6")

        assert read_all(theirs, 10) == b""

    def test_removed_and_added_it_counts_anew(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic("limit_data", "upstream", bytes=6)
        ours.sendall(b"12345")
        assert read_all(theirs, 5) == b"12345"

        engine.remove(toxic)
        engine.toxic("limit_data", "upstream", bytes=6)
        ours.sendall(b"12345")

        assert read_all(theirs, 5) == b"12345"


class TestTogether:
    def test_toxics_act_one_after_the_other(self, engine: Engine, both: Controlled) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        engine.toxic("limit_data", "upstream", bytes=3)
        engine.toxic("latency", "upstream", latency=200)
        began = time.monotonic()

        ours.sendall(b"12345")

        assert read_all(theirs, 100) == b"123"
        assert time.monotonic() - began >= 0.2 - EARLY

    @pytest.mark.parametrize(
        ("kind", "attributes"),
        [("bandwidth", {"rate": 1}), ("bandwidth", {"rate": 0}), ("slicer", {"average_size": 100, "delay": 1_000_000})],
    )
    def test_a_slow_way_slows_its_source_down(
        self, engine: Engine, both: Controlled, kind: str, attributes: dict[str, int]
    ) -> None:
        ours, theirs = both.pair(engine.made(upstream=both.address))
        toxic = engine.toxic(kind, "upstream", **attributes)
        ours.setblocking(False)
        sent, stuck_since = 0, time.monotonic()
        while sent < 64 * 1024 * 1024 and time.monotonic() - stuck_since < 0.2:
            with suppress(BlockingIOError):
                sent += ours.send(b"x" * 65536)
                stuck_since = time.monotonic()
        assert sent < 16 * 1024 * 1024

        engine.remove(toxic)

        assert len(read_all(theirs, sent)) == sent

    def test_each_direction_has_its_own(self, engine: Engine) -> None:
        with closing(Echo()) as callee:
            listen = engine.made(upstream=callee.address)
            engine.toxic("bandwidth", "upstream", rate=0)
            with connect(listen) as sock:
                sock.sendall(b"x")
                assert silent(sock, 0.2)
                engine("DELETE", "/proxies/p/toxics/bandwidth_upstream")
                assert sock.recv(1) == b"x"

    def test_noop_does_nothing(self, engine: Engine) -> None:
        with closing(Echo()) as callee:
            listen = engine.made(upstream=callee.address)
            for stream in ("upstream", "downstream"):
                engine.toxic("noop", stream)
            with connect(listen) as sock:
                assert trip(sock) < SOON
