"""Where one service has its place in a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.runtime.ports import Address


@dataclass(frozen=True, slots=True)
class Spot:
    """A service, where it listens, where its output goes, and a folder of its own (not made yet) for what it writes."""

    service: str
    address: Address
    log: Path
    folder: Path
