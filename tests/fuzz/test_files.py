"""Files that nobody wrote in good faith: refused with their place, soon, and without much memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import InvalidFile, InvalidInput
from harness.model.compose_config import compose_from_config
from harness.model.edges import find_mentions
from harness.model.reading import LARGEST_FILE, read_document, read_text
from harness.model.resolving import resolve
from tests.fuzz.files import CONFIG, RICH_COMPOSE, RICH_SCENARIO, planned
from tests.fuzz.trying import MOST_MEMORY
from tests.systems import COMPOSE, SCENARIO, SYSTEM, write_system

SCALARS = (
    "!!bool ''",
    "!!bool maybe",
    "!!int ''",
    "!!float ''",
    "!!timestamp yesterday",
    '"\\UFFFFFFFF"',
    '"\\ud800"',
    '"a\\0b"',
    "!!set x",
    "!!map x",
    "!!omap x",
    "!!binary x",
    "!!python/name:os.system",
    "0x" + "f" * 5000,
    "9" * 5000,
    "1" + ":59" * 2000,
    "=",
)


def messages(refused: InvalidFile) -> str:
    return "\n".join(problem.message for problem in refused.problems)


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: scalar[:20])
def test_a_scalar_that_is_not_what_it_says_is_refused_where_it_stands(tmp_path: Path, scalar: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"version: 1\nquestion:\n  deep: {scalar}\n")
    scenario = write_system(tmp_path, scenario=SCENARIO.replace("version: 1", f"version: {scalar}"))

    with pytest.raises(InvalidFile) as refused:
        resolve(scenario, environ={})

    assert {(problem.file, problem.line) for problem in refused.value.problems} == {(str(scenario), 1)}


@pytest.mark.parametrize("key", ['"a\\0b"', '"\\udfff"'])
def test_a_key_that_nothing_can_be_named_by_is_refused(tmp_path: Path, key: str) -> None:
    scenario = write_system(tmp_path, system=f"{SYSTEM}\n{key}: 1\n")

    with pytest.raises(InvalidFile, match="text without NUL"):
        resolve(scenario, environ={})


BOMBS = {
    "billion laughs": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)),
    "merged laughs": "a: &a {x: 1, y: 2}\n"
    + "".join(
        f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "a scalar of 10 MB": f"a: {'x' * 10_000_000}\n",
    "a quoted scalar of 900 KB": f'a: "{"x" * 900_000}"\n',
    "100,000 keys": "".join(f"k{number}: 1\n" for number in range(100_000)),
    "100,000 values": f"a: [{'1,' * 100_000}]\n",
    "100,000 anchors": "".join(f"- &a{number} 1\n" for number in range(60_000)),
    "10,000 lists in each other": "a: " + "[" * 10_000,
    "10,000 mappings in each other": "a: " + "{a: " * 10_000,
    "10,000 blocks in each other": "- " * 10_000,
    "10,000 complex keys": "? " * 10_000,
    "nested through its aliases": "a0: &a0 [1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}]\n" for n in range(400)),
    "an alias that leads back": "a: &a {b: [*a]}\n",
    "a merge that leads back": "a: &a {b: 1, <<: *a}\n",
    "tags without end": "!!str " * 50_000,
    "directives without end": "%TAG !a! b\n" * 50_000,
}


LONG = ("100,000 keys", "100,000 values", "100,000 anchors")
"""Those of which all is read up to the bound, which takes seconds."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in BOMBS])
def test_a_bomb_is_refused_soon_and_without_much_memory(tmp_path: Path, name: str) -> None:
    bomb = tmp_path / "bomb.yaml"
    bomb.write_text(BOMBS[name])

    code, seconds, memory, told = _read_elsewhere(bomb)

    assert code == 0, told
    assert "bomb.yaml" in told
    assert memory < MOST_MEMORY, told
    assert seconds < LONGEST_BOMB, told


LONGEST_BOMB = 8.0
"""Seconds of the processor; these are large."""

READ = """
import resource, sys, time
from pathlib import Path
from harness.errors import InvalidFile
from harness.model.reading import read_document
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    read_document(Path(sys.argv[1]), "a scenario")
except InvalidFile as refused:
    told = str(refused)[:300]
else:
    told = "bomb.yaml was taken"
took = time.process_time() - began
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, took, told)
"""


def _read_elsewhere(path: Path) -> tuple[int, float, float, str]:
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, timeout=60, check=False)
    memory, seconds, told = done.stdout.split(" ", 2) if done.stdout else ("0", "0", done.stderr)
    return done.returncode, float(seconds), float(memory), told


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vast.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: no machine could read it

    with pytest.raises(InvalidFile, match=f"at most {LARGEST_FILE:,} bytes"):
        read_document(path, "a scenario")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "x" * 300 + "/y"])
