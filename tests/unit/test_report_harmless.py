"""One hostile history, told in every way there is: nothing in it is taken for more than text."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tempfile
import xml.dom.minidom
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.history.events import (
    EngineRestarted,
    Event,
    FaultBegan,
    FaultEnded,
    FaultRefused,
    NameUnknown,
    PhaseMoved,
    RunBegan,
    RunFailed,
    RunHalted,
    RunInterrupted,
    ServiceExited,
    ServiceReady,
    ServiceStarted,
    UndoFailed,
    WedgeNoticed,
)
from harness.history.history import History
from harness.history.requests import Request
from harness.judge.judge import judge
from harness.judge.verdict import Verdict, verdict_to_json
from harness.report.html import html_report
from harness.report.junit import Undecided, joined, junit_xml
from harness.report.live import LiveView
from harness.report.markdown import LARGEST, markdown_summary
from harness.report.plain import clean_json
from harness.report.text import text_report
from tests.golden.made_up import BEGAN, made_up, with_titles
from tests.histories.building import Story, fault
from tests.unit.test_plain import harms

BITES = [
    "</script><script>document.title='bitten'</script>",
    "<img src=x onerror=\"document.title='bitten'\">",
    '" onload="document.title=\'bitten\'" x="',
    "' autofocus onfocus='document.title=`bitten`'",
    "</title></svg><svg onload=document.title='bitten'>",
    "</style><style>*{display:none}</style>",
    "<!-- <script>",
    "-->",
    "]]>",
    "<![CDATA[",
    "&lt;script&gt;",
    "&#60;b&#62;",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202egnp.exe\u2066",
    "\x00\x08\x7f",
    "\ufffe\uffff\ud800",
    "one\r\ntwo\n# three\n- four\n```\n~~~",
    "| a | b |",
    "`code` ``x`",
    "[link](javascript:document.title='bitten') ![i](http://x/y.png)",
    "<a href=\"javascript:document.title='bitten'\">",
    "http://evil.example/x www.evil.example @everyone #1",
    "[bold red]markup[/] [link=http://x]y[/link]",
    "${jndi:x} $(touch x) `touch x`; touch x",
    "=cmd|' /C calc'!A0",
    "    indented",
    "\u2028\u2029\x85",
    "long" * 300,
]

hostile = st.lists(st.sampled_from(BITES) | st.text(max_size=20), min_size=1, max_size=4).map("".join)

CHOSEN = ("kind", "phase", "outcome", "word", "runtime", "felt", "unit", "bound", "event", "what", "state")
"""Fields that hold one of the harness's own words."""


def bitten(part: Any, text: str) -> Any:
    """The same with the text in the place of every text that may come from outside."""
    if is_dataclass(part) and not isinstance(part, type):
        changed = {
            field.name: bitten(getattr(part, field.name), text)
            for field in fields(part)
            if field.init and field.name not in CHOSEN
        }
        return replace(part, **changed)
    if isinstance(part, str):
        return text
    if isinstance(part, tuple):
        return tuple(bitten(item, text) for item in part)
    return part


def happened(text: str) -> list[Event]:
    """Events of every kind that is told, with foreign text in each."""
    at = BEGAN + 30
    return [
        ServiceStarted(at, text, 1, text),
        ServiceReady(at, text, 1.0),
        ServiceExited(at, text, text, (text, text)),
        EngineRestarted(at, text, 1.0, back=False),
        EngineRestarted(at, text, 1.0, back=True),
        NameUnknown(at, text, text),
        PhaseMoved(at, "fault", 1.0, text),
        FaultRefused(at, text, text, text),
        RunHalted(at, text, text),
        WedgeNoticed(at, text, text),
        RunInterrupted(at, text),
        RunFailed(at, text),
        RunFailed(at, text, defect=True),
        UndoFailed(at, text, text, text),
    ]


@lru_cache(maxsize=1)
def _calm_run() -> tuple[History, Verdict, list[Request]]:
    history, verdict = made_up("failed")
    return history, verdict, list(history.requests)[::20]


