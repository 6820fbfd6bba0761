"""The Compose file's `restart:`, as it is kept where no Docker engine does it."""

from __future__ import annotations

import time
from dataclasses import dataclass

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 60.0
"""Docker waits that long before it starts a container again, first and at most; each time twice as long."""

STEADY_SECONDS = 10.0
"""Who ran that long begins anew with the shortest pause."""

NOTICE_SECONDS = 1.0
"""How long it may take until somebody looks; that much of the pause has passed then."""


@dataclass(slots=True)
class Restarts:
    """A service's policy, as Compose writes it, and how often it was needed so far."""

    policy: str = ""
    tries: int = 0
    _due: float | None = None

    def wanted(self, status: int) -> bool:
        """Whether a service that ended with this status is to be started again."""
        name, _, most = self.policy.partition(":")
        if name == "on-failure":
            return status != 0 and (not most or self.tries < int(most))
        return name in ("always", "unless-stopped")

    @property
    def pause(self) -> float:
        """How long it is waited before the next start."""
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.tries, 16))

    def is_due(self) -> bool:
        """Asked of a service that has ended and is wanted: whether it is time, which begins with the first asking."""
        if self._due is None:
            self._due = time.monotonic() + max(0.0, self.pause - NOTICE_SECONDS)
        return time.monotonic() >= self._due

    def count(self) -> None:
        """It was started again."""
        self.tries, self._due = self.tries + 1, None

    def see_running(self, seconds: float) -> None:
        """It has run for so long."""
        if seconds >= STEADY_SECONDS:
            self.tries = 0
