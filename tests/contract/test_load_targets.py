"""A real load asks for the way in and for what was allowed, by whichever client, redirect or import it tries another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.errors import InvalidLocustfile
from tests.contract.load_rig import Rig, load_rig

OTHER = "127.0.0.2"


@dataclass
class Elsewhere:
    """A server at another address than the way in, which leads nobody back."""

    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://{OTHER}:{self.port}"


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    seen = Elsewhere()

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer((OTHER, 0), Answering) as server:
        seen.port = server.server_address[1]
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield seen
        server.shutdown()
        serving.join(5)


@pytest.fixture
def way_in(elsewhere: Elsewhere) -> Iterator[int]:
    """A server at the address of the way in that leads everybody elsewhere."""

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{elsewhere.url}/redirected")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join(5)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with load_rig(tmp_path) as found:
        yield found


USERS = """
import urllib.request
import requests
from locust import FastHttpUser, HttpUser, SequentialTaskSet, task

class Ways(SequentialTaskSet):
    @task
    def way_in(self): self.client.get("/ok", name=self.user.own + " way in")
    @task
    def absolute(self): self.client.get("ELSEWHERE/absolute", name=self.user.own + " absolute")
    @task
    def by_name(self): self.client.get("http://elsewhere.invalid/", name=self.user.own + " by name")
    @task
    def redirected(self): self.client.get("http://127.0.0.1:REDIRECTING/", name=self.user.own + " redirected")
    @task
    def past_locust(self):
        self.client.get("/ok", name=self.user.own + " last")
        for ask in (requests.get, urllib.request.urlopen):
            try:
                ask("ELSEWHERE/past", timeout=1)
            except OSError:
                pass

class Plain(HttpUser):
    host = "ELSEWHERE"
    own = "plain"
    tasks = [Ways]

class Fast(FastHttpUser):
    host = "ELSEWHERE"
    own = "fast"
    tasks = [Ways]
"""

JOURNEYS = [
    f"GET {own} {what}" for own in ("plain", "fast") for what in ("way in", "absolute", "by name", "redirected", "last")
]


def users(elsewhere: Elsewhere, way_in: int) -> str:
    return USERS.replace("ELSEWHERE", elsewhere.url).replace("REDIRECTING", str(way_in))


def test_nothing_reaches_another_host_whichever_way_it_is_asked_for(rig: Rig, elsewhere: Elsewhere, way_in: int) -> None:
    records = rig.run_until_seen(users(elsewhere, way_in), JOURNEYS, rate=40.0, users=2)

    assert elsewhere.asked == []
    for own in ("plain", "fast"):
        assert records.outcomes(f"GET {own} way in") == {"ok"}, "a host of the class's own counts for nothing"
        for what in ("absolute", "by name", "redirected"):
            assert records.outcomes(f"GET {own} {what}") == {"other"}
    told = {request.error for request in records.requests if "absolute" in request.journey}
    assert told == {f"KeptBack: {OTHER} is not the way in, nothing was sent: load: {{allow_hosts: ['{OTHER}']}} allows it"}
    assert sorted(note["host"] for note in records.notes if note["load"] == "kept back") == [OTHER, "elsewhere.invalid"]


def test_what_is_allowed_by_name_is_asked(rig: Rig, elsewhere: Elsewhere, way_in: int) -> None:
    records = rig.run_until_seen(users(elsewhere, way_in), JOURNEYS, rate=40.0, users=2, allow_hosts=(OTHER,))

    assert {"/absolute", "/redirected", "/past"} <= set(elsewhere.asked)
    for own in ("plain", "fast"):
        assert records.outcomes(f"GET {own} absolute") == {"ok"}
    assert [note["host"] for note in records.notes if note["load"] == "kept back"] == ["elsewhere.invalid"]


def test_a_locustfile_that_asks_elsewhere_when_it_is_imported_is_refused_with_the_reason(
    rig: Rig, elsewhere: Elsewhere
) -> None:
    with pytest.raises(InvalidLocustfile, match=f"{OTHER} is not the way in, nothing was sent"):
        rig.start(f"import urllib.request\nurllib.request.urlopen('{elsewhere.url}')\n")

    assert elsewhere.asked == []
