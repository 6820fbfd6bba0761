"""Connections counted from the log of a real Toxiproxy."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from harness.history.events import EdgeSeen
from harness.plan.plan import CLEAN
from harness.runtime.proxies.toxiproxy_log import CANNOT, AcceptedCounts
from tests.contract.proxies_contract import DISABLED, EDGE, OTHER, made
from tests.contract.proxies_rig import PROBE_HOST, Echo, connect, eventually, read_all, refuses, served, toxiproxy_command

TOXIPROXY = os.environ.get("TOXIPROXY_SERVER") or shutil.which("toxiproxy-server")


def accepted(proxy: str = EDGE, client: str = "10.1.2.3:40000", message: str = "Accepted client", level: str = "info") -> str:
    told = {"level": level, "name": proxy, "listen": "10.1.2.14:8000", "upstream": "door-shipping:8000"}
    return json.dumps({**told, "client": client, "caller": "proxy.go:204", "time": "2026-01-01T00:00:00Z", "message": message})


def times(counts: AcceptedCounts) -> dict[str, int]:
    return {edge.proxy: edge.accepted for edge in counts.seen(1.0)}


def test_connections_are_counted_by_proxy() -> None:
    counts = AcceptedCounts([EDGE, OTHER], [])

    for line in (accepted(), accepted(OTHER).encode(), accepted() + "\n", "2026-01-01T00:00:00.1Z " + accepted()):
        counts.feed(line)

    assert times(counts) == {EDGE: 3, OTHER: 1}


@pytest.mark.parametrize("client", ["10.9.0.1:5000", "[fd00::1]:5000"])
def test_connections_of_the_harness_do_not_count(client: str) -> None:
    counts = AcceptedCounts([EDGE], ["10.9.0.1", "fd00::1"])

    counts.feed(accepted(client=client))
    counts.feed(accepted(client="10.9.0.11:5000"))

    assert times(counts) == {EDGE: 1}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Accepted client",
        "{Accepted client",
        '["Accepted client"]',
        accepted("a proxy of somebody else's"),
        accepted(message="Started proxy"),
        accepted(EDGE, message="no Accepted client at all"),
        b"\xff\xfe Accepted client {",
    ],
)
def test_other_lines_are_passed_over(line: bytes | str) -> None:
    counts = AcceptedCounts([EDGE], [])

    counts.feed(line)
    assert times(counts) == {EDGE: 0}

    counts.feed(accepted())
    assert times(counts) == {EDGE: 1}


def test_what_cannot_be_seen_is_said_and_packets_stand_beside_it() -> None:
    counts = AcceptedCounts([EDGE, OTHER], [])
    counts.feed(accepted())

    assert counts.seen(7.0, {EDGE: 40}) == (
        EdgeSeen(7.0, EDGE, 1, None, None, None, None, None, packets=40, cannot=CANNOT),
        EdgeSeen(7.0, OTHER, 0, None, None, None, None, None, cannot=CANNOT),
    )


def test_lines_may_come_from_many_threads() -> None:
    counts = AcceptedCounts([EDGE], [])
    line = accepted()

    threads = [threading.Thread(target=lambda: [counts.feed(line) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert times(counts) == {EDGE: 4000}


@pytest.mark.skipif(
    TOXIPROXY is None, reason="no real Toxiproxy: name its program in TOXIPROXY_SERVER or put toxiproxy-server on PATH"
)
def test_a_real_toxiproxy_tells_of_every_connection_that_it_accepted(tmp_path: Path) -> None:
    echo = Echo()
    with served(toxiproxy_command(TOXIPROXY or ""), tmp_path) as server:
        edge = made(callee=echo)
        server.engine.create([edge, made(OTHER)])
        for source in (None, None, PROBE_HOST, None):
            with connect(edge.listen, source) as sock:
                sock.sendall(b"x")
                assert read_all(sock, 1) == b"x"
        server.engine.put(EDGE, DISABLED)
        assert refuses(edge.listen)
        server.engine.put(EDGE, CLEAN)

        def counted() -> dict[str, int]:
            counts = AcceptedCounts([EDGE, OTHER], [PROBE_HOST])
            for line in (tmp_path / "engine.log").read_bytes().splitlines():
                counts.feed(line)
            return times(counts)

        assert eventually(lambda: counted() == {EDGE: 3, OTHER: 0})
    echo.close()
