"""Stop conditions: what may be written, when one is met, and what becomes of a run that it halts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InvalidFile
from harness.experiment import Run
from harness.history.events import FaultBegan, FaultEnded, LoadEnded, PhaseBegan, PhaseEnded, RunHalted
from harness.history.history import History
from harness.history.requests import Request
from harness.history.table import requests_of
from harness.judge.conditions import Conditions, never_met
from harness.judge.judge import judge
from harness.judge.live import LiveJudge
from harness.judge.verdict import Outcome, verdict_to_json
from harness.model.experiment import Experiment
from harness.model.resolving import Resolved, resolve
from harness.model.stop_conditions import NOT_LIVE, StopItem
from harness.plan.planning import plan_of, plan_to_json
from harness.plan.text import plan_text
from harness.proof import Trial
from harness.report.html import html_report
from harness.report.junit import junit_xml
from harness.report.markdown import markdown_summary
from harness.report.text import text_report
from tests.histories.building import BEGAN, Story, broken, experiment, tell
from tests.systems import SCENARIO, write_system

MANY_ERRORS = "stop_when:\n  - error_rate: {max: 60%, sustained: 5s}\n"


def read(folder: Path, more: str) -> Resolved:
    return resolve(write_system(folder, scenario=SCENARIO + more), environ={})


def condition(kind: str, **words: object) -> StopItem:
    return StopItem.model_validate({"id": "limit", kind: words})


def of(*items: StopItem, **changed: object) -> Experiment:
    return experiment(Story()).model_copy(update={"stop_when": items, **changed})


# what may be written


def test_a_condition_has_an_id_and_five_seconds_where_nothing_is_said(tmp_path: Path) -> None:
    resolved = read(tmp_path, "stop_when:\n  - error_rate: {max: 60%}\n  - response_time: {p95: {max: 2s}, journey: each}\n")

    found = [(item.id, item.condition.sustained) for item in resolved.experiment.stop_when]
    assert found == [("stop-error_rate-1", 5.0), ("stop-response_time-1", 5.0)]


def test_a_plan_tells_its_stop_conditions_and_can_be_read_again(tmp_path: Path) -> None:
    resolved = read(tmp_path, MANY_ERRORS)
    plan = plan_of(resolved.experiment, resolved.queries)

    assert "halted when\n  stop-error_rate-1: error_rate {max: 60%, sustained: 5s}" in plan_text(plan)
    assert type(plan).model_validate_json(plan_to_json(plan)) == plan


@pytest.mark.parametrize("kind", NOT_LIVE)
def test_what_nobody_can_judge_while_it_runs_is_refused_by_its_line_with_the_reason(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InvalidFile) as refused:
        read(tmp_path, f"stop_when:\n  - error_rate: {{max: 60%}}\n  - {kind}: whatever\n")

    (problem,) = refused.value.problems
    assert (problem.line, problem.column) == (12, 5)
    assert problem.message.endswith(f"found {kind}: {NOT_LIVE[kind]}")


REFUSED = [
    ("error_rate: {max: 60%, journey: brows}", "expected a journey of the system, found 'brows'; did you mean 'browse'?"),
    ("error_rate: {max: 60%, during: drain}", "expected a phase with load, found 'drain'"),
    ("error_rate: {max: 60%, during: outage-2}", "expected a phase, or the id of a fault of this scenario, found 'outage-2'"),
    ("error_rate: {max: 60%, during: fault, sustained: 30s}", "found 30s where fault lasts 20s at most: it would never be met"),
    ("error_rate: {max: 60%, during: outage-1, sustained: 21s}", "found 21s where outage-1 lasts 20s at most"),
    ("error_rate: {max: 60%, sustained: 2m}", "lasts 60s at most: it would never be met"),
    ("error_rate: {max: 100%}", "expected less than 100%, found 100%: more than all never fail, so it would never be met"),
    ("error_rate: {max: 60%, sustained: 500ms}", "expected a stretch from 1s to 5m, found 500ms"),
    ("error_rate: {max: 60%, method: interval}", "expected a key that is known here, found 'method'"),
    ("response_time: {journey: browse}", "expected at least one of p50, p95 and p99"),
    ("response_time: {p95: {min: 2s}}", "expected the key 'max', found none"),
    ("{id: limit}", "expected exactly one of error_rate and response_time"),
    ("{id: recovery-1, error_rate: {max: 1%}}", "found 'recovery-1', which an expectation has"),
    ("{id: steady-error_rate-1, error_rate: {max: 1%}}", "found 'steady-error_rate-1', which an expectation has"),
]


@pytest.mark.parametrize(("written", "why"), REFUSED)
def test_what_would_never_halt_anything_is_refused_by_its_line(tmp_path: Path, written: str, why: str) -> None:
    with pytest.raises(InvalidFile) as refused:
        read(tmp_path, f"stop_when:\n  - {written}\n")

    assert any(problem.line == 11 and why in problem.message for problem in refused.value.problems), refused.value


def test_every_problem_of_the_conditions_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile) as refused:
        read(
            tmp_path,
            "stop_when:\n"
            "  - {id: a, error_rate: {max: 100%, journey: brows, during: outag-1, sustained: 2m}}\n"
            "  - {id: a, error_rate: {max: 1%}}\n",
        )

    told = "\n".join(problem.message for problem in refused.value.problems)
    for why in ("less than 100%", "found 'brows'", "found 'outag-1'", "lasts 60s at most", "found 'a' again"):
        assert why in told


def test_two_conditions_have_two_ids(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"expected each id once, found 'a' again \(first in line 11\)"):
        read(tmp_path, "stop_when:\n" + "  - {id: a, error_rate: {max: 1%}}\n" * 2)


def test_a_defect_may_be_caught_by_a_stop_condition(tmp_path: Path) -> None:
    defects = "defects: {slow: {environment: {order: {SLOW: '1'}}, caught_by: stop-error_rate-1}}\n"

    assert read(tmp_path, MANY_ERRORS + defects).experiment.defects["slow"].caught_by == "stop-error_rate-1"


def test_a_defect_that_only_a_known_failure_would_catch_is_warned_of(tmp_path: Path) -> None:
    known = "known: [{expect: recovery-1, ticket: SRE-1, until: 2999-01-31}]\n"
    defects = "defects: {slow: {environment: {order: {SLOW: '1'}}, caught_by: recovery-1}}\n"

    (warning,) = read(tmp_path, known + defects).warnings
    assert warning.startswith(f"{tmp_path}/scenario.yaml:11:")
    assert "slow cannot be proven: recovery-1 is known not to hold (line 10)" in warning


def test_a_condition_for_which_too_few_requests_come_is_told() -> None:
    items = (condition("error_rate", max="60%"), condition("response_time", p99={"max": "1s"}, sustained="20s"))

    assert list(never_met(items, 80.0)) == []
    assert list(never_met(items, None)) == []
    assert [index for index, _ in never_met(items, 4.0)] == [0, 1]
    assert dict(never_met(items, 4.0))[0] == (
        "limit is never met: some 20 requests end within 5 s at 4/s, and at least 30 are needed: raise sustained or load.rate"
    )


# when one is met


def answers(
    begin: float, end: float, *, ok: float = 1.0, rate: float = 20.0, took: float = 0.01, journey: str = "GET /catalog"
):
    """So many answers a second, of which a share is ok, evenly."""
    number = round((end - begin) * rate)
    for place in range(number):
        at = BEGAN + begin + place / rate
        fails = int((place + 1) * (1 - ok)) > int(place * (1 - ok))
        yield Request(journey, at - took, at - took, at, "http_5xx" if fails else "ok", 503 if fails else 200)


def watching(*items: StopItem, **changed: object) -> Conditions:
    watch = Conditions(of(*items, **changed))
    watch.see_event(PhaseBegan(BEGAN, "baseline", 1))
    return watch


def asked(watch: Conditions, *stretches) -> RunHalted | None:
    """What is met first, where a quarter of a second is shown at a time, as while a run goes on."""
    requests = sorted((request for stretch in stretches for request in stretch), key=lambda request: request.end)
    at = BEGAN
    while requests:
        at += 0.25
        shown = [request for request in requests if request.end < at]
        requests = requests[len(shown) :]
        watch.see_requests(requests_of(shown))
        if (met := watch.met(at)) is not None:
            return met
    return None


def test_a_system_that_fails_is_halted_and_its_clean_twin_is_not():
    limit = condition("error_rate", max="60%", sustained="5s")

    assert asked(watching(limit), answers(0, 30)) is None
    met = asked(watching(limit), answers(0, 10), answers(10, 30, ok=0.0))
    assert met is not None
    assert met.condition == "limit"
    assert 14.5 <= met.at - BEGAN <= 15.25, "as soon as more than 60 % has failed in each second of 5 s"
    assert met.reason.startswith("stop condition limit was met: 9")
    assert met.reason.endswith("% of the 100 requests that ended within 5 s failed, more than 60 %")


def test_what_lasts_for_a_shorter_time_halts_nothing():
    assert asked(watching(condition("error_rate", max="60%")), answers(0, 10), answers(10, 12, ok=0), answers(12, 30)) is None


@pytest.mark.parametrize("limit", ["0%", "10%", "50%"])
def test_a_stretch_that_reaches_back_into_health_halts_nothing(limit):
    met = asked(watching(condition("error_rate", max=limit, sustained="4s")), answers(0, 10), answers(10, 30, ok=0.0))

    assert met is not None
    assert met.at - BEGAN >= 13.0


def test_a_healthy_second_between_bad_ones_begins_it_anew():
    bad = [answers(begin, begin + 3, ok=0.0) for begin in range(0, 40, 4)]
    good = [answers(begin + 3, begin + 4) for begin in range(0, 40, 4)]

    assert asked(watching(condition("error_rate", max="60%", sustained="5s")), *bad, *good) is None


def test_latency_must_be_sustained_as_well():
    limit = condition("response_time", p95={"max": "2s"}, sustained="5s")

    met = asked(watching(limit), answers(0, 10), answers(10, 30, took=2.5))

    assert met is not None
    assert met.at - BEGAN >= 14.0


@pytest.mark.parametrize("number", [1, 29])
def test_few_requests_halt_nothing_however_many_of_them_fail(number):
    assert asked(watching(condition("error_rate", max="0%")), answers(0, 5, ok=0.0, rate=number / 5)) is None


def test_that_nothing_is_answered_any_more_halts_nothing():
    watch = watching(condition("error_rate", max="0%"))

    assert asked(watch, answers(0, 10)) is None
    assert watch.met(BEGAN + 60.0) is None


def test_before_the_baseline_and_after_the_load_nothing_is_asked():
    watch = Conditions(of(condition("error_rate", max="10%")))
    watch.see_event(PhaseBegan(BEGAN, "warmup", 1))
    assert asked(watch, answers(0, 10, ok=0.0)) is None

    watch = watching(condition("error_rate", max="10%"))
    watch.see_event(LoadEnded(BEGAN, True))
    assert asked(watch, answers(0, 10, ok=0.0)) is None


def test_the_warm_up_is_asked_of_where_a_condition_names_it():
    watch = Conditions(of(condition("error_rate", max="10%", during="warmup")))
    watch.see_event(PhaseBegan(BEGAN, "warmup", 1))

    assert asked(watch, answers(0, 10, ok=0.0)) is not None


def test_what_was_due_before_the_baseline_does_not_count():
    watch = watching(condition("error_rate", max="10%", sustained="1s"))

    assert asked(watch, answers(0, 4, ok=0.0, took=5.0)) is None


@pytest.mark.parametrize(("journey", "halts"), [(None, False), ("browse", False), ("place order", True), ("each", True)])
def test_one_journey_is_told_from_the_others(journey, halts):
    said = {"journey": journey} if journey else {}
    watch = watching(condition("error_rate", max="50%", **said))

    met = asked(watch, answers(0, 20, rate=80.0), answers(0, 20, ok=0.0, rate=20.0, journey="POST /orders"))

    assert (met is not None) == halts
    assert met is None or "requests of place order that ended" in met.reason


@pytest.mark.parametrize(("took", "halts"), [(1.9, False), (2.1, True)])
def test_a_quantile_of_the_latency_is_a_condition_too(took, halts):
    met = asked(watching(condition("response_time", p95={"max": "2s"})), answers(3, 20, took=took))

    assert (met is not None) == halts
    assert met is None or met.reason.endswith("was 2.1 s, more than 2 s")


def test_a_p99_needs_a_hundred_requests():
    limit = condition("response_time", p99={"max": "1s"})

    assert asked(watching(limit), answers(3, 20, took=2.0, rate=19.0)) is None
    assert asked(watching(limit), answers(3, 20, took=2.0, rate=21.0)) is not None


def test_what_was_never_answered_took_at_least_as_long_as_its_client_waits():
    watch = watching(condition("response_time", p50={"max": "2s"}))
    open_ones = [request._replace(outcome="unfinished") for request in answers(0, 20)]

    assert asked(watch, open_ones) is not None


def test_during_a_fault_means_while_it_is_on():
    limit = condition("error_rate", max="60%", during="outage-1", sustained="2s")
    before, meanwhile = watching(limit), watching(limit)
    meanwhile.see_event(FaultBegan(BEGAN + 8.0, BEGAN + 8.0, "outage-1", "outage", "order -> shipping", {}, {}))

    assert asked(before, answers(0, 20, ok=0.0)) is None
    met = asked(meanwhile, answers(0, 20, ok=0.0))
    assert met is not None
    assert met.at - BEGAN >= 10.0
    meanwhile.see_event(FaultEnded(BEGAN + 12.0, BEGAN + 12.0, "outage-1", "outage", "order -> shipping", {}, {}))
    assert asked(meanwhile, answers(12, 20, ok=0.0)) is None


def test_during_a_phase_means_in_each_round_from_its_begin_on():
    watch = watching(condition("error_rate", max="60%", during="recovery", sustained="2s"))
    watch.see_event(PhaseBegan(BEGAN + 10.0, "recovery", 1))
    watch.see_event(PhaseEnded(BEGAN + 12.0, "recovery", 1))
    assert asked(watch, answers(0, 15, ok=0.0)) is None

    watch.see_event(PhaseBegan(BEGAN + 20.0, "recovery", 2))
    met = asked(watch, answers(15, 30, ok=0.0))
    assert met is not None
    assert met.at - BEGAN >= 22.0


def test_no_more_is_kept_than_the_longest_condition_looks_back_to():
    watch = watching(condition("error_rate", max="60%", sustained="2s"), condition("error_rate", max="90%", sustained="4s"))

    asked(watch, answers(0, 100))

    assert watch.kept <= 20 * 4.5


@st.composite
def stretches(draw: st.DrawFn) -> list[Request]:
    """A few seconds of answers, now and then with failures, in no order."""
    pieces = draw(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0.0, 0.5, 0.9, 1.0])), min_size=1, max_size=6))
    found, at = list[Request](), 0.0
    for seconds, ok in pieces:
        found += answers(at, at + seconds, ok=ok, rate=draw(st.sampled_from([4.0, 16.0, 32.0])))
        at += seconds
    return found


@given(seen=stretches(), limit=st.integers(0, 100), sustained=st.integers(1, 5))
def test_it_is_met_as_soon_as_each_second_of_its_stretch_is_beyond_it_and_not_before(
    seen: list[Request], limit: int, sustained: int
) -> None:
    def beyond(at: float) -> bool:
        over = [request for request in seen if request.end < at]
        until = max((request.end for request in over), default=BEGAN)
        lately = [request for request in over if request.end > until - sustained and request.due >= BEGAN]
        seconds = list[list[bool]]()
        for number in range(sustained):
            seconds.append([not request.ok for request in lately if number <= until - request.end < number + 1])
        too_bad = all(sum(failed) / len(failed) > limit / 100 for failed in seconds if failed)
        return until - sustained >= BEGAN and len(lately) >= 30 and too_bad

    moments = [BEGAN + number / 4 for number in range(1, 100)]
    first = next((at for at in moments if beyond(at)), None)

    met = asked(watching(condition("error_rate", max=f"{limit}%", sustained=f"{sustained}s")), seen)

    assert (met.at if met is not None else None) == first


# what becomes of the run


def halted(story: Story, at: float, reason: str = "stop condition limit was met: 71 % failed") -> History:
    """The story until a moment at which a stop condition was met, and healed."""
    history = tell(story)
    until = BEGAN + at
    events = [event for event in history.events if event.at < until]
    ended = FaultEnded(until, until, "outage-1", "outage", "order -> shipping", {}, {"enabled": True, "toxics": []})
    told = RunHalted(until, reason, condition="limit")
    return History(
        history.plan,
        [*events, told, ended, PhaseEnded(until, "fault", 1), LoadEnded(until + 1.0, True)],
        [request for request in history.requests if request.end < until],
        history.notes,
    )


def test_a_run_that_a_condition_halted_is_halted_whatever_was_seen():
    verdict = judge(halted(Story(), 40.0))

    assert (verdict.word, verdict.exit_code, verdict.halted_by) == ("halted", 4, "limit")
    assert verdict.sentence == "The run was halted 40 s after the load began: stop condition limit was met: 71 % failed."
    assert '"halted_by": "limit"' in verdict_to_json(verdict)


def told_of(story: Story, *items: StopItem) -> tuple[str, ...]:
    history = tell(story)
    written = [item.model_dump(exclude_none=True) for item in items]
    plan = {**history.plan, "experiment": {**history.plan["experiment"], "stop_when": written}}
    return judge(History(plan, history.events, history.requests, history.notes)).stop_conditions


def test_of_each_condition_that_was_not_met_it_is_told_how_near_it_came():
    limit = condition("error_rate", max="90%", journey="browse")
    slow = condition("response_time", p95={"max": "30s"}).model_copy(update={"id": "slow"})
    rare = condition("response_time", p99={"max": "30s"}, sustained="1s").model_copy(update={"id": "rare"})

    bad, fast, never = told_of(Story().with_damage(broken("browse", 25.0, 45.0)), limit, slow, rare)

    assert bad.startswith("limit did not halt the run; at the nearest, throughout 5 s: 100.0 % failed, more than 90 % halts (")
    assert fast.startswith("slow did not halt the run; at the nearest, throughout 5 s: a p95 of ")
    assert "more than 30 s halts (" in fast
    assert never == "rare was never asked: it was not on for long enough, or too few requests ended"


def test_a_condition_that_halted_the_run_is_told_as_such():
    history = halted(Story(), 40.0)
    item = condition("error_rate", max="60%").model_dump(exclude_none=True)
    plan = {**history.plan, "experiment": {**history.plan["experiment"], "stop_when": [item]}}

    verdict = judge(History(plan, history.events, history.requests, history.notes))

    assert verdict.stop_conditions == ("limit was met, and halted the run",)


def test_a_condition_that_was_not_met_is_in_every_report_that_is_read():
    history, verdict = tell(Story()), replace(judge(tell(Story())), stop_conditions=("limit was never asked",))

    told = "top condition limit was never asked"
    assert told in html_report(history, verdict, "chaos run x")
    assert told in markdown_summary(history, verdict, "chaos run x")
    assert told in "\n".join(line.plain for line in text_report(history, verdict, "r.html", "chaos run x", width=400))
    assert "limit was never asked" in verdict_to_json(verdict)


def test_a_condition_that_was_met_before_any_fault_halts_as_well():
    assert judge(halted(replace(Story(), faults=()), 20.0)).word == "halted"


def test_nothing_has_passed_in_a_run_that_was_halted_and_what_was_seen_until_then_is_told():
    for story, measured in ((Story(), "passed"), (Story().with_damage(broken("browse", 25.0, 45.0)), "failed")):
        contained = judge(halted(story, 44.0)).expectations[0]

        assert contained.outcome is Outcome.INCONCLUSIVE
        assert contained.why == ("evidence is missing (load): stop condition limit halted the run 44.0 s after the load began")
        assert contained.details[0].startswith(f"measured as {measured}: ")


def test_what_is_known_not_to_hold_does_not_pass_again_because_the_run_was_halted():
    history = halted(Story(), 44.0)
    known = [{"expect": "recovery-1", "ticket": "SRE-1", "until": "2999-01-31"}]
    plan = {**history.plan, "experiment": {**history.plan["experiment"], "known": known}}

    (found,) = (
        finding
        for finding in judge(History(plan, history.events, history.requests, history.notes)).expectations
        if finding.id == "recovery-1"
    )
    assert found.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("must", "proven"),
    [
        ("halted by limit", True),
        ("halted", True),
        ("failed by blast_radius-1 or halted", True),
        ("halted by other", False),
        ("failed by blast_radius-1", False),
        ("passed", False),
        ("inconclusive", False),
    ],
)
def test_a_trial_that_was_halted_is_proven_only_where_it_had_to_be_halted(must: str, proven: bool) -> None:
    trial = Trial("made up", "defect", must, Run(Path(), judge(halted(Story(), 40.0)), ""))

    assert trial.seen == "halted by limit"
    assert trial.proven == proven


def test_every_report_tells_which_condition_halted_the_run():
    history = halted(Story(), 40.0)
    verdict = judge(history)

    told = "stop condition limit was met: 71 % failed"
    assert told in junit_xml(history, verdict)
    assert 'type="halted"' in junit_xml(history, verdict)
    assert told in markdown_summary(history, verdict, "chaos run x").replace("&#37;", "%")
    assert told in "\n".join(line.plain for line in text_report(history, verdict, "r.html", "chaos run x", width=400))


def test_the_live_judge_asks_only_where_there_is_a_condition():
    plan = tell(Story()).plan
    bad = {"id": "limit", "error_rate": {"max": "10%", "sustained": "2s"}}
    with_one = LiveJudge({**plan, "experiment": {**plan["experiment"], "stop_when": [bad]}})
    without = LiveJudge(plan)

    for live in (with_one, without):
        live.see_event(PhaseBegan(BEGAN, "baseline", 1))
        live.see_requests(list(answers(0, 5, ok=0.0)))

    assert without.stop_condition_met(BEGAN + 5.0) is None
    met = with_one.stop_condition_met(BEGAN + 5.0)
    assert met is not None
    assert met.condition == "limit"
