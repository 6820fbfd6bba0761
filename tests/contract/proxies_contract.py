"""What every engine of proxies must do: first what it says of itself, then what it does to connections."""

from __future__ import annotations

import socket
import time

import pytest

from harness.errors import ProxyError
from harness.plan.plan import CLEAN, ProxyState
from harness.runtime.ports import Proxies, ProxyMade
from harness.runtime.proxies.changes import is_same
from tests.contract.proxies_rig import (
    Echo,
    bearing,
    connect,
    ends,
    eventually,
    free_address,
    read_all,
    refuses,
    silent,
    toxic,
)

EDGE = "order -> shipping"
OTHER = "gateway -> order:8000"
SLOW = bearing(toxic("latency", latency=120, jitter=0))
DISABLED = ProxyState(enabled=False)


def made(name: str = EDGE, callee: Echo | None = None) -> ProxyMade:
    return ProxyMade(name, free_address(), callee.address if callee else free_address())


class ProxiesContract:
    """The states of proxies. A subclass gives the fixture `proxies`: an engine without any proxy."""

    def test_a_new_proxy_is_clean(self, proxies: Proxies) -> None:
        proxies.create([made()])

        assert proxies.read(EDGE) == CLEAN

    @pytest.mark.parametrize(
        "state",
        [
            CLEAN,
            DISABLED,
            SLOW,
            bearing(toxic("latency", "upstream", latency=5, jitter=2), toxic("timeout", timeout=0)),
            bearing(toxic("reset_peer", "upstream", timeout=0)),
            bearing(toxic("latency", latency=10, toxicity=0.5), toxic("latency", name="second", latency=20)),
            ProxyState(enabled=False, toxics=SLOW.toxics),
        ],
    )
    def test_a_proxy_is_brought_into_any_state_and_back(self, proxies: Proxies, state: ProxyState) -> None:
        proxies.create([made()])

        assert is_same(proxies.put(EDGE, state), state)
        assert proxies.read(EDGE).enabled == state.enabled
        assert [toxic.name for toxic in proxies.read(EDGE).toxics] == [toxic.name for toxic in state.toxics]
        assert proxies.put(EDGE, CLEAN) == CLEAN
        assert proxies.read(EDGE) == CLEAN

    def test_putting_twice_is_putting_once(self, proxies: Proxies) -> None:
        proxies.create([made()])

        proxies.put(EDGE, SLOW)
        first = proxies.read(EDGE)
        proxies.put(EDGE, SLOW)

        assert proxies.read(EDGE) == first

    def test_a_toxic_of_the_same_name_is_changed(self, proxies: Proxies) -> None:
        proxies.create([made()])
        proxies.put(EDGE, SLOW)

        proxies.put(EDGE, bearing(toxic("latency", latency=7, jitter=3, toxicity=0.25)))

        (found,) = proxies.read(EDGE).toxics
        assert (found.attributes, found.toxicity) == ({"latency": 7, "jitter": 3}, 0.25)

    def test_what_is_not_said_of_a_toxic_any_more_is_zero(self, proxies: Proxies) -> None:
        proxies.create([made()])
        proxies.put(EDGE, bearing(toxic("latency", latency=20, jitter=5)))

        proxies.put(EDGE, bearing(toxic("latency", latency=20)))

        (found,) = proxies.read(EDGE).toxics
        assert (found.attributes["latency"], found.attributes.get("jitter", 0)) == (20, 0)

    def test_toxics_end_up_in_the_order_asked_for(self, proxies: Proxies) -> None:
        one, two, three = (toxic("latency", name=name, latency=1, jitter=0) for name in ("one", "two", "three"))
        proxies.create([made()])
        proxies.put(EDGE, bearing(one, two))

        proxies.put(EDGE, bearing(two, three, one))

        assert [toxic.name for toxic in proxies.read(EDGE).toxics] == ["two", "three", "one"]

    def test_a_toxic_that_changes_its_kind_or_stream_is_another_one(self, proxies: Proxies) -> None:
        proxies.create([made()])
        proxies.put(EDGE, bearing(toxic("latency", name="x", latency=1), toxic("timeout", "upstream", name="y")))
        wanted = bearing(toxic("timeout", name="x", timeout=9), toxic("timeout", name="y", timeout=0))

        assert proxies.put(EDGE, wanted) == wanted

    def test_healing_heals_every_proxy(self, proxies: Proxies) -> None:
        proxies.create([made(), made(OTHER)])
        proxies.put(EDGE, DISABLED)
        proxies.put(OTHER, SLOW)

        proxies.heal_all()
        proxies.heal_all()

        assert (proxies.read(EDGE), proxies.read(OTHER)) == (CLEAN, CLEAN)

    def test_an_unknown_proxy_is_named_in_the_error(self, proxies: Proxies) -> None:
        with pytest.raises(ProxyError, match="nobody -> knows"):
            proxies.put("nobody -> knows", CLEAN)
        with pytest.raises(ProxyError, match="nobody -> knows"):
            proxies.read("nobody -> knows")

    def test_the_same_proxy_is_not_made_twice(self, proxies: Proxies) -> None:
        proxies.create([made()])

        with pytest.raises(ProxyError, match="already exists"):
            proxies.create([made()])

    def test_an_address_that_is_taken_is_an_error(self, proxies: Proxies) -> None:
        first = made()
        proxies.create([first])

        with pytest.raises(ProxyError, match="in use"):
            proxies.create([ProxyMade(OTHER, first.listen, first.upstream)])

    def test_each_engine_tells_its_version(self, proxies: Proxies) -> None:
        engine, number = proxies.version().split()

        assert engine in {"embedded", "Toxiproxy", "memory"}
        assert number

    def test_what_was_seen_names_every_proxy_or_nothing_at_all(self, proxies: Proxies) -> None:
        proxies.create([made(), made(OTHER)])

        assert [edge.proxy for edge in proxies.seen()] in ([], [EDGE, OTHER])