def hostile_run(text: str) -> tuple[History, Verdict]:
    """A run in which everything that can come from outside is this text."""
    history, verdict, some = _calm_run()
    plan = json.loads(json.dumps(history.plan))
    experiment = plan["experiment"]
    whole = text.encode("utf-8", "replace").decode()  # nothing else can be read from a file
    experiment["question"] = whole[:2000] or "x"
    system = experiment["system"]
    system["journeys"] = {f"{name} {whole}"[:2000]: request for name, request in system["journeys"].items()}
    requests = [
        one._replace(
            journey=f"{one.journey}{text if number % 2 else ''}",
            error=text,
            trace=text,
            marks=tuple(text for _ in one.marks),
        )
        for number, one in enumerate(some)
    ]
    events = [_with_text(event, text) for event in history.events]
    verdict = bitten(with_titles(verdict, text), text)
    return History(plan, [*events, *happened(text)], requests), replace(verdict, warnings=(text,), left_behind=(text,))


def _with_text(event: Event, text: str) -> Event:
    if isinstance(event, RunBegan):
        return replace(event, reason=text, command=text, warnings=(text,), engine=f"embedded {text}", versions={text: text})
    if isinstance(event, FaultBegan | FaultEnded):
        return replace(event, fault=text, proxy=event.proxy and text, service=event.service and text)
    return event


