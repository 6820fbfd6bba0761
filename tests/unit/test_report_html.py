"""The page for one run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import astuple, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from markupsafe import escape

from harness.history.events import FaultBegan, FaultEnded, FaultVaried, RunFailed, ServiceExited
from harness.history.history import History
from harness.judge.verdict import Measure, Word
from harness.model.faults import KINDS
from harness.model.kinds.edge import Aim
from harness.report.faults import fault_in_words
from harness.report.html import _harmless, html_report
from harness.report.measures import gauge
from harness.report.series import Dots
from harness.report.summary import Summary
from harness.report.timeline import WIDE, draw_picture
from harness.report.topology import ACROSS, draw_topology, felt_by, struck_by_faults
from tests.golden.made_up import BEGAN, BROKEN, COMMAND, made_up, with_titles
from tests.histories.building import Story, fault

NO_DOTS = Dots(np.zeros(0), np.zeros(0), np.zeros(0, np.uint8))

WORDS: tuple[Word, ...] = get_args(Word)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31mred\x1b[0m | `x` " + "long" * 500


class Page(HTMLParser):
    """What stands on a page: its elements, its text, how its elements are nested."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.wrongly_closed: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrongly_closed.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.elements)

    def of_class(self, name: str) -> list[tuple[str, dict[str, str | None]]]:
        return [(tag, attrs) for tag, attrs in self.elements if name in (attrs.get("class") or "").split()]


@pytest.mark.parametrize("word", WORDS)
def test_every_verdict_has_a_page_with_its_word_its_sentence_and_how_to_run_it_again(word: Word) -> None:
    history, verdict = made_up(word)

    page = Page(html_report(history, verdict, COMMAND))

    assert word.capitalize() in page.text
    assert verdict.sentence in page.text
    assert COMMAND in page.text
    assert (page.open, page.wrongly_closed) == ([], [])


def test_the_page_needs_nothing_from_outside() -> None:
    html = html_report(*made_up("failed"), COMMAND)

    assert "://" not in html
    assert not re.search(r"\b(?:src|href)=", html)
    assert "default-src 'none'; style-src 'sha256-" in html
    assert "unsafe" not in html
    assert " style=" not in html


def test_eighteen_thousand_requests_fit_into_half_a_megabyte_even_if_all_of_them_failed() -> None:
    history, verdict = made_up("failed", Story(rate=277.0))
    failing = History(history.plan, history.events, [one._replace(outcome="reset", marks=()) for one in history.requests])

    assert len(history.requests) >= 18_000
    assert len(html_report(history, verdict, COMMAND).encode()) < 500_000
    assert len(html_report(failing, verdict, COMMAND).encode()) < 500_000


def test_a_page_is_drawn_at_once() -> None:
    history, verdict = made_up("passed")
    html_report(history, verdict, COMMAND)

    begin = time.process_time()
    html_report(history, verdict, COMMAND)

    assert len(history.requests) == 5_200
    assert time.process_time() - begin < 0.3


def test_a_hostile_name_stays_text_wherever_it_comes_from() -> None:
    history, verdict = made_up("failed")
    requests = [one._replace(journey=HOSTILE, error=HOSTILE, trace=HOSTILE, outcome="reset") for one in history.requests]
    events = [*history.events, ServiceExited(BEGAN + 30, HOSTILE, HOSTILE, (HOSTILE,)), RunFailed(BEGAN + 31, HOSTILE)]

    html = html_report(History(history.plan, events, requests), with_titles(verdict, HOSTILE), HOSTILE)
    page = Page(html)

    assert page.count("script") == 2
    assert page.count("img") == 0
    assert (page.open, page.wrongly_closed) == ([], [])
    assert "\x1b" not in html
    assert len(html) < 500_000


@pytest.mark.parametrize("text", ["a" * 10_000, "1" * 10_000, "long " * 2_000, "- " * 5_000, "a1" * 100_000])
def test_a_long_text_is_cut_though_it_has_the_letters_of_a_path(text: str) -> None:
    assert len(str(_harmless(text))) <= 2000


