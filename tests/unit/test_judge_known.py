"""Known failures: counted apart within their time, red when it has passed or when they pass again, and told everywhere."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.errors import InvalidFile
from harness.history.events import RunBegan
from harness.history.history import History
from harness.judge.judge import judge
from harness.judge.known import day_of
from harness.judge.verdict import Outcome, Verdict, verdict_to_json
from harness.model.experiment import Experiment
from harness.model.resolving import resolve
from harness.plan.planning import plan_of
from harness.plan.text import plan_text
from harness.report.html import html_report
from harness.report.junit import Undecided, junit_xml
from harness.report.markdown import markdown_summary
from harness.report.text import text_report
from tests.histories.building import BEGAN, Story, broken, tell
from tests.systems import SCENARIO, write_system

RUN_DAY = datetime.fromtimestamp(BEGAN, UTC).date()
HARMED = Story().with_damage(broken("browse", share=0.2))
UNDECIDED = Story().with_damage(broken("browse", share=0.05))
UNDECIDED_ALONE = tell(UNDECIDED)


def known_in(story: Story, *entries: tuple[str, date]) -> History:
    history = tell(story)
    plan: dict[str, Any] = copy.deepcopy(dict(history.plan))
    plan["experiment"]["known"] = [
        {"expect": expect, "ticket": "SRE-412", "until": until.isoformat()} for expect, until in entries
    ]
    return History(plan, history.events, history.requests, history.notes)


def blast(verdict: Verdict) -> Any:
    return next(finding for finding in verdict.expectations if finding.id == "blast_radius-1")


@pytest.mark.parametrize("days", [0, 1, 400])
def test_a_known_failure_does_not_fail_the_run_until_its_day_is_over(days: int) -> None:
    found = judge(known_in(HARMED, ("blast_radius-1", RUN_DAY + timedelta(days))))

    assert (found.word, found.exit_code) == ("passed", 0)
    assert (blast(found).outcome, blast(found).known) == (Outcome.FAILED, "SRE-412")
    assert found.sentence.endswith("after healing; 1 known failure (SRE-412).")
    assert "browse" not in found.sentence


def test_once_its_day_has_passed_a_known_failure_fails_and_says_so() -> None:
    found = judge(known_in(HARMED, ("blast_radius-1", RUN_DAY - timedelta(1))))

    assert (found.word, found.exit_code) == ("failed", 1)
    assert blast(found).known == ""
    assert blast(found).details[0] == "known as SRE-412 until 2026-09-20, which has passed: take it out of known"


def test_what_passes_although_it_is_known_not_to_fails() -> None:
    found = judge(known_in(Story(), ("blast_radius-1", RUN_DAY)))

    assert found.word == "failed"
    assert blast(found).why == "passes again, although it is known not to (SRE-412)"
    assert "take blast_radius-1 out of known" in blast(found).advice


def test_what_passes_after_its_day_passes() -> None:
    found = judge(known_in(Story(), ("blast_radius-1", RUN_DAY - timedelta(1))))

    assert found.word == "passed"
    assert "which has passed" in blast(found).details[0]


@pytest.mark.parametrize("story", [UNDECIDED, Story(withheld=True)])
def test_what_decides_nothing_stays_undecided_known_or_not(story: Story) -> None:
    found = judge(known_in(story, ("blast_radius-1", RUN_DAY)))

    assert found.word == "inconclusive"
    assert (blast(found).outcome, blast(found).known) == (Outcome.INCONCLUSIVE, "")


@pytest.mark.parametrize(("days", "told"), [(0, ""), (-1, ", which has passed: take it out of known")])
def test_every_way_of_telling_a_run_names_the_ticket_of_what_stays_undecided(days: int, told: str) -> None:
    until = RUN_DAY + timedelta(days)
    history = known_in(UNDECIDED, ("blast_radius-1", until))
    verdict = judge(history)
    told = f"(known as SRE-412 until {until.isoformat()}{told})"

    terminal = " ".join(line.plain.strip() for line in text_report(history, verdict, "r", "c", width=200))
    suite = ElementTree.fromstring(junit_xml(history, verdict, Undecided.FAILURE).partition("?>")[2])[0]
    shown = markdown_summary(history, verdict, "c").replace("&#40;", "(").replace("&#41;", ")")

    assert blast(verdict).why == f"{blast(judge(UNDECIDED_ALONE)).why} {told}"
    assert told in terminal
    assert any(told in str(mark.text) for mark in suite.iter("failure"))
    assert f"<br>{blast(verdict).why}" in shown.replace("&#43;", "+")
    assert f'<div class="why">{blast(verdict).why}' in html_report(history, verdict, "c")


def test_a_known_failure_hides_no_other() -> None:
    story = HARMED.with_damage(broken("*", 45.0, 65.0, share=0.5))

    found = judge(known_in(story, ("blast_radius-1", RUN_DAY)))

    assert found.word == "failed"
    assert found.sentence.startswith("Recovery:")


def test_a_run_in_which_all_that_failed_was_known_says_so() -> None:
    story = Story(expect=(Story().expect[0],)).with_damage(broken("browse", share=0.2))

    assert judge(known_in(story, ("blast_radius-1", RUN_DAY))).sentence == (
        "Nothing failed that was not known; 1 known failure (SRE-412)."
    )


def test_the_day_is_that_of_the_run_in_utc() -> None:
    history = tell(Story())
    at = datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    began = RunBegan(at, "r", "s", "local", "embedded", "", 1)

    assert day_of(history) == RUN_DAY
    assert day_of(History(history.plan, (began,), ())) == date(2027, 1, 31)
    assert day_of(History(history.plan, (), ())) == date(1970, 1, 1)


def test_every_way_of_telling_a_run_tells_a_known_failure_apart() -> None:
    history = known_in(HARMED, ("blast_radius-1", RUN_DAY))
    verdict = judge(history)
    told = f"known as SRE-412 until {RUN_DAY.isoformat()}"

    terminal = [line.plain for line in text_report(history, verdict, "r", "c", width=100)]
    suite = ElementTree.fromstring(junit_xml(history, verdict, Undecided.FAILURE).partition("?>")[2])[0]
    skipped = [mark for mark in suite.iter("skipped")]
    data = json.loads(verdict_to_json(verdict))

    assert any(line.startswith("  ~ blast radius") for line in terminal)
    assert any(told in line for line in terminal)
    assert [suite.get(kind) for kind in ("failures", "skipped")] == ["0", "1"]
    assert skipped[0].get("message", "").startswith("known failure, SRE-412: worst: browse errors")
    assert told in str(skipped[0].text)
    assert "| ~ | blast radius stays with place order, track shipment | worst: browse errors" in markdown_summary(
        history, verdict, "c"
    )
    assert told in markdown_summary(history, verdict, "c")
    page = html_report(history, verdict, "c")
    assert 'class="sign known"' in page
    assert told in page
    assert next((row["outcome"], row["known"]) for row in data["expectations"]) == ("failed", "SRE-412")


def scenario_with(known: str) -> str:
    return SCENARIO + f"known:\n  - {known}\n"


def test_a_scenario_says_what_is_known_and_the_plan_keeps_it(tmp_path: Path) -> None:
    path = write_system(tmp_path, scenario=scenario_with("{expect: recovery-1, ticket: SRE-412, until: 2027-01-31}"))

    experiment = resolve(path, environ={}).experiment

    assert experiment.known[0].until == date(2027, 1, 31)
    assert Experiment.model_validate(experiment.model_dump(mode="json")).known == experiment.known


def test_the_plan_tells_what_is_known_not_to_hold(tmp_path: Path) -> None:
    scenarios = (scenario_with("{expect: recovery-1, ticket: SRE-412, until: 2027-01-31}"), SCENARIO)

    found = [resolve(write_system(tmp_path, scenario=scenario), environ={}) for scenario in scenarios]
    told, not_told = (plan_text(plan_of(one.experiment, one.queries)) for one in found)

    assert told == f"{not_told}\nknown not to hold\n  recovery-1: SRE-412, until 2027-01-31\n"


@pytest.mark.parametrize(("days", "told"), [(-1, True), (0, False), (1, False)])
def test_a_known_failure_whose_day_is_over_is_warned_of_by_its_line(days: int, told: bool, tmp_path: Path) -> None:
    until = datetime.now(UTC).date() + timedelta(days)
    path = write_system(tmp_path, scenario=scenario_with(f"{{expect: recovery-1, ticket: SRE-412, until: {until}}}"))

    warnings = [warning for warning in resolve(path, environ={}).warnings if "known" in warning]

    assert [warning.partition("scenario.yaml:")[2] for warning in warnings] == [
        f"11:50: recovery-1 was known as SRE-412 until {until}, which has passed: where it fails, so does the run; "
        "take it out of known"
    ][: int(told)]


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (
            "{expect: recovry-1, ticket: T, until: 2027-01-31}",
            "11:14: expected the id of an expectation, found 'recovry-1'; did you mean 'recovery-1'?",
        ),
        (
            "{expect: recovery-1, ticket: T, until: 2027-02-30}",
            "expected a day that there is, such as 2027-01-31, found '2027-02-30'",
        ),
        (
            "{expect: recovery-1, ticket: T, until: soon}",
            "11:44: expected a day that there is, such as 2027-01-31, found 'soon'",
        ),
        ("{expect: recovery-1, ticket: T, until: 2027-01-31 10:00:00}", "found '2027-01-31 10:00:00'"),
        ("{expect: recovery-1, ticket: T, until: 20270131}", "found 20270131"),
        ("{expect: recovery-1, ticket: T}", "11:5: expected the key 'until', found none"),
        ("{expect: recovery-1, ticket: '', until: 2027-01-31}", "11:34: expected some text, found ''"),
        (
            "{expect: recovery-1, ticket: T, until: 2027-01-31}\n  - {expect: recovery-1, ticket: U, until: 2027-01-31}",
            "12:14: expected each expectation once, found 'recovery-1' again (first in line 11)",
        ),
    ],
)
def test_what_is_wrong_with_a_known_failure_is_told_by_its_line(known: str, told: str, tmp_path: Path) -> None:
    path = write_system(tmp_path, scenario=scenario_with(known))

    with pytest.raises(InvalidFile) as raised:
        resolve(path, environ={})

    assert told in str(raised.value)
