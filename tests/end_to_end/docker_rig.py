"""Runs the `chaos` command on Docker, and looks at the engine from beside it: what stands, what is left.

Other runs may go on at the same engine, so everything is told by the project of the run it belongs to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.end_to_end.chaos import PROJECT, TINY, Answer, Running, chaos, environment, events_of, started_by

IMAGES_FILE = PROJECT / ".venv" / "offline-images.env"
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
PROXIES = "chaos-proxies"
CONTROL_PORT = 8474

SHORTEST = "phases: {warmup: 1s, baseline: 5s, fault: 5s, recovery: 5s}"
"""Shorter ones are refused, since they could not be judged."""

CUT = "[outage: {edge: front -> back}]"
ALONE_GOES_ON = "[{id: alone, error_rate: {journey: alone, max: 5%}}]"


@cache
def images() -> dict[str, str]:
    """The variables that name images, where the environment does not: those of the stand-ins that were built here."""
    if not IMAGES_FILE.exists():
        return {}
    lines = (line.partition("=") for line in IMAGES_FILE.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {name.removeprefix("export "): value for name, _, value in lines if name not in os.environ}


def python_image() -> str:
    """An image with Python in it."""
    return os.environ.get("PYTHON_IMAGE") or images().get("PYTHON_IMAGE") or "python:3.11-slim"


def run_on_docker(path: Path, reports: Path, *more: str, extra: Mapping[str, str] | None = None) -> Answer:
    """`chaos run` on Docker, to its end."""
    arguments = ["run", str(path), "--runtime", "docker", "--report-dir", str(reports), *more]
    return chaos(*arguments, extra={**images(), **(extra or {})})


class DockerRun(Running):
    """A run on Docker that goes on."""

    def __init__(self, path: Path, reports: Path, extra: Mapping[str, str] | None = None, *, runtime: str = "docker") -> None:
        self.reports = reports
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness", "run", str(path), "--runtime", runtime, "--report-dir", str(reports)],
            cwd=PROJECT,
            env={**environment(), **images(), **(extra or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def folder(self) -> Path | None:
        """The run's folder, under its own name, once it is there."""
        return next((path.parent for path in self.reports.glob("*/2*/plan.json")), None)

    @property
    def project(self) -> str:
        """What everything of this run on the engine is labelled with."""
        assert self.folder is not None
        return project_of(self.folder)

    def container(self, service: str) -> str:
        """The id of the container of a service."""
        filters = [f"label={PROJECT_LABEL}={self.project}", f"label={SERVICE_LABEL}={service}"]
        return docker("ps", "-aq", *(word for one in filters for word in ("--filter", one))).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        """Everything that the engine knows of that container."""
        (found,) = json.loads(docker("inspect", self.container(service)))
        return dict(found)

    def python(self, service: str, program: str, *arguments: str) -> Any:
        """What a Python program prints in that container, read as JSON."""
        return json.loads(docker("exec", self.container(service), "python3", "-c", program, *arguments))

    def make_sure_it_is_over(self) -> None:
        """Whatever became of a test: the run ends, and nothing of it stays."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate()
        if self.process.stdout is not None:
            self.process.stdout.close()


def project_of(folder: Path) -> str:
    """The project of the run in a folder."""
    return f"chaos-{folder.name}"


def docker(*words: str, within: float = 60.0) -> str:
    """What a command of Docker prints; it has to succeed."""
    done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True, timeout=within)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def everything() -> dict[str, set[str]]:
    """The names of all containers, networks and volumes of the engine."""
    return {
        "containers": set(docker("ps", "-a", "--format", "{{.Names}}").split()),
        "networks": set(docker("network", "ls", "--format", "{{.Name}}").split()),
        "volumes": set(docker("volume", "ls", "--format", "{{.Name}}").split()),
    }


def of_project(project: str) -> dict[str, list[str]]:
    """What there is of a run on the engine, by its label."""
    label = f"label={PROJECT_LABEL}={project}"
    return {
        "containers": docker("ps", "-a", "--filter", label, "--format", "{{.Names}} {{.Status}}").splitlines(),
        "networks": docker("network", "ls", "--filter", label, "--format", "{{.Name}}").splitlines(),
        "volumes": docker("volume", "ls", "--filter", label, "--format", "{{.Name}}").splitlines(),
    }


def left_of(folder: Path) -> list[str]:
    """What a run left behind: on the engine, of its processes, of its temporary folders."""
    project = project_of(folder)
    left = [f"{kind}: {name}" for kind, names in of_project(project).items() for name in names]
    left += [f"{kind}: {name}" for kind, names in everything().items() for name in names if project in name]
    if (folder / "undo.jsonl").exists():
        left += [f"process {pid}" for pid in started_by(folder)]
        undos = [json.loads(line) for line in (folder / "undo.jsonl").read_text(encoding="utf-8").splitlines()]
        left += [f"folder {undo['path']}" for undo in undos if undo.get("path") and Path(undo["path"]).exists()]
    return sorted(set(left))


def seconds_until(holds: Callable[[], object], within: float) -> float:
    """How long it took until something held."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within, f"not so after {within:g} s"
        time.sleep(0.1)
    return time.monotonic() - began


