"""Whole runs of a tiny system: verdicts, exit codes, what a run leaves on disk, and that it leaves nothing else."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.end_to_end.chaos import (
    TINY,
    Answer,
    Running,
    chaos,
    events_of,
    evidence,
    outcomes,
    processes_mentioning,
    scenario,
    start_of,
    started_by,
    verdict_of,
)

CUT = "[outage: {edge: front -> back}]"
DEFERRED = "[{id: deferred, fallback: without-back}, {id: recovered, recovery: {within: 4s, hold: 3s}}]"
SHORT = "phases: {warmup: 1s, baseline: 5s, fault: 6s, recovery: 8s}"


def run(folder: Path, path: Path, *more: str) -> Answer:
    return chaos("run", str(path), "--report-dir", str(folder / "reports"), *more)


def folder_of(reports: Path) -> Path:
    (path,) = reports.glob("*/2*")
    return path


def nothing_is_left_of(folder: Path) -> bool:
    """No process that the run's journal names, and no temporary folder of it."""
    removed = [json.loads(line).get("path") for line in (folder / "undo.jsonl").read_text(encoding="utf-8").splitlines()]
    folders = [Path(path) for path in removed if path]
    return not started_by(folder) and not any(path.exists() for path in folders)


@pytest.mark.alone
def test_a_run_that_holds_is_passed_and_can_be_judged_again_to_the_same_byte(tmp_path: Path) -> None:
    path = scenario(tmp_path, CUT, DEFERRED, SHORT)

    answer = run(tmp_path, path, "--junit-xml", str(tmp_path / "junit.xml"))

    folder = folder_of(tmp_path / "reports")
    assert answer.code == 0, answer.out + answer.err
    assert "PASSED" in answer.out
    assert set(evidence(verdict_of(tmp_path / "reports")).values()) == {"passed"}
    assert nothing_is_left_of(folder)
    assert (tmp_path / "reports" / "drawn_up" / "latest").resolve() == folder
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("0", "0", "0")
    assert int(suite.get("tests", "0")) == 3

    written = {name: (folder / name).read_bytes() for name in ("verdict.json", "report.html", "junit.xml", "summary.md")}
    elsewhere = tmp_path / "elsewhere"
    shutil.move(folder, elsewhere)
    assert chaos("judge", str(elsewhere)).code == 0
    assert (elsewhere / "verdict.json").read_bytes() == written["verdict.json"]
    assert len(written["report.html"]) < 500_000


@pytest.mark.alone
@pytest.mark.slow
def test_a_service_that_is_paused_is_shown_to_be_and_goes_on(tmp_path: Path) -> None:
    expect = "[{error_rate: {journey: alone, during: pause-1, max: 40%}}, {error_rate: {during: recovery, max: 10%}}]"
    path = scenario(tmp_path, "[pause: {service: back}]", expect, "phases: {warmup: 1s, baseline: 5s, fault: 5s, recovery: 6s}")

    answer = run(tmp_path, path, "--runtime", "local")

    folder = folder_of(tmp_path / "reports")
    verdict = verdict_of(tmp_path / "reports")
    assert answer.code == 0, answer.out + answer.err
    assert set(evidence(verdict).values()) == {"passed"}
    changes = [(event["service"], event["what"]) for event in events_of(folder) if event["event"] == "ServiceChanged"]
    assert changes == [("back", "pause"), ("back", "unpause")]
    assert nothing_is_left_of(folder)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("deed", ["kill", pytest.param("restart", marks=pytest.mark.nightly)])
def test_a_service_that_is_taken_down_is_shown_to_be_and_comes_back(tmp_path: Path, deed: str) -> None:
    expect = "[{recovery: {within: 4s, hold: 3s}}, {error_rate: {journey: alone, max: 5%}}]"
    path = scenario(tmp_path, f"[{deed}: {{service: back}}]", expect, SHORT)

    answer = run(tmp_path, path, "--runtime", "local")

    folder = folder_of(tmp_path / "reports")
    assert answer.code == 0, answer.out + answer.err
    assert set(evidence(verdict_of(tmp_path / "reports")).values()) == {"passed"}
    assert not [event for event in events_of(folder) if event["event"] == "ServiceExited"]
    assert nothing_is_left_of(folder)


