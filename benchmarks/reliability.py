"""Nothing left behind: the harness is killed, stopped, interrupted and robbed of its guardian, and what is left is counted.

    python -m benchmarks.reliability                         everything that is still to be done; ends with the table
    python -m benchmarks.reliability --only kills --count 10
    python -m benchmarks.reliability --only table --write docs/reliability.md

Series: `plants` (the detector must find what is left on purpose), `kills` (SIGKILL of the harness), `stops` (SIGSTOP),
`guardians` (SIGKILL of its guardian), `interrupts` (SIGINT, SIGTERM, SIGHUP, once or twice), `docker-kills`, `docker-jobs`
(SIGKILL of every process of the run, as a CI runner does it), `wedges` (its test suite), `process` and `commands` (many
short runs in a row, in one process and by a command each). Each trial is a run of a small system with faults on a proxy, a
process and a control group, and a service that is deaf to SIGTERM. The moment is drawn from the seed over the whole life of
a run, as a run that nobody disturbed has shown it. Everything is in a state file, a line for each trial: run again, it goes
on where it was; only `process` and `commands`, where they did not come to their end, begin again. What was wrong with a trial
is printed, and its folder kept. The exit code is 1 where anything in the state file is wrong (something left, a wrong answer,
a trial or run that is broken, growth, a wedge that was missed or not tried), or a series that was asked for is not whole.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import reliability_growth, reliability_plants
from benchmarks.reliability_figures import HEAD, problems_of, row_of, times
from benchmarks.reliability_moments import STAGES, draw
from benchmarks.reliability_process import told_by_trial
from benchmarks.reliability_run import PROJECT
from benchmarks.reliability_state import Broken, State, Turns, last_attempt
from benchmarks.reliability_trial import Order
from benchmarks.reliability_wrong import wrong_with

LEASE = 5.0
WEDGES = "tests/end_to_end/test_wedges.py"
BEGIN, END = "<!-- figures begin -->", "<!-- figures end -->"


@dataclass(frozen=True, slots=True)
class Series:
    """So many trials of one kind."""

    kind: str
    runtime: str
    count: int


TRIALS = {
    "kills": Series("kills", "local", 100),
    "interrupts": Series("interrupts", "local", 100),
    "stops": Series("stops", "local", 20),
    "guardians": Series("guardians", "local", 20),
    "docker-kills": Series("kills", "docker", 30),
    "docker-jobs": Series("jobs", "docker", 10),
}
MANY = 200
SERIES = ("plants", *TRIALS, "wedges", "process", "commands", "table")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    state: State
    seed: int
    lease: float
    parallel: int
    count: int | None

    def how_many(self, otherwise: int) -> int:
        """The length of a series."""
        return self.count if self.count is not None else otherwise

    def wanted(self, only: Sequence[str]) -> dict[str, int]:
        """How much there has to be of each series that was asked for."""
        trials = {name: self.how_many(TRIALS[name].count) for name in only if name in TRIALS}
        return trials | {name: self.how_many(MANY) for name in only if name in reliability_growth.SHOWN}


def life_of(runtime: str, asked: Asked) -> dict[str, float]:
    """How long each stage of a run that nobody disturbs takes here; measured once."""
    known = asked.state.rows(f"life-{runtime}")
    row = known[0] if known else carried_out(Order("life", runtime, asked.lease), asked)
    begins = [row["stages"].get(stage) for stage in STAGES]
    if None in begins or row["left"] or row["ended"] is None:
        raise SystemExit(f"expected a run that comes to its end and leaves nothing, found {row}")
    if not known:
        asked.state.add(f"life-{runtime}", row)
    ends = [*begins[1:], row["life"]]
    return {stage: max(0.05, end - begin) for stage, begin, end in zip(STAGES, begins, ends, strict=True)}


def carried_out(order: Order, asked: Asked) -> dict[str, Any]:
    """One trial, with what was ordered."""
    return {**asdict(order), **told_by_trial(order, asked.state.path.parent / "kept")}


def strike(name: str, asked: Asked) -> None:
    """Do what a series still lacks, some at a time; interrupted, it finishes those that are under way."""
    life = life_of(TRIALS[name].runtime, asked)
    turns = Turns(asked.how_many(TRIALS[name].count), asked.state.rows(name))

    def work() -> None:
        while (number := turns.take()) is not None:
            turns.put_back(unless=try_out(name, number, life, asked))

    with ThreadPoolExecutor(asked.parallel) as pool:
        try:
            for worker in [pool.submit(work) for _ in range(asked.parallel)]:
                worker.result()
        finally:
            turns.end()


def try_out(name: str, number: int, life: Mapping[str, float], asked: Asked) -> bool:
    """One trial of a series; whether it struck."""
    series = TRIALS[name]
    moment = draw(series.kind, asked.seed, number, life)
    order = Order(series.kind, series.runtime, asked.lease, **asdict(moment))
    try:
        row = carried_out(order, asked)
    except Broken as broken:
        asked.state.add(f"{name}-broken", {"number": number, "why": str(broken), **asdict(order)})
        print(f"{name} {number}: the trial itself is broken: {broken}", flush=True)
        return False
    asked.state.add(name, {"number": number, "seed": asked.seed, **row})
    say(name, number, row)
    return bool(row["struck"])


def say(name: str, number: int, row: dict[str, Any]) -> None:
    """A line for a trial, and one for each thing that was wrong."""
    signals = ", ".join(signal if not after else f"{signal} {after:g} s later" for signal, after in row["signals"])
    when = f"{row['after']:.2f} s into {row['stage']}"
    came = f"healed {row['healed']} s, gone {row['gone']} s, ended {row['code']}, judged {row['judged']}"
    print(f"{name} {number}: {signals} {when}: {came if row['struck'] else 'the run was over'}", flush=True)
    for problem in problems_of(row):
        print(f"    {problem}   {row['kept']}", flush=True)


def many(kind: str, asked: Asked) -> None:
    """A series of short runs. One that is whole is not made again; another cannot be gone on with, and is begun again."""
    wanted = asked.how_many(MANY)
    done = asked.state.rows(kind)
    if len(last_attempt(done)) >= wanted:
        return
    runs = reliability_growth.in_one_process if kind == "process" else reliability_growth.by_commands
    attempt = 1 + max((row["attempt"] for row in [*done, *asked.state.rows(f"{kind}-broken")]), default=0)
    try:
        for row in runs(wanted):
            asked.state.add(kind, {"attempt": attempt, **row})
            print(f"{kind} {row['number']}: {row}", flush=True)
    except Broken as broken:
        asked.state.add(f"{kind}-broken", {"attempt": attempt, "why": str(broken)})
        print(f"{kind}: broken: {broken}", flush=True)


def provoke_wedges(asked: Asked) -> None:
    """The suite that provokes them tells of each; what it did not tell of is missing in the table."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "wedges.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", WEDGES]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "WEDGES_TABLE": str(file)}
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1].strip("= ")
    asked.state.add("wedges", {"code": done.returncode, "rows": rows, "last": last})
    print(f"{done.stdout}\n{done.stderr}", flush=True)


