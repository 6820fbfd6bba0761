"""Toxiproxy's control API, row by row, of Toxiproxy itself and of the embedded engine."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.contract import toxiproxy_conformance
from tests.contract.proxies_rig import connect, ends, read_all, refuses
from tests.contract.toxiproxy_conformance import (
    DIFFERENCES,
    ENGINES,
    NOBODY,
    Asked,
    Controlled,
    Engine,
    address,
    error,
    running,
    somewhere,
)


@pytest.fixture(scope="module", params=ENGINES)
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as engine:
        yield engine


@pytest.fixture
def engine(process: Engine) -> Iterator[Engine]:
    yield process
    process.clear()


def test_every_difference_is_shown_by_a_test_and_has_a_reason() -> None:
    folder = Path(toxiproxy_conformance.__file__).parent
    tests = "".join(path.read_text() for path in folder.glob("test_toxiproxy_conformance*.py"))

    assert [what for what in DIFFERENCES if f'"{what}"' not in tests] == []
    assert [what for what, difference in DIFFERENCES.items() if not difference.why.endswith(".")] == []


class TestRouting:
    @pytest.mark.parametrize("path", ["/", "/nowhere", "/proxies/", "/proxies/p/", "/proxies/p/toxics/", "/proxies/p/toxic"])
    def test_an_unknown_path_is_told_in_plain_text(self, engine: Engine, path: str) -> None:
        engine.made()

        answer = engine("GET", path)

        assert (answer.status_code, answer.text) == (404, "404 page not found\n")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PUT", "/proxies"),
            ("DELETE", "/proxies"),
            ("HEAD", "/version"),
            ("OPTIONS", "/proxies"),
            ("GET", "/reset"),
            ("GET", "/populate"),
            ("PUT", "/proxies/p"),
            ("DELETE", "/proxies/p/toxics"),
            ("PUT", "/proxies/p/toxics/t"),
        ],
    )
    def test_a_wrong_method_is_answered_with_nothing_but_its_status(self, engine: Engine, method: str, path: str) -> None:
        answer = engine(method, path)

        assert (answer.status_code, answer.content) == (405, b"")
        assert "Content-Type" not in answer.headers

    def test_every_request_that_is_known_has_an_id(self, engine: Engine) -> None:
        for path in ("/version", "/proxies", "/proxies/nobody"):
            assert engine("GET", path).headers["X-Toxiproxy-Request-Id"]

    def test_a_name_with_a_space_is_fine(self, engine: Engine) -> None:
        engine.made("order -> shipping: 1")

        assert engine("GET", "/proxies/order%20-%3E%20shipping%3A%201").json()["name"] == "order -> shipping: 1"

    def test_a_browser_is_turned_away_where_it_knows_the_way(self, engine: Engine) -> None:
        browser = {"User-Agent": "Mozilla/5.0 (X11)"}

        answer = engine("GET", "/proxies", headers=browser)

        assert (answer.status_code, answer.text) == (403, "User agent not allowed\n")
        assert engine("GET", "/nowhere", headers=browser).status_code == 404

    def test_the_version_is_told(self, engine: Engine) -> None:
        answer = engine("GET", "/version")

        assert answer.status_code == 200
        assert answer.headers["Content-Type"].replace(" ", "") == "application/json;charset=utf-8"
        assert set(answer.json()) == engine.says("the version")
        assert answer.text.startswith('{"version": "')

    def test_a_connection_to_it_is_kept_for_the_next_request(self, engine: Engine) -> None:
        with connect(engine.control) as sock:
            for _ in range(2):
                sock.sendall(b"GET /version HTTP/1.1\r\nHost: engine\r\n\r\n")
                assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")

    def test_metrics(self, engine: Engine) -> None:
        assert engine("GET", "/metrics").status_code == engine.says("metrics without a flag")


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "data", "status", "message"),
        [
            ("POST", "/proxies", b"", 400, "bad request body: EOF"),
            ("POST", "/proxies", b'{"name": "x", ', 400, "bad request body: "),
            ("POST", "/proxies", b"no json", 400, "bad request body: "),
            ("POST", "/proxies", b"[]", 400, "bad request body: "),
            ("POST", "/proxies", {"name": 7, "upstream": NOBODY}, 400, "bad request body: "),
            ("POST", "/proxies", {"name": "x", "upstream": NOBODY, "enabled": "no"}, 400, "bad request body: "),
            ("POST", "/proxies", b"null", 400, "missing required field: name"),
            ("POST", "/proxies", {}, 400, "missing required field: name"),
            ("POST", "/proxies", {"name": "p"}, 400, "missing required field: upstream"),
            ("POST", "/proxies", {"name": "p", "upstream": NOBODY, "listen": "garbage"}, 409, "proxy already exists"),
            ("POST", "/proxies", {"name": "x", "upstream": NOBODY, "listen": "garbage"}, 500, "listen tcp: address garbage: missing port in address"),
            ("POST", "/proxies", {"name": "x", "upstream": NOBODY, "listen": "127.0.0.1:99999"}, 500, "listen tcp: address 99999: invalid port"),
            ("GET", "/proxies/x", None, 404, "proxy not found"),
            ("PATCH", "/proxies/x", {}, 404, "proxy not found"),
            ("DELETE", "/proxies/x", None, 404, "proxy not found"),
            ("GET", "/proxies/x/toxics", None, 404, "proxy not found"),
            ("POST", "/proxies/x/toxics", {}, 404, "proxy not found"),
            ("GET", "/proxies/x/toxics/t", None, 404, "proxy not found"),
            ("GET", "/proxies/p/toxics/x", None, 404, "toxic not found"),
            ("PATCH", "/proxies/p/toxics/x", {}, 404, "toxic not found"),
            ("DELETE", "/proxies/p/toxics/x", None, 404, "toxic not found"),
            ("POST", "/proxies/p/toxics", b"{", 400, "bad request body: "),
            ("POST", "/proxies/p/toxics", {"type": "x", "stream": "sideways"}, 400, "stream was invalid, can be either upstream or downstream"),
            ("POST", "/proxies/p/toxics", {"type": "x"}, 400, "invalid toxic type"),
            ("POST", "/proxies/p/toxics", {"type": "down"}, 400, "invalid toxic type"),
            ("POST", "/proxies/p/toxics", {}, 400, "invalid toxic type"),
            ("POST", "/proxies/p/toxics", {"type": "latency", "name": "t", "attributes": {"latency": "x"}}, 409, "toxic already exists"),
            ("POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latency": "x"}}, 400, "bad request body: "),
            ("POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latency": 1.5}}, 400, "bad request body: "),
            ("PATCH", "/proxies/p/toxics/t", {"attributes": {"latency": "x"}}, 400, "bad request body: "),
            ("PATCH", "/proxies/p/toxics/t", {"toxicity": "x"}, 400, "bad request body: "),
            ("POST", "/populate", {}, 400, "bad request body: "),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_refused_in_this_order_and_in_these_words(
        self, engine: Engine, method: str, path: str, data: Any, status: int, message: str
    ) -> None:
        engine.made()
        engine.toxic("latency", more={"name": "t"})
        before = engine.shown()

        answer = engine(method, path, data)

        if path == "/populate":
            assert (answer.status_code, answer.json()["error"][: len(message)]) == (status, message)
        else:
            found, words = error(answer)
            assert (found, words[: len(message)]) == (status, message)
        assert engine("GET", "/proxies").json() == {"p": before}

    def test_keys_may_be_in_any_case_and_nobody_reads_beyond_the_first_value(self, engine: Engine) -> None:
        answer = engine("POST", "/proxies", b' {"NAME": "p", "Upstream": "127.0.0.1:1", "LISTEN": "127.0.0.1:0"} {"and": more')

        assert (answer.status_code, answer.json()["name"]) == (201, "p")

    @pytest.mark.parametrize("data", [{"type": "latency", "speed": 1}, {"type": "latency", "attributes": {"delay": 1}}])
    def test_an_unknown_key(self, engine: Engine, data: dict[str, Any]) -> None:
        engine.made()

        assert engine("POST", "/proxies/p/toxics", data).status_code == engine.says("unknown keys")

    @pytest.mark.parametrize("toxicity", [-3, 7])
    def test_a_toxicity_that_is_no_share(self, engine: Engine, toxicity: int) -> None:
        engine.made()

        answer = engine("POST", "/proxies/p/toxics", {"type": "latency", "toxicity": toxicity})

        assert answer.status_code == engine.says("unvalidated toxicity")

    @pytest.mark.parametrize(
        ("kind", "attributes"),
        [
            ("latency", {"latency": -1}),
            ("latency", {"jitter": -1}),
            ("timeout", {"timeout": 3_600_001}),
            ("limit_data", {"bytes": -1}),
            ("slow_close", {"delay": -5}),
            ("bandwidth", {"rate": 10_000_001}),
        ],
    )
    def test_an_attribute_out_of_its_range(self, engine: Engine, kind: str, attributes: dict[str, int]) -> None:
        engine.made()

        answer = engine("POST", "/proxies/p/toxics", {"type": kind, "attributes": attributes})

        assert answer.status_code == engine.says("unvalidated attributes")

    def test_an_upstream_that_is_no_address(self, engine: Engine) -> None:
        answer = engine("POST", "/proxies", {"name": "p", "upstream": "garbage", "listen": "127.0.0.1:0"})

        assert answer.status_code == engine.says("unvalidated upstream")


class TestProxies:
    def test_a_proxy_is_made_shown_listed_and_deleted(self, engine: Engine) -> None:
        answer = engine("POST", "/proxies", {"name": "p", "upstream": NOBODY, "listen": "localhost:0"})
        made = answer.json()

        assert answer.status_code == 201
        assert made == {"name": "p", "listen": made["listen"], "upstream": NOBODY, "enabled": True, "Logger": {}, "toxics": []}
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", made["listen"])
        assert engine.shown() == made
        assert engine("GET", "/proxies").json() == {"p": made}
        deleted = engine("DELETE", "/proxies/p")
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert engine("DELETE", "/proxies/p").status_code == 404
        assert refuses(address(made["listen"]))

    def test_where_it_listens_when_nothing_is_said(self, engine: Engine) -> None:
        made = engine("POST", "/proxies", {"name": "p", "upstream": NOBODY}).json()

        assert made["listen"].rpartition(":")[0] == engine.says("listening by default")

    def test_a_proxy_that_cannot_listen_is_not_kept(self, engine: Engine) -> None:
        taken = engine.made()

        answer = engine("POST", "/proxies", {"name": "q", "upstream": NOBODY, "listen": str(taken)})

        assert error(answer) == (500, f"listen tcp {taken}: bind: address already in use")
        assert list(engine("GET", "/proxies").json()) == ["p"]

    def test_one_made_disabled_keeps_its_address_as_it_was_said(self, engine: Engine) -> None:
        made = engine("POST", "/proxies", {"name": "p", "upstream": NOBODY, "listen": "localhost:0", "enabled": False}).json()

        assert (made["enabled"], made["listen"]) == (False, "localhost:0")
        assert engine("POST", "/proxies/p", {"enabled": True}).json()["listen"].startswith("127.0.0.1:")

    @pytest.mark.parametrize("method", ["PATCH", "POST"])
    def test_it_is_changed_key_by_key_but_for_its_name(self, engine: Engine, method: str) -> None:
        listen, other = str(engine.made()), somewhere()
        engine.toxic("noop")

        off = engine(method, "/proxies/p", {"enabled": False, "name": "q"})
        assert (off.status_code, off.json()["name"], off.json()["enabled"], off.json()["listen"]) == (200, "p", False, listen)
        led = engine(method, "/proxies/p", {"upstream": "127.0.0.1:2"}).json()
        assert (led["upstream"], led["enabled"]) == ("127.0.0.1:2", False)
        moved = engine(method, "/proxies/p", {"listen": other, "enabled": True}).json()
        assert (moved["listen"], moved["enabled"], len(moved["toxics"])) == (other, True, 1)
        assert refuses(address(listen))
        connect(address(other)).close()
        assert engine(method, "/proxies/p", {}).json() == moved
        assert engine(method, "/proxies/p", {"toxics": [], "Logger": {}, **moved}).json() == moved

    def test_what_it_is_already_keeps_its_connections(self, engine: Engine) -> None:
        with closing(Controlled()) as callee:
            listen = engine.made(upstream=callee.address)
            ours, theirs = callee.pair(listen)

            engine("PATCH", "/proxies/p", {"enabled": True, "listen": str(listen), "upstream": str(callee.address)})
            theirs.sendall(b"still here")

            assert ours.recv(10) == b"still here"
            engine("PATCH", "/proxies/p", {"upstream": NOBODY})
            assert ends(ours)

    def test_an_address_that_cannot_be_moved_to(self, engine: Engine) -> None:
        taken = engine.made("q")
        engine.made()

        assert error(engine("PATCH", "/proxies/p", {"listen": str(taken)}))[0] == 500
        assert engine.shown()["enabled"] == engine.says("a proxy half moved")
        status, message = error(engine("PATCH", "/proxies/q", {"listen": "garbage"}))
        assert (status, message.removeprefix("listen tcp: ")) == (500, "address garbage: missing port in address")


class TestToxics:
    def test_a_toxic_is_added_shown_changed_and_removed(self, engine: Engine) -> None:
        engine.made()
        assert engine("GET", "/proxies/p/toxics").json() == []
        wanted = {
            "attributes": {"latency": 5, "jitter": 0},
            "name": "latency_upstream",
            "type": "latency",
            "stream": "upstream",
            "toxicity": 1,
        }

        added = engine("POST", "/proxies/p/toxics", {"type": "latency", "stream": "upstream", "attributes": {"latency": 5}})

        assert (added.status_code, added.json()) == (200, wanted)
        assert engine("GET", "/proxies/p/toxics/latency_upstream").json() == wanted
        for method in ("PATCH", "POST"):
            change = {"attributes": {"jitter": 2}, "toxicity": 0.5, "name": "x", "stream": "downstream", "type": "timeout"}
            changed = engine(method, "/proxies/p/toxics/latency_upstream", change)
            assert changed.status_code == 200
            assert changed.json() == {**wanted, "attributes": {"latency": 5, "jitter": 2}, "toxicity": 0.5}
        assert engine("GET", "/proxies/p/toxics").json() == [changed.json()]
        removed = engine("DELETE", "/proxies/p/toxics/latency_upstream")
        assert (removed.status_code, removed.content) == (204, b"")
        assert engine("DELETE", "/proxies/p/toxics/latency_upstream").status_code == 404

    @pytest.mark.parametrize(
        ("kind", "attributes"),
        [
            ("latency", {"latency": 1, "jitter": 2}),
            ("bandwidth", {"rate": 3}),
            ("slow_close", {"delay": 4}),
            ("timeout", {"timeout": 5}),
            ("reset_peer", {"timeout": 6}),
            ("slicer", {"average_size": 9, "size_variation": 8, "delay": 7}),
            ("limit_data", {"bytes": 10}),
            ("noop", {}),
        ],
    )
    def test_every_type_is_shown_with_all_that_it_has(self, engine: Engine, kind: str, attributes: dict[str, int]) -> None:
        engine.made()

        found = engine("POST", "/proxies/p/toxics", {"type": kind, "attributes": attributes}).json()

        assert found == {
            "attributes": attributes,
            "name": f"{kind}_downstream",
            "type": kind,
            "stream": "downstream",
            "toxicity": 1,
        }

    def test_a_toxicity_of_0_is_kept(self, engine: Engine) -> None:
        engine.made()
        engine.toxic("noop", more={"toxicity": 0})

        assert engine.shown()["toxics"][0]["toxicity"] == 0

    def test_a_stream_in_any_case(self, engine: Engine) -> None:
        engine.made()

        found = engine("POST", "/proxies/p/toxics", {"type": "noop", "stream": "UpStream"}).json()

        assert found["stream"] == engine.says("how a stream is spelt")

    def test_a_seed(self, engine: Engine) -> None:
        engine.made()

        found = engine("POST", "/proxies/p/toxics", {"type": "noop", "seed": 7}).json()

        assert ("seed" in found) == engine.says("a seed")

    def test_they_are_listed_in_the_order_in_which_they_act(self, engine: Engine) -> None:
        engine.made()
        for name, stream in (("one", "downstream"), ("two", "upstream"), ("three", "downstream"), ("four", "upstream")):
            engine.toxic("noop", stream, more={"name": name})
        assert engine.toxics() == ["two", "four", "one", "three"]

        engine.remove("two")
        engine.toxic("noop", "upstream", more={"name": "two"})

        assert engine.toxics() == ["four", "two", "one", "three"]

    def test_a_name_is_given_once_whatever_the_stream(self, engine: Engine) -> None:
        engine.made()
        engine.toxic("noop", "upstream", more={"name": "t"})

        answer = engine("POST", "/proxies/p/toxics", {"type": "latency", "stream": "downstream", "name": "t"})

        assert error(answer) == (409, "toxic already exists")

    def test_a_change_that_is_refused_half_way(self, engine: Engine) -> None:
        engine.made()
        engine.toxic("latency", more={"name": "t"})

        answer = engine("PATCH", "/proxies/p/toxics/t", b'{"attributes": {"jitter": 77, "latency": "bad"}}')

        assert answer.status_code == 400
        assert engine.shown()["toxics"][0]["attributes"]["jitter"] == engine.says("a toxic half changed")

    def test_they_go_with_their_proxy(self, engine: Engine) -> None:
        listen = engine.made()
        engine.toxic("noop")

        engine("DELETE", "/proxies/p")
        engine.made(listen=str(listen))

        assert engine.toxics() == []


class TestReset:
    def test_every_proxy_is_enabled_and_without_toxics_and_where_it_was(self, engine: Engine) -> None:
        listen = engine.made("a", enabled=False, listen=somewhere())
        engine.made("b")
        engine("PATCH", "/proxies/b", {"upstream": "127.0.0.1:2"})
        for name in "ab":
            engine.toxic("timeout", proxy=name)

        answer = engine("POST", "/reset")

        assert (answer.status_code, answer.content) == (204, b"")
        assert engine.shown("a")["enabled"]
        assert engine.shown("b")["upstream"] == "127.0.0.1:2"
        assert (engine.toxics("a"), engine.toxics("b")) == ([], [])
        connect(listen).close()

    def test_one_that_cannot_be_enabled(self, engine: Engine) -> None:
        for name in "abcdefgh":
            engine.made(name)
            engine.toxic("noop", proxy=name)
        taken = address(somewhere())
        with socket.create_server((taken.host, taken.port)):
            engine.made("z", listen=str(taken), enabled=False)

            status, message = error(engine("POST", "/reset"))

        assert (status, "address already in use" in message) == (500, True)
        if engine.says("a reset that fails") == "both":
            assert [name for name in "abcdefgh" if engine.toxics(name)] == []


class TestPopulate:
    def test_what_is_missing_is_made(self, engine: Engine) -> None:
        wanted = [{"name": name, "upstream": NOBODY, "listen": "127.0.0.1:0"} for name in "ab"]

        answer = engine("POST", "/populate", wanted)

        assert answer.status_code == 201
        assert [(proxy["name"], proxy["enabled"], proxy["toxics"]) for proxy in answer.json()["proxies"]] == [
            ("a", True, []),
            ("b", True, []),
        ]
        assert engine("POST", "/populate", []).json() == {"proxies": None}

    def test_what_is_there_already_is_left_as_it_is(self, engine: Engine) -> None:
        listen = str(engine.made(listen=somewhere()))
        engine.toxic("noop")
        engine("PATCH", "/proxies/p", {"enabled": False})
        before = engine.shown()

        answer = engine("POST", "/populate", [{"name": "p", "listen": listen, "upstream": NOBODY, "enabled": True}])

        assert answer.json()["proxies"] == [before]
        assert engine.shown() == before

    @pytest.mark.parametrize("key", ["upstream", "listen"])
    def test_what_is_there_otherwise_is_replaced(self, engine: Engine, key: str) -> None:
        given = {"name": "p", "listen": str(engine.made()), "upstream": NOBODY}
        engine.toxic("noop")
        engine("PATCH", "/proxies/p", {"enabled": False})

        replaced = engine("POST", "/populate", [{**given, key: somewhere()}]).json()["proxies"][0]

        assert (replaced["enabled"], replaced["toxics"]) == (True, [])
        assert engine.shown() == replaced

    def test_what_cannot_be_replaced(self, engine: Engine) -> None:
        taken = str(engine.made("q"))
        with closing(Asked()) as callee, connect(engine.made(upstream=callee.address)) as caller:
            engine.toxic("noop")
            caller.sendall(b"one")
            assert read_all(caller, 6) == b"answer"
            before = engine.shown()

            answer = engine("POST", "/populate", [{"name": "p", "listen": taken, "upstream": NOBODY}])

            assert (answer.status_code, answer.json()["proxies"]) == (500, None)
            after = engine.shown()
            assert {**after, "enabled": True} == before
            with suppress(OSError):  # it may be gone
                caller.sendall(b"two")
            assert (after["enabled"], ends(caller)) == engine.says("a proxy half replaced")

    def test_nothing_is_made_where_one_lacks_something(self, engine: Engine) -> None:
        answer = engine("POST", "/populate", [{"name": "a", "upstream": NOBODY}, {"name": "b"}])

        assert (answer.status_code, answer.json()["error"]) == (400, "missing required field: upstream at proxy 2")
        assert engine("GET", "/proxies").json() == {}

    def test_it_tells_how_far_it_came(self, engine: Engine) -> None:
        taken = str(engine.made())
        wanted = [("a", "127.0.0.1:0"), ("b", taken), ("c", "127.0.0.1:0")]

        answer = engine("POST", "/populate", [{"name": name, "listen": listen, "upstream": NOBODY} for name, listen in wanted])

        assert answer.status_code == 500
        assert answer.headers["Content-Type"].startswith("application/json")
        assert not answer.text.endswith("\n")
        found = answer.json()
        assert (found["status"], [proxy["name"] for proxy in found["proxies"]]) == (500, ["a"])
        assert found["error"].endswith("address already in use")
        assert set(engine("GET", "/proxies").json()) == {"p", "a"}

    def test_toxics_in_it(self, engine: Engine) -> None:
        short = {"name": "short", "type": "limit_data", "attributes": {"bytes": 3}}
        listen = somewhere()
        with closing(Asked()) as callee:
            wanted = {"name": "p", "listen": listen, "upstream": str(callee.address), "toxics": [short]}

            engine("POST", "/populate", [wanted])

            with connect(address(listen)) as first:
                first.sendall(b"question")
                assert (engine.toxics(), read_all(first, 6)) == engine.says("toxics in populate")


@pytest.mark.parametrize("name", ENGINES)
def test_a_name_with_a_slash(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path) as engine:
        answer = engine("POST", "/proxies", {"name": "a/b", "upstream": NOBODY, "listen": "127.0.0.1:0"})

        assert answer.status_code == engine.says("a name with a slash")
        assert engine("DELETE", "/proxies/a%2Fb").status_code == 404


@pytest.mark.parametrize("name", ENGINES)
def test_the_wildcard_populated_again(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path, *(["--allow-any-address"] if name == "embedded" else [])) as engine:
        port = address(somewhere()).port
        proxy = [{"name": "p", "listen": f"0.0.0.0:{port}", "upstream": NOBODY}]
        engine("POST", "/populate", proxy)
        engine.toxic("noop", more={"name": "slow"})

        engine("POST", "/populate", proxy)

        assert engine.toxics() == engine.says("the wildcard populated again")
