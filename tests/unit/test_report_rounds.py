"""Rounds in the report: named over the axis, counted in each, lengthened windows told; and while the run goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.history.events import LoadBegan, PhaseBegan, PhaseMoved
from harness.history.history import History
from harness.judge.judge import judge
from harness.report.edges import edge_table
from harness.report.html import html_report
from harness.report.live import LiveView
from harness.report.summary import Summary
from harness.report.timeline import phase_at
from tests.histories.building import BEGAN, Story, plan, tell
from tests.histories.rounds import tell_rounds

STORY = Story()


def summary_of(history: History) -> Summary:
    return Summary(history, judge(history))


def page(history: History) -> str:
    return html_report(history, judge(history), "chaos run x")


def test_rounds_are_named_over_the_axis_in_place_of_their_phases():
    shown = page(tell_rounds(STORY, STORY))

    assert ">round 1<" in shown
    assert ">2</text>" in shown
    assert ">baseline</text>" not in shown
    assert ">drain</text>" in shown


def test_one_round_is_not_named():
    shown = page(tell(STORY))

    assert ">baseline</text>" in shown
    assert ">round 1<" not in shown


def test_a_moment_lies_in_the_phase_of_its_own_round():
    summary = summary_of(tell_rounds(STORY, STORY))

    assert [phase_at(summary, at) for at in (2.0, 10.0, 30.0, 50.0, 70.0, 90.0, 110.0)] == [
        "warm-up",
        "baseline",
        "fault",
        "recovery",
        "baseline",
        "fault",
        "recovery",
    ]
    assert summary.rounds == ((5.0, 65.0), (65.0, 125.0))


def test_edges_are_counted_in_the_phases_of_every_round_and_not_between_them():
    def requests(history: History) -> list[int]:
        row = next(row for row in edge_table(summary_of(history)).rows if row.edge == "client -> gateway")
        return [int(cell.replace("\u202f", "").replace(" ", "").replace(",", "")) for cell in row.cells[0]]

    alone, twice = requests(tell(STORY)), requests(tell_rounds(STORY, STORY))

    assert twice == pytest.approx([2 * number for number in alone], rel=0.05)


def test_a_lengthened_window_is_told_with_its_reason_and_a_warm_up_that_was_steady_is_not():
    steady = PhaseMoved(BEGAN + 4.0, "warmup", -55.0, "every journey was steady")
    moved = PhaseMoved(BEGAN + 24.0, "baseline", 30.0, "the machine was busy")

    one = judge(tell(replace(STORY, extra=(steady, moved))))
    history = tell_rounds(STORY, STORY)
    other = judge(History(history.plan, [*history.events, replace(moved, round=2)], history.requests, history.notes))

    assert one.warnings == ("the baseline was lengthened by 30 s: the machine was busy",)
    assert other.warnings == ("the baseline of round 2 was lengthened by 30 s: the machine was busy",)


def watched(rounds: int, **said: object) -> LiveView:
    data = plan(STORY).model_dump(mode="json")
    data["experiment"] |= {"rounds": rounds, **said}
    in_rounds = [phase for phase in data["phases"] if phase["name"] in ("baseline", "fault", "recovery")]
    later = [{**phase, "round": 2, "at": phase["at"] + 60, "until": phase["until"] + 60} for phase in in_rounds]
    data["phases"] = [*data["phases"][:4], *(later if rounds > 1 else [])]
    view = LiveView(data, now=lambda: BEGAN + 90.0)
    view.see_event(LoadBegan(BEGAN, 80.0, 480))
    return view


def news(view: LiveView) -> list[str]:
    lines = []
    while (line := view.plain_line()) is not None:
        lines.append(line.split(" s  ", 1)[1])
    return lines


def test_while_it_goes_on_the_round_is_told_and_its_phases_alone_are_shown():
    view = watched(2)
    view.see_event(PhaseBegan(BEGAN + 65.0, "baseline", 2))
    view.see_event(PhaseBegan(BEGAN + 85.0, "fault", 2))

    shown = view.renderable().plain

    assert "round 2 of 2  warm-up  baseline  fault ━" in shown
    assert shown.count("recovery") == 1
    assert "15 s left" in shown
    assert "baseline begins, 20 s, round 2 of 2" in news(view)


def test_what_was_moved_is_told_and_the_countdown_follows():
    view = watched(1, warmup_until="steady")
    view.see_event(PhaseBegan(BEGAN, "warmup"))
    view.see_event(PhaseMoved(BEGAN + 3.0, "warmup", -2.0, "every journey was steady"))
    view.see_event(PhaseBegan(BEGAN + 63.0, "baseline"))
    view.see_event(PhaseMoved(BEGAN + 80.0, "baseline", 80.0, "the machine was busy"))

    assert "13 s left" in view.renderable().plain
    assert news(view)[:4] == [
        "warm-up begins, at most 5 s",
        "warm-up is over: every journey was steady",
        "baseline begins, 20 s",
        "baseline is lengthened by 80 s: the machine was busy",
    ]