def test_a_picture_is_whole_however_long_its_paths_are() -> None:
    history, verdict = made_up("failed")

    page = html_report(history, verdict, COMMAND)

    assert max(map(len, re.findall(r'<path class="[^"]*" d="([^"]*)"', page))) > 2000


def test_hostile_names_of_journeys_in_the_thousands_still_make_a_small_page() -> None:
    history, verdict = made_up("failed")
    requests = [one._replace(journey=f"GET /orders/{number} {HOSTILE}") for number, one in enumerate(history.requests)]
    rows = tuple(replace(verdict.journeys[0], journey=f"{number} {HOSTILE}") for number in range(5_000))

    html = html_report(History(history.plan, history.events, requests), replace(verdict, journeys=rows), COMMAND)

    assert len(html) < 500_000
    assert "4980 journeys more" in html


def test_what_failed_stands_first_with_its_reason_and_the_requests_that_show_it() -> None:
    page = Page(html_report(*made_up("failed"), COMMAND))

    rows = [
        attrs["class"] for tag, attrs in page.elements if tag == "tr" and (attrs.get("id") or "").startswith("expectation-")
    ]
    assert rows == ["failed", "inconclusive", "passed", "passed", "passed"]
    assert BROKEN.advice in page.text
    assert BROKEN.details[0] in page.text


def test_a_run_killed_in_mid_fault_shows_the_fault_open_ended() -> None:
    history, verdict = made_up("interrupted", Story(cut_off=31.0))

    page = Page(html_report(history, verdict, COMMAND))

    assert len(page.of_class("open")) == 4  # two proxies, on the wide and on the narrow picture
    assert "not seen to end" in page.text
    assert "31" in page.text


def test_a_run_without_a_request_says_so_and_draws_no_dot() -> None:
    history, verdict = made_up("error", Story(cut_off=-1.0))

    page = Page(html_report(history, verdict, COMMAND))

    assert "No request was recorded." in page.text
    assert page.of_class("dots") == []


def test_a_history_with_a_plan_and_nothing_else_still_has_a_page() -> None:
    history, verdict = made_up("error")

    page = Page(html_report(History(history.plan, (), ()), verdict, COMMAND))

    assert "not started" in page.text
    assert verdict.sentence in page.text


def test_a_run_without_a_fault_says_that_none_was_set() -> None:
    history, verdict = made_up("passed", Story(faults=(), damage=()))

    page = Page(html_report(history, verdict, COMMAND))

    assert "No fault was set." in page.text
    assert page.of_class("cut") == []


def test_a_service_that_ended_by_itself_is_named_with_its_last_log_lines() -> None:
    exited = ServiceExited(BEGAN + 12.5, "order", "exit code 3", ("order: out of memory", "order: bye"))
    history, verdict = made_up("error", Story(extra=(exited,)))

    page = Page(html_report(history, verdict, COMMAND))

    assert "order ended by itself: exit code 3" in page.text
    assert "order: bye" in page.text


def test_what_was_left_behind_stands_on_top() -> None:
    history, verdict = made_up("passed")

    page = Page(html_report(history, replace(verdict, left_behind=("EndProcessGroup 4711",)), COMMAND))

    assert "EndProcessGroup 4711" in page.text
    assert "chaos gc" in page.text


def test_the_figures_behind_the_picture_can_be_read_by_the_script() -> None:
    html = html_report(*made_up("passed"), COMMAND)

    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert found is not None
    data = json.loads(found[1])

    assert [row[1] for row in data["rows"][::10]] == [
        "warm-up",
        "baseline",
        "baseline",
        "fault",
        "fault",
        "recovery",
        "recovery",
    ]
    assert sum(sum(row[4:7]) for row in data["rows"]) == 5_200


def test_the_script_is_small() -> None:
    script = html_report(*made_up("passed"), COMMAND).rsplit("<script>", 1)[1]

    assert len(script) < 3_000


def test_services_are_outlined_by_what_they_felt() -> None:
    felt = felt_by(Summary(*made_up("passed")))

    assert {service: what for service, (what, _) in felt.items()} == {"order": "fallback", "shipping": "struck"}


