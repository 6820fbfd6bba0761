"""What load processes and the harness say to each other is read, whoever is at the other end."""

from __future__ import annotations

import socket
from contextlib import nullcontext

from harness.runtime.load.channel import Channel


def test_a_message_that_is_none_says_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'[1]\n7\n{"stop": true}\n')
        channel = Channel(ours, nullcontext())

        assert [channel.heard() for _ in range(3)] == [{}, {}, {"stop": True}]
