"""What is told without a browser: the terminal at the end, JUnit, Markdown, and the terminal while a run goes on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest
from rich.console import Console

from harness.history.events import PhaseBegan, RunFailed, ServiceExited, ServiceStarted
from harness.history.history import History
from harness.judge.verdict import Outcome, Verdict, Word
from harness.report import live
from harness.report.junit import JUDGEABLE, Undecided, junit_xml
from harness.report.live import LiveView
from harness.report.markdown import escaped, markdown_summary
from harness.report.plain import clean
from harness.report.text import text_report
from harness.report.wording import duration, percent
from tests.golden.made_up import BEGAN, COMMAND, REPORT, made_up, with_titles
from tests.histories.building import Story, broken, tell

WORDS: tuple[Word, ...] = get_args(Word)
GOLDEN = Path(__file__).parent.parent / "golden"
HOSTILE = (
    "</script><script>alert(1)</script> \x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J ]]> & | `x` **b** @someone [a](b) \u202e "
    + "x" * 2000
)
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def lines(history: History, verdict: Verdict, width: int = 100) -> list[str]:
    return [line.plain for line in text_report(history, verdict, REPORT, COMMAND, width=width)]


@pytest.mark.parametrize("width", [80, 140])
def test_the_terminal_at_the_end_of_a_run_reads_as_agreed(width: int) -> None:
    told = "\n".join(line.rstrip() for line in lines(*made_up("failed"), width)) + "\n"

    assert told == (GOLDEN / f"failed-{width}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("word", WORDS)
def test_the_last_lines_say_the_word_the_report_and_how_to_run_it_again(word: Word) -> None:
    told = "\n".join(lines(*made_up(word))[-3:])

    assert word.upper() in told
    assert REPORT in told
    assert COMMAND in told


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    told = lines(*made_up("failed"), width)

    assert max(map(len, told)) <= width


def test_each_line_that_did_not_pass_says_what_to_do_next() -> None:
    told = "\n".join(lines(*made_up("inconclusive")))

    assert "→ raise load.rate, or phases.fault to 30s" in told


def test_a_reason_that_many_share_is_told_once() -> None:
    history, verdict = made_up("inconclusive")
    unproved = [replace(one, outcome=Outcome.INCONCLUSIVE, why="not proved that fault was set") for one in verdict.expectations]

    told = lines(history, replace(verdict, expectations=tuple(replace(one, advice="set one") for one in unproved)))

    assert sum("not proved that fault was set" in line for line in told) == 1
    assert sum("for the same reason" in line for line in told) == 3


def test_what_failed_is_nearest_to_the_prompt() -> None:
    signs = [line[2] for line in lines(*made_up("failed")) if line[2:3] in ("✓", "?", "✗")]

    assert signs == ["✓", "✓", "✓", "?", "✗"]


def test_evidence_that_is_missing_has_a_line_of_its_own() -> None:
    history, verdict = made_up("inconclusive")
    unmet = replace(verdict.evidence[4], outcome=Outcome.INCONCLUSIVE, seen="0 requests", advice="is the edge in use?")

    told = lines(history, replace(verdict, evidence=(*verdict.evidence[:4], unmet)))

    assert any(line.startswith("  ? it met traffic") for line in told)
    assert any("→ is the edge in use?" in line for line in told)


def test_a_service_that_did_not_live_is_shown_with_its_last_words() -> None:
    history, verdict = made_up(
        "error", Story(extra=(ServiceExited(BEGAN - 1, "order", "exit code 1", ("Traceback", "KeyError: 'DB'")),))
    )

    told = lines(history, verdict)

    assert "  ! order ended by itself: exit code 1" in told
    assert "    KeyError: 'DB'" in told


def test_hostile_text_cannot_steer_the_terminal() -> None:
    history, verdict = made_up(
        "failed", Story(extra=(ServiceExited(BEGAN, HOSTILE, HOSTILE, (HOSTILE,)), RunFailed(BEGAN, HOSTILE)))
    )

    told = lines(history, with_titles(verdict, HOSTILE))

    assert not [line for line in told if STEERING.search(line)]
    assert any("red" in line for line in told)


def test_junit_counts_what_it_holds() -> None:
    root = ElementTree.fromstring(junit_xml(*made_up("failed")))

    suite = root.find("testsuite")
    assert root.tag == "testsuites"
    assert suite is not None
    assert suite.attrib["name"] == "shipping_down"
    counted = {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")}
    assert counted == {"tests": 6, "failures": 1, "errors": 0, "skipped": 1}
    assert counted == {key: int(root.attrib[key]) for key in counted}
    assert len(suite.findall("testcase")) == 6
    assert all({"classname", "name", "time"} <= set(case.attrib) for case in suite.findall("testcase"))
    assert {one.attrib["name"]: one.attrib["value"] for one in suite.iter("property")}["seed"] == "7"
    assert next(element.tag for element in suite) == "properties"
    failure = next(suite.iter("failure"))
    assert failure.attrib["message"].startswith("p95 131 ms of 486 requests")
    assert "at most 50 ms" in failure.attrib["message"]


def test_what_nobody_can_decide_fails_where_the_caller_is_strict() -> None:
    root = ElementTree.fromstring(junit_xml(*made_up("inconclusive"), Undecided.FAILURE))

    assert len(list(root.iter("failure"))) == 1
    assert list(root.iter("skipped")) == []


@pytest.mark.parametrize(
    ("word", "tag"), [("error", "error"), ("interrupted", "error"), ("halted", "failure"), ("passed", "testcase")]
)
def test_the_first_case_says_whether_the_run_could_be_judged(word: Word, tag: str) -> None:
    root = ElementTree.fromstring(junit_xml(*made_up(word)))

    first = next(root.iter("testcase"))
    assert first.attrib["name"] == JUDGEABLE
    assert tag in {first.tag, *(child.tag for child in first)}
    assert (len(first) == 0) is (word == "passed")


def test_junit_of_a_run_whose_evidence_is_missing_is_skipped_not_passed() -> None:
    history, verdict = made_up("inconclusive")

    root = ElementTree.fromstring(junit_xml(history, replace(verdict, evidence=(), expectations=())))

    assert len(list(root.iter("skipped"))) == 1


def test_junit_of_hostile_names_can_be_read() -> None:
    history, verdict = made_up("failed", Story(extra=(RunFailed(BEGAN, HOSTILE + "\ud800"),)))

    root = ElementTree.fromstring(junit_xml(history, with_titles(replace(verdict, word="error"), HOSTILE + "\x00\uffff")))

    assert next(root.iter("failure")).attrib["message"].startswith("</script>")


@pytest.mark.parametrize("word", WORDS)
def test_every_verdict_has_a_summary_in_markdown(word: Word) -> None:
    history, verdict = made_up(word)

    told = markdown_summary(history, verdict, COMMAND)

    assert told.startswith("## ")
    assert word in told.splitlines()[0]
    assert escaped(verdict.sentence) in told
    assert f"`{COMMAND}`" in told


def test_markdown_of_hostile_names_stays_text_and_small() -> None:
    history, verdict = made_up("failed", Story(extra=(RunFailed(BEGAN, HOSTILE),)))
    many = with_titles(verdict, HOSTILE)
    many = replace(many, expectations=many.expectations * 60, journeys=many.journeys * 60)

    told = markdown_summary(history, many, "chaos run `x` | y")

    assert len(told.encode()) < 60_000
    assert "<script" not in told
    assert "someone" in told
    assert "@someone" not in told
    assert "[a](b)" not in told
    assert not STEERING.search(told)
    table = [line for line in told.splitlines() if line.startswith("| ✗ ")]
    assert table
    assert {line.count("|") for line in table} == {5}


def test_a_command_with_backticks_stays_in_its_fence() -> None:
    told = markdown_summary(*made_up("passed"), "chaos run `x` ``y``")

    assert "Again: ``` chaos run `x` ``y`` ```" in told


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.0029, "3 ms"),
        (0.25, "0.25 s"),
        (12.3, "12 s"),
        (119.6, "2 min"),
        (125.0, "2 min 5 s"),
    ],
)
def test_durations_have_as_many_figures_as_one_reads(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_share_is_never_rounded_to_none_or_to_all() -> None:
    assert [percent(share) for share in (0.0, 0.0001, 0.996, 0.9999, 1.0)] == ["0.0 %", "<0.1 %", "99.6 %", "99.9 %", "100.0 %"]


def test_cleaned_text_is_one_line_of_at_most_that_length() -> None:
    assert clean("a\n\tb\x1b[2Jc") == "a bc"
    assert clean("x" * 500, 10) == "x" * 9 + "…"


class Clock:
    """A time that a test sets."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def shown_until(seconds: float, story: Story | None = None) -> tuple[LiveView, Clock, list[str]]:
    """A view that has seen a run up to this moment, and the plain lines it gave on the way."""
    history = tell(story or Story())
    clock = Clock(BEGAN - 3.0)
    view = LiveView(history.plan, clock)
    printed = []
    pending = sorted([*history.requests], key=lambda request: request.end)
    events = list(history.events)
    while clock.at < BEGAN + seconds:
        clock.at += 0.25
        while events and events[0].at <= clock.at:
            view.see_event(events.pop(0))
        ready = [request for request in pending[:200] if request.end <= clock.at]
        pending = pending[len(ready) :]
        view.see_requests(ready)
        while (line := view.plain_line()) is not None:
            printed.append(line)
    return view, clock, printed


