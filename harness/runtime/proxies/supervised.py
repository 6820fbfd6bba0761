"""A proxy engine that is looked after: one that hangs or is gone is started again, with every proxy as it should be.

The states that proxies should be in are kept here, never in the engine alone. A real Toxiproxy may lock up for good
when it is changed under a connection whose caller does not read; only a new process helps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event as Flag
from threading import Lock, Thread
from typing import Protocol

from harness.errors import HarnessError, ProxyError
from harness.history.events import EdgeSeen, EngineRestarted, Event
from harness.plan.plan import CLEAN, ProxyState
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.changes import is_same
from harness.runtime.proxies.counting import Totals
from harness.runtime.proxies.session import EngineGone

EVERY = 1.0
"""Seconds from one look to the next."""

ROUND = 2
"""Looks after which every proxy was looked at."""

LOOK_WITHIN = 2.0
"""Seconds for one answer to a look. With the two above, what hangs is noticed within 5 s."""

RESTARTED_WITHIN = 20.0
"""Seconds for a restart and for bringing every proxy into its state again; a call that meets it waits as long."""

LOG_LINES = 10


class Engine(Protocol):
    """What is looked after: the port `Proxies`, and what it takes to get to know an engine again."""

    def ensure(self, proxies: Sequence[ProxyMade]) -> None: ...
    def put(self, proxy: str, state: ProxyState) -> ProxyState: ...
    def heal_all(self) -> None: ...
    def seen(self) -> Sequence[EdgeSeen]: ...
    def read(self, proxy: str, within: float = ...) -> ProxyState: ...
    def version(self, within: float = ...) -> str: ...


class GivenUp(ProxyError):
    """The engine is gone, and will not come back in this run."""


class SupervisedEngine:
    """The port `Proxies`, over an engine that may be restarted once.

    `engine_at` makes the adapter for the engine at an address; `control` is where it is now. `restart` ends the engine,
    however it is, starts it again and returns where it then is. `counted` tells what was seen on the edges where the
    engine itself cannot, `log_tail` the engine's last lines.

    A call that finds the engine gone, or meets its restart, waits for it, at most RESTARTED_WITHIN seconds, and is then
    answered by the new one. When it is gone a second time, that is recorded, and every call raises GivenUp.
    """

    def __init__(
        self,
        control: Address,
        *,
        engine_at: Callable[[Address], Engine],
        restart: Callable[[], Address],
        record: Callable[[Event], None],
        counted: Callable[[], Sequence[EdgeSeen]] | None = None,
        log_tail: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._engine_at, self._restart, self._record = engine_at, restart, record
        self._counted, self._log_tail = counted, log_tail
        self._engine = engine_at(control)
        self._totals = Totals()
        self._made: dict[str, ProxyMade] = {}
        self._intended: dict[str, ProxyState] = {}
        self._unsure: set[str] = set()
        self._lock = Lock()
        self._closed = Flag()
        self._restarted = False
        self._failure: Exception | None = None
        self._watching: Thread | None = None

    def begin(self, made: Sequence[ProxyMade] = ()) -> None:
        """Adopt the proxies that are there already, make those that are not, and begin to look after the engine."""
        self.create(made)
        self._watching = Thread(target=self._watch, daemon=True, name="proxy engine watch")
        self._watching.start()

    def close(self) -> None:
        """Look after it no more: from now on nothing is restarted. Closing twice is closing once."""
        self._closed.set()
        if self._watching is not None:
            self._watching.join(RESTARTED_WITHIN)

    def create(self, proxies: Sequence[ProxyMade]) -> None:
        """Make these proxies, or adopt those that are there, clean."""
        with self._calling():
            for proxy in proxies:
                if proxy.name in self._made:
                    raise ProxyError(f"{proxy.name}: proxy already exists")
                self._engine.ensure([proxy])
                self._made[proxy.name] = proxy
                self._intended[proxy.name] = CLEAN

    def put(self, proxy: str, state: ProxyState) -> ProxyState:
        """Bring a proxy into a state; by a new engine where the one there is gone."""
        with self._calling():
            return self._put(proxy, state)

    def read(self, proxy: str) -> ProxyState:
        """The state of a proxy, asked of the engine."""
        with self._calling():
            try:
                return self._engine.read(proxy)
            except EngineGone as gone:
                self._recover(gone)
                return self._engine.read(proxy)

    def heal_all(self) -> None:
        """Bring every proxy into the clean state, whichever of them fail; raises for those at the end."""
        with self._calling():
            self._intended = dict.fromkeys(self._intended, CLEAN)
            self._unsure = set(self._made)
            try:
                self._engine.heal_all()
            except EngineGone as gone:
                self._recover(gone)
            self._unsure.clear()

    def seen(self) -> Sequence[EdgeSeen]:
        """What was counted on every proxy since it was made, by this engine and by the one before it."""
        if self._failure is not None:
            raise self._failure
        if self._counted is not None:
            return self._counted()
        with self._calling():
            try:
                counted = self._engine.seen()
            except EngineGone as gone:
                self._recover(gone)
                counted = self._engine.seen()
            return self._totals.seen(counted)

    def version(self) -> str:
        """The engine's name and version."""
        with self._calling():
            try:
                return self._engine.version()
            except EngineGone as gone:
                self._recover(gone)
                return self._engine.version()

    def _put(self, proxy: str, state: ProxyState) -> ProxyState:
        if proxy not in self._made:
            raise ProxyError(f"{proxy}: proxy not found")
        was = self._intended[proxy]
        self._intended[proxy] = state
        try:
            found = self._engine.put(proxy, state)
        except EngineGone as gone:
            self._recover(gone)
            found = self._engine.read(proxy)
        except ProxyError:
            self._intended[proxy] = was
            self._unsure.add(proxy)  # it may be half changed: until the next change nobody knows how it should be
            raise
        self._unsure.discard(proxy)
        return found

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """One call, alone; none is answered by an engine that was given up."""
        if not self._lock.acquire(timeout=RESTARTED_WITHIN):
            raise ProxyError(f"proxy engine: expected its restart to be over within {RESTARTED_WITHIN:g} s, found it going on")
        try:
            if self._failure is not None:
                raise self._failure
            yield
        finally:
            self._lock.release()

    # looking after it

    def _watch(self) -> None:
        turn = 0
        while not self._closed.wait(EVERY):
            names = tuple(self._made)
            try:
                self._look(None)
                for name in names[turn::ROUND]:
                    self._look(name)
            except ProxyError:
                if self._failure is not None:
                    return
            except Exception as defect:  # it is raised where the next call is made
                self._failure = defect
                return
            turn = (turn + 1) % ROUND

    def _look(self, proxy: str | None) -> None:
        """See whether the engine answers at all, or whether one proxy does and is as it should be."""
        if self._closed.is_set():
            return
        with self._calling():
            try:
                if proxy is None:
                    self._engine.version(LOOK_WITHIN)
                    return
                found = self._engine.read(proxy, LOOK_WITHIN)
            except EngineGone as gone:
                self._recover(gone)
                return
            except ProxyError as changed:  # it answers, and does not know the proxy: it is another one than it was
                self._recover(changed)
                return
            if proxy not in self._unsure and not is_same(found, self._intended[proxy]):
                self._recover(
                    ProxyError(f"expected {proxy} in the state {self._intended[proxy]!r}, found {found!r}: it was started anew")
                )

    def _recover(self, reason: ProxyError) -> None:
        """Start the engine again and bring every proxy into its state; the lock is held. Raises where that fails."""
        if self._closed.is_set():
            raise reason
        at, began = time.time(), time.monotonic()
        if self._restarted:
            self._give_up(f"the proxy engine failed a second time: {reason}", reason, at)
        self._restarted = True
        try:
            self._start_again(began + RESTARTED_WITHIN)
        except HarnessError as failed:
            self._give_up(f"the proxy engine failed ({reason}) and could not be restarted: {failed}", failed, at)
        self._record(EngineRestarted(at, str(reason), time.monotonic() - began))

    def _start_again(self, end: float) -> None:
        self._totals.carry_over()
        self._engine = self._engine_at(self._restart())
        while True:
            try:
                self._engine.version()
                break
            except EngineGone:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self._engine.ensure(tuple(self._made.values()))
        for proxy, state in self._intended.items():
            if state != CLEAN:
                self._engine.put(proxy, state)
        self._unsure.clear()

    def _give_up(self, why: str, because: HarnessError, at: float) -> None:
        """From now on every call raises this; from `at` on nothing that was measured says anything of the system."""
        lines = "".join(f"\n    {line}" for line in tuple(self._log_tail())[-LOG_LINES:])
        self._failure = GivenUp(why + (f"; its last log lines:{lines}" if lines else ""))
        self._record(EngineRestarted(at, why, time.time() - at, back=False))
        raise self._failure from because
