"""A system that stands on Docker, seen from inside its containers; and what is left of it when the run is ended in mid-fault."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.runtime.containers.removal import GUARDIAN_LABEL
from tests.end_to_end.chaos import chaos
from tests.end_to_end.docker_rig import (
    CONTROL_PORT,
    CUT,
    PROXIES,
    DockerRun,
    docker,
    everything,
    kinds_of,
    measured,
    of_project,
    python_image,
    scenario_of,
    seconds_until,
    seconds_until_nothing_is_left,
    tiny_system,
)

pytestmark = [pytest.mark.slow, pytest.mark.docker]

LONG = "phases: {warmup: 1s, baseline: 5s, fault: 300s, recovery: 5s}"
EXPECT = "[{error_rate: {journey: alone, max: 50%}}]"
VOLUMES = {
    "services": {"back": {"volumes": ["/anonymous", "named:/named"]}},
    "volumes": {"named": {}},
}

CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def ask(where):
    host, port, path = where
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n".encode())
            return connection.recv(4000).decode("utf-8", "replace") or "closed"
    except OSError as error:
        return f"error: {error}"

with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(ask, json.loads(sys.argv[1])))))
"""

RESOLVE = """
import json, socket, sys, time
began = time.monotonic()
try:
    found = socket.getaddrinfo(sys.argv[1], 80)[0][4][0]
except OSError as error:
    found = f"error: {error}"
print(json.dumps([found, time.monotonic() - began]))
"""

SINK = """
import socket
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(("0.0.0.0", 8125))
while True:
    print(sink.recv(100).decode(), flush=True)
"""

