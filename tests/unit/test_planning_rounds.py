"""Rounds: baseline, fault and recovery come again and again, each time with the same faults, drawn anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InvalidFile
from harness.model.origins import origins_of
from harness.model.resolving import resolve
from harness.plan.plan import CLEAN, Plan, WatchBite
from harness.plan.planning import plan_of
from harness.plan.text import plan_text
from harness.plan.twins import twin_of
from tests.systems import SCENARIO, write_system

FLAKY = SCENARIO.replace("outage: {service: shipping}", "flaky: {service: shipping, share: 50%, mean: 2s}")


def planned(folder: Path, scenario: str = SCENARIO, rounds: int = 3) -> Plan:
    resolved = resolve(write_system(folder, scenario=f"{scenario}rounds: {rounds}\n"), environ={})
    return plan_of(resolved.experiment, resolved.queries)


def test_every_round_has_its_own_baseline_fault_and_recovery(tmp_path: Path) -> None:
    plan = planned(tmp_path, SCENARIO + "phases: {warmup: 5s, baseline: 10s, fault: 8s, recovery: 12s, drain: 6s}\n", 2)

    assert [(phase.name, phase.round, phase.at, phase.until) for phase in plan.phases] == [
        ("warmup", 1, 0, 5),
        ("baseline", 1, 5, 15),
        ("fault", 1, 15, 23),
        ("recovery", 1, 23, 35),
        ("baseline", 2, 35, 45),
        ("fault", 2, 45, 53),
        ("recovery", 2, 53, 65),
        ("drain", 1, 65, 71),
    ]
    assert plan.load.seconds == 65, "the load is on in every round, and off in the drain"


def test_every_round_has_the_same_faults_and_looks_for_itself(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    starts = {phase.round: phase.at for phase in plan.phases if phase.name == "fault"}
    bites = [seen for seen in plan.observations if isinstance(seen, WatchBite)]

    assert [(step.round, step.verb, step.at - starts[step.round]) for step in plan.steps] == [
        (number, verb, at) for number in (1, 2, 3) for verb, at in (("begin", 0.0), ("heal", 20.0))
    ]
    assert [bite.round for bite in bites] == [1, 2, 3]
    assert len({bite.at - starts[bite.round] for bite in bites}) == 1


def test_what_is_drawn_is_drawn_anew_in_each_round_and_the_first_is_that_of_a_single_one(tmp_path: Path) -> None:
    def windows(plan: Plan, number: int) -> list[float]:
        start = plan.phase("fault", number).at
        return [round(step.at - start, 6) for step in plan.steps if step.round == number]

    plan, alone = planned(tmp_path, FLAKY), planned(tmp_path, FLAKY, rounds=1)

    assert windows(plan, 1) == windows(alone, 1)
    assert len({tuple(windows(plan, number)) for number in (1, 2, 3)}) == 3


def test_at_the_way_in_each_round_is_cut_from_the_first_begin_to_the_last_heal(tmp_path: Path) -> None:
    twin = twin_of(planned(tmp_path, rounds=2), "entry cut")

    states = [(step.round, step.verb, step.changes[0].state == CLEAN) for step in twin.steps]
    assert states == [(1, "begin", False), (1, "heal", True), (2, "begin", False), (2, "heal", True)]


def test_the_plan_tells_a_person_the_round_of_each_phase(tmp_path: Path) -> None:
    assert "recovery      45 s … 65 s  round 1\n" in plan_text(planned(tmp_path, rounds=2))
    assert "round" not in plan_text(planned(tmp_path, rounds=1))


@pytest.mark.parametrize(("rounds", "found"), [(0, "at least 1, found 0"), (51, "at most 50, found 51"), ("twice", "a whole")])
def test_rounds_are_a_whole_number_of_at_most_fifty(tmp_path: Path, rounds: object, found: str) -> None:
    with pytest.raises(InvalidFile, match=rf"scenario.yaml:10:9: expected {found}"):
        resolve(write_system(tmp_path, scenario=f"{SCENARIO}rounds: {rounds}\n"), environ={})


def test_a_warm_up_until_steady_is_planned_as_long_as_it_may_last(tmp_path: Path) -> None:
    plan = planned(tmp_path, SCENARIO + "phases: {warmup: {until: steady}, baseline: 10s}\n", 1)

    assert [(phase.name, phase.at) for phase in plan.phases][:2] == [("warmup", 0.0), ("baseline", 120.0)]
    assert plan.experiment.warmup_until == "steady"
    assert "warmup ends as soon as every journey is steady\n" in plan_text(plan)


def test_a_plan_with_every_window_said_can_be_read_again(tmp_path: Path) -> None:
    plan = planned(tmp_path, SCENARIO + "phases: {warmup: {until: steady, at_most: 1m}}\nextend: 30s\n", 2)

    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_the_load_is_told_to_last_as_long_as_all_windows_may_be_lengthened(tmp_path: Path) -> None:
    plan = planned(tmp_path, SCENARIO + "extend: 30s\n", 2)

    assert plan.load.seconds == plan.seconds + 2 * 3 * 30.0
    assert "a window that is void or undecided is lengthened once, by 30 s\n" in plan_text(plan)


STAGES = "load: {rate: [{to: 20/s, over: 10s}]}\n"
COURSE = "expected a load that stays the same, found stages or a shape: its course cannot be moved"


@pytest.mark.parametrize(
    ("written", "line", "expected"),
    [
        ("phases: {warmup: {until: warm}}\n", 10, "'steady'"),
        (
            "phases: {warmup: {until: steady, at_most: 5s}}\n",
            10,
            "expected at least 10s, in which three stretches can be compared, found 5s",
        ),
        ("phases: {warmup: {until: steady, atmost: 1m}}\n", 10, "found 'atmost'"),
        ("phases: {warmup: 5}\n", 10, "expected a duration with its unit"),
        ("extend: 30\n", 10, "expected a duration with its unit"),
        (f"{STAGES}extend: 30s\n", 11, COURSE),
        (f"{STAGES}phases: {{warmup: {{until: steady}}}}\n", 11, COURSE),
    ],
)
def test_what_cannot_be_is_told_by_line(tmp_path: Path, written: str, line: int, expected: str) -> None:
    with pytest.raises(InvalidFile) as raised:
        resolve(write_system(tmp_path, scenario=SCENARIO + written), environ={})

    assert f"scenario.yaml:{line}:" in str(raised.value)
    assert expected in str(raised.value)


def test_a_load_with_a_course_is_never_lengthened_where_nobody_asked_for_it(tmp_path: Path) -> None:
    resolved = resolve(write_system(tmp_path, scenario=SCENARIO + STAGES), environ={})

    assert resolved.experiment.extend == 0.0


def test_where_a_warm_up_until_steady_was_said_is_told(tmp_path: Path) -> None:
    resolved = resolve(write_system(tmp_path, scenario=SCENARIO + "phases: {warmup: {until: steady}}\n"), environ={})

    origins = origins_of(resolved.experiment, *resolved.documents)

    assert origins["warmup_until"] == ("steady", f"{tmp_path / 'scenario.yaml'}:10:26")


def test_a_look_of_every_round_is_told_once(tmp_path: Path) -> None:
    told = plan_text(planned(tmp_path, rounds=2))

    assert told.count("probe     order -> shipping (http): before, during and after outage-1 in each round\n") == 1
