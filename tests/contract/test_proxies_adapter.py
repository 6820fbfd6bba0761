"""The adapter over toxiproxy-python when the other side does not behave: every way to fail is an error in words."""

from __future__ import annotations

import inspect
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
import toxiproxy
import toxiproxy.exceptions
import urllib3.exceptions

from harness.errors import ProxyError
from harness.plan.plan import CLEAN, ProxyState
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.proxies.session import FOREIGN, EngineGone, explained
from harness.runtime.proxies.starting import StartedEngine
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from tests.contract.proxies_contract import DISABLED, EDGE, OTHER, made
from tests.contract.proxies_rig import Callee, bearing, embedded, free_address, refuses, toxic


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        with sock:
            sock.recv(65536)
            sock.sendall(answer)

    return serve


def always(answer: bytes) -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        with sock:
            while sock.recv(65536):
                sock.sendall(answer)

    return serve


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def hold(sock: socket.socket) -> None:
    with sock:
        sock.recv(65536)
        threading.Event().wait(20)


def dribble(sock: socket.socket) -> None:
    with sock:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(200):
            sock.sendall(b" ")
            time.sleep(0.1)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[ToxiproxyEngine]:
    callee = Callee(request.param)
    yield ToxiproxyEngine(callee.address, "engine.log")
    callee.close()


def served(answers: dict[tuple[str, str], list[bytes]]) -> Callable[[socket.socket], None]:
    """Answers each request by its method and path, with the next of the answers, and again and again with the last."""

    def serve(sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as asked:
            while line := asked.readline():
                method, path, _ = line.decode().split()
                headers = BytesParser().parsebytes(b"".join(iter(asked.readline, b"\r\n")))
                asked.read(int(headers.get("Content-Length", 0)))
                left = answers[method, path]
                sock.sendall(left.pop(0) if len(left) > 1 else left[0])

    return serve


@pytest.fixture
def started(tmp_path: Path) -> Iterator[StartedEngine]:
    with embedded(tmp_path) as engine:
        yield engine


MALFORMED = {
    "garbage": b"\x00\x01\x02 what is this\r\n\r\n",
    "nothing": b"",
    "no JSON": http("200 OK", b"<html>"),
    "a list": http("200 OK", b"[1]"),
    "a number": http("200 OK", b"7"),
    "null": http("200 OK", b"null"),
    "an empty object": http("200 OK", b"{}"),
    "a proxy without toxics": http("200 OK", b'{"name": "x", "enabled": true}'),
    "a toxic nobody knows": http("200 OK", b'{"enabled": true, "toxics": [{"name": "x", "type": "noop"}]}'),
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "a failure": http("500 Internal Server Error", b'{"error": "listen tcp: bind", "status": 500}'),
    "a failure in HTML": http("503 Service Unavailable", b"<html><head><title>Timeout</title>"),
    "not found": http("404 Not Found", b"404 page not found\n"),
    "bad request": http("400 Bad Request", b'{"error": "bad request body: EOF", "status": 400}'),
    "conflict": http("409 Conflict", b'{"error": "proxy already exists", "status": 409}'),
}


@pytest.mark.parametrize("server", [answering(body) for body in MALFORMED.values()], ids=list(MALFORMED), indirect=True)
def test_an_answer_that_cannot_be_used_is_an_error_that_names_the_engine(server: ToxiproxyEngine) -> None:
    calls = (
        server.version,
        lambda: server.read(EDGE),
        lambda: server.put(EDGE, DISABLED),
        lambda: server.create([made()]),
    )
    for call in calls[1:]:
        with pytest.raises(ProxyError, match=r"proxy engine at 127\.0\.0\.1:\d+ \(its log: engine\.log\)"):
            call()


@pytest.mark.parametrize("server", [answering(MALFORMED["no JSON"]), answering(MALFORMED["a number"])], indirect=True)
def test_a_version_that_is_none_is_an_error(server: ToxiproxyEngine) -> None:
    with pytest.raises(ProxyError, match="version"):
        server.version()


@pytest.mark.parametrize("server", [hold, dribble], indirect=True)
def test_a_server_that_does_not_answer_is_given_up_in_time(server: ToxiproxyEngine) -> None:
    begin = time.monotonic()

    with pytest.raises(ProxyError, match="it hangs"):
        server.read(EDGE)

    assert time.monotonic() - begin < 5


def test_a_call_does_not_wait_longer_for_another_call(tmp_path: Path) -> None:
    silent = Callee(hold)
    engine = ToxiproxyEngine(silent.address)

    def call() -> None:
        with pytest.raises(ProxyError):
            engine.read(EDGE)

    first = threading.Thread(target=call)
    first.start()
    begin = time.monotonic()

    with pytest.raises(ProxyError):
        engine.version()

    assert time.monotonic() - begin < 5
    first.join()
    silent.close()


def test_a_connection_that_was_dropped_while_idle_is_made_anew() -> None:
    once = Callee(answering(http("200 OK", b'{"version": "9.9.9"}')))
    engine = ToxiproxyEngine(once.address)

    assert [engine.version() for _ in range(20)] == ["Toxiproxy 9.9.9"] * 20

    once.close()


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ProxyError, match="it cannot be reached"):
        ToxiproxyEngine(free_address()).version()