SEND = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"fired:1|c", ("metrics", 8125))
print("true")
"""

WAYS = """
import json, socket, struct
rows = [line.split() for line in open("/proc/net/route").read().splitlines()[1:]]
print(json.dumps([socket.inet_ntoa(struct.pack("<I", int(row[2], 16))) for row in rows if row[1] == "00000000"]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRun]:
    """A run in mid-fault: the edge from front to back is cut, that from front to unused is not."""
    folder = tmp_path_factory.mktemp("standing")
    running = DockerRun(scenario_of(tiny_system(folder, VOLUMES), CUT, EXPECT, LONG), folder / "reports")
    try:
        running.wait_for("FaultBegan")
        yield running
    finally:
        running.make_sure_it_is_over()


def ask(run: DockerRun, service: str, *where: tuple[str, int, str]) -> list[str]:
    answers: list[str] = run.python(service, CONNECT, json.dumps(where))
    return answers


def is_answer(text: str) -> bool:
    return text.startswith("HTTP/")


def networks_of(run: DockerRun, service: str) -> dict[str, dict[str, Any]]:
    networks: dict[str, dict[str, Any]] = run.inspect(service)["NetworkSettings"]["Networks"]
    return networks


def published(run: DockerRun, service: str) -> dict[str, list[dict[str, str]]]:
    return {port: hosts for port, hosts in run.inspect(service)["NetworkSettings"]["Ports"].items() if hosts}


@pytest.mark.parametrize("service", ["front", "back", "unused"])
def test_no_service_reaches_the_control_api_of_the_proxies_by_any_address(run: DockerRun, service: str) -> None:
    networks = networks_of(run, PROXIES)
    (control,) = published(run, PROXIES)[f"{CONTROL_PORT}/tcp"]
    hosts = {"back", "unused", "front", PROXIES, "localhost", "host.docker.internal"}
    hosts |= {network["IPAddress"] for network in networks.values()}
    gateways = {network["Gateway"] for network in networks.values()} | {
        network["Gateway"] for network in networks_of(run, service).values()
    }
    ways = [(host, CONTROL_PORT, "/version") for host in sorted(hosts | gateways)]
    ways += [(gateway, int(control["HostPort"]), "/version") for gateway in sorted(gateways)]
    assert len(gateways) >= 6

    found = dict(zip(ways, ask(run, service, *ways), strict=True))

    assert {way: answer for way, answer in found.items() if not answer.startswith("error")} == {}


def test_the_control_api_answers_the_host(run: DockerRun) -> None:
    (control,) = published(run, PROXIES)[f"{CONTROL_PORT}/tcp"]

    with socket.create_connection((control["HostIp"], int(control["HostPort"])), timeout=5) as connection:
        connection.sendall(b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n")

        assert b"2.12.0" in connection.recv(4000)


def test_ports_are_published_on_loopback_alone_and_by_the_proxies_alone(run: DockerRun) -> None:
    hosts = [host["HostIp"] for ports in published(run, PROXIES).values() for host in ports]

    assert set(hosts) == {"127.0.0.1"}
    assert [published(run, service) for service in ("front", "back", "unused")] == [{}, {}, {}]


def test_a_declared_edge_works_and_the_cut_one_does_not(run: DockerRun) -> None:
    open_edge, cut = ask(run, "front", ("unused", 8000, "/"), ("back", 8000, "/"))

    assert is_answer(open_edge)
    assert "refused" in cut


@pytest.mark.parametrize(("caller", "name"), [("back", "front"), ("unused", "back"), ("front", "example.invalid")])
def test_a_name_that_was_not_declared_fails_soon_and_is_told(run: DockerRun, caller: str, name: str) -> None:
    found, seconds = run.python(caller, RESOLVE, name)

    assert found.startswith("error")
    assert seconds < 1.5
    assert run.folder is not None
    told = {(event["service"], event["name"]) for event in kinds_of(run.folder, "NameUnknown")}
    assert (caller, name) in told


def test_a_callee_is_not_reached_past_its_proxy_by_its_address_either(run: DockerRun) -> None:
    addresses = [network["IPAddress"] for network in networks_of(run, "back").values()]

    answers = ask(run, "front", *((address, 8000, "/") for address in addresses))

    assert addresses
    assert not [answer for answer in answers if is_answer(answer)]


def test_a_caller_and_its_callee_are_on_no_network_together(run: DockerRun) -> None:
    front, back, proxies = (set(networks_of(run, service)) for service in ("front", "back", PROXIES))

    assert not front & back
    assert front & proxies
    assert back & proxies


def test_no_network_but_that_of_the_control_api_has_a_way_out(run: DockerRun) -> None:
    internal = {
        name: json.loads(docker("network", "inspect", name))[0]["Internal"] for name in of_project(run.project)["networks"]
    }

    assert [name for name, closed in internal.items() if not closed] == [f"{run.project}_chaos-control"]
    assert not [name for service in ("front", "back", "unused") for name in networks_of(run, service) if "control" in name]


def test_everything_of_the_run_is_labelled_with_it(run: DockerRun) -> None:
    named = {kind: {name for name in names if run.project in name} for kind, names in everything().items()}
    labelled = {kind: {line.split()[0] for line in lines} for kind, lines in of_project(run.project).items()}

    (guardian,) = docker("ps", "--filter", f"label={GUARDIAN_LABEL}={run.project}", "--format", "{{.Names}}").split()
    assert named["containers"] - labelled["containers"] == {guardian}
    assert named | {"containers": labelled["containers"]} == labelled
    assert len(labelled["containers"]) == 4
    assert labelled["volumes"] == {f"{run.project}_named"}


def test_a_callee_that_is_down_is_told_at_once_however_often_it_is_asked(run: DockerRun) -> None:
    docker("kill", run.container("unused"))
    began = time.monotonic()

    answers = ask(run, "front", *[("unused", 8000, "/")] * 100)

    assert time.monotonic() - began < 5  # nobody outside is asked for its name, which would take as long each time
    assert {answer for answer in answers if "timed out" in answer or is_answer(answer)} == set()
    assert run.wait_for("ServiceExited")["service"] == "unused"
    assert PROXIES not in {event["service"] for event in run.events() if event["event"] == "NameUnknown"}


def test_a_run_that_is_terminated_in_mid_fault_heals_and_leaves_nothing(run: DockerRun) -> None:
    assert run.folder is not None
    volumes = {mount["Name"] for mount in run.inspect("back")["Mounts"] if mount["Type"] == "volume"}
    assert len(volumes) == 2

    run.signal(signal.SIGTERM)
    code, out = run.end(within=60)

    assert code == 143, out
    assert kinds_of(run.folder, "FaultEnded")
    measured("until nothing was left after the end", seconds_until_nothing_is_left(run.folder))
    assert not volumes & everything()["volumes"]


WAYS_OUT = {
    "services": {
        "front": {"environment": {"METRICS": "udp://metrics:8125"}},
        "metrics": {
            "image": python_image(),
            "command": ["python3", "-u", "-c", SINK],
            "expose": ["8125/udp"],
        },
    },
}


@pytest.fixture(scope="module")
def open_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRun]:
    """A run of a system in which back needs the outside, and front sends its metrics by UDP."""
    folder = tmp_path_factory.mktemp("open")
    system = tiny_system(folder, WAYS_OUT, {"egress": ["back"]})
    running = DockerRun(scenario_of(system, CUT, EXPECT, LONG), folder / "reports")
    try:
        running.wait_for("FaultBegan")
        yield running
    finally:
        running.make_sure_it_is_over()


def test_a_service_that_needs_the_outside_has_a_way_out_and_nobody_else(open_run: DockerRun) -> None:
    networks = {service: networks_of(open_run, service) for service in ("front", "back", "unused", PROXIES)}
    (egress,) = [name for name in networks["back"] if "egress" in name]

    assert not json.loads(docker("network", "inspect", egress))[0]["Internal"]
    assert [service for service, found in networks.items() if egress in found] == ["back"]
    assert open_run.python("back", WAYS) == [networks["back"][egress]["Gateway"]]


def test_a_name_of_the_outside_is_asked_for_there_by_who_may_go_there(open_run: DockerRun) -> None:
    open_run.python("front", RESOLVE, "front.invalid")
    open_run.python("back", RESOLVE, "back.invalid")

    assert open_run.folder is not None
    told = {event["name"] for event in kinds_of(open_run.folder, "NameUnknown")}
    assert "front.invalid" in told
    assert "back.invalid" not in told


def test_a_sink_of_metrics_is_reached_without_a_proxy_and_stops_nobody(open_run: DockerRun) -> None:
    open_run.python("front", SEND)

    seconds_until(lambda: "fired:1|c" in docker("logs", open_run.container("metrics")), within=5)
    assert open_run.folder is not None
    (began,) = kinds_of(open_run.folder, "RunBegan")
    assert any("metrics" in warning and "UDP" in warning for warning in began["warnings"]), began["warnings"]


def test_of_a_harness_that_is_killed_in_mid_fault_nothing_is_left(open_run: DockerRun) -> None:
    assert open_run.folder is not None

    open_run.signal(signal.SIGKILL)
    open_run.end(within=10)

    measured("until nothing was left of a killed run", seconds_until_nothing_is_left(open_run.folder))
    (acted,) = kinds_of(open_run.folder, "GuardianActed")
    assert acted["failed"] == 0


def test_a_killed_run_is_judged_with_what_it_saw(open_run: DockerRun, tmp_path: Path) -> None:
    assert open_run.folder is not None

    answer = chaos("judge", str(open_run.folder), cwd=tmp_path)

    assert answer.code in (3, 5), answer.out + answer.err
    assert "RunBegan" in {event["event"] for event in open_run.events()}