def table_of_wedges(row: Mapping[str, Any]) -> list[str]:
    """Who noticed what, and how soon."""
    known = sorted(row["rows"], key=lambda each: int(each["wedge"]))
    lines = [f"| {each['name']} | {each['by']} | {each['seconds']:.1f} | {each['outcome']} |" for each in known]
    return [
        "| wedge | noticed by | after, s | came to |",
        "|---|---|--:|---|",
        *lines,
        "",
        f"{len(known)} noticed; {row['last']}",
    ]


def table(state: State) -> str:
    """All figures there are, as Markdown."""
    rows = {name: state.rows(name) for name in TRIALS}
    found = [HEAD, *(row_of(name, rows[name]) for name in TRIALS if rows[name])]
    for name in TRIALS:
        if broken := state.rows(f"{name}-broken"):
            found += ["", f"{name}: {len(broken)} more did not come to their end, which is counted nowhere above"]
    for kind in reliability_growth.SHOWN:
        if series := last_attempt(state.rows(kind)):
            found += ["", reliability_growth.table(kind, series)]
    if wedges := state.rows("wedges"):
        found += ["", *table_of_wedges(wedges[-1])]
    if plants := state.rows("plants"):
        found += ["", *reliability_plants.table(plants[-1]["found"])]
    loads = [row["load"] for name in TRIALS for row in rows[name] if row.get("load")]
    dates = sorted(row["at"] for name in (*TRIALS, *reliability_growth.SHOWN) for row in state.rows(name))
    told = f"`python -m benchmarks.reliability`, {dates[0]} to {dates[-1]}" if dates else "nothing was tried"
    if loads:
        told += f", on {os.cpu_count()} cores at a load average of {times(loads)} (p50 / p99 / max)"
    return "\n".join([told, "", *found])


def write_table(text: str, path: Path) -> None:
    """Put the figures into a document, between its two marks."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path}: expected {BEGIN} and {END}, between which the figures go")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def do(name: str, asked: Asked) -> None:
    """One series."""
    if name in TRIALS:
        try:
            strike(name, asked)
        except Broken as broken:
            print(f"{name}: not tried, since not one run came to its end: {broken}", flush=True)
    elif name in reliability_growth.SHOWN:
        many(name, asked)
    elif name == "wedges":
        provoke_wedges(asked)
    elif name == "plants":
        found = reliability_plants.found_by_kind()
        asked.state.add("plants", {"found": found})
        if missed := [kind for kind, seen in found.items() if not seen]:
            raise SystemExit(f"the detector proves nothing: it did not find {', '.join(missed)}, left on purpose")


def main() -> int:
    """Do what was asked; 1 where something was wrong with anything tried so far, or what was asked for was not tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SERIES, default=SERIES, metavar="SERIES", help=", ".join(SERIES))
    parser.add_argument("--count", type=int, help="so many trials of each series")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--lease", type=float, default=LEASE, help="seconds")
    parser.add_argument("--parallel", type=int, default=1, help="so many trials at a time")
    parser.add_argument("--state", type=Path, default=PROJECT / "reports" / ".reliability" / "state.jsonl")
    parser.add_argument("--write", type=Path, help="put the table into this document")
    given = parser.parse_args()
    asked = Asked(State(given.state.resolve()), given.seed, given.lease, given.parallel, given.count)
    for name in given.only:
        do(name, asked)
    text = table(asked.state)
    if given.write is not None:
        write_table(text, given.write)
    print(text)
    wrong = wrong_with(asked.state, list(TRIALS), asked.wanted(given.only))
    print("\n".join(["", *wrong]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
