"""Chance that can be repeated: who is struck follows from a seed and a number, and a journey from its trace id.

The embedded proxy engine, which imports nothing of the harness, has the same two functions.
"""

from __future__ import annotations

from hashlib import blake2b
from zlib import crc32


def draw(seed: int, n: int) -> float:
    """What number `n` drew by this seed, from 0 to 1."""
    return int.from_bytes(blake2b(f"{seed}:{n}".encode()).digest()[:8], "big") / 2**64


def journey_prefix(name: str) -> str:
    """How the trace ids of a journey begin: eight hexadecimal digits."""
    return f"{crc32(name.encode()):08x}"
