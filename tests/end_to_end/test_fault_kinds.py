"""One run with several kinds of fault on edges, one after the other and at once: each is proved, and not applied none is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.chaos import chaos, events_of, evidence, outcomes, scenario, verdict_of

FAULTS = """
  - {id: errors, http_error: {edge: front -> back, status: 500, share: 50%}, for: 4s}
  - {id: late, http_delay: {edge: client -> front, delay: 100ms}, at: 1s, for: 3s}
  - {id: flaps, flap: {edge: front -> back, period: 2s, duty: 50%, mode: reset}, at: 5s, for: 4s}
  - {id: lost, lost_reply: {edge: front -> back, mode: reset, every: 2}, at: 10s, for: 4s}
  - {id: slower, latency: {edge: front -> back, latency: 200ms}, ramp: 2s, at: 10s, for: 7s}"""

EXPECT = """
  - {id: deferred, fallback: {name: without-back, fault: flaps, share: {min: 80%}}}
  - {id: alone, error_rate: {journey: alone, during: errors, max: 10%}}
  - {id: recovered, recovery: {within: 4s, hold: 3s}}"""

PHASES = "phases: {warmup: 1s, baseline: 5s, fault: 17s, recovery: 8s}\nload: {rate: 100/s}"


@pytest.mark.alone
@pytest.mark.slow
def test_several_kinds_of_fault_in_one_run_are_each_proved(tmp_path: Path) -> None:
    path = scenario(tmp_path, FAULTS, EXPECT, PHASES)

    answer = chaos("run", str(path), "--report-dir", str(tmp_path / "reports"))

    verdict = verdict_of(tmp_path / "reports")
    assert answer.code == 0, answer.out + answer.err
    assert set(evidence(verdict).values()) == {"passed"}
    assert outcomes(verdict) == {"deferred": "passed", "alone": "passed", "recovered": "passed"}
    (folder,) = (tmp_path / "reports").glob("*/2*")
    events = [event["event"] for event in events_of(folder) if event.get("fault") == "flaps"]
    assert (events.count("FaultBegan"), events.count("FaultEnded")) == (2, 2)
    told = {proof["id"]: " ".join(proof["details"]) for proof in verdict["evidence"]}
    assert "requests struck" in told["met"]
    assert "slower set 2 times" in told["set"]


@pytest.mark.alone
@pytest.mark.slow
def test_of_several_kinds_of_fault_that_are_not_applied_none_is_proved(tmp_path: Path) -> None:
    path = scenario(tmp_path, FAULTS, EXPECT, PHASES)

    answer = chaos("prove", str(path), "--only", "not applied", "--report-dir", str(tmp_path / "reports"), "--json")

    (trial,) = json.loads(answer.out)["trials"]
    assert (trial["trial"], trial["was"], answer.code) == ("not applied", "inconclusive", 0)
    bit = next(proof for proof in verdict_of(tmp_path / "reports")["evidence"] if proof["id"] == "bit")
    assert len(bit["details"]) == 5
    shown = ("nothing shows that", "expected a probe to be")
    assert all(any(word in line for word in shown) for line in bit["details"])
