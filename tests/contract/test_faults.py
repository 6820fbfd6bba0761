"""Every kind of fault on edges, on either engine: it does what it says, it is proved, and not applied it is not proved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from harness.errors import ProxyError
from harness.judge.verdict import Outcome
from harness.model.runnable import needs_embedded
from harness.plan.plan import CLEAN
from harness.runtime.ports import ProxyMade
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from harness.runtime.sabotage import UntouchedProxies
from tests.contract.faults_contract import (
    BRIEF,
    BY_PACKETS,
    EMBEDDED,
    ROWS,
    TOXIPROXY,
    USUAL,
    Carried,
    Row,
    Sabotage,
    Timing,
    UnhealedProxies,
    carry_out,
    experiment_of,
    short_plan,
)
from tests.contract.proxies_rig import embedded_command, free_address, served, toxiproxy_command
from tests.contract.recording import NOT_FOOLED, compare, recorded_to, write_engines
from tests.contract.test_proxies import TOXIPROXY as PROGRAM
from tests.contract.test_proxies import needs_toxiproxy

QUICK = tuple(row for row in ROWS if row.quick)

REFUSING = ("outage/refuse", "flap")
"""Those that a real Toxiproxy counts nothing of: what it refuses shows in packets alone."""

LONG_AFTERWARDS = 6.0
"""Seconds in which the engine's count, read every second, shows that a share of the requests is struck still."""

Note = Callable[[str, str, str], None]


@cache
def refused(row: Row) -> str:
    """Why planning refuses a row where Toxiproxy is the engine; empty where it does not."""
    with TemporaryDirectory() as folder:
        return needs_embedded(experiment_of(Path(folder), [row])).partition(": ")[2]


@dataclass(frozen=True)
class Pair:
    """The same rows, as they are, with faults that are not applied, and with healings that are not."""

    rows: tuple[Row, ...]
    real: Carried
    sabotaged: Carried
    unhealed: Carried

    def fault(self, row: Row) -> str:
        return f"f{self.rows.index(row) + 1}"


def pair_of(engine: str, rows: Sequence[Row], folder: Path, at_once: int = 1, timing: Timing = USUAL) -> Pair:
    """Carry the rows out three times, each time on an engine of its own."""
    command = embedded_command if engine == EMBEDDED else toxiproxy_command(PROGRAM or "")

    def one(name: str, sabotage: Sabotage | None, timing: Timing = timing) -> Carried:
        own = folder / name
        own.mkdir()
        plan = short_plan(own, rows, timing)
        with served(command, own) as server:
            return carry_out(plan, rows, server.engine, own, sabotage)

    with ThreadPoolExecutor(at_once) as pool:
        real, sabotaged = pool.submit(one, "real", None), pool.submit(one, "sabotaged", UntouchedProxies)
        unhealed = pool.submit(one, "unhealed", UnhealedProxies, replace(timing, recovery=LONG_AFTERWARDS))
        return Pair(tuple(rows), real.result(), sabotaged.result(), unhealed.result())


@pytest.fixture(scope="module")
def note(request: pytest.FixtureRequest) -> Iterator[Note]:
    """Keeps what came out of each row for the table in the documentation, anew and whole, or compares it with that."""
    file = recorded_to(request)
    if file is None:
        yield compared
        return
    assert PROGRAM, "expected TOXIPROXY_SERVER to name a Toxiproxy: the table is recorded whole"
    found: dict[tuple[str, str], set[str]] = {}

    def keep(row: str, engine: str, what: str) -> None:
        found.setdefault((row, engine), set()).add(what)

    yield keep
    write_engines(file, [row.name for row in ROWS], (EMBEDDED, TOXIPROXY), found)


def compared(row: str, engine: str, what: str) -> None:
    if what != NOT_FOOLED:
        compare("engines", row, engine, what)


def holds(pair: Pair, row: Row) -> None:
    """The callers saw what the fault says, the proxy is clean, and all of it is proved; but for `unproved` on its engine."""
    fault = pair.fault(row)
    told = pair.real.told(fault)

    assert row.saw(told), told.during
    assert all(call.outcome == "answered" and call.whole for call in told.usual), told.usual
    assert set(pair.real.states.values()) == {CLEAN}
    found = pair.real.evidence(fault)
    missing = {kind: finding.why for kind, finding in found.items() if finding.outcome is not Outcome.PASSED}
    assert missing == {}, {kind: finding.details for kind, finding in found.items()}


def is_not_proved(pair: Pair, row: Row) -> None:
    """Accepted and not applied, it did nothing, and that it bit is not proved."""
    fault = pair.fault(row)
    told = pair.sabotaged.told(fault)

    assert told.during
    assert all(call.outcome == "answered" and call.whole for call in told.during)
    found = pair.sabotaged.evidence(fault)
    assert found["set"].outcome is Outcome.PASSED
    assert found["bit"].outcome is Outcome.INCONCLUSIVE, found["bit"].details
    assert found["bit"].why
    assert found["bit"].advice


