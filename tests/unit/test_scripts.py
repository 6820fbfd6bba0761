"""The project's shell scripts: they say how they are used, what is missing, and leave alone what is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
SCRIPTS = PROJECT / "scripts"


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPTS / script), *arguments],
        check=False,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("script", ["install-docker-debian", "offline-images", "build-toxiproxy"])
def test_a_script_says_how_it_is_used(script: str) -> None:
    told = run(script, "--help")

    assert told.returncode == 0
    assert f"scripts/{script}" in told.stdout
    assert "set -euo" not in told.stdout


@pytest.mark.parametrize("script", ["install-docker-debian", "offline-images"])
def test_an_option_that_a_script_does_not_have_is_named(script: str) -> None:
    told = run(script, "--nope")

    assert told.returncode == 1
    assert f"{script}: expected one of the options above, found --nope" in told.stderr


def test_images_are_not_built_where_no_engine_answers() -> None:
    told = run("offline-images", DOCKER_HOST="tcp://127.0.0.1:1")

    assert told.returncode == 1
    assert told.stdout == ""
    assert "offline-images: no Docker engine answers" in told.stderr


def test_the_images_of_the_project_are_those_that_stand_ins_are_built_for() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS.glob("images/compose.yaml"))

    built = {name.upper() + "_IMAGE" for name in ("python", "postgres", "redis", "nginx", "toxiproxy")}
    asked = {
        word.partition(":-")[0]
        for path in [PROJECT / "sample_system/compose.yaml", *PROJECT.glob("tests/end_to_end/projects/*/*compose.y*ml")]
        for word in path.read_text(encoding="utf-8").split("${")[1:]
        if word.partition(":-")[0].endswith("_IMAGE") and not word.startswith("SHOP_")
    }
    assert asked <= built
    assert all(f"chaos-harness/{name.removesuffix('_IMAGE').lower()}:offline" in text for name in built)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A copy of the scripts beside a file of built images."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "offline-images.env").write_text(
        "REDIS_IMAGE=built/redis\nPYTHON_IMAGE=built/python\n", encoding="utf-8"
    )
    return tmp_path / "scripts"


def images(scripts: Path, **environment: str) -> str:
    show = ["sh", "-c", 'echo "${REDIS_IMAGE-none} ${PYTHON_IMAGE-none}"; exit 7']
    bare = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run([str(scripts / "with-offline-images"), *show], check=False, env=bare, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    return done.stdout.strip()


def test_images_that_were_built_are_used(scripts: Path) -> None:
    assert images(scripts) == "built/redis built/python"


def test_an_image_that_the_environment_names_comes_before_one_that_was_built(scripts: Path) -> None:
    assert images(scripts, REDIS_IMAGE="mine") == "mine built/python"


def test_where_no_images_were_built_none_are_named(scripts: Path) -> None:
    (scripts.parent / ".venv" / "offline-images.env").unlink()

    assert images(scripts) == "none none"


def test_a_toxiproxy_that_was_built_is_not_built_again(tmp_path: Path) -> None:
    for name, said in (("server", "toxiproxy-server version 2.12.0"), ("cli", "toxiproxy-cli version 2.12.0")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {said}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    told = run("build-toxiproxy", str(tmp_path))

    assert (told.returncode, told.stdout, told.stderr) == (0, f"{tmp_path}\n", "")
    assert (tmp_path / "server").read_text(encoding="utf-8").startswith("#!/bin/sh")
