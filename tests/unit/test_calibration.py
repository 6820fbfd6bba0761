"""Calibration: the noise floor, margins that hold, what is too much, and a system's file that keeps its comments."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from harness import calibration
from harness.calibration import Course, expect_place_for_margins, found_in, system_path, write_margins
from harness.errors import HarnessError, InvalidFile, InvalidInput
from harness.experiment import Run
from harness.history.events import MachineSeen, RunHalted
from harness.history.history import History, Window
from harness.judge import statistics
from harness.judge.case import Case
from harness.judge.comparison import Comparison, blocks_in, slower
from harness.judge.floor import Floor, Needed, Step, cut, floors_of, margins_for, step_of
from harness.judge.judge import judge
from harness.judge.rows import against
from harness.judge.statistics import bootstrap_changes, every_change
from harness.judge.verdict import Outcome
from harness.model.expectations import Margins
from harness.model.load import Phases
from harness.model.margins import with_margins
from harness.model.parts import LatencyMargin
from harness.model.resolving import resolve
from harness.report.calibration import calibration_text
from tests.histories.building import BEGAN, Damage, Story, broken, expectation, tell
from tests.systems import SYSTEM, write_system

PHASES = Phases.model_validate({"warmup": "5s", "baseline": "120s", "fault": "5s", "recovery": "18s", "drain": "0s"})
STEADY = (expectation("error_rate", max="1%", during="baseline"),)
UNCHANGED = Story(phases=PHASES, faults=(), damage=(), expect=STEADY)
COURSE = Course(6, 20.0, 5.0, 80.0, (120.0, 180.0, 270.0))


@cache
def case(story: Story) -> Case:
    return Case(tell(story))


def windows_of(story: Story) -> tuple[Window, ...]:
    baseline = case(story).judged("baseline")
    assert baseline is not None
    return cut(baseline, 20.0)


def test_a_baseline_is_cut_into_windows_as_a_scenario_would_cut_them() -> None:
    found = [(round(window.begin - BEGAN, 6), round(window.end - BEGAN, 6)) for window in windows_of(UNCHANGED)]

    assert found == [(7.0 + 20 * turn, 23.0 + 20 * turn) for turn in range(6)]


@pytest.mark.parametrize("seed", [7, 8])
def test_with_the_margins_that_are_told_every_unchanged_window_passes_against_every_other(seed: int) -> None:
    story = replace(UNCHANGED, seed=seed)
    margins = margins_for(floors_of(case(story), windows_of(story)), Margins())

    pairs = [Comparison(case(story), "browse", pair) for pair in permutations(windows_of(story), 2)]

    assert {against(pair.errors[1], margins.error_rate, "max") for pair in pairs} == {Outcome.PASSED}
    assert {slower(pair.changes["p50"], margins.p50) for pair in pairs} == {Outcome.PASSED}
    assert {slower(pair.changes["p95"], margins.p95) for pair in pairs} == {Outcome.PASSED}
    assert margins.p95.absolute is not None
    assert margins.p95.absolute < 0.1


def test_a_noisier_system_needs_wider_margins() -> None:
    noisy = UNCHANGED.with_damage(
        *(Damage("browse", 10.0 + 20 * turn, 16.0 + 20 * turn, later=0.03 * turn) for turn in range(6))
    )

    quiet, loud = (margins_for(floors_of(case(story), windows_of(story)), Margins()) for story in (UNCHANGED, noisy))

    assert (loud.p95.relative or 0) > (quiet.p95.relative or 0)


def test_each_window_is_drawn_from_once_for_each_side_and_the_changes_are_those_of_every_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = case(UNCHANGED)
    parts = [
        blocks_in(window, (due := found.history.due_in(window)).due, found.waited(due)) for window in windows_of(UNCHANGED)
    ]
    singly = [bootstrap_changes(one, other, (0.5, 0.95)) for one, other in permutations(parts, 2)]
    draw, drawn = statistics._resampled, []

    def counted(*arguments: Any) -> Any:
        drawn.append(arguments)
        return draw(*arguments)

    monkeypatch.setattr(statistics, "_resampled", counted)

    assert list(every_change(parts, (0.5, 0.95))) == singly
    assert len(drawn) == 2 * len(parts)


def a_floor(p50: tuple[float, float], p95: tuple[float, float], errors: float = 0.012) -> Floor:
    return Floor("j", 300, 0.0, 0.01, 0.02, errors, {"p50": Needed(*p50), "p95": Needed(*p95)})


def test_what_is_quick_needs_an_absolute_margin_and_what_is_slow_a_relative_one() -> None:
    quick, slow = a_floor((4.0, 0.003), (6.0, 0.012)), a_floor((1.3, 0.4), (1.62, 2.0))

    assert margins_for([quick], Margins()) == Margins.model_construct(
        error_rate=0.015, p50=LatencyMargin(relative=0.5, absolute=0.005), p95=LatencyMargin(relative=1.0, absolute=0.015)
    )
    assert margins_for([slow], Margins()).p95 == LatencyMargin(relative=0.65, absolute=0.1)
    assert margins_for([quick, slow], Margins()).p50 == LatencyMargin(relative=0.3, absolute=0.005)


def test_a_system_that_moves_by_more_than_is_usual_gets_the_part_that_is_less_out_of_the_way() -> None:
    """Measured on a machine that others used most of: thirteen times in p95, or a quarter of a second."""
    floors = [a_floor((2.93, 0.006), (11.2, 0.11)), a_floor((3.3, 0.043), (5.33, 0.23)), a_floor((3.09, 0.007), (13.95, 0.12))]

    assert margins_for(floors, Margins()).p95 == LatencyMargin(relative=1.0, absolute=0.23)


def test_windows_without_floors_have_no_margins() -> None:
    with pytest.raises(ValueError, match="found none"):
        margins_for([], Margins())


STEP = Window(BEGAN + 131.0, BEGAN + 136.0)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ((), ""),
        ((broken("*", 130.0, 137.0, share=0.05, outcome="dropped"),), "of the arrivals were sent"),
        ((Damage("*", 130.0, 137.0, lag=0.3),), "requests were sent 0.3 s late"),
        ((broken("*", 130.0, 137.0, share=0.2),), "of the requests failed"),
        ((Damage("*", 130.0, 137.0, later=0.4),), "p95 went to 0.4"),
    ],
)
def test_a_rate_is_too_much_where_schedule_errors_or_latency_break(damage: tuple[Damage, ...], told: str) -> None:
    found = step_of(case(UNCHANGED.with_damage(*damage)), 80.0, STEP, 0.03)

    assert told in found.broke
    assert bool(found.broke) == bool(told)


def test_a_step_without_a_request_was_not_carried() -> None:
    assert step_of(Case(History(tell(UNCHANGED).plan, (), ())), 80.0, STEP).broke == "no request was sent"


def thinned(kept: float, arrivals: str, silent: int = 0) -> Case:
    """The story, of which so many of 100 requests came up and all were sent; so many arrivals in all made no request."""
    history = tell(UNCHANGED)
    plan = deepcopy(history.plan)
    plan["experiment"]["load"]["arrivals"] = arrivals
    requests = [request for place, request in enumerate(history.requests) if place % 100 < kept]
    return Case(History(plan, history.events, requests, [{"load": "finished", "scheduled": 10_000, "silent": silent}]))


@pytest.mark.parametrize(
    ("kept", "arrivals", "silent", "broke"),
    [
        (96, "poisson", 0, ""),
        (96, "uniform", 0, "96.0 % of the arrivals were sent"),
        (96, "uniform", 300, ""),
        (90, "uniform", 300, "90.0 % of the arrivals were sent"),
        (70, "poisson", 0, "70.0 % of the arrivals were sent"),
    ],
)
def test_a_rate_is_not_too_much_because_fewer_came_by_chance_or_made_no_request(
    kept: float, arrivals: str, silent: int, broke: str
) -> None:
    assert step_of(thinned(kept, arrivals, silent), 80.0, STEP, 0.03).broke == broke


def calibrated(story: Story) -> Any:
    history = tell(story)
    return found_in(Run(Path("reports/x"), judge(history), ""), history, COURSE)


def test_a_run_shows_floors_margins_and_the_first_step_that_was_too_much() -> None:
    """The story goes on at 80/s whatever the course says: so much less than 120/s is sent."""
    found = calibrated(UNCHANGED)

    assert [floor.journey for floor in found.floors] == ["browse", "place order", "read order", "track shipment"]
    assert found.margins is not None
    assert found.why == ""
    assert [(step.rate, step.broke != "") for step in found.steps] == [(80.0, False), (120.0, True)]
    assert "of the arrivals were sent" in found.steps[-1].broke


def test_where_its_own_rate_is_too_much_no_other_is_asked() -> None:
    found = calibrated(UNCHANGED.with_damage(broken("*", 5.0, 130.0)))

    (own,) = found.steps
    assert own.rate == 80.0
    assert "of the requests failed" in own.broke


@pytest.mark.parametrize(
    ("story", "why"),
    [
        (replace(UNCHANGED, cut_off=50.0), "too short"),
        (replace(UNCHANGED, cut_off=2.0), ""),
        (
            replace(UNCHANGED, extra=(RunHalted(BEGAN + 124.9, "the baseline was not healthy: made up"),)),
            "not healthy: made up",
        ),
    ],
)
def test_a_run_that_shows_nothing_has_no_margins_and_says_why(story: Story, why: str) -> None:
    found = calibrated(story)

    assert found.margins is None
    assert why in found.why
    assert "no margins: " in calibration_text(found.floors, found.margins, found.steps, found.why)


def test_on_a_machine_that_others_fill_no_margins_are_told() -> None:
    crowded = tuple(MachineSeen(BEGAN + at, 0.1, 0.1, 0.1, 0.1, 1.7, 8.0, cores=2) for at in range(5, 125))

    history = tell(UNCHANGED)
    events = [*(event for event in history.events if not isinstance(event, MachineSeen)), *crowded]
    history = History(history.plan, events, history.requests, history.notes)

    found = found_in(Run(Path("reports/x"), judge(history), ""), history, COURSE)

    assert found.others == pytest.approx(0.85)
    assert found.margins is None
    assert found.floors
    assert found.steps
    assert found.why == "the machine was too busy to tell: run it again when nothing else is going on"


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (Damage("*", 45.0, 50.0, lag=2.0), "requests in the baseline were sent late"),
        (broken("*", 5.0, 125.0, share=0.5, outcome="dropped"), "users ran out"),
        (broken("browse", 5.0, 125.0), "of the requests of browse failed: make it healthy first"),
        (Damage("*", 65.0, 105.0, later=3.0), "the baseline was not steady: in its second half browse"),
    ],
)
def test_a_baseline_that_shows_something_else_than_the_system_leaves_no_margins(damage: Damage, why: str) -> None:
    found = calibrated(UNCHANGED.with_damage(damage))

    assert found.margins is None
    assert why in found.why
    assert found.floors


def test_what_was_found_is_told_as_a_table_margins_and_steps() -> None:
    floor = a_floor((1.2, 0.003), (1.5, 0.012))
    margins = margins_for([floor], Margins())
    carried, broke = Step(80.0, 0.03, ""), Step(120.0, 0.4, "p95 went to 0.4 s")

    told = calibration_text([floor], margins, [carried, broke])

    assert "+1.2 points, ×1.20 or +3 ms, ×1.50 or +12 ms" in told
    assert "  worse_by: {error_rate: 1.5%, p50: 20% or 5ms, p95: 50% or 15ms}\n" in told
    assert "wider than" not in told
    assert "saturates between 80/s and 120/s: p95 went to 0.4 s" in told
    assert "not saturated at 80/s, the highest rate tried" in calibration_text([], None, [carried], "x")
    assert "other programs used 45.0 %" in calibration_text([floor], margins, [], others=0.45)
    assert "other programs" not in calibration_text([floor], margins, [], others=0.05)
    assert "saturated at 120/s already" in calibration_text([], None, [broke], "x")
    assert "saturated at 120/s already" in calibration_text([], None, [broke, carried], "x")


def test_a_journey_that_some_window_lacks_is_left_out_of_the_margins_and_named() -> None:
    history = tell(UNCHANGED)
    rare, other = (Case(history).experiment.system.journeys[name] for name in ("track shipment", "read order"))
    requests = [
        one._replace(journey=other) if one.journey == rare and one.due < BEGAN + 25.0 else one for one in history.requests
    ]
    history = History(history.plan, history.events, requests, history.notes)

    found = found_in(Run(Path("reports/x"), judge(history), ""), history, COURSE)

    assert [floor.journey for floor in found.floors] == ["browse", "place order", "read order"]
    assert found.margins is not None
    assert found.why == "the margins leave out track shipment, of which some windows hold no request"
    assert f"note: {found.why}" in calibration_text(found.floors, found.margins, found.steps, found.why)


def test_margins_wider_than_the_usual_ones_are_told_for_faults_hide_in_them() -> None:
    """One stall of three seconds in one window of ten, which no drift between the halves shows."""
    margins = margins_for([a_floor((1.2, 0.003), (70.0, 4.94), errors=0.06)], Margins())

    told = calibration_text([], margins, [])

    assert "note: wider than the usual margins (error_rate: 6%, p95: 100% or 4.94s): a fault that costs no more" in told


NEW = Margins.model_construct(
    error_rate=0.02, p50=LatencyMargin(relative=0.4, absolute=0.02), p95=LatencyMargin(relative=0.9, absolute=None)
)
PLACES = [
    ("", "\n\nworse_by: {error_rate: 2%, p50: 40% or 20ms, p95: 90%}\n"),
    ("worse_by: {}  # none\n", "worse_by: {error_rate: 2%, p50: 40% or 20ms, p95: 90%}  # none\n"),
    ("worse_by: {p95: 1s}  # why\n", "worse_by: {error_rate: 2%, p50: 40% or 20ms, p95: 90%}  # why\n"),
    (
        "worse_by:  # ours\n  # slow disks\n  p50: 1s or 5%   # p50\n\n  p95: '2s'\n",
        "worse_by:  # ours\n  # slow disks\n  error_rate: 2%\n  p50: 40% or 20ms   # p50\n\n  p95: 90%\n",
    ),
    ("worse_by:\n  p50:\n  p95: 1s\n", "worse_by:\n  error_rate: 2%\n  p50: 40% or 20ms\n  p95: 90%\n"),
    ("worse_by: {p50:, p95: 1s}\n", "worse_by: {error_rate: 2%, p50: 40% or 20ms, p95: 90%}\n"),
    ("worse_by: !!map\n  p50: 1s\n", "worse_by: !!map\n  error_rate: 2%\n  p95: 90%\n  p50: 40% or 20ms\n"),
    ("worse_by: &ours\n  p50: 1s\n", "worse_by: &ours\n  error_rate: 2%\n  p95: 90%\n  p50: 40% or 20ms\n"),
    ("worse_by: &ours {p50: 1s}\n", "worse_by: &ours {error_rate: 2%, p95: 90%, p50: 40% or 20ms}\n"),
]


@pytest.mark.parametrize(("there", "then"), PLACES)
def test_margins_are_put_where_they_belong_and_nothing_else_is_touched(there: str, then: str, tmp_path: Path) -> None:
    system = SYSTEM.replace("load:", f"{there}# the load\nload:") if there else SYSTEM
    scenario = write_system(tmp_path, system=system)

    write_margins(tmp_path, NEW)

    text = (tmp_path / "system.yaml").read_text(encoding="utf-8")
    assert then in text
    assert text.replace(then, there) in (system, system.rstrip())
    assert resolve(scenario, environ={}).experiment.margins == NEW


@given(
    some.lists(some.sampled_from(["# a comment", "", "#   worse_by: {p50: 1s}", "  # further in"]), max_size=6),
    some.permutations(["error_rate: 9%", "p50: 1s", "p95: 2s or 70%"]),
    some.integers(0, 3),
    some.booleans(),
)
def test_no_comment_is_ever_lost(comments: list[str], said: list[str], number: int, flow: bool) -> None:
    inside = said[:number]
    block = (
        "worse_by: {" + ", ".join(inside) + "}"
        if flow or not inside
        else "worse_by:\n" + "\n".join(line for one in inside for line in (*comments, f"  {one}  # {one}"))
    )
    text = SYSTEM.replace("load:", "\n".join([*comments, block, *comments, "load:"]))

    written = edited(text)

    assert [line for line in written.splitlines() if line.lstrip().startswith("#")] == [
        line for line in text.splitlines() if line.lstrip().startswith("#")
    ]
    data, before = yaml.safe_load(written), yaml.safe_load(text)
    assert data.pop("worse_by") == {"error_rate": "2%", "p50": "40% or 20ms", "p95": "90%"}
    before.pop("worse_by")
    assert data == before
    assert edited(written) == written


def edited(text: str) -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "system.yaml"
        path.write_text(text, encoding="utf-8")
        return with_margins(path, NEW)


@pytest.mark.parametrize("there", ["worse_by: *margins\n", "worse_by: 5%\n"])
def test_a_file_with_no_place_for_margins_stays_as_it_is(there: str, tmp_path: Path) -> None:
    anchor = "phases: {warmup: &margins 1s}\n" if "*" in there else ""
    write_system(tmp_path, system=SYSTEM.replace("load:", f"{anchor}{there}load:"))
    before = (tmp_path / "system.yaml").read_text(encoding="utf-8")

    with pytest.raises(InvalidFile):
        write_margins(tmp_path, NEW)

    assert (tmp_path / "system.yaml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    "text",
    [
        f"{SYSTEM.rstrip()}\n...\n",
        json.dumps(yaml.safe_load(SYSTEM)),
        f"{SYSTEM}worse_by: !!map {{}}\n",
    ],
)
def test_a_file_that_margins_would_break_is_refused_before_anything_is_run(text: str, tmp_path: Path) -> None:
    write_system(tmp_path, system=text)

    with pytest.raises(InvalidFile, match=r"expected worse_by written out as a mapping, .*: worse_by: \{\}"):
        expect_place_for_margins(tmp_path)

    assert (tmp_path / "system.yaml").read_text(encoding="utf-8") == text


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_system(tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(calibration.shutil, "copymode", refuse)

    with pytest.raises(InvalidInput, match="found: Permission denied"):
        write_margins(tmp_path, NEW)
    assert not (tmp_path / "system.yaml.part").exists()


def test_a_system_is_named_by_its_folder_or_its_file(tmp_path: Path) -> None:
    write_system(tmp_path)

    assert system_path(tmp_path) == system_path(tmp_path / "system.yaml") == tmp_path / "system.yaml"
    with pytest.raises(HarnessError, match=r"expected a folder with a system\.yaml in it"):
        system_path(tmp_path / "nowhere")


def test_the_scenario_of_a_calibration_is_one_that_can_be_resolved(tmp_path: Path) -> None:
    write_system(tmp_path)
    path = tmp_path / "calibrate.yaml"
    path.write_text(calibration._scenario(tmp_path / "system.yaml", COURSE), encoding="utf-8")

    experiment = resolve(path, environ={}).experiment

    assert experiment.load.course is not None
    began = experiment.load.course.arrivals_by(COURSE.quiet)
    assert began == pytest.approx(80.0 * COURSE.quiet)
    assert experiment.load.course.arrivals_by(COURSE.total) - began == pytest.approx(6 * (120 + 180 + 270))
    assert experiment.phases.warmup + experiment.phases.baseline + experiment.phases.fault == COURSE.quiet