def is_not_healed(pair: Pair, row: Row) -> None:
    """Applied, and its healing accepted and not applied: that it was healed is not proved."""
    found = pair.unhealed.evidence(pair.fault(row))["healed"]

    assert found.outcome is Outcome.INCONCLUSIVE, found.details
    assert "and yet" in found.why


@pytest.fixture(scope="module")
def quick_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair_of(EMBEDDED, QUICK, tmp_path_factory.mktemp("quick"), at_once=3, timing=BRIEF)


@pytest.fixture(scope="module")
def embedded_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair_of(EMBEDDED, ROWS, tmp_path_factory.mktemp("all"))


@pytest.fixture(scope="module")
def toxiproxy_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    rows = [row for row in ROWS if not row.cannot and not refused(row)]
    return pair_of(TOXIPROXY, rows, tmp_path_factory.mktemp("toxiproxy"))


@pytest.fixture(scope="module")
def toxiproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToxiproxyEngine]:
    with served(toxiproxy_command(PROGRAM or ""), tmp_path_factory.mktemp("refusing")) as server:
        yield server.engine


class TestSomeOnTheEmbeddedEngine:
    """A part of them, in the time of one run."""

    @pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
    def test_a_fault_does_what_it_says_and_is_proved(self, quick_pair: Pair, row: Row) -> None:
        holds(quick_pair, row)

    @pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
    def test_a_fault_that_is_not_applied_is_not_proved(self, quick_pair: Pair, row: Row) -> None:
        is_not_proved(quick_pair, row)

    @pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
    def test_a_healing_that_is_not_applied_is_not_proved(self, quick_pair: Pair, row: Row) -> None:
        is_not_healed(quick_pair, row)


@pytest.mark.slow
class TestAllOnTheEmbeddedEngine:
    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
    def test_a_fault_does_what_it_says_and_is_proved(self, note: Note, embedded_pair: Pair, row: Row) -> None:
        holds(embedded_pair, row)
        note(row.name, EMBEDDED, "passed")

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
    def test_a_fault_that_is_not_applied_is_not_proved(self, note: Note, embedded_pair: Pair, row: Row) -> None:
        is_not_proved(embedded_pair, row)
        note(row.name, EMBEDDED, NOT_FOOLED)

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
    def test_a_healing_that_is_not_applied_is_not_proved(self, embedded_pair: Pair, row: Row) -> None:
        is_not_healed(embedded_pair, row)


@pytest.mark.slow
@needs_toxiproxy
class TestAllOnARealToxiproxy:
    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
    def test_a_fault_does_what_it_says_and_is_proved_or_is_refused(
        self, note: Note, toxiproxy_pair: Pair, row: Row, toxiproxy: ToxiproxyEngine
    ) -> None:
        if row not in toxiproxy_pair.rows:
            refuses(toxiproxy, row)
            note(row.name, TOXIPROXY, f"cannot: {refused(row) or row.cannot}")
        elif row.unproved:
            assert row.saw(toxiproxy_pair.real.told(toxiproxy_pair.fault(row)))
            found = toxiproxy_pair.real.evidence(toxiproxy_pair.fault(row))["bit"]
            assert (found.outcome, bool(found.advice)) == (Outcome.INCONCLUSIVE, True)
            note(row.name, TOXIPROXY, f"cannot: {row.unproved}")
        else:
            holds(toxiproxy_pair, row)
            bare = toxiproxy_pair.real.without_packets().evidence(toxiproxy_pair.fault(row))
            proved = all(finding.outcome is Outcome.PASSED for finding in bare.values())
            assert proved is (row.name not in REFUSING), {kind: finding.why for kind, finding in bare.items()}
            note(row.name, TOXIPROXY, "passed" if proved else BY_PACKETS)

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
    def test_a_fault_that_is_not_applied_is_not_proved(self, note: Note, toxiproxy_pair: Pair, row: Row) -> None:
        if row not in toxiproxy_pair.rows:
            note(row.name, TOXIPROXY, NOT_FOOLED)
            pytest.skip(f"Toxiproxy cannot: {refused(row) or row.cannot}")
        is_not_proved(toxiproxy_pair, row)
        note(row.name, TOXIPROXY, NOT_FOOLED)

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
    def test_a_healing_that_is_not_applied_is_not_proved(self, toxiproxy_pair: Pair, row: Row) -> None:
        if row not in toxiproxy_pair.rows or row.unproved:
            pytest.skip(f"Toxiproxy cannot: {refused(row) or row.cannot or row.unproved}")
        is_not_healed(toxiproxy_pair, row)


def refuses(engine: ToxiproxyEngine, row: Row) -> None:
    """What planning refuses the server itself would refuse, or do otherwise than it says."""
    with TemporaryDirectory() as folder:
        step = short_plan(Path(folder), [row]).steps[0]
    state = step.changes[0].state
    if refused(row) and any(toxic.seed is not None and toxic.toxicity < 1 for toxic in state.toxics):
        return  # it would be taken, and drawn without the seed
    name = f"refusing {row.name.replace('/', ' ')}"
    engine.create([ProxyMade(name, free_address(), free_address())])
    with pytest.raises(ProxyError, match="invalid toxic type"):
        engine.put(name, state)