def test_a_circle_of_calls_and_a_service_that_nobody_calls_are_drawn_too() -> None:
    history, verdict = made_up("passed")
    system = history.plan["experiment"]["system"]
    more = [("payment", "order"), ("audit", "redis"), ("postgres", "postgres")]
    made = [{**system["edges"][0], "name": f"{a} -> {b}", "caller": a, "callee": b} for a, b in more]
    plan = {**history.plan}
    plan["experiment"] = {**history.plan["experiment"], "system": {**system, "edges": [*system["edges"], *made]}}

    drawing = draw_topology(Summary(History(plan, history.events, ()), verdict), ACROSS)

    assert {"audit", "order", "payment", "postgres"} < {node.name for node in drawing.nodes}
    places = [(node.x, node.y) for node in drawing.nodes]
    assert len(set(places)) == len(places)
    assert all(0 < node.x < drawing.width and 0 < node.y < drawing.height for node in drawing.nodes)


def test_faults_of_every_kind_are_said_in_words() -> None:
    faults = (
        fault("latency", id="slow", edge="order -> payment", latency="300ms", jitter="50ms"),
        fault("outage", id="hanging", edge="order -> inventory", mode="hang"),
        fault("partition", id="split", between=[["order"], ["redis"]]),
    )
    history, verdict = made_up("passed", Story(faults=faults))

    words = {strike.words for strike in Summary(history, verdict).strikes}

    assert words == {"+0.3 s ± 50 ms", "hangs", "parted"}


EDGE_KINDS: dict[str, dict[str, Any]] = {
    "outage": {},
    "latency": {"latency": "300ms"},
    "bandwidth": {"rate": "20KB/s"},
    "slow_close": {"delay": "1s"},
    "timeout": {"timeout": "1s"},
    "reset_peer": {},
    "slicer": {"average_size": "64B"},
    "limit_data": {"bytes": "2KB"},
    "flaky": {"share": "30%"},
    "flap": {"period": "4s"},
    "lost_reply": {},
    "http_error": {"status": 503, "share": "50%"},
    "http_delay": {"delay": "100ms"},
    "http_corrupt": {},
}


def test_every_kind_of_fault_on_edges_is_on_the_map() -> None:
    assert set(EDGE_KINDS) == {kind for kind, model in KINDS.items() if issubclass(model, Aim)}


@pytest.mark.parametrize("kind", EDGE_KINDS)
def test_the_map_names_the_fault_and_says_what_it_does(kind: str) -> None:
    item = fault(kind, id="own", edge="order -> payment", **EDGE_KINDS[kind])
    summary = Summary(*made_up("passed", Story(faults=(item,))))
    page = html_report(summary.history, summary.verdict, COMMAND)

    ((told,), left_out) = struck_by_faults(summary)

    assert (told.where, told.fault, told.words) == ("order → payment", "own", f"{kind}: {fault_in_words(item, kind)}")
    assert left_out == 0
    assert escape(f"order → payment: {told.words}") in page
    assert "cut off" not in Page(page).text


def test_two_faults_on_one_edge_are_both_named_there() -> None:
    faults = (
        fault("latency", id="slow", edge="order -> payment", latency="300ms"),
        fault("http_error", edge="order -> payment"),
    )

    drawing = draw_topology(Summary(*made_up("passed", Story(faults=faults))), ACROSS)

    assert [curve.name for curve in drawing.curves if curve.sign] == [
        "order → payment: latency: +0.3 s; http_error: answers 503"
    ]


