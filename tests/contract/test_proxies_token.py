"""Who may change something on an embedded engine that was given a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from harness.errors import ProxyError
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.embedded.command import main
from harness.runtime.proxies.starting import StartedEngine, start_embedded
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from harness.runtime.undo import RestoreProxies, UndoJournal
from tests.contract.launching import plain_launch
from tests.contract.proxies_rig import PROBE_HOST, control_socket

TOKEN = "0123456789abcdef-unguessable"
CHANGES = [
    ("POST", "/reset"),
    ("POST", "/proxies"),
    ("PATCH", "/proxies/edge"),
    ("DELETE", "/proxies/edge"),
    ("POST", "/proxies/edge/toxics"),
    ("POST", "/populate"),
    ("PUT", "/nowhere"),
]


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(TOKEN)
    return path


@pytest.fixture(scope="module")
def started(token_file: Path) -> Iterator[StartedEngine]:
    engine = start_embedded(plain_launch, control_socket(), token_file.with_name("log"), PROBE_HOST, token_file)
    yield engine
    engine.stop()


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("said", ["", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer "])
def test_who_has_no_token_or_another_changes_nothing(started: StartedEngine, method: str, path: str, said: str) -> None:
    headers = {"Authorization": said} if said else {}

    answer = requests.request(method, f"http://{started.control}{path}", headers=headers, json={}, timeout=5)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", ["/version", "/proxies", "/edges", "/health", "/metrics"])
def test_who_only_asks_needs_none(started: StartedEngine, path: str) -> None:
    assert requests.get(f"http://{started.control}{path}", timeout=5).status_code == 200


def test_who_has_it_changes_what_there_is(started: StartedEngine) -> None:
    answer = requests.post(f"http://{started.control}/reset", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5)

    assert answer.status_code == 204


def test_the_harness_without_the_token_is_told_what_was_expected(started: StartedEngine) -> None:
    with pytest.raises(ProxyError, match="expected Authorization: Bearer TOKEN"):
        ToxiproxyEngine(started.control).create([ProxyMade("edge", Address("127.0.0.1", 4711), Address("127.0.0.1", 9))])


def test_the_token_is_not_among_the_arguments(started: StartedEngine) -> None:
    process = Path(f"/proc/{started.process.pid}")

    assert TOKEN.encode() not in process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()


def test_the_undo_heals_with_the_token_of_its_file_and_tells_where_it_has_none(
    started: StartedEngine, token_file: Path, tmp_path: Path
) -> None:
    journal = UndoJournal(tmp_path / "undo.jsonl")
    journal.before(RestoreProxies(f"http://{started.control}", str(token_file)))
    healed = journal.undo_all(lambda _event: None)
    journal.before(RestoreProxies(f"http://{started.control}", str(tmp_path / "gone")))
    refused = journal.undo_all(lambda _event: None)
    journal.close()

    assert (healed.done, healed.failed) == (1, 0)
    assert (refused.done, refused.failed) == (0, 1)
    assert TOKEN not in (tmp_path / "undo.jsonl").read_text()


@pytest.mark.parametrize("text", ["short", "with spaces that are long enough", "zwölf-umlaute-äöüß", "", None])
def test_a_file_that_holds_no_token_is_refused(text: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    assert main(["--token-file", str(path), "--port", "0"]) == 2
    assert "--token-file" in capfd.readouterr().err
