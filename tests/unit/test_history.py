"""A history and what one asks of it: windows, intervals, requests, on disk and cut off at any byte."""

from __future__ import annotations

import json

import pytest

from harness.errors import UnreadableRun
from harness.history.events import (
    FaultBegan,
    FaultEnded,
    LoadBegan,
    PhaseBegan,
    PhaseEnded,
    RunBegan,
    event_from_data,
    event_to_data,
)
from harness.history.history import History, Window, read_history
from harness.history.requests import Request, request_from_data, request_line
from harness.history.store import EVENTS, PLAN, REQUESTS, SAMPLES
from tests.histories.building import BEGAN, Story, broken, tell, write_run


def fault(at: float, proxy: str, kind: type[FaultBegan] | type[FaultEnded] = FaultBegan) -> FaultBegan | FaultEnded:
    return kind(at, at - 0.1, "outage-1", "outage", proxy, {"enabled": False}, {"enabled": False})


def request(due: float, end: float = 0.0, journey: str = "GET /") -> Request:
    return Request(journey, due, due, end or due + 0.01, "ok", marks=("a", "b"), trace="7")


def test_a_phase_lasts_from_its_begin_to_its_end():
    history = History({}, [PhaseEnded(30.0, "fault"), PhaseBegan(10.0, "fault")], ())

    assert history.phases == {"fault": Window(10.0, 30.0)}


def test_a_phase_that_never_ended_lasts_to_the_last_thing_recorded():
    history = History({}, [PhaseBegan(10.0, "fault")], [request(11.0, end=17.5)])

    assert history.phases == {"fault": Window(10.0, 17.5)}


def test_a_fault_lasts_from_its_last_proxy_set_to_the_first_one_asked_to_heal():
    events = [fault(10.0, "a"), fault(10.4, "b"), fault(30.0, "a", FaultEnded), fault(30.7, "b", FaultEnded)]

    assert History({}, events, ()).faults == {"outage-1": Window(10.4, 29.9)}


def test_a_fault_that_comes_and_goes_lasts_from_its_first_begin_to_its_last_heal_and_has_its_windows():
    events = [
        *(fault(at, proxy) for at, proxy in ((10.0, "a"), (10.4, "b"), (20.0, "a"), (20.4, "b"))),
        *(fault(at, proxy, FaultEnded) for at, proxy in ((15.0, "a"), (15.7, "b"), (25.0, "a"), (25.7, "b"))),
    ]

    found = History({}, events, ())

    assert found.windows == {"outage-1": (Window(10.4, 14.9), Window(20.4, 24.9))}
    assert found.faults == {"outage-1": Window(10.4, 24.9)}


def test_the_last_window_of_one_that_was_cut_off_lasts_to_the_last_thing_recorded():
    events = [fault(10.0, "a"), fault(15.0, "a", FaultEnded), fault(20.0, "a")]

    assert History({}, events, [request(30.0, end=33.0)]).windows["outage-1"] == (Window(10.0, 14.9), Window(20.0, 33.0))


def test_a_fault_that_was_never_healed_lasts_to_the_last_thing_recorded():
    assert History({}, [fault(10.0, "a")], [request(12.0, end=12.5)]).faults == {"outage-1": Window(10.0, 12.5)}


def test_guards_are_taken_off_both_sides_and_never_leave_less_than_nothing():
    assert Window(10.0, 30.0).narrowed(2.0) == Window(12.0, 28.0)
    assert Window(10.0, 13.0).narrowed(2.0).seconds == 0.0


def test_the_begin_of_a_window_belongs_to_it_and_the_end_does_not():
    history = History({}, (), [request(due) for due in (9.9, 10.0, 15.0, 20.0)])

    assert [found.due for found in history.due_in(Window(10.0, 20.0))] == [10.0, 15.0]


def test_events_and_requests_are_put_in_order_of_time():
    history = History({}, [PhaseEnded(3.0, "x"), PhaseBegan(1.0, "x")], [request(2.0), request(1.0)])

    assert [event.at for event in history.events] == [1.0, 3.0]
    assert [found.due for found in history.requests] == [1.0, 2.0]


def test_times_count_from_the_load_or_from_the_first_thing_recorded():
    begun = RunBegan(5.0, "run", "scenario", "local", "embedded", "", 7)

    assert History({}, [begun, LoadBegan(8.0, 80.0, 480)], ()).began == 8.0
    assert History({}, [begun], ()).began == 5.0
    assert History({}, (), ()).began == 0.0


def test_what_is_written_is_read_back(tmp_path):
    history = tell(Story())

    stored = read_history(write_run(Story(), tmp_path / "run"))

    assert stored.plan == history.plan
    assert stored.events == history.events
    assert list(stored.requests) == list(history.requests)
    assert stored.notes == history.notes


def test_every_event_is_itself_again_after_it_was_plain_data():
    for event in tell(Story()).events:
        assert event_from_data(json.loads(json.dumps(event_to_data(event)))) == event


def test_an_event_of_a_later_version_is_passed_over_and_its_new_fields_are_ignored():
    assert event_from_data({"event": "ServiceTeleported", "at": 1.0}) is None
    assert event_from_data({"event": "PhaseBegan", "at": 1.0, "phase": "fault", "colour": "red"}) == PhaseBegan(1.0, "fault")


def test_a_request_is_itself_again_after_it_was_plain_data():
    data = json.loads(request_line(request(1.0)))

    assert request_from_data({**data, "later": 1}) == request(1.0)


@pytest.mark.parametrize("name", [EVENTS, SAMPLES, REQUESTS])
@pytest.mark.parametrize("lost", [1, 10, 500])
def test_a_file_that_was_cut_off_within_a_line_is_read_up_to_that_line(name, lost, tmp_path):
    folder = write_run(Story(rate=20.0), tmp_path / "run")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-lost])

    history = read_history(folder)

    lines = sum((folder / other).read_bytes().count(b"\n") for other in (EVENTS, SAMPLES, REQUESTS))
    assert len(history.events) + len(history.requests) + len(history.notes) == lines


def test_a_line_that_is_no_json_object_is_passed_over(tmp_path):
    folder = write_run(Story(rate=20.0), tmp_path / "run")
    before = len(read_history(folder).events)
    with (folder / EVENTS).open("ab") as file:
        file.write(b'\x00\xff{"event"\n[1, 2]\n')

    assert len(read_history(folder).events) == before


@pytest.mark.parametrize("name", [EVENTS, SAMPLES, REQUESTS])
def test_a_run_that_was_killed_before_it_wrote_a_file_can_be_read(name, tmp_path):
    folder = write_run(Story(rate=20.0), tmp_path / "run")
    (folder / name).unlink()

    assert read_history(folder).plan["version"] == 1


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_without_a_plan_is_no_run(content, tmp_path):
    if content is not None:
        (tmp_path / PLAN).write_text(content, encoding="utf-8")

    with pytest.raises(UnreadableRun, match="expected"):
        read_history(tmp_path)


def test_a_made_up_history_with_more_damage_differs_only_in_what_is_damaged():
    clean, hurt = tell(Story()), tell(Story().with_damage(broken("browse", 30.0, 31.0)))

    changed = [new for old, new in zip(clean.requests, hurt.requests, strict=True) if old != new]
    assert {(request.journey, request.outcome) for request in changed} == {("GET /catalog", "http_5xx")}
    assert all(30.0 <= request.due - BEGAN < 31.0 for request in changed)
