"""What a run adds up to: the word, the exit code, the sentence, the table, and the same bytes every time."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from harness.errors import UnreadableRun
from harness.history.events import (
    GuardianActed,
    LoadBegan,
    RunFailed,
    RunHalted,
    RunInterrupted,
    ServiceExited,
    UndoDone,
    UndoFailed,
)
from harness.history.history import History, read_history
from harness.judge.judge import judge
from harness.judge.verdict import Outcome, Verdict, verdict_to_json
from harness.report.summary import Summary
from tests.histories.building import BEGAN, Damage, Story, broken, expectation, fault, tell, write_run

CLEAN_STORY = Story()
ENTRY_CUT = Story(faults=(fault("outage", service="gateway"),), damage=(broken("*", outcome="refused"),))
HARMED = CLEAN_STORY.with_damage(broken("browse", share=0.2))
SICK = CLEAN_STORY.with_damage(broken("*", 10.0, 25.0, share=0.1))
UNHEALTHY = "the baseline was not healthy, so nothing was injected: made up"


def halted_early(story: Story) -> Story:
    return replace(story, cut_off=25.0, extra=(RunHalted(BEGAN + 24.99, UNHEALTHY),))


WORDS = [
    (CLEAN_STORY, "passed", 0),
    (HARMED, "failed", 1),
    (ENTRY_CUT, "failed", 1),
    (replace(CLEAN_STORY, asked=((0.5, 0.0, 38),)), "inconclusive", 3),
    (replace(HARMED, asked=((0.5, 0.0, 38),)), "failed", 1),
    (replace(CLEAN_STORY, withheld=True), "inconclusive", 3),
    (replace(HARMED, withheld=True), "inconclusive", 3),
    (replace(HARMED, unused=("order -> shipping", "gateway -> shipping")), "inconclusive", 3),
    (HARMED.with_damage(broken("browse", share=0.5, outcome="dropped")), "inconclusive", 3),
    (SICK, "inconclusive", 3),
    (replace(HARMED, cut_off=31.0), "inconclusive", 3),
    (halted_early(SICK), "inconclusive", 3),
    (replace(CLEAN_STORY, extra=(RunHalted(BEGAN + 40.0, "errors over 60 % for 5s"),)), "halted", 4),
    (replace(HARMED, extra=(RunHalted(BEGAN + 40.0, "errors over 60 % for 5s"),)), "halted", 4),
    (replace(HARMED, extra=(RunFailed(BEGAN + 40.0, "the proxy engine is gone"),)), "error", 5),
    (replace(CLEAN_STORY, cut_off=30.0, extra=(RunInterrupted(BEGAN + 29.9, "SIGINT"),)), "interrupted", 130),
    (replace(CLEAN_STORY, cut_off=30.0, extra=(RunInterrupted(BEGAN + 29.9, "SIGTERM"),)), "interrupted", 143),
    (replace(CLEAN_STORY, cut_off=30.0, extra=(RunInterrupted(BEGAN + 29.9, "aborted by anna"),)), "interrupted", 143),
    (
        replace(CLEAN_STORY, extra=(RunInterrupted(BEGAN + 29.9, "SIGINT"), RunFailed(BEGAN + 30.0, "the load is gone"))),
        "interrupted",
        130,
    ),
    (replace(CLEAN_STORY, left_behind=("EndProcessGroup redis",)), "passed", 6),
    (replace(HARMED, left_behind=("EndProcessGroup redis",)), "failed", 6),
    (Story(faults=(), damage=(), expect=(expectation("blast_radius"),)), "passed", 0),
]


@pytest.mark.parametrize(("story", "word", "exit_code"), WORDS)
def test_a_run_adds_up_to_one_word_and_one_exit_code(story, word, exit_code):
    found = judge(tell(story))

    assert (found.word, found.exit_code) == (word, exit_code)


def test_a_clean_run_says_with_figures_what_was_shown():
    assert judge(tell(CLEAN_STORY)).sentence == (
        "99.2 % of 486 requests of place order were answered by shipping-deferred, the damage stayed with place order, "
        "track shipment, the data settled: every paid order is shipped or refunded, and all was well again 0.06 s after healing."
    )


SENTENCES = [
    (HARMED, "Blast radius stays with place order, track shipment: browse fails more often than in the baseline by surely"),
    (ENTRY_CUT, "(1 more expectation failed)"),
    (
        replace(CLEAN_STORY, withheld=True),
        "Nothing can be concluded: order -> shipping: outage-1 was withheld: nothing was set.",
    ),
    (
        replace(CLEAN_STORY, cut_off=31.0),
        "Nothing can be concluded: the history ends while the load was on: the run was cut off",
    ),
    (halted_early(SICK), "Nothing can be concluded: 8.0 % of 1280 requests failed"),
    (halted_early(CLEAN_STORY), f"Nothing can be concluded: {UNHEALTHY}."),
    (replace(CLEAN_STORY, asked=((0.5, 0.0, 38),)), "1 of 4 expectations could not be decided: every paid order is shipped"),
    (replace(CLEAN_STORY, extra=(RunHalted(BEGAN + 40.0, "errors over 60 %"),)), "The run was halted: errors over 60 %."),
    (replace(CLEAN_STORY, extra=(RunFailed(BEGAN, "no wheel\nof redis"),)), "The run could not go on: no wheel."),
    (replace(CLEAN_STORY, extra=(RunFailed(BEGAN, "KeyError: 'x'", True),)), "The harness itself failed: KeyError: 'x'."),
    (
        replace(CLEAN_STORY, extra=(RunInterrupted(BEGAN + 29.9, "SIGTERM"),)),
        "interrupted by SIGTERM, 30 s after the load began",
    ),
    (replace(CLEAN_STORY, extra=(RunInterrupted(BEGAN - 1.0, "SIGINT"),)), "interrupted by SIGINT, before the load began"),
    (
        replace(CLEAN_STORY, extra=(RunInterrupted(BEGAN + 29.9, "aborted by anna: page storm"),)),
        "The run was aborted by anna: page storm, 30 s after the load began; what is told is what had been seen by then.",
    ),
    (
        Story(faults=(), damage=(), expect=(expectation("error_rate", max="1%"),)),
        "Nothing was injected: 0.0 % of 1280 requests failed [0.0, 0.3].",
    ),
]


@pytest.mark.parametrize(("story", "told"), SENTENCES)
def test_the_sentence_says_why(story, told):
    assert told in judge(tell(story)).sentence


def test_a_run_interrupted_before_there_was_any_load_says_that_the_system_came_up():
    told = tell(replace(CLEAN_STORY, extra=(RunInterrupted(BEGAN + 8.0, "SIGINT"),)))
    without_load = [event for event in told.events if not isinstance(event, LoadBegan) and event.at <= BEGAN + 8.0]

    assert "interrupted by SIGINT, while the system came up;" in judge(History(told.plan, without_load, ())).sentence


def test_an_expectation_that_lacks_its_evidence_keeps_what_was_measured_and_decides_nothing():
    found = judge(tell(replace(HARMED, withheld=True))).expectations[0]

    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.why == "evidence is missing (set): order -> shipping: outage-1 was withheld: nothing was set"
    assert found.details[0].startswith("measured as failed: browse fails more often")
    assert found.measure is not None


def test_an_expectation_decides_where_only_evidence_is_missing_that_it_does_not_rest_on():
    not_healed = judge(tell(replace(HARMED, not_healed=("order -> shipping",))))

    assert [finding.outcome for finding in not_healed.expectations] == [
        Outcome.FAILED,
        Outcome.INCONCLUSIVE,
        Outcome.INCONCLUSIVE,
        Outcome.INCONCLUSIVE,
    ]
    assert not_healed.word == "failed"


def test_what_holds_in_the_baseline_does_not_rest_on_the_fault():
    story = replace(CLEAN_STORY, withheld=True, expect=(expectation("error_rate", max="1%", during="baseline"),))

    found = judge(tell(story))

    assert found.expectations[0].outcome is Outcome.PASSED
    assert found.word == "inconclusive"


def test_undone_later_by_the_guardian_is_not_left_behind():
    failed = UndoFailed(BEGAN + 85.0, "RestoreProxy x", "no answer")
    done = UndoDone(BEGAN + 86.0, "RestoreProxy x", "guardian")

    assert judge(tell(replace(CLEAN_STORY, extra=(failed,)))).left_behind == ("RestoreProxy x",)
    assert judge(tell(replace(CLEAN_STORY, extra=(failed, done)))).left_behind == ()
    assert judge(tell(replace(CLEAN_STORY, extra=(failed, done)))).exit_code == 0


def test_a_halted_run_is_not_blamed_on_the_machine_and_what_the_load_may_not_ask_is_told_as_what_to_mend():
    told = tell(halted_early(SICK))
    notes = (*told.notes, {"load": "kept back", "host": "example.com"})

    found = {proof.kind: proof for proof in judge(History(told.plan, told.events, told.requests, notes)).evidence}

    assert (found["load"].why, found["load"].advice) == (
        "the run was halted 25.0 s after the load began",
        "see why it was halted",
    )
    assert "allow_hosts: ['example.com']" in found["baseline"].advice
    assert "load.rate" not in found["baseline"].advice


def test_what_nobody_is_there_to_undo_is_left_behind_once_each_unless_it_was_done():
    failed = UndoFailed(BEGAN + 85.0, "RestoreProxy x", "no answer")
    done = UndoDone(BEGAN + 86.0, "remove chaos-1", "guardian at the Docker engine")
    told = tell(replace(CLEAN_STORY, extra=(failed, done)))

    found = judge(
        History(told.plan, told.events, told.requests, told.notes, left=("end y", "RestoreProxy x", "remove chaos-1"))
    )

    assert (found.left_behind, found.exit_code) == (("RestoreProxy x", "end y"), 6)


def test_a_failed_run_shows_the_last_lines_of_a_service_that_ended():
    crash = ServiceExited(BEGAN + 30.0, "inventory", "exited with 1", ("MemoryError",))

    found = judge(tell(replace(HARMED, extra=(crash,)))).expectations[0]

    assert "inventory ended by itself (exited with 1): MemoryError" in found.details


def test_the_table_shows_what_each_journey_felt():
    story = CLEAN_STORY.with_damage(Damage("browse", 25.0, 45.0, later=0.4))

    rows = {row.journey: row for row in judge(tell(story)).journeys}

    assert {journey: row.felt for journey, row in rows.items()} == {
        "browse": "slower",
        "place order": "fallback",
        "read order": "nothing",
        "track shipment": "failed",
    }
    assert list(rows["browse"].phases) == ["baseline", "fault", "recovery"]
    orders = rows["place order"].phases["fault"]
    assert (orders.requests, orders.errors, orders.fallbacks) == (393, 0, 391)
    assert rows["track shipment"].phases["fault"].errors == 136


def test_a_window_without_requests_has_no_latency():
    rows = {row.journey: row for row in judge(tell(replace(CLEAN_STORY, weights=(("browse", 1.0),)))).journeys}

    assert rows["place order"].phases["baseline"].p50 is None
    assert rows["place order"].felt == "nothing"


def test_moments_are_marked_on_the_time_axis():
    marks = dict(judge(tell(CLEAN_STORY)).marks)

    assert list(marks) == ["first fallback", "first failing request", "good again", "invariant held"]
    assert 25.0 < marks["first fallback"] < 25.2
    assert 45.0 < marks["good again"] < 45.2
    assert marks["invariant held"] == 66.5


@pytest.mark.parametrize("story", [CLEAN_STORY, HARMED, replace(CLEAN_STORY, cut_off=31.0)])
def test_a_stored_run_is_judged_to_the_same_bytes_as_the_one_in_memory(story, tmp_path):
    stored = write_run(story, tmp_path / "run")

    first, second = (verdict_to_json(judge(read_history(stored))) for _ in range(2))

    assert first == second == verdict_to_json(judge(tell(story)))


@pytest.mark.parametrize("seconds", [*range(-3, 84, 10), 83.2])
def test_a_run_that_was_cut_off_at_any_moment_can_be_judged_and_never_passes_for_whole(seconds):
    found = judge(tell(replace(CLEAN_STORY, cut_off=float(seconds))))

    assert isinstance(found, Verdict)
    is_whole = seconds > 83
    assert json.loads(verdict_to_json(found))["word"] == ("passed" if is_whole else "inconclusive")
    assert ("Nothing can be concluded" in found.sentence) is not is_whole


@pytest.mark.parametrize("story", [CLEAN_STORY, HARMED, replace(CLEAN_STORY, cut_off=31.0)])
def test_a_run_that_its_guardian_ended_is_an_error_with_the_reason(story):
    acted = GuardianActed(BEGAN + 30.9, 4, 0, "the harness gave no sign of life for 5 s, and was ended")

    found = judge(tell(replace(story, extra=(acted,))))

    assert (found.word, found.exit_code) == ("error", 5)
    assert "did not come to its end: the harness gave no sign of life for 5 s" in found.sentence
    assert "its guardian healed" in found.sentence


@pytest.mark.parametrize(
    ("acts", "told"),
    [
        ([("gc", 0)], "; chaos gc healed and took everything down."),
        ([("guardian", 2)], "; its guardian could not do 2 of 6 undos."),
        (
            [("guardian", 1), ("gc", 0)],
            "; its guardian could not do 1 of 5 undos, then chaos gc healed and took everything down.",
        ),
    ],
)
def test_it_is_told_who_undid_what_the_harness_could_not_and_not_that_all_was_done_where_some_failed(acts, told):
    extra = tuple(GuardianActed(BEGAN + 30.5 + at / 10, 4, failed, "gone", by) for at, (by, failed) in enumerate(acts))
    history = tell(replace(CLEAN_STORY, cut_off=31.0, extra=extra))

    verdict = judge(history)

    assert verdict.sentence.endswith(told)
    assert [title.split("; ")[1].split(" did")[0] for title, _ in Summary(history, verdict).troubles] == [
        act.who for act in extra
    ]


def test_a_plan_without_an_experiment_is_an_unreadable_run():
    with pytest.raises(UnreadableRun, match="holds no experiment that can be read"):
        judge(History({"experiment": {"name": "x"}}, (), ()))


def test_nothing_at_all_was_recorded_and_nothing_is_concluded():
    found = judge(History(tell(CLEAN_STORY).plan, (), ()))

    assert found.word == "inconclusive"
    assert {finding.outcome for finding in (*found.evidence, *found.expectations)} == {Outcome.INCONCLUSIVE}


@pytest.mark.parametrize("seed", range(8))
def test_unchanged_systems_are_not_accused(seed):
    assert judge(tell(replace(CLEAN_STORY, seed=seed))).word == "passed"


def test_a_hiccup_of_the_machine_is_never_taken_for_damage():
    hiccup = (Damage("*", 30.0, 30.6, later=0.3), Damage("*", 52.0, 52.6, later=0.3), Damage("*", 12.0, 12.4, later=0.3))

    assert judge(tell(CLEAN_STORY.with_damage(*hiccup))).word in ("passed", "inconclusive")


def test_judging_is_quick():
    history = tell(CLEAN_STORY)

    began = time.process_time()
    judge(history)

    assert time.process_time() - began < 0.7
