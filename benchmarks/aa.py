"""A/A: how often the judge says anything of a system to which nothing was done.

    python benchmarks/aa.py made-up [--triples 500]       latencies drawn with drift and stalls, a new system each time
    python benchmarks/aa.py record [--seconds 600]        an unchanged run of the sample system, kept; prints its folder
    python benchmarks/aa.py windows RUN … [--step 1]      recorded runs, cut into windows as a scenario's phases would
    python benchmarks/aa.py live [--runs 20]              whole runs with `faults: []`, on a machine that does nothing else

Every triple of windows is judged as a baseline, a fault phase and a recovery of 20 s each, guards included, with the
margins that apply where a scenario says nothing, and with all rules of noise. One comparison is one journey in one
expectation: errors, p50 and p95 of the fault phase against the baseline, or the whole recovery. `expectations` counts what
a scenario would show: a blast radius over all journeys, and a recovery. What is wanted: at most 0.1 % failed, at most 5 %
inconclusive, and 0.5 % in windows in which other programs took less than 10 % of the machine. Intervals are Wilson's at
95 %; triples of one recording overlap, so that theirs are narrower than they should be.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from harness.history.events import (
    Event,
    FaultBegan,
    FaultEnded,
    LoadBegan,
    LoadEnded,
    MachineSeen,
    PhaseBegan,
    PhaseEnded,
)
from harness.history.history import History, Window, read_history
from harness.history.requests import OUTCOMES
from harness.history.table import Requests, Words
from harness.judge.case import Case
from harness.judge.doubts import foreign_share
from harness.judge.judge import judge_expectation
from harness.judge.noise import doubted
from harness.judge.statistics import wilson
from harness.judge.verdict import EXIT_CODES, Finding, Outcome
from harness.model.expectations import ExpectationItem
from harness.model.resolving import resolve
from harness.plan.planning import plan_of

PROJECT = Path(__file__).parent.parent
PHASES = ("baseline", "fault", "recovery")
SECONDS = 20.0
QUIET = 0.1
"""Below this share of the machine, taken by others, a window counts as quiet."""

JUDGED = {EXIT_CODES[word] for word in ("passed", "failed", "inconclusive", "halted")}
"""Exit codes of a run that has a verdict, and left nothing behind."""

SCENARIO = """\
version: 1
question: Does a system look changed to which nothing was done?
system: {system}
load: {{rate: {rate}/s}}
phases: {{warmup: {warmup}s, baseline: {baseline}s, fault: {fault}s, recovery: {recovery}s, drain: 0s}}
faults: []
expect:
  - blast_radius: {{}}
  - error_rate: {{max: 5%, journey: each}}
"""


def scenario(rate: float, warmup: float = 5, baseline: float = 20, fault: float = 20, recovery: float = 20) -> str:
    """A scenario in which nothing happens."""
    return SCENARIO.format(
        system=PROJECT / "sample_system", rate=f"{rate:g}", warmup=warmup, baseline=baseline, fault=fault, recovery=recovery
    )


def plan(rate: float) -> dict[str, Any]:
    """The plan of such a scenario, as plain data."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unchanged.yaml"
        path.write_text(scenario(rate, warmup=0), encoding="utf-8")
        resolved = resolve(path, environ={})
    return plan_of(resolved.experiment, resolved.queries).model_dump(mode="json")


# judging


