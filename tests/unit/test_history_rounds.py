"""Windows of several rounds: each phase is one window of many parts, each round a history of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.history.events import FaultBegan, LoadBegan, MachineSeen, PhaseBegan, PhaseEnded, PhaseMoved, RunBegan
from harness.history.history import History, Window
from harness.history.requests import Request

IN_ROUND = (("baseline", 0.0, 10.0), ("fault", 10.0, 20.0), ("recovery", 20.0, 30.0))


def rounds(number: int, *, cut: bool = False) -> list[PhaseBegan | PhaseEnded]:
    """The phases of so many rounds of half a minute, from 100 s on; `cut`: the last phase never ended."""
    found: list[PhaseBegan | PhaseEnded] = []
    for turn in range(number):
        for phase, begin, end in IN_ROUND:
            found.append(PhaseBegan(100.0 + 30 * turn + begin, phase, turn + 1))
            found.append(PhaseEnded(100.0 + 30 * turn + end, phase, turn + 1))
    return found[:-1] if cut else found


def request(due: float) -> Request:
    return Request("GET /", due, due, due + 0.01, "ok")


def test_a_phase_is_one_window_with_a_part_for_each_round():
    history = History({}, rounds(3), ())

    assert history.phases["fault"] == Window(110.0, 180.0, (Window(110.0, 120.0), Window(140.0, 150.0), Window(170.0, 180.0)))
    assert history.phases["fault"].seconds == 30.0
    assert not history.phases["fault"].holds(130.0)


def test_a_phase_that_came_once_has_no_parts():
    assert History({}, rounds(1), ()).phases["fault"] == Window(110.0, 120.0)


def test_guards_are_taken_off_each_part_and_parts_of_which_nothing_is_left_go():
    window = Window(0.0, 43.0, (Window(0.0, 10.0), Window(20.0, 30.0), Window(40.0, 43.0)))

    assert window.narrowed(2.0) == Window(2.0, 28.0, (Window(2.0, 8.0), Window(22.0, 28.0)))
    assert window.narrowed(2.0).seconds == 12.0
    assert window.narrowed(6.0).seconds == 0.0


def test_the_phase_that_a_run_was_cut_off_in_lasts_to_the_last_thing_recorded():
    history = History({}, rounds(2, cut=True), [request(157.0)])

    assert history.turns[-1].window == Window(150.0, 157.01)
    assert history.turns[2].window == Window(120.0, 130.0)


def test_what_came_before_the_first_round_and_after_the_last_is_theirs():
    began = RunBegan(90.0, "run", "scenario", "local", "embedded", "", 7)
    load, sample = LoadBegan(95.0, 80.0, 480), MachineSeen(170.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    history = History({}, [began, load, *rounds(2), sample], ())

    first, second = history.in_round(1), history.in_round(2)

    assert [began in turn.events for turn in (first, second)] == [True, False]
    assert [sample in turn.events for turn in (first, second)] == [False, True]
    assert [turn.began for turn in (first, second)] == [95.0, 95.0], "times count from the load in each"


def test_a_phase_belongs_to_its_round_also_where_it_ends_as_the_next_begins():
    history = History({}, rounds(2), ())

    assert history.in_round(1).phases["recovery"] == Window(120.0, 130.0)
    assert history.in_round(2).phases["baseline"] == Window(130.0, 140.0)


def test_of_the_plan_a_round_has_its_own_steps_and_looks():
    plan = {"steps": [{"at": 1}, {"at": 2, "round": 2}], "observations": [{"what": "bite", "round": 2}], "proxies": [{}]}
    history = History(plan, rounds(2), ())

    assert history.in_round(1).plan == {"steps": [{"at": 1}], "observations": [], "proxies": [{}]}
    assert history.in_round(2).plan == {
        "steps": [{"at": 2, "round": 2}],
        "observations": [{"what": "bite", "round": 2}],
        "proxies": [{}],
    }


@given(st.integers(1, 4), st.lists(st.floats(80.0, 250.0), max_size=30), st.lists(st.floats(80.0, 250.0), max_size=5))
def test_every_request_and_every_event_is_of_one_round(number: int, due: list[float], faults: list[float]):
    events = [FaultBegan(at, at, "f", "outage", "a", {}, {}) for at in faults]
    history = History({}, [*rounds(number), *events], map(request, due))

    turns = [history.in_round(turn) for turn in range(1, number + 1)]

    assert sorted(one.due for turn in turns for one in turn.requests) == sorted(due)
    assert sorted(event.at for turn in turns for event in turn.of(FaultBegan)) == sorted(faults)
    assert sum(turn.phases["fault"].seconds for turn in turns) == history.phases["fault"].seconds


def test_by_how_much_the_end_was_moved_adds_up():
    moved = [PhaseMoved(99.0, "warmup", -50.0, "steady"), PhaseMoved(109.0, "baseline", 30.0, "busy")]

    assert History({}, [*rounds(1), *moved], ()).moved == -20.0
    assert History({}, rounds(1), ()).moved == 0.0
