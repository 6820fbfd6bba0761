"""What a service does when something that it needs is away: say which, and try again with growing pauses."""

from __future__ import annotations

import random

LONGEST_PAUSE = 1.0


class DependencyUnavailable(Exception):
    """A dependency refused, broke off, did not answer in time, or answered with an error of its own."""

    def __init__(self, dependency: str, reason: str, *, timed_out: bool = False) -> None:
        self.dependency, self.reason, self.timed_out = dependency, reason, timed_out
        super().__init__(f"{dependency}: {reason}")


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 0.1, 0.2, 0.4 … up to one second, less some jitter."""
    return min(LONGEST_PAUSE, 0.1 * 2.0 ** min(failures - 1, 10)) * random.uniform(0.7, 1.0)  # noqa: S311 - jitter
