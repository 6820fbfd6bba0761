"""What it costs to keep every request of a run: one table of what is asked of the records and what was found.

    python benchmarks/records.py [SECTION …] [--requests 3600000] [--rounds 5] [--seconds 8]

`hour`: one hour at 1,000 requests a second, shipping away in the middle of it. A process appends the lines that the load
would have written, as fast as it can; the harness's own recorder follows them with everything that watches a run, in the
hour's own time, and its memory is looked at every simulated minute. Then the run is judged and told as `chaos judge` does.
`listener`: what recording costs the load process, in processor time for each request. In one run it is switched off and on
again every quarter of a second, and the two are compared. The same locustfile drives the same server without the harness
too: that tells what all of it costs, with time limits that hold, trace ids, names of journeys and the pace.
Figures are of this machine alone, and of what else it did meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from proxy_rig import http_callee

from harness.experiment import judge_folder
from harness.history.events import Event, PhaseBegan, event_from_data, event_to_data
from harness.history.history import read_history
from harness.history.store import EVENTS, NOTES, PARQUET, PLAN, REQUESTS, RunFolder, pack_requests, read_lines, read_plan
from harness.judge.judge import judge
from harness.judge.live import LiveJudge
from harness.model.load import Phases
from harness.plan.plan import Arrivals
from harness.report.html import html_report
from harness.report.live import LiveView
from harness.runtime.load.locust import LocustLoad
from harness.runtime.recorder import Recorder, RequestTail
from tests.contract.launching import plain_launch
from tests.histories import building
from tests.histories.shop import FALLBACK, JOURNEYS, USUAL_SECONDS, WEIGHTS

RATE = 1000.0
MB = 1 << 20
PART = 20_000


@dataclass(frozen=True, slots=True)
class Given:
    requests: int
    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    metric: str
    found: float
    unit: str
    most: float | None = None
    note: str = ""

    def show(self) -> None:
        asked = f"<= {self.most:g}" if self.most is not None else ""
        met = "" if self.most is None else "ok" if self.found <= self.most else "NOT"
        print(f"{self.metric:<46} {self.found:>10,.1f} {self.unit:<6} {asked:<10} {met:<4} {self.note}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--requests", type=in_thirds, default=3_600_000, help="requests of the hour (3600000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the listener (5)")
    parser.add_argument("--seconds", type=float, default=8, help="seconds of each measurement of the listener (8)")
    given = parser.parse_args()
    chosen = given.sections or list(SECTIONS)
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; sections: {', '.join(SECTIONS)}")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}\n")
    print(f"{'metric':<46} {'found':>10} {'':<6} {'asked':<10}")
    for name in chosen:
        for row in SECTIONS[name](Given(given.requests, given.rounds, given.seconds)):
            row.show()
    print(f"\nload average {os.getloadavg()[0]:.2f}")


def in_thirds(text: str) -> int:
    """So many requests as are three phases of whole seconds, the warm-up in the first of them."""
    requests = int(text)
    if requests < 3 * 10 * RATE or requests % (3 * RATE):
        raise argparse.ArgumentTypeError(f"expected a multiple of {3 * RATE:,.0f} from {30 * RATE:,.0f} on, found {text}")
    return requests


# An hour


def hour(given: Given) -> Iterator[Row]:
    """Recorded, packed, judged and told: each in a process of its own, as a run of its own would be."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        in_process(tell, folder, given.requests)
        yield from in_process(record, folder, given.requests)
        lines = (folder / REQUESTS).stat().st_size
        yield Row("the lines on disk", lines / given.requests, "B/req")
        yield from in_process(pack_and_judge, folder, given.requests)
        packed = sum((folder / file).stat().st_size for file in (PARQUET, NOTES))
        yield Row("the columns on disk", packed / given.requests, "B/req")
        yield from in_process(judge_again, folder, given.requests)