def test_a_name_that_no_file_can_have_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidFile):
        read_text(tmp_path / name, "a scenario")


@pytest.mark.parametrize(
    "change",
    [
        ("system: .", f"system: {'x' * 300}"),
        ("version: 1", f"version: 1\nload: {{locustfile: {'x' * 300}.py}}"),
    ],
)
def test_a_scenario_that_names_such_a_file_is_refused(tmp_path: Path, change: tuple[str, str]) -> None:
    scenario = write_system(tmp_path, scenario=SCENARIO.replace(*change))

    with pytest.raises(InvalidFile):
        resolve(scenario, environ={})


def test_a_system_without_any_compose_file_is_refused(tmp_path: Path) -> None:
    scenario = write_system(tmp_path, system=SYSTEM.replace("compose: compose.yaml", "compose: []"))

    with pytest.raises(InvalidFile, match=r"system\.yaml:2:\d+: expected at least"):
        resolve(scenario, environ={})


@pytest.mark.parametrize("stem", ["my scenario", "..", "-a", "x" * 64, "a\nb"])
def test_a_scenario_whose_name_cannot_be_that_of_a_folder_of_runs_is_refused(tmp_path: Path, stem: str) -> None:
    scenario = write_system(tmp_path).rename(tmp_path / f"{stem}.yaml")

    with pytest.raises(InvalidFile, match="expected a file called by a name"):
        resolve(scenario, environ={})


STRANGE_SERVICES = ["", "_a", "..", "../../etc/cron.d/x", "a/b", "x" * 64, "a b", "-a", "a\nb"]


@pytest.mark.parametrize("name", STRANGE_SERVICES)
def test_a_service_whose_name_could_lead_elsewhere_is_refused_where_it_stands(tmp_path: Path, name: str) -> None:
    scenario = write_system(tmp_path, compose=f"{COMPOSE}  {json.dumps(name)}: {{image: x, expose: ['80']}}\n")

    with pytest.raises(InvalidFile) as refused:
        resolve(scenario, environ={})

    assert {(problem.file, problem.line) for problem in refused.value.problems} == {(str(tmp_path / "compose.yaml"), 23)}


@pytest.mark.parametrize("name", STRANGE_SERVICES)
def test_a_service_of_that_name_that_compose_tells_of_is_refused_too(name: str) -> None:
    with pytest.raises(InvalidFile, match="expected a name"):
        compose_from_config({"services": {name: {}}})


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": "many"},
        {"scale": [1]},
        {"ports": [{"target": "http"}]},
        {"healthcheck": {"test": "x", "retries": "often"}},
        {"scale": float("inf")},
    ],
)
def test_what_compose_never_writes_is_refused_in_words(changed: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="as Compose writes them"):
        compose_from_config({"services": {"order": {**CONFIG["services"]["order"], **changed}}})  # type: ignore[index]


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_that_nothing_can_listen_on_is_refused(tmp_path: Path, port: str) -> None:
    shown = write_system(tmp_path, compose=COMPOSE.replace('"8000"', f'"{port}"', 1))
    with pytest.raises(InvalidFile, match="expected a port"):
        resolve(shown, environ={})

    written = write_system(tmp_path, system=f"{SYSTEM}edges: ['order -> redis:{port}']\n")
    with pytest.raises(InvalidFile, match=f"found {port}, where they end"):
        resolve(written, environ={})


def test_a_value_that_names_no_port_is_no_edge_and_is_told(tmp_path: Path) -> None:
    scenario = write_system(tmp_path, compose=COMPOSE.replace("REDIS_HOST: redis", "REDIS: 'redis:99999'"))

    resolved = resolve(scenario, environ={})

    assert "order -> redis" not in {edge.name for edge in resolved.experiment.system.edges}
    assert any("which is no port" in warning for warning in resolved.warnings)


@pytest.mark.parametrize("value", ["a" * 300_000, "x://y " + "a" * 300_000, "http://" * 40_000, "a:1," * 70_000])
def test_edges_are_looked_for_in_time_that_grows_with_the_text_alone(value: str) -> None:
    began = time.process_time()

    find_mentions("A_URL", value, {"a", "order"})

    assert time.process_time() - began < 2.0


def test_what_the_inputs_are_made_of_is_valid(tmp_path: Path) -> None:
    scenario = write_system(tmp_path, scenario=RICH_SCENARIO, compose=RICH_COMPOSE)
    planned(resolve(scenario, environ={"MODE": "loud"}))

    answered = resolve(write_system(tmp_path), environ={}, compose_of=lambda _files, _environ: compose_from_config(CONFIG))

    assert len(answered.experiment.system.edges) >= 4
