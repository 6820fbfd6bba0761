"""What a proxy engine may answer, and the lines that a real Toxiproxy writes to its log."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import requests
import urllib3
from requests.adapters import BaseAdapter

from harness.errors import ProxyError
from harness.history.events import Event, event_from_data, event_to_data
from harness.plan.plan import ProxyState, Toxic
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.probes.metrics import find_counter
from harness.runtime.proxies.supervised import SupervisedEngine
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from harness.runtime.proxies.toxiproxy_log import AcceptedCounts
from tests.fuzz.mutating import a_value, json_of, raw
from tests.fuzz.trying import Kind, Reader

CONTROL = Address("127.0.0.1", 8474)
MADE = ProxyMade("order -> shipping", Address("127.0.0.1", 8001), Address("127.0.0.1", 8002))
LATE = ProxyState(toxics=(Toxic(name="slow", type="latency", stream="downstream", attributes={"latency": 300, "jitter": 0}),))
OFF = ProxyState(enabled=False)

TOXIC = {
    "name": "slow",
    "type": "latency",
    "stream": "downstream",
    "toxicity": 1.0,
    "attributes": {"latency": 300, "jitter": 0},
}
PROXY = {"name": MADE.name, "listen": str(MADE.listen), "upstream": str(MADE.upstream), "enabled": True, "toxics": []}
EDGE = {
    "at": 1_790_000_000.5, "proxy": MADE.name, "accepted": 3, "refused": 0, "cut": 0, "open": 1, "bytes_up": 5, "bytes_down": 7,
    "requests": 2, "answers": {"200": 2}, "traces": 2, "most_attempts": 1, "struck": {"slow": 1}, "cannot": "",
}  # fmt: skip
VERSIONS = ({"version": "2.12.0"}, {"engine": "embedded 1.0", "version": "2.9.0"}, {"version": "1.0.0"})
HEADERS = ({}, {"Content-Type": "application/json"}, {"Content-Encoding": "gzip"}, {"Content-Type": "text/plain; charset=utf-16"},
           {"Content-Type": "application/json; charset=\0"}, {"Location": "http://127.0.0.1:1/"}, {"Content-Type": "a; charset=idna"})  # fmt: skip


class Liar(BaseAdapter):
    """Stands where the engine is: now and then it answers as it should."""

    def __init__(self) -> None:
        super().__init__()
        self.random = Random()

    def send(self, request: requests.PreparedRequest, *_given: Any, **_more: Any) -> requests.Response:
        """The answer to one request."""
        random = self.random
        if random.random() < 0.01:
            raise random.choice(
                (requests.ConnectionError("away"), requests.Timeout("late"), urllib3.exceptions.ProtocolError("?"))
            )
        usual = usual_answer(random, str(request.method), str(request.path_url))
        lies = random.random() < 0.06
        body = json_of(random, usual) if lies else json.dumps(usual).encode()
        if random.random() < 0.1:
            body = raw(random, body)
        status = random.choice((200, 201, 204, 301, 400, 404, 409, 418, 500, 503, 999)) if random.random() < 0.03 else 200
        return answer(request, status, random.choice(HEADERS) if lies else {}, body)

    def close(self) -> None:
        """Nothing is held."""


def answer(request: requests.PreparedRequest, status: int, headers: dict[str, str], body: bytes) -> requests.Response:
    """An answer as it comes from a connection."""
    response = requests.Response()
    response.status_code, response.url, response.request = status, str(request.url), request
    response.headers = requests.structures.CaseInsensitiveDict(headers)
    response.encoding = requests.utils.get_encoding_from_headers(response.headers)
    response.raw = urllib3.HTTPResponse(io.BytesIO(body), headers, status, preload_content=False)
    return response


def usual_answer(random: Random, method: str, path: str) -> Any:
    """What an engine would say, that is in any of the states it may be in."""
    if path == "/version":
        return random.choice(VERSIONS)
    if path == "/edges":
        return [EDGE]
    if "/toxics" in path:
        return TOXIC
    if method == "GET" and path.startswith("/proxies/"):
        return {**PROXY, "enabled": random.random() < 0.8, "toxics": random.choice(([], [TOXIC]))}
    return PROXY


class Lied:
    """The adapter over an engine that lies, with or without somebody who looks after it."""

    def __init__(self) -> None:
        self.liar = Liar()
        self.told: list[Event] = []

    def engine_at(self, control: Address) -> ToxiproxyEngine:
        """The adapter for whatever address."""
        engine = ToxiproxyEngine(control)
        engine._session._http.mount("http://", self.liar)
        return engine

    def restart(self) -> Address:
        """It comes back, or not."""
        if self.liar.random.random() < 0.5:
            raise ProxyError("it does not start")
        return CONTROL

    def deeds(self) -> list[Callable[[], object]]:
        """All that is asked of an engine in a run."""
        looks: list[Callable[[], object]] = []
        engine: Any = self.engine_at(CONTROL)
        if self.liar.random.random() < 0.5:
            engine = SupervisedEngine(CONTROL, engine_at=self.engine_at, restart=self.restart, record=self.told.append)
            looks = [lambda: engine._look(None), lambda: engine._look(MADE.name) if MADE.name in engine._intended else None]
        before = [engine.version, lambda: engine.create([MADE]), lambda: engine.put(MADE.name, LATE)]
        after = [lambda: engine.put(MADE.name, OFF), lambda: engine.read(MADE.name), engine.seen, engine.seen, engine.heal_all]
        return [*before, *looks, *after]


def answers(_folder: Path) -> Reader:
    lied = Lied()

    def read(random: Random) -> None:
        lied.liar.random, lied.told = random, []
        refusals = []
        for deed in lied.deeds():
            try:
                seen = deed()
            except ProxyError as refused:
                refusals.append(refused)
                continue
            lied.told += seen if isinstance(seen, tuple) else ()
        for event in lied.told:  # what was taken can be written down, and read again
            assert event_from_data(json.loads(json.dumps(event_to_data(event)))) == event
        if refusals:
            raise refusals[0]

    return read


LINE = {"level": "info", "caller": "proxy.go:1", "client": "127.0.0.1:4000", "name": MADE.name, "proxy": MADE.name,
        "time": "2026-01-01T00:00:00Z", "message": "Accepted client"}  # fmt: skip


def log_lines(_folder: Path) -> Reader:
    def read(random: Random) -> None:
        counts = AcceptedCounts([MADE.name], ["127.0.0.2"])
        for _ in range(4):
            line = json_of(random, LINE)
            if random.random() < 0.3:
                line = b"2026-01-01T00:00:00Z " + json.dumps({**LINE, random.choice(list(LINE)): a_value(random)}).encode()
            counts.feed(line.decode("utf-8", "surrogateescape") if random.random() < 0.3 else line)
        counts.seen(1.0, {MADE.name: 3})

    return read


PAGE = (
    b'# HELP a b\nfallback_total{name="a",x="y\\"z"} 3.0 1790000000\nfallback_total{name="b"} 4e9\nup 1\nfallback_total NaN\n'
)
ASKED = ('fallback_total{name="a"}', "fallback_total", "up", "nobody", "a{")


def pages_of_metrics(_folder: Path) -> Reader:
    """What a service answers where its counters are asked for."""

    def read(random: Random) -> None:
        found = find_counter(raw(random, PAGE).decode("utf-8", "replace"), random.choice(ASKED))
        assert found is None or isinstance(found, float)

    return read


ENGINES = (
    Kind("proxies' answers", answers),
    Kind("Toxiproxy's log", log_lines),
    Kind("metrics", pages_of_metrics),
)
