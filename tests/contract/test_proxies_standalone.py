"""The embedded engine by itself: how it is started and ends, its health, its metrics, its log."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.runtime.proxies.embedded import healthy
from harness.runtime.proxies.embedded.log import MOST_WAITING, Lines, Log, as_json, as_text
from harness.runtime.proxies.embedded.server import _tell_defect
from tests.contract.proxies_rig import (
    PATIENCE,
    Echo,
    connect,
    control_socket,
    ends,
    eventually,
    free_address,
    read_all,
    refuses,
    silent,
)
from tests.contract.standalone import MODULE, Standalone, run, standalone
from tests.contract.test_proxies_engine import ANSWERS, HttpCallee, get
from tests.contract.toxiproxy_conformance import SERVER, needs_real


@pytest.fixture
def echo() -> Iterator[Echo]:
    callee = Echo()
    yield callee
    callee.close()


@pytest.fixture
def http() -> Iterator[HttpCallee]:
    callee = HttpCallee()
    yield callee
    callee.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Standalone]:
    with standalone() as engine:
        yield engine


@pytest.fixture
def engine(shared: Standalone) -> Iterator[Standalone]:
    yield shared
    for name in shared("GET", "/proxies").json():
        assert shared("DELETE", f"/proxies/{name}").status_code == 204


def written(folder: Path, content: str) -> Path:
    path = folder / "toxiproxy.json"
    path.write_text(content, encoding="utf-8")
    return path


class TestHowItStartsAndEnds:
    def test_a_command_line_of_toxiproxy_works_as_it_is(self, tmp_path: Path) -> None:
        proxies = [
            {"name": "web", "listen": str(free_address()), "upstream": "127.0.0.1:1"},
            {"name": "off", "listen": str(free_address()), "upstream": "127.0.0.1:1", "enabled": False},
        ]
        config = written(tmp_path, json.dumps(proxies))
        control = free_address()

        options = ["-host", control.host, "-port", str(control.port), f"-config={config}", "-seed", "42"]
        with standalone(*options, "-proxy-metrics", "-runtime-metrics=true", LOG_LEVEL="INFO") as engine:
            assert engine.control == control
            found = engine("GET", "/proxies").json()
            assert {name: (data["listen"], data["enabled"]) for name, data in found.items()} == {
                proxies[0]["name"]: (proxies[0]["listen"], True),
                proxies[1]["name"]: (proxies[1]["listen"], False),
            }
            assert ("process_open_fds",) in engine.metrics()

    def test_it_tells_where_its_api_is_which_version_it_speaks_and_which_proxies_there_are(self, tmp_path: Path) -> None:
        listen = str(free_address())
        toxic = {"name": "slow", "type": "latency", "attributes": {"latency": 5}}
        config = written(tmp_path, json.dumps([{"name": "web", "listen": listen, "upstream": "a:1", "toxics": [toxic]}]))

        with standalone("--config", str(config)) as engine:
            assert [line["message"] for line in engine.log] == [
                "Starting embedded proxy engine",
                "Populated proxy",
                "Control API listens",
            ]
            version = engine("GET", "/version").json()["version"]
            assert engine.told("Starting embedded proxy engine")[0]["api"] == version
            assert engine.told("Populated proxy") == [
                {"level": "info", "proxy": "web", "listen": listen, "upstream": "a:1", "enabled": True, "toxics": ["slow"]}
            ]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_ends_at_once_with_0_and_closes_what_is_open(self, number: signal.Signals, echo: Echo) -> None:
        with standalone() as engine:
            place = engine.made("a", echo.address)
            hole = engine.made("hole", "192.0.2.1:80")
            engine("POST", "/proxies/a/toxics", {"type": "latency", "attributes": {"latency": 60_000}})
            with connect(place) as used, connect(hole) as dialling:
                used.sendall(b"ping")
                began = time.monotonic()

                assert engine.end(number) == 0

                assert time.monotonic() - began < 5
                assert eventually(lambda: refuses(place))
                with suppress(ConnectionResetError):
                    read_all(used, 1000)
                assert ends(dialling)

    def test_told_to_end_before_it_serves_it_ends_without_a_word_of_python(self) -> None:
        for delay in (0.05, 0.1, 0.2):
            process = subprocess.Popen([*MODULE, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(delay)
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=PATIENCE)

            assert process.returncode in (0, -signal.SIGTERM)
            assert told == b""

    def test_after_a_kill_another_one_starts_in_its_place_at_once(self, echo: Echo) -> None:
        control, listen = free_address(), free_address()
        options = ("--host", control.host, "--port", str(control.port))
        with standalone(*options) as engine:
            engine.made("a", echo.address, listen=str(listen))
            with connect(listen) as open_then:
                open_then.sendall(b"ping")
                assert read_all(open_then, 4) == b"ping"
                engine.end(signal.SIGKILL)

                with standalone(*options) as another:
                    another.made("a", echo.address, listen=str(listen))
                    with connect(listen) as now:
                        now.sendall(b"pong")
                        assert read_all(now, 4) == b"pong"

    @pytest.mark.parametrize(
        ("content", "place", "found"),
        [
            ("", "", "expected a JSON array of proxies, found no JSON"),
            ('[{"name": "a",\n  "upstream": }]', ":2:15", "expected a JSON array of proxies, found no JSON"),
            ('[{"name": "a", "upstream": "b:1", "enabled": %s}]' % ("9" * 5000), "", "found what cannot be read"),
            ("{}", "", "expected a JSON array of proxies, found an object"),
            ("[" * 100_000, "", "expected a JSON array of proxies, found one nested too deeply"),
            ('[{"name": "a", "upstream": "b:1"},\n  7]', ":2:3: proxy 2", "expected an object for a proxy, found int"),
            ('[\n{"name": "a"}]', ":2:1: proxy 1 (a)", "missing required field: upstream"),
            ('[\n {"name": "a", "upstream": "b:1", "lisen": "c:1"}]', ":2:2: proxy 1 (a)", "a proxy has no lisen"),
            ('[{"name": "a", "upstream": "b"}]', ":1:2: proxy 1 (a)", "upstream: expected host:port, found 'b'"),
            ('[{"name": "a", "upstream": "b:1", "listen": "10.1.2.3:1"}]', ":1:2: proxy 1 (a)", "expected a loopback address"),
            (
                '[{"name": "a", "upstream": "b:1"},\n {"Name": "a", "upstream": "b:1"}]',
                ":2:2: proxy 2 (a)",
                "expected another name than that of",
            ),
            (
                '[{"name": "a", "upstream": "b:1", "toxics": [{"type": "latency", "attributes": {"latncy": 1}}]}]',
                ":1:2: proxy 1 (a): toxic 1",
                "the attributes of latency has no latncy; did you mean latency?",
            ),
            ('[{"name": "a", "upstream": "b:1", "listen": "nowhere"}]', ":1:2: proxy 1 (a)", "missing port in address"),
            (
                '[{"name": "a", "upstream": "b:1", "upstream": "c:1"}]',
                ":1:2: proxy 1 (a)",
                "expected upstream once, found it more often",
            ),
            (
                '[{"name": "a", "upstream": "b:1", "listen": "127.0.0.1:7"},\n'
                '{"name": "b", "upstream": "b:1", "listen": "localhost:7"}]',
                ":2:1: proxy 2 (b)",
                "expected another address to listen on than that of",
            ),
        ],
    )
    def test_a_configuration_that_cannot_be_used_ends_it_with_2_and_its_place(
        self, content: str, place: str, found: str, tmp_path: Path
    ) -> None:
        config = written(tmp_path, content)

        ended = run("--port", "0", "--config", str(config), "--log-level", "error")

        assert (ended.returncode, ended.stdout) == (2, "")
        assert f": {config}{place}: " in ended.stderr
        assert found in ended.stderr
        assert ended.stderr.count("\n") == 1

    def test_all_problems_of_a_configuration_are_told_at_once_and_none_as_a_request(self, tmp_path: Path) -> None:
        proxies = [
            {"name": "a", "upstrem": "b:1"},
            {"name": "b", "upstream": "b:1", "listen": "192.0.2.7:1", "toxics": [{"type": "latncy"}]},
            {"name": "a", "upstream": "b:1"},
        ]
        config = written(tmp_path, "[" + ",\n".join(map(json.dumps, proxies)) + "]")

        ended = run("--port", "0", "--config", str(config))

        assert ended.returncode == 2
        assert [json.loads(line)["message"] for line in ended.stdout.splitlines()] == ["Starting embedded proxy engine"]
        start = f"python -m harness.runtime.proxies.embedded: {config}"
        begins = [
            f"{start}:1:2: proxy 1 (a): a proxy has no upstrem; did you mean upstream?",
            f"{start}:1:2: proxy 1 (a): missing required field: upstream",
            f"{start}:2:1: proxy 2 (b): toxic 1: invalid toxic type: ",
            f"{start}:3:1: proxy 3 (a): expected another name than that of {config}:1:2: proxy 1 (a)",
            f"{start}:2:1: proxy 2 (b): listen: expected a loopback address, found 192.0.2.7:1",
        ]
        told = ended.stderr.splitlines()
        assert [line[: len(begin)] for line, begin in zip(told, begins, strict=True)] == begins

    def test_a_configuration_that_cannot_be_read_ends_it_with_2(self, tmp_path: Path) -> None:
        other = tmp_path / "other.json"
        other.write_bytes(b"\xff\xfe[")

        for path, found in (
            (tmp_path / "none.json", "cannot be read (No such file or directory)"),
            (tmp_path, "cannot be read (Is a directory)"),
            (other, "expected text in UTF-8, found other bytes"),
        ):
            ended = run("--port", "0", "--config", str(path))
            assert (ended.returncode, ended.stdout) == (2, "")
            assert found in ended.stderr

    def test_ports_of_proxies_that_are_taken_end_it_with_5_and_their_places(self, tmp_path: Path) -> None:
        with control_socket() as one, control_socket() as two:
            places = []
            for taken in (one, two):
                taken.listen()
                places.append("{}:{}".format(*taken.getsockname()))
            proxies = [{"name": name, "upstream": "b:1", "listen": place} for name, place in zip("ab", places, strict=True)]
            config = written(tmp_path, json.dumps(proxies))

            ended = run("--port", "0", "--config", str(config), "--log-level", "error")

        assert ended.returncode == 5
        first, second = ended.stderr.splitlines()
        assert f"{config}:1:2: proxy 1 (a): listen tcp {places[0]}: bind: address already in use" in first
        assert f"proxy 2 (b): listen tcp {places[1]}: bind: address already in use" in second

    def test_a_second_one_on_the_same_port_is_told_that_there_is_one_and_the_first_goes_on(self, engine: Standalone) -> None:
        ended = run("--host", engine.control.host, "--port", str(engine.control.port))

        assert (ended.returncode, ended.stdout) == (5, "")
        assert f"cannot listen on {engine.control}: the engine 'embedded " in ended.stderr
        assert "answers there already; name another place with --host or --port\n" in ended.stderr
        assert engine("GET", "/health").status_code == 200

    @needs_real
    def test_a_port_that_a_toxiproxy_has_is_told_as_that(self) -> None:
        control = free_address()
        command = [str(SERVER), "-host", control.host, "-port", str(control.port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as real:
            assert eventually(lambda: not refuses(control))
            ended = run("--host", control.host, "--port", str(control.port))
            real.kill()

        assert ended.returncode == 5
        assert re.search("a Toxiproxy .* answers there already", ended.stderr)

    def test_a_port_of_somebody_who_says_nothing_is_told_within_seconds(self) -> None:
        with control_socket() as taken:
            taken.listen()
            ended = run("--port", str(taken.getsockname()[1]))

        assert ended.returncode == 5
        assert ": address already in use; name another place with --host or --port\n" in ended.stderr

    @pytest.mark.parametrize(
        ("options", "code", "found"),
        [
            (("--prot", "1"), 2, "unrecognized arguments: --prot"),
            (("--port", "70000"), 2, "expected a port from 0 to 65535, found '70000'"),
            (("--host", "0.0.0.0", "--port", "0"), 2, "expected a loopback address, found 0.0.0.0; --allow-any-address"),
            (("--host", "192.0.2.7", "--allow-any-address"), 5, "cannot listen on 192.0.2.7:8474: cannot assign requested"),
            (("--host", "no-such-host.invalid"), 5, "cannot listen on no-such-host.invalid:8474: "),
            (("--seed", "x"), 2, "--seed"),
            (("--control-fd", "77"), 2, "--control-fd, --parent-fd: expected descriptors that were inherited"),
            (("--port", "0", "--parent-fd", "77"), 2, "--control-fd, --parent-fd: expected descriptors that were inherited"),
            (("-proxy-metrics=maybe",), 2, "expected true or false, found 'maybe'"),
            (("--log-level", "loud"), 2, "expected (also in LOG_LEVEL) one of trace, debug, info"),
            (("--check", "nowhere"), 2, "expected HOST:PORT, found 'nowhere'"),
        ],
    )
    def test_wrong_usage_and_what_is_in_the_way_are_told_apart(self, options: tuple[str, ...], code: int, found: str) -> None:
        ended = run(*options)

        assert (ended.returncode, ended.stdout) == (code, "")
        assert found in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_a_log_level_of_the_environment_that_is_none_is_told(self) -> None:
        ended = run("--port", "0", LOG_LEVEL="loud")

        assert ended.returncode == 2
        assert "found 'loud'" in ended.stderr

    def test_the_version_is_printed(self) -> None:
        for option in ("-version", "--version"):
            ended = run(option)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert "embedded proxy engine" in ended.stdout


class TestHealth:
    def test_it_is_told_in_json(self, engine: Standalone) -> None:
        engine.made("a", "127.0.0.1:1")

        answer = engine("GET", "/health")

        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.json().items() >= {"status": "ok", "proxies": 1}.items()
        assert engine("POST", "/health").status_code == 405

    def test_it_is_told_while_a_change_is_under_way_and_connections_hang(self, engine: Standalone, echo: Echo) -> None:
        place = engine.made("a", echo.address)
        engine("POST", "/proxies/a/toxics", {"type": "bandwidth", "attributes": {"rate": 0}})
        with connect(place) as stalled, socket.create_connection((engine.control.host, engine.control.port)) as half:
            stalled.sendall(b"x" * 100_000)
            half.sendall(b"POST /proxies HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
            began = time.monotonic()

            assert engine("GET", "/health").status_code == 200

            assert time.monotonic() - began < 2

    def test_the_check_tells_an_engine_that_answers_from_one_that_does_not(self, engine: Standalone) -> None:
        host, port = engine.control.host, str(engine.control.port)
        assert run("--check", f"{host}:{port}").returncode == 0
        assert run("--host", host, "--port", port, "--check").returncode == 0
        nobody = run("--check", str(free_address()))

        assert (nobody.returncode, nobody.stdout) == (1, "")
        assert "no embedded engine answers at" in nobody.stderr

    def test_the_check_of_an_engine_that_is_stopped_ends_by_itself(self) -> None:
        with standalone() as engine:
            engine.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            stopped = run("--check", str(engine.control))
            engine.process.send_signal(signal.SIGCONT)

            assert stopped.returncode == 1
            assert time.monotonic() - began < 8
            assert run("--check", str(engine.control)).returncode == 0

    def test_somebody_else_is_not_healthy(self, http: HttpCallee, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(healthy, "WITHIN", 0.3)
        for other in (http.address, echo.address):
            assert not healthy.is_healthy(other.host, other.port)
            assert healthy.who_answers(other.host, other.port) == ""


class TestMetrics:
    def test_the_page_is_what_prometheus_reads(self, engine: Standalone) -> None:
        listen = engine.made("a", "127.0.0.1:1")
        answer = engine("GET", "/metrics")
        lines = answer.text.splitlines()
        names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]

        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.text.endswith("\n")
        assert [line.split()[2] for line in lines if line.startswith("# HELP ")] == names
        assert len(set(names)) == len(names)
        described = ""
        for line in lines:
            described = line.split()[2] if line.startswith("# TYPE ") else described
            assert line.startswith("# ") or re.match(rf"{described}(\{{.*\}})? \S+$", line)
        assert next(line for line in lines if line.startswith("toxiproxy_")) == (
            f'toxiproxy_proxy_received_bytes_total{{direction="upstream",listener="{listen}",proxy="a",upstream="127.0.0.1:1"}} 0'
        )

    def test_names_are_escaped(self, engine: Standalone) -> None:
        name = 'a "quoted" \\ name, {x="y"} é'
        engine.made(name, "127.0.0.1:1")
        engine("POST", f"/proxies/{requests.utils.quote(name)}/toxics", {"name": 'x"\\', "type": "noop"})

        metrics = engine.metrics()

        assert metrics["chaos_proxy_enabled", name] == 1
        assert metrics["chaos_proxy_toxic", name, "downstream", 'x"\\', "noop"] == 1

    def test_bytes_are_counted_while_the_connection_is_open(self, engine: Standalone, echo: Echo) -> None:
        place = engine.made("a", echo.address)
        labels = (str(place), "a", str(echo.address))
        with connect(place) as caller:
            caller.sendall(b"x" * 1000)
            assert read_all(caller, 1000) == b"x" * 1000

            metrics = engine.metrics()

        for direction in ("upstream", "downstream"):
            assert metrics["toxiproxy_proxy_received_bytes_total", direction, *labels] == 1000
            assert metrics["toxiproxy_proxy_sent_bytes_total", direction, *labels] == 1000
        assert metrics["chaos_proxy_open_connections", "a"] == 1
        assert metrics["chaos_proxy_accepted_connections_total", "a"] == 1

    def test_bytes_that_a_toxic_holds_or_loses_were_received_and_not_sent(self, engine: Standalone, echo: Echo) -> None:
        place = engine.made("a", echo.address)

        def bytes_of(direction: str) -> tuple[float, float]:
            metrics, labels = engine.metrics(), (direction, str(place), "a", str(echo.address))
            received = metrics["toxiproxy_proxy_received_bytes_total", *labels]
            return received, metrics["toxiproxy_proxy_sent_bytes_total", *labels]

        with connect(place) as caller:
            caller.sendall(b"before")
            assert read_all(caller, 6) == b"before"
            held = {"name": "held", "type": "latency", "stream": "upstream", "attributes": {"latency": 600_000}}
            assert engine("POST", "/proxies/a/toxics", held).status_code == 200
            caller.sendall(b"held")
            assert eventually(lambda: bytes_of("upstream") == (10, 6))
            assert engine("DELETE", "/proxies/a/toxics/held").status_code == 204
            assert read_all(caller, 4) == b"held"
            assert bytes_of("upstream") == bytes_of("downstream") == (10, 10)
            engine("POST", "/proxies/a/toxics", {"name": "lost", "type": "timeout"})
            caller.sendall(b"lost")
            assert eventually(lambda: (bytes_of("upstream"), bytes_of("downstream")) == ((14, 14), (14, 10)))
            engine("DELETE", "/proxies/a/toxics/lost")
            assert ends(caller)
        assert (bytes_of("upstream"), bytes_of("downstream")) == ((14, 14), (14, 10))

    def test_what_a_toxic_of_http_swallows_was_received_and_what_it_makes_was_sent(
        self, engine: Standalone, http: HttpCallee
    ) -> None:
        place = engine.made("a", http.address)
        labels = (str(place), "a", str(http.address))
        request, answer = len(get()), len(ANSWERS["/"])

        def bytes_of(direction: str) -> tuple[float, float]:
            metrics = engine.metrics()
            received, sent = (f"toxiproxy_proxy_{which}_bytes_total" for which in ("received", "sent"))
            return metrics[received, direction, *labels], metrics[sent, direction, *labels]

        with connect(place) as caller:
            engine("POST", "/proxies/a/toxics", {"name": "slow", "type": "latency", "attributes": {"latency": 1}})
            engine("POST", "/proxies/a/toxics", {"name": "own", "type": "http_error", "attributes": {"methods": ["POST"]}})
            caller.sendall(get())
            assert read_all(caller, answer) == ANSWERS["/"]
            assert (bytes_of("upstream"), bytes_of("downstream")) == ((request, request), (answer, answer))
            caller.sendall(b"POST / HTTP/1.1\r\nHost: shipping\r\nContent-Length: 4\r\n\r\nbody")
            made = len(caller.recv(4096))
            assert bytes_of("upstream") == (request + 58, request)
            assert bytes_of("downstream") == (answer, answer + made)
            engine("POST", "/proxies/a/toxics", {"name": "lost", "type": "http_lost_reply"})
            caller.sendall(get())
            assert eventually(lambda: bytes_of("downstream") == (2 * answer, answer + made))
            assert bytes_of("upstream") == (2 * request + 58, 2 * request)

    @pytest.mark.parametrize("toxics", [(), ("latency",), ("http_delay",), ("latency", "http_delay")], ids=" ".join)
    def test_bytes_that_came_before_the_upstream_was_reached_count_once(
        self, engine: Standalone, http: HttpCallee, toxics: tuple[str, ...]
    ) -> None:
        place = engine.made("a", http.address)
        for kind in toxics:
            engine("POST", "/proxies/a/toxics", {"type": kind, "stream": "upstream"})
        for _ in range(10):
            with connect(place) as caller:
                caller.sendall(get())
                assert read_all(caller, len(ANSWERS["/"])) == ANSWERS["/"]

        metrics, labels = engine.metrics(), ("upstream", str(place), "a", str(http.address))

        assert metrics["toxiproxy_proxy_received_bytes_total", *labels] == 10 * len(get())
        assert metrics["toxiproxy_proxy_sent_bytes_total", *labels] == 10 * len(get())

    def test_what_a_toxic_struck_is_told_after_its_removal_and_what_is_set_only_while_it_is(
        self, engine: Standalone, echo: Echo
    ) -> None:
        place = engine.made("a", echo.address)
        toxic = {"name": "half", "type": "latency", "toxicity": 0.5, "seed": 3, "attributes": {"latency": 1}}
        engine("POST", "/proxies/a/toxics", toxic)
        assert engine.metrics()["chaos_proxy_toxic", "a", "downstream", "half", "latency"] == 0.5
        for _ in range(20):
            with connect(place) as caller:
                caller.sendall(b"ping")
                assert read_all(caller, 4) == b"ping"
        engine("DELETE", "/proxies/a/toxics/half")

        metrics = engine.metrics()

        (seen,) = engine("GET", "/edges").json()
        assert 0 < metrics["chaos_proxy_struck_total", "a", "half"] < 20
        assert metrics["chaos_proxy_struck_total", "a", "half"] == seen["struck"]["half"]
        assert ("chaos_proxy_toxic", "a", "downstream", "half", "latency") not in metrics

    def test_requests_and_answers_are_told_where_http_is_spoken(self, engine: Standalone, http: HttpCallee, echo: Echo) -> None:
        place = engine.made("a", http.address)
        engine.made("b", echo.address)
        with connect(place) as caller:
            for path in ("/", "/", "/broken"):
                caller.sendall(get(path))
                assert caller.recv(4096).startswith(b"HTTP/1.1 ")

            metrics = engine.metrics()

        assert metrics["chaos_proxy_requests_total", "a"] == 3
        assert metrics["chaos_proxy_answers_total", "a", "200"] == 2
        assert metrics["chaos_proxy_answers_total", "a", "503"] == 1
        assert ("chaos_proxy_requests_total", "b") not in metrics

    def test_what_was_cut_refused_and_never_reached_is_told(self, engine: Standalone, echo: Echo) -> None:
        place = engine.made("a", echo.address)
        nobody = engine.made("b", "127.0.0.1:1")
        with connect(place) as caller:
            caller.sendall(b"ping")
            assert read_all(caller, 4) == b"ping"
            engine("PATCH", "/proxies/a", {"enabled": False})
            assert ends(caller)
        assert refuses(place)
        with connect(nobody) as caller:
            assert ends(caller)

        metrics, (seen, _) = engine.metrics(), engine("GET", "/edges").json()

        assert metrics["chaos_proxy_enabled", "a"] == 0
        assert metrics["chaos_proxy_cut_connections_total", "a"] == 1
        assert metrics["chaos_proxy_unreached_connections_total", "b"] == 1
        assert metrics.get(("chaos_proxy_refused_connections_total", "a")) == seen["refused"]

    def test_refused_attempts_that_cannot_be_seen_are_left_out_and_the_log_says_so(self) -> None:
        with standalone("--no-packet-socket") as engine:
            engine.made("a", "127.0.0.1:1")
            engine("PATCH", "/proxies/a", {"enabled": False})

            assert ("chaos_proxy_refused_connections_total", "a") not in engine.metrics()
            assert eventually(lambda: bool(engine.told("Refused attempts go uncounted")))

    def test_the_process_is_told_of_where_that_was_asked_for(self, engine: Standalone) -> None:
        assert not any(name.startswith("process_") for name, *_ in engine.metrics())

        with standalone("--runtime-metrics") as other:
            metrics = other.metrics()

        assert 0 < metrics["process_cpu_seconds_total",] < 60
        assert 5_000_000 < metrics["process_resident_memory_bytes",] < metrics["process_virtual_memory_bytes",]
        assert 3 < metrics["process_open_fds",] < metrics["process_max_fds",]
        assert 0 <= time.time() - metrics["process_start_time_seconds",] < 60

    def test_all_of_many_proxies_are_told_of(self, engine: Standalone) -> None:
        names = [f"p{number}" for number in range(45)]
        for name in names:
            engine.made(name, "127.0.0.1:1")

        metrics = engine.metrics()

        assert [labels[0] for name, *labels in metrics if name == "chaos_proxy_enabled"] == names

    def test_a_proxy_that_is_deleted_is_told_of_no_more(self, engine: Standalone) -> None:
        engine.made("a", "127.0.0.1:1")
        engine("DELETE", "/proxies/a")

        assert {name for name, *_ in engine.metrics()} == {"chaos_proxy_build_info"}


class TestLog:
    def test_every_change_is_told_with_what_was_changed(self, engine: Standalone) -> None:
        before = len(engine.lines)
        listen = str(engine.made("a b", "127.0.0.1:1"))
        engine("PATCH", "/proxies/a%20b", {"enabled": False})
        engine("POST", "/proxies/a%20b/toxics", {"name": "t", "type": "latency", "attributes": {"latency": 1}})
        engine("PATCH", "/proxies/a%20b/toxics/t", {"attributes": {"latency": 2}})
        engine("DELETE", "/proxies/a%20b/toxics/t")
        engine("DELETE", "/proxies/a%20b")
        engine("POST", "/reset")
        engine("GET", "/proxies")

        assert eventually(lambda: len(engine.lines) >= before + 7)
        lines = engine.log[before:]
        of_proxy = {"proxy": "a b", "listen": listen, "upstream": "127.0.0.1:1"}
        toxic = {"proxy": "a b", "toxic": "t", "type": "latency", "stream": "downstream", "toxicity": 1.0}

        def shown(line: dict[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in line.items() if key not in ("level", "time", "message")}

        assert {line["level"] for line in lines} == {"info"}
        assert [(line["message"], shown(line)) for line in lines] == [
            ("Created proxy", {**of_proxy, "enabled": True}),
            ("Changed proxy", {**of_proxy, "enabled": False}),
            ("Added toxic", {**toxic, "attributes": {"latency": 1, "jitter": 0}}),
            ("Changed toxic", {**toxic, "attributes": {"latency": 2, "jitter": 0}}),
            ("Removed toxic", {"proxy": "a b", "toxic": "t"}),
            ("Deleted proxy", {"proxy": "a b"}),
            ("Reset all proxies", {}),
        ]
        for line in lines:
            assert abs(datetime.fromisoformat(line["time"]).timestamp() - time.time()) < 60

    def test_what_the_api_refuses_is_told_with_the_reason(self, engine: Standalone) -> None:
        before = len(engine.lines)
        engine("POST", "/proxies", {"name": "a\nb", "upstream": "127.0.0.1:1", "listen": "127.0.0.1:0"})
        engine("DELETE", "/proxies/nowhere")
        engine("POST", "/populate", {})

        assert eventually(lambda: len(engine.lines) >= before + 3)
        told = [(line["message"], line["method"], line["url"], line["status"]) for line in engine.log[before:]]
        assert told == [
            ("Refused request", "POST", "/proxies", 400),
            ("Refused request", "DELETE", "/proxies/nowhere", 404),
            ("Refused request", "POST", "/populate", 400),
        ]
        assert engine.log[before + 1]["error"] == "proxy not found"

    def test_an_upstream_that_cannot_be_reached_is_told_once_and_at_debug_each_time(self) -> None:
        for options, times in (((), 1), (("-v",), 3)):
            with standalone(*options) as engine:
                place = engine.made("a", "127.0.0.1:1")
                for _ in range(3):
                    with connect(place) as caller:
                        assert ends(caller)

                assert eventually(lambda n=times, e=engine: len(e.told("Upstream cannot be reached")) == n)
                first = engine.told("Upstream cannot be reached")[0]
                assert first.items() >= {"level": "info", "proxy": "a", "upstream": "127.0.0.1:1"}.items()
                assert "refused" in first["error"].lower() or "111" in first["error"]

    def test_at_debug_every_request_is_told(self) -> None:
        with standalone(LOG_LEVEL="debug") as engine:
            engine("GET", "/version")

            assert eventually(lambda: bool(engine.told("Request")))
            (told,) = engine.told("Request")
            assert told.pop("duration") >= 0
            assert told == {"level": "debug", "method": "GET", "url": "/version", "status": 200}

    def test_at_warn_nothing_is_told_while_nothing_is_wrong(self) -> None:
        control = free_address()
        command = [*MODULE, "--host", control.host, "--port", str(control.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "LOG_LEVEL": "warn"}) as process:
            assert eventually(lambda: not refuses(control))
            requests.post(f"http://{control}/proxies", json={"name": "a", "upstream": "a:1"}, timeout=PATIENCE)
            requests.delete(f"http://{control}/proxies/b", timeout=PATIENCE)
            process.terminate()
            told, _ = process.communicate(timeout=PATIENCE)

        assert (process.returncode, told) == (0, b"")

    def test_text_is_for_people(self) -> None:
        at = datetime.fromisoformat("2026-03-02T09:14:02.511+00:00")

        line = as_text("info", "Created proxy", at, {"proxy": "a b", "n": 1, "upstream": "x:1", "error": "two\nlines"})

        assert re.fullmatch(r'\d\d:14:02 info  Created proxy  proxy="a b"  n=1  upstream=x:1  error="two\\nlines"', line)

    def test_nobody_waits_for_a_log_that_nobody_reads(self, echo: Echo) -> None:
        reader, writer = os.pipe()
        control = free_address()
        command = [*MODULE, "--host", control.host, "--port", str(control.port), "-v"]
        with subprocess.Popen(command, stdout=writer) as process:
            os.close(writer)
            assert eventually(lambda: not refuses(control))
            session = requests.Session()
            began = time.monotonic()
            for _ in range(1000):  # some 110 KB, where a pipe holds 64
                assert session.get(f"http://{control}/version", timeout=PATIENCE).status_code == 200
            session.close()
            assert time.monotonic() - began < 30
            os.close(reader)
            process.terminate()

            assert process.wait(PATIENCE) == 0

    def test_lines_without_room_are_dropped_and_counted(self) -> None:
        reader, writer = os.pipe()
        lines = Lines(writer)
        log = Log("info", as_json, lines)
        with os.fdopen(reader, encoding="utf-8") as told:
            for _ in range(3):  # until the pipe is full too
                while not lines.is_full:
                    log.info("filling", filler="x" * 400)
                time.sleep(0.1)
            for _ in range(7):
                log.info("dropped")
            texts = [json.loads(told.readline()) for _ in range(MOST_WAITING)]
            assert eventually(lambda: not lines.is_full)
            log.info("room again")
            while texts[-1]["message"] != "room again":
                texts.append(json.loads(told.readline()))
            log.close()
            os.close(writer)

        assert [text["message"] for text in texts[-2:]] == ["Lines of the log were dropped", "room again"]
        assert texts[-2]["dropped"] >= 7
        assert "dropped" not in [text["message"] for text in texts]

    def test_a_defect_keeps_its_traceback(self) -> None:
        reader, writer = os.pipe()
        log = Log("warn", as_json, Lines(writer))
        try:
            [].pop()
        except IndexError as defect:
            _tell_defect(log, {"message": "in a callback", "exception": defect})
        _tell_defect(log, {"message": "without a reason"})
        log.close()
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as told:
            first, second = (json.loads(line) for line in told)

        assert (first["level"], first["message"]) == ("error", "in a callback")
        assert "pop from empty list" in first["error"]
        assert "test_a_defect_keeps_its_traceback" in "".join(first["traceback"])
        assert second["message"] == "without a reason"

    def test_the_api_is_found_over_version_6_too(self) -> None:
        if not socket.has_dualstack_ipv6():
            pytest.skip("no IPv6 on this machine")
        with standalone("--host", "::1") as engine:
            assert engine.told("Control API listens")[0]["addr"] == f"[::1]:{engine.control.port}"
            assert engine("GET", "/health").status_code == 200
            assert run("--check", f"[::1]:{engine.control.port}").returncode == 0

    def test_long_values_are_shortened(self) -> None:
        reader, writer = os.pipe()
        log = Log("info", as_json, Lines(writer))
        log.info("long", error="x" * 1_000_000)
        log.close()
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as told:
            assert len(told.read()) < 1000


def test_it_works_for_an_unprivileged_user_too(tmp_path: Path, echo: Echo) -> None:
    if os.geteuid() != 0:
        pytest.skip("everything here runs as an unprivileged user already")
    control, listen = free_address(), free_address()
    command = [*MODULE, "--host", control.host, "--port", str(control.port)]
    drop = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", "--"]
    with subprocess.Popen([*drop, *command], stdout=subprocess.DEVNULL) as process:
        assert eventually(lambda: not refuses(control))
        data = {"name": "a", "upstream": str(echo.address), "listen": str(listen)}
        requests.post(f"http://{control}/proxies", json=data, timeout=PATIENCE)
        with connect(listen) as caller:
            caller.sendall(b"ping")
            assert read_all(caller, 4) == b"ping"
            assert silent(caller, 0.1)
        requests.patch(f"http://{control}/proxies/a", json={"enabled": False}, timeout=PATIENCE)
        (seen,) = requests.get(f"http://{control}/edges", timeout=PATIENCE).json()
        process.terminate()

        assert process.wait(PATIENCE) == 0
    assert seen["refused"] is None
    assert "CAP_NET_RAW" in seen["cannot"]
