"""What a run on containers has to say beside its verdict, in every way it is told: on what, what was not excluded, not seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.history.events import EdgeSeen, EngineRestarted, NameUnknown, RunBegan
from harness.history.history import History
from harness.judge.judge import judge
from harness.judge.verdict import Verdict, verdict_to_json
from harness.model.experiment import Experiment
from harness.report.edges import NOT_SEEN, edge_table
from harness.report.html import html_report
from harness.report.junit import junit_xml
from harness.report.live import LiveView
from harness.report.markdown import markdown_summary
from harness.report.summary import Summary, began_in_words
from harness.report.text import text_report
from harness.report.topology import ACROSS, draw_topology, felt_by
from tests.end_to_end.chaos import chaos
from tests.golden.made_up import made_up
from tests.histories.building import BEGAN, Story, broken, expectation, fault, tell, write_run
from tests.histories.shop import SYSTEM

WHY = "a Docker engine answers at unix:///var/run/docker.sock"
ON_DOCKER = RunBegan(
    BEGAN - 3,
    "r1",
    "shipping_down",
    "docker",
    "toxiproxy",
    WHY,
    1,
    {"docker": "20.10.24", "docker compose": "2.32.4", "toxiproxy": "2.12.0"},
    warnings=("order -> statsd has no proxy: statsd shows port 8125 for UDP alone",),
)

Telling = Callable[[History, Verdict], str]


def terminal(history: History, verdict: Verdict) -> str:
    return " ".join(line.plain.strip() for line in text_report(history, verdict, "report.html", "again", width=80))


def by_junit(history: History, verdict: Verdict) -> str:
    return "\n".join(ElementTree.fromstring(junit_xml(history, verdict).partition("?>")[2]).itertext())


def by_markdown(history: History, verdict: Verdict) -> str:
    """The words of the summary, without the entities that keep them from meaning anything."""
    text = markdown_summary(history, verdict, "again")
    return text.replace("&#62;", ">").replace("&#45;", "-").replace("&#58;", ":").replace("&#91;", "[").replace("&#93;", "]")


TELLINGS: dict[str, Telling] = {
    "terminal": terminal,
    "html": lambda history, verdict: html_report(history, verdict, "again").replace("&gt;", ">"),
    "junit": by_junit,
    "markdown": by_markdown,
    "json": lambda _, verdict: verdict_to_json(verdict),
}


def on_docker(story: Story, **system: Any) -> History:
    """The same run as it would have been on containers, with changes of the system as it was planned."""
    history = tell(story)
    plan = json.loads(json.dumps(history.plan))
    plan["experiment"]["system"].update(system)
    events = [ON_DOCKER if isinstance(event, RunBegan) else event for event in history.events]
    return History(plan, events, history.requests, history.notes)


# on what


@pytest.mark.parametrize(
    ("began", "told"),
    [
        (ON_DOCKER, f"docker 20.10.24 containers, Toxiproxy 2.12.0 engine, seed 1 ({WHY})"),
        (replace(ON_DOCKER, engine="toxiproxy 2.12.1"), f"docker 20.10.24 containers, Toxiproxy 2.12.1 engine, seed 1 ({WHY})"),
        (
            replace(ON_DOCKER, engine="embedded 0.1.0", versions={}),
            f"docker containers, embedded 0.1.0 engine, seed 1 ({WHY})",
        ),
        (
            replace(ON_DOCKER, runtime="local", engine="embedded 0.1.0", reason="no Docker engine answers"),
            "local processes, embedded 0.1.0 engine, seed 1 (no Docker engine answers)",
        ),
    ],
)
def test_the_first_line_of_a_run_says_on_what_and_why(began: RunBegan, told: str) -> None:
    assert began_in_words(began) == told


def test_who_watches_is_told_first_of_all_on_what_a_run_is_carried_out_and_what_it_leaves_open() -> None:
    view = LiveView(tell(Story()).plan, lambda: BEGAN - 2)
    view.see_event(ON_DOCKER)

    assert view.renderable().plain.splitlines()[1].strip() == began_in_words(ON_DOCKER)
    assert [str(view.plain_line()).partition("s  ")[2] for _ in range(2)] == [
        began_in_words(ON_DOCKER),
        f"note: {ON_DOCKER.warnings[0]}",
    ]


def test_where_it_ran_stands_on_the_page() -> None:
    assert "docker 20.10.24 · Toxiproxy 2.12.0" in TELLINGS["html"](on_docker(Story()), judge(on_docker(Story())))


# what the verdict does not cover


@pytest.mark.parametrize("telling", TELLINGS)
def test_every_telling_says_that_a_way_around_was_not_excluded(telling: str) -> None:
    history = on_docker(Story(), interpose="faulted")
    verdict = judge(history)

    assert verdict.word == "passed"
    assert "a way around was not excluded" in TELLINGS[telling](history, verdict)


@pytest.mark.parametrize("telling", TELLINGS)
def test_every_telling_passes_on_what_the_runtime_warned_of(telling: str) -> None:
    history = on_docker(Story())

    told = TELLINGS[telling](history, judge(history))

    assert "order -> statsd has no proxy: statsd shows port 8125 for UDP alone" in told
    assert "a way around" not in told


def test_a_warning_that_was_given_twice_is_told_once() -> None:
    history = on_docker(Story())
    twice = History(history.plan, (*history.events, ON_DOCKER), history.requests, history.notes)

    assert judge(twice).warnings == ON_DOCKER.warnings


def test_who_asked_for_a_name_that_nobody_has_is_told_with_what_to_declare() -> None:
    outside = [f"host-{number}.example.org" for number in range(7)]
    asked = [("order", "catalog"), ("search", "stripe"), ("order", "shipping"), *(("payment", name) for name in outside)]
    story = Story(extra=tuple(NameUnknown(BEGAN + 1 + at, service, name) for at, (service, name) in enumerate(asked)))

    found = judge(tell(story)).warnings

    assert found == (
        "order asked for shipping, to which it has no edge, and got no answer: declare 'order -> shipping:PORT' under edges:",
        "order asked for catalog, no service of the system, and got no answer: egress: [order] is a way out",
        "search asked for stripe, no service of the system, and got no answer: egress: [search] is a way out",
        "payment asked for host-0.example.org, host-1.example.org, host-2.example.org, host-3.example.org, "
        "host-4.example.org and 2 more, no service of the system, and got no answer: egress: [payment] is a way out",
    )


def test_who_watches_is_told_of_what_happened_to_names_and_to_the_engine() -> None:
    view = LiveView(tell(Story()).plan, lambda: BEGAN - 2)
    view.see_event(NameUnknown(BEGAN - 2, "order", "catalog"))
    view.see_event(EngineRestarted(BEGAN - 1, "no answer within 5 s", 1.4))

    assert [str(view.plain_line()).partition("s  ")[2] for _ in range(2)] == [
        "order asked for catalog, a name that nobody has there",
        "the proxy engine was started again in 1.4 s: no answer within 5 s",
    ]


def test_without_anything_to_warn_of_nothing_is_said() -> None:
    history, verdict = made_up("passed")

    assert not verdict.warnings
    assert all("note:" not in telling(history, verdict).lower() for telling in TELLINGS.values())


# nothing injected

EXPECTED = (expectation("error_rate", max="1%"), expectation("blast_radius"))
NOTHING = Story(faults=(), damage=(), expect=EXPECTED)


@pytest.mark.parametrize("telling", TELLINGS)
@pytest.mark.parametrize(
    ("story", "word", "code"),
    [
        (NOTHING, "passed", 0),
        (NOTHING.with_damage(broken("browse", share=0.5)), "failed", 1),
        (replace(NOTHING, cut_off=30.0), "inconclusive", 3),
        (replace(NOTHING, expect=(expectation("recovery", within="10s"),)), "inconclusive", 3),
    ],
)
def test_a_run_without_faults_is_judged_by_its_expectations_and_says_that_nothing_was_injected(
    story: Story, word: str, code: int, telling: str
) -> None:
    history = tell(story)
    verdict = judge(history)

    assert (verdict.word, verdict.exit_code) == (word, code)
    assert "othing was injected" in TELLINGS[telling](history, verdict)


# what cannot be seen


def by_toxiproxy(history: History) -> History:
    def seen(sample: EdgeSeen) -> EdgeSeen:
        nothing: dict[str, Any] = dict.fromkeys(("refused", "cut", "open", "bytes_up", "bytes_down", "requests", "answers"))
        cannot = "Toxiproxy does not count what it refuses"
        return replace(sample, **nothing, traces=None, most_attempts=None, packets=int(sample.at - BEGAN) * 10, cannot=cannot)

    events = [seen(event) if isinstance(event, EdgeSeen) else event for event in history.events]
    return History(history.plan, events, history.requests, history.notes)


def test_what_the_engine_cannot_count_is_told_as_not_seen_and_never_as_nought() -> None:
    history = by_toxiproxy(on_docker(Story()))

    table = edge_table(Summary(history, judge(history)))

    row = next(row for row in table.rows if row.edge == "order -> shipping")
    assert table.counted == ("requests", "connections", "turned away", "packets")
    assert row.struck
    assert row.cells == ((NOT_SEEN, NOT_SEEN), ("0", "0"), (NOT_SEEN, NOT_SEEN), ("190", "190"))
    assert table.cannot == ("Toxiproxy does not count what it refuses",)


def test_the_page_shows_what_was_counted_and_what_was_not_seen() -> None:
    history = by_toxiproxy(on_docker(Story()))

    page = html_report(history, judge(history), "again")

    assert "<td>not seen</td>" in page
    assert "Not seen: Toxiproxy does not count what it refuses." in page


def test_the_embedded_engine_counts_requests_and_has_no_column_of_packets() -> None:
    history = tell(Story())

    table = edge_table(Summary(history, judge(history)))

    assert table.counted == ("requests", "connections", "turned away")
    assert [row.struck for row in table.rows[:3]] == [True, True, False]
    of_http, of_redis = (
        next(row for row in table.rows if row.edge == edge) for edge in ("order -> shipping", "shipping -> redis")
    )
    assert NOT_SEEN not in {cell for cells in of_http.cells for cell in cells}
    assert of_redis.cells[0] == (NOT_SEEN, NOT_SEEN)


def test_a_run_in_which_nobody_looked_at_a_proxy_has_no_such_table() -> None:
    history = tell(replace(Story(), cut_off=-0.5))

    assert edge_table(Summary(history, judge(history))).rows == ()


def test_who_felt_it_is_not_guessed_where_answers_were_not_seen() -> None:
    history = by_toxiproxy(on_docker(Story()))

    felt = felt_by(Summary(history, judge(history)))

    assert {name: how for name, (how, _) in felt.items()} == {"order": "fallback", "shipping": "struck"}


def test_an_edge_without_a_proxy_is_drawn_as_such_and_keeps_its_callee_from_being_struck_on_every_way() -> None:
    edges = [dict(edge) for edge in SYSTEM["edges"]]
    bare = [edge for edge in edges if edge["name"] == "gateway -> shipping"]
    carried = [edge for edge in edges if edge not in bare]
    story = Story(faults=(fault("outage", edge="order -> shipping"),))
    history = on_docker(story, edges=carried, unproxied=bare)
    Experiment.model_validate(history.plan["experiment"])
    summary = Summary(history, judge(history))

    curves = {curve.name: curve for curve in draw_topology(summary, ACROSS).curves}

    assert curves["gateway → shipping: no proxy"].bare
    assert not curves["order → shipping: outage: refused"].bare
    assert "shipping" not in felt_by(summary)
    assert edge_table(summary).rows[-1].cells == (("no proxy", "no proxy"),) * 3


def test_an_engine_that_was_restarted_stands_among_what_went_wrong_and_on_the_time_axis() -> None:
    history = tell(Story(extra=(EngineRestarted(BEGAN + 31.0, "no answer within 5 s", 1.4),)))
    summary = Summary(history, judge(history))

    assert summary.troubles == (("the proxy engine was started again in 1.4 s: no answer within 5 s", ()),)
    assert [mark.label for mark in summary.marks if mark.bad] == ["engine restarted"]


def test_a_stored_run_without_faults_is_judged_again_from_its_folder(tmp_path: Path) -> None:
    answer = chaos("judge", str(write_run(NOTHING, tmp_path / "run")))

    assert answer.code == 0, answer.err
    assert "Nothing was injected: 0.0 % of 1280 requests failed" in answer.out
    assert "PASSED" in answer.out
    for name in ("verdict.json", "junit.xml", "summary.md", "report.html"):
        assert "othing was injected" in (tmp_path / "run" / name).read_text(encoding="utf-8")
