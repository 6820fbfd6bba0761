"""Secrets of every kind, planted in a system that tells them all to whoever listens: none comes into a run's folder."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.end_to_end.chaos import TINY, Answer, chaos

KINDS = ("token", "url", "mixed", "laid over", "defect", "of the load", "aws", "key file", "header")

SPILLS = """
import base64, json, sys, urllib.parse
for name, value in os.environ.items():
    print(f"{name}={value}", {name: value}, json.dumps({name: value}), urllib.parse.quote(value, safe=""), file=sys.stderr)
    print("Basic", base64.b64encode(f"user:{value}".encode()).decode(), flush=True)
print("GET / HTTP/1.1", "Authorization: Bearer @header@", sep="\\n", flush=True)
"""

LOCUSTFILE = """
import os, sys
from locust import FastHttpUser, HttpUser, task

KEY = os.environ["LOAD_API_KEY"]
print("the load's key is", KEY, file=sys.stderr)

class Visitor(FastHttpUser):
    @task(5)
    def with_back(self):
        self.client.get("/with-back", headers={"Authorization": f"Bearer {KEY}"})

    @task(5)
    def alone(self):
        with self.client.get("/alone", catch_response=True) as answer:
            answer.failure(f"expected more for {KEY} and Authorization: Basic {KEY}")

    @task
    def named_by_it(self):
        self.client.get(f"/alone?api_key={KEY}")

    @task
    def raises(self):
        raise RuntimeError(f"postgresql://load:{KEY}@nowhere/x")

class Other(HttpUser):
    @task
    def refused(self):
        self.client.get(f"http://load:{KEY}@127.0.0.1:9/")
"""

COMPOSE = """
services:
  front:
    image: tiny
    expose: ["8000"]
    environment:
      BACK_URL: http://back:8000
      UNUSED_URL: "http://planted:@url@@unused:8000"
      API_TOKEN: "@token@"
      DB_PASSWORD: '@mixed@'
      AWS_ACCESS_KEY_ID: "@aws@"
      SIGNING_KEY: "@key file@"
      FALLS_BACK: "yes"
  back: {image: tiny, expose: ["8000"], environment: {SESSION_SECRET: to be laid over}}
  unused: {image: tiny, expose: ["8000"]}
"""

SCENARIO = """
version: 1
question: Does it hold while https://someone:@url@@example.org/ is away?
system: .
phases: {warmup: 1s, baseline: 6s, fault: 6s, recovery: 6s, drain: 1s}
faults: [{outage: {edge: front -> back}}]
expect: [{fallback: without-back}, {recovery: {within: 3s, hold: 1s}}]
defects:
  leaky: {environment: {front: {LEAKY_PASSWORD: "@defect@"}}, caught_by: fallback-1}
"""


class System:
    """The tiny system with secrets in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reports = folder, folder / "reports"
        self.planted = {kind: f"{kind[0]}9{secrets.token_urlsafe(24)}" for kind in KINDS}
        self.planted["mixed"] = f"p&ss<'w0rd' {secrets.token_hex(8)} ä%/\\\\"[:-2]
        self.planted["aws"] = "AKIA" + secrets.token_hex(8).upper()
        shutil.copy(TINY / "system.yaml", folder)
        (folder / "service.py").write_text(
            self._filled((TINY / "service.py").read_text().replace("local = threading", f"{SPILLS}\nlocal = threading"))
        )
        for name, text in {"compose.yaml": COMPOSE, "locustfile.py": LOCUSTFILE, "leaky.yaml": SCENARIO}.items():
            (folder / name).write_text(self._filled(text))
        self.told: list[Answer] = []

    def _filled(self, text: str) -> str:
        for kind, value in self.planted.items():
            text = text.replace(f"@{kind}@", value.replace("'", "''") if kind == "mixed" else value)
        return text

    def chaos(self, *arguments: str) -> Answer:
        answer = chaos(*arguments, cwd=self.folder, extra={"LOAD_API_KEY": self.planted["of the load"]})
        self.told.append(answer)
        return answer

    def run(self, *more: str) -> Answer:
        laid_over = f"back.SESSION_SECRET={self.planted['laid over']}"
        return self.chaos("run", "leaky.yaml", "--env", laid_over, "--report-dir", str(self.reports), *more)

    @property
    def runs(self) -> list[Path]:
        return sorted(path for path in self.reports.glob("*/2*") if path.is_dir())

    def files(self) -> dict[Path, bytes]:
        found = {path: path.read_bytes() for path in self.reports.rglob("*") if path.is_file()}
        assert found
        return found

    def found(self) -> list[tuple[str, str]]:
        """Where a secret stands, in any of the ways in which it may be written."""
        texts = {str(path.relative_to(self.reports)): data for path, data in self.files().items()}
        texts |= {f"terminal {number}": f"{one.out}{one.err}".encode() for number, one in enumerate(self.told)}
        return [
            (kind, name)
            for kind, value in self.planted.items()
            for name, data in texts.items()
            for written in ways(value)
            if written in data
        ]