def in_process(measure: Callable[[Path, int], list[Row]], folder: Path, requests: int) -> list[Row]:
    """What a function measures in a fresh process, whose memory is its own."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_tell, args=(measure, folder, requests, theirs))
    process.start()
    theirs.close()
    try:
        rows: list[Row] = ours.recv()
    finally:
        process.join()
    return rows


def _tell(measure: Callable[[Path, int], list[Row]], folder: Path, requests: int, into: Connection) -> None:
    into.send(measure(folder, requests))


def story_of(requests: int) -> building.Story:
    """An hour, or as much of one as so many requests are: shipping is away for a third of it."""
    third = round(requests / RATE / 3)
    phases = Phases.model_validate({"warmup": "5s", "baseline": f"{third - 5}s", "fault": f"{third}s", "recovery": f"{third}s"})
    away = (
        building.Damage("place order", third, 2 * third, 0.996, slower=2.5, mark=FALLBACK),
        building.broken("track shipment", third, 2 * third),
    )
    fault = building.fault("outage", lasting=f"{third}s", service="shipping")
    expected = tuple(item for item in building.EXPECTED if item.invariant is None)
    return building.Story(rate=RATE, phases=phases, faults=(fault,), damage=away, expect=expected)


def write_lines(story: building.Story, path: Path) -> None:
    """The lines that the load would write, in the order in which its requests ended as nearly as it does."""
    total = round(story.rate * story.load_seconds)
    counts = {"scheduled": total, "requests": total, "dropped": 0, "silent": 0}
    draw = np.random.default_rng(7)
    names, shares = list(WEIGHTS), np.array(list(WEIGHTS.values()), dtype=float)
    usual = np.array([USUAL_SECONDS.get(name, 0.01) for name in names])
    with path.open("ab", buffering=MB) as file:
        file.write(json.dumps({"load": "began", "at": building.BEGAN}).encode() + b"\n")
        for first in range(0, total, PART):
            number = np.arange(first, min(first + PART, total))
            kind = draw.choice(len(names), len(number), p=shares / shares.sum())
            due = building.BEGAN + number / story.rate
            offset = number / story.rate
            away = (offset >= story.damage[0].begin) & (offset < story.damage[0].end)
            slower = np.where(away & (kind == names.index("place order")), 2.5, 1.0)
            start = due + 0.0007 * draw.exponential(1, len(number))
            end = start + usual[kind] * draw.lognormal(0, 0.4, len(number)) * slower
            rows = zip(*(column.tolist() for column in (kind, number, due, start, end, away)), strict=True)
            file.write("".join(_line(names[kind], row) for kind, *row in rows).encode())
            file.flush()
        file.write(json.dumps({"load": "finished", "at": building.BEGAN + story.load_seconds, **counts}).encode() + b"\n")


def _line(name: str, row: Sequence[Any]) -> str:
    number, due, start, end, away = row
    failed = away and name == "track shipment"
    marks = f'["{FALLBACK}"]' if away and name == "place order" else "[]"
    outcome, status, error = ("http_5xx", 503, "http_5xx: made up") if failed else ("ok", 200, "")
    return (
        f'{{"journey":"{JOURNEYS[name]}","due":{due:.6f},"start":{start:.6f},"end":{end:.6f},"outcome":"{outcome}",'
        f'"status":{status},"bytes":240,"marks":{marks},"trace":"{number:032x}","error":"{error}"}}\n'
    )


THIN = 20.0
"""Of each second so many requests are told one by one, for what the events count of them."""


def tell(folder: Path, requests: int) -> list[Row]:
    """Write the plan, and beside the run the events that it will see."""
    story = story_of(requests)
    run = RunFolder(folder)
    run.write(PLAN, json.dumps(building.plan(story).model_dump(mode="json")))
    run.close()
    events = building.tell(replace(story, rate=THIN, counted=RATE / THIN)).events
    with (folder.parent / EVENTS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(event_to_data(event)) + "\n" for event in events)
    return []


def told(folder: Path) -> Iterator[Event]:
    """The events of the run, one by one."""
    return filter(None, map(event_from_data, read_lines(folder.parent / EVENTS)))


def record(folder: Path, requests: int) -> list[Row]:
    """Follow the lines with all that watches a run; tell of the memory it took, minute by minute."""
    story, planned, events = story_of(requests), read_plan(folder), told(folder)
    upcoming = next(events)
    run = RunFolder(folder)
    gate = LiveJudge(planned)
    recorder = Recorder(run, gate, LiveView(planned))
    tail, seen, reason, spent = RequestTail(folder / REQUESTS), 0, None, time.process_time()
    memory = [_memory()]
    writer = get_context("fork").Process(target=write_lines, args=(story, folder / REQUESTS))
    writer.start()
    while seen < requests:
        new = tail.new_requests()
        if not new:
            if writer.exitcode:
                raise RuntimeError(f"expected {requests} lines, found {seen}: who writes them ended with {writer.exitcode}")
            time.sleep(0.01)
            continue
        seen += len(new)
        while upcoming.at <= new.due[-1]:
            if isinstance(upcoming, PhaseBegan) and upcoming.phase == "fault":
                reason = recorder.reason_to_halt()
            recorder.record(upcoming)
            upcoming = next(events)
        recorder.pass_on(new)
        if seen // (60 * RATE) >= len(memory):
            memory.append(_memory())
    spent = time.process_time() - spent
    writer.join()
    for event in chain([upcoming], events):
        recorder.record(event)
    run.close()
    third = len(memory) // 3
    return [
        Row("recorder: memory at the begin", memory[0], "MB"),
        Row("recorder: memory at most", max(memory), "MB", 300, f"{len(memory) - 1} minutes; {reason or 'baseline healthy'}"),
        Row("recorder: it grew from the baseline's end to the end", memory[-1] - memory[third], "MB", 20),
        Row("recorder: processor time", 1e6 * spent / requests, "µs/req"),
    ]


def pack_and_judge(folder: Path, requests: int) -> list[Row]:
    """From the lines to the reports, as the end of a run does it."""
    watch = [_watch()]
    pack_requests(folder)
    watch.append(_watch())
    run = judge_folder(folder)
    watch.append(_watch())
    (packing, packing_cpu), (judging, judging_cpu) = (
        (then[0] - before[0], then[1] - before[1]) for before, then in pairwise(watch)
    )
    return [
        Row("lines into columns", packing, "s", None, f"{requests:,} requests; {packing_cpu:.1f} s of a processor"),
        Row("judge and report", judging, "s", 15, f"{run.verdict.word}; {judging_cpu:.1f} s of a processor"),
        Row("columns, judge and report: memory at most", _most_memory(), "MB"),
    ]


def judge_again(folder: Path, _requests: int) -> list[Row]:
    """Where the time of judging and telling goes."""
    times = [time.perf_counter()]
    history = read_history(folder)
    times.append(time.perf_counter())
    verdict = judge(history)
    times.append(time.perf_counter())
    page = html_report(history, verdict, "chaos run")
    times.append(time.perf_counter())
    reading, judging, telling = (end - begin for begin, end in pairwise(times))
    return [
        Row("  reading the columns", reading, "s"),
        Row("  judging", judging, "s"),
        Row("  the page", telling, "s"),
        Row("  the page", len(page) / 1000, "KB", 500),
        Row("  memory at most", _most_memory(), "MB"),
    ]


def _watch() -> tuple[float, float]:
    """Time that has passed, and time that a processor was at it for us: where others are at work, the first says little."""
    return time.perf_counter(), time.process_time()


def _memory() -> float:
    return float(psutil.Process().memory_info().rss / MB)


def _most_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# The listener

LOCUSTFILE = """
import time

