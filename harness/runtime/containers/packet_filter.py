"""Loses the packets to and from addresses and ports, in one network namespace, by the kernel's own packet filter (nftables).

Spoken to by netlink, so that no program has to be there. All that is lost stands in one table of its own, which is replaced
as a whole, in one step; the namespace takes it along when it goes. Nothing but the standard library is used: where this
process may not enter the namespace, a container that is in it runs this very file.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

TABLE = b"chaos\0"
NETLINK_NETFILTER = 12
NFTABLES = 10 << 8
BEGIN, END = 0x10, 0x11
NEW_TABLE, DELETE_TABLE, NEW_CHAIN, NEW_RULE, GET_RULE = 0, 2, 3, 6, 7
REQUEST, ACK, DUMP, CREATE, APPEND, NESTED = 0x1, 0x4, 0x300, 0x400, 0x800, 0x8000
DONE, ERROR = 3, 2
IPV4, TCP = 2, 6
ENOENT = 2
ANSWER_SECONDS = 2.0
CLONE_NEWNET = 0x40000000
SO_SNDBUFFORCE, ROOM = 32, 1 << 23
DROP = 0

CHAINS = {b"in\0": (1, 16, 2), b"out\0": (3, 12, 0)}
"""Where packets come in and where they go out: the hook, and the offsets of the address and the port that are looked at."""

Place = tuple[str, int]
"""An IPv4 address and a port."""

Step = tuple[int, bytes, int]
"""A message to nftables: its kind, what it says, its flags."""


class Refused(OSError):
    """The kernel did not do what it was asked to."""


def lose(places: Iterable[Place]) -> dict[Place, int]:
    """Lose all packets of TCP to and from these places, and of no others; what is lost then, as `lost` tells it."""
    wanted = sorted(set(places))
    table = _attribute(1, TABLE)
    steps = [(NEW_TABLE, table, CREATE), (DELETE_TABLE, table, 0)]
    if wanted:
        steps.append((NEW_TABLE, table, CREATE))
        for name, (hook, _, _) in CHAINS.items():
            where = _nested(4, _number(1, hook) + _number(2, 0))
            steps.append((NEW_CHAIN, table + _attribute(3, name) + where + _attribute(7, b"filter\0"), CREATE))
        steps += [_rule(name, place) for place in wanted for name in CHAINS]
    with _kernel() as kernel:
        _transact(kernel, steps)
        found = _listed(kernel)
    if set(found) != set(wanted):
        raise Refused(f"expected packets of {wanted} to be lost, read back {sorted(found)}")
    return found


def lost() -> dict[Place, int]:
    """The places whose packets are lost both ways, each with how many came in and were lost so far."""
    with _kernel() as kernel:
        return _listed(kernel)


def in_namespace(path: str, deed: Callable[[], dict[Place, int]]) -> dict[Place, int]:
    """Do it in the network namespace that a file stands for, in a thread that is given up after it; that takes root."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_entered, path, deed).result()


def _entered(path: str, deed: Callable[[], dict[Place, int]]) -> dict[Place, int]:
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(namespace, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise Refused(number, f"a network namespace cannot be entered: {os.strerror(number)}")
    finally:
        os.close(namespace)
    return deed()


# what is said


def _rule(chain: bytes, place: Place) -> Step:
    """TCP packets whose address and port these are, on the side that the chain looks at, are counted and dropped."""
    address, port = place
    _, address_at, port_at = CHAINS[chain]
    expressions = [
        *_compared(1, 9, bytes([TCP])),
        *_compared(1, address_at, socket.inet_aton(address)),
        *_compared(2, port_at, struct.pack("!H", port)),
        _expression(b"counter\0", b""),
        _expression(b"immediate\0", _number(1, 0) + _nested(2, _nested(2, _number(1, DROP)))),
    ]
    return NEW_RULE, _attribute(1, TABLE) + _attribute(2, chain) + _nested(4, b"".join(expressions)), CREATE | APPEND


def _compared(header: int, offset: int, value: bytes) -> list[bytes]:
    """The bytes at an offset of the network header (1) or the transport's (2) are these, or the rule ends here."""
    load = _number(1, 1) + _number(2, header) + _number(3, offset) + _number(4, len(value))
    compare = _number(1, 1) + _number(2, 0) + _nested(3, _attribute(1, value))
    return [_expression(b"payload\0", load), _expression(b"cmp\0", compare)]


def _expression(name: bytes, said: bytes) -> bytes:
    return _nested(1, _attribute(1, name) + _nested(2, said))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _nested(kind: int, inner: bytes) -> bytes:
    return _attribute(kind | NESTED, inner)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!I", value))


def _message(kind: int, said: bytes, flags: int) -> bytes:
    """One message to nftables."""
    return _framed(NFTABLES | kind, struct.pack("=BBH", IPV4, 0, 0) + said, flags)


def _framed(kind: int, body: bytes, flags: int) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body


# saying it


def _kernel() -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    kernel.settimeout(ANSWER_SECONDS)
    with suppress(PermissionError):  # in a user's own namespaces there is room for some hundred places, and no more
        kernel.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, ROOM)
    kernel.bind((0, 0))
    return kernel


