"""A Docker engine that is reached over TCP, as GitLab's docker-in-docker or one on another machine.

A relay on a loopback address of its own stands for the other machine's: what the engine publishes there is reached there.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.errors import MissingPart
from harness.runtime.containers.engine import find_engine
from tests.end_to_end.chaos import evidence, outcomes, verdict_of
from tests.end_to_end.docker_rig import kinds_of, left_of, only_folder, run_on_docker, scenario_of, tiny_system

pytestmark = [pytest.mark.slow, pytest.mark.docker]

ELSEWHERE = "127.0.77.1"
DEFERRED = "[{id: deferred, fallback: without-back}]"
PHASES = "phases: {warmup: 1s, baseline: 6s, fault: 6s, recovery: 6s}"


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def relayed(path: str) -> Iterator[str]:
    """The address at which an engine's socket answers over TCP."""
    listener = socket.create_server((ELSEWHERE, 0))
    relays: list[threading.Thread] = []

    def relay(client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine:
            engine.connect(path)
            answers = threading.Thread(target=pass_on, args=(engine, client), daemon=True)
            answers.start()
            pass_on(client, engine)
            answers.join()

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                relays.append(threading.Thread(target=relay, args=(client,), daemon=True))
                relays[-1].start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"tcp://{ELSEWHERE}:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in relays:
            thread.join(10)


def socket_of_the_engine() -> str:
    try:
        host = find_engine(os.environ).host
    except MissingPart as missing:
        pytest.skip(str(missing))
    if not host.startswith("unix://"):
        pytest.skip(f"the engine is at {host} already")
    return host.removeprefix("unix://")


def test_a_run_on_an_engine_elsewhere_reaches_everything_under_its_hosts_name(tmp_path: Path) -> None:
    scenario = scenario_of(tiny_system(tmp_path), expect=DEFERRED, more=PHASES)
    with relayed(socket_of_the_engine()) as host:
        answer = run_on_docker(scenario, tmp_path / "reports", extra={"DOCKER_HOST": host})

    assert answer.code in (0, 3), answer.out + answer.err  # 3 where the machine was busy with other things
    assert host in answer.out
    verdict = verdict_of(tmp_path / "reports")
    shown = evidence(verdict)
    assert {shown[name] for name in ("set", "bit", "met", "healed")} == {"passed"}, verdict["evidence"]
    assert outcomes(verdict)["deferred"] != "failed"
    folder = only_folder(tmp_path / "reports")
    during = next(probe for probe in kinds_of(folder, "EdgeProbed") if probe["moment"] == "during")
    assert (during["outcome"] in ("reset", "closed"), during["detail"]) == (True, "by a detour")
    assert left_of(folder) == []


def test_an_engine_elsewhere_that_does_not_answer_is_told_with_its_address(tmp_path: Path) -> None:
    with socket.create_server((ELSEWHERE, 0)) as silent:
        host = f"tcp://{ELSEWHERE}:{silent.getsockname()[1]}"
        answer = run_on_docker(scenario_of(tiny_system(tmp_path)), tmp_path / "reports", extra={"DOCKER_HOST": host})

    assert answer.code == 5
    assert f"no Docker engine answers at {host}" in answer.err


def test_an_engine_behind_ssh_is_told_what_to_do(tmp_path: Path) -> None:
    scenario = scenario_of(tiny_system(tmp_path))
    answer = run_on_docker(scenario, tmp_path / "reports", extra={"DOCKER_HOST": "ssh://somebody@elsewhere"})

    assert answer.code == 5
    assert "unix:// or tcp://" in answer.err