def test_the_screen_shows_phase_countdown_faults_and_every_journey_against_its_baseline() -> None:
    view, _, _ = shown_until(37.0)

    screen = view.renderable().plain

    assert "8 s left" in screen
    assert "order → shipping refused" in screen
    row = next(line for line in screen.splitlines() if line.strip().startswith("place order"))
    assert re.search(r" ×2\.\d", row)
    assert max(map(len, screen.splitlines())) < 80
    failing = next(line for line in screen.splitlines() if line.strip().startswith("track shipment"))
    assert "100.0 %" in failing


def test_nothing_on_the_screen_jumps() -> None:
    places = set()
    for seconds in (6.0, 24.0, 26.0, 44.0, 50.0, 70.0):
        screen = shown_until(seconds)[0].renderable().plain.split("\n")
        places.add(
            (len(screen), *(number for number, line in enumerate(screen) if line.strip().startswith(("journey", "browse"))))
        )

    assert len(places) == 1


def test_before_the_load_the_screen_shows_the_services_coming_up() -> None:
    history = tell(Story())
    view = LiveView(history.plan, Clock(BEGAN - 2))
    view.see_event(ServiceStarted(BEGAN - 2.5, "order", 1, "127.0.0.1:1"))

    screen = view.renderable().plain

    assert re.search(r"order\s+starting", screen)
    assert re.search(r"payment\s+waiting", screen)