@dataclass
class Tally:
    """How many comparisons came out how."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, found: Finding) -> None:
        """Count one."""
        self.outcomes[found.outcome] += 1
        if found.outcome is not Outcome.PASSED:
            self.reasons[f"{found.outcome.word}: {_kind_of(found.why)}"] += 1

    def line(self, name: str) -> str:
        """A row of the table."""
        number = self.outcomes.total()
        failed, open_ones = (_told(self.outcomes[outcome], number) for outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE))
        return f"| {name} | {number:,} | {failed} | {open_ones} |"


def _told(hits: int, of: int) -> str:
    share = wilson(hits, of)
    return f"{hits} = {100 * hits / max(of, 1):.2f} % [{100 * share.low:.2f}, {100 * share.high:.2f}]"


REASONS = ("sent late", "users ran out", "not steady", "other programs", "schedule", "lies across", "by chance", "cannot show")


def _kind_of(why: str) -> str:
    return next((reason for reason in REASONS if reason in why), why)


Tallies = dict[str, Tally]


def judge_triple(history: History, tallies: Tallies, group: str) -> None:
    """Judge three windows as one run, every journey by itself and all together."""
    case = Case(history)
    shares = [foreign_share(case, window) for window in history.phases.values()]
    groups = [group]
    if all(share is not None and share < QUIET for share in shares):
        groups.append(f"{group}, quiet")
    for name, item in _items(case):
        found = doubted(judge_expectation(case, item), item, case)
        for one in groups:
            tallies.setdefault(f"{one}: {name}", Tally()).add(found)


def _items(case: Case) -> Iterator[tuple[str, ExpectationItem]]:
    journeys = sorted(case.experiment.system.journeys)
    for journey in journeys:
        others = [other for other in journeys if other != journey]
        yield "comparisons", ExpectationItem.model_validate({"id": "one", "blast_radius": {"may_fail": others}})
    recovery = ExpectationItem.model_validate({"id": "recovery", "recovery": {}})
    yield "comparisons", recovery
    yield "expectations", ExpectationItem.model_validate({"id": "all", "blast_radius": {}})
    yield "expectations", recovery


def triple(plan: dict[str, Any], begin: float, requests: Requests, machine: Iterable[Event], notes: Any) -> History:
    """The history of a run whose phases are three windows, one after the other, from a moment on."""
    ends = [begin + SECONDS * (place + 1) for place in range(len(PHASES))]
    events: list[Event] = [LoadBegan(begin, 0.0, 1), LoadEnded(ends[-1], finished=True)]
    for phase, end in zip(PHASES, ends, strict=True):
        events += [PhaseBegan(end - SECONDS, phase), PhaseEnded(end, phase)]
    fault = ("nothing", "outage", "client -> gateway", {}, {})
    events += [FaultBegan(ends[0], ends[0], *fault), FaultEnded(ends[1], ends[1], *fault)]
    events += [event for event in machine if begin <= event.at < ends[-1]]
    return History(
        plan, events, requests.between([(begin, ends[-1])]), [note for note in notes if note.get("load") == "vitals"]
    )


# made up


@dataclass(frozen=True)
class Climate:
    """How a made-up system is unsteady: by how much its latencies drift, how often it stalls, how many requests fail."""

    name: str
    drift: float
    stalls_a_minute: float
    errors: float


CLIMATES = (
    Climate("steady", 0.05, 0.0, 0.0),
    Climate("drifting", 0.3, 0.0, 0.001),
    Climate("stalling", 0.2, 3.0, 0.001),
)
MEDIANS = {"browse": 0.008, "place order": 0.030, "read order": 0.010, "track shipment": 0.009}
SHARES = {"browse": 0.4, "place order": 0.3, "read order": 0.2, "track shipment": 0.1}
SIGMA = 0.5
"""Of the logarithm of the latencies: p99 is about three times p50."""
STEP, MEMORY = 0.5, 5.0
"""Seconds between two values of the drift, and after which it has forgotten most of itself."""
MOST_STALL = 0.3


def made_up(rate: float, climate: Climate, chance: np.random.Generator, names: dict[str, str]) -> Requests:
    """The requests of one unchanged run: lognormal latencies, an autoregressive drift of all, and stalls in which all wait."""
    seconds = SECONDS * len(PHASES)
    due = np.arange(0.0, seconds, 1.0 / rate)
    journey = chance.choice(len(SHARES), size=len(due), p=list(SHARES.values()))
    keep = float(np.exp(-STEP / MEMORY))
    drift = np.zeros(ceil(seconds / STEP) + 1)
    drift[0] = chance.normal(0, climate.drift)
    for place in range(1, len(drift)):
        drift[place] = keep * drift[place - 1] + chance.normal(0, climate.drift * (1 - keep**2) ** 0.5)
    level = np.interp(due, np.arange(len(drift)) * STEP, drift)
    took = np.array(list(MEDIANS.values()))[journey] * np.exp(level + chance.normal(0, SIGMA, len(due)))
    for begin in chance.uniform(0, seconds, chance.poisson(climate.stalls_a_minute * seconds / 60)):
        lasts = chance.uniform(0.05, MOST_STALL)
        stalled = (due + took > begin) & (due < begin + lasts)
        took[stalled] += (begin + lasts - np.maximum(due, begin))[stalled]
    failed = chance.random(len(due)) < climate.errors
    zeros = np.zeros(len(due), dtype=np.int32)
    return Requests(
        due=due,
        start=due + 0.0007,
        end=due + took,
        journey=journey.astype(np.int32),
        outcome=np.where(failed, OUTCOMES.index("http_5xx"), OUTCOMES.index("ok")).astype(np.uint8),
        status=np.where(failed, 503, 200).astype(np.uint16),
        bytes=np.full(len(due), 240, dtype=np.int64),
        marks=zeros,
        error=zeros,
        trace=np.zeros(len(due), dtype="S1"),
        journeys=Words(tuple(names[journey] for journey in SHARES)),
        markings=Words(((),)),
        errors=Words(("",)),
    )


def of_made_up(triples: int, rate: float, tallies: Tallies) -> None:
    """Judge so many made-up runs in each climate."""
    planned = plan(rate)
    names = planned["experiment"]["system"]["journeys"]
    for climate in CLIMATES:
        for seed in range(triples):
            chance = np.random.default_rng([20261121, seed])
            judge_triple(triple(planned, 0.0, made_up(rate, climate, chance, names), (), ()), tallies, climate.name)


# recorded


def of_recorded(folders: Iterable[Path], step: float, tallies: Tallies) -> None:
    """Judge every triple of windows of recorded runs, one beginning `step` seconds after the other."""
    for folder in folders:
        history = read_history(folder)
        planned = plan(float(history.plan["load"]["rate"]))
        spans = [window for name, window in history.phases.items() if name in PHASES]
        begin, end = min(window.begin for window in spans), max(window.end for window in spans)
        machine = history.of(MachineSeen)
        _say_where(Case(history), Window(begin, end), folder.resolve())
        while begin + SECONDS * len(PHASES) <= end:
            judge_triple(triple(planned, begin, history.requests, machine, history.notes), tallies, "recorded")
            begin += step


def _say_where(case: Case, window: Window, folder: Path) -> None:
    foreign = foreign_share(case, window)
    told = f"{100 * foreign:.0f} % of the machine" if foreign is not None else "an unknown share of the machine"
    print(f"{folder.name}: {window.seconds:.0f} s, other programs took {told}", file=sys.stderr)


def record(seconds: float, rate: float, folder: Path) -> Path:
    """Let the sample system run unchanged for so long; gives the folder of the run."""
    verdict = run_once(scenario(rate, warmup=10, baseline=seconds, fault=5, recovery=5), folder)
    return (folder / verdict["scenario"] / verdict["run"]).resolve()


def run_once(text: str, reports: Path) -> dict[str, Any]:
    """One run by the command; its verdict. Raises RuntimeError where it came to none, or left something behind."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unchanged.yaml"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "harness", "run", str(path), "--json"]
        command += ["--report-dir", str(reports.resolve()), "--runtime", "local"]
        ended = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=False)
    if ended.returncode not in JUDGED:
        raise RuntimeError(f"expected a run that was judged, found one that ended with exit code {ended.returncode}")
    verdict: dict[str, Any] = json.loads(ended.stdout)
    return verdict


