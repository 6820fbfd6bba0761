"""What goes wrong before a system stands on Docker: the exit code, a message that says what to do, and nothing left."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.chaos import Answer
from tests.end_to_end.docker_rig import (
    DockerRun,
    built_system,
    docker,
    kinds_of,
    left_of,
    only_folder,
    programs_before,
    python_image,
    run_on_docker,
    scenario_of,
    tiny_system,
)

pytestmark = [pytest.mark.slow, pytest.mark.docker]

COULD_NOT_RUN = 5
INVALID = 2
DOCKER = shutil.which("docker") or "docker"


@dataclass(frozen=True)
class Failing:
    """A system that does not come up, and what has to be told of it."""

    compose: Mapping[str, Any]
    told: tuple[str, ...]
    files: Mapping[str, str] | None = None
    extra: Mapping[str, str] | None = None


def service(name: str, **keys: Any) -> dict[str, Any]:
    return {"services": {name: keys}}


SICK = {
    "test": ["CMD", "python3", "-c", "raise SystemExit('the heart does not beat')"],
    "interval": "200ms",
    "timeout": "5s",
    "retries": 2,
}
FAILS = ["python3", "-u", "/service.py", "0.0.0.0", "8000", "fails-at-boot"]
LAST_WORDS = "the last words of a service that fails at boot"

FAILING = {
    "a service that exits at boot": Failing(
        service("back", command=FAILS),
        ("service back did not come up", "exit code 1", LAST_WORDS),
    ),
    "a service that exits at boot and that others wait for": Failing(
        {
            "services": {
                "back": {"command": FAILS},
                "front": {"depends_on": {"back": {"condition": "service_completed_successfully"}}},
            }
        },
        ("service back did not come up", "exit code 1", LAST_WORDS),
    ),
    "a command that is not there": Failing(
        service("back", command=["no-such-program"]),
        ("back", "no-such-program"),
    ),
    "a health check that never succeeds": Failing(
        service("back", healthcheck=SICK),
        ("service back did not come up", "unhealthy", "health check: the heart does not beat"),
    ),
    "a health check that never succeeds and that others wait for": Failing(
        {
            "services": {
                "back": {"healthcheck": SICK},
                "front": {"depends_on": {"back": {"condition": "service_healthy"}}},
            }
        },
        ("service back did not come up", "unhealthy", "health check: the heart does not beat"),
    ),
    "an image that is nowhere": Failing(
        service("back", image="localhost:1/chaos-harness/nowhere:1"),
        ("an image could not be had: localhost:1/chaos-harness/nowhere:1 of back", "connection refused", "--runtime local"),
    ),
    "proxies whose image is nowhere": Failing(
        {},
        ("an image could not be had: localhost:1/toxiproxy:2.12.0 of chaos-proxies", "TOXIPROXY_IMAGE"),
        extra={"TOXIPROXY_IMAGE": "localhost:1/toxiproxy:2.12.0"},
    ),
    "an image whose base is nowhere": Failing(
        service("back", image="chaos-harness/baseless", build={"context": ".", "dockerfile": "Baseless"}),
        ("an image could not be had: localhost:1/base:1, the base of back", "scripts/offline-images"),
        files={"Baseless": "FROM localhost:1/base:1\n"},
    ),
    "an image that cannot be built": Failing(
        service("back", image="chaos-harness/broken", build={"context": ".", "dockerfile": "Broken"}),
        ("an image could not be built", "the compiler is on holiday"),
        files={"Broken": f"FROM {python_image()}\nRUN echo the compiler is on holiday && exit 3\n"},
    ),
    "a Dockerfile that is not there": Failing(
        service("back", image="chaos-harness/broken", build={"context": ".", "dockerfile": "Nowhere"}),
        ("an image could not be built", "Nowhere"),
    ),
    "an image of the proxies that holds no proxies": Failing(
        {},
        ("chaos-proxies", "did not come up"),
        extra={"TOXIPROXY_IMAGE": python_image()},
    ),
}


@pytest.mark.parametrize("what", FAILING)
def test_what_does_not_come_up_is_told_with_the_reason_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    failing = FAILING[what]
    system = tiny_system(tmp_path, failing.compose)
    for name, text in (failing.files or {}).items():
        (system / name).write_text(text, encoding="utf-8")

    answer = run_on_docker(scenario_of(system), tmp_path / "reports", extra=failing.extra)

    assert answer.code == COULD_NOT_RUN, answer.out + answer.err
    text = flat(answer)
    assert [word for word in failing.told if word not in text] == [], answer.out + answer.err
    assert "Traceback" not in text
    folder = only_folder(tmp_path / "reports")
    assert left_of(folder) == []
    (failed,) = kinds_of(folder, "RunFailed")
    assert not failed["defect"]


def flat(answer: Answer) -> str:
    """What was printed, without the line breaks that a terminal makes."""
    return " ".join((answer.out + answer.err).split())


def test_a_compose_file_that_is_invalid_is_told_before_anything_is_done(tmp_path: Path) -> None:
    system = tiny_system(tmp_path, service("back", imagge="misspelt"))

    answer = run_on_docker(scenario_of(system), tmp_path / "reports")

    assert answer.code == INVALID, answer.out + answer.err
    assert "compose.yaml" in flat(answer)
    assert "imagge" in flat(answer)
    assert not (tmp_path / "reports").exists()


# no engine, no Compose

AWAY = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


def test_an_engine_that_is_away_is_told_where_docker_was_asked_for(tmp_path: Path) -> None:
    answer = run_on_docker(scenario_of(tiny_system(tmp_path)), tmp_path / "reports", extra=AWAY)

    assert answer.code == COULD_NOT_RUN
    assert "--runtime docker: no Docker engine answers at unix:///nonexistent/docker.sock" in flat(answer)
    assert "no such file" in flat(answer)


def test_an_engine_that_refuses_is_told(tmp_path: Path) -> None:
    host = {"DOCKER_HOST": "tcp://127.0.0.1:1"}

    answer = run_on_docker(scenario_of(tiny_system(tmp_path)), tmp_path / "reports", extra=host)

    assert answer.code == COULD_NOT_RUN
    assert "no Docker engine answers at tcp://127.0.0.1:1 (connection refused)" in flat(answer)


def test_without_an_engine_auto_takes_local_processes_and_says_why(tmp_path: Path) -> None:
    path = scenario_of(built_system(tmp_path))
    run = DockerRun(path, tmp_path / "reports", AWAY, runtime="auto")
    try:
        began = run.wait_for("RunBegan")
        run.wait_for("SystemReady")
        run.signal(signal.SIGTERM)
        code, out = run.end()
    finally:
        run.make_sure_it_is_over()

    assert code == 143, out
    assert began["runtime"] == "local"
    assert "no Docker engine answers at unix:///nonexistent/docker.sock" in began["reason"]
    assert "local" in out.splitlines()[0]
    assert began["reason"][:40] in " ".join(out.split())


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo docker: \"'compose' is not a docker command\" >&2; exit 1", "install docker-compose-plugin"),
        ("echo 2.10.2", "docker compose 2.23.1 or newer, found 2.10.2"),
        ("echo v1.29.2", "docker compose 2.23.1 or newer, found v1.29.2"),
    ],
)
def test_a_compose_that_is_missing_or_too_old_is_told_with_what_to_do(tmp_path: Path, script: str, told: str) -> None:
    fake = programs_before(tmp_path / "bin", {"docker": f'[ "$1" = compose ] || exec {DOCKER} "$@"\n{script}'})

    answer = run_on_docker(scenario_of(tiny_system(tmp_path)), tmp_path / "reports", extra=fake)

    assert answer.code == COULD_NOT_RUN
    assert told in flat(answer)


def test_a_docker_command_line_that_is_missing_is_told(tmp_path: Path) -> None:
    answer = run_on_docker(scenario_of(tiny_system(tmp_path)), tmp_path / "reports", extra={"PATH": str(tmp_path)})

    assert answer.code == COULD_NOT_RUN
    assert "found no docker on the PATH" in flat(answer)


# what was free when it was looked for, and is not any more

TAKE_A_PORT = """
import json, os, socket, sys
model = json.load(open(sys.argv[1]))
port = model["services"]["chaos-proxies"]["ports"][0]
taken = socket.create_server((port["host_ip"], int(port["published"])))
print(port["published"], flush=True)
if os.fork() == 0:
    os.close(1)
    import time
    time.sleep(30)
