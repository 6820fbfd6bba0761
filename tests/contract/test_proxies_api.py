"""The embedded engine's control API, request by request: Toxiproxy's answers, and what it refuses beyond them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contract.proxies_rig import PATIENCE, connect, embedded, free_address, read_all, refuses

TAKEN = "127.0.0.1:1"


class Control:
    def __init__(self, base: str) -> None:
        self.base = base

    def __call__(self, method: str, path: str, data: Any = None, **more: Any) -> requests.Response:
        return requests.request(method, self.base + path, json=data, timeout=PATIENCE, **more)

    def made(self, name: str, **more: Any) -> dict[str, Any]:
        answer = self("POST", "/proxies", {"name": name, "upstream": TAKEN, "listen": "127.0.0.1:0", **more})
        assert answer.status_code == 201
        return answer.json()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    with embedded(tmp_path_factory.mktemp("api")) as started:
        yield Control(f"http://{started.control}")


@pytest.fixture
def control(server: Control) -> Iterator[Control]:
    yield server
    for name in server("GET", "/proxies").json():
        assert server("DELETE", f"/proxies/{name}").status_code == 204


def error(answer: requests.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["error"]


def test_a_proxy_is_made_shown_listed_and_deleted(control: Control) -> None:
    made = control.made("a", enabled=True)

    assert made == {
        "name": "a",
        "listen": made["listen"],
        "upstream": TAKEN,
        "enabled": True,
        "Logger": {},
        "toxics": [],
    }
    assert not made["listen"].endswith(":0")
    assert control("GET", "/proxies/a").json() == made
    assert control("GET", "/proxies").json() == {"a": made}
    deleted = control("DELETE", "/proxies/a")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert error(control("GET", "/proxies/a")) == (404, "proxy not found")


@pytest.mark.parametrize(
    ("method", "path", "data", "status", "message"),
    [
        ("POST", "/proxies", {}, 400, "missing required field: name"),
        ("POST", "/proxies", {"name": "b"}, 400, "missing required field: upstream"),
        ("POST", "/proxies", {"name": "a", "upstream": TAKEN}, 409, "proxy already exists"),
        (
            "POST",
            "/proxies",
            {"name": "b", "upstream": TAKEN, "listen": "garbage"},
            500,
            "listen tcp: address garbage: missing",
        ),
        (
            "POST",
            "/proxies",
            {"name": "b", "upstream": TAKEN, "listen": "1.1.1.1:99999"},
            500,
            "listen tcp: address 99999: invalid",
        ),
        ("POST", "/proxies", {"name": "b", "upstream": "garbage"}, 400, "upstream: expected host:port, found 'garbage'"),
        ("POST", "/proxies", {"name": "b", "upstream": TAKEN, "listen": "0.0.0.0:0"}, 400, "listen: expected a loopback"),
        ("POST", "/proxies", {"name": "b", "upstream": TAKEN, "listen": ":0.5"}, 500, "listen tcp: address 0.5: invalid port"),
        ("POST", "/proxies", {"name": 7, "upstream": TAKEN}, 400, "bad request body: expected name as text"),
        ("POST", "/proxies", {"name": "b", "upstream": TAKEN, "enabled": "no"}, 400, "bad request body: expected true or"),
        ("POST", "/proxies", {"name": "b", "upstream": TAKEN, "speed": 1}, 400, "bad request body: a proxy has no speed"),
        ("POST", "/proxies", {"name": "b", "upstream": TAKEN, "toxics": [{}]}, 400, "invalid toxic type"),
        ("POST", "/proxies", ["a"], 400, "bad request body: expected an object"),
        ("PATCH", "/proxies/b", {}, 404, "proxy not found"),
        ("DELETE", "/proxies/b", None, 404, "proxy not found"),
        ("GET", "/proxies/b/toxics", None, 404, "proxy not found"),
        ("POST", "/proxies/b/toxics", {}, 404, "proxy not found"),
        ("GET", "/proxies/a/toxics/t", None, 404, "toxic not found"),
        ("PATCH", "/proxies/a/toxics/t", {}, 404, "toxic not found"),
        ("DELETE", "/proxies/a/toxics/t", None, 404, "toxic not found"),
        ("POST", "/proxies/a/toxics", {"type": "latency", "stream": "sideways"}, 400, "stream was invalid, can be either"),
        ("POST", "/proxies/a/toxics", {}, 400, "invalid toxic type"),
        ("POST", "/proxies/a/toxics", {"type": "down"}, 400, "invalid toxic type"),
        ("POST", "/proxies/a/toxics", {"type": "latency", "attributes": {"delay": 1}}, 400, "bad request body: the attr"),
        ("POST", "/proxies/a/toxics", {"type": "latency", "attributes": {"latency": -1}}, 400, "bad request body: expected"),
        ("POST", "/proxies/a/toxics", {"type": "latency", "attributes": {"latency": "1"}}, 400, "bad request body: expected"),
        ("POST", "/proxies/a/toxics", {"type": "timeout", "attributes": {"timeout": 1.5}}, 400, "bad request body: expected"),
        ("POST", "/proxies/a/toxics", {"type": "timeout", "toxicity": 7}, 400, "bad request body: expected toxicity"),
        ("POST", "/proxies/a/toxics", {"type": "timeout", "toxicty": 1}, 400, "bad request body: a toxic has no toxicty"),
        ("POST", "/populate", {}, 400, "bad request body: expected an array of proxies"),
        (
            "POST",
            "/populate",
            [{"name": "b", "upstream": TAKEN}, {"name": "c"}],
            400,
            "missing required field: upstream at proxy 2",
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_and_changes_nothing(
    control: Control, method: str, path: str, data: Any, status: int, message: str
) -> None:
    control.made("a")
    before = control("GET", "/proxies").json()

    found = error(control(method, path, data))

    assert (found[0], found[1][: len(message)]) == (status, message)
    assert control("GET", "/proxies").json() == before


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused(control: Control, body: bytes) -> None:
    answer = requests.post(control.base + "/proxies", data=body, timeout=PATIENCE)

    status, message = error(answer)
    assert status == 400
    assert message.startswith("bad request body: ")


def test_a_body_that_does_not_end_is_refused(control: Control) -> None:
    answer = requests.post(control.base + "/proxies", data=b" " * 2_000_000, timeout=PATIENCE)

    assert error(answer) == (413, "bad request: its body is longer than 1048576 bytes")


@pytest.mark.parametrize("path", ["/", "/nowhere", "/proxies/", "/proxies/a/", "/proxies/a/toxics/t/x", "/metrics/", "//"])
def test_a_path_that_leads_nowhere_is_answered_in_plain_text(control: Control, path: str) -> None:
    answer = control("GET", path)

    assert (answer.status_code, answer.text) == (404, "404 page not found\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/proxies/a"), ("OPTIONS", "/proxies"), ("GET", "/reset"), ("DELETE", "/proxies/a/toxics"), ("POST", "/edges")],
)
def test_a_wrong_method_is_answered_with_nothing(control: Control, method: str, path: str) -> None:
    answer = control(method, path)

    assert (answer.status_code, answer.content) == (405, b"")


def test_a_browser_is_turned_away(control: Control) -> None:
    answer = control("POST", "/reset", headers={"User-Agent": "Mozilla/5.0"})

    assert (answer.status_code, answer.text) == (403, "User agent not allowed\n")


def test_garbage_is_answered_and_the_connection_closed(control: Control) -> None:
    host, port = control.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        sock.sendall(b"what is this\r\n\r\n")

        assert sock.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert sock.recv(4096) == b""


def test_requests_in_one_go_are_answered_in_order(control: Control) -> None:
    host, port = control.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        sock.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = read_all(sock, 100_000)

    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200", b"404"]


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_a_proxy_is_changed_key_by_key(control: Control, method: str) -> None:
    made = control.made("a")
    control("POST", "/proxies/a/toxics", {"type": "latency"})

    off = control(method, "/proxies/a", {"Enabled": False, "name": "ignored"})
    assert (off.status_code, off.json()["enabled"], off.json()["name"]) == (200, False, "a")
    moved = control(method, "/proxies/a", {"upstream": "127.0.0.1:2"}).json()
    assert (moved["upstream"], moved["enabled"], moved["listen"]) == ("127.0.0.1:2", False, made["listen"])
    elsewhere = str(free_address())
    on = control(method, "/proxies/a", {"listen": elsewhere, "enabled": True}).json()
    assert (on["listen"], on["enabled"], len(on["toxics"])) == (elsewhere, True, 1)


def test_a_proxy_that_is_moved_leaves_its_address(control: Control) -> None:
    first, second = free_address(), free_address()
    control.made("a", listen=str(first))

    control("PATCH", "/proxies/a", {"listen": str(second)})

    assert refuses(first)
    connect(second).close()


def test_changing_a_proxy_to_what_it_is_keeps_its_connections(control: Control) -> None:
    with socket.create_server(("127.0.0.1", 0)) as callee:
        host, port = callee.getsockname()
        listen = control.made("a", upstream=f"{host}:{port}")["listen"]
        with socket.create_connection(("127.0.0.1", int(listen.split(":")[1])), timeout=PATIENCE) as sock:
            accepted, _ = callee.accept()
            control("PATCH", "/proxies/a", {"listen": listen.replace("127.0.0.1", "localhost"), "enabled": True})
            accepted.sendall(b"still here")

            assert read_all(sock, 10) == b"still here"
            accepted.close()


def test_a_port_that_is_taken_is_a_failure_that_keeps_nothing(control: Control) -> None:
    listen = control.made("a")["listen"]

    status, message = error(control("POST", "/proxies", {"name": "b", "upstream": TAKEN, "listen": listen}))

    assert (status, message) == (500, f"listen tcp {listen}: bind: address already in use")
    assert list(control("GET", "/proxies").json()) == ["a"]


def test_a_proxy_made_disabled_listens_once_it_is_enabled(control: Control) -> None:
    address = free_address()
    made = control.made("a", listen=str(address), enabled=False)
    assert (made["enabled"], made["listen"]) == (False, str(address))
    assert refuses(address)

    control("PATCH", "/proxies/a", {"enabled": True})

    connect(address).close()


def test_a_toxic_is_added_shown_changed_and_removed(control: Control) -> None:
    control.made("a")
    added = control("POST", "/proxies/a/toxics", {"type": "latency", "stream": "UpStream", "attributes": {"latency": 5}})
    wanted = {
        "attributes": {"latency": 5, "jitter": 0},
        "name": "latency_upstream",
        "type": "latency",
        "stream": "upstream",
        "toxicity": 1.0,
    }

    assert (added.status_code, added.json()) == (200, wanted)
    assert control("GET", "/proxies/a/toxics/latency_upstream").json() == wanted
    assert error(control("POST", "/proxies/a/toxics", {"type": "timeout", "name": "latency_upstream"}))[0] == 409
    changed = control("PATCH", "/proxies/a/toxics/latency_upstream", {"attributes": {"jitter": 2}, "toxicity": 0.5}).json()
    assert changed == {**wanted, "attributes": {"latency": 5, "jitter": 2}, "toxicity": 0.5}
    assert control("GET", "/proxies/a/toxics").json() == [changed]
    assert control("DELETE", "/proxies/a/toxics/latency_upstream").status_code == 204
    assert control("GET", "/proxies/a/toxics").json() == []


def test_a_change_that_is_refused_has_changed_no_part(control: Control) -> None:
    control.made("a")
    control("POST", "/proxies/a/toxics", {"type": "latency", "name": "t"})

    assert control("PATCH", "/proxies/a/toxics/t", {"attributes": {"jitter": 77, "latency": "bad"}}).status_code == 400

    assert control("GET", "/proxies/a/toxics/t").json()["attributes"] == {"latency": 0, "jitter": 0}


def test_toxics_are_listed_in_the_order_in_which_they_act(control: Control) -> None:
    control.made("a")
    for name, stream in (("one", "downstream"), ("two", "upstream"), ("three", "downstream")):
        control("POST", "/proxies/a/toxics", {"type": "latency", "name": name, "stream": stream})

    assert [toxic["name"] for toxic in control("GET", "/proxies/a").json()["toxics"]] == ["two", "one", "three"]


def test_resetting_enables_every_proxy_and_takes_all_toxics_away(control: Control) -> None:
    for name in ("a", "b"):
        control.made(name, enabled=False)
        control("POST", f"/proxies/{name}/toxics", {"type": "timeout"})

    assert control("POST", "/reset").status_code == 204

    found = control("GET", "/proxies").json()
    assert [(proxy["enabled"], proxy["toxics"]) for proxy in found.values()] == [(True, []), (True, [])]


def test_resetting_goes_on_after_a_proxy_that_cannot_be_enabled(control: Control) -> None:
    address = free_address()
    control.made("a", listen=str(address), enabled=False)
    control.made("b", enabled=False)
    with socket.create_server((address.host, address.port)):
        status, message = error(control("POST", "/reset"))

    assert (status, message) == (500, f"a: listen tcp {address}: bind: address already in use")
    assert control("GET", "/proxies/b").json()["enabled"]


def test_populating_makes_what_is_missing_and_leaves_what_is_there(control: Control) -> None:
    made = control.made("a", enabled=False)
    control("POST", "/proxies/a/toxics", {"type": "latency"})
    wanted = [{"name": "a", "listen": made["listen"], "upstream": TAKEN}, {"name": "b", "upstream": TAKEN}]

    answer = control("POST", "/populate", wanted)

    assert answer.status_code == 201
    first, second = answer.json()["proxies"]
    assert (first["enabled"], len(first["toxics"])) == (False, 1)
    assert (second["enabled"], second["name"]) == (True, "b")
    replaced = control("POST", "/populate", [{"name": "b", "upstream": "127.0.0.1:2"}]).json()["proxies"]
    assert replaced[0]["upstream"] == "127.0.0.1:2"
    assert control("POST", "/populate", []).json() == {"proxies": None}


def test_a_disabled_proxy_that_cannot_be_replaced_goes_on_counting_whom_it_refuses(control: Control) -> None:
    address = free_address()
    control.made("a", listen=str(address), enabled=False)
    wanted = {"name": "a", "listen": str(address), "upstream": "127.0.0.1:2"}
    before = control("GET", "/proxies/a").json()
    with socket.create_server((address.host, address.port)):
        assert control("POST", "/populate", [wanted]).status_code == 500

    assert control("GET", "/proxies/a").json() == before
    assert refuses(address)
    assert control("GET", "/edges").json()[0]["refused"] in (1, None)


def test_a_disabled_proxy_in_the_place_of_another_counts_whom_it_refuses(control: Control) -> None:
    address = free_address()
    for enabled in (False, True):
        control.made("a", listen=str(address), enabled=enabled)
        wanted = {"name": "a", "listen": str(address), "upstream": "127.0.0.1:2", "enabled": False}
        assert control("POST", "/populate", [wanted]).json()["proxies"][0]["upstream"] == "127.0.0.1:2"

        assert refuses(address)

        assert control("GET", "/edges").json()[0]["refused"] in (1, None)
        control("DELETE", "/proxies/a")


def test_populating_tells_how_far_it_came(control: Control) -> None:
    taken = control.made("a")["listen"]

    answer = control("POST", "/populate", [{"name": name, "upstream": TAKEN, "listen": "127.0.0.1:0"} for name in "bc"])
    assert answer.status_code == 201
    answer = control(
        "POST", "/populate", [{"name": "b", "upstream": "127.0.0.1:2"}, {"name": "d", "upstream": TAKEN, "listen": taken}]
    )

    assert (answer.status_code, [proxy["name"] for proxy in answer.json()["proxies"]]) == (500, ["b"])
    assert answer.json()["error"].endswith("address already in use")


@pytest.mark.parametrize("name", ["a/b", "a\nb", "a\0b", ".", "..", "x" * 1025, "\ud800"])
def test_a_name_that_no_address_leads_to_is_refused(control: Control, name: str) -> None:
    status, message = error(control("POST", "/proxies", {"name": name, "upstream": TAKEN}))
    assert status == 400
    assert message.startswith("bad request body: expected name ")

    control.made("a")
    status, message = error(control("POST", "/proxies/a/toxics", {"type": "noop", "name": name}))
    assert status == 400
    assert message.startswith("bad request body: expected name ")
    assert list(control("GET", "/proxies").json()) == ["a"]


def test_the_version_says_whose_api_this_is_and_who_speaks_it(control: Control) -> None:
    found = control("GET", "/version").json()

    assert found["version"] == "2.12.0"
    assert found["engine"].startswith("embedded ")


def test_it_listens_outside_loopback_only_when_it_is_allowed(tmp_path: Path) -> None:
    with embedded(tmp_path, "--allow-any-address") as started:
        control = Control(f"http://{started.control}")

        assert control.made("a", listen="0.0.0.0:0")["listen"].startswith("0.0.0.0:")
        control("PATCH", "/proxies/a", {"enabled": False})

        (edge,) = started.engine.seen()
        assert edge.refused is None
        assert "0.0.0.0 is not an IPv4 loopback address" in edge.cannot
