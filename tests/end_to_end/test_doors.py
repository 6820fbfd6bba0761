"""Nobody gets in: what listens, who may command it, and what of a scenario's text reaches a shell."""

from __future__ import annotations

import ast
import ipaddress
import json
import re
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.end_to_end.chaos import PROJECT, TINY, Running, chaos, scenario, started_by

CUT = "[{outage: {edge: front -> back}}]"
HOLDS = "[{fallback: without-back}]"
SHORT = "phases: {warmup: 1s, baseline: 6s, fault: 6s, recovery: 6s, drain: 1s}"


def listening() -> dict[str, tuple[str, int]]:
    """Every TCP socket of this machine that listens, by its inode."""
    found = {}
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                host, port = fields[1].split(":")
                found[fields[9]] = (_host(host, family), int(port, 16))
    return found


def _host(text: str, family: socket.AddressFamily) -> str:
    words = [bytes.fromhex(text[place : place + 8])[::-1] for place in range(0, len(text), 8)]
    return socket.inet_ntop(family, b"".join(words))


def family_of(pid: int) -> set[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening_of(pids: set[int]) -> set[tuple[str, int]]:
    """Where any of these processes listens."""
    there, found = listening(), set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inode = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
            except OSError:
                continue
            if inode and inode[1] in there:
                found.add(there[inode[1]])
    return found


def datagrams_outside(pids: set[int]) -> list[str]:
    """UDP sockets of these processes that are bound outside loopback and to nobody in particular."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(descriptor.readlink()))
            except OSError:
                continue
    return [
        line
        for name in ("udp", "udp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if f"socket:[{line.split()[9]}]" in inodes and line.split()[3] == "07" and not line.split()[1].startswith("0100007F")
    ]


@pytest.mark.slow
def test_a_whole_run_listens_on_loopback_alone_and_its_engine_takes_commands_from_the_harness_alone(tmp_path: Path) -> None:
    running = Running(["run", str(scenario(tmp_path, CUT, HOLDS, SHORT))], tmp_path / "reports")
    seen: set[tuple[str, int]] = set()
    asked: list[tuple[int, int]] = []
    udp: list[str] = []
    until = time.monotonic() + 90
    while running.process.poll() is None and time.monotonic() < until:
        pids = family_of(running.process.pid)
        if running.folder is not None and (running.folder / "undo.jsonl").exists():
            pids |= {pid for leader in started_by(running.folder) for pid in family_of(leader)}
            asked += _tried_to_heal(running.folder)
        seen |= listening_of(pids)
        udp += datagrams_outside(pids)
        time.sleep(0.25)
    running.end()

    assert len(seen) >= 6, seen  # the engine, its proxies, the services
    assert [place for place in seen if not ipaddress.ip_address(place[0]).is_loopback] == []
    assert udp == []
    assert {code for code, _ in asked} == {401}
    assert len(asked) > 10
    assert running.folder is not None
    ended = [event for event in running.events() if event["event"] == "FaultEnded"]
    assert len(ended) == 1
    assert "GuardianActed" not in {event["event"] for event in running.events()}


def _tried_to_heal(folder: Path) -> list[tuple[int, int]]:
    """What a service that found the engine's API is told when it tries to heal its own fault."""
    undo = [json.loads(line) for line in (folder / "undo.jsonl").read_text().splitlines() if line.endswith("}")]
    (control, *_) = [data["control"] for data in undo if data.get("undo") == "RestoreProxies"] or [""]
    if not control:
        return []
    try:
        answers = [requests.post(f"{control}/reset", timeout=2), requests.delete(f"{control}/proxies/x", timeout=2)]
    except requests.RequestException:
        return []
    return [(answer.status_code, number) for number, answer in enumerate(answers)]


@pytest.mark.slow
def test_a_harness_that_is_killed_is_healed_by_its_guardian_through_the_door(tmp_path: Path) -> None:
    running = Running(["run", str(scenario(tmp_path, CUT, HOLDS, SHORT))], tmp_path / "reports")
    running.wait_for("FaultBegan")

    running.signal(signal.SIGKILL)
    running.process.wait()
    running.process.communicate()
    until = time.monotonic() + 30
    while time.monotonic() < until and not [event for event in running.events() if event["event"] == "GuardianActed"]:
        time.sleep(0.1)

    undone = [event["undo"] for event in running.events() if event["event"] == "UndoDone"]
    assert any(undo.startswith("heal every proxy") for undo in undone)
    assert [event for event in running.events() if event["event"] == "UndoFailed"] == []
    assert running.folder is not None
    assert started_by(running.folder) == []


SHELL = [
    "; touch {mark}",
    "$(touch {mark})",
    "`touch {mark}`",
    "| touch {mark} #",
    "'; touch {mark} '",
    '"; touch {mark} "',
    "\n touch {mark}",
]


@pytest.mark.slow
@pytest.mark.parametrize("bite", SHELL)
def test_no_text_of_a_scenario_or_system_reaches_a_shell(tmp_path: Path, bite: str) -> None:
    mark = tmp_path / "mark"
    text = bite.format(mark=mark)
    system = tmp_path / "system"
    shutil.copytree(TINY, system)
    _bitten_everywhere(system, text)
    told = tmp_path / "bitten.yaml"
    told.write_text(
        json.dumps(
            {
                "version": 1,
                "question": text,
                "owner": text,
                "tags": [text],
                "system": str(system),
                "phases": {"warmup": "0s", "baseline": "5s", "fault": "5s", "recovery": "5s", "drain": "0s"},
                "faults": [{"outage": {"edge": "front -> back"}}],
                "expect": [{"fallback": "without-back"}],
                "defects": {"x": {"environment": {"front": {"DEFECT": text}}, "caught_by": "fallback-1"}},
            }
        )
    )

    answers = [
        chaos("validate", str(told)),
        chaos("plan", str(told), "--explain"),
        chaos(
            "run",
            str(told),
            "--env",
            f"front.X={text}",
            "--report-dir",
            str(tmp_path / "reports {}".format(text.strip().replace("/", "_"))),
        ),
    ]

    assert not mark.exists()
    assert {answer.code for answer in answers} <= {0, 1, 2, 3, 5}, answers
    assert [answer.err for answer in answers if "Traceback" in answer.err] == []


def _bitten_everywhere(system: Path, text: str) -> None:
    """The same system with a text of this kind in the place of every text that is not looked up."""
    data = (system / "system.yaml").read_text()
    command = json.dumps('{python} -c "import sys; sys.exit(sys.argv[1])" ' + text.replace("\n", " "))
    data = re.sub(r'command: "[^"]*"', lambda _: f"command: {command}", data, count=1)
    data = data.replace("equals: without-back", f"equals: {json.dumps(text)}")
    (system / "system.yaml").write_text(data)
    compose = (
        (system / "compose.yaml").read_text().replace('FALLS_BACK: "yes"', f"FALLS_BACK: {json.dumps(text.replace('$', '$$'))}")
    )
    (system / "compose.yaml").write_text(compose)


ALLOWED_SHELLS = {
    "harness/model/compose_reading.py": "a health check that the Compose file writes as a shell's own line (CMD-SHELL)",
    "harness/model/compose_config.py": "the same, as Compose itself read it",
    "harness/runtime/containers/deeds.py": "kill -9 of a number, in a container of the harness's own",
}


def test_nothing_in_the_package_starts_a_shell_but_where_that_is_said() -> None:
    found: dict[str, list[Any]] = {}
    for path in (PROJECT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                found.setdefault(str(path.relative_to(PROJECT)), []).append("shell=")
            if isinstance(node, ast.Attribute) and node.attr in ("system", "popen", "getoutput", "getstatusoutput"):
                named = isinstance(node.value, ast.Name) and node.value.id in ("os", "subprocess", "commands")
                found.setdefault(str(path.relative_to(PROJECT)), []).extend([node.attr] if named else [])
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"(/bin/)?(ba|da|z)?sh", node.value)
            ):
                found.setdefault(str(path.relative_to(PROJECT)), []).append(node.value)

    assert {path for path, what in found.items() if what} <= set(ALLOWED_SHELLS)
