"""Counts connection attempts that nobody is there to accept: a disabled proxy has no listener, the kernel refuses for it.

Only someone who sees the packets can count them. Where this process may open a packet socket, the kernel's own
filter hands it the first packet of every TCP handshake on loopback, or on every interface, and nothing else; it is
open only while a proxy is disabled.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import os
import socket
import struct
from collections.abc import Callable

from harness.runtime.proxies.embedded.counts import Counts
from harness.runtime.proxies.embedded.sources import Sources

_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_ETH_P_IP = 0x0800
_PACKET_HOST = 0
_LOOPBACK, _EVERY_INTERFACE = "lo", 0
_ROOM = 4 * 1024 * 1024

# Classic BPF over the IP packet: TCP, not a later fragment, SYN without ACK. Each is (code, jump true, jump false, k).
_FIRST_OF_A_HANDSHAKE = (
    (0x30, 0, 0, 9),  # ldb [9]               the protocol
    (0x15, 0, 6, 6),  # jeq #6                TCP, or drop
    (0x28, 0, 0, 6),  # ldh [6]               fragment offset
    (0x45, 4, 0, 0x1FFF),  # jset #0x1fff     a later fragment: drop
    (0xB1, 0, 0, 0),  # ldxb 4*([0]&0xf)      the length of the IP header
    (0x50, 0, 0, 13),  # ldb [x+13]           TCP's flags
    (0x54, 0, 0, 0x12),  # and #0x12          SYN and ACK
    (0x15, 1, 0, 0x02),  # jeq #0x02          SYN alone: take
    (0x06, 0, 0, 0),  # ret #0
    (0x06, 0, 0, 96),  # ret #96
)


class Refusals:
    """Who is being turned away, by address. Attempts from `ignored` do not count."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ignored: Sources, packets: Packets) -> None:
        self._loop = loop
        self._packets_of = packets
        self._ignored = ignored
        self._watched: dict[tuple[bytes, int], Counts] = {}
        self._packets: socket.socket | None = None

    def watch(self, address: tuple[str, int], counts: Counts) -> None:
        """From now on attempts at this address are refused."""
        host, port = address
        if not self._packets_of.reach(host):
            counts.refusals_unseen(f"refused attempts cannot be counted: {host} is not {self._packets_of.expected}")
            return
        try:
            self._look()
        except OSError as error:
            counts.refusals_unseen(f"refused attempts cannot be counted: {_why(error)}")
            return
        self.read()  # what came before does not count
        self._watched[socket.inet_aton(host), port] = counts

    def unwatch(self, address: tuple[str, int], counts: Counts) -> None:
        """Attempts at this address are counted here no longer; those refused so far are before this returns."""
        self.read()
        with contextlib.suppress(OSError):
            place = socket.inet_aton(address[0]), address[1]
            if self._watched.get(place) is counts:  # and not those of whoever refuses there next
                del self._watched[place]
        if not self._watched:
            self.close()

    def read(self) -> None:
        """Count what has been refused up to now."""
        while self._packets is not None:
            try:
                packet, origin = self._packets.recvfrom(96)
            except BlockingIOError:
                break
            if origin[2] == _PACKET_HOST:
                self._count(packet)
        self._mind_losses()

    def close(self) -> None:
        """Look no more."""
        if self._packets is not None:
            self._loop.remove_reader(self._packets)
            self._loop.run_in_executor(None, self._packets.close)  # the kernel takes milliseconds for it
            self._packets = None

    def _look(self) -> None:
        if self._packets is None:
            packets = self._packets_of.open()
            self._loop.add_reader(packets, self.read)
            self._packets = packets

    def _count(self, packet: bytes) -> None:
        if socket.inet_ntoa(packet[12:16]) in self._ignored:
            return
        (port,) = struct.unpack_from("!H", packet, (packet[0] & 0x0F) * 4 + 2)
        counts = self._watched.get((packet[16:20], port))
        if counts is not None and counts.refused is not None:
            counts.refused += 1

    def _mind_losses(self) -> None:
        if self._packets is None:
            return
        _, lost = struct.unpack("II", self._packets.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if lost:
            for counts in self._watched.values():
                counts.refusals_unseen("refused attempts cannot be counted: they came faster than they could be read")


def _why(error: OSError) -> str:
    if error.errno is None:
        return str(error)
    if isinstance(error, PermissionError):
        return "opening a packet socket needs CAP_NET_RAW"
    return f"no packet socket could be opened ({error.strerror})"


def _address(host: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(host)
    except ValueError:
        return None


class Packets:
    """Sees no packets, because it was told not to; the classes below see some."""

    expected = "an IPv4 address"

    def reach(self, host: str) -> bool:
        """Whether attempts at this address would be seen."""
        return _address(host) is not None

    def open(self) -> socket.socket:
        """A socket on which the first packet of every TCP handshake arrives; raises OSError where it may not be."""
        raise OSError("looking at packets was switched off with --no-packet-socket")


class LoopbackPackets(Packets):
    """Sees what goes over loopback."""

    expected = "an IPv4 loopback address"

    def reach(self, host: str) -> bool:
        address = _address(host)
        return address is not None and address.is_loopback

    def open(self) -> socket.socket:
        return _packet_socket(lambda packets: packets.bind((_LOOPBACK, _ETH_P_IP)))


class AllPackets(Packets):
    """Sees what comes in on any interface of this network namespace."""

    expected = "one IPv4 address of this machine"

    def reach(self, host: str) -> bool:
        address = _address(host)
        return address is not None and not address.is_unspecified

    def open(self) -> socket.socket:
        return _packet_socket(_bind_to_every_interface)


def _packet_socket(bind: Callable[[socket.socket], None]) -> socket.socket:
    if not hasattr(socket, "AF_PACKET"):
        raise OSError("this system has no packet sockets")
    # Protocol 0 receives nothing: the filter is in place before the first packet can come.
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    try:
        program = b"".join(struct.pack("HBBI", *instruction) for instruction in _FIRST_OF_A_HANDSHAKE)
        room = ctypes.create_string_buffer(program)
        packets.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_FIRST_OF_A_HANDSHAKE), ctypes.addressof(room))
        )
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
        bind(packets)
    except OSError:
        packets.close()
        raise
    return packets


def _bind_to_every_interface(packets: socket.socket) -> None:
    """Python's own `bind` takes the name of one interface; the kernel takes the number 0 for all."""
    address = struct.pack("HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_IP), _EVERY_INTERFACE, 0, 0, 0, b"")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(packets.fileno(), address, len(address)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
