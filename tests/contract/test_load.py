"""Locust as a child process, against a real server: what arrives, what is recorded, and that nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import NoReturn

import pytest

from harness.errors import CouldNotRun, InvalidLocustfile, LoadError
from harness.history.requests import OUTCOMES
from harness.model.rates import course_of
from harness.plan.draws import journey_prefix
from harness.plan.plan import Arrivals
from harness.runtime.load import locust as adapter
from harness.runtime.load.arrivals import arrival_offsets
from tests.contract.load_rig import Rig, browser, load_rig

CLIENTS = ("HttpUser", "FastHttpUser")


def for_both(text: str) -> str:
    """The same user file for both of Locust's clients at once; {client} stands for the one and {name} for its user class."""
    return "".join(textwrap.dedent(text).replace("{client}", client).replace("{name}", f"By{client}") for client in CLIENTS)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with load_rig(tmp_path) as made:
        yield made


# The schedule


def test_the_rate_is_the_one_asked_for_whatever_waits_the_user_file_has(rig: Rig) -> None:
    records = rig.run(browser("FastHttpUser"), seconds=1.0, rate=80.0, users=480)

    finished = records.note("finished")
    dues = [request.due for request in records.requests]
    lasted = finished["at"] - records.note("began")["begin"]
    assert 78 <= finished["scheduled"] <= 80 * lasted + 1
    assert finished["scheduled"] == finished["sent"] == len(records.requests)
    assert {round(later - earlier, 6) for earlier, later in pairwise(dues)} == {0.0125}
    assert {request.outcome for request in records.requests} == {"ok"}


def test_the_first_request_is_due_when_it_was_told_and_none_is_sent_before(rig: Rig) -> None:
    rig.start(browser("FastHttpUser"))
    assert rig.server.asked == []

    at = rig.go()
    time.sleep(0.4)
    rig.load.stop()

    records = rig.records()
    assert records.requests[0].due == pytest.approx(at, abs=0.001)
    assert rig.server.asked[0][0] >= at - 0.001
    assert all(request.start >= request.due for request in records.requests)
    assert records.note("began")["begin"] == at


def test_users_are_ready_within_a_second_and_a_half(rig: Rig) -> None:
    began = time.monotonic()
    rig.start(browser("FastHttpUser"), users=480)

    assert time.monotonic() - began < 5  # 0.4 s on a quiet machine


def test_poisson_arrivals_are_those_of_the_seed(rig: Rig) -> None:
    records = rig.run(browser("FastHttpUser"), seconds=0.4, arrivals="poisson", seed=3)

    begin = records.note("began")["begin"]
    offsets = [request.due - begin for request in records.requests]
    assert len(offsets) > 5
    assert offsets == pytest.approx(list(islice(arrival_offsets(course_of(50.0, ()), "poisson", 3), len(offsets))), abs=1e-6)


def test_a_stall_of_the_server_is_charged_to_every_arrival_that_met_it(rig: Rig) -> None:
    """Coordinated omission: with the waits of the file, one slow request a user would be all there is to see."""
    rig.start(browser("FastHttpUser"), rate=50.0, users=150, timeout=5.0)
    at = rig.go()
    time.sleep(max(0.0, at + 0.5 - time.time()))
    rig.server.stalled_until = at + 2.5
    time.sleep(max(0.0, at + 3.0 - time.time()))
    rig.load.stop()

    latencies = sorted(request.latency for request in rig.records().requests if request.due < at + 3.0)
    truth = sorted(max(0.0, 2.5 - offset) if offset >= 0.5 else 0.0 for offset in (number / 50 for number in range(150)))
    for share in (0.5, 0.75, 0.95, 0.99):
        assert latencies[int(share * 150)] == pytest.approx(truth[int(share * 150)], rel=0.1, abs=0.25)


STALL = 5.0
STALL_BEGAN, STALL_SEEN = 4.0, 20.0


def met_by_a_stall(rig: Rig, text: str, **load: object) -> list[float]:
    """The latencies of a window of 20 s, sorted, in which nobody was answered for five."""
    rig.start(text, timeout=8.0, **load)
    at = rig.go()
    time.sleep(max(0.0, at + STALL_BEGAN - time.time()))
    rig.server.stalled_until = at + STALL_BEGAN + STALL
    time.sleep(max(0.0, at + STALL_SEEN - time.time()))
    rig.load.stop()
    return sorted(request.latency for request in rig.records().requests if request.due < at + STALL_SEEN)


