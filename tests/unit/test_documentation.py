"""What the documentation shows is true: its examples are valid, its commands exist, its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness import cli
from harness.errors import InvalidFile
from harness.judge.verdict import EXIT_CODES, INVALID, LEFT_BEHIND, TERMINATED
from harness.model.faults import FAULT_KINDS
from harness.model.reading import read_document, validate
from harness.model.resolving import resolve
from harness.model.scenario import ScenarioFile
from harness.model.system import SystemFile
from harness.report.fault_pages import markdown

PROJECT = Path(__file__).parent.parent.parent
PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").glob("*.md"))]
EXAMPLES = [
    (page.name, index, text)
    for page in PAGES
    if page.name != "faults.md"  # its examples are entries of a list, and are tried with the kinds they are of
    for index, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]


@pytest.mark.parametrize(("page", "index", "text"), EXAMPLES, ids=[f"{page} {index}" for page, index, _ in EXAMPLES])
def test_every_example_is_valid(page: str, index: int, text: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(text, encoding="utf-8")
    document = read_document(path, "an example")
    kind = SystemFile if "compose:" in text else ScenarioFile

    part, problems = validate(kind, document)

    assert problems == ()
    assert part is not None


@pytest.mark.parametrize("text", [text for _, _, text in EXAMPLES if "question:" in text], ids=lambda text: text[:30])
def test_every_scenario_shown_fits_the_sample_system(text: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(text.replace("../sample_system", str(PROJECT / "sample_system")), encoding="utf-8")

    try:
        resolve(path, environ={})
    except InvalidFile as error:
        pytest.fail(str(error))


def test_the_scenario_of_the_readme_is_the_one_that_runs() -> None:
    shown = next(text for page, _, text in EXAMPLES if page == "README.md")
    kept = (PROJECT / "scenarios" / "shipping_down.yaml").read_text(encoding="utf-8")

    assert kept.startswith(shown.split("\n", 1)[1])


def test_the_readme_names_every_command_and_no_other() -> None:
    text = PAGES[0].read_text(encoding="utf-8")

    assert set(re.findall(r"bin/chaos (\w+)", text)) == set(cli.commands.commands)


def test_the_readme_has_every_exit_code() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    shown = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE) for code in row.split(",")}

    assert shown == {*EXIT_CODES.values(), INVALID, LEFT_BEHIND, TERMINATED}


def test_the_page_on_scenarios_has_every_kind() -> None:
    text = (PROJECT / "docs" / "scenarios.md").read_text(encoding="utf-8")

    assert all(
        f"`{kind}: " in text for kind in ("error_rate", "response_time", "blast_radius", "fallback", "recovery", "invariant")
    )


def test_the_page_on_faults_is_what_the_model_and_the_contract_suites_say() -> None:
    found = json.loads((PROJECT / "tests" / "contract" / "faults-matrix.json").read_text(encoding="utf-8"))
    kept = (PROJECT / "docs" / "faults.md").read_text(encoding="utf-8")

    assert kept == markdown(found["engines"], found["runtimes"]), "run scripts/write-faults-page"


def test_every_kind_of_fault_was_tried_somewhere() -> None:
    found = json.loads((PROJECT / "tests" / "contract" / "faults-matrix.json").read_text(encoding="utf-8"))
    tried = {name.split("/")[0] for table in found.values() for name, row in table.items() if "passed" in row.values()}

    assert tried == set(FAULT_KINDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []
