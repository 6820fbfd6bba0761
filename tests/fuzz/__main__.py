"""The long form: so many inputs of every kind, each kind in a process of its own, and a table of what came of them.

python -m tests.fuzz [--inputs 100000] [--kind NAME]… [--from NUMBER]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from math import inf
from pathlib import Path

from tests.fuzz.kinds import KINDS
from tests.fuzz.trying import Tally, table_of, tried


def main() -> int:
    """Try them; 0 where every input was taken or refused as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many of each kind")
    parser.add_argument(
        "--kind", action="append", choices=[kind.name for kind in KINDS], help="this kind alone; may be repeated"
    )
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first number to draw an input from")
    parser.add_argument("--seconds", type=float, default=inf, help="no further input of a kind after so many seconds")
    parser.add_argument("--alone", action="store_true", help="in this process, and tell it as JSON")
    asked = parser.parse_args()
    names = asked.kind or [kind.name for kind in KINDS]
    if asked.alone:
        print(json.dumps(_tally(names[0], asked).to_data()))
        return 0
    tallies = []
    for name in names:
        tallies.append(_in_another_process(name, asked))
        print(table_of(tallies[-1:]), flush=True)
    print(f"\n{table_of(tallies)}")
    return 0 if all(tally.is_clean for tally in tallies) else 1


def _tally(name: str, asked: argparse.Namespace) -> Tally:
    kind = next(kind for kind in KINDS if kind.name == name)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.environ["CHAOS_STATE_DIR"] = f"{folder}/state"
        inputs_of = Path(folder) / "inputs"
        inputs_of.mkdir()
        return tried(kind, inputs_of, range(asked.first, asked.first + asked.inputs), asked.seconds)


def _in_another_process(name: str, asked: argparse.Namespace) -> Tally:
    given = ["--from", str(asked.first), "--inputs", str(asked.inputs), "--seconds", str(asked.seconds)]
    argv = [sys.executable, "-m", "tests.fuzz", "--alone", "--kind", name, *given]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        return Tally(name, tracebacks=1, defects={f"the process ended with {done.returncode}": "see above"})
    return Tally(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
