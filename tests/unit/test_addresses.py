"""A loopback network for each run."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from harness.errors import CouldNotRun
from harness.runtime.ports import Address
from harness.runtime.services.addresses import CONTROL_PORTS, RunAddresses, listen_on

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


@pytest.fixture
def addresses() -> Iterator[RunAddresses]:
    with closing(RunAddresses.claim()) as addresses:
        yield addresses


def test_two_runs_at_the_same_time_have_networks_of_their_own(addresses: RunAddresses) -> None:
    with closing(RunAddresses.claim()) as other:
        assert other.network != addresses.network
        assert other.control_url != addresses.control_url


def test_a_network_that_is_taken_is_passed_over(addresses: RunAddresses) -> None:
    assert addresses.network is not None
    free = addresses.network % 254 + 1

    with closing(RunAddresses.claim([addresses.network, free])) as other:
        assert other.network != addresses.network or other.control.getsockname()[1] != CONTROL_PORTS[0]


def test_a_network_is_free_again_once_it_is_given_back() -> None:
    first = RunAddresses.claim()
    assert first.network is not None
    first.close()

    with closing(RunAddresses.claim([first.network])) as again:
        assert again.network == first.network


def test_when_every_network_is_taken_the_error_says_so(addresses: RunAddresses) -> None:
    assert addresses.network is not None
    taken = [listen_on(Address(f"127.{addresses.network}.0.1", port)) for port in CONTROL_PORTS[1:]]
    try:
        with pytest.raises(CouldNotRun, match="expected a free loopback network, found all 1 taken"):
            RunAddresses.claim([addresses.network])
    finally:
        for listener in taken:
            listener.close()


def test_the_control_socket_listens_already(addresses: RunAddresses) -> None:
    with socket.create_connection(addresses.control.getsockname(), 5):
        accepted, _ = addresses.control.accept()
        accepted.close()


def test_every_service_and_every_edge_has_an_address_of_its_own_and_keeps_its_port(addresses: RunAddresses) -> None:
    net = addresses.network

    given = [addresses.service("order", 8000), addresses.service("payment", 8000), addresses.edge("order -> payment", 8000)]

    assert [str(address) for address in given] == [f"127.{net}.1.1:8000", f"127.{net}.1.2:8000", f"127.{net}.2.1:8000"]
    assert addresses.probe_source == f"127.{net}.0.2"


def test_asking_twice_gives_the_same_address(addresses: RunAddresses) -> None:
    assert addresses.edge("order -> payment", 8000) == addresses.edge("order -> payment", 8000)


def test_a_port_that_is_taken_at_every_address_is_replaced_by_a_free_one(addresses: RunAddresses) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        port = elsewhere.getsockname()[1]
        with listen_on(Address(f"127.{addresses.network}.2.1", port)):
            given = addresses.edge("order -> payment", port)

    assert given.host == f"127.{addresses.network}.2.1"
    assert given.port not in (0, port)


def test_more_edges_than_one_block_has_addresses_go_on_in_the_next(addresses: RunAddresses) -> None:
    given = [addresses.edge(f"order -> payment:{port}", port) for port in range(20000, 20300)]

    assert len({address.host for address in given}) == 300
    assert given[254].host == f"127.{addresses.network}.4.1"


def test_where_there_is_one_loopback_address_everything_has_a_port_of_its_own() -> None:
    with closing(RunAddresses(None, listen_on(Address("127.0.0.1", 0)))) as alone:
        given = [alone.service("order", 28000), alone.service("payment", 28000), alone.edge("order -> payment", 28000)]

        assert {address.host for address in given} == {"127.0.0.1"}
        assert len({address.port for address in given}) == 3
        assert alone.probe_source == "127.0.0.1"
