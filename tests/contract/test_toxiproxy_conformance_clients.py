"""The clients that people have drive the embedded engine as they drive Toxiproxy: its command line, and libraries by their habits."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import toxiproxy

from tests.contract.proxies_rig import PATIENCE, connect, refuses
from tests.contract.toxiproxy_conformance import COMMAND_LINE, ENGINES, NOBODY, Engine, address, running, somewhere

needs_command_line = pytest.mark.skipif(
    COMMAND_LINE is None, reason="no command line of Toxiproxy: name its program in TOXIPROXY_CLI or put toxiproxy-cli on PATH"
)


@pytest.fixture(scope="module", params=ENGINES)
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as engine:
        yield engine


@pytest.fixture
def engine(process: Engine) -> Iterator[Engine]:
    yield process
    process.clear()


@needs_command_line
class TestToxiproxysCommandLine:
    @pytest.fixture
    def run(self, engine: Engine) -> Callable[..., subprocess.CompletedProcess[str]]:
        environment = {**os.environ, "TOXIPROXY_URL": f"http://{engine.control}"}

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [str(COMMAND_LINE), *words], capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
            )

        return run

    def test_a_day_with_it(self, engine: Engine, run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        listen = somewhere()
        said = [
            run(*words.split())
            for words in (
                f"create --listen {listen} --upstream {NOBODY} shop",
                "list",
                "toxic add --type latency --toxicName slow --attribute latency=100 --attribute jitter=50 shop",
                "toxic add --type bandwidth --toxicName thin --toxicity 0.5 --upstream --attribute rate=7 shop",
                "toxic update --toxicName slow --toxicity 0.25 --attribute jitter=25 shop",
                "inspect shop",
                "toggle shop",
                "list",
            )
        ]
        assert [done.returncode for done in said] == [0] * len(said), [done.stderr for done in said]
        assert said[0].stdout == "Created new proxy shop\n"
        assert said[1].stdout.split() == ["shop", listen, NOBODY, "enabled", "0"]
        assert "slow\ttype=latency\tstream=downstream\ttoxicity=0.25\tattributes=[\tjitter=25\tlatency=100\t]" in said[5].stdout
        assert said[5].stdout.startswith("thin\ttype=bandwidth\tstream=upstream\ttoxicity=0.50\tattributes=[\trate=7\t]")
        assert said[7].stdout.split() == ["shop", listen, NOBODY, "disabled", "2"]
        assert refuses(address(listen))
        assert engine.toxics("shop") == ["thin", "slow"]

        for words in ("toggle shop", "toxic remove --toxicName slow shop"):
            assert run(*words.split()).returncode == 0
        assert engine.toxics("shop") == ["thin"]
        connect(address(listen)).close()
        assert run("delete", "shop").returncode == 0
        assert engine("GET", "/proxies").json() == {}

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("inspect nobody", "proxy not found"),
            ("toxic add --type nothing --toxicName x shop", "invalid toxic type"),
            ("toxic delete --toxicName x shop", "toxic not found"),
            (f"create --listen 127.0.0.1:0 --upstream {NOBODY} shop", "proxy already exists"),
        ],
    )
    def test_it_tells_what_went_wrong(
        self, engine: Engine, run: Callable[..., subprocess.CompletedProcess[str]], words: str, message: str
    ) -> None:
        engine.made("shop")

        done = run(*words.split())

        assert done.returncode == 1
        assert message in done.stderr


class TestHabits:
    def test_of_go(self, engine: Engine) -> None:
        """A pool of connections, POST for every change, whole objects sent back with keys as the structs have them."""
        with closing(http.client.HTTPConnection(engine.control.host, engine.control.port, timeout=PATIENCE)) as pool:

            def send(method: str, path: str, data: Any = None) -> tuple[int, Any]:
                body = None if data is None else json.dumps(data) + "\n"
                headers = {"User-Agent": "toxiproxy-cli/2.12.0", "Content-Type": "text/plain", "Accept-Encoding": "gzip"}
                pool.request(method, path, body, headers)
                answer = pool.getresponse()
                text = answer.read()
                return answer.status, json.loads(text) if text else None

            status, made = send(
                "POST", "/proxies", {"Name": "p", "Listen": "127.0.0.1:0", "Upstream": NOBODY, "Enabled": True, "Toxics": None}
            )
            sock = pool.sock
            assert (status, made["name"]) == (201, "p")
            toxic = {"Name": "slow", "Type": "latency", "Stream": "downstream", "Toxicity": 1, "Attributes": {"Latency": 5}}
            assert send("POST", "/proxies/p/toxics", toxic)[0] == 200
            assert (
                send("POST", "/proxies/p/toxics/slow", {"Attributes": {"Latency": 6}, "Toxicity": 1})[1]["attributes"][
                    "latency"
                ]
                == 6
            )
            whole = send("GET", "/proxies/p")[1]
            assert send("POST", "/proxies/p", {**whole, "enabled": False})[1] == {**whole, "enabled": False}
            assert send("POST", "/proxies/p", whole) == (200, whole)
            assert send("POST", "/reset") == (204, None)
            assert send("DELETE", "/proxies/p") == (204, None)
            assert send("GET", "/proxies/p")[0] == 404
            assert pool.sock is sock, "all of it went over one connection"

    def test_of_ruby_and_node(self, engine: Engine, tmp_path: Path) -> None:
        """The proxies of a file, populated when the suite begins, and again by whoever comes next."""
        file = tmp_path / "toxiproxy.json"
        names = ("shop_redis", "shop_mysql_master")
        file.write_text(json.dumps([{"name": name, "listen": somewhere(), "upstream": NOBODY} for name in names], indent=2))
        headers = {"Content-Type": "application/json", "User-Agent": "toxiproxy-ruby"}

        first = engine("POST", "/populate", file.read_bytes(), headers=headers)
        engine.toxic("latency", proxy="shop_redis", latency=1)
        second = engine("POST", "/populate", file.read_bytes(), headers=headers)

        assert (first.status_code, second.status_code) == (201, 201)
        assert [proxy["name"] for proxy in first.json()["proxies"]] == list(names)
        assert engine.toxics("shop_redis") == ["latency_downstream"], "who comes second disturbs nobody"
        down = engine("POST", "/proxies/shop_redis", b'{"enabled": false}', headers=headers)
        assert (down.status_code, down.json()["enabled"]) == (200, False)
        chunked = engine("POST", "/proxies/shop_redis", iter([b'{"enabled"', b": true}"]), headers=headers)
        assert (chunked.status_code, chunked.json()["enabled"]) == (200, True)

    def test_of_python(self, engine: Engine) -> None:
        toxiproxy.api.APIConsumer.host, toxiproxy.api.APIConsumer.port = engine.control.host, engine.control.port
        server = toxiproxy.Toxiproxy()

        assert server.running()
        proxy = server.create(name="p", upstream=NOBODY, listen="127.0.0.1:0")
        listen = address(proxy.listen)
        with proxy.down():
            assert refuses(listen)
        connect(listen).close()
        proxy.add_toxic(type="latency", attributes={"latency": 3})
        assert [toxic.attributes for toxic in proxy.toxics().values()] == [{"latency": 3, "jitter": 0}]
        proxy.destroy_toxic("latency_downstream")
        server.populate(
            [
                {"name": "p", "upstream": NOBODY, "listen": str(listen)},
                {"name": "q", "upstream": NOBODY, "listen": "127.0.0.1:0"},
            ]
        )
        assert set(server.proxies()) == {"p", "q"}
        assert server.reset()
        server.destroy_all()
        assert server.proxies() == {}