def test_a_fault_that_grows_is_a_bar_that_rises_in_as_many_steps_as_planned() -> None:
    history, verdict = made_up("passed")
    began = next(event for event in history.events if isinstance(event, FaultBegan))
    steps = [{"verb": "begin", "fault": began.fault}, *[{"verb": "vary", "fault": began.fault}] * 3]
    varied = [FaultVaried(began.at + n, began.at + n, *astuple(began)[2:]) for n in (1, 2, 3)]
    grown = History({**history.plan, "steps": steps}, (*history.events, *varied), history.requests)

    first, *others = draw_picture(Summary(grown, verdict), NO_DOTS, (), WIDE).bars

    heights = [float(height) for height in re.findall(r"V([\d.]+)H", first.wedge)]
    assert [round(first.y + 15 - height, 1) for height in heights] == [3.8, 7.5, 11.2, 15]
    assert not first.inside
    assert others, "the other edges of the story are struck as a whole"


def test_a_fault_that_comes_again_is_a_bar_each_time() -> None:
    history, verdict = made_up("passed")
    began = next(event for event in history.events if isinstance(event, FaultBegan))
    ended = [FaultEnded(began.at + 4, began.at + 4, began.fault, began.kind, began.proxy, {}, {})]
    again = replace(began, at=began.at + 8, asked_at=began.at + 8)

    bars = draw_picture(Summary(History(history.plan, (*history.events, *ended, again), ()), verdict), NO_DOTS, (), WIDE).bars

    row = [bar for bar in bars if bar.y == bars[0].y]
    assert len(row) == 2
    assert row[0].x + row[0].width < row[1].x
    assert [bool(bar.label.text) for bar in row] == [False, True]


@pytest.mark.parametrize(
    ("measure", "inside"),
    [
        (Measure("share", 0.996, 0.985, 0.999, 0.9, "min"), True),
        (Measure("share", 1.0, 0.99, 1.0, 0.05, "max"), False),
        (Measure("seconds", 0.08, None, None, 10.0, "max"), True),
        (Measure("ratio", 125.0, 110.0, None, 2.0, "max"), False),
        (Measure("rows", 0.0, 0.0, 0.0, 0.0, "max"), True),
        (Measure("points", -0.01, -0.03, 0.01, 0.05, "max"), True),
    ],
)
def test_a_dot_lies_in_the_pale_zone_exactly_where_the_limit_is_kept(measure: Measure, inside: bool) -> None:
    drawn = gauge(measure)

    assert drawn.dot is not None
    assert (drawn.zone[0] <= drawn.dot <= drawn.zone[1]) is inside


def test_nothing_observed_draws_no_dot() -> None:
    drawn = gauge(Measure("share", None, None, None, 0.05, "max"))

    assert (drawn.dot, drawn.span) == (None, None)
    assert drawn.words.startswith("nothing observed")


CHROMIUM = shutil.which("chromium")


LOOK = Path(__file__).parents[2] / "scripts" / "look-at-report"


def looked_at(html: str, folder: Path) -> tuple[int, str]:
    """What the script says that looks at a page as light, dark, tablet, phone and paper."""
    (folder / "report.html").write_text(html, encoding="utf-8")
    command = [sys.executable, str(LOOK), str(folder / "report.html"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: nobody looked at the page")
@pytest.mark.parametrize("word", ["failed", "error"])
def test_a_browser_shows_the_page_without_complaint_and_nothing_sticks_out(word: Word, tmp_path: Path) -> None:
    history, verdict = made_up(word, Story(cut_off=-1.0) if word == "error" else Story())

    code, said = looked_at(html_report(history, verdict, COMMAND), tmp_path)

    assert "phone.png  page 390, window 390" in said
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: nobody looked at the page")
def test_hostile_names_stick_out_nowhere_and_run_nothing(tmp_path: Path) -> None:
    history, verdict = made_up("failed")

    code, said = looked_at(html_report(history, with_titles(verdict, HOSTILE), HOSTILE), tmp_path)

    assert code == 0, said


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: nobody looked at the page")
def test_a_page_that_sticks_out_and_complains_is_noticed(tmp_path: Path) -> None:
    html = html_report(*made_up("passed"), COMMAND)
    broken = html.replace("<main>", '<main><svg width="3000" height="9"></svg><img src="https://example.invalid/x">')

    code, said = looked_at(broken, tmp_path)

    assert code == 1
    assert re.search(r"page 3\d\d\d, window 1280", said)
    assert "Content Security Policy" in said