"""

TAKE_A_SUBNET = """
import json, subprocess, sys
model = json.load(open(sys.argv[1]))
subnet = model["networks"]["edge-front-back"]["ipam"]["config"][0]["subnet"]
subprocess.run([sys.argv[2], "network", "create", "--subnet", subnet, sys.argv[3]], check=True, stdout=subprocess.DEVNULL)
print(subnet)
"""


@pytest.fixture
def network() -> Iterator[str]:
    """The name of a network that is in the way."""
    name = "docker-suite-in-the-way"
    yield name
    docker("network", "rm", name)


def taking(folder: Path, program: str, *arguments: str) -> dict[str, str]:
    """A `docker` that has something taken right before the first `up`."""
    (folder / "take.py").write_text(program, encoding="utf-8")
    took = folder / "took"
    script = f"""
case " $* " in *" up "*)
    if [ ! -e {took} ]; then
        model=$(echo "$*" | sed 's/.* -f \\([^ ]*\\) .*/\\1/')
        {sys.executable} {folder}/take.py "$model" {" ".join(arguments)} > {took} 2>&1
    fi
esac
exec {DOCKER} "$@"
"""
    return programs_before(folder / "bin", {"docker": script})


def brought_up_all_the_same(tmp_path: Path, extra: Mapping[str, str]) -> str:
    """Bring a system up while something is taken; what was taken."""
    run = DockerRun(scenario_of(tiny_system(tmp_path)), tmp_path / "reports", extra)
    try:
        run.wait_for("SystemReady")
        run.signal(signal.SIGTERM)
        code, out = run.end()
    finally:
        run.make_sure_it_is_over()
    assert code == 143, out
    assert run.folder is not None
    assert left_of(run.folder) == []
    return (tmp_path / "took").read_text(encoding="utf-8").strip()


def test_a_port_that_is_taken_meanwhile_is_replaced_by_another(tmp_path: Path) -> None:
    took = brought_up_all_the_same(tmp_path, taking(tmp_path, TAKE_A_PORT))

    assert took.isdigit()
    log = (only_folder(tmp_path / "reports") / "logs" / "compose.log").read_text(encoding="utf-8")
    assert took in log


def test_addresses_that_are_taken_meanwhile_are_replaced_by_others(tmp_path: Path, network: str) -> None:
    took = brought_up_all_the_same(tmp_path, taking(tmp_path, TAKE_A_SUBNET, DOCKER, network))

    assert took.endswith("/28")
    log = (only_folder(tmp_path / "reports") / "logs" / "compose.log").read_text(encoding="utf-8")
    assert "overlaps" in log