def of_live(runs: int, rate: float, reports: Path) -> Counter[str]:
    """Whole runs, one after the other; the words they came out with."""
    words: Counter[str] = Counter()
    for number in range(runs):
        verdict = run_once(scenario(rate), reports)
        words[verdict["word"]] += 1
        print(f"{number + 1} of {runs}: {verdict['word']}: {verdict['sentence']}", file=sys.stderr)
    return words


def main() -> int:
    """Do what was asked, and print it as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=80.0)
    parser.add_argument("--reports", type=Path, default=PROJECT / "reports")
    orders = parser.add_subparsers(dest="order", required=True)
    orders.add_parser("made-up").add_argument("--triples", type=int, default=500)
    orders.add_parser("record").add_argument("--seconds", type=float, default=600)
    windows = orders.add_parser("windows")
    windows.add_argument("runs", type=Path, nargs="+")
    windows.add_argument("--step", type=float, default=1.0)
    orders.add_parser("live").add_argument("--runs", type=int, default=20)
    asked = parser.parse_args()
    if asked.order == "record":
        print(record(asked.seconds, asked.rate, asked.reports))
        return 0
    if asked.order == "live":
        for word, number in of_live(asked.runs, asked.rate, asked.reports).most_common():
            print(f"{word}: {_told(number, asked.runs)}")
        return 0
    tallies: Tallies = {}
    if asked.order == "made-up":
        of_made_up(asked.triples, asked.rate, tallies)
    else:
        of_recorded(asked.runs, asked.step, tallies)
    print("| windows | number | failed | inconclusive |\n|---|--:|--:|--:|")
    print("\n".join(tally.line(name) for name, tally in tallies.items()))
    for name, tally in tallies.items():
        if tally.reasons:
            print(f"{name}: {dict(tally.reasons.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