def seconds_until_nothing_is_left(folder: Path, within: float = 20.0) -> float:
    """How long it took until nothing was left of a run; on a machine of its own it is less than ten seconds."""
    began = time.monotonic()
    while left := left_of(folder):
        assert time.monotonic() - began < within, f"left after {within:g} s: {left}"
        time.sleep(0.2)
    return time.monotonic() - began


def only_folder(reports: Path) -> Path:
    """The folder of the one run under `reports`."""
    (folder,) = reports.glob("*/2*")
    return folder


def kinds_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The events of one kind."""
    return [event for event in events_of(folder) if event["event"] == kind]


def changed(found: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Data with some keys laid over it, at any depth; a key whose value is None is taken out."""
    result = dict(found)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = changed(result[key], value)
        else:
            result[key] = value
    return result


def tiny_system(folder: Path, compose: Mapping[str, Any] | None = None, system: Mapping[str, Any] | None = None) -> Path:
    """A copy of the tiny system with changes laid over its Compose file and its system.yaml.

    Nothing is built: its program stands in the Compose file.
    """
    found = yaml.safe_load((TINY / "compose.yaml").read_text(encoding="utf-8"))
    program = {"configs": [{"source": "program", "target": "/service.py"}]}
    services = {
        name: {**{key: value for key, value in said.items() if key != "build"}, "image": python_image(), **program}
        for name, said in found["services"].items()
    }
    content = (TINY / "service.py").read_text(encoding="utf-8").replace("$", "$$")
    return _laid_over(folder, {"services": services, "configs": {"program": {"content": content}}}, compose, system)


def built_system(folder: Path, compose: Mapping[str, Any] | None = None) -> Path:
    """The same, as it stands: with images that are built."""
    return _laid_over(folder, yaml.safe_load((TINY / "compose.yaml").read_text(encoding="utf-8")), compose, None)


def _laid_over(
    folder: Path, found: dict[str, Any], compose: Mapping[str, Any] | None, system: Mapping[str, Any] | None
) -> Path:
    made = folder / "system"
    made.mkdir(parents=True)
    for name in ("service.py", "Dockerfile", "locustfile.py"):
        shutil.copy(TINY / name, made / name)
    described = yaml.safe_load((TINY / "system.yaml").read_text(encoding="utf-8"))
    for name, data, changes in (("compose.yaml", found, compose), ("system.yaml", described, system)):
        (made / name).write_text(yaml.safe_dump(changed(data, changes or {}), sort_keys=False), encoding="utf-8")
    return made


def scenario_of(system: Path, faults: str = CUT, expect: str = ALONE_GOES_ON, more: str = SHORTEST) -> Path:
    """A scenario beside a system."""
    path = system.parent / "drawn_up.yaml"
    path.write_text(
        f"version: 1\nquestion: Does it hold?\nsystem: {system}\nfaults: {faults}\nexpect: {expect}\n{more}\n", encoding="utf-8"
    )
    return path


def programs_before(folder: Path, scripts: Mapping[str, str]) -> dict[str, str]:
    """A PATH on which these shell scripts come before everything else."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def measured(what: str, seconds: float) -> None:
    """Tell a figure to whoever runs the suite with `-s`."""
    sys.stdout.write(f"\nmeasured: {what}: {seconds:.1f} s\n")
