"""A run's folder may come from anybody, and so may names: nothing outside of it is written, removed or waited for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import InvalidFile
from harness.experiment import judge_folder
from harness.history.store import EVENTS, LOGS, NOTES, PARQUET, PLAN, REQUESTS, SAMPLES, VERDICT, RunFolder, pack_requests
from harness.model.resolving import resolve
from tests.end_to_end.chaos import chaos
from tests.fuzz.runs import STORY
from tests.histories.building import write_run
from tests.systems import SCENARIO, SYSTEM, write_system

WRITTEN = (VERDICT, "junit.xml", "summary.md", "report.html")
READ = (PLAN, EVENTS, SAMPLES, REQUESTS)
PACKED = (PARQUET, NOTES)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(STORY, tmp_path / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("names", [WRITTEN, READ, PACKED, (*WRITTEN, *READ)])
def test_to_judge_a_run_whose_files_are_links_changes_nothing_where_they_lead(run: Path, names: tuple[str, ...]) -> None:
    elsewhere = run.parent / "elsewhere"
    elsewhere.mkdir()
    if names == PACKED:
        pack_requests(run)
    for name in names:
        target = elsewhere / name
        target.write_bytes((run / name).read_bytes() if (run / name).exists() else b"of somebody else")
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target)
    before = contents(elsewhere)

    judged = judge_folder(run)

    assert judged.verdict.word
    assert contents(elsewhere) == before


@pytest.mark.parametrize("name", [*WRITTEN, *PACKED, SAMPLES])
def test_to_judge_a_run_creates_nothing_where_a_link_leads_to_nothing(run: Path, name: str) -> None:
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(run.parent / "nothing-yet")

    judge_folder(run)

    assert not (run.parent / "nothing-yet").exists()


def test_logs_that_are_a_link_are_left_alone(run: Path) -> None:
    elsewhere = run.parent / "elsewhere"
    (run / LOGS).rename(elsewhere)
    (run / LOGS).symlink_to(elsewhere)
    before = contents(elsewhere)

    judge_folder(run)

    assert contents(elsewhere) == before


@pytest.mark.parametrize("name", [EVENTS, SAMPLES])
def test_a_run_that_begins_follows_no_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match=r"symbolic link"):
        RunFolder(tmp_path / "run")

    assert not (tmp_path / "elsewhere").exists()


def test_an_export_into_a_link_leaves_alone_what_it_leads_to(run: Path) -> None:
    elsewhere, link = run.parent / "elsewhere.csv", run.parent / "link.csv"
    elsewhere.write_text("of somebody else")
    link.symlink_to(elsewhere)

    done = chaos("export", str(run), "--format", "csv", "--output", str(link))

    assert done.code == 0, done.err
    assert elsewhere.read_text() == "of somebody else"


@pytest.mark.parametrize("command", [("judge",), ("export", "--format", "csv")])
def test_a_folder_of_links_to_devices_and_pipes_ends_every_command_at_once(run: Path, command: tuple[str, ...]) -> None:
    for name in READ[1:]:
        (run / name).unlink()
        (run / name).symlink_to("/dev/zero")

    done = chaos(*command, str(run))

    assert done.code == 2
    assert "expected the load's records" in done.err
    assert "is no file" in done.err


@pytest.mark.parametrize("command", [("judge",), ("export", "--format", "csv"), ("calibrate",), ("validate",), ("plan",)])
def test_a_name_that_nothing_can_have_is_refused_by_every_command(command: tuple[str, ...]) -> None:
    done = chaos(*command, "x" * 300)

    assert done.code == 2, done.err
    assert "Traceback" not in done.err


ESCAPES = ["../../x", "/etc/x", "..", "a/b", "a\0b", "x" * 1000, ".", "~", "-rf", "$(touch x)"]


@pytest.mark.parametrize("name", ESCAPES)
def test_journeys_may_be_called_anything_and_name_no_file(run: Path, name: str) -> None:
    plan = json.loads((run / PLAN).read_text())
    journeys = plan["experiment"]["system"]["journeys"]
    journeys[name[:1000]] = journeys.pop("browse")
    (run / PLAN).write_text(json.dumps(plan))
    before = set(run.parent.iterdir())

    judge_folder(run)

    assert set(run.parent.iterdir()) == before
    assert all(path.name in {*WRITTEN, *READ, *PACKED, LOGS} for path in run.iterdir())


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize(
    "place",
    [
        ("  - outage: {service: shipping}", "  - id: {}\n    outage: {{service: shipping}}"),
        ("  - recovery: {within: 10s}", "  - id: {}\n    recovery: {{within: 10s}}"),
        ("version: 1", "version: 1\ntags: [{}]"),
    ],
    ids=["fault", "expectation", "tag"],
)
def test_ids_that_could_be_paths_are_refused(tmp_path: Path, place: tuple[str, str], name: str) -> None:
    old, new = place
    scenario = write_system(tmp_path, scenario=SCENARIO.replace(old, new.format(json.dumps(name))))

    with pytest.raises(InvalidFile, match=r"expected (a name|text without NUL)"):
        resolve(scenario, environ={})


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize(
    "place",
    [
        ("entry: gateway", "entry: {}"),
        ("shipping-deferred:", "{}:"),
        ("provided: postgresql, databases: [orders]", "provided: postgresql, databases: [{}]"),
        ("  gateway: {command", "  {}: {{command"),
    ],
    ids=["entry", "fallback", "database", "local"],
)
def test_names_in_a_system_that_could_be_paths_are_refused(tmp_path: Path, place: tuple[str, str], name: str) -> None:
    old, new = place
    assert old in SYSTEM
    scenario = write_system(tmp_path, system=SYSTEM.replace(old, new.format(json.dumps(name))))

    with pytest.raises(InvalidFile, match=r"expected (a name|text without NUL)"):
        resolve(scenario, environ={})