class TrafficContract:
    """What proxies do to connections. Beside `proxies`, a subclass inherits the fixtures here."""

    @pytest.fixture
    def echo(self) -> Echo:
        callee = Echo()
        yield callee
        callee.close()

    @pytest.fixture
    def edge(self, proxies: Proxies, echo: Echo) -> ProxyMade:
        proxy = made(callee=echo)
        proxies.create([proxy])
        return proxy

    def test_a_clean_proxy_passes_both_ways(self, edge: ProxyMade) -> None:
        payload = bytes(range(256)) * 2000
        with connect(edge.listen) as sock:
            sock.sendall(payload)

            assert read_all(sock, len(payload)) == payload

    def test_disabled_it_refuses_new_connections_and_closes_open_ones(self, proxies: Proxies, edge: ProxyMade) -> None:
        with connect(edge.listen) as sock:
            sock.sendall(b"x")
            assert read_all(sock, 1) == b"x"

            proxies.put(EDGE, DISABLED)

            assert refuses(edge.listen)
            assert ends(sock)

    def test_enabled_again_it_passes(self, proxies: Proxies, edge: ProxyMade) -> None:
        for _ in range(5):
            proxies.put(EDGE, DISABLED)
            proxies.put(EDGE, CLEAN)

        self.assert_passes(edge)

    def test_a_reset_upstream_keeps_the_data_from_the_callee(self, proxies: Proxies, edge: ProxyMade, echo: Echo) -> None:
        proxies.put(EDGE, bearing(toxic("reset_peer", "upstream", timeout=0)))
        with connect(edge.listen) as sock:
            sock.sendall(b"x")

            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert bytes(echo.received) == b""
        proxies.put(EDGE, CLEAN)
        self.assert_passes(edge)

    def test_a_reset_downstream_lets_the_callee_act(self, proxies: Proxies, edge: ProxyMade, echo: Echo) -> None:
        proxies.put(EDGE, bearing(toxic("reset_peer", timeout=0)))
        with connect(edge.listen) as sock:
            sock.sendall(b"x")

            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert bytes(echo.received) == b"x"

    def test_a_hanging_edge_takes_connections_and_answers_nothing(self, proxies: Proxies, edge: ProxyMade) -> None:
        proxies.put(EDGE, bearing(toxic("timeout", timeout=0)))
        with connect(edge.listen) as sock:
            sock.sendall(b"x")

            assert silent(sock)

            proxies.put(EDGE, CLEAN)
            assert ends(sock), "healing closes what hung: its data are lost"
        self.assert_passes(edge)

    def test_a_connection_that_is_open_already_hangs_too(self, proxies: Proxies, edge: ProxyMade, echo: Echo) -> None:
        with connect(edge.listen) as sock:
            sock.sendall(b"x")
            assert read_all(sock, 1) == b"x"

            proxies.put(EDGE, bearing(toxic("timeout", "upstream", timeout=0), toxic("timeout", timeout=0)))
            sock.sendall(b"y")

            assert silent(sock)
            assert bytes(echo.received) == b"x"
            proxies.heal_all()
            assert ends(sock)

    def test_a_closing_edge_accepts_and_closes(self, proxies: Proxies, edge: ProxyMade) -> None:
        proxies.put(EDGE, bearing(toxic("timeout", timeout=1)))

        for _ in range(5):
            with connect(edge.listen) as sock:
                assert ends(sock)

    def test_a_delay_is_never_early(self, proxies: Proxies, edge: ProxyMade) -> None:
        proxies.put(EDGE, bearing(toxic("latency", latency=30, jitter=0)))
        with connect(edge.listen) as sock:
            assert min(self.round_trip(sock) for _ in range(20)) >= 0.030

    def test_delays_of_both_directions_add_up(self, proxies: Proxies, edge: ProxyMade) -> None:
        up, down = toxic("latency", "upstream", latency=40, jitter=0), toxic("latency", latency=30, jitter=0)
        proxies.put(EDGE, bearing(up, down, toxic("latency", name="more", latency=20, jitter=0)))
        with connect(edge.listen) as sock:
            assert self.round_trip(sock) >= 0.090

    def test_an_open_connection_feels_a_delay_come_and_go(self, proxies: Proxies, edge: ProxyMade) -> None:
        with connect(edge.listen) as sock:
            self.round_trip(sock)
            proxies.put(EDGE, SLOW)
            slow = self.round_trip(sock)
            proxies.put(EDGE, CLEAN)
            quick = min(self.round_trip(sock) for _ in range(5))

            assert slow >= 0.120
            assert quick < 0.120

    def test_what_a_delay_holds_passes_when_it_is_removed(self, proxies: Proxies, edge: ProxyMade) -> None:
        proxies.put(EDGE, bearing(toxic("latency", latency=60_000, jitter=0)))
        with connect(edge.listen) as sock:
            sock.sendall(b"held")
            assert silent(sock, 0.2)

            proxies.put(EDGE, CLEAN)

            assert read_all(sock, 4) == b"held"

    def test_a_delay_that_is_shortened_counts_from_when_it_began(self, proxies: Proxies, edge: ProxyMade) -> None:
        proxies.put(EDGE, bearing(toxic("latency", latency=60_000, jitter=0)))
        with connect(edge.listen) as sock:
            sock.sendall(b"held")
            assert silent(sock, 0.2)

            proxies.put(EDGE, bearing(toxic("latency", latency=100, jitter=0)))

            assert read_all(sock, 4) == b"held"

    def test_a_delay_keeps_the_order(self, proxies: Proxies, edge: ProxyMade) -> None:
        proxies.put(EDGE, bearing(toxic("latency", latency=5, jitter=5)))
        payload = b"".join(b"%06d" % number for number in range(20_000))
        with connect(edge.listen) as sock:
            for place in range(0, len(payload), 6000):
                sock.sendall(payload[place : place + 6000])

            assert read_all(sock, len(payload)) == payload

    def test_a_toxic_that_strikes_no_connection_does_nothing(self, proxies: Proxies, edge: ProxyMade) -> None:
        proxies.put(EDGE, bearing(toxic("timeout", timeout=0, toxicity=0.0)))

        self.assert_passes(edge)

    def test_a_delay_spares_the_connections_that_are_open(self, proxies: Proxies, edge: ProxyMade) -> None:
        with connect(edge.listen) as sock:
            for state in (SLOW, bearing(toxic("latency", latency=1, jitter=0)), CLEAN):
                proxies.put(EDGE, state)

                self.round_trip(sock)

    @pytest.mark.parametrize("kind", ["timeout", "reset_peer"])
    def test_a_fault_that_follows_another_is_in_full_force(self, proxies: Proxies, edge: ProxyMade, kind: str) -> None:
        proxies.put(EDGE, DISABLED)
        proxies.put(EDGE, bearing(toxic(kind, "upstream", timeout=1)))

        with connect(edge.listen) as sock:
            sock.sendall(b"x")
            assert ends(sock)
        proxies.put(EDGE, SLOW)
        with connect(edge.listen) as sock:
            assert self.round_trip(sock) >= 0.120

    def test_a_fault_on_one_edge_leaves_the_others_alone(self, proxies: Proxies, edge: ProxyMade, echo: Echo) -> None:
        other = made(OTHER, echo)
        proxies.create([other])

        proxies.put(EDGE, DISABLED)

        self.assert_passes(other)

    def test_without_its_callee_a_connection_is_closed_at_once(self, proxies: Proxies) -> None:
        alone = made()
        proxies.create([alone])
        with connect(alone.listen) as sock:
            assert ends(sock)

    def test_a_callee_that_ends_the_connection_ends_it_for_the_caller(self, edge: ProxyMade, echo: Echo) -> None:
        with connect(edge.listen) as sock:
            sock.sendall(b"x")
            assert read_all(sock, 1) == b"x"

            echo.accepted[-1].shutdown(socket.SHUT_RDWR)

            assert read_all(sock, 100) in (b"", b"bye")

    def test_a_caller_that_goes_away_is_gone_for_the_callee(self, edge: ProxyMade, echo: Echo) -> None:
        with connect(edge.listen) as sock:
            sock.sendall(b"x")
            assert read_all(sock, 1) == b"x"

        assert eventually(lambda: echo.accepted[-1].fileno() < 0)

    def assert_passes(self, edge: ProxyMade) -> None:
        with connect(edge.listen) as sock:
            sock.sendall(b"still there")
            assert read_all(sock, 11) == b"still there"

    def round_trip(self, sock: socket.socket) -> float:
        begin = time.monotonic()
        sock.sendall(b"x")
        assert read_all(sock, 1) == b"x"
        return time.monotonic() - begin