def _transact(kernel: socket.socket, steps: list[Step]) -> None:
    """All of it, or nothing. What is refused is answered, and so is the last step."""
    of_nftables = struct.pack("=BB", 0, 0) + struct.pack("!H", NFTABLES >> 8)
    *before, (last, said, flags) = steps
    messages = [*(_message(*step) for step in before), _message(last, said, flags | ACK)]
    kernel.send(_framed(BEGIN, of_nftables, 0) + b"".join(messages) + _framed(END, of_nftables, 0))
    answered = False
    while not answered:
        for kind, body in _answers(kernel):
            if kind == ERROR:
                _check(body)
                answered = True


def _listed(kernel: socket.socket) -> dict[Place, int]:
    """The places for which there is a rule in every chain, and what the first has counted."""
    kernel.send(_message(GET_RULE, _attribute(1, TABLE), DUMP))
    found: dict[bytes, dict[Place, int]] = {name: {} for name in CHAINS}
    done = False
    while not done:
        for kind, body in _answers(kernel):
            if kind == NFTABLES | NEW_RULE:
                chain, place, packets = _rule_in(body[4:])
                if chain in found and place is not None:
                    found[chain][place] = packets
            elif kind == ERROR:
                _check(body, ENOENT)
            done = done or kind in (DONE, ERROR)
    first, second = found.values()
    return {place: packets for place, packets in first.items() if place in second}


def _answers(kernel: socket.socket) -> Iterator[tuple[int, bytes]]:
    data = kernel.recv(1 << 18)
    while len(data) >= 16:
        length, kind, _, _, _ = struct.unpack_from("=IHHII", data)
        yield kind, data[16:length]
        data = data[(length + 3) & ~3 :]


def _check(body: bytes, bearable: int = 0) -> None:
    (number,) = struct.unpack_from("=i", body)
    if number not in (0, -bearable):
        raise Refused(-number, f"the kernel's packet filter refused: {os.strerror(-number)}")


def _rule_in(said: bytes) -> tuple[bytes, Place | None, int]:
    """Chain, place and packets of a rule as the kernel lists it; no place for a rule that is none of ours."""
    attributes = dict(_attributes(said))
    values: list[bytes] = []
    packets, drops = 0, False
    for _, one in _attributes(attributes.get(4, b"")):
        expression = dict(_attributes(one))
        name, inner = expression.get(1, b""), dict(_attributes(expression.get(2, b"")))
        if name == b"cmp\0":
            values.append(dict(_attributes(inner[3]))[1])
        elif name == b"counter\0":
            packets = int.from_bytes(inner.get(2, b""), "big")
        elif name == b"immediate\0":
            verdict = dict(_attributes(dict(_attributes(inner[2])).get(2, b"")))
            drops = verdict.get(1) == struct.pack("!I", DROP)
    if [len(value) for value in values] != [1, 4, 2] or not drops:
        return attributes.get(2, b""), None, 0
    return attributes.get(2, b""), (socket.inet_ntoa(values[1]), int.from_bytes(values[2], "big")), packets


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def main(arguments: list[str]) -> None:
    """`lose ADDRESS:PORT …` or `lost`, in the namespace that this process is in; what is lost then as JSON."""
    verb, *places = arguments
    apart = [place.rpartition(":") for place in places]
    found = lose((host, int(port)) for host, _, port in apart) if verb == "lose" else lost()
    sys.stdout.write(json.dumps([[host, port, packets] for (host, port), packets in found.items()]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