def truth_at(share: float, rate: float = 100.0) -> float:
    """What every arrival would have seen that met the stall: its rest, from the longest on."""
    stalled_longer = (1 - share) * rate * STALL_SEEN
    return STALL - stalled_longer / rate


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_a_stall_of_five_seconds_at_100_per_second_is_told_as_it_was(rig: Rig, client: str) -> None:
    latencies = met_by_a_stall(rig, browser(client), rate=100.0, users=960)

    assert len(latencies) == pytest.approx(100 * STALL_SEEN, abs=2)
    for share in (0.95, 0.99):
        assert latencies[int(share * len(latencies))] == pytest.approx(truth_at(share), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_a_closed_loop_of_the_same_rate_hides_the_stall(rig: Rig, client: str) -> None:
    """Ten users, ten requests a second each: ten requests met the stall, and five hundred were never sent."""
    latencies = met_by_a_stall(rig, browser(client).replace("between(100, 200)", "between(0.1, 0.1)"), rate=None, users=10)

    assert latencies[int(0.95 * len(latencies))] < 0.1 * truth_at(0.95)
    assert sum(latency > 1 for latency in latencies) <= 10


def test_user_classes_are_mixed_from_the_first_arrival_on(rig: Rig) -> None:
    text = for_both(browser("{client}").replace("Browser", "{name}").replace('"/ok"', '"/ok", name="{client}"'))

    records = rig.run(text, seconds=0.6, rate=60.0, users=200)

    shares = [
        sum(request.journey == f"GET {client}" for request in records.requests) / len(records.requests) for client in CLIENTS
    ]
    assert min(shares) > 0.25


def test_arrivals_that_no_user_was_free_for_are_dropped_not_forgotten(rig: Rig) -> None:
    records = rig.run(browser("FastHttpUser", "/hole"), seconds=0.8, users=5)

    finished = records.note("finished")
    dropped = [request for request in records.requests if request.outcome == "dropped"]
    assert finished["scheduled"] == len(records.requests) == finished["sent"] + finished["dropped"]
    assert len(dropped) == finished["dropped"] > 20
    assert all(request.start == request.due and request.journey == "" for request in dropped)


def test_the_closed_loop_keeps_the_waits_of_the_user_file(rig: Rig) -> None:
    text = browser("FastHttpUser").replace("between(100, 200)", "between(0.2, 0.2)")

    records = rig.run(text, seconds=1.1, rate=None, users=4)

    lasted = records.note("finished")["at"] - records.note("began")["begin"]
    assert 12 <= len(records.requests) <= 4 * (lasted / 0.2 + 1)
    assert all(request.due == request.start for request in records.requests)
    assert records.note("finished")["scheduled"] == len(records.requests)


SHAPED = (
    browser("FastHttpUser")
    .replace("between(100, 200)", "constant(0.1)")
    .replace("import FastHttpUser, between", "import FastHttpUser, LoadTestShape, constant")
    + """
    class Stairs(LoadTestShape):
        def tick(self):
            return (2, 100) if self.get_run_time() < 1 else END
    """
)


def test_a_load_shape_of_their_own_decides_how_many_users_there_are_from_the_begin_of_the_load_on(rig: Rig) -> None:
    rig.start(SHAPED.replace("END", "(6, 100)"), rate=None, users=0, shape=True)
    time.sleep(1.5)  # what it does before the load begins does not count
    assert rig.server.asked == []
    at = rig.go()
    time.sleep(3.0)
    rig.load.stop()

    assert rig.load.ended_early() is None
    starts = [request.start - at for request in rig.records().requests]
    early, late = (sum(begin <= start < begin + 0.8 for start in starts) for begin in (0.1, 2.1))
    assert min(starts) >= 0
    assert 8 <= early <= 18  # two users, ten times a second
    assert late > 1.8 * early
    assert {request.outcome for request in rig.records().requests} == {"ok"}


def test_a_load_shape_that_ends_before_the_phases_do_is_an_error_that_says_so(rig: Rig) -> None:
    rig.start(SHAPED.replace("END", "None"), rate=None, users=0, shape=True)
    rig.go()

    assert re.match(r"the load shape Stairs ended after 1\.\d s, and the phases go on", rig.reason_of_end())


def test_the_load_tells_each_second_how_it_fares(rig: Rig) -> None:
    records = rig.run(browser("FastHttpUser"), seconds=1.5, rate=80.0, users=100)

    vitals = [note for note in records.notes if note["load"] == "vitals"]
    assert vitals
    assert all(0 <= note["cpu"] < 0.5 and 0 <= note["lag"] < 1 and note["idle_users"] > 50 for note in vitals)
    lags = sorted(request.start - request.due for request in records.requests)
    assert lags[len(lags) // 2] < 0.02


# Several processes


def test_several_processes_share_the_arrivals_and_the_users_and_record_all_of_it(rig: Rig) -> None:
    records = rig.run(browser("FastHttpUser"), seconds=1.0, rate=90.0, users=100, processes=3)

    assert sorted(path.name for path in rig.folder.glob("requests*")) == [f"requests-{n}.jsonl" for n in (1, 2, 3)]
    began, finished = ([note for note in records.notes if note["load"] == kind] for kind in ("began", "finished"))
    assert sorted(note["users"] for note in began) == [33, 33, 34]
    assert len({note["pid"] for note in began}) == 3
    assert sum(note["scheduled"] for note in finished) == len(records.requests)
    dues = sorted(request.due for request in records.requests)
    assert {round(later - earlier, 6) for earlier, later in pairwise(dues)} == {round(1 / 90, 6)}
    assert len({request.trace for request in records.requests}) == len(records.requests)
    counts = [note["scheduled"] for note in finished]
    assert max(counts) - min(counts) <= 1


def test_poisson_arrivals_of_several_processes_are_those_of_one(rig: Rig) -> None:
    records = rig.run(browser("FastHttpUser"), seconds=0.5, arrivals="poisson", seed=3, processes=2)

    begin = next(note["begin"] for note in records.notes if note["load"] == "began")
    offsets = sorted(request.due - begin for request in records.requests)
    assert offsets == pytest.approx(list(islice(arrival_offsets(course_of(50.0, ()), "poisson", 3), len(offsets))), abs=1e-6)


def test_a_process_that_is_lost_leaves_the_others_going_and_is_named_at_the_end(rig: Rig) -> None:
    rig.start(browser("FastHttpUser"), processes=2)
    rig.go()
    time.sleep(0.4)
    os.kill(rig.pids[1], signal.SIGKILL)
    time.sleep(0.4)

    assert rig.load.ended_early() is None
    rig.load.stop()

    assert (rig.load.ended_early() or "").startswith("load process 2 of 2 ended with signal SIGKILL; the last lines of ")
    notes = [note["load"] for note in rig.records().notes]
    assert (notes.count("began"), notes.count("finished")) == (2, 1)


def test_a_load_whose_every_process_is_lost_has_ended(rig: Rig) -> None:
    rig.start(browser("FastHttpUser"), processes=2)
    rig.go()
    for pid in rig.pids:
        os.kill(pid, signal.SIGKILL)

    assert rig.reason_of_end().count("signal SIGKILL") == 2


def test_what_is_wrong_with_a_user_file_is_told_once_by_whichever_process(rig: Rig) -> None:
    assert "ZeroDivisionError" in refusal(rig, "1 / 0", processes=2)
    assert rig.pids == ()


FEW = """
from locust import FastHttpUser, task
class Look(FastHttpUser):
    @task
    def look(self): self.client.get("/ok")
class Few(Look):
    fixed_count = 1
"""


def test_a_process_is_refused_without_users_and_runs_with_those_chosen_that_it_has(rig: Rig) -> None:
    assert "too few of those with one (Few: 1)" in refusal(rig, FEW, processes=2, classes=("Few",))

    records = rig.run(FEW, processes=2, classes=("Look", "Few"))

    assert {request.outcome for request in records.requests} == {"ok"}


def test_users_of_a_fixed_number_are_that_many_in_all_processes_together(rig: Rig) -> None:
    text = """
    from locust import FastHttpUser, task
    class Many(FastHttpUser):
        def on_start(self): self.client.get("/many")
        @task
        def look(self): self.client.get("/ok")
    class One(Many):
        fixed_count = 1
        def on_start(self): self.client.get("/one")
    """
    rig.start(text, users=6, processes=2)

    assert (rig.server.paths.count("/one"), rig.server.paths.count("/many")) == (1, 5)


def test_the_users_of_a_shape_are_shared_among_the_processes(rig: Rig) -> None:
    shape = SHAPED.replace("return (2, 100)", "return (3, 100)").replace("END", "(3, 100)")

    records = rig.run(shape, seconds=1.5, rate=None, users=0, shape=True, processes=2)

    finished = [note["requests"] for note in records.notes if note["load"] == "finished"]
    assert sorted(finished)[0] > 6
    assert sorted(finished)[1] > 1.5 * sorted(finished)[0]


# What becomes of a request

EVERY_WAY = """
from locust import {client}, SequentialTaskSet, task

class {name}({client}):
    @task
    class Ways(SequentialTaskSet):
        @task
        def ok(self): self.client.get("/ok", name="{client} ok")
        @task
        def missing(self): self.client.get("/status/404", name="{client} missing")
        @task
        def broken(self): self.client.get("/status/503", name="{client} broken")
        @task
        def reset(self): self.client.post("/reset", data="x", name="{client} reset")
        @task
        def close(self): self.client.post("/close", data="x", name="{client} close")
        @task
        def cut(self): self.client.get("/cut", name="{client} cut")
        @task
        def hole(self): self.client.get("/hole", name="{client} hole")
        @task
        def trickle(self): self.client.get("/trickle", name="{client} trickle")
        @task
        def refused(self): self.client.get("http://127.0.0.1:CLOSED/", name="{client} refused")
        @task
        def tls(self): self.client.get("https://127.0.0.1:RUDE/", name="{client} tls")
        @task
        def nonsense(self): self.client.get("/nonsense", name="{client} nonsense")
        @task
        def never_connects(self): self.client.get("http://127.0.0.1:FULL/", name="{client} full")
"""

EXPECTED = {
    "GET {client} ok": {"ok"},
    "GET {client} missing": {"http_4xx"},
    "GET {client} broken": {"http_5xx"},
    "POST {client} reset": {"reset"},
    "POST {client} close": {"reset"},
    "GET {client} cut": {"reset"},
    "GET {client} hole": {"timeout_read"},
    "GET {client} trickle": {"timeout_read"},
    "GET {client} refused": {"refused"},
    "GET {client} tls": {"tls"},
    "GET {client} nonsense": {"other"},
    "GET {client} full": {"timeout_connect"},
}


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose handshakes are not answered: its queue is full."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield int(full.getsockname()[1])


def test_each_way_to_fail_has_one_name_whichever_client_met_it(rig: Rig, full_port: int) -> None:
    ports = {"CLOSED": closed_port(), "RUDE": rig.server.rude_port, "FULL": full_port}
    text = for_both(EVERY_WAY)
    for word, port in ports.items():
        text = text.replace(word, str(port))

    expected = {journey.replace("{client}", client): outcome for client in CLIENTS for journey, outcome in EXPECTED.items()}

    records = rig.run_until_seen(text, expected, rate=24.0, users=2, timeout=0.6)

    assert {journey: records.outcomes(journey) for journey in expected} == expected
    assert {request.outcome for request in records.requests} <= set(OUTCOMES)
    assert all(request.end - request.start < 2 for request in records.requests if request.journey)
    assert {request.status for request in records.requests if request.journey.endswith("broken")} == {503}


def test_a_server_that_accepts_and_never_answers_leaves_no_arrival_unaccounted(rig: Rig) -> None:
    text = for_both(browser("{client}", "/hole").replace("Browser", "{name}").replace('"/hole"', '"/hole", name="{client}"'))

    records = rig.run(text, seconds=1.2, rate=50.0, users=40, timeout=0.6)

    finished = records.note("finished")
    assert finished["scheduled"] >= 55
    assert len(records.requests) == finished["scheduled"] == finished["sent"] + finished["dropped"]
    assert {request.outcome for request in records.requests} <= {"timeout_read", "unfinished", "dropped"}
    for client in CLIENTS:
        assert sum(request.journey == f"GET {client}" for request in records.requests) > 15


def test_what_is_still_open_when_locust_ends_is_unfinished_with_its_age(rig: Rig) -> None:
    text = for_both(browser("{client}", "/hole?page=1").replace("Browser", "{name}"))
    rig.start(text, rate=20.0, timeout=3.0)
    rig.go()
    time.sleep(0.5)
    os.kill(rig.pid, signal.SIGTERM)
    assert "before it was told to" in rig.reason_of_end()

    requests = rig.records().requests
    assert len(requests) > 5
    assert {(request.journey, request.outcome) for request in requests} == {("GET /hole?page=1", "unfinished")}
    assert all(0 < request.end - request.start < 2 for request in requests)


# What users write

VARIED = """
import gevent
from locust import FastHttpUser, HttpUser, User, SequentialTaskSet, TaskSet, between, constant, task

class Deep(TaskSet):
    wait_time = constant(50)

    @task(3)
    def inside(self):
        self.client.get("/inside")

    @task
    class Deeper(TaskSet):
        def on_start(self):
            self.count = 0

        @task
        def deepest(self):
            self.count += 1
            if self.count > 2:
                self.interrupt()
            self.client.get("/deepest")

class Nested(HttpUser):
    weight = 2
    tasks = {Deep: 1}

class Steps(FastHttpUser):
    def on_start(self):
        self.client.get("/login")

    @task
    class Order(SequentialTaskSet):
        @task
        def first(self):
            self.client.get("/first")
        @task
        def second(self):
            self.client.get("/second")

class Chained(FastHttpUser):
    wait_time = between(10, 20)

    @task
    def chain(self):
        self.client.get("/chain/1")
        self.client.get("/chain/2")

class Checked(HttpUser):
    @task
    def accepts_404(self):
        with self.client.get("/status/404", name="accepted", catch_response=True) as answer:
            answer.success()
    @task
    def refuses_200(self):
        with self.client.get("/ok", name="refused", catch_response=True) as answer:
            answer.failure("not what I wanted")
    @task
    def stumbles(self):
        with self.client.get("/ok", name="stumbled", catch_response=True) as answer:
            answer.json()["nothing like it"]
    @task
    def forgets(self):
        self.client.get("/ok", name="forgotten", catch_response=True)
    @task
    def raises(self):
        self.client.get("/ok", name="before the error")
        raise ValueError("the journey is broken here")

class OwnClient(User):
    @task
    def speak(self):
        with self.environment.events.request.measure("OWN", "speak"):
            gevent.sleep(0.01)
    @task
    def stammer(self):
        self.environment.events.request.fire(
            request_type="OWN", name="stammer", response_time=3, response_length=0, exception=ConnectionResetError("gone"))
"""


def test_every_style_of_user_file_works_unchanged(rig: Rig) -> None:
    outcomes = {
        "GET /inside": {"ok"},
        "GET /deepest": {"ok"},
        "GET /login": {"ok"},
        "GET /first": {"ok"},
        "GET /second": {"ok"},
        "GET accepted": {"ok"},
        "GET refused": {"check_failed"},
        "GET stumbled": {"check_failed"},
        "GET forgotten": {"ok"},
        "GET before the error": {"ok"},
        "OWN speak": {"ok"},
        "OWN stammer": {"reset"},
    }
    records = rig.run_until_seen(VARIED, outcomes, rate=150.0, users=70, timeout=2.0)

    finished = records.note("finished")
    assert {journey: records.outcomes(journey) for journey in outcomes} == outcomes
    assert finished["sent"] + finished["silent"] + finished["dropped"] == finished["scheduled"]
    assert finished["silent"] == 0
    raised = [note["error"] for note in records.notes if note["load"] == "raised"]
    assert any("the journey is broken here" in error and "in raises" in error for error in raised)
    assert finished["raised"] > 0


def test_classes_and_tasks_are_drawn_by_their_weights_and_tags_are_no_hindrance(rig: Rig) -> None:
    text = """
    from locust import FastHttpUser, HttpUser, tag, task
    class Often(FastHttpUser):
        weight = 3
        @tag("reading")
        @task(4)
        def read(self):
            self.client.get("/ok", name="read")
        @tag("writing", "slow")
        @task(1)
        def write(self):
            self.client.post("/ok", name="write")
    class Seldom(HttpUser):
        weight = 1
        @task
        def look(self):
            self.client.get("/ok", name="look")
    """
    records = rig.run(text, seconds=2.0, rate=150.0, users=80)

    journeys = [request.journey for request in records.requests]
    shares = {journey: journeys.count(journey) / len(journeys) for journey in set(journeys)}
    assert shares == {
        "GET read": pytest.approx(0.60, abs=0.12),
        "POST write": pytest.approx(0.15, abs=0.09),
        "GET look": pytest.approx(0.25, abs=0.06),
    }


def test_only_the_first_request_of_a_task_is_charged_from_its_intended_start(rig: Rig) -> None:
    records = rig.run(VARIED, seconds=0.8, users=10, classes=("Chained",))

    first = [request for request in records.requests if request.journey == "GET /chain/1"]
    chained = [request for request in records.requests if request.journey == "GET /chain/2"]
    assert len(first) == records.note("finished")["scheduled"]
    assert len(first) - len(chained) in (0, 1)  # the last chain may be cut by the end of the load
    assert all(request.start > request.due for request in first)
    assert all(request.start == request.due for request in chained)


def test_what_users_do_to_get_ready_comes_before_the_first_arrival(rig: Rig) -> None:
    rig.start(VARIED, users=40, classes=("Steps",))
    assert rig.server.paths == ["/login"] * 40

    at = rig.go()
    time.sleep(0.5)
    rig.load.stop()

    records = rig.records()
    logins = [request for request in records.requests if request.journey == "GET /login"]
    assert len(logins) == 40
    assert all(request.due == request.start and request.end < at for request in logins)
    assert records.note("finished")["scheduled"] == len(records.requests) - 40


def test_a_task_that_does_nothing_leaves_its_arrival_to_the_next(rig: Rig) -> None:
    text = """
    from locust import FastHttpUser, task
    class Hesitant(FastHttpUser):
        @task
        def nothing(self):
            return
        @task
        def something(self):
            self.client.get("/ok")
    """
    finished = rig.run(text, seconds=0.8).note("finished")

    assert finished["sent"] >= 0.9 * finished["scheduled"]
    assert finished["sent"] + finished["silent"] == finished["scheduled"]


def test_modules_beside_the_user_file_can_be_imported_at_any_time(rig: Rig) -> None:
    rig.file("PATH = '/beside'", "beside.py")
    rig.file("PATH = '/late'", "later.py")
    text = """
    from locust import FastHttpUser, task
    import beside
    class Browser(FastHttpUser):
        @task
        def look(self):
            import later
            self.client.get(beside.PATH)
            self.client.get(later.PATH)
    """
    records = rig.run(text, seconds=0.3)

    assert {"/beside", "/late"} == set(rig.server.paths)
    assert {request.outcome for request in records.requests} == {"ok"}


def test_what_configures_locust_elsewhere_is_not_obeyed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.file("[tool.locust]\nusers = 1\nnonsense = 3\n", "pyproject.toml")
    rig.file("users = 1\nno-such-option = 3\n", "locust.conf")
    rig.file("users = 1\nno-such-option = 3\n", ".locust.conf")
    monkeypatch.setenv("HOME", str(rig.folder))
    monkeypatch.setenv("LOCUST_USERS", "1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    records = rig.run(browser("HttpUser"), seconds=0.3, users=20)

    assert records.note("began")["users"] == 20
    assert {request.outcome for request in records.requests} == {"ok"}


# Marks and traces


def test_the_markers_of_fallbacks_are_found_in_header_and_body(rig: Rig) -> None:
    rig.marks = {
        "from-cache": {"header": "X-Fallback", "equals": "from-cache"},
        "shipping-deferred": {"json": "$.shipping.status", "equals": "DEFERRED"},
    }
    text = for_both("""
    from locust import {client}, task
    class {name}({client}):
        @task
        def look(self):
            for path in ("/ok", "/cached", "/deferred"):
                self.client.get(path, name="{client} " + path)
    """)
    records = rig.run(text, seconds=0.4)

    marks = {request.journey: request.marks for request in records.requests}
    for client in CLIENTS:
        assert marks[f"GET {client} /ok"] == ()
        assert marks[f"GET {client} /cached"] == ("from-cache",)
        assert marks[f"GET {client} /deferred"] == ("shipping-deferred",)


def test_every_request_carries_a_trace_of_its_own_that_tells_its_journey_unless_the_user_set_one(rig: Rig) -> None:
    text = (
        for_both("""
    from locust import {client}, task
    class {name}({client}):
        @task
        def look(self):
            self.client.get("/{client}", headers={"X-Mine": "1"})
            self.client.get("/theirs", headers={"Traceparent": "00-THEIRS-THEIR-00"})
            self.client.get("/named/{client}/1", name="/named/{client}/N")
    """)
        .replace("THEIRS", "a" * 32)
        .replace("THEIR", "b" * 16)
    )

    records = rig.run(text, seconds=0.4)

    for client in CLIENTS:
        sent = {headers["traceparent"] for _, path, headers in rig.server.asked if path == f"/{client}"}
        recorded = [request.trace for request in records.requests if request.journey == f"GET /{client}"]
        assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", header) for header in sent)
        assert {header.split("-")[1] for header in sent} == set(recorded)
        assert len(recorded) == len(sent) > 2
        assert {trace[:8] for trace in recorded} == {journey_prefix(f"GET /{client}")}
        assert len({trace[8:] for trace in recorded}) == len(recorded)
        named = {headers["traceparent"][3:11] for _, path, headers in rig.server.asked if path == f"/named/{client}/1"}
        assert named == {journey_prefix(f"GET /named/{client}/N")}, "by the name that Locust reports"
    theirs = {headers["traceparent"] for _, path, headers in rig.server.asked if path == "/theirs"}
    assert theirs == {f"00-{'a' * 32}-{'b' * 16}-00"}
    assert {request.trace for request in records.requests if request.journey == "GET /theirs"} == {"a" * 32}


# Journeys


def test_requests_without_a_name_are_recorded_under_their_group_and_an_accepted_status_is_no_error(rig: Rig) -> None:
    text = for_both("""
    from locust import {client}, task
    class {name}({client}):
        @task
        def look(self):
            self.client.get("/{client}/17?page=1")
            self.client.get("/{client}/18")
            self.client.get("/{client}/19", name="{client} mine")
            self.client.get("/status/409", name="{client} accepted")
            self.client.get("/status/410", name="{client} accepted")
            with self.client.get("/status/409", name="{client} accepted checked", catch_response=True) as answer:
                answer.failure("not for me")
    """)
    accepted = {f"GET {client} {name}": (409,) for client in CLIENTS for name in ("accepted", "accepted checked")}

    records = rig.run(text, seconds=0.5, journeys=tuple(f"GET /{client}/*" for client in CLIENTS), accepted=accepted)

    journeys = {request.journey for request in records.requests}
    for client in CLIENTS:
        assert {f"GET /{client}/*", f"GET {client} mine"} <= journeys
        assert not any(f"/{client}/1" in journey for journey in journeys)
        grouped = [request for request in records.requests if request.journey == f"GET /{client}/*"]
        assert {request.trace[:8] for request in grouped} == {journey_prefix(f"GET /{client}/*")}
        mixed = {(r.status, r.outcome, r.error == "") for r in records.requests if r.journey == f"GET {client} accepted"}
        assert mixed == {(409, "ok", True), (410, "http_4xx", False)}
        assert records.outcomes(f"GET {client} accepted checked") == {"http_4xx"}


# What cannot be run


def refusal(rig: Rig, text: str, **changed: object) -> str:
    with pytest.raises(InvalidLocustfile) as caught:
        rig.start(text, **changed)
    return str(caught.value)


def test_a_locustfile_that_does_not_import_is_refused_with_its_own_traceback(rig: Rig) -> None:
    message = refusal(rig, "import locust\n\ndef wrong():\n    return 1 / 0\n\nwrong()\n")

    assert "ZeroDivisionError" in message
    assert 'locustfile.py", line 6, in <module>' in message
    assert "line 4, in wrong" in message
    assert "importlib" not in message
    assert "site-packages" not in message


def test_a_locustfile_with_a_slip_of_the_pen_is_refused_with_its_line(rig: Rig) -> None:
    message = refusal(rig, "from locust import task\ndef (:\n")

    assert "SyntaxError" in message
    assert "line 2" in message


def test_a_locustfile_that_exits_is_refused(rig: Rig) -> None:
    assert "SystemExit" in refusal(rig, "import sys\nsys.exit(0)\n")


def test_a_locustfile_without_a_user_is_refused(rig: Rig) -> None:
    assert "inherits from HttpUser" in refusal(rig, "x = 1\n\ndef test_not_mine():\n    pass\n")


def test_a_locustfile_with_a_load_shape_is_refused(rig: Rig) -> None:
    shape = "from locust import LoadTestShape\nclass Stairs(LoadTestShape):\n    def tick(self): return (1, 1)\n"

    message = refusal(rig, "from locust import HttpUser\nclass U(HttpUser): pass\n" + shape)

    assert "load shape Stairs" in message
    assert "load: {shape: true}" in message


def test_a_load_shape_that_is_asked_for_and_not_there_is_refused(rig: Rig) -> None:
    assert "expected one class that inherits from LoadTestShape" in refusal(rig, browser("HttpUser"), rate=None, shape=True)


def test_user_classes_that_do_not_exist_are_named(rig: Rig) -> None:
    assert "expected the user classes Buyer, found Browser" in refusal(rig, browser("HttpUser"), classes=("Buyer",))


@pytest.mark.parametrize(("name", "said"), [("nothing.py", "no such file"), ("locustfile.txt", "ends with .py")])
def test_a_locustfile_that_is_none_is_refused_before_anything_starts(rig: Rig, name: str, said: str) -> None:
    rig.file("", "locustfile.txt")

    with pytest.raises(InvalidLocustfile, match=said):
        rig.start(None, name=name)


def test_users_that_all_end_while_they_get_ready_are_an_error(rig: Rig) -> None:
    text = browser("FastHttpUser") + "\n        def on_start(self):\n            raise RuntimeError('no ticket')\n"

    with pytest.raises(LoadError, match=r"(?s)no user lived.*in on_start.*RuntimeError: no ticket"):
        rig.start(text, users=3)
    assert any("no ticket" in note["error"] for note in rig.records().notes)


BREAKING = """
from locust import FastHttpUser, events, task

@events.EVENT.add_listener
def prepare(**_):
    IN_LISTENER

class Browser(FastHttpUser):
    @task
    def look(self):
        IN_TASK
        self.client.get("/ok")
"""


def breaking(event: str = "test_start", listener: str = "pass", task: str = "pass") -> str:
    return BREAKING.replace("EVENT", event).replace("IN_LISTENER", listener).replace("IN_TASK", task)


@pytest.mark.parametrize("event", ["init", "test_start"])
def test_a_listener_that_breaks_is_an_error_with_its_own_traceback(rig: Rig, event: str) -> None:
    with pytest.raises(LoadError) as caught:
        rig.start(breaking(event, listener="open('customers.csv')"))

    assert "locustfile.py: a listener broke while the load ran:" in str(caught.value)
    assert "line 6, in prepare" in str(caught.value)
    assert "FileNotFoundError" in str(caught.value)
    assert "event.py" not in str(caught.value).partition("; the last lines")[0]


@pytest.mark.parametrize(("broken", "named"), [("self.nowhere", "AttributeError"), ("raise SystemExit(3)", "SystemExit: 3")])
def test_tasks_that_break_before_any_request_are_an_error_with_their_traceback(rig: Rig, broken: str, named: str) -> None:
    rig.start(breaking(task=broken))
    rig.go()

    reason = rig.reason_of_end()

    assert "broke while the load ran" in reason
    assert "line 11, in look" in reason
    assert named in reason
    assert named in rig.records().note("failed")["error"]


def test_tasks_that_break_after_a_request_was_sent_do_not_end_the_load(rig: Rig) -> None:
    records = rig.run(breaking().replace('get("/ok")', 'get("/ok").nothing'), seconds=0.6)

    assert records.note("finished")["raised"] > 15
    assert {request.journey for request in records.requests} == {"GET /ok"}


def test_a_locust_that_cannot_be_imported_is_an_error_that_says_what_to_do(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.file("raise ImportError('not here')", "locust.py")
    monkeypatch.setenv("PYTHONPATH", str(rig.folder))

    with pytest.raises(LoadError, match="pip install locust"):
        rig.start(browser("HttpUser"))


def test_a_locust_that_was_renamed_inside_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.file("import locust\ndel locust.TaskSet.execute_next_task", "sitecustomize.py")
    monkeypatch.setenv("PYTHONPATH", str(rig.folder))

    with pytest.raises(LoadError, match="is not supported: it has no TaskSet"):
        rig.start(browser("HttpUser"))


def test_a_load_that_cannot_even_be_launched_leaves_nothing_open(tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise CouldNotRun("load: no more processes")

    (tmp_path / "locustfile.py").write_text("")
    load = adapter.LocustLoad(refuse, tmp_path, tmp_path / "load.log")
    arrivals = Arrivals(
        locustfile=str(tmp_path / "locustfile.py"), rate=1.0, users=1, arrivals="uniform", timeout=1.0, seed=1, seconds=1.0
    )

    with pytest.raises(CouldNotRun, match="no more processes"):
        load.start(arrivals, "http://127.0.0.1:1", {}, tmp_path / "requests.jsonl")
    load.stop()
    assert load.ended_early() is None


# The end


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("rate", [1.0, None])
def test_an_idle_load_stops_at_once(rig: Rig, rate: float | None) -> None:
    rig.start(browser("FastHttpUser"), rate=rate, users=200, timeout=30.0)
    rig.go()
    pid, began = rig.pid, time.monotonic()

    rig.load.stop()

    assert time.monotonic() - began < 3
    assert gone_within(pid, 0.1)


def test_stopping_before_it_began_and_twice_is_stopping(rig: Rig) -> None:
    rig.start(browser("FastHttpUser"))

    rig.load.stop()
    rig.load.stop()

    assert rig.records().note("finished")["scheduled"] == 0
    assert rig.load.ended_early() is None


def test_a_load_that_dies_is_noticed_with_its_last_log_lines(rig: Rig) -> None:
    rig.start(browser("FastHttpUser"))
    assert rig.load.ended_early() is None
    os.kill(rig.pid, signal.SIGKILL)

    reason = rig.reason_of_end()

    assert "signal SIGKILL" in reason
    assert "All users spawned" in reason


def test_a_user_file_that_ends_the_load_is_noticed(rig: Rig) -> None:
    text = """
    from locust import FastHttpUser, task
    class Quitter(FastHttpUser):
        @task
        def quit(self):
            self.client.get("/ok")
            self.environment.runner.quit()
    """
    rig.start(text)
    rig.go()

    assert "every user has ended" in rig.reason_of_end()
    assert "every user has ended" in rig.records().note("failed")["error"]


def test_a_load_that_cannot_write_its_records_ends_loudly(rig: Rig) -> None:
    rig.records_file.symlink_to("/dev/full")
    rig.start(browser("FastHttpUser"))
    rig.go()

    assert "cannot be written" in rig.reason_of_end()


def test_a_user_file_that_never_yields_is_killed_and_its_log_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    from locust import FastHttpUser, task
    class Busy(FastHttpUser):
        @task
        def spin(self):
            while True:
                pass
    """
    rig.start(text, timeout=0.1)
    rig.go()
    time.sleep(0.3)
    pid = rig.pid
    monkeypatch.setattr(adapter, "STOP_SLACK", 0.5)

    rig.load.stop()

    assert gone_within(pid, 0.1)
    told = rig.load.ended_early() or ""
    assert told.startswith("Locust did not end when told to; the last lines of logs/load.log:")


@pytest.mark.parametrize("processes", [1, 2])
def test_no_load_outlives_the_harness(tmp_path: Path, rig: Rig, processes: int) -> None:
    rig.file(browser("FastHttpUser", "/hole"))
    program = f"""
import sys, threading, time
from pathlib import Path
from tests.contract.load_rig import Rig, plain_launch
class Known:
    url = "{rig.server.url}"
rig = Rig(Path({str(tmp_path)!r}), Known)
threading.Thread(target=lambda: (rig.start(None, processes={processes}), rig.go(), print(*rig.pids, flush=True))).start()
time.sleep(60)
"""
    root = Path(__file__).parents[2]
    harness = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root)
    assert harness.stdout is not None
    pids = [int(pid) for pid in harness.stdout.readline().split()]
    time.sleep(0.4)

    harness.kill()
    harness.communicate()

    assert len(pids) == processes
    assert all(gone_within(pid, 3) for pid in pids)
    records = rig.records()
    failed = [note["error"] for note in records.notes if note["load"] == "failed"]
    assert failed == ["whoever started the load is gone"] * processes
    assert records.outcomes("GET /hole") == {"unfinished"}


def test_the_harness_itself_never_imports_locust() -> None:
    program = "import sys, harness.runtime.load.locust; print(sorted({'locust', 'gevent'} & set(sys.modules)))"

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert json.loads(found.stdout.replace("'", '"')) == []
