"""Address blocks for the networks of one run, clear of every network that is there already."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from harness.errors import CouldNotRun

PRIVATE = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
"""Addresses that nobody on the internet has (RFC 1918, RFC 6598); each is tried where those before are all taken."""

SMALLEST = 28
"""The prefix of the smallest network: 14 addresses, of which the engine takes one and a proxy one."""

LEAST_BLOCK = 20
"""The prefix of the block that a run takes: 256 of the smallest networks."""


class Subnets:
    """The networks of one run, one after the other out of one block."""

    def __init__(self, block: IPv4Network) -> None:
        self.block = block
        self._next = int(block.network_address)

    def take(self, hosts: int) -> IPv4Network:
        """A network with room for so many containers beside a gateway and a proxy, twice, since one that is replaced
        holds its address until it is gone.
        """
        prefix = min(SMALLEST, 32 - (2 * hosts + 3).bit_length())
        size = 2 ** (32 - prefix)
        begin = -(-self._next // size) * size
        if begin + size > int(self.block.broadcast_address) + 1:
            raise CouldNotRun(f"expected room for the networks of this run in {self.block}, found it used up")
        self._next = begin + size
        return IPv4Network((begin, prefix))


def first_host(network: IPv4Network) -> IPv4Address:
    """The lowest usable address: that of the engine's host."""
    return network.network_address + 1


def last_host(network: IPv4Network) -> IPv4Address:
    """The highest usable address: engines hand out the lowest first."""
    return network.broadcast_address - 1


def own_addresses(networks: Iterable[IPv4Network]) -> list[str]:
    """Where the harness's own probes come from on edges' networks: the engine's host, and by a detour the proxies."""
    return list(dict.fromkeys(str(host) for network in networks for host in (first_host(network), last_host(network))))


def free_blocks(taken: Collection[IPv4Network], seed: str) -> Iterator[IPv4Network]:
    """Blocks that overlap with nothing, in an order of their own for each run, so that two runs seldom want the same."""
    order = random.Random(seed)  # noqa: S311 - nothing secret is drawn
    for private in PRIVATE:
        blocks = list(private.subnets(new_prefix=LEAST_BLOCK))
        order.shuffle(blocks)
        yield from (block for block in blocks if not any(block.overlaps(other) for other in taken))
    raise CouldNotRun(
        f"expected a free block of addresses for the networks of a run, found all of {', '.join(map(str, PRIVATE))} taken by "
        f"networks of the Docker engine or by routes of this machine; remove networks that are not in use"
    )