@pytest.mark.slow
def test_an_interrupt_while_a_service_is_paused_leaves_nothing(tmp_path: Path) -> None:
    path = scenario(tmp_path, "[pause: {service: back}]", "[{error_rate: {max: 50%}}]", "phases: {fault: 60s}")
    running = Running(["run", str(path), "--runtime", "local"], tmp_path / "reports")
    running.wait_for("FaultBegan")

    running.signal(signal.SIGINT)
    code, out = running.end()

    assert code == 130, out
    assert [event["service"] for event in running.events() if event["event"] == "FaultEnded"] == ["back"]
    assert nothing_is_left_of(folder_of(tmp_path / "reports"))


@pytest.mark.alone
@pytest.mark.slow
def test_the_twin_of_a_fault_on_a_service_in_which_it_is_withheld_is_inconclusive(tmp_path: Path) -> None:
    path = scenario(tmp_path, "[kill: {service: back}]", "[{id: alone, error_rate: {journey: alone, max: 5%}}]", SHORT)

    answer = chaos("prove", str(path), "--runtime", "local", "--only", "no fault", "--report-dir", str(tmp_path), "--json")

    (trial,) = json.loads(answer.out)["trials"]
    assert (trial["trial"], trial["was"]) == ("no fault", "inconclusive")
    assert answer.code == 0, answer.err


@pytest.mark.nightly
def test_a_scenario_is_proven_clean_on_its_defect_and_on_its_twins(tmp_path: Path) -> None:
    answer = chaos("prove", str(TINY / "back_down.yaml"), "--report-dir", str(tmp_path), "--json")

    trials = {trial["trial"]: trial for trial in json.loads(answer.out)["trials"]}
    assert {name: trial["was"] for name, trial in trials.items()} == {
        "clean": "passed",
        "no_fallback": "failed by contained, deferred",
        "no fault": "inconclusive",
        "not applied": "inconclusive",
        "wrong edge": "inconclusive",
        "entry cut": "failed by contained, deferred",
    }
    assert answer.code == 0


@pytest.mark.alone
@pytest.mark.slow
def test_a_fault_on_an_edge_that_nobody_uses_is_inconclusive(tmp_path: Path) -> None:
    path = scenario(tmp_path, "[outage: {edge: front -> unused}]", "[recovery: {within: 4s, hold: 3s}]", SHORT)

    answer = run(tmp_path, path)

    verdict = verdict_of(tmp_path / "reports")
    assert answer.code == 3
    assert [name for name, outcome in evidence(verdict).items() if outcome != "passed"] == ["met"]
    assert set(outcomes(verdict).values()) == {"inconclusive"}
    assert (
        "nothing met the fault on edge front -> unused" in answer.out.replace("\n", " ").replace("  ", " ")
        or "unused" in answer.out
    )


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize(("options", "code"), [([], 3), (["--strict"], 1)], ids=["", "strict"])
def test_nothing_is_injected_into_a_baseline_that_is_not_healthy(tmp_path: Path, options: list[str], code: int) -> None:
    path = scenario(
        tmp_path, CUT, "[recovery: {within: 4s, hold: 3s}]", SHORT + "\nsteady_state: [{response_time: {p50: {max: 1us}}}]"
    )

    answer = run(tmp_path, path, "--junit-xml", str(tmp_path / "junit.xml"), *options)

    folder = folder_of(tmp_path / "reports")
    kinds = [event["event"] for event in events_of(folder)]
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert answer.code == code
    assert (int(suite.get("failures", "0")) > 0) == (code == 1)
    assert "RunHalted" in kinds
    assert "FaultBegan" not in kinds
    assert nothing_is_left_of(folder)