def test_without_a_terminal_there_is_a_line_for_each_change_and_one_every_ten_seconds() -> None:
    _, _, printed = shown_until(46.0)

    told = "\n".join(printed)
    assert "fault begins" in told
    assert "fault on: order -> shipping refused" in told
    assert "fault off: gateway -> shipping" in told
    quiet = [line for line in printed if "answers/s" in line]
    assert len(quiet) == 4
    assert "track shipment 100.0 % failed" in quiet[-1]


def test_what_failed_in_the_fault_is_not_told_of_the_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LINE_EVERY", 2.0)

    until_healed = 45.01
    view, _, printed = shown_until(49.0, Story(damage=(broken("*", 25.0, until_healed),)))

    told = [line.split(" s  ", 1)[1] for line in printed if "answers/s" in line]
    assert [line for line in told if line.startswith("fault") and "track shipment 100.0 % failed" in line]
    recovering = [line for line in told if line.startswith("recovery")]
    assert recovering
    assert all(line.endswith("none failed") for line in recovering)
    rates = [float(line.split(" answers/s")[0].split(" · ")[-1]) for line in told if not line.startswith("warm-up")]
    assert min(rates) > 0.8 * max(rates)
    assert not re.search(r"[1-9]\d*\.\d %", view.renderable().plain)


def test_a_run_that_goes_wrong_says_so_in_a_line() -> None:
    exited = ServiceExited(BEGAN + 10.2, "payment", "killed by SIGKILL")

    _, _, printed = shown_until(11.0, Story(extra=(exited,)))

    assert any(line.endswith("payment ended by itself: killed by SIGKILL") for line in printed)


def test_hostile_text_cannot_steer_the_terminal_while_a_run_goes_on() -> None:
    history = tell(Story())
    view = LiveView(history.plan, Clock(BEGAN + 1))
    for event in (
        *history.events[:30],
        PhaseBegan(BEGAN, "baseline"),
        ServiceExited(BEGAN + 1, HOSTILE, HOSTILE),
        RunFailed(BEGAN + 1, HOSTILE),
    ):
        view.see_event(event)
    view.see_requests([history.requests[0]._replace(journey=HOSTILE, end=BEGAN + 1)])

    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(view.renderable())

    assert not STEERING.search(captured.get())
    assert not STEERING.search(view.plain_line() or "")


def test_a_view_that_nobody_looks_at_keeps_the_last_seconds_alone() -> None:
    history, _ = made_up("passed")
    view = LiveView(history.plan)
    for event in history.events:
        view.see_event(event)
    for first in range(0, len(history.requests), 100):
        view.see_requests(history.requests[first : first + 100])

    kept = [entry for journey in view._journeys.values() for entry in journey.recent]

    assert 0 < len(kept) <= 80 * 6
    assert not any(journey.baseline for journey in view._journeys.values())