def test_an_engine_that_dies_half_way_is_an_error_for_every_proxy(tmp_path: Path, started: StartedEngine) -> None:
    started.engine.create([made(), made(OTHER)])
    started.process.kill()
    started.process.wait()

    with pytest.raises(ProxyError, match="did it end"):
        started.engine.put(EDGE, DISABLED)
    with pytest.raises(ProxyError) as failure:
        started.engine.heal_all()
    assert f"heal {EDGE}" in str(failure.value)
    assert f"heal {OTHER}" in str(failure.value)


def test_one_proxy_that_cannot_be_healed_keeps_no_other_from_it(started: StartedEngine) -> None:
    first, second = made(), made(OTHER)
    started.engine.create([first, second])
    for name in (EDGE, OTHER):
        started.engine.put(name, DISABLED)
    with socket.create_server((first.listen.host, first.listen.port)):
        with pytest.raises(ProxyError, match="address already in use"):
            started.engine.heal_all()

        assert started.engine.read(OTHER) == CLEAN
        assert started.engine.read(EDGE) == DISABLED
    started.engine.heal_all()
    assert started.engine.read(EDGE) == CLEAN


def test_a_port_that_somebody_else_has_is_an_error_that_names_it(started: StartedEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(*taken.getsockname())

        with pytest.raises(ProxyError, match=f"listen tcp {address}: bind: address already in use"):
            started.engine.create([ProxyMade(EDGE, address, free_address())])


@pytest.mark.parametrize("name", ["a/b", "", ".", ".."])
def test_a_name_that_no_address_leads_to_is_refused(started: StartedEngine, name: str) -> None:
    with pytest.raises(ProxyError, match="cannot be named"):
        started.engine.create([made(name)])


@pytest.mark.parametrize("name", ["a -> b:80", "50% of #1?", "größe", "a+b&c=d"])
def test_any_other_name_is_found_again(started: StartedEngine, name: str) -> None:
    started.engine.create([made(name)])

    state = bearing(toxic("latency", name="what? 100% #1", latency=1, jitter=0))

    assert started.engine.put(name, state) == state
    assert started.engine.put(name, CLEAN) == CLEAN


def test_a_state_that_was_not_taken_over_is_an_error() -> None:
    stubborn = Callee(always(http("200 OK", b'{"version": "2.12.0", "enabled": true, "toxics": []}')))

    with pytest.raises(ProxyError, match=r"expected order -> shipping in the state .* read back"):
        ToxiproxyEngine(stubborn.address).put(EDGE, DISABLED)

    stubborn.close()


def test_an_attribute_that_an_engine_does_not_know_is_refused(started: StartedEngine) -> None:
    started.engine.create([made()])

    with pytest.raises(ProxyError, match="latency has no delay"):
        started.engine.put(EDGE, bearing(toxic("latency", delay=100)))


def test_proxies_that_are_there_already_are_adopted(started: StartedEngine) -> None:
    proxies = [made(), made(OTHER)]
    started.engine.create(proxies)
    other = ToxiproxyEngine(started.control)

    other.adopt(proxies)
    other.put(EDGE, DISABLED)
    other.heal_all()

    assert other.read(EDGE) == CLEAN


def test_only_a_proxy_that_is_as_expected_is_adopted(started: StartedEngine) -> None:
    there = made()
    started.engine.create([there])
    elsewhere = ProxyMade(EDGE, there.listen, free_address())

    with pytest.raises(
        ProxyError, match=f"expected the proxy {EDGE} with upstream '{elsewhere.upstream}', found '{there.upstream}'"
    ):
        started.engine.adopt([elsewhere])
    with pytest.raises(ProxyError, match=f"with listen '{there.upstream}', found '{there.listen}'"):
        started.engine.adopt([ProxyMade(EDGE, there.upstream, there.upstream)])
    started.engine.put(EDGE, bearing(toxic("latency", latency=1)))
    with pytest.raises(ProxyError, match=r"with toxics \[\], found .*latency"):
        started.engine.adopt([there])
    started.engine.put(EDGE, DISABLED)
    with pytest.raises(ProxyError, match="with enabled True, found False"):
        started.engine.adopt([there])
    with pytest.raises(ProxyError, match=f"adopt {OTHER}: proxy not found"):
        started.engine.adopt([made(OTHER)])


def test_what_is_missing_is_made_and_what_is_there_adopted(started: StartedEngine) -> None:
    first, second = made(), made(OTHER)
    started.engine.create([first])

    started.engine.ensure([first, second])

    assert (started.engine.read(EDGE), started.engine.read(OTHER)) == (CLEAN, CLEAN)


@pytest.mark.parametrize("version", ["2.5.0", "2.1.2", "1.9.9"])
def test_a_toxiproxy_that_is_too_old_is_refused_with_what_was_found(version: str) -> None:
    old = Callee(always(http("200 OK", f'{{"version": "{version}"}}'.encode())))

    for call in (lambda engine: engine.adopt([made()]), lambda engine: engine.create([made()]), ToxiproxyEngine.version):
        with pytest.raises(ProxyError, match=f"expected Toxiproxy 2.6 or newer, found Toxiproxy {version}"):
            call(ToxiproxyEngine(old.address))

    old.close()


@pytest.mark.parametrize("version", ["2.6.0", "2.12.0", "3.0.0", "git"])
def test_a_toxiproxy_that_is_new_enough_or_built_from_source_is_taken(version: str) -> None:
    new = Callee(always(http("200 OK", f'{{"version": "{version}"}}'.encode())))

    assert ToxiproxyEngine(new.address).version() == f"Toxiproxy {version}"

    new.close()


def test_an_engine_that_gave_itself_up_counts_as_gone() -> None:
    wedged = Callee(always(http("503 Service Unavailable", b"<html><head><title>Timeout</title>")))

    with pytest.raises(EngineGone, match="it hangs"):
        ToxiproxyEngine(wedged.address).read(EDGE)

    wedged.close()


def test_an_engine_that_refuses_is_not_gone(started: StartedEngine) -> None:
    with pytest.raises(ProxyError) as refused:
        started.engine.read("nobody")

    assert not isinstance(refused.value, EngineGone)


def test_a_replacement_that_broke_off_is_gone_on_with() -> None:
    clean = b'{"name": "%s", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2", "enabled": true, "toxics": []}' % EDGE.encode()
    path, gone = f"/proxies/{quote(EDGE)}", http("404 Not Found", b'{"error": "proxy not found"}')
    answers = {
        ("GET", "/version"): [http("200 OK", b'{"version": "2.12.0"}')],
        ("GET", path): [http("200 OK", clean), gone, http("200 OK", clean)],
        ("DELETE", path): [b"HTTP/1.1 204 No Content\r\n\r\n"],
        ("POST", "/proxies"): [http("500 Internal Server Error", b'{"error": "no room"}'), http("201 Created", clean)],
        ("POST", path): [http("200 OK", clean)],
    }
    server = Callee(served(answers))
    engine = ToxiproxyEngine(server.address)
    with pytest.raises(ProxyError, match="no room"):
        engine.put(EDGE, bearing(toxic("reset_peer", timeout=0)))

    assert engine.put(EDGE, CLEAN) == CLEAN
    server.close()


def test_healing_leaves_the_proxies_of_others_alone(started: StartedEngine) -> None:
    started.engine.create([made()])
    other = ToxiproxyEngine(started.control)
    other.create([foreign := made(OTHER)])
    other.put(OTHER, DISABLED)

    started.engine.heal_all()

    assert refuses(foreign.listen)


def test_the_environments_proxy_is_ignored(started: StartedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    started.engine.create([made()])

    assert started.engine.read(EDGE) == CLEAN


def test_two_engines_at_once_do_not_meet(started: StartedEngine, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with embedded(tmp_path / "second") as second:
        started.engine.create([made()])
        second.engine.create([made()])
        threads = [
            threading.Thread(target=engine.put, args=(EDGE, state))
            for engine, state in ((started.engine, DISABLED), (second.engine, CLEAN))
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert started.engine.read(EDGE) == DISABLED
        assert second.engine.read(EDGE) == CLEAN


def test_many_threads_may_use_one_engine(started: StartedEngine) -> None:
    started.engine.create([made(f"edge {number}") for number in range(8)])
    failures: list[BaseException] = []

    def flap(name: str) -> None:
        try:
            for state in (DISABLED, CLEAN, ProxyState(toxics=(toxic("latency", latency=1),)), CLEAN):
                started.engine.put(name, state)
        except ProxyError as failure:
            failures.append(failure)

    threads = [threading.Thread(target=flap, args=(f"edge {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert {started.engine.read(f"edge {number}") for number in range(8)} == {CLEAN}


def test_outside_of_the_adapter_the_library_is_as_it_was(started: StartedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toxiproxy.api.APIConsumer, "port", started.control.port)
    monkeypatch.setitem(os.environ, "NO_PROXY", "127.0.0.1")

    proxy = toxiproxy.Toxiproxy().create("127.0.0.1:9", "theirs")
    proxy.add_toxic(type="latency", attributes={"latency": 5})

    assert json.loads(toxiproxy.Toxiproxy().version())["version"]
    assert list(proxy.toxics()) == ["latency_downstream"]
    assert toxiproxy.Toxiproxy().reset()
    with pytest.raises(toxiproxy.exceptions.ProxyExists):
        toxiproxy.Toxiproxy().create("127.0.0.1:9", "theirs")
    proxy.disable()
    proxy.destroy()
    assert toxiproxy.Toxiproxy().proxies() == {}


def families(module: object, root: type[Exception]) -> list[type[Exception]]:
    return [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, root)]


RAISED = [
    *families(toxiproxy.exceptions, Exception),
    *families(requests.exceptions, requests.RequestException),
    *families(urllib3.exceptions, urllib3.exceptions.HTTPError),
    ConnectionResetError,
    TimeoutError,
    json.JSONDecodeError,
    KeyError,
]


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_foreign_exception_is_put_into_words(kind: type[Exception]) -> None:
    failure = type(kind.__name__, (kind,), {"__init__": lambda self: None, "__str__": lambda self: "why"})()

    assert isinstance(failure, FOREIGN)
    assert explained(failure)