class Elements(HTMLParser):
    """Which elements a page has, with which attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


QUICK = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
ALLOWED = {
    *("html", "head", "meta", "title", "style", "script", "body", "main", "header", "section", "div", "p", "span", "button"),
    *("h1", "h2", "b", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "code", "i"),
    *("svg", "path", "rect", "circle", "text", "g", "defs", "pattern"),
}


@QUICK
@given(text=hostile)
def test_the_page_has_no_element_and_no_attribute_of_a_hostile_run(text: str) -> None:
    page = html_report(*hostile_run(text), text)

    elements = Elements(page).found
    assert {tag for tag, _ in elements} <= ALLOWED
    assert [tag for tag, _ in elements].count("script") == 2
    assert not any(name.startswith("on") or name in ("href", "src", "style", "srcdoc") for _, had in elements for name in had)
    assert harms(page) <= {"\n"}


@QUICK
@given(text=hostile)
def test_the_data_of_the_page_ends_where_it_should(text: str) -> None:
    page = html_report(*hostile_run(text), text)

    (island,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert json.loads(island)["rows"]
    assert "<" not in island


@QUICK
@given(text=hostile, undecided=st.sampled_from(Undecided))
def test_junit_of_a_hostile_run_is_xml_for_every_reader(text: str, undecided: Undecided) -> None:
    document = junit_xml(*hostile_run(text), undecided)

    assert harms(document) <= {"\n"}
    assert xml.dom.minidom.parseString(document.encode()).documentElement.tagName == "testsuites"
    suite = ElementTree.fromstring(joined([document, document]).partition("?>")[2])
    assert {element.tag for element in suite.iter()} <= {
        *("testsuites", "testsuite", "testcase", "properties", "property", "system-out", "failure", "skipped", "error"),
    }


MEANT = re.compile(r"[<>`*_\[\]|#@~$]|://|\bwww\.")


@QUICK
@given(text=hostile)
def test_markdown_of_a_hostile_run_means_nothing_but_text(text: str) -> None:
    told = markdown_summary(*hostile_run(text), text)

    assert harms(told) <= {"\n"}
    assert len(told.encode()) < LARGEST
    for line in told.split("\n"):
        if line.startswith("Again: "):
            continue
        left = re.sub(r"</?(?:details|summary)>|<br>", "", line)
        left = re.sub(r"^## |\*\*(?=Note:|Left behind:)|(?<=:)\*\*|^\*\*|\*\*$", "", left)
        left = re.sub(r"&#\d+;", "", left)
        if line.startswith("|"):
            assert line.count("|") == line.split("\n")[0].count("|")
            left = left.removeprefix("| ~ |").replace("|", "")
        assert not MEANT.search(left), line


@QUICK
@given(text=hostile)
def test_a_row_of_markdown_has_as_many_cells_as_its_table(text: str) -> None:
    told = markdown_summary(*hostile_run(text), text)

    for table in re.findall(r"(?:^\|.*\n)+", told, re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1


@QUICK
@given(text=hostile)
def test_the_command_to_run_again_stays_in_its_code_and_on_its_line(text: str) -> None:
    told = markdown_summary(*hostile_run(text), text)

    (line,) = [line for line in told.split("\n") if line.startswith("Again: ")]
    code = line.removeprefix("Again: ")
    (fence,) = re.findall(r"^`+", code)
    inside = code[len(fence) : -len(fence)]
    assert code.endswith(fence)
    assert fence not in re.findall("`+", inside)


@QUICK
@given(text=hostile, width=st.sampled_from([40, 80, 120]))
def test_the_terminal_at_the_end_of_a_hostile_run_is_not_steered(text: str, width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system="truecolor", width=width, soft_wrap=True, highlight=False)

    for line in text_report(*hostile_run(text), text, text, width=width):
        console.print(line)

    said = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert harms(said) <= {"\n"}
    assert "\x1b[31mred" not in screen.getvalue()


@QUICK
@given(text=hostile)
def test_the_terminal_during_a_hostile_run_is_not_steered(text: str) -> None:
    history, _ = hostile_run(text)
    view = LiveView(history.plan, now=lambda: BEGAN + 31)
    screens = []

    for number, event in enumerate(history.events, len(happened(text)) - len(history.events)):
        view.see_event(event)
        screens += [view.renderable().plain] if number >= 0 else []
    view.see_requests(list(history.requests))
    screens.append(view.renderable().plain)
    lines = []
    while (line := view.plain_line()) is not None:
        lines.append(line)

    assert harms("".join(screens)) <= {"\n"}
    assert len({screen.count("\n") for screen in screens[-4:-1]}) == 1
    assert harms("".join(lines)) == set()


@QUICK
@given(text=hostile)
def test_the_verdict_as_json_is_told_as_it_is_and_steers_nothing(text: str) -> None:
    _, verdict = hostile_run(text)

    told = clean_json(verdict_to_json(verdict))

    assert json.loads(told)["question"] == text
    assert harms(told) <= {"\n"}


def test_a_hostile_run_is_judged_as_any_other() -> None:
    history, _ = hostile_run("".join(BITES))

    assert judge(history).word in ("failed", "inconclusive", "error", "halted", "interrupted")


CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: nobody opened the page")
def test_a_browser_that_opens_the_page_of_a_hostile_run_executes_nothing_of_it(tmp_path: Path) -> None:
    page = html_report(*hostile_run(" ".join(BITES)), " ".join(BITES))
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    own = "<script>document.title='bitten'</script>"
    (tmp_path / "bitten.html").write_text(f"<title>well</title>{own}", encoding="utf-8")
    (tmp_path / "slipped.html").write_text(page.replace("<main>", f"<main>{own}"), encoding="utf-8")

    titles = {name: _title_of(tmp_path / f"{name}.html") for name in ("report", "bitten", "slipped")}

    assert titles["bitten"] == "bitten"
    assert titles["report"].startswith("✗ ")
    assert titles["slipped"] == titles["report"]


def _title_of(page: Path) -> str:
    """The title that the page has when all its scripts have run."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        command = [CHROMIUM, *flags, f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    titles = re.findall(r"<title>(.*?)</title>", found, re.DOTALL)
    assert titles, "the browser did not open the page"
    return str(titles[0])


def test_a_hostile_fault_is_drawn_as_text() -> None:
    story = Story(faults=(fault("http_error", id="e", edge="order -> shipping", status=500, path="/x<script>"),))
    history, verdict = made_up("failed", story)

    assert "<script>" not in html_report(history, verdict, "x").replace("<script>(() =>", "")
