"""What is recorded of a system with secrets, and who may read it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InvalidInput
from harness.experiment import judge_folder
from harness.history.drafts import draft_of
from harness.history.events import Event, InvariantAsked, RunFailed, ServiceExited
from harness.history.requests import Request
from harness.history.store import EVENTS, SAMPLES, RunFolder
from harness.model.secrets import known_secrets
from harness.runtime.load.ledger import Exchange, Ledger, hiding
from harness.runtime.load.marks import Marks
from harness.runtime.recorder import Recorder
from tests.histories.building import Story, write_run

SECRET = 'h4rd-t0-"guess"-ä'
KNOWN = known_secrets([{"API_TOKEN": SECRET}])


class Watch:
    """Sees everything, and decides nothing."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def see_event(self, event: Event) -> None:
        self.seen.append(event)

    def see_requests(self, requests: Sequence[Request]) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody asks for {name}")


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def recorder(tmp_path: Path, watch: Watch) -> Iterator[Recorder]:
    folder = RunFolder(tmp_path / "reports" / "shop" / "one")
    yield Recorder(folder, watch, known=KNOWN)
    folder.close()


EVENTS_WITH_IT: list[Event] = [
    ServiceExited(1.0, "order", "exit code 1", (f"cannot log in with {SECRET}", "Authorization: Bearer abc")),
    RunFailed(1.0, f"postgresql://shop:{SECRET}@db/shop did not answer, nor did http://a:b@c/"),
    InvariantAsked(1.0, "paid", None, None, f"InvalidPasswordError: {SECRET!r}"),
]


@pytest.mark.parametrize("event", EVENTS_WITH_IT, ids=lambda event: type(event).__name__)
def test_no_event_or_sample_holds_a_secret_on_disk_or_on_the_screen(
    recorder: Recorder, watch: Watch, tmp_path: Path, event: Event
) -> None:
    recorder.record(event)

    told = "".join((recorder.folder.path / name).read_text() for name in (EVENTS, SAMPLES))
    assert SECRET not in told + repr(watch.seen)
    assert json.dumps(SECRET)[1:-1] not in told
    assert "***" in told
    assert type(watch.seen[0]) is type(event)
    assert "Bearer abc" not in told
    assert "a:b@" not in told


def test_an_event_without_a_secret_is_the_same_event(recorder: Recorder, watch: Watch) -> None:
    event = RunFailed(1.0, "order did not come up")

    recorder.record(event)

    assert watch.seen[0] is event


def test_no_line_of_the_load_holds_a_secret_not_even_half_of_one() -> None:
    lines: list[bytes] = []

    def write(line: bytes) -> int:
        lines.append(line)
        return len(line)

    ledger = Ledger(write, Marks({}), pytest.fail, hiding(KNOWN))
    ledger.note("raised", error=f"RuntimeError: {SECRET}")
    for number in range(180, 200):
        exchange = Exchange(lambda: f"GET /x?token={SECRET}", 1.0, 1.0)
        ledger.enter(exchange)
        ledger.given_up(exchange, "other", RuntimeError("x" * number + SECRET))
    answered = Exchange(lambda: "GET /", 1.0, 1.0)
    ledger.enter(answered)
    ledger.reported(answered, f"GET /{SECRET}", None, 0, ValueError(f"http://a:{SECRET}@b/"))

    assert len(lines) == 22
    assert b"h4r" not in b"".join(lines)
    assert [json.loads(line) for line in lines]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_runs_folder_and_those_around_it_are_its_owners_alone(recorder: Recorder, tmp_path: Path) -> None:
    written = recorder.folder.write("plan.json", "{}")

    folders = [tmp_path / "reports", tmp_path / "reports" / "shop", recorder.folder.path, recorder.folder.path / "logs"]
    assert [mode(folder) for folder in folders] == [0o700] * 4
    assert [mode(path) for path in (written, *recorder.folder.path.glob("*.jsonl"))] == [0o600] * 3


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir(mode=0o755)

    RunFolder(tmp_path / "reports" / "shop" / "one").close()

    assert mode(tmp_path / "reports") == 0o755


def test_what_the_judge_and_the_reports_write_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        write_run(Story(), tmp_path / "run")
        judge_folder(tmp_path / "run")
    finally:
        os.umask(before)

    modes = {path.name: mode(path) for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert {"verdict.json", "report.html", "junit.xml", "summary.md", "requests.parquet", "load.jsonl"} <= set(modes)
    assert {name for name, found in modes.items() if found != 0o600} == set()


def test_what_takes_the_place_of_a_file_can_be_read_by_the_same(tmp_path: Path) -> None:
    target = tmp_path / "system.yaml"
    target.write_text("before")
    target.chmod(0o644)

    with draft_of(target) as draft:
        draft.write_text("after")

    assert (target.read_text(), mode(target)) == ("after", 0o644)


def test_what_is_raised_by_a_run_says_no_secret() -> None:
    from harness.experiment import _saying_no_secrets

    with pytest.raises(InvalidInput) as raised, _saying_no_secrets(KNOWN):
        raise InvalidInput(f"no entry with {SECRET}")

    assert str(raised.value) == "no entry with ***"