import gevent
from harness.runtime.load.ledger import Ledger
from locust import {client}, events, task

sent = 0
kept = {{name: getattr(Ledger, name) for name in ("enter", "reported", "settle")}}


@events.init.add_listener
def begin(**_):
    gevent.spawn(tell)


def tell():
    with open("told", "w", buffering=1) as file:
        recording = True
        while True:
            gevent.sleep(0.25)
            file.write(f"{{int(recording)}} {{sent}} {{time.process_time()}}\\n")
            recording = not recording
            for name, method in kept.items():
                setattr(Ledger, name, method if recording else lambda *_: None)


class Visitor({client}):
    @task
    def look(self):
        global sent
        self.client.get("/", name="look")
        sent += 1
"""

USERS = 8
WARM = 1.0
"""Seconds that are not counted: connections are made, and the interpreter learns."""


def listener(given: Given) -> Iterator[Row]:
    """The processor time of a request: bare; under the harness; and there, in one run, recorded and not, in turns."""
    for client in ("FastHttpUser", "HttpUser"):
        found: dict[str, list[float]] = {"bare": [], "whole": [], "record": []}
        with tempfile.TemporaryDirectory() as name, http_callee() as callee:
            file = Path(name) / "locustfile.py"
            file.write_text(LOCUSTFILE.format(client=client))
            host = f"http://{callee.host}:{callee.port}"
            for _ in range(given.rounds):
                with unwatched(file, host):
                    bare = sum(costs(file.with_name("told"), given.seconds)) / 2
                with loaded(file, host):
                    without, recorded = costs(file.with_name("told"), given.seconds)
                found["bare"].append(bare)
                found["whole"].append(recorded - bare)
                found["record"].append(recorded - without)
        spread = {kind: f"rounds: {min(each):.0f} to {max(each):.0f}" for kind, each in found.items()}
        middle = {kind: statistics.median(each) for kind, each in found.items()}
        yield Row(f"{client}: a bare request", middle["bare"], "µs", None, spread["bare"])
        yield Row(f"{client}: recording it", middle["record"], "µs", 20, spread["record"])
        yield Row(f"{client}: all that is laid around it", middle["whole"], "µs", None, spread["whole"])


def costs(told: Path, seconds: float) -> tuple[float, float]:
    """Microseconds of Locust's processor time for each request, as it says itself: while not recording, and while recording."""
    wait_for_requests(told)
    time.sleep(WARM + seconds)
    lines = [line.split() for line in told.read_text().splitlines()]
    told.unlink()
    looks = [(int(recording), int(sent), float(spent)) for recording, sent, spent in lines if int(sent) > 0]
    stretches: tuple[list[float], list[float]] = [], []
    for (_, sent_before, spent_before), (recording, sent, spent) in pairwise(looks[round(WARM * 4) :]):
        stretches[recording].append((spent - spent_before) / (sent - sent_before))
    without, recorded = (1e6 * statistics.median(each) for each in stretches)
    return without, recorded


