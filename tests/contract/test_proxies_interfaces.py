"""Packets of an edge's own network, as the kernel counts them for the container of the proxies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from harness.runtime.ports import Address
from harness.runtime.proxies.interfaces import EdgePackets, packets_by_subnet
from tests.contract.proxies_containers import Edge, docker, embedded_on_an_edge
from tests.contract.proxies_rig import refuses

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0107D50A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0007D50A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0
eth1\t1007D50A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0
"""
DEVICES = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       9       9    0    0    0     0          0         0        0       9    0    0    0     0       0          0
  eth0:     200       {0}    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth1:12345678       {1}    0    0    0     0          0         0        0       4    0    0    0     0       0          0
"""
FIRST, SECOND = IPv4Network("10.213.7.0/28"), IPv4Network("10.213.7.16/28")


def write(proc: Path, pid: int, first: int, second: int) -> None:
    folder = proc / str(pid) / "net"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "route").write_text(ROUTES)
    (folder / "dev").write_text(DEVICES.format(first, second))


pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the tables here are those of a little-endian machine")


def test_packets_are_told_by_subnet(tmp_path: Path) -> None:
    write(tmp_path, 7, 2, 6)

    assert packets_by_subnet(7, tmp_path) == {FIRST: 2, SECOND: 6}


def test_a_process_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    assert packets_by_subnet(7, tmp_path) is None
    assert EdgePackets({"edge": FIRST}, lambda: 7, tmp_path).read() == {}
    assert EdgePackets({"edge": FIRST}, lambda: None, tmp_path).read() == {}


def test_a_process_that_is_connected_to_other_networks_tells_nothing_of_these(tmp_path: Path) -> None:
    write(tmp_path, 7, 2, 6)

    packets = EdgePackets({"here": SECOND, "elsewhere": IPv4Network("10.0.0.0/28")}, lambda: 7, tmp_path)

    assert packets.read() == {"here": 6}


def test_packets_go_on_being_counted_after_a_restart(tmp_path: Path) -> None:
    pids = [7]
    packets = EdgePackets({"edge": SECOND}, lambda: pids[0], tmp_path)
    write(tmp_path, 7, 2, 6)
    assert packets.read() == {"edge": 6}
    write(tmp_path, 8, 1, 1)
    pids[0] = 8

    assert packets.read() == {"edge": 7}
    write(tmp_path, 8, 1, 4)
    assert packets.read() == {"edge": 10}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with embedded_on_an_edge(tmp_path, Address("nobody", 80)) as there:
        yield there


def pid_of(edge: Edge) -> int:
    return int(docker("inspect", "-f", "{{.State.Pid}}", edge.container))


@pytest.mark.slow
@pytest.mark.docker
class TestRealContainers:
    def test_an_attempt_that_is_refused_is_a_packet_of_its_edge_alone(self, edge: Edge) -> None:
        pid, (first, second) = pid_of(edge), edge.subnets
        before = packets_by_subnet(pid)
        assert before is not None

        for _ in range(5):
            assert refuses(Address(edge.address, 9))

        after = packets_by_subnet(pid)
        assert after is not None
        assert after[second] - before[second] >= 5
        assert after[first] - before[first] < 5

    @pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become somebody else")
    def test_whoever_asks_need_not_be_root(self, edge: Edge) -> None:
        code = (
            "import sys; from harness.runtime.proxies.interfaces import packets_by_subnet as p;"
            f"sys.exit(0 if len(p({pid_of(edge)}) or ()) == 2 else 1)"
        )
        nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]

        found = subprocess.run([*nobody, sys.executable, "-c", code], check=False, capture_output=True, text=True)

        assert found.returncode == 0, found.stderr
