"""Many short runs in a row: whether anything grows but the folders of the runs.

`process`: one process that calls what the command calls, so that what it keeps would show. `commands`: a command for each.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import psutil

from benchmarks.reliability_figures import GROWTH_HEAD, LEFT_OUT, growth_of
from benchmarks.reliability_run import PROJECT, SCENARIO, surroundings
from benchmarks.reliability_state import Broken

MB, KB = 1e6, 1e3
ENOUGH = 2 * LEFT_OUT
SHOWN = {
    "process": (
        ("memory", "uss", " MB", MB),
        ("descriptors", "descriptors", "", 1.0),
        ("threads", "threads", "", 1.0),
        ("processes", "processes", "", 1.0),
        ("disk beyond the runs' folders", "beside", " KB", KB),
        ("one run's folder", "folder", " KB", KB),
    ),
    "commands": (
        ("most memory of a command", "peak", " MB", MB),
        ("processes", "processes", "", 1.0),
        ("disk beyond the runs' folders", "beside", " KB", KB),
        ("one run's folder", "folder", " KB", KB),
    ),
}


def table(kind: str, rows: list[dict[str, Any]]) -> str:
    """What grew, in rows; the first runs are left out where there are enough."""
    left_out = LEFT_OUT if len(rows) >= ENOUGH else 0
    if len(rows) - left_out < 3:
        return f"{kind}: {len(rows)} runs are too few"
    lines = [
        growth_of([row[key] / per for row in rows], left_out).line(f"{kind}: {name}", unit)
        for name, key, unit, per in SHOWN[kind]
    ]
    return "\n".join([GROWTH_HEAD, *lines])


def growing(kind: str, rows: list[dict[str, Any]]) -> list[str]:
    """What grows for certain; too short a series, with its first runs in it, shows none of it."""
    if len(rows) < ENOUGH:
        return []
    return [name for name, key, _, per in SHOWN[kind] if growth_of([row[key] / per for row in rows]).is_certain]


def arguments(folder: Path) -> list[str]:
    """The command's."""
    return ["run", str(SCENARIO), "--runtime", "local", "--quiet", "--no-color", "--report-dir", str(folder / "reports")]


def in_one_process(count: int) -> Iterator[dict[str, Any]]:
    """Runs in a process of their own, one after the other; what it held after each."""
    folder = _new_folder()
    command = [sys.executable, "-m", "benchmarks.reliability_growth", str(folder), str(count)]
    try:
        with subprocess.Popen(command, cwd=PROJECT, env=surroundings(folder), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
        if process.returncode != 0:
            raise Broken(f"the process that makes the runs ended with {process.returncode}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def by_commands(count: int) -> Iterator[dict[str, Any]]:
    """A command for each run; what was there after each."""
    folder = _new_folder()
    try:
        for number in range(count):
            with (folder / "told").open("wb") as told:
                process = subprocess.Popen(
                    [sys.executable, "-m", "harness", *arguments(folder)],
                    cwd=PROJECT,
                    env=surroundings(folder),
                    stdout=told,
                    stderr=told,
                )
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            yield {"number": number, "code": process.returncode, "peak": used.ru_maxrss * 1024, **_there(folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rel-")).resolve()
    (folder / "tmp").mkdir()
    return folder


def _there(folder: Path) -> dict[str, Any]:
    """What there is on disk, in the runs' folders and beside them, and which processes are still there."""
    runs = sorted(path for path in folder.glob("reports/*/2*") if path.is_dir())
    kept = sum(_size(run) + len(run.name) for run in runs)
    beside = sum(_size(folder / name) for name in ("tmp", "state", "reports")) - kept
    return {"beside": beside, "folder": _size(runs[-1]) if runs else 0, "runs": len(runs), "processes": _processes(folder)}


def _size(folder: Path) -> int:
    """Bytes of all that is in a folder; each entry counts with its name, so that an empty file is not nothing."""
    return sum(path.lstat().st_size * path.is_file() + len(path.name) for path in folder.rglob("*") if not path.is_symlink())


def _processes(folder: Path) -> int:
    """Processes that were started for these runs, but for those that are asked."""
    mark = str(folder).encode()
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in (os.getpid(), os.getppid()):
            try:
                found += mark in (entry / "environ").read_bytes()
            except OSError:
                continue
    return found


def _held(folder: Path) -> Mapping[str, Any]:
    gc.collect()
    process = psutil.Process()
    memory = process.memory_full_info()
    return {
        "rss": memory.rss,
        "uss": memory.uss,
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        **_there(folder),
    }


def main() -> None:
    """Run, and print a line after each run."""
    from harness.cli import commands
    from harness.runtime.stopping import Stop

    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    out, stop = sys.stdout, Stop()  # one for a process, as the command has it
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for number in range(count):
            with redirect_stdout(nowhere):
                code = commands(arguments(folder), prog_name="chaos", standalone_mode=False, obj=stop)
            print(json.dumps({"number": number, "code": code, **_held(folder)}), file=out, flush=True)


if __name__ == "__main__":
    main()
