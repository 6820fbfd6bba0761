"""What is wrong with a file is told all at once, each with its place and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InvalidFile
from harness.model.resolving import resolve
from harness.model.runnable import check_runs_locally
from tests.systems import COMPOSE, SCENARIO, SYSTEM, write_system


def problems_of(path: Path) -> list[str]:
    with pytest.raises(InvalidFile) as raised:
        resolve(path, environ={})
    return [str(problem).removeprefix(f"{path.parent}/") for problem in raised.value.problems]


def test_every_problem_of_a_scenario_is_told_at_once(tmp_path: Path) -> None:
    path = write_system(
        tmp_path,
        scenario="""\
version: 1
question: Q?
sytem: .
faults:
  - outage: {service: shiping, mode: hangs}
    at: 5
  - latency: {edge: order -> shipping}
  - {}
expect:
  - recovery: {within: 10}
  - error_rate: {max: 150%}
""",
    )

    assert problems_of(path) == [
        "scenario.yaml:1:1: expected the key 'system', found none",
        "scenario.yaml:3:1: expected a key that is known here, found 'sytem'; did you mean 'system'?",
        "scenario.yaml:5:38: expected 'refuse', 'reset', 'hang', 'close' or 'unreachable', found 'hangs'; did you mean 'hang'?",
        "scenario.yaml:6:9: expected a duration with its unit, such as 250ms, 30s or 5m, found 5",
        "scenario.yaml:7:14: expected the key 'latency', found none",
        "scenario.yaml:8:5: expected exactly one fault, found an empty mapping; there is outage, latency, bandwidth, slow_close, timeout, reset_peer, slicer, limit_data, flaky, flap, lost_reply, http_error, http_delay, http_corrupt, partition, isolate, kill, stop, restart, pause, crash, crash_loop, scale, disconnect, cpu, memory (chaos faults tells what each does)",
        "scenario.yaml:10:24: expected a duration with its unit, such as 250ms, 30s or 5m, found 10",
        "scenario.yaml:11:23: expected a share between 0% and 100%, found '150%'",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "service: shipping",
            "service: shiping",
            "5:23: expected a service of the system, found 'shiping'; did you mean 'shipping'?",
        ),
        (
            "service: shipping",
            "edge: order -> shiping",
            "5:20: expected an edge of the system, found 'order -> shiping'; did you mean 'order -> shipping'?",
        ),
        (
            "[place order]",
            "[place ordr]",
            "7:34: expected a journey of the system, found 'place ordr'; did you mean 'place order'?",
        ),
        (
            "shipping-deferred",
            "shipping-defered",
            "8:15: expected a fallback of the system, found 'shipping-defered'; did you mean 'shipping-deferred'?",
        ),
        (
            "recovery: {within: 10s}",
            "invariant: every order is shiped",
            "9:16: expected an invariant of the system, found 'every order is shiped'; did you mean 'every order is shipped'?",
        ),
        (
            "recovery: {within: 10s}",
            "recovery: {within: 10s, wihtin: 5s}",
            "9:29: expected a key that is known here, found 'wihtin'; did you mean 'within'?",
        ),
        (
            "service: shipping",
            "service: gateway, edge: x",
            "5:13: expected exactly one of the keys edge, service and from, found the keys service, edge",
        ),
        (
            "service: shipping",
            "from: shipping",
            "5:13: expected a fault that strikes at least one edge of the system, found that it strikes none",
        ),
        (
            "system: .",
            "system: ./nowhere",
            "3:9: expected a folder with a system.yaml in it, or such a file, found none at {folder}/nowhere",
        ),
        (
            "recovery: {within: 10s}",
            "invariant: {name: every order is shipped, within: 12s}",
            "9:16: expected within and hold to fit into the drain, found a drain of 15s for a hold of 5s within 12s",
        ),
        ("version: 1", "version: 2", "1:10: expected 1, found 2"),
        (
            "version: 1",
            "phases: {fault: 3s}\nversion: 1",
            "1:17: expected a phase of at least 5s (2s at each end are not judged), found 3s",
        ),
        (
            "faults:",
            "load: {users: 5, rate: 3/s}\nfaults:",
            "4:7: expected either rate (with max_users) for the open model, or users for the closed one, found both",
        ),
        (
            "  - outage: {service: shipping}",
            "  - {outage: {service: shipping}, at: 15s, for: 10s}",
            "5:5: expected a fault within the fault phase of 20s, found one from 15s to 25s",
        ),
        (
            "expect:",
            "defects: {d: {environment: {order: {X: y}}, caught_by: nobody}}\nexpect:",
            "6:56: expected the id of an expectation or of a stop condition, found 'nobody'; there is blast_radius-1, fallback-1, recovery-1",
        ),
        ("version: 1", "verson: 1", "1:1: expected a key that is known here, found 'verson'; did you mean 'version'?"),
    ],
)
def test_a_wrong_word_is_told_with_the_right_one(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = write_system(tmp_path, scenario=SCENARIO.replace(old, new, 1))

    assert f"scenario.yaml:{told.format(folder=tmp_path)}" in problems_of(path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "entry: gateway",
            "entry: gatway",
            "system.yaml:3:8: expected a service of the Compose file, found 'gatway'; did you mean 'gateway'?",
        ),
        (
            "for: order -> shipping",
            "for: order -> shippin",
            "system.yaml:10:10: expected an edge of the system, found 'order -> shippin'; did you mean 'order -> shipping'?",
        ),
        (
            "journeys: [place order]",
            "journeys: [order]",
            "system.yaml:11:16: expected one of journeys:, found 'order'; did you mean 'place order'?",
        ),
        ("file: paid.sql", "file: paied.sql", None),
        (
            "  redis: {provided",
            "  rediss: {provided",
            "system.yaml:17:3: expected a service of the Compose file, found 'rediss'; did you mean 'redis'?",
        ),
        (
            "load: {rate: 60/s}",
            "load: {rate: 60/s, locustfile: no.py}",
            "system.yaml:4:32: expected a locustfile, found no such file: {folder}/no.py",
        ),
        (
            "compose: compose.yaml",
            "compose: compos.yaml",
            "compos.yaml: expected a Compose file, found no such file; did you mean compose.yaml?",
        ),
        (
            "provided: redis",
            "provided: redis, command: x",
            "system.yaml:17:10: expected exactly one of provided and command, found the keys provided, command",
        ),
        (
            "load: {rate: 60/s}",
            "edges: [order -> nobody]",
            "system.yaml:4:9: expected a service of the Compose file, found 'nobody'; there is gateway, order, postgres, redis, shipping",
        ),
        (
            "load: {rate: 60/s}",
            "edges: [order to shipping]",
            "system.yaml:4:9: expected an edge such as 'order -> redis:6379', found 'order to shipping'",
        ),
    ],
)
def test_a_problem_of_the_system_is_told_with_its_place_there(tmp_path: Path, old: str, new: str, told: str | None) -> None:
    scenario = SCENARIO + "  - invariant: every order is shipped\n"
    path = write_system(tmp_path, scenario=scenario, system=SYSTEM.replace(old, new, 1))

    expected = told or "system.yaml:14:77: expected an SQL file, found none at {folder}/paied.sql"

    assert expected.format(folder=tmp_path) in problems_of(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "scenario.yaml:1:1: expected a scenario, a mapping of keys to values; found nothing"),
        (b"# nothing\n", "scenario.yaml:1:1: expected a scenario, a mapping of keys to values; found nothing"),
        (b"- a\n", "scenario.yaml:1:1: expected a scenario, a mapping of keys to values; found a list"),
        (b"text", "scenario.yaml:1:1: expected a scenario, a mapping of keys to values; found a single value"),
        (b"a: 1\nb: \xff\xfe\n", "scenario.yaml:2:1: expected UTF-8, found the byte 0xff"),
        (b"a: [1, 2\nb: 3\n", "scenario.yaml:2:2: expected YAML, found what is none: expected ',' or ']', but got ':'"),
        (
            b"a: 1\n\tb: 2\n",
            "scenario.yaml:2:1: expected YAML, found what is none: found character '\\t' that cannot start any token",
        ),
        (b"a: 1\n---\nb: 2\n", "scenario.yaml:2:1: expected YAML, found what is none: but found another document"),
        (b"version: 1\nversion: 1\n", "scenario.yaml:2:1: expected each key once, found 'version' again (first in line 1)"),
        (b"a: &x [*x]\n", "scenario.yaml:1:4: expected a value, found an alias that leads back into itself"),
        (
            b"a: !!python/object:os.system x\n",
            "scenario.yaml:1:4: expected a plain value, found the tag tag:yaml.org,2002:python/object:os.system",
        ),
        (b"? [a]\n: 1\n", "scenario.yaml:1:3: expected a key, found a list or a mapping"),
        (b"a: " + b"[" * 5000, "scenario.yaml:1:54: expected values nested at most 50 deep, found more"),
        (b"a: " + b"x" * 2_000_000, "scenario.yaml: expected a scenario of at most 1,048,576 bytes, found 2,000,003"),
        (
            b"a: \x00\n",
            "scenario.yaml:1:1: expected YAML, found what is none: unacceptable character #x0000: special characters are not allowed",
        ),
    ],
)
def test_a_file_that_is_no_scenario_is_refused_without_a_traceback(tmp_path: Path, content: bytes, told: str) -> None:
    path = write_system(tmp_path)
    path.write_bytes(content)

    assert told in problems_of(path)


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    levels = "".join(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]\n" for level in range(1, 12))
    path = write_system(tmp_path)
    path.write_text("l0: &l0 [x]\n" + levels, encoding="utf-8")

    (told,) = problems_of(path)

    assert "expected at most 20,000 values, found more (through its aliases?)" in told


def test_a_file_that_is_not_there_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    path = write_system(tmp_path)

    assert problems_of(path.with_name("scenari.yaml")) == [
        "scenari.yaml: expected a scenario, found no such file; did you mean scenario.yaml?"
    ]


def test_a_folder_is_no_scenario(tmp_path: Path) -> None:
    assert problems_of(tmp_path)[0].endswith("expected a scenario, found something that is not a file")


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_system(tmp_path)

    def denied(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)

    assert problems_of(path) == ["scenario.yaml: expected a scenario, could not read it: Permission denied"]


def test_merge_keys_and_anchors_are_read_as_compose_users_write_them(tmp_path: Path) -> None:
    compose = "x-common: &common\n  expose: ['8000']\n" + COMPOSE.replace(
        'image: shipping\n    expose: ["8000"]', "<<: *common\n    image: shipping"
    )
    path = write_system(tmp_path, compose=compose)

    resolved = resolve(path, environ={})

    assert resolved.system.compose.services["shipping"].ports == (8000,)


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ("pause: {service: shiping}", "5:22: expected a service of the system, found 'shiping'; did you mean 'shipping'?"),
        ("kill: {edge: order -> shipping}", "5:12: expected a key that is known here, found 'edge'; there is service"),
        ("pause: {}", "5:12: expected the key 'service', found none"),
        ("cpu: {service: order}", "5:10: expected the key 'cores', found none"),
        ("cpu: {service: order, cores: 0}", "5:34: expected from 0.01 to 1024, found 0"),
        ("memory: {service: order, limit: 64}", "5:37: expected a size with its unit, such as 64MB or 512KB, found 64"),
        (
            "memory: {service: order, limit: 1MB}",
            "5:37: expected from 6MB to 4096GB, found 1MB",
        ),
        ("stop: {service: order, mode: hang}", "5:28: expected a key that is known here, found 'mode'"),
    ],
)
def test_a_fault_on_a_service_that_is_not_right_is_told_with_its_place(tmp_path: Path, faults: str, told: str) -> None:
    path = write_system(tmp_path, scenario=SCENARIO.replace("outage: {service: shipping}", faults))

    assert any(problem.startswith(f"scenario.yaml:{told}") for problem in problems_of(path)), problems_of(path)


def test_two_faults_on_one_service_itself_must_not_overlap(tmp_path: Path) -> None:
    def scenario(second: str) -> str:
        faults = f"  - {{id: a, pause: {{service: order}}, for: 5s}}\n  - {{id: b, {second}}}\n"
        said = SCENARIO.replace("  - outage: {service: shipping}\n", faults)
        return said.replace("fallback: shipping-deferred", "fallback: {name: shipping-deferred, fault: a}")

    overlapping = problems_of(write_system(tmp_path, scenario=scenario("kill: {service: order}, at: 4s")))

    assert overlapping == [
        "scenario.yaml:6:5: expected no two faults on one service itself at a time, found a on order until 5s"
    ]
    for allowed in ("kill: {service: order}, at: 5s", "kill: {service: shipping}", "outage: {service: order}"):
        resolve(write_system(tmp_path, scenario=scenario(allowed)), environ={})


def test_a_service_that_no_edge_leads_to_may_be_struck_itself_and_not_by_its_edges(tmp_path: Path) -> None:
    compose = COMPOSE + "  lonely:\n    image: lonely\n    expose: ['1']\n"
    system = SYSTEM + '  lonely: {command: "{python} lonely.py"}\n'
    on_service, on_edges = (
        SCENARIO.replace("outage: {service: shipping}", fault)
        for fault in ("kill: {service: lonely}", "outage: {service: lonely}")
    )

    resolve(write_system(tmp_path, scenario=on_service, compose=compose, system=system), environ={})

    told = problems_of(write_system(tmp_path, scenario=on_edges, compose=compose, system=system))
    assert [problem for problem in told if "strikes none" in problem]


@pytest.mark.parametrize("fault", ["scale: {service: order, to: 1}", "disconnect: {service: order}"])
def test_what_only_containers_can_have_is_refused_for_a_local_run_by_its_line(tmp_path: Path, fault: str) -> None:
    resolved = resolve(write_system(tmp_path, scenario=SCENARIO.replace("outage: {service: shipping}", fault)), environ={})

    with pytest.raises(InvalidFile) as raised:
        check_runs_locally(resolved)

    kind = fault.partition(":")[0]
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in raised.value.problems] == [
        f"scenario.yaml:5:{7 + len(kind)}: expected a fault that a process can have, found {kind}: it needs containers (--runtime docker)"
    ]


@pytest.mark.parametrize("kind", ["kill", "stop", "restart", "pause", "crash"])
def test_what_a_process_can_have_is_planned_for_a_local_run(tmp_path: Path, kind: str) -> None:
    scenario = SCENARIO.replace("outage: {service: shipping}", f"{kind}: {{service: order}}")

    check_runs_locally(resolve(write_system(tmp_path, scenario=scenario), environ={}))
