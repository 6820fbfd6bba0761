"""The short form: some inputs of every kind, each time the same. `make fuzz` is the long one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from harness.errors import CouldNotRun, HarnessError, InvalidFile
from tests.fuzz import trying
from tests.fuzz.kinds import KINDS
from tests.fuzz.trying import Kind, Reader, TookTooLong, is_told, table_of, tried

QUICK = {"scenario": 200, "system.yaml": 200, "compose file": 150, "compose config": 150}
QUICK |= dict.fromkeys(("plan.json", "events.jsonl", "samples.jsonl", "requests.jsonl", "requests.parquet", "load.jsonl"), 40)
QUICK |= {"workers' channel": 50}
USUAL = 300


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_whatever_comes_is_taken_or_refused_in_words_and_soon(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOS_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "inputs").mkdir()

    tally = tried(kind, tmp_path / "inputs", range(QUICK.get(kind.name, USUAL)))

    assert tally.is_clean, "\n" + table_of([tally])


def made_of(reader: Reader) -> Kind:
    return Kind("made up", lambda _folder: reader)


def raising(error: BaseException) -> Reader:
    def read(_random: object) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    "error", [CouldNotRun(""), InvalidFile(()), KeyError("a"), RecursionError(), Warning("a"), TookTooLong()]
)
def test_what_is_no_refusal_in_words_is_noticed(error: BaseException, tmp_path: Path) -> None:
    tally = tried(made_of(raising(error)), tmp_path, range(3))

    assert (tally.inputs, tally.tracebacks, tally.is_clean) == (3, 3, False)
    assert "number 0" in table_of([tally])


def test_a_refusal_in_words_is_none_of_these(tmp_path: Path) -> None:
    tally = tried(made_of(raising(HarnessError("expected this, found that"))), tmp_path, range(3))

    assert (tally.refused, tally.is_clean) == (3, True)
    assert is_told(HarnessError("expected this, found that"))


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="what a process had before is not forgotten here")
def test_memory_is_noticed_though_the_process_had_more_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "MOST_MEMORY", 20.0)
    before = len(b"x" * 80_000_000)
    kept: list[bytes] = []

    tally = tried(made_of(lambda _random: kept.append(b"x" * 1_000_000)), tmp_path, range(60))

    assert before > sum(map(len, kept))
    assert not tally.is_clean


def test_the_alarm_of_whoever_tries_goes_on(tmp_path: Path) -> None:
    others = signal.setitimer(signal.ITIMER_REAL, 100.0)
    try:
        tried(made_of(raising(HarnessError("expected this, found that"))), tmp_path, range(3))

        assert 90.0 < signal.getitimer(signal.ITIMER_REAL)[0] < 100.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *others)


def test_memory_is_noticed(tmp_path: Path) -> None:
    kept: list[bytes] = []

    tally = tried(made_of(lambda _random: kept.append(b"x" * 12_000_000)), tmp_path, range(60))

    assert tally.memory > 200
    assert not tally.is_clean
