"""A crash loop: something is killed each time it has lived for so long, until nobody wants that any more."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as Flag
from threading import Thread

END_SECONDS = 20.0
"""How long a turn that is under way may take to be over: a service is started or killed in it, and both are bounded."""


class Loop:
    """Takes one turn after the other, in a thread of its own, each when the one before said so, in seconds.

    One that fails ends the loop.
    """

    def __init__(self, name: str, turn: Callable[[], float]) -> None:
        self._turn = turn
        self._ended = Flag()
        self._thread = Thread(target=self._work, daemon=True, name=f"crash loop of {name}")
        self.failure: Exception | None = None

    def begin(self) -> None:
        """The first turn is taken now."""
        self._thread.start()

    @property
    def is_at_work(self) -> bool:
        """Whether there will be another turn."""
        return self._thread.is_alive() and not self._ended.is_set()

    def end(self) -> None:
        """Return when the last turn is over. May be called again."""
        self._ended.set()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive() and self.failure is None:
            self.failure = TimeoutError(f"its last turn was not over after {END_SECONDS:g} s")

    def _work(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            try:
                pause = self._turn()
            except Exception as failure:  # told by whoever takes the fault back
                self.failure = failure
                return