def broken_system(folder: Path, service: str, command: str) -> Path:
    """The tiny system with one command replaced."""
    for name in ("compose.yaml", "locustfile.py", "service.py"):
        (folder / name).write_text((TINY / name).read_text(encoding="utf-8"), encoding="utf-8")
    lines = (TINY / "system.yaml").read_text(encoding="utf-8").splitlines()
    changed = [f'  {service}: {{command: "{command}"}}' if line.startswith(f"  {service}: {{") else line for line in lines]
    (folder / "system.yaml").write_text("\n".join(changed), encoding="utf-8")
    path = scenario(folder, CUT, DEFERRED, SHORT)
    path.write_text(path.read_text(encoding="utf-8").replace(str(TINY), "."), encoding="utf-8")
    return path


def test_a_service_that_ends_at_boot_ends_the_run_with_5_and_its_last_words(tmp_path: Path) -> None:
    path = broken_system(tmp_path, "back", "{python} service.py {host} {port} fails-at-boot")

    answer = run(tmp_path, path)

    assert answer.code == 5
    assert "back" in answer.out
    assert "the last words of a service that fails at boot" in answer.out
    assert "Traceback" not in answer.out + answer.err
    assert nothing_is_left_of(folder_of(tmp_path / "reports"))


def test_a_program_that_is_not_there_ends_the_run_with_5_and_the_remedy(tmp_path: Path) -> None:
    answer = run(tmp_path, broken_system(tmp_path, "back", "no-such-program {host} {port}"))

    assert answer.code == 5
    assert "no-such-program" in answer.out
    assert "install it, or mend the command" in " ".join(answer.out.split())


