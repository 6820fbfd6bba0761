"""Whether the load arrived, where it comes in stages or from several processes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.history.history import History
from harness.judge.case import Case
from harness.judge.evidence import load_arrived
from harness.judge.judge import judge
from harness.judge.verdict import Finding, Outcome
from tests.histories.building import Story, tell


def told(load: dict[str, Any], notes: list[dict[str, Any]] | None = None) -> History:
    """A whole run at 80/s, of which the plan and the load process say something else."""
    history = tell(Story())
    plan = json.loads(json.dumps(history.plan))
    plan["experiment"]["load"] |= load
    return History(plan, history.events, history.requests, history.notes if notes is None else notes)


def arrived(load: dict[str, Any], notes: list[dict[str, Any]] | None = None) -> Finding:
    return load_arrived(Case(told(load, notes)))


def finished_notes() -> list[dict[str, Any]]:
    return [note for note in tell(Story()).notes if note["load"] == "finished"]


def shared(processes: int) -> list[dict[str, Any]]:
    """What so many processes would have said that shared the same load."""
    (whole,) = finished_notes()
    others = [note for note in tell(Story()).notes if note["load"] != "finished"]
    parts = []
    for number in range(processes):
        parts.append({key: _part(value, processes, number) for key, value in whole.items()})
    return [*others, *parts]


def _part(value: Any, processes: int, number: int) -> Any:
    return (value + number) // processes if isinstance(value, int) else value


def test_stages_that_make_what_arrived_are_arrived_as_planned() -> None:
    finding = arrived({"stages": [{"to": "80/s", "over": "0s"}]})

    assert finding.outcome is Outcome.PASSED
    assert "/80 per s" in finding.seen


def test_stages_that_would_have_made_more_were_not_kept_to() -> None:
    finding = arrived(
        {
            "rate": "100/s",
            "stages": [{"to": "80/s", "over": "0s"}, {"to": "80/s", "over": "40s"}, {"to": "100/s", "over": "0s"}],
        }
    )

    assert finding.outcome is Outcome.INCONCLUSIVE
    assert "planned requests were scheduled" in finding.seen


@pytest.mark.parametrize("processes", [2, 3])
def test_what_several_processes_say_counts_together(processes: int) -> None:
    assert arrived({"processes": processes}, shared(processes)).outcome is Outcome.PASSED


def test_a_process_that_did_not_say_that_it_finished_leaves_the_run_inconclusive() -> None:
    notes = shared(3)[:-1]

    finding = arrived({"processes": 3}, notes)
    verdict = judge(told({"processes": 3}, notes))

    assert finding.outcome is Outcome.INCONCLUSIVE
    assert finding.seen == "2 of 3 load processes said that they finished"
    assert verdict.word == "inconclusive"


def test_a_journey_that_is_tried_less_since_less_was_planned_lost_no_volume() -> None:
    """Half of the load under the fault, by the plan: every journey is tried half as often, and none was lost."""
    history = tell(Story())
    fault = history.phases["fault"]
    every_third = [request for number, request in enumerate(history.requests) if request.due < fault.begin or number % 3 == 0]
    begin = fault.begin - history.began
    stages = [{"to": "80/s", "over": "0s"}, {"to": "80/s", "over": f"{begin!r}s"}, {"to": f"{80 / 3!r}/s", "over": "0s"}]
    plan = json.loads(json.dumps(history.plan))
    thinned = History(plan, history.events, every_third, history.notes)
    staged = History(
        plan | {"experiment": plan["experiment"] | {"load": plan["experiment"]["load"] | {"stages": stages}}},
        history.events,
        every_third,
        history.notes,
    )

    lost, kept = (
        [finding for finding in judge(each).expectations if finding.kind == "blast_radius"] for each in (thinned, staged)
    )

    assert "volume was lost" in str(lost)
    assert "volume was lost" not in str(kept)