def ways(value: str) -> Iterator[bytes]:
    yield value.encode()
    yield quote(value, safe="").encode()
    yield json.dumps(value)[1:-1].encode()
    yield repr(value)[1:-1].encode()
    for before in ("user:", "load:", ""):
        yield base64.b64encode(f"{before}{value}".encode())


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def logs(system: System) -> str:
    return "".join(data.decode("utf-8", "replace") for path, data in system.files().items() if path.suffix == ".log")


@pytest.mark.slow
def test_a_run_that_is_told_every_secret_tells_none(system: System) -> None:
    ran = system.run()

    (folder,) = system.runs
    system.chaos("judge", str(folder))
    system.chaos("judge", str(folder), "--json")
    system.chaos("export", str(folder), "--format", "csv")
    system.chaos("export", str(folder), "--format", "jsonl")
    system.chaos("export", str(folder), "--format", "parquet", "--output", str(system.reports / "all.parquet"))
    system.chaos("plan", "leaky.yaml", "--explain")
    assert (folder / "verdict.json").exists(), ran
    assert json.loads((folder / "verdict.json").read_text())["journeys"]
    assert "API_TOKEN=***" in logs(system)
    assert "the load's key is ***" in logs(system)
    assert "expected more for ***" in system.told[3].out
    assert "SESSION_SECRET=***" in (folder / "events.jsonl").read_text()
    assert system.found() == []


@pytest.mark.slow
def test_the_files_of_a_run_are_its_owners_alone(system: System) -> None:
    system.run()

    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in (system.reports, *system.reports.rglob("*"))}
    open_files = {path: oct(mode) for path, mode in modes.items() if path.is_file() and not path.is_symlink() and mode != 0o600}
    open_folders = {
        path: oct(mode) for path, mode in modes.items() if path.is_dir() and not path.is_symlink() and mode != 0o700
    }
    assert (open_files, open_folders) == ({}, {})
    assert any(path.name == "requests.parquet" for path in modes)
    assert [path.name for path in modes if path.is_symlink()] == ["latest"]


def test_a_service_that_fails_with_its_secrets_on_its_lips_is_told_without(system: System) -> None:
    service = system.folder / "service.py"
    service.write_text(
        service.read_text().replace("local = threading", "sys.exit(f'cannot log in as {os.environ}')\nlocal = threading", 1)
    )

    ran = system.run()

    assert ran.code == 5, ran
    assert "cannot log in as" in ran.out + ran.err + logs(system)
    assert system.found() == []


def test_a_locustfile_that_fails_with_its_secret_is_told_without(system: System) -> None:
    locustfile = system.folder / "locustfile.py"
    locustfile.write_text(locustfile.read_text() + "\nraise RuntimeError(f'no entry with {KEY}')\n")

    ran = system.run()

    assert ran.code == 2, ran
    assert "no entry with ***" in ran.err
    assert system.found() == []


def test_what_is_wrong_with_a_file_is_told_without_the_secrets_in_it(system: System) -> None:
    compose = system.folder / "compose.yaml"
    compose.write_text(compose.read_text().replace("unused:8000", "nobody.example:8000"))

    checked = system.chaos("validate", "leaky.yaml", "--runtime", "local")

    assert checked.code == 2
    assert "nobody.example" in checked.err
    system.reports.mkdir()
    (system.reports / "nothing").write_text("")
    assert system.found() == []