@pytest.mark.parametrize(
    ("content", "told"),
    [("import nothing_of_this_name\n", "ModuleNotFoundError"), ("x = 1\n", "expected a class that inherits from HttpUser")],
    ids=["does not import", "defines no user"],
)
def test_a_locustfile_that_cannot_be_used_ends_the_run_with_2(tmp_path: Path, content: str, told: str) -> None:
    path = broken_system(tmp_path, "none", "")
    (tmp_path / "locustfile.py").write_text(content, encoding="utf-8")

    answer = run(tmp_path, path)

    assert answer.code == 2
    assert told in answer.err
    assert nothing_is_left_of(folder_of(tmp_path / "reports"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_an_interrupt_in_mid_fault_heals_takes_everything_down_and_keeps_what_was_seen(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    running = Running(["run", str(scenario(tmp_path, CUT, DEFERRED, SHORT))], tmp_path / "reports")
    running.wait_for("EdgeProbed", moment="during")

    asked = time.time()
    running.signal(number)
    running.signal(number)
    ended, out = running.end()

    folder = folder_of(tmp_path / "reports")
    healed = next(event for event in events_of(folder) if event["event"] == "FaultEnded")
    assert ended == code
    assert healed["at"] - asked < 5
    assert healed["found"] == {"enabled": True, "toxics": []}
    assert "INTERRUPTED" in out
    assert verdict_of(tmp_path / "reports")["word"] == "interrupted"
    assert nothing_is_left_of(folder)


def test_an_interrupt_while_the_system_comes_up_leaves_nothing(tmp_path: Path) -> None:
    path = broken_system(tmp_path, "back", "{python} -c 'import time; time.sleep(60)'")
    running = Running(["run", str(path)], tmp_path / "reports")
    running.wait_for("ServiceStarted", service="back")

    running.signal(signal.SIGINT)
    ended, _ = running.end()

    assert ended == 130
    assert nothing_is_left_of(folder_of(tmp_path / "reports"))


def test_a_harness_that_is_killed_in_mid_fault_leaves_nothing_and_its_run_can_be_judged(tmp_path: Path) -> None:
    running = Running(["run", str(scenario(tmp_path, CUT, DEFERRED, SHORT))], tmp_path / "reports")
    running.wait_for("EdgeProbed", moment="during")

    running.process.kill()
    running.end()

    folder = folder_of(tmp_path / "reports")
    until = time.monotonic() + 10
    while time.monotonic() < until and not any(event["event"] == "GuardianActed" for event in events_of(folder)):
        time.sleep(0.1)
    acted = next(event for event in events_of(folder) if event["event"] == "GuardianActed")
    assert acted["failed"] == 0
    assert nothing_is_left_of(folder)
    answer = chaos("judge", str(folder))
    assert answer.code != 0
    assert "Traceback" not in answer.err


@pytest.mark.alone
@pytest.mark.slow
def test_a_service_that_dies_in_the_baseline_is_named_and_never_passed(tmp_path: Path) -> None:
    running = Running(["run", str(scenario(tmp_path, CUT, DEFERRED, SHORT))], tmp_path / "reports")
    running.wait_for("PhaseBegan", phase="baseline")
    folder = running.folder
    assert folder is not None

    back = next(event for event in events_of(folder) if event["event"] == "ServiceStarted" and event["service"] == "back")
    assert start_of(back["pid"]) is not None
    subprocess.run(["kill", "-9", str(back["pid"])], check=True)
    ended, out = running.end(60)

    assert ended in (3, 5)
    assert "back" in out
    assert "SIGKILL" in out


@pytest.mark.slow
def test_two_runs_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    path = scenario(tmp_path, CUT, DEFERRED, SHORT)
    one = Running(["run", str(path)], tmp_path / "one")
    other = Running(["run", str(path)], tmp_path / "other")

    ends = [one.end(90), other.end(90)]

    addresses = [
        {event["address"] for event in events_of(folder_of(tmp_path / name)) if event["event"] == "ServiceStarted"}
        for name in ("one", "other")
    ]
    assert not addresses[0] & addresses[1]
    assert {code for code, _ in ends} <= {0, 3}, ends
    for name in ("one", "other"):
        assert evidence(verdict_of(tmp_path / name))["met"] == "passed"
        assert nothing_is_left_of(folder_of(tmp_path / name))


def test_nothing_of_a_run_listens_beyond_loopback(tmp_path: Path) -> None:
    running = Running(["run", str(scenario(tmp_path, CUT, DEFERRED, SHORT))], tmp_path / "reports")
    running.wait_for("LoadBegan")
    folder = running.folder
    assert folder is not None

    inodes = {inode for pid in started_by(folder) for inode in sockets_of(pid)}
    listening = {address for address, inode in listeners() if inode in inodes}
    running.signal(signal.SIGINT)
    running.end()

    assert len(listening) > 5
    assert {address.split(".")[0] for address in listening} == {"127"}


def sockets_of(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            found.add(str(path.readlink()))
        except OSError:
            continue
    return {name.removeprefix("socket:[").removesuffix("]") for name in found if name.startswith("socket:[")}


def listeners() -> list[tuple[str, str]]:
    """Address and inode of every listening TCP socket; IPv6 ones as they are written."""
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                host = fields[1].split(":")[0]
                shown = ".".join(str(int(host[index : index + 2], 16)) for index in (6, 4, 2, 0)) if len(host) == 8 else host
                found.append((shown, fields[9]))
    return found


@pytest.mark.alone
@pytest.mark.slow
def test_without_a_fault_a_run_passes_and_says_that_nothing_was_injected(tmp_path: Path) -> None:
    answer = run(tmp_path, scenario(tmp_path, "[]", "[error_rate: {max: 5%}]", SHORT), "--json")

    verdict = json.loads(answer.out)
    assert answer.code == 0, answer.out
    assert verdict["version"] == 1
    assert "nothing was injected" in verdict["sentence"].lower()
    assert processes_mentioning(str(tmp_path)) == []