def wait_for_requests(told: Path) -> None:
    until = time.monotonic() + 60
    while not told.exists() or not any(int(line.split()[1]) for line in told.read_text().splitlines()):
        if time.monotonic() > until:
            raise RuntimeError("Locust sent nothing")
        time.sleep(0.05)


@contextmanager
def unwatched(file: Path, host: str) -> Iterator[None]:
    """Locust as it is."""
    command = [sys.executable, "-m", "locust", "-f", str(file), "--headless", "--only-summary", "--host", host]
    command += ["--users", str(USERS), "--spawn-rate", str(USERS), "--run-time", "600s"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=file.parent) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def loaded(file: Path, host: str) -> Iterator[None]:
    """The same under the harness, in the closed model, so that it sends as fast as it can too."""
    records = file.with_name(REQUESTS)
    records.unlink(missing_ok=True)
    load = LocustLoad(plain_launch, file.parent, file.with_name("load.log"))
    arrivals = Arrivals(locustfile=str(file), users=USERS, arrivals="uniform", timeout=5.0, seed=7, seconds=60.0)
    load.start(arrivals, host, {}, records)
    try:
        load.go(time.time())
        yield
    finally:
        load.stop()


SECTIONS: dict[str, Callable[[Given], Iterator[Row] | Sequence[Row]]] = {"hour": hour, "listener": listener}

if __name__ == "__main__":
    main()
