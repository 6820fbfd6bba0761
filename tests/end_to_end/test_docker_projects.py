"""Compose projects in other people's style: they answer through the harness what they answer without it."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.chaos import PROJECT, verdict_of
from tests.end_to_end.docker_rig import (
    PROXIES,
    DockerRun,
    docker,
    images,
    kinds_of,
    only_folder,
    run_on_docker,
    seconds_until_nothing_is_left,
)

pytestmark = [pytest.mark.slow, pytest.mark.docker]

PROJECTS = PROJECT / "tests" / "end_to_end" / "projects"
NAMES = ("brochure", "notes")
PORTS = {"brochure": "HTTP_PORT", "notes": "APP_PORT"}
FIRST_BUILT_WITHIN = 240.0

QUIET = """
from locust import FastHttpUser, task


class Nobody(FastHttpUser):
    @task
    def home(self) -> None:
        self.client.get("/health")
"""


@dataclass(frozen=True)
class Said:
    """One answer, as far as it has to be the same."""

    status: int
    type: str
    location: str | None
    body: bytes


def answers_of(name: str) -> dict[str, Any]:
    answers: dict[str, Any] = yaml.safe_load((PROJECTS / name / "answers.yaml").read_text(encoding="utf-8"))
    return answers


def ask_all(name: str, port: int) -> list[Said]:
    """What is said to each request of `answers.yaml`, in its order."""
    said = []
    for request in answers_of(name)["requests"]:
        method, path = request["send"].split()
        body = json.dumps(request["data"]) if "data" in request else None
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        kind = (answer.getheader("Content-Type") or "").partition(";")[0]
        said.append(Said(answer.status, kind, answer.getheader("Location"), answer.read()))
        connection.close()
    return said


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def compose(name: str, project: str, port: int, *words: str) -> None:
    file = next(PROJECTS.joinpath(name).glob("*compose.y*ml"))
    done = subprocess.run(
        ["docker", "compose", "-p", project, "-f", str(file), *words],
        check=False,
        env={**os.environ, **images(), PORTS[name]: str(port)},
        capture_output=True,
        text=True,
        timeout=FIRST_BUILT_WITHIN,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def plain() -> dict[str, list[Said]]:
    """What each project says when it is brought up by `docker compose up`."""
    found = {}
    for name in NAMES:
        project, port = f"docker-suite-{name}-{secrets.token_hex(3)}", free_port()
        try:
            compose(name, project, port, "up", "--detach", "--wait", "--wait-timeout", "120")
            found[name] = ask_all(name, port)
        finally:
            compose(name, project, port, "down", "--volumes", "--timeout", "1")
    return found


@pytest.fixture(scope="module", params=NAMES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, DockerRun]]:
    """A run of a project with nothing injected, under a load that changes nothing in it."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "quiet.py").write_text(QUIET, encoding="utf-8")
    path = folder / "quiet.yaml"
    path.write_text(
        f"version: 1\nquestion: What does it answer?\nsystem: {PROJECTS / request.param}\nfaults: []\n"
        f"load: {{locustfile: {folder / 'quiet.py'}, rate: 2/s}}\nphases: {{baseline: 300s}}\n"
        "expect: [{error_rate: {max: 100%}}]\n",
        encoding="utf-8",
    )
    running = DockerRun(path, folder / "reports")
    try:
        running.wait_for("SystemReady")
        yield request.param, running
    finally:
        running.make_sure_it_is_over()
    assert running.folder is not None
    seconds_until_nothing_is_left(running.folder)


def way_in(run: DockerRun, port: int) -> int:
    (published,) = run.inspect(PROXIES)["NetworkSettings"]["Ports"][f"{port}/tcp"]
    return int(published["HostPort"])


def test_a_project_answers_behind_proxies_what_it_answers_without(
    run: tuple[str, DockerRun], plain: dict[str, list[Said]]
) -> None:
    name, running = run
    entry = answers_of(name)["entry"]

    said = ask_all(name, way_in(running, entry["port"]))

    assert said == plain[name]
    for request, answer in zip(answers_of(name)["requests"], said, strict=True):
        assert answer.status == request["status"], request
        assert answer.type == request.get("type", answer.type), request
        assert answer.location == request.get("location"), request
        if "json" in request:
            assert json.loads(answer.body) == request["json"], request
        if "body" in request:
            assert answer.body.decode() == request["body"], request
        if "file" in request:
            assert answer.body == (PROJECTS / name / request["file"]).read_bytes(), request


def test_a_project_is_led_through_the_proxies(run: tuple[str, DockerRun]) -> None:
    name, running = run
    edge = yaml.safe_load((PROJECTS / name / "system.yaml").read_text(encoding="utf-8"))["edges"][0]
    caller, callee = edge.partition(":")[0].split(" -> ")
    networks = {service: set(running.inspect(service)["NetworkSettings"]["Networks"]) for service in (caller, callee)}

    assert not networks[caller] & networks[callee]
    assert "Accepted client" in docker("logs", running.container(PROXIES))


def test_with_nothing_injected_the_verdict_says_so(tmp_path: Path) -> None:
    path = tmp_path / "nothing.yaml"
    path.write_text(
        f"version: 1\nquestion: Does it answer?\nsystem: {PROJECTS / 'brochure'}\nfaults: []\n"
        "phases: {warmup: 1s, baseline: 5s, fault: 5s, recovery: 5s}\nexpect: [{error_rate: {max: 30%}}]\n",
        encoding="utf-8",
    )

    answer = run_on_docker(path, tmp_path / "reports")

    assert answer.code == 0, answer.out + answer.err
    assert "nothing was injected" in " ".join(answer.out.split()).lower()
    assert verdict_of(tmp_path / "reports")["word"] == "passed"
    assert kinds_of(only_folder(tmp_path / "reports"), "FaultBegan") == []
